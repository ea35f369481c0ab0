//! Frames in chunks: what comes out is what went in, and nothing over the limit.

#![no_main]

use bandy::rpc::wire::{Deframer, Encoding};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const SIZE_MAX: usize = 4096;

fuzz_target!(|chunks: Vec<Vec<u8>>| {
    let mut deframer = Deframer::new(SIZE_MAX);
    for chunk in chunks {
        deframer.push(Bytes::from(chunk));
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.data.len() <= SIZE_MAX);
                    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
                        if let Ok(message) = encoding.decompress(&frame.data, SIZE_MAX) {
                            assert!(message.len() <= SIZE_MAX);
                        }
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _ = deframer.finish();
});
