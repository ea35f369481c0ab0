//! AMQP field tables and properties: read, written, changed, read again.

#![no_main]

use bandy::mq::wire::{Properties, Table, TableBuf, Value};
use libfuzzer_sys::fuzz_target;

mod cap;

fuzz_target!(|data: &[u8]| {
    cap::capped(|| {
        if let Ok(table) = Table::parse(data) {
            let mut again = TableBuf::new();
            table.iter().for_each(|(name, value)| again.push(name, value));
            assert_eq!(again.as_table().as_bytes().len(), data.len());
            assert!(Table::parse(again.as_table().as_bytes()).is_ok());
            again.set("x-death", Value::Void);
            assert_eq!(again.as_table().get("x-death"), Some(Value::Void));
            again.remove("x-death");
            assert_eq!(again.as_table().get("x-death"), None);
        }
        if let Ok(fields) = Properties::parse(data).and_then(|properties| properties.fields()) {
            assert_eq!(fields.to_vec(), data);
        }
    });
});
