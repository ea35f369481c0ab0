//! Messages of known types: bytes to JSON and JSON to bytes; what is printed can be read.

#![no_main]

use bandy::rpc::schema::Schema;
use bandy::rpc::{Format, Payload};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    let data = Bytes::copy_from_slice(data);
    let schema = Schema::standard();
    let messages = schema.pool().messages();
    let name = messages[usize::from(which) % messages.len()].full_name();
    let Some(message) = schema.message(name) else { return };
    let _ = message.convert(&Payload::json(data.clone()), Format::Proto);
    if let Ok(json) = message.convert(&Payload::proto(data), Format::Json) {
        message.convert(&Payload::json(json), Format::Proto).expect("what is printed can be read");
    }
});
