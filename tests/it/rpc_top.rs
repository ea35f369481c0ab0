//! `rpc top`: exact counts of a real server, tables for programs, and the live view in a terminal.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::support::{DEADLINE, Home, Ran, Running, bandy, shell, until};
use crate::terminal::Terminal;

fn rows(ran: Ran) -> Vec<Value> {
    ran.exits(0).out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn row<'a>(rows: &'a [Value], method: &str) -> &'a Value {
    let found = rows.iter().find(|row| row["method"] == method);
    found.unwrap_or_else(|| panic!("no {method} in {rows:#?}"))
}

fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, authority)| authority)
}

/// Calls of known number and kind: three replies, and two divisions by zero.
fn called() -> Running {
    let server = bandy("rpc serve -l :0").starts();
    for protocol in ["grpc", "connect", "grpc-web"] {
        let call = format!("rpc call --protocol {protocol} demo.Greeter/Hello name=Ada");
        bandy(&call).endpoint(&server).runs().exits(0);
    }
    for _ in 0..2 {
        bandy("rpc call demo.Calc/Divide a:=1 b:=0").endpoint(&server).runs().exits(64 + 3);
    }
    server
}

#[test]
fn counts_are_exact_in_every_protocol() {
    let server = called();
    let at = authority(&server.url).to_owned();
    for (url, more) in [
        (server.url.clone(), ""),
        (format!("http://{at}"), "--protocol connect"),
        (format!("tcp://{at}"), ""),
        (format!("jsonrpc+tcp://{at}"), ""),
    ] {
        let rows = rows(bandy(&format!("rpc top --once --json -e {url} {more}")).runs().silently());
        let hello = row(&rows, "demo.Greeter/Hello");
        assert_eq!(
            (&hello["calls"], &hello["errors"], &hello["in_flight"]),
            (&3.into(), &0.into(), &0.into())
        );
        assert_eq!((&hello["codes"]["OK"], &hello["health"]), (&3.into(), &"SERVING".into()));
        let (p50, p99, max) = (&hello["p50"], &hello["p99"], &hello["max"]);
        assert!(p50.as_f64().unwrap() > 0.0 && p50.as_f64() <= p99.as_f64() && p99.as_f64() <= max.as_f64());
        let rate = hello["rate"].as_f64().unwrap() * hello["uptime"].as_f64().unwrap();
        assert!((rate - 3.0).abs() < 0.05, "{hello}");
        let divide = row(&rows, "demo.Calc/Divide");
        assert_eq!((&divide["calls"], &divide["errors"]), (&2.into(), &2.into()));
        assert_eq!(divide["codes"], serde_json::json!({"INVALID_ARGUMENT": 2}));
        // What was never called is there; what counts is not.
        assert_eq!(row(&rows, "demo.Calc/Add")["calls"], 0);
        assert!(rows.iter().all(|row| !row["method"].as_str().unwrap().starts_with("bandy.Stats")));
        assert!(
            rows.iter().all(|row| row["endpoint"] == url.as_str() && row["connections"] == 1),
            "{rows:#?}"
        );
    }
}

#[test]
fn a_table_is_for_people_and_tabs_are_for_programs() {
    let server = called();
    let once = || bandy("rpc top --once").endpoint(&server);
    let plain = once().runs().silently().exits(0).out();
    let hello = plain.lines().find(|line| line.starts_with("demo.Greeter/Hello\t")).unwrap();
    let cells: Vec<&str> = hello.split('\t').collect();
    assert_eq!(cells.len(), 9);
    assert_eq!((cells[2], cells[5], cells[6], cells[7], cells[8]), ("0", "0", "3", "SERVING", &*server.url));
    let table = once().arg("-o").arg("table").runs().exits(0).out();
    assert!(
        table.starts_with("METHOD ") && table.lines().next().unwrap().ends_with("CALLS  HEALTH"),
        "{table}"
    );
    let at = |name: &str| table.lines().position(|line| line.starts_with(name)).unwrap();
    // The busiest first.
    assert!(at("demo.Greeter/Hello") < at("demo.Calc/Divide"), "{table}");
    assert!(at("demo.Calc/Divide") < at("demo.Account/Deposit"), "{table}");
    once().arg("-o").arg("%{method} %{calls} %{errors}").runs().shows("demo.Calc/Divide 2 2\n");
}

