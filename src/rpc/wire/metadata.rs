//! Metadata: binary values, and which header names belong to the protocols rather than to the caller.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Standard alphabet: written without padding, read with or without.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
/// URL-safe alphabet: written without padding, read with or without.
pub(super) const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// True if values of `name` are base64 of bytes.
pub fn is_binary(name: &HeaderName) -> bool {
    name.as_str().ends_with("-bin")
}

/// Decodes one binary value, padded or not. `None` if it is not base64.
pub fn decode_binary(value: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(value.trim_ascii()).ok()
}

/// Encodes a binary value, without padding as gRPC prefers.
pub fn encode_binary(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(BASE64.encode(bytes)).expect("base64 is visible ASCII")
}

/// True if a header belongs to HTTP or to a protocol, so that a call's metadata leaves it out and
/// metadata must not set it.
///
/// `user-agent`, `authorization`, `cookie` and the like are the caller's own and stay.
pub fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'a') => matches!(name, "accept-encoding"),
        Some(b'b') => matches!(name, "bandy-trace" | "bandy-trace-bin"),
        Some(b'c') => {
            name.starts_with("connect-")
                || matches!(name, "connection" | "content-encoding" | "content-length" | "content-type")
        }
        Some(b'g') => matches!(
            name,
            "grpc-accept-encoding"
                | "grpc-encoding"
                | "grpc-message"
                | "grpc-message-type"
                | "grpc-status"
                | "grpc-status-details-bin"
                | "grpc-timeout"
        ),
        Some(b'h') => name == "host",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => name == "proxy-connection",
        Some(b't') => matches!(name, "te" | "trailer" | "transfer-encoding"),
        Some(b'u') => name == "upgrade",
        Some(b'x') => name == "x-grpc-web",
        _ => false,
    }
}

/// Removes what belongs to protocols, in place.
pub fn strip_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

/// Adds `from` to `to`, leaving out what belongs to protocols.
pub fn append(to: &mut HeaderMap, from: HeaderMap) {
    let mut last = None;
    for (name, value) in from {
        // A repeated name comes only with its first value.
        if name.is_some() {
            last = name;
        }
        if let Some(name) = last.as_ref().filter(|name| !is_reserved(name)) {
            to.append(name.clone(), value);
        }
    }
}

/// Connect unary: adds trailers to headers as `trailer-…`.
pub fn append_trailers_as_headers(to: &mut HeaderMap, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if let Ok(prefixed) = HeaderName::try_from(format!("{TRAILER_PREFIX}{name}")) {
            to.append(prefixed, value.clone());
        }
    }
}

/// Connect unary: takes trailers out of headers again.
pub fn split_trailers(headers: &mut HeaderMap) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let prefixed: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(TRAILER_PREFIX)).cloned().collect();
    for name in prefixed {
        if let (Ok(bare), http::header::Entry::Occupied(entry)) =
            (HeaderName::try_from(&name.as_str()[TRAILER_PREFIX.len()..]), headers.entry(&name))
        {
            for value in entry.remove_entry_mult().1 {
                trailers.append(bare.clone(), value);
            }
        }
    }
    trailers
}

const TRAILER_PREFIX: &str = "trailer-";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_is_optional() {
        for text in ["AAEC/w==", "AAEC/w", " AAEC/w "] {
            assert_eq!(decode_binary(text.as_bytes()), Some(vec![0, 1, 2, 255]), "{text}");
        }
        assert_eq!(decode_binary(b"A$"), None);
        assert_eq!(encode_binary(&[0, 1, 2, 255]), "AAEC/w");
    }

    #[test]
    fn protocol_headers_are_told_from_the_callers() {
        for name in ["content-type", "te", "grpc-timeout", "connect-protocol-version", "host", "grpc-status"]
        {
            assert!(is_reserved(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["authorization", "user-agent", "x-request-id", "grpc-trace-bin", "cookie", "accept"] {
            assert!(!is_reserved(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn repeated_names_keep_all_values_and_reserved_ones_go() {
        let mut from = HeaderMap::new();
        from.append("x-a", HeaderValue::from_static("1"));
        from.append("x-a", HeaderValue::from_static("2"));
        from.append("grpc-status", HeaderValue::from_static("0"));
        from.append("grpc-status", HeaderValue::from_static("1"));
        let mut to = HeaderMap::new();
        append(&mut to, from.clone());
        assert_eq!(to.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(to.len(), 2);
        strip_reserved(&mut from);
        assert_eq!(from, to);
    }

    #[test]
    fn connect_trailers_travel_as_headers_and_come_back() {
        let mut trailers = HeaderMap::new();
        trailers.append("x-a", HeaderValue::from_static("1"));
        trailers.append("x-a", HeaderValue::from_static("2"));
        let mut headers = HeaderMap::new();
        headers.append("x-b", HeaderValue::from_static("3"));
        append_trailers_as_headers(&mut headers, &trailers);
        assert_eq!(headers.get_all("trailer-x-a").iter().count(), 2);
        assert_eq!(split_trailers(&mut headers), trailers);
        assert_eq!(headers.len(), 1);
    }

    proptest! {
        #[test]
        fn binary_values_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(decode_binary(encode_binary(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = decode_binary(&bytes);
        }
    }
}
