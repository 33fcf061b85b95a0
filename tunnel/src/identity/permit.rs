//! Where a leaf certificate carries its [`Permit`]: an extension of ours, not critical, at most one; and another one beside it
//! where services may be called, so that hubs which know nothing of calls read the first as ever.
//!
//! Pure; what it reads may come from anybody. The content is a UTF8String in DER and nothing behind it.

use figspan_proto::permit::{MAX_PERMIT, Permit};
use rcgen::CustomExtension;
use x509_parser::der_parser::Oid;
use x509_parser::prelude::X509Certificate;

use super::IdentityError;

/// Below 2.25, where whoever draws a random number has a name of their own (ITU-T X.667). 62 random bits instead of a UUID's
/// 122: rcgen's numbers have 64.
const OID: [u64; 3] = [2, 25, 3_675_903_683_582_173_980];
/// The same for the services that may be called.
const CALLS_OID: [u64; 3] = [2, 25, 2_908_114_427_019_536_071];
/// Tag of UTF8String.
const UTF8_STRING: u8 = 0x0c;

/// What a certificate carries for a permit.
pub(crate) fn extensions(permit: &Permit) -> Vec<CustomExtension> {
    let calls = permit.calls().map(|text| extension(&CALLS_OID, &text));
    [extension(&OID, &permit.to_string())].into_iter().chain(calls).collect()
}

fn extension(oid: &[u64], text: &str) -> CustomExtension {
    let mut content = vec![UTF8_STRING];
    // DER: the shortest form of the length. A permit has fewer than 65,536 bytes.
    match text.len() {
        length @ 0..=0x7f => content.push(length as u8),
        length @ 0x80..=0xff => content.extend([0x81, length as u8]),
        length => content.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    content.extend_from_slice(text.as_bytes());
    CustomExtension::from_oid_content(oid, content)
}

/// The permit in a certificate; `None` when it has none.
pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<Option<Permit>, IdentityError> {
    let malformed = |error: figspan_proto::permit::PermitError| IdentityError::Permit(error.to_string());
    let (permit, calls) = (content(certificate, &OID)?, content(certificate, &CALLS_OID)?);
    match (permit, calls) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(IdentityError::Permit("it is of services alone".to_owned())),
        (Some(permit), None) => permit.parse().map(Some).map_err(malformed),
        (Some(permit), Some(calls)) => permit.parse().and_then(|permit: Permit| permit.with_calls(calls)).map(Some).map_err(malformed),
    }
}

/// The text of the one extension of that number.
fn content<'c>(certificate: &'c X509Certificate<'_>, oid: &[u64]) -> Result<Option<&'c str>, IdentityError> {
    let wrong = |why: &str| IdentityError::Permit(why.to_owned());
    let ours = Oid::from(oid).map_err(|_| wrong("its number is none"))?;
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid == ours);
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(wrong("there are two")),
        (Some(extension), None) => text(extension.value).map(Some).ok_or_else(|| wrong("its content is no UTF8String")),
    }
}

/// The text of a UTF8String in DER, with nothing behind it.
fn text(der: &[u8]) -> Option<&str> {
    let (length, text) = match der {
        [UTF8_STRING, length @ 0..=0x7f, text @ ..] => (usize::from(*length), text),
        [UTF8_STRING, 0x81, length @ 0x80..=0xff, text @ ..] => (usize::from(*length), text),
        [UTF8_STRING, 0x82, high @ 1..=0xff, low, text @ ..] => (usize::from(*high) << 8 | usize::from(*low), text),
        _ => return None,
    };
    if length != text.len() || length > MAX_PERMIT { None } else { std::str::from_utf8(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(patterns: usize) -> Permit {
        let uplinks = (0..patterns).map(|n| format!("shop-{n}").parse().unwrap()).collect();
        Permit { granted: 1, joined: 2, uplinks, services: vec![] }
    }

    #[test]
    fn texts_of_every_length_read_back() {
        for patterns in [1, 11, 12, 13, 24, 30, 64] {
            let permit = permit(patterns);
            assert_eq!(text(extensions(&permit)[0].content()), Some(permit.to_string().as_str()));
        }
    }

    #[test]
    fn longer_forms_of_a_length_and_bytes_behind_the_text_are_refused() {
        for bad in [
            &b""[..],
            b"\x0c",
            b"\x0c\x01",
            b"\x0c\x01ab",
            b"\x0c\x81\x01a",
            b"\x0c\x82\x00\x01a",
            b"\x0c\x80a\0\0",
            b"\x04\x01a",
            b"\x0c\x01\xff",
        ] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
        let long = [&[UTF8_STRING, 0x82, 0xff, 0xff][..], &[b'a'; 0xffff]].concat();
        assert_eq!(text(&long), None);
    }
}