#[test]
fn an_interval_has_only_what_happened_in_it() {
    let server = called();
    let rows = rows(bandy("rpc top -n 2 -i 50ms --json").endpoint(&server).runs());
    let hello: Vec<&Value> = rows.iter().filter(|row| row["method"] == "demo.Greeter/Hello").collect();
    let [start, interval] = hello.as_slice() else { panic!("two tables: {hello:?}") };
    assert!(start["rate"].as_f64().unwrap() > 0.0 && start["p50"].is_number());
    assert_eq!((interval["rate"].as_f64(), &interval["p50"]), (Some(0.0), &Value::Null));
    assert_eq!((&interval["calls"], &interval["errors"]), (&3.into(), &0.into()));
    let seconds = interval["seconds"].as_f64().unwrap();
    assert!((0.05..30.0).contains(&seconds) && seconds < interval["uptime"].as_f64().unwrap(), "{interval}");
    // --once with a time measures that time first.
    let once = bandy("rpc top --once -i 50ms --json").endpoint(&server).runs();
    assert_eq!(row(&self::rows(once), "demo.Greeter/Hello")["rate"], 0.0);
    // --for ends it; the reader of a pipe may, too.
    bandy("rpc top -i 20ms --for 100ms").endpoint(&server).runs().exits(0);
    let script = format!("bandy rpc top -i 20ms -e {} | head -n 40 | wc -l", server.url);
    shell("bash", &script).runs().shows("40");
}

#[test]
fn a_call_that_runs_is_in_flight() {
    let home = Home::new();
    let begun = home.path("begun");
    let words = format!("rpc serve slow='echo > {}; exec sleep 1000' -l :0 --grace 0", begun.display());
    let server = bandy(&words).home(&home).starts();
    let client = bandy("rpc call slow x").endpoint(&server).spawns();
    until("the handler begins", || begun.exists());
    let slow = || {
        let rows = rows(bandy("rpc top --once --json").endpoint(&server).runs());
        row(&rows, "bandy.Functions/slow").clone()
    };
    let running = slow();
    assert_eq!((&running["in_flight"], &running["calls"]), (&1.into(), &0.into()));
    client.signal(Signal::INT);
    client.ends();
    // The server learns of it a moment later.
    while slow()["in_flight"] != 0 {}
    let cancelled = slow();
    assert_eq!(cancelled["codes"], serde_json::json!({"CANCELLED": 1}));
    assert_eq!((&cancelled["calls"], &cancelled["errors"]), (&1.into(), &0.into()));
}

#[test]
fn several_servers_are_told_apart_and_one_that_is_gone_does_not_hide_the_others() {
    let (first, second) = (bandy("rpc serve -l :0 a=cat").starts(), bandy("rpc serve -l :0 b=cat").starts());
    let both = format!("rpc top --once -o '%{{endpoint}} %{{method}}' -e {} -e {}", first.url, second.url);
    let out = bandy(&both).runs().exits(0).out();
    let expected =
        [(&first.url, "a"), (&second.url, "b")].map(|(url, name)| format!("{url} bandy.Functions/{name}\n"));
    assert_eq!(out, expected.concat());
    bandy(&format!("rpc top --once -o '%{{method}}' -e {} -e :1", first.url))
        .runs()
        .complains("cannot reach grpc://127.0.0.1:1 ")
        .exits(7);
    bandy("rpc top --once -e :1 -e :2").runs().exits(3).complains("cannot reach");
    // A list of addresses is a registry.
    let list = format!("list:{},{}", authority(&first.url), authority(&second.url));
    bandy(&format!("rpc top --once -o '%{{method}}' -e {list}"))
        .runs()
        .prints("bandy.Functions/a\nbandy.Functions/b\n");
}

#[test]
fn without_an_address_all_servers_of_the_user_are_shown() {
    let home = Home::new();
    bandy("rpc top --once").home(&home).runs().exits(3).complains("nothing listens at local:");
    let _a = bandy("rpc serve -l :0 a=cat").home(&home).starts();
    let _b = bandy("rpc serve -l :0 b=cat").home(&home).starts();
    let out = bandy("rpc top --once -o %{method}").home(&home).runs().exits(0).out();
    assert_eq!(out, "bandy.Functions/a\nbandy.Functions/b\n");
}

#[test]
fn a_server_that_does_not_count_is_seen_from_outside() {
    let server = bandy("rpc serve -l :0 upper='tr a-z A-Z' --no-reflection").starts();
    let ran =
        bandy("rpc top --once --json").endpoint(&server).runs().complains("no counters from this server");
    let rows = rows(ran.complains("no reflection"));
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["method"], &rows[0]["health"]), (&Value::Null, &"SERVING".into()));
    assert_eq!((&rows[0]["rate"], &rows[0]["calls"]), (&Value::Null, &Value::Null));
    assert!(rows[0]["round_trip"].as_f64().unwrap() > 0.0);
    // Nothing here is a server of RPC.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    bandy(&format!("rpc top --once -e grpc://{at}")).runs().exits(3);
}

