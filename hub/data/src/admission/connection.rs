//! Hop `admission`: what an HTTP/1 message says about its connection (RFC 9112, section 9).

use http::Version;

use super::marks::Marks;
use super::syntax::trim;

/// What one line of Connection says: its close and keep-alive as marks, and [`Marks::CONNECTION`] where it says anything else or
/// more than one thing, so that it must be read once more.
pub(super) fn said(value: &[u8]) -> Marks {
    match option(value) {
        Marks::NONE => value.split(|&byte| byte == b',').fold(Marks::CONNECTION, |marks, item| marks.and(option(trim(item)))),
        plain => plain,
    }
}

fn option(name: &[u8]) -> Marks {
    match name.len() {
        5 if name.eq_ignore_ascii_case(b"close") => Marks::CLOSE,
        10 if name.eq_ignore_ascii_case(b"keep-alive") => Marks::KEEP_ALIVE,
        _ => Marks::NONE,
    }
}

/// Whether the connection outlives the message.
pub fn stays(version: Version, marks: Marks) -> bool {
    !marks.has(Marks::CLOSE) && (version == Version::HTTP_11 || marks.has(Marks::KEEP_ALIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_alone_is_all_that_most_messages_say() {
        let (close, keep, more) = (Marks::CLOSE, Marks::KEEP_ALIVE, Marks::CONNECTION);
        for (value, marks) in [
            ("close", close),
            ("Keep-Alive", keep),
            ("", more),
            ("closed", more),
            ("upgrade", more),
            ("close,", more.and(close)),
            ("Upgrade , KEEP-ALIVE\t", more.and(keep)),
            ("keep-alive, close", more.and(keep).and(close)),
        ] {
            assert_eq!(said(value.as_bytes()), marks, "{value:?}");
        }
    }

    #[test]
    fn close_wins_and_old_connections_stay_only_when_asked_to() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let both = Marks::CLOSE.and(Marks::KEEP_ALIVE);
        let table = [(Marks::NONE, false, true), (Marks::KEEP_ALIVE, true, true), (Marks::CLOSE, false, false), (both, false, false)];
        for (marks, in_old, in_new) in table {
            assert_eq!((stays(old, marks), stays(new, marks)), (in_old, in_new), "{marks:?}");
        }
    }
}
