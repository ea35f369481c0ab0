//! Every decoder of headers, trailers, errors and queries.

#![no_main]

use bandy::rpc::Code;
use bandy::rpc::wire::{ContentType, Encoding, connect, metadata, status, timeout, trace, web};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = connect::decode_error(data, Code::Unknown);
    let _ = connect::decode_end(data);
    let _ = metadata::decode_binary(data);
    let _ = status::decode_message(data);
    if let Some(trailers) = web::decode_trailers(data) {
        assert_eq!(web::decode_trailers(&web::encode_trailers(&trailers)), Some(trailers));
    }
    let mut text = web::TextDecoder::default();
    let _ = text.push(data).and_then(|_| text.finish());
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut trailers = HeaderMap::new();
        trailers.insert(status::GRPC_STATUS, HeaderValue::from_static("2"));
        trailers.insert(status::GRPC_STATUS_DETAILS, value);
        let _ = status::take_grpc(&mut trailers);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = timeout::parse_grpc(text);
        let _ = timeout::parse_connect(text);
        let _ = trace::decode(text);
        let _ = ContentType::parse(text);
        let _ = Encoding::first_accepted(text);
        let _ = connect::decode_get(text, 4096);
    }
});
