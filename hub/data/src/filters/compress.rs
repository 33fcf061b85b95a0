//! Compression of bodies on their way to a client, as a stream (codecs: those of `async-compression`, without its adapters).
//!
//! Promises that what a workload has sent is never held back: when nothing more is there, the encoder is flushed. That a body
//! which broke off never ends cleanly. That memory is bounded: [`Coded`] holds one piece of input that has arrived, one of
//! output, and the encoder with a window of [`WINDOW`]; a shard has at most [`MAX_UNDER_WAY`] of them, and answers beyond that go
//! out as they are. That one body does not keep the shard's thread for long: after [`TURN`] of input others get a turn.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{EncodeV2, brotli, flate, zstd};
use figspan_model::routing::Coding;
use http_body::Frame;

use crate::metrics::Metrics;
use crate::reply::Failure;

/// Power of two of the bytes that an encoder looks back. 128 KiB costs little ratio on pages and API answers, and a thousand
/// answers at once must fit a small pod. gzip has 32 KiB by its format.
const WINDOW: u8 = 17;

/// Compressed answers under way at once on one shard: with brotli, the dearest, they hold 85 MiB (`examples/compressing.rs` measures an
/// encoder: zstd and gzip a third of a MiB, brotli two thirds). Measure again before raising it.
pub(super) const MAX_UNDER_WAY: u64 = 128;

/// Output per frame.
const PIECE: usize = 16 * 1024;

/// Input that is encoded before others get a turn: encoding is the only long piece of work on a shard's thread. Measure the latency of
/// other requests beside a large compressed answer before raising it.
const TURN: usize = 64 * 1024;

/// Levels from the fast end of each coding, since answers are compressed as they pass. Brotli's 4 makes API answers 7 % smaller than
/// 3 and holds 1.5 MiB for each. Measure with `examples/compressing.rs`, and on real pages, before changing them.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: i32 = 3;
const GZIP_LEVEL: i32 = 4;

/// What is to be coded: frames until `None`.
pub trait Frames {
    /// The next frame.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>>;
}

/// An encoder, counted while it lives.
pub struct Encoder {
    codec: Box<dyn EncodeV2>,
    scratch: Box<[u8]>,
    coding: Coding,
    metrics: Arc<Metrics>,
}

impl Encoder {
    /// An encoder; `None` where the shard has as many as it allows itself.
    pub(super) fn new(coding: Coding, metrics: &Arc<Metrics>) -> Option<Self> {
        if metrics.coders.value() >= MAX_UNDER_WAY {
            return None;
        }
        metrics.coders.add(1);
        let codec: Box<dyn EncodeV2> = match coding {
            Coding::Zstd => {
                use zstd::params::CParameter;
                // Tables no larger than the window needs.
                let bounds = [CParameter::window_log(WINDOW.into()), CParameter::hash_log(15), CParameter::chain_log(15)];
                Box::new(compression_codecs::ZstdEncoder::new_with_params(ZSTD_LEVEL, &bounds))
            }
            Coding::Brotli => {
                let bounds = brotli::params::EncoderParams::default().quality(Level::Precise(BROTLI_LEVEL));
                Box::new(compression_codecs::BrotliEncoder::new(bounds.window_size(WINDOW.into()).block_size(16)))
            }
            Coding::Gzip => {
                Box::new(compression_codecs::GzipEncoder::new(flate::params::FlateEncoderParams::from(Level::Precise(GZIP_LEVEL))))
            }
        };
        Some(Self { codec, scratch: vec![0; PIECE].into(), coding, metrics: Arc::clone(metrics) })
    }

    /// What it makes.
    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    fn encode(&mut self, input: &[u8], out: &mut BytesMut) -> io::Result<()> {
        self.metrics.coded(self.coding).0.add(input.len() as u64);
        let mut input = PartialBuffer::new(input);
        while !input.unwritten().is_empty() {
            self.step(out, |codec, room| codec.encode(&mut input, room))?;
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut BytesMut) -> io::Result<()> {
        while !self.step(out, |codec, room| codec.flush(room))? {}
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) -> io::Result<()> {
        while !self.step(out, |codec, room| codec.finish(room))? {}
        Ok(())
    }

    fn step<T>(
        &mut self,
        out: &mut BytesMut,
        step: impl FnOnce(&mut dyn EncodeV2, &mut WriteBuffer<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut room = WriteBuffer::new_initialized(&mut self.scratch);
        let done = step(&mut *self.codec, &mut room)?;
        out.extend_from_slice(room.written());
        self.metrics.coded(self.coding).1.add(room.written_len() as u64);
        Ok(done)
    }

    /// A body that has arrived whole; `None` where coding it gains nothing.
    pub(super) fn whole(mut self, body: &Bytes) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.encode(body, &mut out).and_then(|()| self.finish(&mut out)).ok()?;
        (out.len() < body.len()).then(|| out.freeze())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.metrics.coders.sub(1);
    }
}

enum Stage {
    /// More may come.
    Reading,
    /// All is encoded; trailers may be left.
    Ended(Option<Frame<Bytes>>),
}

/// A body that is coded while it streams.
pub struct Coded<S> {
    source: S,
    /// Gone with the end, so that its memory is.
    encoder: Option<Encoder>,
    input: Bytes,
    /// Whether the encoder holds something back.
    held: bool,
    turn: usize,
    stage: Stage,
}

impl<S> Coded<S> {
    /// What is coded.
    pub fn get(&self) -> &S {
        &self.source
    }

    /// What is coded, to cancel it.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }
}

impl<S: Frames> Coded<S> {
    /// Codes what the source gives.
    pub fn new(source: S, encoder: Encoder) -> Self {
        Self { source, encoder: Some(encoder), input: Bytes::new(), held: false, turn: 0, stage: Stage::Reading }
    }

    /// The next frame, as of a response body.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut out = BytesMut::new();
        loop {
            let Some(encoder) = self.encoder.as_mut() else {
                let Stage::Ended(trailers) = &mut self.stage else { return Poll::Ready(None) };
                return Poll::Ready(trailers.take().map(Ok));
            };
            if !self.input.is_empty() {
                let piece = self.input.split_to(self.input.len().min(PIECE));
                if let Err(error) = encoder.encode(&piece, &mut out) {
                    return Poll::Ready(Some(Err(broken(&error))));
                }
                (self.held, self.turn) = (true, self.turn + piece.len());
                if out.len() >= PIECE {
                    return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
                }
                if self.turn >= TURN {
                    self.turn = 0;
                    if out.is_empty() {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
                }
                continue;
            }
            let trailers = match self.source.poll_next(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.input = data;
                        continue;
                    }
                    Err(trailers) => Some(trailers),
                },
                Poll::Ready(None) => None,
                // What was encoded so far would only make a broken body look longer.
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Some(Err(failure))),
                Poll::Pending => {
                    self.turn = 0;
                    if std::mem::take(&mut self.held)
                        && let Err(error) = encoder.flush(&mut out)
                    {
                        return Poll::Ready(Some(Err(broken(&error))));
                    }
                    return if out.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(Frame::data(out.freeze())))) };
                }
            };
            if let Err(error) = encoder.finish(&mut out) {
                return Poll::Ready(Some(Err(broken(&error))));
            }
            self.encoder = None;
            self.stage = Stage::Ended(trailers);
            return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
        }
    }

    /// Whether the end was reached.
    pub fn is_end(&self) -> bool {
        matches!(self.stage, Stage::Ended(None))
    }
}

fn broken(error: &io::Error) -> Failure {
    tracing::error!(%error, "an answer could not be compressed");
    Failure::Compression
}

#[cfg(test)]
mod tests;
