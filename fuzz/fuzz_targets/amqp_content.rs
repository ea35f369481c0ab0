//! AMQP frames in chunks: the same methods and messages however they are cut, and no body over the limit.

#![no_main]

use bandy::mq::wire::{Assembler, Event, Properties};
use libfuzzer_sys::fuzz_target;

mod cap;

const FRAME_MAX: u32 = 4096;
const BODY_SIZE_MAX: u64 = 16 * 1024;

/// Events in words, with the error at the end if there is one.
fn events<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut assembler = Assembler::new(FRAME_MAX, BODY_SIZE_MAX);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        let mut input = buffer.as_slice();
        loop {
            match assembler.next(&mut input) {
                Ok(Some(Event::Content { channel, content })) => {
                    assert!(content.body.len() as u64 <= BODY_SIZE_MAX);
                    let _ = Properties::parse(&content.properties);
                    seen.push(format!("{channel} {:?} {:?} {:?}", content.method(), &*content.properties, &*content.body));
                }
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.reply_text());
                    return seen;
                }
            }
        }
        buffer = input.to_vec();
    }
    seen
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, data) = (usize::from(input.0).max(1), input.1);
    let (cut, whole) = cap::capped(|| (events(data.chunks(size)), events(std::iter::once(data))));
    assert_eq!(cut, whole);
});