#[test]
fn the_service_is_described_but_not_listed() {
    let server = bandy("rpc serve -l :0 upper='tr a-z A-Z'").starts();
    let listed = bandy("rpc ls").endpoint(&server).runs().exits(0).out();
    assert!(!listed.contains("Stats"), "{listed}");
    bandy("rpc call bandy.Stats/Get -o json").endpoint(&server).runs().shows("boundsNs");
    bandy("rpc info bandy.Stats").endpoint(&server).runs().shows("rpc Get(");
    bandy("rpc info bandy.Stats/Get").endpoint(&server).runs().shows("rpc Get(");
}

#[test]
fn wrong_words_are_explained() {
    bandy("rpc top -i 1ms").runs().exits(2).complains("at least 10ms");
    bandy("rpc top --once -n 3").runs().exits(2);
    bandy("rpc serve -l :0 --top").runs().exits(2).complains("--top needs a terminal");
    bandy("rpc serve -l :0 --top -b").runs().exits(2);
}

#[test]
fn the_live_view_answers_keys_sizes_and_the_end_of_its_server() {
    let server = called();
    let words = format!("rpc top -e {} -i 100ms", server.url);
    let mut terminal = Terminal::run(&words, &server.home, (80, 24), &[]);
    let screen = terminal.shows_text("demo.Greeter/Hello");
    assert!(screen.contains(&format!("rpc · top  {}", server.url)) && screen.contains("conns 1"), "{screen}");
    assert!(screen.contains("RATE▼") && screen.contains("METHOD"), "{screen}");
    bandy("rpc call demo.Greeter/Hello name=Bob").endpoint(&server).runs().exits(0);
    let updated = |screen: &str| {
        let hello = screen.lines().find(|line| line.contains("demo.Greeter/Hello"));
        hello.is_some_and(|line| line.trim_end_matches(['│', ' ']).ends_with(" 4"))
    };
    terminal.shows("the fourth call", updated);
    terminal.types("?");
    terminal.shows_text("order by the next column");
    terminal.types("?e");
    terminal.shows_text("ERRORS▼");
    terminal.types("\u{1b}[B");
    terminal.shows_text("demo.Calc/Divide  INVALID_ARGUMENT 2");
    terminal.resizes((120, 30));
    terminal.shows("the word for health", |screen| screen.contains("HEALTH") && screen.contains("SERVING"));
    terminal.resizes((40, 8));
    terminal.shows_text("this terminal has 40x8 cells");
    terminal.resizes((80, 24));
    terminal.shows_text("demo.Greeter/Hello");
    terminal.types(" ");
    terminal.shows_text("[paused]");
    terminal.types(" ");
    let at = authority(&server.url).to_owned();
    let home = server.home.clone();
    drop(server);
    terminal.shows_text("cannot reach");
    // Another life of the server, at the same place.
    let _again = bandy(&format!("rpc serve -l {at} again=cat")).home(&home).starts();
    terminal.shows_text("bandy.Functions/again");
    terminal.types("q");
    let (code, screen) = terminal.ends();
    assert_eq!((code, screen.trim()), (0, ""));
}

