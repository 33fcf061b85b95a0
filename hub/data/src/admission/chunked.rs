//! Hop `admission`: chunked framing, to the letter (RFC 9112, section 7.1).
//!
//! Sizes are hexadecimal digits and nothing else; line ends are CRLF; extensions and the trailer section are bounded, so that
//! a body cannot be mostly framing. [`Chunked::step`] may be given its bytes in any pieces.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::head::HeadLimits;
use super::reject::Reject;
use super::section;
use super::syntax::{check_field_line, is_field_value};

/// Most digits of a chunk's size: 2^60 bytes, far from overflow.
const SIZE_DIGITS: u8 = 15;

/// Most bytes of one chunk's extension. Known uses (signatures of AWS) need about 90.
const EXTENSION: usize = 256;

/// Most bytes of extensions in one body, beyond [`EXTENSION_SHARE`] of its data.
const EXTENSIONS: u64 = 16 * 1024;

/// Extensions may be that many times smaller than the data before they count as an attack (CVE-2023-39326).
const EXTENSION_SHARE: u64 = 16;

/// State of one chunked body.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    limits: HeadLimits,
    extensions: u64,
    data: u64,
    trailers: BytesMut,
    count: usize,
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: usize },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// That many of the bytes behind the consumed ones are data; they must be taken before the next step.
    Data(usize),
    /// The body has ended, with these trailers.
    End(HeaderMap),
}

impl Chunked {
    /// At the first byte of a body whose trailer section is bounded by `limits`.
    pub fn new(limits: HeadLimits) -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, limits, extensions: 0, data: 0, trailers: BytesMut::new(), count: 0, line: 0 }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at `bytes`; returns how many of them were framing, all before what the step names.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Step), Reject> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::Data { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    let left = left - take as u64;
                    self.data += take as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok((at, Step::Data(take)));
                }
                State::Done => return Ok((at, Step::End(HeaderMap::new()))),
                State::Trailers => {
                    let length = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len() - at, |end| end + 1);
                    if self.trailers.len() + length > self.limits.bytes {
                        return Err(Reject::HeadTooLarge);
                    }
                    self.trailers.extend_from_slice(&bytes[at..at + length]);
                    at += length;
                    if let Some(trailers) = self.trailer_line()? {
                        self.state = State::Done;
                        return Ok((at, Step::End(trailers)));
                    }
                    continue;
                }
                State::Size { value, digits } => {
                    self.state = match (byte, (byte as char).to_digit(16)) {
                        (_, Some(digit)) if digits < SIZE_DIGITS => {
                            State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
                        }
                        (b'\r', _) if digits > 0 => State::SizeLf { value },
                        (b';', _) if digits > 0 => State::Extension { value, length: 1 },
                        _ => return Err(Reject::Chunk),
                    };
                }
                State::Extension { value, length } => {
                    self.extensions += 1;
                    if length >= EXTENSION || self.extensions > EXTENSIONS + self.data / EXTENSION_SHARE {
                        return Err(Reject::ChunkExtension);
                    }
                    self.state = match byte {
                        b'\r' => State::SizeLf { value },
                        _ if is_field_value(&[byte]) => State::Extension { value, length: length + 1 },
                        _ => return Err(Reject::Chunk),
                    };
                }
                State::SizeLf { value } => {
                    self.state = match (byte, value) {
                        (b'\n', 0) => State::Trailers,
                        (b'\n', left) => State::Data { left },
                        _ => return Err(Reject::Chunk),
                    };
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => self.state = State::Size { value: 0, digits: 0 },
                State::DataCr | State::DataLf => return Err(Reject::Chunk),
            }
            at += 1;
        }
        Ok((at, Step::More))
    }

    /// Checks the last line of the trailer section if it is whole; `Some` at its end.
    fn trailer_line(&mut self) -> Result<Option<HeaderMap>, Reject> {
        let line = match &self.trailers[self.line..] {
            [line @ .., b'\r', b'\n'] => line,
            [.., b'\n'] => return Err(Reject::LineEnd),
            _ => return Ok(None),
        };
        if line.is_empty() {
            let section: Bytes = std::mem::take(&mut self.trailers).freeze();
            return section::of_trailers(&section).map(Some);
        }
        if line.contains(&b'\r') {
            return Err(Reject::LineEnd);
        }
        self.count += 1;
        if self.count > self.limits.count {
            return Err(Reject::TooManyFields);
        }
        check_field_line(line)?;
        self.line = self.trailers.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
