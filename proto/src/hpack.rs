//! What HPACK (RFC 7541) is made of, as far as it needs no state: integers, texts and the static table. Pure.

pub mod huffman;

/// The static table: what index 1 and on mean (appendix A).
#[rustfmt::skip]
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""),
    ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Bytes that an integer may have behind its first one; beyond lies nothing that fits a frame.
const MAX_INTEGER: usize = 4;

/// No header block.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header block that is none (RFC 7541)")]
pub struct Malformed;

/// A text as it was sent.
#[derive(Debug)]
pub struct Text<'b> {
    /// Its bytes, in Huffman's code or not.
    pub bytes: &'b [u8],
    huffman: bool,
}

impl Text<'_> {
    /// Tells each byte of what it says.
    pub fn tell(&self, mut tell: impl FnMut(u8)) -> Result<(), Malformed> {
        if self.huffman {
            huffman::decode(self.bytes, tell)
        } else {
            self.bytes.iter().for_each(|byte| tell(*byte));
            Ok(())
        }
    }
}

/// Takes a text (section 5.2) off the front; `None` where it is not all there.
#[inline]
pub fn text<'b>(rest: &mut &'b [u8]) -> Result<Option<Text<'b>>, Malformed> {
    let Some(&first) = rest.first() else { return Ok(None) };
    let Some(length) = integer(rest, 7)? else { return Ok(None) };
    let Some((bytes, behind)) = rest.split_at_checked(length) else {
        *rest = &[];
        return Ok(None);
    };
    *rest = behind;
    Ok(Some(Text { bytes, huffman: first & 0x80 != 0 }))
}

/// Takes an integer whose first byte has `prefix` bits of it (section 5.1) off the front; `None` where it is not all there.
#[inline]
pub fn integer(rest: &mut &[u8], prefix: u32) -> Result<Option<usize>, Malformed> {
    let Some((&first, mut behind)) = rest.split_first() else { return Ok(None) };
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(first) & mask;
    if number == mask {
        for shift in (0..).step_by(7).take(MAX_INTEGER + 1) {
            if shift == 7 * MAX_INTEGER {
                return Err(Malformed);
            }
            let Some((&byte, next)) = behind.split_first() else { return Ok(None) };
            behind = next;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Ok(Some(number))
}

/// Writes an integer behind the bits of `kind`, which leave `prefix` bits of its first byte (section 5.1).
pub fn put_integer(out: &mut Vec<u8>, kind: u8, prefix: u32, number: usize) {
    let mask = (1_usize << prefix) - 1;
    if number < mask {
        out.push(kind | number as u8);
        return;
    }
    out.push(kind | mask as u8);
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes a text as it is, without Huffman's code (section 5.2).
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_and_texts_are_read_as_they_were_written(number in 0_usize..1 << 27, prefix in 1_u32..8, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_integer(&mut out, 0, prefix, number);
            put_text(&mut out, &bytes);
            let coded = huffman::encode(&bytes);
            put_integer(&mut out, 0x80, 7, coded.len());
            out.extend_from_slice(&coded);
            let mut rest = &out[..];
            prop_assert_eq!(integer(&mut rest, prefix), Ok(Some(number)));
            for _ in 0..2 {
                let mut told = Vec::new();
                text(&mut rest).unwrap().unwrap().tell(|byte| told.push(byte)).unwrap();
                prop_assert_eq!(&told, &bytes);
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn what_is_cut_short_is_not_all_there(bytes in proptest::collection::vec(any::<u8>(), 1..300), cut: proptest::sample::Index) {
            let mut out = Vec::new();
            put_text(&mut out, &bytes);
            let cut = cut.index(out.len());
            prop_assert!(text(&mut &out[..cut]).unwrap().is_none());
        }
    }

    #[test]
    fn an_integer_without_end_is_malformed() {
        assert_eq!(integer(&mut &[0xff; 9][..], 7), Err(Malformed));
    }
}
