//! What AMQP costs on the wire: a publish decoded, a delivery encoded, with and without properties.
//!
//! `cargo bench --bench amqp`: nanoseconds and millions per second of one core, the best of several rounds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bandy::mq::wire::method::basic::{Deliver, Publish};
use bandy::mq::wire::{Assembler, Event, Fields, Method, Properties, TableBuf, Value, content};
use bytes::Bytes;

const ROUNDS: usize = 15;
/// As many as a read of a few hundred KiB holds.
const MESSAGES: usize = 2000;

/// The best of some rounds: what else the machine does only adds.
fn measure(name: &str, mut operation: impl FnMut()) {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        (0..20).for_each(|_| operation());
        start.elapsed() / 20
    });
    let best = rounds.min().unwrap_or(Duration::ZERO).as_secs_f64() / MESSAGES as f64;
    println!("{name:<48} {:>8.1} ns {:>8.1} M/s", best * 1e9, 1e-6 / best);
}

fn main() {
    let mut headers = TableBuf::new();
    for (name, value) in
        [("x-tenant", "blue"), ("trace", "00-4bf92f3577b34da6a3ce929d0e0e4736-01"), ("kind", "order")]
    {
        headers.push(name, Value::text(value));
    }
    headers.push("attempt", Value::I32(1));
    let two = Fields { content_type: Some(b"text/plain"), delivery_mode: Some(2), ..Fields::default() };
    let many = Fields {
        headers: Some(headers.as_table()),
        message_id: Some(b"0b0bd14c-8b9f-4f38-a8f5-3b4d5a6f7e8d"),
        correlation_id: Some(b"12345678"),
        timestamp: Some(1_700_000_000),
        ..two
    };
    for (name, properties) in
        [("no properties", Fields::default()), ("2 properties", two), ("4 headers and ids", many)]
    {
        for size in [100, 1024] {
            round(&format!("{size} B, {name}"), &properties.to_vec(), &vec![b'x'; size]);
        }
    }
}

fn round(name: &str, properties: &[u8], body: &[u8]) {
    let publish = Publish { exchange: "", routing_key: b"orders", ..Publish::default() };
    let publish = Method::from(publish);
    let mut stream = Vec::new();
    for _ in 0..MESSAGES {
        content(&mut stream, 1, &publish, properties, body, 131_072);
    }
    let chunk = Bytes::from(stream);
    let mut bodies = Vec::with_capacity(MESSAGES);
    let decode = |keep: &mut dyn FnMut(&Event<'_>)| {
        let mut assembler = Assembler::new(131_072, 1 << 20);
        let mut input = &chunk[..];
        let mut seen = 0;
        while let Ok(Some(event)) = assembler.next(&mut input) {
            keep(&event);
            seen += 1;
        }
        assert_eq!(seen, MESSAGES);
    };
    measure(&format!("decode, borrowed: {name}"), || decode(&mut |event| _ = black_box(event)));
    measure(&format!("decode, persistent?: {name}"), || {
        decode(&mut |event| {
            if let Event::Content { content, .. } = event {
                black_box(Properties::parse(&content.properties).is_ok_and(|found| found.is_persistent()));
            }
        });
    });
    measure(&format!("decode, body and properties shared: {name}"), || {
        decode(&mut |event| {
            if let Event::Content { content, .. } = event {
                bodies.push((content.body.share(&chunk), content.properties.share(&chunk)));
            }
        });
        bodies.clear();
    });
    let mut out = Vec::with_capacity(2 * chunk.len());
    measure(&format!("encode deliver: {name}"), || {
        out.clear();
        for delivery_tag in 0..MESSAGES as u64 {
            let (exchange, routing_key) = ("", b"orders".as_slice());
            let deliver =
                Deliver { consumer_tag: "ctag-1", delivery_tag, redelivered: false, exchange, routing_key };
            content(&mut out, 1, &deliver.into(), properties, body, 131_072);
        }
        black_box(&out);
    });
}
