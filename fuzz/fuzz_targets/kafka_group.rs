#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bandy_fuzz::kafka_group(data));
