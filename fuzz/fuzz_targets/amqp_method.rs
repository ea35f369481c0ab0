//! AMQP methods: what decodes is encoded to bytes that decode to the same, and errors have texts that fit.

#![no_main]

use bandy::mq::wire::Method;
use libfuzzer_sys::fuzz_target;

mod cap;

fuzz_target!(|data: &[u8]| {
    cap::capped(|| match Method::decode(data) {
        Ok(method) => {
            let mut again = Vec::new();
            method.encode(&mut again);
            assert_eq!(Method::decode(&again), Ok(method));
            let _ = format!("{method:?}");
        }
        Err(error) => assert!(error.reply_text().len() <= 255),
    });
});
