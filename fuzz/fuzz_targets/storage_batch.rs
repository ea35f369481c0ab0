//! Record batches: what is taken is whole, what is read fits in it, and what is built from it is the same again.
//!
//! `cargo +nightly fuzz run storage_batch -- -malloc_limit_mb=64`: no length in a batch is a reason to allocate.

#![no_main]

use bandy::storage::{Batch, BatchBuilder, Checked, HEADER_LEN, Header, Records, set_append_time};
use libfuzzer_sys::fuzz_target;

/// Gives the bytes the checksum and length that they would need, so that the fuzzer gets past them.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() >= HEADER_LEN {
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.to_bytes()[..], data[..HEADER_LEN]);
        Records::new(&header, &data[HEADER_LEN..]).for_each(drop);
    }
    for bytes in [data.to_vec(), repaired(data)] {
        let Ok(checked) = Checked::new(&bytes) else { continue };
        let lens = checked.batches().map(|batch| batch.bytes().len());
        assert_eq!(lens.sum::<usize>(), bytes.len());
        for batch in checked.batches() {
            let Ok(records) = batch.records() else { continue };
            let mut builder = BatchBuilder::new();
            let mut good = 0;
            for record in records {
                let Ok(record) = record else { break };
                assert!((batch.header.base_offset..batch.header.end_offset()).contains(&record.offset));
                let headers: Vec<_> = record.headers.iter().collect();
                assert_eq!(headers.len(), record.headers.len());
                builder.push_copied(record.timestamp, record.key, record.value, &headers).expect("it fitted before");
                good += 1;
            }
            let again = builder.to_vec(0, 0);
            if good > 0 {
                let again = Batch::parse(&again).expect("we wrote it");
                again.check().expect("we summed it up");
                assert_eq!(again.records().expect("not compressed").filter(Result::is_ok).count(), good);
            }
        }
        let mut stamped = bytes.clone();
        if set_append_time(&mut stamped, 12345).is_ok() {
            let batch = Batch::parse(&stamped).expect("it was one");
            batch.check().expect("summed up anew");
            assert!(batch.header.has_append_time());
        }
    }
});