#[test]
fn the_live_view_ends_by_itself_or_by_the_signal() {
    let server = bandy("rpc serve -l :0 upper='tr a-z A-Z'").starts();
    let open = |more: &str, variables: &[(&str, &str)]| {
        let terminal =
            Terminal::run(&format!("rpc top -e {} {more}", server.url), &server.home, (80, 24), variables);
        terminal.shows_text("upper");
        terminal
    };
    assert_eq!(open("-n 3 -i 50ms", &[]).ends().0, 0);
    assert_eq!(open("--for 300ms", &[]).ends().0, 0);
    let mut interrupted = open("", &[]);
    interrupted.types("\u{3}");
    assert_eq!(interrupted.ends().0, 130);
    let terminated = open("", &[]);
    let id = Pid::from_raw(i32::try_from(terminated.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    assert_eq!(terminated.ends().0, 143);
    let plain = open("--ascii -n 2 -i 50ms", &[("NO_COLOR", "1")]);
    let written = plain.written();
    assert!(written.is_ascii() && !written.contains("\u{1b}[38;5;"), "{written:?}");
    assert_eq!(plain.ends().0, 0);
    assert!(open("-n 2 -i 50ms", &[]).written().contains("\u{1b}[38;5;"));
}

#[test]
fn a_server_shows_its_own_calls_in_its_terminal() {
    let home = Home::new();
    let url_file = home.path("url");
    let words = format!("rpc serve -l :0 upper='tr a-z A-Z' --top --url-file {}", url_file.display());
    let mut terminal = Terminal::run(&words, &home, (100, 24), &[]);
    let screen = terminal.shows_text("q stop the server");
    let url = std::fs::read_to_string(url_file).unwrap();
    assert!(screen.contains(url.trim()) && screen.contains("bandy.Functions/upper"), "{screen}");
    // The ready line came before the picture.
    let written = terminal.written();
    assert!(written.find(url.trim()) < written.find("\u{1b}[?1049h"), "{written:?}");
    bandy(&format!("rpc call -e {} upper x", url.trim())).home(&home).runs().prints("X\n");
    terminal.shows("the call", |screen| {
        let row = screen.lines().find(|line| line.contains("Functions/upper"));
        row.is_some_and(|line| line.trim_end_matches(['│', ' ']).ends_with(" 1"))
    });
    terminal.types("q");
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(url.trim()), "{screen}");
}

#[test]
fn an_acknowledgement_that_nobody_asked_for_is_no_news() {
    // With -vv it is told, so that this test sees that it happens.
    for (more, told) in [("", false), ("-vv", true)] {
        let server = bandy(&format!("rpc serve -l :0 upper=cat {more}")).starts();
        let mut stream = TcpStream::connect(authority(&server.url)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // RFC 9113: the preface, empty SETTINGS, a PING that is an ACK, and one that wants an answer.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        stream.write_all(b"\0\0\x08\x06\x01\0\0\0\0strayack\0\0\x08\x06\0\0\0\0\0ourprobe").unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.windows(8).any(|window| window == b"ourprobe") {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..count]);
        }
        drop(stream);
        server.signal(Signal::TERM);
        let ran = server.ends().exits(0);
        assert_eq!(ran.err().to_lowercase().contains("warn"), told, "{}", ran.err());
    }
}

#[test]
fn the_status_counts_connections_and_not_listeners() {
    let server = bandy("rpc serve -l :0 -l local: upper='tr a-z A-Z'").starts();
    let client = TcpStream::connect(authority(&server.url)).unwrap();
    (&client).write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // It is counted once it has answered.
    (&client).read_exact(&mut [0; 9]).unwrap();
    server.signal(Signal::USR1);
    server.says("connections 1 of");
}

#[test]
fn servers_of_with_say_nothing_when_they_stop() {
    // A call that runs when the command ends: without one there is nothing to wait for.
    let script = r#"bandy with rpc -- sh -c 'mkfifo "$BANDY_HOME/ticks"; bandy rpc call Clock/Ticks > "$BANDY_HOME/ticks" &
        read tick < "$BANDY_HOME/ticks"; exit 3'"#;
    let ran = shell("bash", script).runs().exits(3);
    assert!(!ran.err().contains("stopping"), "{}", ran.err());
}

#[test]
fn the_columns_of_a_trace_stay_in_line_when_it_takes_long() {
    let server = bandy("rpc serve -l :0 --delay 15ms").starts();
    let text = bandy("rpc call demo.Greeter/Hello name=Ada --trace").endpoint(&server).runs().exits(0).out();
    // Where a time ends on the left side, and on the right.
    let end = |line: &str, from: usize, to: usize| {
        let letters: Vec<char> = line.chars().take(to).skip(from).collect();
        letters.windows(4).position(|part| part == [' ', 'm', 's', ' '])
    };
    for (from, to, count) in [(0, 40, 7), (40, 200, 4)] {
        let columns: Vec<usize> = text.lines().filter_map(|line| end(line, from, to)).collect();
        assert!(columns.len() == count && columns.iter().all(|at| *at == columns[0]), "{columns:?}\n{text}");
    }
}

#[test]
fn a_trace_fits_a_narrow_terminal_one_stage_below_the_other() {
    let server = bandy("rpc serve -l :0").starts();
    let trace = |columns: &str| {
        let call = bandy("rpc call demo.Greeter/Hello name=Ada --trace --color never");
        call.env("BANDY_FORCE_TTY", columns).endpoint(&server).runs().exits(0).out()
    };
    let narrow = trace("80");
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    let sides = |side: &str| narrow.lines().filter(|line| line.starts_with(&format!(" {side} "))).count();
    assert_eq!((sides("client"), sides("server")), (7, 4), "{narrow}");
    assert!(trace("200").contains("▶"), "there is room for both side by side");
}
