use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 64, count: 2 };

/// Decodes bytes that come in pieces: data, trailers if it ended, and what was left over.
fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Option<HeaderMap>), Reject> {
    let mut chunked = Chunked::new(LIMITS);
    let mut data = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while !piece.is_empty() {
            let (framing, step) = chunked.step(piece)?;
            piece = &piece[framing..];
            match step {
                Step::More => {}
                Step::Data(length) => {
                    data.extend_from_slice(&piece[..length]);
                    piece = &piece[length..];
                }
                Step::End(trailers) => {
                    assert!(chunked.is_done());
                    return Ok((data, Some(trailers)));
                }
            }
        }
    }
    Ok((data, None))
}

#[test]
fn chunks_become_data_and_trailers() {
    let body = b"5\r\nhello\r\n0A;a=\"b\"\r\n, world!!!\r\n000\r\nX-Sum: 7\r\n\r\nNEXT";
    for piece in 1..body.len() {
        let (data, trailers) = decode(body, piece).unwrap();
        assert_eq!(data, b"hello, world!!!");
        assert_eq!(trailers.unwrap()["x-sum"], "7");
    }
    assert_eq!(decode(b"0\r\n\r\n", 99), Ok((vec![], Some(HeaderMap::new()))));
    assert_eq!(decode(b"5\r\nhel", 99), Ok((b"hel".to_vec(), None)));
}

#[test]
fn anything_else_is_refused() {
    let long = format!("5;{}\r\n", "x".repeat(EXTENSION));
    let trailers = format!("0\r\nx: {}\r\n\r\n", "a".repeat(64));
    for (bytes, reject) in [
        ("\r\n", Reject::Chunk),
        (";x\r\n", Reject::Chunk),
        ("g\r\n", Reject::Chunk),
        ("-1\r\n", Reject::Chunk),
        ("0x1\r\n", Reject::Chunk),
        ("1 \r\n", Reject::Chunk),
        ("1\t;x\r\n", Reject::Chunk),
        ("1\n", Reject::Chunk),
        ("1\r\r\n", Reject::Chunk),
        ("1\r\nab", Reject::Chunk),
        ("1\r\na\n", Reject::Chunk),
        ("1\r\na\rx", Reject::Chunk),
        ("1;a\0\r\n", Reject::Chunk),
        ("1;a\rb\r\n", Reject::Chunk),
        ("1234567890123456\r\n", Reject::Chunk),
        (&long, Reject::ChunkExtension),
        ("0\r\n x: 1\r\n\r\n", Reject::Folding),
        ("0\r\nx : 1\r\n\r\n", Reject::FieldName),
        ("0\r\nx: \x01\r\n\r\n", Reject::FieldValue),
        ("0\r\nx: 1\n\r\n", Reject::LineEnd),
        ("0\r\nx: 1\r2\r\n\r\n", Reject::LineEnd),
        ("0\r\na: 1\r\nb: 1\r\nc: 1\r\n\r\n", Reject::TooManyFields),
        (&trailers, Reject::HeadTooLarge),
    ] {
        for piece in 1..=bytes.len() {
            assert_eq!(decode(bytes.as_bytes(), piece), Err(reject), "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn extensions_cannot_outweigh_the_data() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(200));
    assert_eq!(decode(chunk.repeat(200).as_bytes(), 1000), Err(Reject::ChunkExtension));
    let signed = format!("10000;chunk-signature={}\r\n{}\r\n", "a".repeat(64), "x".repeat(0x10000));
    assert!(decode(signed.repeat(100).as_bytes(), 100_000).is_ok());
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_split(text in "([0-3a]{1,2}(;[a-z\t]{0,5})?\r\n[x\r\n]{0,4}(\r\n)?){0,4}(0\r\n([a:] ?[a-z\r]{0,9}\r\n){0,3}\r\n)?", piece in 1usize..20) {
        prop_assert_eq!(decode(text.as_bytes(), piece), decode(text.as_bytes(), text.len()));
    }

    #[test]
    fn what_was_written_is_read(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..10), split in 1usize..60) {
        let mut body = Vec::new();
        for piece in &pieces {
            body.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let (data, end) = decode(&body, split).unwrap();
        prop_assert_eq!(data, pieces.concat());
        prop_assert!(end.is_some());
    }
}
