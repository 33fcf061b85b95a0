//! Header blocks (RFC 7541) between ends that keep no table of fields: we refuse the peer one, and use none ourselves. Pure.

use figspan_proto::hpack::{self, Malformed, STATIC, Text};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version, request};

use super::Broken;
use crate::grpc::MAX_HEADERS;

/// What a field counts beside its texts (RFC 9113, section 6.5.2).
const OVERHEAD: usize = 32;

const NO_BLOCK: Broken = Broken::Protocol("a header block that cannot be read");

/// Fields of a connection, which HTTP/2 has not (RFC 9113, section 8.2.2).
const FORBIDDEN: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// The header block of a request.
pub(super) fn request(head: &request::Parts) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let pseudo = [
        (2, head.method.as_str()),
        (6, head.uri.scheme_str().unwrap_or("http")),
        (4, path),
        (1, head.uri.authority().map_or("", |authority| authority.as_str())),
    ];
    for (name, value) in pseudo {
        hpack::put_integer(&mut out, 0, 4, name);
        hpack::put_text(&mut out, value.as_bytes());
    }
    for (name, value) in &head.headers {
        hpack::put_integer(&mut out, 0, 4, 0);
        hpack::put_text(&mut out, name.as_str().as_bytes());
        hpack::put_text(&mut out, value.as_bytes());
    }
    out
}

/// The head of an answer.
pub(super) fn response(block: &[u8]) -> Result<Response<()>, Broken> {
    let (mut status, mut headers) = (None, HeaderMap::new());
    read(block, |name, value| {
        if name != b":status" {
            return insert(&mut headers, name, value);
        }
        let code = StatusCode::from_bytes(value).map_err(|_| Broken::Protocol("a status that is none"))?;
        if status.replace(code).is_some() || !headers.is_empty() {
            return Err(Broken::Protocol("a status twice, or behind other fields"));
        }
        Ok(())
    })?;
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or(Broken::Protocol("an answer without a status"))?;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The fields behind an answer's body.
pub(super) fn trailers(block: &[u8]) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::new();
    read(block, |name, value| insert(&mut headers, name, value))?;
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Broken> {
    let name = HeaderName::from_lowercase(name).map_err(|_| Broken::Protocol("a field name that is none"))?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Broken::Protocol("a field value that is none"))?;
    if FORBIDDEN.contains(&name) {
        return Err(Broken::Protocol("a field of a connection"));
    }
    // The map has room for more than the bytes allow.
    headers.try_append(name, value).map(drop).map_err(|_| Broken::Protocol("too many fields"))
}

/// Tells each field of a block.
fn read(block: &[u8], mut tell: impl FnMut(&[u8], &[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
    let (mut rest, mut left) = (block, MAX_HEADERS as usize);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(&first) = rest.first() {
        let prefix = match first {
            0x80.. => 7,
            0x40..0x80 => 6,
            0x20..0x40 => 5,
            0x00..0x20 => 4,
        };
        let number = whole(hpack::integer(&mut rest, prefix))?;
        if prefix == 5 {
            // The peer says that it has heard us: no table.
            if number > 0 {
                return Err(NO_BLOCK);
            }
            continue;
        }
        let fixed = match number.checked_sub(1) {
            None if prefix == 7 => return Err(NO_BLOCK),
            None => None,
            Some(at) => Some(STATIC.get(at).ok_or(NO_BLOCK)?),
        };
        name.clear();
        value.clear();
        match fixed {
            Some((fixed, _)) => name.extend_from_slice(fixed.as_bytes()),
            None => say(whole(hpack::text(&mut rest))?, &mut name)?,
        }
        match fixed {
            Some((_, fixed)) if prefix == 7 => value.extend_from_slice(fixed.as_bytes()),
            _ => say(whole(hpack::text(&mut rest))?, &mut value)?,
        }
        left = left.checked_sub(name.len() + value.len() + OVERHEAD).ok_or(Broken::Protocol("more fields than are read"))?;
        tell(&name, &value)?;
    }
    Ok(())
}

fn say(text: Text<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
    text.tell(|byte| out.push(byte)).map_err(|_| NO_BLOCK)
}

fn whole<T>(read: Result<Option<T>, Malformed>) -> Result<T, Broken> {
    read.ok().flatten().ok_or(NO_BLOCK)
}
