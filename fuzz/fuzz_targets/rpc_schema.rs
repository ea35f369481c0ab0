//! Descriptor sets as a peer may send them: linked or refused, and used in every way if linked.

#![no_main]

use bandy::rpc::schema::Schema;
use bandy::rpc::{Format, Payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(schema) = Schema::from_descriptor_set(data) else { return };
    for file in schema.pool().files() {
        let _ = schema.print_file(file.name.as_deref().unwrap_or(""));
    }
    for message in schema.pool().messages() {
        let Some(message) = schema.message(message.full_name()) else { continue };
        let example = message.example().to_string();
        let _ = message.json_schema();
        let _ = message.convert(&Payload::json(example), Format::Proto);
    }
});
