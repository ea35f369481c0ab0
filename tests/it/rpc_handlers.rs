//! Handlers that misbehave: each call gets its error, nobody else notices, and no process is left behind.

use rustix::process::{Pid, Signal, test_kill_process_group};

use crate::support::{Home, Running, bandy, until};

/// Serves these functions, besides one that behaves.
fn serve(home: &Home, functions: &[(&str, &str)], flags: &str) -> Running {
    let mut command = bandy(&format!("rpc serve -l :0 {flags} upper='tr a-z A-Z'")).home(home);
    for (name, text) in functions {
        command = command.arg(format!("{name}={text}"));
    }
    command.starts()
}

/// Calls a function with that text and says what came: exit code, stdout, stderr.
fn call(server: &Running, name: &str, flags: &str) -> (i32, String, String) {
    let ran = bandy(&format!("rpc call {flags} {name} x")).endpoint(server).runs();
    (ran.code(), ran.out().to_owned(), ran.err().to_owned())
}

fn still_serves(server: &Running) {
    bandy("rpc call upper hello").endpoint(server).runs().prints("HELLO\n");
}

/// Waits until the process group is empty whose number a handler has written into that file.
#[track_caller]
fn gone(home: &Home, file: &str) {
    let group = || -> Option<Pid> {
        let text = std::fs::read_to_string(home.path(file)).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    };
    until("the handler begins", || group().is_some());
    let group = group().unwrap();
    until(format_args!("no process of {file} is left"), || test_kill_process_group(group).is_err());
}

/// A shell text that first writes the number of its group.
fn leading(home: &Home, file: &str, then: &str) -> String {
    format!("echo $$ >'{}'; {then}", home.path(file).display())
}

#[test]
fn one_that_dies_prints_garbage_or_too_much_fails_alone() {
    let home = Home::new();
    let server = serve(
        &home,
        &[
            ("dies", "kill -9 $$"),
            ("complains", "echo 'no such order' >&2; exit 69"),
            ("garbage", r"printf '\377\376\000'"),
            ("endless", "yes"),
            ("loud", "yes >&2"),
            ("missing", "/no/such/command"),
        ],
        "--max-msg-size 100K",
    );
    for (name, code, text) in [
        ("dies", 66, "killed by signal 9"),
        ("complains", 69, "no such order"),
        ("garbage", 77, "not UTF-8"),
        ("endless", 72, "over the limit"),
        ("missing", 77, "/no/such/command"),
    ] {
        let (exit, out, err) = call(&server, name, "");
        assert_eq!((exit, out.as_str()), (code, ""), "{name}: {err}");
        assert!(err.contains(text), "{name}: {err}");
    }
    let (exit, _, err) = call(&server, "loud", "--timeout 300ms");
    assert_eq!(exit, 124, "{err}");
    still_serves(&server);
}

#[test]
fn one_that_hangs_or_ignores_the_signal_is_gone_after_its_deadline() {
    let home = Home::new();
    let stubborn = "trap '' TERM; while :; do sleep 0.05; done";
    let server = serve(
        &home,
        &[
            ("hangs", &leading(&home, "hangs", "sleep 1000")),
            ("stubborn", &leading(&home, "stubborn", stubborn)),
            ("deaf", &leading(&home, "deaf", "exec 0<&-; sleep 1000")),
        ],
        "",
    );
    for name in ["hangs", "stubborn", "deaf"] {
        let (exit, out, err) = call(&server, name, "--timeout 200ms");
        assert_eq!((exit, out.as_str()), (124, ""), "{name}: {err}");
    }
    still_serves(&server);
    for name in ["hangs", "stubborn", "deaf"] {
        gone(&home, name);
    }
}

#[test]
fn children_that_outlive_a_handler_end_with_its_call() {
    let home = Home::new();
    // They keep its pipes open, and one of them ignores the signal.
    let forks = "sleep 1000 & (trap '' TERM; while :; do sleep 0.05; done) & echo done";
    let server = serve(&home, &[("forks", &leading(&home, "forks", forks))], "");
    let (exit, out, err) = call(&server, "forks", "");
    assert_eq!((exit, out.as_str()), (0, "done\n"), "{err}");
    gone(&home, "forks");
    still_serves(&server);
}

