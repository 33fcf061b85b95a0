//! A client's end of HTTP/2 (RFC 9113) for one request on a connection of its own, without I/O: bytes go in, bytes and events come out.
//!
//! A hub has one of these for each tunnel, and nearly all of them idle: it keeps no buffer between two frames, where a client for any
//! number of requests keeps 30 KiB. The peer is an agent that has proven who it is; nothing that it sends makes this keep more
//! than a frame, a header block and the bytes that were fed.

mod fields;
mod frame;

use bytes::{Bytes, BytesMut};
use frame::Head;
use http::{HeaderMap, Response, request};

use super::{MAX_HEADERS, WINDOW};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The one stream that a client opens first.
const STREAM: u32 = 1;
/// What each window holds until somebody says otherwise.
const USUAL_WINDOW: u32 = 65_535;
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// Frames that a header block may come in: each may be empty.
const MAX_PIECES: u32 = 32;

/// Settings that are ours (section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

const CANCEL: u32 = 8;

/// Error codes by number (section 7).
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Why a call broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The peer does not speak HTTP/2 as it should.
    #[error("the agent sent {0} (RFC 9113)")]
    Protocol(&'static str),
    /// The peer gave the call up.
    #[error("the agent reset its call: {}", code(*.0))]
    Reset(u32),
    /// The peer has left, and this is what it said.
    #[error("the agent ended its connection: {}", code(*.0))]
    Left(u32),
    /// The stream ended within the call.
    #[error("the stream ended within the call")]
    Ended,
    /// The stream broke.
    #[error("{0}")]
    Stream(String),
    /// What was to be sent could not be made.
    #[error("the request broke off: {0}")]
    Request(String),
}

fn code(code: u32) -> String {
    CODES.get(code as usize).map_or_else(|| format!("code {code}"), |name| (*name).to_owned())
}

/// What the peer said.
#[derive(Debug)]
pub(super) enum Event {
    /// The head of the answer; comes once, and first.
    Head(Response<()>),
    /// A piece of the answer's body.
    Data(Bytes),
    /// What follows the body. Nothing comes behind it but [`Event::End`].
    Trailers(HeaderMap),
    /// The answer has ended.
    End,
}

/// One call.
#[derive(Debug)]
pub(super) struct Client {
    unread: BytesMut,
    unsent: Vec<u8>,
    /// A header block of which frames are still to come.
    block: Option<Block>,
    /// The peer's settings have come, which it must send first.
    settled: bool,
    answered: bool,
    /// The peer has ended the stream.
    ended: bool,
    /// We have.
    finished: bool,
    left: Option<u32>,
    /// What we may still send: on the connection, on the stream; and what a stream begins with.
    may_send: i64,
    stream_may_send: i64,
    initial_window: i64,
    /// What the peer may still send, on both alike, and what we have read of it without having said so.
    may_receive: i64,
    owed: u32,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    ends_stream: bool,
    pieces: u32,
}

impl Client {
    /// Begins with that request; its body follows.
    pub(super) fn new(head: &request::Parts) -> Self {
        let mut unsent = PREFACE.to_vec();
        let mut settings = Vec::new();
        let ours = [(HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW), (MAX_HEADER_LIST_SIZE, MAX_HEADERS)];
        for (setting, value) in ours {
            settings.extend_from_slice(&u16::to_be_bytes(setting));
            settings.extend_from_slice(&u32::to_be_bytes(value));
        }
        frame::put(&mut unsent, frame::SETTINGS, 0, 0, &settings);
        frame::put_number(&mut unsent, frame::WINDOW_UPDATE, 0, WINDOW - USUAL_WINDOW);
        frame::put(&mut unsent, frame::HEADERS, frame::END_HEADERS, STREAM, &fields::request(head));
        Self {
            unread: BytesMut::new(),
            unsent,
            block: None,
            settled: false,
            answered: false,
            ended: false,
            finished: false,
            left: None,
            may_send: USUAL_WINDOW.into(),
            stream_may_send: USUAL_WINDOW.into(),
            initial_window: USUAL_WINDOW.into(),
            may_receive: WINDOW.into(),
            owed: 0,
        }
    }

