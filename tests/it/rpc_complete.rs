//! Completion in the shells themselves: methods and fields of a server that runs.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use crate::support::{DEADLINE, Home, Running, bandy, shell, until};

const SERVE: &str = "rpc serve -l :0 -l local:";

fn serve(home: &Home) -> Running {
    bandy(SERVE).home(home).starts()
}

/// What bash would offer for a line: its words as readline splits them.
fn bash(home: &Home, line: &str) -> String {
    let script = r#"
        source <(bandy completions bash)
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
        # As readline does it: at blanks, and at ':' and '='.
        COMP_WORDS=() word=
        for ((at = 0; at < ${#1}; at++)); do
            c=${1:at:1}
            case $c in
                ' ') [[ -n $word ]] && COMP_WORDS+=("$word"); word= ;;
                [:=]) [[ -n $word ]] && COMP_WORDS+=("$word"); COMP_WORDS+=("$c"); word= ;;
                *) word+=$c ;;
            esac
        done
        COMP_WORDS+=("$word")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _bandy bandy "$word" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    shell("bash", script).arg("bash").arg(line).home(home).runs().exits(0).out()
}

fn fish(home: &Home, line: &str) -> String {
    let script = "bandy completions fish | source; complete -C $argv[1]";
    let text = shell("fish", script).arg(line).home(home).runs().exits(0).out();
    // Each with its description.
    text.lines().map(|line| format!("{}\n", line.split('\t').next().unwrap())).collect()
}

