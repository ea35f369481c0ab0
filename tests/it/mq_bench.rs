//! `mq bench` against a running broker: what it counts, when it stops, what it leaves behind.

use rustix::process::Signal;

use crate::support::{Home, Ran, Running, bandy, number, until};

fn broker() -> Running {
    bandy("mq broker -l :0 --memory").starts()
}

#[track_caller]
fn bench(server: &Running, words: &str) -> Ran {
    bandy(&format!("mq bench --json {words}")).endpoint(server).runs()
}

/// Nothing of a run is left.
#[track_caller]
fn left_clean(server: &Running) {
    let before = server.stderr().len();
    let mut asked = 0;
    until("queues and connections are gone", || {
        let said = server.stderr();
        if said[before..].contains("connections 0  channels 0  queues 0") {
            return true;
        }
        // It answers every signal.
        if said[before..].matches("queues ").count() >= asked {
            server.signal(Signal::USR1);
            asked += 1;
        }
        false
    });
}

#[test]
fn every_message_is_counted_whatever_the_number_of_clients() {
    let server = broker();
    for (words, sent, received) in [
        ("-n 3000", 3000.0, 3000.0),
        ("-n 1001 --producers 3 --consumers 2 --queues 5 --confirms 10", 1001.0, 1001.0),
        ("-n 400 --queues 4 --fan-out --consumers 3 --auto-ack", 400.0, 1600.0),
        ("-n 500 --persistent --confirms 100 --ack 1 --prefetch 1 -s 10k", 500.0, 500.0),
        ("-n 5 -s 1M --queues 2", 5.0, 5.0),
    ] {
        let result = bench(&server, words).exits(0).object();
        assert_eq!(
            (number(&result, "sent"), number(&result, "messages")),
            (sent, received),
            "{words}: {result}"
        );
        assert_eq!(number(&result, "errors"), 0.0, "{words}: {result}");
        assert!(number(&result, "p50") > 0.0 && number(&result, "p50") <= number(&result, "max"), "{result}");
        let confirmed = if words.contains("--confirms") { sent } else { 0.0 };
        assert_eq!(number(&result, "confirmed"), confirmed, "{words}: {result}");
    }
    left_clean(&server);
}

#[test]
fn without_consumers_confirms_are_measured() {
    let server = broker();
    let result = bench(&server, "-n 300 --consumers 0 --confirms 1").exits(0).object();
    assert_eq!((number(&result, "messages"), number(&result, "confirmed")), (300.0, 300.0), "{result}");
    assert!(number(&result, "p99") > 0.0);
    let result = bench(&server, "-n 300 --consumers 0").exits(0).object();
    assert_eq!((number(&result, "sent"), number(&result, "p99")), (300.0, 0.0), "{result}");
    left_clean(&server);
}

#[test]
fn a_rate_is_kept_and_a_duration_ends_the_run() {
    let server = broker();
    let home = Home::new();
    let (series, latencies) = (home.path("series"), home.path("latencies"));
    let words = format!(
        "--rate 500/s --for 1500ms --producers 2 --series {} --hgrm {}",
        series.display(),
        latencies.display()
    );
    let result = bench(&server, &words).exits(0).object();
    assert_eq!(number(&result, "messages"), 750.0, "{result}");
    assert!(number(&result, "seconds") >= 1.49, "{result}");
    let lines = std::fs::read_to_string(series).unwrap();
    let counted: f64 =
        lines.lines().map(|line| number(&serde_json::from_str(line).unwrap(), "messages")).sum();
    assert_eq!(counted, 750.0, "{lines}");
    assert!(std::fs::read_to_string(latencies).unwrap().contains("Total count    =          750"));
    // What is sent while warming up is not measured.
    let result = bench(&server, "--rate 1k/s --for 500ms --warm-up 500ms").exits(0).object();
    assert!((1.0..=999.0).contains(&number(&result, "sent")), "{result}");
    assert!((1.0..=1000.0).contains(&number(&result, "messages")), "{result}");
    let result = bench(&server, "--for 300ms").exits(0).object();
    assert!(number(&result, "sent") > 0.0, "{result}");
    left_clean(&server);
}

#[test]
fn a_condition_that_holds_fails_the_command() {
    let server = broker();
    bench(&server, "-n 50 --fail-if 'errors>0' --fail-if 'p99>1m'").exits(0);
    let ran = bench(&server, "-n 50 --fail-if 'max>0us'").exits(7);
    assert_eq!(number(&ran.object(), "messages"), 50.0, "the result is told all the same");
    ran.complains("max>0us: it was ");
    left_clean(&server);
}

#[test]
fn an_interrupt_tells_what_was_measured_and_leaves_nothing() {
    let server = broker();
    let series = server.home.path("series");
    let words = format!("mq bench --json --for 1h --rate 1k/s --series {}", series.display());
    let run = bandy(&words).endpoint(&server).spawns();
    until("a second with messages", || {
        std::fs::read_to_string(&series).is_ok_and(|text| text.contains("\"calls\":"))
    });
    run.signal(Signal::INT);
    let result = run.ends().dies_by(Signal::INT).object();
    assert!(number(&result, "messages") > 0.0, "{result}");
    left_clean(&server);
}

#[test]
fn a_broker_that_goes_ends_the_run() {
    let server = broker();
    let series = server.home.path("series");
    let words = format!("mq bench --json --for 1h --rate 1k/s --series {}", series.display());
    let run = bandy(&words).endpoint(&server).spawns();
    until("a second with messages", || {
        std::fs::read_to_string(&series).is_ok_and(|text| text.contains("\"calls\":"))
    });
    server.signal(Signal::KILL);
    let ran = run.ends();
    assert!([1, 3].contains(&ran.code()), "{} {}", ran.code(), ran.err());
    assert!(number(&ran.object(), "messages") > 0.0, "what was measured is told");
}

#[test]
fn what_cannot_be_measured_is_said_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    bandy(&format!("mq bench -e :{port} -n 1")).runs().exits(3).complains("cannot reach");
    let server = broker();
    bench(&server, "-n 1 -s 7").exits(2).complains("8 bytes");
    bench(&server, "-n 1 --producers 0").exits(2);
    bench(&server, "-n 1 --auto-ack --ack 3").exits(2);
    bench(&server, "-n 1 --fail-if fast").exits(2).complains("p99>20ms");
    bench(&server, "-n 1 -u eve:wrong").exits(4).complains("wrong user or password");
    left_clean(&server);
}
