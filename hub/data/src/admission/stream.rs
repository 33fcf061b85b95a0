//! Hop `admission`: the bytes of a whole connection, message after message, without the connection: all rules at once, for
//! fuzzing and for whoever must judge bytes that another parser will read.
//!
//! [`Requests`] and [`Responses`] are fed bytes in any pieces and say whether they may be passed on. After an error nothing more
//! may pass.

use std::collections::VecDeque;

use bytes::BytesMut;
use http::{Method, StatusCode, Version};

use super::chunked::{Chunked, Step};
use super::framing::{self, Framing};
use super::head::{self, HeadLimits, HeadScan, Side};
use super::host::LastAsked;
use super::reject::Reject;

/// Most requests that may wait for their responses on one connection: pipelines of our own are one deep.
const PIPELINE: usize = 64;

/// Takes a head from the front of what is held.
type Take<H> = fn(&mut BytesMut, &mut HeadScan, HeadLimits) -> Result<Option<H>, Reject>;

#[derive(Debug)]
enum Part {
    Head {
        held: BytesMut,
        scan: HeadScan,
    },
    Length(u64),
    Chunked(Box<Chunked>),
    /// Whatever follows: until close, or another protocol.
    Open,
}

impl Part {
    fn head(side: Side) -> Self {
        Self::Head { held: BytesMut::new(), scan: HeadScan::new(side) }
    }

    fn body(framing: Framing, side: Side, limits: HeadLimits) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::head(side),
            Framing::Length(left) => Self::Length(left),
            Framing::Chunked => Self::Chunked(Box::new(Chunked::new(limits))),
            Framing::UntilClose | Framing::Upgrade => Self::Open,
        }
    }

    /// Takes bytes of the message at hand; `Some` with the head, read by `take`, once it is whole. Returns how many were taken.
    fn feed<H>(&mut self, bytes: &[u8], side: Side, limits: HeadLimits, take: Take<H>) -> Result<(usize, Option<H>), Reject> {
        match self {
            Self::Head { held, scan } => {
                let more = bytes.len().min(limits.bytes - held.len().min(limits.bytes));
                held.extend_from_slice(&bytes[..more]);
                let head = take(held, scan, limits)?;
                let left = if head.is_some() { held.len() } else { 0 };
                Ok((more - left, head))
            }
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= take as u64;
                if *left == 0 {
                    *self = Self::head(side);
                }
                Ok((take, None))
            }
            Self::Chunked(chunked) => {
                let (framing, step) = chunked.step(bytes)?;
                match step {
                    Step::More => Ok((framing, None)),
                    Step::Data(data) => Ok((framing + data, None)),
                    Step::End(_) => {
                        *self = Self::head(side);
                        Ok((framing, None))
                    }
                }
            }
            Self::Open => Ok((bytes.len(), None)),
        }
    }

    fn is_fresh(&self) -> bool {
        matches!(self, Self::Head { held, .. } if held.is_empty())
    }
}

/// The bytes that a client sends on one HTTP/1 connection.
#[derive(Debug)]
pub struct Requests {
    limits: HeadLimits,
    part: Part,
    heads: u64,
}

impl Requests {
    /// At the first byte of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, part: Part::head(Side::Request), heads: 0 }
    }

    /// Whether these bytes may pass.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Reject> {
        while !bytes.is_empty() {
            let (taken, head) = self.part.feed(bytes, Side::Request, self.limits, head::take_request)?;
            bytes = &bytes[taken..];
            if let Some(head) = head {
                let marks = head.marks;
                let framing = framing::of_request(head.version, &head.headers, marks)?;
                super::target::host(&head.headers, &LastAsked::default())?.ok_or(Reject::Host)?;
                super::target::parse(&head.method, &head.target)?;
                super::request::asks_for_websocket(&head.method, head.version, &head.headers, marks, framing)?;
                super::request::expects_continue(&head.headers, marks)?;
                self.heads += 1;
                self.part = Part::body(framing, Side::Request, self.limits);
            }
        }
        Ok(())
    }

    /// Heads admitted so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the bytes so far are whole messages.
    pub fn is_between(&self) -> bool {
        self.part.is_fresh()
    }
}

