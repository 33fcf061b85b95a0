//! How gRPC messages are coded: as tonic codes protobuf, with buffers that fit what agents and hubs say.
//!
//! A watch lives as long as its tunnel and mostly says nothing. tonic gives each direction 8 KiB from the start, on both ends;
//! on a hub with a thousand tunnels that is 16 MiB for messages of some hundred bytes. Buffers grow with what comes.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Room at the start: a list of a few uplinks.
const START: usize = 512;

/// Bytes that wait before they are handed on: as in tonic.
const YIELD: usize = 32 * 1024;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(START, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(START, YIELD))
    }
}
