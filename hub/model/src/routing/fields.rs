//! Names of fields that only the hub may write, whatever they are spelt like. Pure.
//!
//! CGI and its heirs read `X_Forwarded_For` and `X-Forwarded-For` as one variable, so names are compared with every character
//! but letters and digits taken for `-`. Admission takes these fields away from clients; the reader of settings refuses
//! filters that would write them. Both ask here, so that they cannot disagree.

/// The field in which a client asks for a backend, under pins.
pub const PIN: &str = "x-figspan-pin";

/// Fields that say who the client is, or that figspan's parts say to each other.
pub fn is_hubs(name: &[u8]) -> bool {
    starts(name, "x-forwarded") || same(name, "forwarded") || same(name, "x-real-ip") || is_figspans(name)
}

/// Of those, the ones that are figspan's alone: no proxy before the hub has any business with them.
pub fn is_figspans(name: &[u8]) -> bool {
    starts(name, "x-figspan-") || starts(name, "figspan-")
}

/// Whether a name is written with other characters than letters, digits and `-`, so that it may be another one's alias.
pub fn is_alias(name: &[u8]) -> bool {
    name.iter().any(|&byte| !(byte.is_ascii_alphanumeric() || byte == b'-'))
}

/// Whether a name begins like that, under any spelling. `prefix` is in lower case with `-`.
pub fn starts(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && same(&name[..prefix.len()], prefix)
}

/// Whether a name is that field, under any spelling. `field` is in lower case with `-`.
pub fn same(name: &[u8], field: &str) -> bool {
    let folded = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == field.len() && name.iter().zip(field.bytes()).all(|(&byte, expected)| folded(byte) == expected)
}

/// Fields of one hop or of the framing of a message: a filter that wrote them would make another message of it.
pub fn is_of_the_hop(name: &[u8]) -> bool {
    const HOP: [&str; 14] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    HOP.iter().any(|field| same(name, field)) || starts(name, "sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_that_name() {
        for name in ["X-Forwarded-For", "x_forwarded_for", "X.Forwarded-Anything", "FORWARDED", "x_real-ip", "X_Figspan_Pin", "figspan.x"] {
            assert!(is_hubs(name.as_bytes()), "{name}");
        }
        for name in ["x-forward", "forwarded-for", "x-fig", "x-env", "real-ip"] {
            assert!(!is_hubs(name.as_bytes()), "{name}");
        }
        assert!(is_of_the_hop(b"Transfer_Encoding") && is_of_the_hop(b"Sec-WebSocket-Key") && !is_of_the_hop(b"content-type"));
    }
}