/// Types a line and the tab key in zsh, and returns the line as zsh has it then.
fn zsh(home: &Home, line: &str, wanted: &str) -> String {
    let pair = native_pty_system()
        .openpty(PtySize { rows: 24, cols: 120, pixel_width: 0, pixel_height: 0 })
        .unwrap();
    let mut command = CommandBuilder::new("zsh");
    command.args(["-f", "-i"]);
    let bin = Path::new(env!("CARGO_BIN_EXE_bandy")).parent().unwrap();
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
    command.env("HOME", home.path(""));
    command.env("BANDY_HOME", home.path(""));
    command.env("TERM", "xterm");
    command.env("PS1", "");
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let (send, receive) = mpsc::channel();
    let mut reader = pair.master.try_clone_reader().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = reader.read(&mut buffer) {
            if send.send(buffer[..size].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut writer = pair.master.take_writer().unwrap();
    let mut terminal = vt100::Parser::new(24.try_into().unwrap(), 120.try_into().unwrap(), 0);
    let mut see = |text: &str| {
        let start = Instant::now();
        loop {
            let screen = terminal.screen().contents();
            if screen.contains(text) {
                return screen;
            }
            assert!(start.elapsed() < DEADLINE, "zsh never showed {text:?}:\n{screen}");
            if let Ok(bytes) = receive.recv_timeout(Duration::from_millis(100)) {
                terminal.process(&bytes);
            }
        }
    };
    let setup =
        "PS1='> '; autoload -U compinit; compinit -u -D; source <(bandy completions zsh); print rea''dy";
    writer.write_all(format!("{setup}\r").as_bytes()).unwrap();
    see("\nready");
    writer.write_all(format!("{line}\t").as_bytes()).unwrap();
    let screen = see(wanted);
    let _ = child.kill();
    let _ = child.wait();
    screen
}

#[test]
fn bash_completes_methods_and_fields() {
    let home = Home::new();
    let server = serve(&home);
    assert_eq!(bash(&home, "bandy rpc call Gre"), "Greeter/Hello\n");
    assert_eq!(bash(&home, "bandy rpc call demo.Greeter/"), "demo.Greeter/Hello\n");
    assert_eq!(bash(&home, "bandy rpc call Greeter/Hello na"), "name=\n");
    // A URL is one word to us and three to bash.
    let url = server.url.replace("grpc://127.0.0.1", "");
    assert_eq!(bash(&home, &format!("bandy rpc call -e {url} Gre")), "Greeter/Hello\n");
    assert_eq!(bash(&home, &format!("bandy rpc call -e {} Greeter/Hello n", server.url)), "name=\n");
    assert_eq!(bash(&home, "bandy rpc ls Gree"), "Greeter\n");
    assert_eq!(bash(&home, "bandy rpc call -e jsonrpc+t"), "jsonrpc+tcp://\n");
    assert!(bash(&home, "bandy rpc bench Calc/").contains("Calc/Sum"));
}

#[test]
#[ignore = "needs fish"]
fn fish_completes_methods_and_fields() {
    let home = Home::new();
    let server = serve(&home);
    assert_eq!(fish(&home, "bandy rpc call Gre"), "Greeter/Hello\n");
    assert_eq!(fish(&home, "bandy rpc call Greeter/Hello na"), "name=\n");
    assert_eq!(fish(&home, &format!("bandy rpc call -e {} Gre", server.url)), "Greeter/Hello\n");
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes_methods_and_fields() {
    let home = Home::new();
    let _server = serve(&home);
    zsh(&home, "bandy rpc call Gre", "call Greeter/Hello");
    zsh(&home, "bandy rpc call Greeter/Hello na", "Greeter/Hello name=");
}

/// Nodes n1 and n2, and a key.
fn cluster(home: &Home) -> [Running; 2] {
    let nodes = ["n1", "n2"].map(|name| {
        let words = format!("gossip join -l 127.0.0.1:0 --profile local --rpc none --name {name}");
        bandy(&words).home(home).starts()
    });
    bandy("gossip wait --members 2 --timeout 30s").home(home).runs().exits(0);
    bandy("gossip set limit 100").home(home).runs().exits(0);
    nodes
}

#[test]
fn bash_completes_members_and_keys() {
    let home = Home::new();
    let nodes = cluster(&home);
    for line in ["ls", "info", "ping", "leave", "query load --node", "event deploy --node"] {
        // A debug build on a busy machine may be over its budget once.
        until(line, || bash(&home, &format!("bandy gossip {line} n")) == "n1\nn2\n");
    }
    for verb in ["get", "set", "del", "keys"] {
        until(verb, || bash(&home, &format!("bandy gossip {verb} l")) == "limit\n");
    }
    until("another node", || bash(&home, "bandy gossip info -e local:n1 n") == "n1\nn2\n");
    drop(nodes);
    // Nobody there: nothing is said, and nothing is started.
    assert_eq!(bash(&home, "bandy gossip info n").trim(), "");
    assert_eq!(bash(&home, "bandy mq recv j").trim(), "");
    bandy("status").home(&home).runs().exits(0).prints("");
}

#[test]
fn bash_completes_words_that_are_known() {
    let home = Home::new();
    bandy("context add prod --mq amqp://h").home(&home).runs().exits(0);
    for (line, expected) in [
        ("log consume t -o ", "auto\ntable\nplain\nvalue\njson\ncsv\n"),
        ("mq ls -o j", "json\n"),
        ("mq ls --color a", "auto\nalways\n"),
        ("mq create jobs --type q", "quorum\n"),
        ("log consume t --from s", "start\n"),
        ("log consume t --to e", "end\n"),
        ("log seek -g g t --to e", "end\n"),
        ("gossip watch --event su", "suspect\n"),
        ("wait m", "mq\n"),
        ("wait amq", "amqp://\namqps://\n"),
        ("with l", "log\n"),
        ("up g", "gossip\n"),
        ("down r", "rpc\n"),
        ("context use p", "prod\n"),
        ("mq ls --context p", "prod\n"),
    ] {
        assert_eq!(bash(&home, &format!("bandy {line}")), expected, "{line}");
    }
}

#[test]
#[ignore = "needs fish"]
fn fish_completes_members_and_words() {
    let home = Home::new();
    let _nodes = cluster(&home);
    until("members", || fish(&home, "bandy gossip info n") == "n1\nn2\n");
    until("keys", || fish(&home, "bandy gossip get l") == "limit\n");
    assert_eq!(fish(&home, "bandy log consume t --from s"), "start\n");
    assert_eq!(fish(&home, "bandy wait m"), "mq\n");
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes_members_and_words() {
    let home = Home::new();
    let _nodes = cluster(&home);
    zsh(&home, "bandy gossip get l", "get limit");
    zsh(&home, "bandy log consume t --from s", "--from start");
    zsh(&home, "bandy with l", "with log");
}

#[test]
fn files_are_enough_and_silence_is_not_waited_for() {
    let home = Home::new();
    let proto = home.file(
        "a.proto",
        "syntax = \"proto3\"; package shop; message Order { string item = 1; repeated int32 sizes = 2; } \
         service Orders { rpc Place(Order) returns (Order); }",
    );
    let proto = proto.display();
    assert_eq!(bash(&home, &format!("bandy rpc call --proto {proto} Or")), "Orders/Place\n");
    assert_eq!(bash(&home, &format!("bandy rpc call --proto {proto} Orders/Place item=x si")), "sizes:=\n");
    // Connects, and hears nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let start = Instant::now();
    assert_eq!(bash(&home, &format!("bandy rpc call -e :{port} Gre")).trim(), "");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