#[test]
fn a_caller_that_leaves_takes_its_handler_along() {
    let home = Home::new();
    let server = serve(&home, &[("waits", &leading(&home, "waits", "sleep 1000 & wait"))], "");
    let caller = bandy("rpc call waits x").endpoint(&server).spawns();
    let begun = home.path("waits");
    until("the handler begins", || begun.exists());
    caller.signal(Signal::KILL);
    gone(&home, "waits");
    still_serves(&server);
}

#[test]
fn a_server_that_stops_leaves_nobody_behind() {
    let home = Home::new();
    let stubborn = "trap '' TERM; sleep 1000 & while :; do sleep 0.05; done";
    let server = serve(&home, &[("stays", &leading(&home, "stays", stubborn))], "--grace 100ms");
    let _caller = bandy("rpc call stays x").endpoint(&server).spawns();
    until("the handler begins", || home.path("stays").exists());
    server.signal(Signal::TERM);
    server.ends().exits(0);
    gone(&home, "stays");
}

/// Answers two calls of a schema with a worker of that text.
fn workers(home: &Home, text: &str, flags: &str) -> Running {
    let proto = home.file(
        "w.proto",
        "syntax = \"proto3\"; package w; service W { rpc Say(M) returns (M); } message M { string text = 1; }",
    );
    let script = home.script("worker", &format!("#!/bin/sh\n{text}\n"));
    bandy(&format!("rpc serve -l :0 --workers 1 {flags} --proto"))
        .arg(&proto)
        .arg("--")
        .arg(&script)
        .home(home)
        .starts()
}

fn say(server: &Running, flags: &str) -> (i32, String) {
    let ran = bandy(&format!(r#"rpc call {flags} w.W/Say '{{"text":"x"}}'"#)).endpoint(server).runs();
    (ran.code(), ran.err().to_owned())
}

#[test]
fn a_worker_that_prints_garbage_answers_with_an_error_and_goes_on() {
    let home = Home::new();
    let server = workers(&home, "while read -r line; do echo 'hello?'; done", "");
    for _ in 0..2 {
        let (exit, err) = say(&server, "");
        assert_eq!(exit, 77, "{err}");
        assert!(err.contains("what is not an answer") && err.contains("hello?"), "{err}");
    }
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let home = Home::new();
    let server = workers(&home, "read -r line; echo 'out of memory' >&2; exit 1", "");
    let (exit, err) = say(&server, "");
    assert_eq!(exit, 78, "{err}");
    assert!(err.contains("out of memory"), "{err}");
    server.says("starting it again");
}

#[test]
fn a_worker_that_hangs_holds_up_nobody_who_does_not_wait_for_it() {
    let home = Home::new();
    let text = leading(&home, "worker-group", "trap '' TERM; while :; do sleep 0.05; done");
    let server = workers(&home, &text, "--grace 100ms");
    let (exit, err) = say(&server, "--timeout 200ms");
    assert_eq!(exit, 124, "{err}");
    // A call that was given up leaves its place: more than fit are made, each is told in time.
    for _ in 0..3 {
        assert_eq!(say(&server, "--timeout 50ms").0, 124);
    }
    bandy("rpc ls").endpoint(&server).runs().exits(0).shows("w.W");
    server.signal(Signal::TERM);
    server.ends().exits(0);
    gone(&home, "worker-group");
}

#[test]
fn a_worker_that_prints_a_line_without_end_is_replaced() {
    let home = Home::new();
    let server = workers(&home, "read -r line; yes | tr -d '\\n'", "--max-msg-size 100K");
    let (exit, err) = say(&server, "--timeout 20s");
    assert_eq!(exit, 78, "{err}");
    assert!(err.contains("a line of more than"), "{err}");
}
