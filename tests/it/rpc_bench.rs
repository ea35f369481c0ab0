//! `rpc bench` against running servers: what it counts, when it stops, what it says and writes.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{self, Home, Ran, Running, bandy, number};

fn demo() -> Running {
    bandy("rpc serve -l :0").starts()
}

#[track_caller]
fn bench(server: &Running, words: &str) -> Ran {
    bandy(&format!("rpc bench --json {words}")).endpoint(server).runs()
}

fn series(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    text[..end].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until one second of the series is as expected.
#[track_caller]
fn until(path: &Path, what: &str, mut expected: impl FnMut(&Value) -> bool) {
    support::until(what, || series(path).iter().any(&mut expected));
}

#[test]
fn a_template_makes_every_request_another() {
    let home = Home::new();
    let file = home.path("requests");
    let server = bandy(&format!("rpc serve -l :0 take='sh -c \"cat >>{0}; echo >>{0}\"'", file.display()))
        .home(&home)
        .starts();
    bench(&server, "take 'user{{n}} {{rand 5 5}}' -T -n 3 -c 1").exits(0).shows("\"errors\":0");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(lines, ["user1", "5", "user2", "5", "user3", "5"]);
    let demo = demo();
    bench(&demo, "Greeter/Hello 'name=u{{n}}' -T -n 5").exits(0).shows("\"errors\":0");
    bench(&demo, "Greeter/Hello -d '{\"name\":\"{{uuid}}\"}' -T -n 5").exits(0).shows("\"errors\":0");
    bench(&demo, "Greeter/Hello 'name={{x}}' -T").exits(2).complains("unknown");
    bench(&demo, "Greeter/Hello -T").exits(2).complains("there is none");
}

#[test]
fn frames_on_stderr_are_no_errors() {
    let server = demo();
    let ran = bandy("rpc bench --json Greeter/Hello name=x -n 20 -c 2")
        .env("BANDY_DEBUG", "1")
        .endpoint(&server)
        .runs();
    assert_eq!(ran.exits(0).object()["errors"], 0);
}

#[test]
fn a_count_is_how_often_the_server_is_called() {
    let home = Home::new();
    let calls = home.path("calls");
    let count = format!("count='sh -c \"echo x >>{}; cat\"'", calls.display());
    let server = bandy(&format!("rpc serve -l :0 {count}")).home(&home).starts();
    let result = bench(&server, "count hello -n 40 -c 4").exits(0).object();
    assert_eq!(std::fs::read_to_string(&calls).unwrap().lines().count(), 40);
    assert_eq!(
        (&result["calls"], &result["errors"], &result["messages"]),
        (&40.into(), &0.into(), &40.into())
    );
    assert_eq!(result["method"], "bandy.Functions/count");
    let latencies = ["p50", "p90", "p99", "p99.9", "max"].map(|key| number(&result, key));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{result}");
    assert!(number(&result, "rate") > 0.0 && number(&result, "seconds") > 0.0, "{result}");
}

#[test]
fn people_get_a_table_and_programs_its_columns() {
    let server = demo();
    let text = bandy("rpc bench -o table Echo/Say text=hi -n 10").endpoint(&server).runs().exits(0).out();
    let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["RATE", "P50", "P90", "P99", "MAX", "ERRORS"], "{text}");
}

#[test]
fn a_rate_makes_the_calls_of_its_schedule() {
    let server = demo();
    let result = bench(&server, "Echo/Say text=hi --rate 100/s --for 1s").exits(0).object();
    assert_eq!(result["calls"], 100);
    let result =
        bench(&server, "Echo/Say text=hi --rate 50,150,0@1s -n 10k --warm-up 100ms").exits(0).object();
    assert_eq!(result["calls"], 200, "the schedule ends before the count, and warming up is not counted");
}

