//! Content types: which protocol and format a request or a response is in.

use crate::rpc::Format;

/// How messages are laid into an HTTP body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// gRPC: prefixed messages, status in HTTP trailers.
    Grpc,
    /// gRPC-Web: prefixed messages, status in a last prefixed block.
    GrpcWeb,
    /// gRPC-Web, all of it in base64.
    GrpcWebText,
    /// Connect unary: the message is the body.
    ConnectUnary,
    /// Connect streaming: prefixed messages, status in a last prefixed JSON.
    ConnectStream,
}

/// A content type that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// How messages are laid into the body.
    pub dialect: Dialect,
    /// How each message is encoded.
    pub format: Format,
}

/// Each content type by its canonical name, the one we send.
const TABLE: &[(&str, Dialect, Format)] = &[
    ("application/grpc+proto", Dialect::Grpc, Format::Proto),
    ("application/grpc+json", Dialect::Grpc, Format::Json),
    ("application/grpc-web+proto", Dialect::GrpcWeb, Format::Proto),
    ("application/grpc-web+json", Dialect::GrpcWeb, Format::Json),
    ("application/grpc-web-text+proto", Dialect::GrpcWebText, Format::Proto),
    ("application/grpc-web-text+json", Dialect::GrpcWebText, Format::Json),
    ("application/proto", Dialect::ConnectUnary, Format::Proto),
    ("application/json", Dialect::ConnectUnary, Format::Json),
    ("application/connect+proto", Dialect::ConnectStream, Format::Proto),
    ("application/connect+json", Dialect::ConnectStream, Format::Json),
    // Short names mean protobuf.
    ("application/grpc", Dialect::Grpc, Format::Proto),
    ("application/grpc-web", Dialect::GrpcWeb, Format::Proto),
    ("application/grpc-web-text", Dialect::GrpcWebText, Format::Proto),
];

impl ContentType {
    /// For `accept-post`, when a request came in none of them.
    pub const ACCEPTED: &'static str = "application/json, application/proto, application/connect+json, \
         application/connect+proto, application/grpc, application/grpc+proto, application/grpc+json, \
         application/grpc-web, application/grpc-web+proto, application/grpc-web+json, \
         application/grpc-web-text, application/grpc-web-text+proto";

    /// Understands the value of a `content-type` header; parameters other than a foreign charset are ignored.
    pub fn parse(value: &str) -> Option<Self> {
        let (name, parameters) = match value.split_once(';') {
            Some((name, parameters)) => (name.trim(), parameters),
            None => (value.trim(), ""),
        };
        let foreign_charset = parameters.split(';').any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(key, charset)| {
                key.eq_ignore_ascii_case("charset")
                    && !charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        });
        if foreign_charset {
            return None;
        }
        TABLE
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .map(|&(_, dialect, format)| Self { dialect, format })
    }

    /// The value to send.
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|&&(_, dialect, format)| dialect == self.dialect && format == self.format)
            .map_or("application/octet-stream", |&(name, ..)| name)
    }

    /// True if the media type of `value` starts with `application/grpc`: such a peer wants a gRPC status.
    pub fn is_grpc_like(value: &str) -> bool {
        value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/grpc"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for &(name, dialect, format) in TABLE {
            let parsed = ContentType::parse(name).unwrap();
            assert_eq!(parsed, ContentType { dialect, format });
            assert_eq!(ContentType::parse(parsed.name()), Some(parsed));
        }
    }

    #[test]
    fn parameters_and_case_do_not_matter_but_a_foreign_charset_does() {
        let json = ContentType { dialect: Dialect::ConnectUnary, format: Format::Json };
        assert_eq!(ContentType::parse("Application/JSON; charset=UTF-8"), Some(json));
        assert_eq!(ContentType::parse("application/json;charset=\"utf-8\"; x=y"), Some(json));
        assert_eq!(ContentType::parse("application/json; charset=shift-jis"), None);
    }

    #[test]
    fn others_are_refused() {
        for value in ["", "text/plain", "application/grpc+thrift", "application/grpcx", "application/connect"]
        {
            assert_eq!(ContentType::parse(value), None, "{value}");
        }
        assert!(ContentType::is_grpc_like("application/grpc+thrift"));
        assert!(!ContentType::is_grpc_like("application/json"));
    }
}