/// The bytes that a workload sends on one HTTP/1 connection. Each request must be announced before its answer's first byte.
#[derive(Debug)]
pub struct Responses {
    limits: HeadLimits,
    part: Part,
    asked: VecDeque<(Method, bool)>,
    /// Whether the connection may carry another exchange, as the last response said.
    reusable: bool,
}

impl Responses {
    /// At the first byte of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, part: Part::head(Side::Response), asked: VecDeque::new(), reusable: true }
    }

    /// Announces a request; `upgrade` says whether 101 is a possible answer.
    pub fn asked(&mut self, method: Method, upgrade: bool) {
        if self.asked.len() < PIPELINE {
            self.asked.push_back((method, upgrade));
        }
    }

    /// Whether these bytes may pass. Bytes that answer no request may not.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Reject> {
        while !bytes.is_empty() {
            if self.asked.is_empty() && self.part.is_fresh() {
                return Err(Reject::StartLine);
            }
            let (taken, head) = self.part.feed(bytes, Side::Response, self.limits, head::take_response)?;
            bytes = &bytes[taken..];
            if let Some(head) = head {
                let (method, upgrade) = self.asked.front().ok_or(Reject::StartLine)?;
                let marks = head.marks;
                let framing = framing::of_response(method, head.status, head.version, &head.headers, marks, *upgrade)?;
                let interim = head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
                if interim && head.version != Version::HTTP_11 {
                    return Err(Reject::StartLine);
                }
                if !interim {
                    self.asked.pop_front();
                    self.reusable &= head.version == Version::HTTP_11 && !matches!(framing, Framing::UntilClose | Framing::Upgrade);
                }
                self.part = Part::body(framing, Side::Response, self.limits);
            }
        }
        Ok(())
    }

    /// Whether the connection stands between exchanges and may carry another one, as far as framing tells.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.part.is_fresh() && self.reusable
    }

    /// Whether the workload's end of file is a proper end here: nothing asked, or a body until close.
    pub fn may_end(&self) -> bool {
        self.asked.is_empty() && (self.part.is_fresh() || matches!(self.part, Part::Open))
    }
}

const FUZZ_LIMITS: HeadLimits = HeadLimits { bytes: 512, count: 8 };

/// For fuzzing: feeds requests whole, byte by byte and in pieces chosen by the input.
///
/// # Panics
/// Where the verdict depends on the split.
pub fn fuzz_request(data: &[u8]) {
    let verdict = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut stream = Requests::new(FUZZ_LIMITS);
        let result = all(pieces, |piece| stream.feed(piece));
        (result, stream.heads(), result.is_ok() && stream.is_between())
    };
    agree(data, verdict);
}

/// For fuzzing: the same for responses to a GET, a HEAD and a WebSocket handshake.
///
/// # Panics
/// Where the verdict depends on the split.
pub fn fuzz_response(data: &[u8]) {
    let verdict = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut stream = Responses::new(FUZZ_LIMITS);
        stream.asked(Method::GET, false);
        stream.asked(Method::HEAD, false);
        stream.asked(Method::GET, true);
        let result = all(pieces, |piece| stream.feed(piece));
        (result, stream.asked.len(), result.is_ok() && stream.is_idle())
    };
    agree(data, verdict);
}

fn all<'p>(pieces: &mut dyn Iterator<Item = &'p [u8]>, mut feed: impl FnMut(&'p [u8]) -> Result<(), Reject>) -> Result<(), Reject> {
    for piece in pieces {
        feed(piece)?;
    }
    Ok(())
}

fn agree<V: PartialEq + std::fmt::Debug>(data: &[u8], verdict: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> V) {
    let whole = verdict(&mut std::iter::once(data));
    let bytes = verdict(&mut data.chunks(1));
    let piece = 1 + usize::from(data.last().copied().unwrap_or(0)) % 61;
    let pieces = verdict(&mut data.chunks(piece));
    assert_eq!(whole, bytes, "the verdict depends on the split");
    assert_eq!(whole, pieces, "the verdict depends on the split");
}

#[cfg(test)]
mod tests;