#[test]
fn a_stalled_server_makes_waiting_calls_slow() {
    // Every call takes 200 ms and one runs at a time: the tenth that was meant to start in the first
    // second waits for nine others. A closed loop would report 200 ms for all of them.
    let server = bandy("rpc serve -l :0 --delay 200ms").starts();
    let words = "Echo/Say text=hi -c 1 -n 10";
    let open = bench(&server, &format!("{words} --rate 100/s")).exits(0).object();
    let closed = bench(&server, words).exits(0).object();
    assert!(number(&open, "max") > 1800.0, "{open}");
    assert!(number(&open, "p50") > 900.0, "{open}");
    assert!(number(&closed, "p50") < number(&open, "p50"), "{closed}");
}

#[test]
fn a_duration_ends_the_run() {
    let start = Instant::now();
    let result = bench(&demo(), "Echo/Say text=hi --for 300ms").exits(0).object();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(number(&result, "calls") >= 1.0 && number(&result, "seconds") >= 0.25, "{result}");
}

#[test]
fn series_and_histogram_add_up_to_the_report() {
    let home = Home::new();
    let (seconds, latencies) = (home.path("series.ndjson"), home.path("latencies.hgrm"));
    let words = "Echo/Say text=hi --rate 200/s --for 2500ms --connections 2";
    let files = format!("--series {} --hgrm {}", seconds.display(), latencies.display());
    let result = bench(&demo(), &format!("{words} {files}")).exits(0).object();
    let samples = series(&seconds);
    assert!(samples.len() >= 3, "{samples:?}");
    let times: Vec<f64> = samples.iter().map(|sample| number(sample, "at")).collect();
    assert!(times.is_sorted() && times[0] >= 1.0, "{times:?}");
    let sum: f64 = samples.iter().map(|sample| number(sample, "calls")).sum();
    assert_eq!((sum, number(&result, "calls")), (500.0, 500.0));
    let text = std::fs::read_to_string(latencies).unwrap();
    assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
    let count = text.split("Total count    = ").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(count.trim(), "500");
}

#[test]
fn a_condition_that_holds_fails_the_command() {
    let server = demo();
    let words = "Echo/Say text=hi -n 50";
    bench(&server, &format!("{words} --fail-if 'errors>0' --fail-if 'p99>1m'")).exits(0);
    let ran = bench(&server, &format!("{words} --fail-if 'errors>0' --fail-if 'max>0us'")).exits(7);
    assert_eq!(ran.object()["calls"], 50, "the result is told all the same");
    ran.complains("max>0us: it was ");
    bench(&server, &format!("{words} --fail-if 'p99=3'")).exits(2).complains("p99>20ms");
}

#[test]
fn failures_are_counted_by_their_class() {
    let server = bandy("rpc serve -l :0 --fail 30% --seed 7").starts();
    let ran = bench(&server, "Echo/Say text=hi -n 200 --fail-if 'errors>1%'").exits(7);
    let result = ran.object();
    let failed = number(&result, "errors");
    assert!((20.0..110.0).contains(&failed), "{result}");
    assert_eq!(number(&result["error_classes"], "UNAVAILABLE"), failed);
    ran.complains("× UNAVAILABLE").complains("errors>1%");
    let ran = bench(&server, "Calc/Divide a=1 b=0 -n 20").exits(7);
    let result = ran.object();
    assert_eq!((&result["errors"], &result["p50"]), (&20.into(), &0.0.into()));
    ran.complains("no call succeeded");
}

#[test]
fn a_call_that_takes_too_long_is_a_timeout() {
    let server = bandy("rpc serve -l :0 --delay 10s").starts();
    let start = Instant::now();
    let ran = bench(&server, "Echo/Say text=hi -n 6 -c 3 --call-timeout 50ms").exits(7);
    assert!(start.elapsed() < Duration::from_secs(9));
    let result = ran.object();
    let classes = result["error_classes"].as_object().unwrap();
    // Whose clock is first is a matter of luck.
    let late: u64 =
        ["timeout", "DEADLINE_EXCEEDED"].iter().filter_map(|class| classes.get(*class)?.as_u64()).sum();
    assert_eq!((late, &result["calls"]), (6, &6.into()), "{result}");
}

