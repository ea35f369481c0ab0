//! What schemas cost: a message from JSON to protobuf and back, and the start-up of a server.
//!
//! `cargo bench --bench schema`: nanoseconds per operation, the best of several rounds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bandy::rpc::schema::Schema;
use bandy::rpc::{Format, Payload};

const ROUNDS: usize = 15;
const SMALL: &str =
    r#"{"name":"Ada","id":"7","tags":["a","b"],"when":"2026-11-23T07:00:00Z","inner":{"name":"x"}}"#;
const PROTO: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
    message M { string name = 1; int64 id = 2; repeated string tags = 3; google.protobuf.Timestamp when = 4; M inner = 5; }"#;

/// The best of some rounds: what else the machine does only adds.
fn measure(name: &str, repeat: u32, mut operation: impl FnMut()) {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        (0..repeat).for_each(|_| operation());
        start.elapsed() / repeat
    });
    let best = rounds.min().unwrap_or(Duration::ZERO);
    println!("{name:<40} {:>10} ns", best.as_nanos());
}

fn main() {
    let cold = Instant::now();
    black_box(Schema::standard());
    println!("{:<40} {:>10} ns", "standard schema, first use", cold.elapsed().as_nanos());
    let set = Schema::standard().descriptor_set();
    measure("link the standard schema", 50, || drop(black_box(Schema::from_descriptor_set(&set))));
    let folder = std::env::temp_dir().join(format!("bandy-bench-{}.proto", std::process::id()));
    std::fs::write(&folder, PROTO).expect("the temporary directory takes files");
    let compile = || Schema::compile(std::slice::from_ref(&folder), &[]).expect("the text is a schema");
    measure("compile a small .proto file", 20, || drop(black_box(compile())));
    let message = compile().message("M").expect("it is in the text");
    drop(std::fs::remove_file(&folder));
    let json = Payload::json(SMALL);
    let proto = Payload::proto(message.convert(&json, Format::Proto).expect("the text is such a message"));
    measure("JSON to protobuf, 95 bytes", 20_000, || drop(black_box(message.convert(&json, Format::Proto))));
    measure("protobuf to JSON, 28 bytes", 20_000, || drop(black_box(message.convert(&proto, Format::Json))));
}
