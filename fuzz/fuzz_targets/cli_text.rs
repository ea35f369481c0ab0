//! What a user or another program writes: record envelopes, output templates, payloads with blanks, endpoints.

#![no_main]

use bandy::cli::endpoint::{Endpoint, Pillar};
use bandy::cli::payload::Payload;
use bandy::output::Template;
use bandy::record::{Embed, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = Record::from_json(data) {
        let mut line = Vec::new();
        record.write_json(Embed::Never, &mut line);
        assert!(!line.contains(&b'\n'));
        // Headers of one name are put together, and a topic may be a number that loses its last digit.
        let again = Record::from_json(&line).expect("we wrote it");
        assert_eq!(
            (again.key, again.value, again.timestamp, again.headers.len()),
            (record.key.clone(), record.value.clone(), record.timestamp, record.headers.len())
        );
        let _ = bandy::exec::variables(&record);
    }
    if let Ok(payload) = Payload::parse(data) {
        let _ = payload.fill(1, jiff::Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(1));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Template::parse(text, || jiff::tz::TimeZone::UTC);
        let _ = Endpoint::parse(Pillar::Rpc, text);
    }
});