#[test]
fn every_kind_of_stream_is_a_call() {
    let server = demo();
    for (words, messages) in [
        ("Clock/Ticks count=5 -n 10", 50),
        ("Calc/Sum value=2 --messages 7 -n 10", 10),
        ("Echo/Stream text=hi --messages 4 -n 10", 40),
        ("Echo/Say -s 1k -n 10", 10),
    ] {
        let result = bench(&server, words).exits(0).object();
        let found = (&result["calls"], &result["messages"], &result["errors"]);
        assert_eq!(found, (&10.into(), &messages.into(), &0.into()), "{words}");
    }
    let sized = bench(&server, "Echo/Say -s 1k -n 10").exits(0).object();
    assert!(number(&sized, "bytes") >= 10.0 * 2.0 * 1000.0, "{sized}");
}

#[test]
fn every_protocol_is_measured() {
    let server = demo();
    for flags in [
        "--protocol grpc -z gzip",
        "--protocol grpc-web",
        "--protocol grpc-web --http 1.1",
        "--protocol connect",
        "--protocol connect --http 1.1 --connections 3",
    ] {
        let result = bench(&server, &format!("Echo/Say text=hi -n 60 -c 6 {flags}")).exits(0).object();
        assert_eq!((&result["calls"], &result["errors"]), (&60.into(), &0.into()), "{flags}");
    }
}

#[test]
fn an_encrypted_server_is_measured() {
    let home = Home::new();
    let keys = home.path("keys");
    let words = format!("rpc serve -l :0 --tls-self-signed={}", keys.display());
    let server = bandy(&words).home(&home).starts();
    assert!(server.url.starts_with("grpcs://"), "{}", server.url);
    let certificate = keys.join("cert.pem");
    let words = format!("Echo/Say text=hi -n 20 --connections 2 --cacert {}", certificate.display());
    assert_eq!(bench(&server, &words).exits(0).object()["errors"], 0);
}

#[test]
fn an_interrupt_tells_what_was_measured() {
    let server = demo();
    let samples = server.home.path("series.ndjson");
    let words = format!("rpc bench --json Echo/Say text=hi --for 1h --series {}", samples.display());
    let run = bandy(&words).endpoint(&server).spawns();
    until(&samples, "a second with calls", |second| number(second, "calls") > 0.0);
    run.signal(Signal::INT);
    let ran = run.ends().dies_by(Signal::INT);
    let result = ran.object();
    assert!(number(&result, "calls") > 0.0, "{result}");
    assert_eq!(result["errors"], 0, "calls in flight are nobody's failure");
}

#[test]
fn a_connection_that_is_lost_is_made_again() {
    let server = demo();
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    let samples = server.home.path("series.ndjson");
    let words = format!(
        "rpc bench --json Echo/Say text=hi -c 4 --connections 2 --rate 200/s --for 1h --series {}",
        samples.display()
    );
    let run = bandy(&words).endpoint(&server).spawns();
    until(&samples, "a good second", |second| number(second, "calls") > 0.0);
    drop(server);
    until(&samples, "a second with failures", |second| number(second, "errors") > 0.0);
    let _again = bandy(&format!("rpc serve -l :{port}")).starts();
    let mut failed = false;
    until(&samples, "a good second after the failures", |second| {
        failed |= number(second, "errors") > 0.0;
        failed && number(second, "errors") == 0.0 && number(second, "calls") > 0.0
    });
    run.signal(Signal::INT);
    let result = run.ends().dies_by(Signal::INT).object();
    assert!(number(&result["error_classes"], "unreachable") > 0.0, "{result}");
}

#[test]
fn what_cannot_be_measured_is_said_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    bandy(&format!("rpc bench -e :{port} Echo/Say -n 1")).runs().exits(3).complains("cannot reach");
    let server = demo();
    bench(&server, "Echo/Shout -n 1").exits(5);
    bench(&server, "Echo/Say text=hi -s 10 -n 1").exits(2).complains("no DATA");
    bench(&server, "Echo/Say nothing=hi -n 1").exits(2).complains("nothing");
    bench(&server, "Echo/Say text=hi -n 1 --series /nowhere/series").exits(1).complains("/nowhere/series");
}
