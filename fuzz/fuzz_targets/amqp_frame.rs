//! AMQP frames: what is taken is written again to the same bytes.

#![no_main]

use bandy::mq::wire::frame;
use libfuzzer_sys::fuzz_target;

mod cap;

fuzz_target!(|data: &[u8]| {
    cap::capped(|| {
        let _ = frame::protocol(data);
        for frame_max in [0, 4096] {
            if let Ok(Some(found)) = frame::decode(data, frame_max) {
                let mut again = bandy::mq::wire::frame_header(found.kind, found.channel, found.payload.len() as u32).to_vec();
                again.extend_from_slice(found.payload);
                again.push(frame::END);
                assert_eq!(again, data[..found.size()]);
            }
        }
    });
});
