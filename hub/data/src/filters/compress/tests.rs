use std::collections::VecDeque;
use std::io::Read as _;
use std::task::Waker;

use super::*;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

/// A body as a test writes it: `None` is a moment at which nothing more is there.
struct Script(VecDeque<Option<Result<Frame<Bytes>, Failure>>>);

impl Frames for Script {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(None) => Poll::Pending,
            Some(Some(frame)) => Poll::Ready(Some(frame)),
        }
    }
}

fn data(bytes: &[u8]) -> Option<Result<Frame<Bytes>, Failure>> {
    Some(Ok(Frame::data(Bytes::copy_from_slice(bytes))))
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    use compression_codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
    let mut decoder: Box<dyn DecodeV2> = match coding {
        Coding::Zstd => Box::new(ZstdDecoder::new()),
        Coding::Brotli => Box::new(BrotliDecoder::new()),
        Coding::Gzip => Box::new(GzipDecoder::new()),
    };
    let (mut out, mut input) = (Vec::new(), PartialBuffer::new(bytes));
    loop {
        let mut room = vec![0; 4096];
        let mut room = WriteBuffer::new_initialized(&mut room);
        let ended = decoder.decode(&mut input, &mut room).expect("what was coded");
        out.extend_from_slice(room.written());
        if ended || (input.unwritten().is_empty() && !room.has_no_spare_space()) {
            return out;
        }
    }
}

fn coded(coding: Coding, script: Vec<Option<Result<Frame<Bytes>, Failure>>>) -> Coded<Script> {
    Coded::new(Script(script.into()), Encoder::new(coding, &Metrics::new()).expect("the first"))
}

/// All frames of a body; where it waits, it is asked again.
fn collect(mut body: Coded<Script>) -> (Vec<u8>, Option<HeaderMap>, Option<Failure>) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    loop {
        match body.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(None) => return (bytes, trailers, None),
            Poll::Ready(Some(Err(failure))) => return (bytes, trailers, Some(failure)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

#[test]
fn what_was_sent_is_readable_before_more_comes() {
    for coding in Coding::ALL {
        let mut body = coded(coding, vec![data(b"first piece"), None, None, data(b"second"), None]);
        let mut sent = Vec::new();
        let mut next = || match body.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => {
                sent.extend_from_slice(frame.data_ref().expect("data"));
                Some(decoded(coding, &sent))
            }
            Poll::Pending => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(next().as_deref(), Some(&b"first piece"[..]), "{coding:?}");
        assert_eq!(next(), None, "{coding:?}: nothing new, so nothing is said");
        assert_eq!(next().as_deref(), Some(&b"first piecesecond"[..]), "{coding:?}");
    }
}

#[test]
fn a_body_that_broke_off_never_ends() {
    for coding in Coding::ALL {
        let (bytes, _, failure) = collect(coded(coding, vec![data(&[b'x'; 5000]), None, Some(Err(Failure::Incomplete))]));
        assert_eq!(failure, Some(Failure::Incomplete), "{coding:?}");
        assert!(!bytes.is_empty());
    }
    // The last bytes of gzip are its checksum: without them a client notices, too.
    let (bytes, _, _) = collect(coded(Coding::Gzip, vec![data(b"x"), None, Some(Err(Failure::Incomplete))]));
    assert!(flate_reader(&bytes).is_err());
}

fn flate_reader(bytes: &[u8]) -> Result<Vec<u8>, ()> {
    use compression_codecs::{DecodeV2, GzipDecoder};
    let mut decoder = GzipDecoder::new();
    let (mut input, mut room) = (PartialBuffer::new(bytes), vec![0; 65536]);
    let mut room = WriteBuffer::new_initialized(&mut room);
    let ended = decoder.decode(&mut input, &mut room).map_err(drop)? || decoder.finish(&mut room).map_err(drop)?;
    let mut out = Vec::new();
    room.written().read_to_end(&mut out).map_err(drop)?;
    if ended { Ok(out) } else { Err(()) }
}

#[test]
fn trailers_follow_the_last_byte() {
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
    let frame = Some(Ok(Frame::trailers(trailers.clone())));
    let (bytes, found, failure) = collect(coded(Coding::Zstd, vec![data(b"abc"), frame]));
    assert_eq!((decoded(Coding::Zstd, &bytes), found, failure), (b"abc".to_vec(), Some(trailers), None));
}

#[test]
fn a_large_piece_gives_others_a_turn_and_little_is_held() {
    for coding in Coding::ALL {
        let mut body = coded(coding, vec![data(&vec![b'a'; 4 * 1024 * 1024])]);
        let (mut polls, mut bytes) = (0, Vec::new());
        loop {
            polls += 1;
            match body.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(Some(frame)) => {
                    let data = frame.expect("no failure").into_data().expect("data");
                    assert!(data.len() <= 4 * PIECE, "{coding:?} made a frame of {}", data.len());
                    bytes.extend_from_slice(&data);
                }
                Poll::Ready(None) => break,
            }
        }
        assert!(polls > 60, "{coding:?} took {polls} turns");
        assert_eq!(decoded(coding, &bytes).len(), 4 * 1024 * 1024);
    }
}

#[test]
fn a_shard_codes_a_bounded_number_of_answers_at_once() {
    let metrics = Metrics::new();
    metrics.coders.set(MAX_UNDER_WAY - 1);
    let last = Encoder::new(Coding::Gzip, &metrics);
    assert!(last.is_some() && Encoder::new(Coding::Gzip, &metrics).is_none());
    drop(last);
    assert!(Encoder::new(Coding::Gzip, &metrics).is_some());
    assert_eq!(metrics.coders.value(), MAX_UNDER_WAY - 1, "what ends makes room");
}

#[test]
fn a_whole_body_is_coded_only_where_that_gains() {
    for coding in Coding::ALL {
        let metrics = Metrics::new();
        let whole = |bytes: &[u8]| Encoder::new(coding, &metrics).expect("room").whole(&Bytes::copy_from_slice(bytes));
        let text = b"what is said twice is said twice ".repeat(20);
        assert_eq!(decoded(coding, &whole(&text).expect("smaller")), text);
        assert_eq!(whole(b"x"), None, "{coding:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_body_comes_out_as_it_went_in(pieces in proptest::collection::vec(proptest::option::of(proptest::collection::vec(0u8..4, 0..40_000)), 0..6)) {
        let all: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
        for coding in Coding::ALL {
            let script = pieces.iter().map(|piece| piece.as_ref().and_then(|piece| data(piece))).collect();
            let (bytes, _, failure) = collect(coded(coding, script));
            prop_assert_eq!(failure, None);
            prop_assert_eq!(decoded(coding, &bytes), all.clone());
        }
    }
}
