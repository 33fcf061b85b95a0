//! The Huffman code of HPACK (RFC 7541, appendix B). Pure.
//!
//! The code is canonical: it follows from the length of each symbol's code alone. Most symbols of a path or a field are
//! found with one look at a table of eight bits.

use super::Malformed;

/// Length of each symbol's code in bits; the last one is EOS, which no text may hold.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const EOS: u16 = 256;
const LONGEST: usize = 30;
/// Bits that are looked up at once.
const QUICK: usize = 8;

static CODE: Code = Code::new();

struct Code {
    /// Symbols by length and then by number, as their codes are given out.
    symbols: [u16; 257],
    /// First code of each length, and the place of its symbol.
    first: [u32; LONGEST + 1],
    place: [u16; LONGEST + 1],
    count: [u16; LONGEST + 1],
    /// Symbol and length for what begins with these bits; length 0 where the code is longer.
    quick: [(u16, u8); 1 << QUICK],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            symbols: [0; 257],
            first: [0; LONGEST + 1],
            place: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            quick: [(0, 0); 1 << QUICK],
        };
        let (mut length, mut next, mut placed) = (1, 0_u32, 0_u16);
        while length <= LONGEST {
            next <<= 1;
            code.first[length] = next;
            code.place[length] = placed;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[placed as usize] = symbol as u16;
                    if length <= QUICK {
                        let (from, to) = ((next as usize) << (QUICK - length), (next as usize + 1) << (QUICK - length));
                        let mut at = from;
                        while at < to {
                            code.quick[at] = (symbol as u16, length as u8);
                            at += 1;
                        }
                    }
                    code.count[length] += 1;
                    placed += 1;
                    next += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        code
    }
}

/// Tells each byte of a text. [`Malformed`] where it holds EOS, a code cut short, or padding that is none.
pub fn decode(text: &[u8], mut tell: impl FnMut(u8)) -> Result<(), Malformed> {
    let mut input = text.iter();
    // The next bits, from the highest one on.
    let (mut bits, mut held) = (0_u64, 0_usize);
    loop {
        while held <= 56
            && let Some(&byte) = input.next()
        {
            bits |= u64::from(byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        let (symbol, length) = match CODE.quick[(bits >> (64 - QUICK)) as usize] {
            (_, 0) => long(bits)?,
            (symbol, length) => (symbol, usize::from(length)),
        };
        if length > held {
            // What is left is padding: less than a byte of ones.
            let ones = bits >> (64 - held) == (1 << held) - 1;
            return if held < 8 && ones { Ok(()) } else { Err(Malformed) };
        }
        if symbol == EOS {
            return Err(Malformed);
        }
        tell(symbol as u8);
        bits <<= length;
        held -= length;
    }
}

fn long(bits: u64) -> Result<(u16, usize), Malformed> {
    for length in QUICK + 1..=LONGEST {
        let code = (bits >> (64 - length)) as u32;
        let rank = code.wrapping_sub(CODE.first[length]);
        if rank < u32::from(CODE.count[length]) {
            return Ok((CODE.symbols[usize::from(CODE.place[length]) + rank as usize], length));
        }
    }
    Err(Malformed)
}

/// A text in this code. Slow: for tests of those who read it.
pub fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let length = usize::from(LENGTHS[usize::from(*byte)]);
        let range = usize::from(CODE.place[length])..usize::from(CODE.place[length] + CODE.count[length]);
        let rank = CODE.symbols[range].iter().position(|symbol| *symbol == u16::from(*byte)).unwrap_or_default();
        bits = bits << length | u64::from(CODE.first[length] + rank as u32);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        out.push((bits << (8 - held)) as u8 | (0xff >> held));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(text, |byte| out.push(byte)).map(|()| out)
    }

    #[test]
    fn texts_of_the_rfc_are_read() {
        let huffman = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&huffman).unwrap(), b"www.example.com");
        let huffman = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b,
            0xff,
        ];
        assert_eq!(decoded(&huffman).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
    }

    #[test]
    fn every_byte_has_a_code_and_the_codes_leave_no_gap() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encode(&all)).unwrap(), all);
        assert_eq!(LENGTHS.iter().map(|length| 1_u64 << (LONGEST - usize::from(*length))).sum::<u64>(), 1 << LONGEST);
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones_and_nothing_else() {
        assert_eq!(decoded(&[]), Ok(vec![]));
        // `0` is five zero bits.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(Malformed));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Malformed));
        assert_eq!(decoded(&[0xff]), Err(Malformed));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
        // EOS itself.
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(Malformed));
    }
}