    /// Takes what has arrived. Before more, all events are to be taken.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next event of what was fed; `None` until more is.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Broken> {
        while !self.ended {
            let Some(head) = Head::of(&self.unread) else { break };
            if head.length > frame::MAX_PAYLOAD {
                return Err(Broken::Protocol("a frame that is too long"));
            }
            if self.unread.len() < frame::HEAD + head.length {
                break;
            }
            let payload = self.unread.split_to(frame::HEAD + head.length).split_off(frame::HEAD);
            if let Some(event) = self.frame(head, payload)? {
                return Ok(Some(event));
            }
        }
        if self.unread.is_empty() {
            // An empty buffer would keep its room.
            self.unread = BytesMut::new();
        }
        Ok(self.ended.then_some(Event::End))
    }

    /// What it means that the stream ends here.
    pub(super) fn cut_off(&self) -> Broken {
        self.left.map_or(Broken::Ended, Broken::Left)
    }

    /// Bytes of the request's body that may be given now.
    pub(super) fn room(&self) -> usize {
        let most = self.may_send.min(self.stream_may_send).min(frame::MAX_PAYLOAD as i64);
        usize::try_from(most).unwrap_or(0)
    }

    /// A piece of the request's body, at most [`Client::room`].
    pub(super) fn body(&mut self, piece: &[u8]) {
        self.may_send -= piece.len() as i64;
        self.stream_may_send -= piece.len() as i64;
        frame::put(&mut self.unsent, frame::DATA, 0, STREAM, piece);
    }

    /// The request's body has ended.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        frame::put(&mut self.unsent, frame::DATA, frame::END_STREAM, STREAM, &[]);
    }

    /// Says good-bye once the answer has ended.
    pub(super) fn leave(&mut self) {
        if !self.finished {
            frame::put_number(&mut self.unsent, frame::RST_STREAM, STREAM, CANCEL);
        }
        frame::put(&mut self.unsent, frame::GOAWAY, 0, 0, &[0; 8]);
    }

    /// Bytes that wait for [`Client::unsent`].
    pub(super) fn waiting(&self) -> usize {
        self.unsent.len()
    }

    /// What is to be sent, in this order.
    pub(super) fn unsent(&mut self) -> Bytes {
        std::mem::take(&mut self.unsent).into()
    }

    fn frame(&mut self, head: Head, payload: BytesMut) -> Result<Option<Event>, Broken> {
        if !self.settled && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(Broken::Protocol("something before its settings"));
        }
        if self.block.is_some() && (head.kind != frame::CONTINUATION || head.stream != STREAM) {
            return Err(Broken::Protocol("a header block with something in between"));
        }
        let of_call = head.stream == STREAM;
        match head.kind {
            frame::DATA if of_call => return self.data(head, payload),
            frame::HEADERS if of_call => {
                let bytes = unpadded(head, payload)?;
                let lead = if head.has(frame::WITH_PRIORITY) { 5 } else { 0 };
                let bytes = bytes.get(lead..).ok_or(Broken::Protocol("a header block without its beginning"))?;
                self.block = Some(Block { bytes: bytes.to_vec(), ends_stream: head.has(frame::END_STREAM), pieces: 1 });
                return self.headers(head);
            }
            frame::CONTINUATION => {
                let block = self.block.as_mut().ok_or(Broken::Protocol("a continuation of nothing"))?;
                block.bytes.extend_from_slice(&payload);
                block.pieces += 1;
                if block.bytes.len() > MAX_HEADERS as usize || block.pieces > MAX_PIECES {
                    return Err(Broken::Protocol("more fields than are read"));
                }
                return self.headers(head);
            }
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => return Err(Broken::Protocol("a frame of a stream that is none")),
            frame::RST_STREAM => {
                let code = number(&payload)?;
                if !of_call {
                    return Err(Broken::Protocol("a reset of a stream that is none"));
                }
                return Err(Broken::Reset(code));
            }
            frame::SETTINGS => self.settings(head, &payload)?,
            frame::PING if head.stream != 0 || payload.len() != 8 => return Err(Broken::Protocol("a ping that is none")),
            frame::PING if !head.has(frame::ACK) => frame::put(&mut self.unsent, frame::PING, frame::ACK, 0, &payload),
            frame::GOAWAY => {
                let (&[a, b, c, d, e, f, g, h], 0) = (payload.first_chunk().ok_or(SHORT)?, head.stream) else { return Err(SHORT) };
                let code = u32::from_be_bytes([e, f, g, h]);
                self.left = Some(code);
                if u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff < STREAM {
                    return Err(Broken::Left(code));
                }
            }
            frame::WINDOW_UPDATE => self.window(head, number(&payload)? & 0x7fff_ffff)?,
            // Priorities mean nothing any more, and what is not known is passed over (sections 5.3.2 and 5.5).
            _ => {}
        }
        Ok(None)
    }

    fn data(&mut self, head: Head, payload: BytesMut) -> Result<Option<Event>, Broken> {
        if !self.answered {
            return Err(Broken::Protocol("a body before its head"));
        }
        self.may_receive -= head.length as i64;
        if self.may_receive < 0 {
            return Err(Broken::Protocol("more than its window allows"));
        }
        // What was read makes room for more; padding counts.
        self.owed += head.length as u32;
        if self.owed >= WINDOW / 2 {
            for stream in [0, STREAM] {
                frame::put_number(&mut self.unsent, frame::WINDOW_UPDATE, stream, self.owed);
            }
            self.may_receive += i64::from(std::mem::take(&mut self.owed));
        }
        self.ended = head.has(frame::END_STREAM);
        let data = unpadded(head, payload)?.freeze();
        Ok((!data.is_empty()).then_some(Event::Data(data)))
    }

    /// The end of a header block, unless more of it follows.
    fn headers(&mut self, head: Head) -> Result<Option<Event>, Broken> {
        if !head.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let Some(block) = self.block.take() else { return Ok(None) };
        self.ended = block.ends_stream;
        if self.answered {
            if !block.ends_stream {
                return Err(Broken::Protocol("fields within a body"));
            }
            return fields::trailers(&block.bytes).map(|trailers| Some(Event::Trailers(trailers)));
        }
        let answer = fields::response(&block.bytes)?;
        if answer.status().is_informational() {
            return if block.ends_stream { Err(Broken::Protocol("an end without an answer")) } else { Ok(None) };
        }
        self.answered = true;
        Ok(Some(Event::Head(answer)))
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let (settings, rest) = payload.as_chunks::<6>();
        if head.stream != 0 || !rest.is_empty() || (head.has(frame::ACK) && !payload.is_empty()) {
            return Err(Broken::Protocol("settings that are none"));
        }
        self.settled = true;
        if head.has(frame::ACK) {
            return Ok(());
        }
        for &[a, b, c, d, e, f] in settings {
            let value = i64::from(u32::from_be_bytes([c, d, e, f]));
            match u16::from_be_bytes([a, b]) {
                INITIAL_WINDOW_SIZE if value > MAX_WINDOW => return Err(Broken::Protocol("a window that is too large")),
                INITIAL_WINDOW_SIZE => {
                    // What is on its way counts against the new size (section 6.9.2).
                    self.stream_may_send += value - self.initial_window;
                    self.initial_window = value;
                    self.check_windows()?;
                }
                MAX_FRAME_SIZE if value < frame::MAX_PAYLOAD as i64 => return Err(Broken::Protocol("a frame size that is too small")),
                ENABLE_PUSH if value > 0 => return Err(Broken::Protocol("a wish that servers may not have")),
                _ => {}
            }
        }
        frame::put(&mut self.unsent, frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    fn window(&mut self, head: Head, more: u32) -> Result<(), Broken> {
        match head.stream {
            _ if more == 0 => return Err(Broken::Protocol("a window that grows by nothing")),
            0 => self.may_send += i64::from(more),
            STREAM => self.stream_may_send += i64::from(more),
            _ => return Err(Broken::Protocol("a window of a stream that is none")),
        }
        self.check_windows()
    }

    fn check_windows(&self) -> Result<(), Broken> {
        let large = self.may_send.max(self.stream_may_send) > MAX_WINDOW;
        if large { Err(Broken::Protocol("a window that is too large")) } else { Ok(()) }
    }
}

const SHORT: Broken = Broken::Protocol("a frame of the wrong length");

fn number(payload: &[u8]) -> Result<u32, Broken> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| SHORT)
}

/// A payload without its padding (section 6.1).
fn unpadded(head: Head, mut payload: BytesMut) -> Result<BytesMut, Broken> {
    if head.has(frame::PADDED) {
        let padding = usize::from(*payload.first().ok_or(SHORT)?);
        let end = payload.len().checked_sub(padding).filter(|end| *end > 0).ok_or(Broken::Protocol("more padding than frame"))?;
        payload.truncate(end);
        let _ = payload.split_to(1);
    }
    Ok(payload)
}

/// What these bytes mean to a call, and what it answers: for tests and the fuzzer.
pub(super) fn told<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (String, Bytes) {
    let mut client = Client::new(&http::Request::new(()).into_parts().0);
    client.unsent();
    let mut told = String::new();
    for piece in pieces {
        client.feed(piece);
        loop {
            match client.next() {
                Ok(None) => break,
                Ok(Some(Event::End)) => return (told + "end", client.unsent()),
                Ok(Some(event)) => told += &format!("{event:?}"),
                Err(broken) => return (told + &broken.to_string(), client.unsent()),
            }
        }
    }
    (told, client.unsent())
}

#[cfg(test)]
mod tests;
