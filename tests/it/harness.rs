//! What every server command does the same: ready lines, files, background, signals, limits, metrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{CROWD, DEADLINE, Home, Running, bandy, shell, until};

const SERVE: &str = "rpc serve upper='tr a-z A-Z' -l :0";

/// RFC 9113, 3.4: the client's preface, and an empty SETTINGS frame.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, authority)| authority)
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(authority(&server.url)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Speaks HTTP/2 far enough that the server shows its settings.
fn greet(stream: &mut (impl Read + Write)) {
    stream.write_all(HTTP2_PREFACE).unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
}

/// A server whose one function never answers, and a client that waits for it: returns when the function runs.
fn busy(grace: &str) -> (Running, Running) {
    let home = Home::new();
    let begun = home.path("begun");
    let words = format!("rpc serve slow='echo > {}; exec sleep 1000' -l :0 --grace {grace}", begun.display());
    let server = bandy(&words).home(&home).starts();
    let client = bandy("rpc call slow x").endpoint(&server).spawns();
    until("the function runs", || begun.exists());
    (server, client)
}

#[test]
fn the_url_is_printed_once_ready_and_terminate_ends_with_0() {
    let server = bandy(SERVE).starts();
    assert!(server.url.starts_with("grpc://127.0.0.1:"), "{}", server.url);
    greet(&mut connect(&server));
    server.signal(Signal::TERM);
    let ran = server.ends();
    assert_eq!(ran.out(), "");
    ran.exits(0);
}

#[test]
fn a_server_that_waits_gives_back_the_pages_of_its_start() {
    let server = bandy(SERVE).starts();
    // In KiB.
    let pages_of_files = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let at_first = pages_of_files();
    until("half of them are gone", || pages_of_files() < at_first / 2);
    // And it still answers.
    bandy("rpc call upper hello").endpoint(&server).runs().prints("HELLO\n");
}

#[test]
fn interrupt_and_hangup_stop_as_well() {
    for signal in [Signal::INT, Signal::HUP] {
        let server = bandy(SERVE).starts();
        server.signal(signal);
        server.ends().exits(0);
    }
}

#[test]
fn a_call_in_progress_holds_the_stop_until_a_second_signal() {
    let (server, _client) = busy("1h");
    server.signal(Signal::INT);
    server.says("stopping… (again to force)");
    server.signal(Signal::INT);
    server.ends().exits(0);
}

#[test]
fn the_grace_ends_what_does_not_end_by_itself() {
    let (server, _client) = busy("100ms");
    server.signal(Signal::TERM);
    server.ends().complains("gave up waiting after 100ms").exits(0);
}

#[test]
fn the_url_file_is_there_when_ready_and_gone_at_the_end() {
    let home = Home::new();
    let (url, pid) = (home.path("url"), home.path("pid"));
    let words = format!("{SERVE} --url-file {} --pidfile {}", url.display(), pid.display());
    let server = bandy(&words).home(&home).starts();
    assert_eq!(std::fs::read_to_string(&url).unwrap(), format!("{}\n", server.url));
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), format!("{}\n", server.id()));
    bandy(&words).home(&home).runs().exits(1).complains("names a server that runs");
    server.signal(Signal::TERM);
    server.ends().exits(0);
    assert!(!url.exists() && !pid.exists());
}

#[test]
fn a_pidfile_of_a_server_that_is_ending_is_waited_for() {
    let home = Home::new();
    let words = format!("{SERVE} --pidfile {}", home.path("pid").display());
    let old = bandy(&words).home(&home).starts();
    let mut new = bandy(&words).home(&home).spawns();
    // Linux tells of which process a descriptor of a process is: proc_pid_fdinfo(5).
    let (seen, folder) = (format!("\nPid:\t{}\n", old.id()), format!("/proc/{}/fdinfo", new.id()));
    until("it waits for the end of the old one", || {
        let descriptors = std::fs::read_dir(&folder).unwrap().flatten();
        let mut texts = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts.any(|text| text.contains(&seen))
    });
    old.signal(Signal::KILL);
    let _ = old.ends().dies_by(Signal::KILL);
    assert!(new.line().starts_with("grpc://"));
    assert_eq!(std::fs::read_to_string(home.path("pid")).unwrap(), format!("{}\n", new.id()));
}

#[test]
fn the_ready_descriptor_gets_the_url_and_an_end() {
    // `cat` ends only if the server, which serves on, has closed the descriptor.
    let script = format!(
        "mkfifo fifo; {} 3>fifo >/dev/null & url=$(cat fifo); bandy wait \"$url\" && echo ready; kill $!; wait $!",
        format_args!("bandy {SERVE} --ready-fd 3")
    );
    for sh in ["bash", "dash"] {
        let home = Home::new();
        shell(sh, &script).folder(home.path("")).home(&home).runs().prints("ready\n");
    }
    bandy(&format!("{SERVE} --ready-fd 77")).runs().exits(2).complains("no such descriptor");
}

#[test]
fn in_the_background_the_parent_ends_when_the_child_is_ready() {
    let home = Home::new();
    let pid = home.path("pid");
    let ran =
        bandy(&format!("{SERVE} -b --pidfile {}", pid.display())).home(&home).runs().exits(0).silently();
    let url = ran.out().trim().to_owned();
    greet(&mut TcpStream::connect(authority(&url)).unwrap());
    let child: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    assert_eq!(rustix::process::getsid(Some(child)).unwrap(), child, "in a session of its own");
    // A terminal that goes away does not matter to it.
    rustix::process::kill_process(child, Signal::HUP).unwrap();
    greet(&mut TcpStream::connect(authority(&url)).unwrap());
    rustix::process::kill_process(child, Signal::TERM).unwrap();
    until("the pidfile is gone", || !pid.exists());
}

#[test]
fn in_the_background_a_child_that_fails_is_the_parents_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = bandy(&format!("rpc serve upper=cat -b -l :{port}")).runs().exits(1);
    ran.complains(&format!("cannot listen on 127.0.0.1:{port}"));
}

#[test]
fn a_taken_port_names_its_owner_and_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    bandy(&format!("rpc serve upper=cat -l :{port}"))
        .runs()
        .exits(1)
        .complains(&format!("(pid {})", std::process::id()))
        .complains("-l :0");
}

#[test]
fn a_second_server_of_one_name_is_refused_and_a_dead_ones_socket_replaced() {
    let home = Home::new();
    let words = "rpc serve upper=cat -l local:";
    let server = bandy(words).home(&home).starts();
    assert_eq!(server.url, "local:");
    greet(&mut UnixStream::connect(home.path("run/rpc/default.sock")).unwrap());
    let owner = format!("(pid {})", server.id());
    bandy(words).home(&home).runs().exits(1).complains("already at local:").complains(&owner);
    server.signal(Signal::KILL);
    server.ends().exits(137);
    assert!(home.path("run/rpc/default.sock").exists(), "what kill -9 leaves behind");
    let server = bandy(words).home(&home).starts();
    server.signal(Signal::TERM);
    server.ends().exits(0);
    assert!(!home.path("run/rpc/default.sock").exists());
}

#[test]
fn a_reader_of_the_url_that_goes_away_does_not_end_the_server() {
    let home = Home::new();
    let script = format!(
        "bandy {SERVE} --url-file url --pidfile pid | true & bandy wait --url-file url && kill $(cat pid) && echo served"
    );
    shell("bash", &script).folder(home.path("")).home(&home).runs().prints("served\n");
}

#[test]
fn the_status_is_one_signal_away() {
    let server = bandy(SERVE).starts();
    greet(&mut connect(&server));
    server.signal(Signal::USR1);
    server.says(&format!("pid {}  up 0 s", server.id()));
    server.says("accepted 1");
}

#[test]
fn metrics_are_a_page() {
    let server = bandy(&format!("{SERVE} --metrics :0")).starts();
    server.says("/metrics");
    let text = server.stderr();
    let at = text.lines().find_map(|line| line.strip_prefix("metrics at http://")).unwrap();
    let at = at.strip_suffix("/metrics").unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    greet(&mut connect(&server));
    let page = get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("\nbandy_connections_total 1\n"), "{page}");
    assert!(get("/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get("/other").starts_with("HTTP/1.1 404"));
}

#[test]
fn an_exposed_listener_is_warned_about() {
    let server = bandy("rpc serve upper=cat -l 0.0.0.0:0").starts();
    server.says("other machines reach this server");
    let server = bandy(SERVE).starts();
    greet(&mut connect(&server));
    assert!(!server.stderr().contains("other machines"));
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_more() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum }
    })
    .unwrap();
    let server = bandy(SERVE).starts();
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        let mut stream = connect(&server);
        stream.write_all(HTTP2_PREFACE).unwrap();
        idle.push(stream);
    }
    greet(&mut connect(&server));
    server.signal(Signal::USR1);
    server.says("connections 1000");
    drop(idle);
}

#[test]
fn silent_tls_clients_hold_nobody_up() {
    let home = Home::new();
    let words = format!("{SERVE} --tls-self-signed={}", home.path("tls").display());
    let server = bandy(&words).home(&home).starts();
    assert!(server.url.starts_with("grpcs://"), "{}", server.url);
    let silent: Vec<_> = (0..100).map(|_| connect(&server)).collect();
    let mut half = connect(&server);
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    bandy(&format!("wait {} --timeout 20s", server.url)).runs().exits(0);
    drop(silent);
}

#[test]
fn over_the_limit_of_connections_the_next_waits_for_its_turn() {
    let server = bandy(&format!("{SERVE} --max-connections 2")).starts();
    let mut first = connect(&server);
    greet(&mut first);
    let mut second = connect(&server);
    greet(&mut second);
    let mut third = connect(&server);
    third.write_all(HTTP2_PREFACE).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read(&mut [0; 9]).is_err(), "there is no room for a third");
    drop(first);
    third.set_read_timeout(Some(DEADLINE)).unwrap();
    third.read_exact(&mut [0; 9]).unwrap();
}

#[test]
fn without_descriptors_the_server_waits_and_recovers() {
    // 40 descriptors, of which the server needs some itself.
    let server = shell("bash", &format!("ulimit -n 40; exec bandy {SERVE}")).starts();
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(HTTP2_PREFACE).unwrap();
            stream
        })
        .collect();
    server.says("cannot accept");
    let before = cpu_ticks(server.id());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        std::thread::yield_now();
    }
    assert!(cpu_ticks(server.id()) - before < 20, "it spins instead of waiting");
    drop(crowd);
    greet(&mut connect(&server));
}

/// Hundredths of a second of CPU: fields 14 and 15 of proc(5).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn with_gives_a_command_servers_and_returns_its_code() {
    let home = Home::new();
    let script = "test -d \"$BANDY_HOME\" && bandy wait rpc && bandy wait \"grpc://$GRPC_ADDR\" && \
                  echo \"$BANDY_HOME\" && exit 42";
    let ran = shell("bash", &format!("bandy with rpc -- bash -c '{script}'")).home(&home).runs().exits(42);
    let used = ran.out().trim().to_owned();
    assert!(used.contains("bandy-with-"), "{used}");
    assert!(!Path::new(&used).exists(), "it is removed");
}

#[test]
fn with_log_gives_a_command_a_broker() {
    let script = "test \"kafka://$KAFKA_BROKERS\" = \"$BANDY_LOG_URL\" && test \"$BOOTSTRAP_SERVERS\" = \"$KAFKA_BROKERS\" && \
                  bandy wait log \"$BANDY_LOG_URL\" && seq 3 | bandy log produce numbers --create -q && bandy log consume numbers";
    shell("bash", &format!("bandy with log -- sh -c '{script}'")).runs().exits(0).prints("1\n2\n3\n");
}

#[test]
fn with_says_why_there_is_no_command() {
    bandy("with rpc -- /nowhere/cmd").runs().exits(127).complains("cannot run /nowhere/cmd");
    bandy("with rpc -- /etc/passwd").runs().exits(126).complains("cannot run /etc/passwd");
    bandy("with log=3 -- true").runs().exits(125).complains("a log of several nodes is not built yet");
    bandy("with nothing -- true").runs().exits(125).complains("'nothing' is not a server");
    bandy("with rpc=/nowhere.proto -- true").runs().exits(125).complains("did not start");
}

#[test]
fn with_forwards_signals_and_cleans_up() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let script = "trap 'exit 7' TERM INT HUP; echo $GRPC_ADDR $BANDY_HOME; while :; do sleep 0.05; done";
        let mut with = bandy("with rpc -- bash -c").arg(script).spawns();
        let line = with.line();
        let (address, home) = line.split_once(' ').unwrap();
        let (address, home) = (address.to_owned(), home.to_owned());
        with.signal(signal);
        with.ends().exits(7);
        assert!(TcpStream::connect(address).is_err(), "the server is gone");
        assert!(!Path::new(&home).exists());
    }
}

#[test]
fn with_that_is_killed_leaves_no_server_behind() {
    let mut with = bandy("with rpc -- bash -c").arg("echo $GRPC_ADDR; exec sleep 1000").spawns();
    let address = with.line();
    with.signal(Signal::KILL);
    until("the server is gone", || TcpStream::connect(&address).is_err());
}

#[test]
fn wait_is_for_the_protocol_and_not_for_the_port() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    bandy(&format!("wait :{port} --timeout 300ms")).runs().exits(124).complains("is not ready after 300ms");

    let liar = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = liar.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in liar.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = (&stream).write_all(b"220 mail.example.org ESMTP\r\n");
        }
    });
    bandy(&format!("wait :{port} --timeout 300ms")).runs().exits(124).complains("something else than HTTP");

    bandy("wait --url-file /nowhere/url --timeout 100ms")
        .runs()
        .exits(124)
        .complains("no URL in /nowhere/url");
    // An open port that says nothing is no server in any protocol.
    for scheme in ["tcp", "jsonrpc+tcp", "http", "amqp", "kafka"] {
        let mute = mute.local_addr().unwrap();
        bandy(&format!("wait {scheme}://{mute} --timeout 300ms")).runs().exits(124).complains("is not ready");
    }
    bandy("wait udp://:1 --timeout 300ms").runs().exits(124).complains("connection refused");
    bandy("wait jsonrpc+udp://:1 --timeout 300ms").runs().exits(124).complains("connection refused");
}

#[test]
fn every_url_of_a_server_can_be_waited_for() {
    let home = Home::new();
    let (file, socket) = (home.path("url"), home.path("s"));
    let words = format!(
        "rpc serve upper='tr a-z A-Z' -l :0 -l udp::0 -l unix:{} --url-file {}",
        socket.display(),
        file.display()
    );
    let mut server = bandy(&words).home(&home).starts();
    bandy(&format!("wait --url-file {} --timeout 20s", file.display())).home(&home).runs().exits(0);
    let (host, udp) = (authority(&server.url).to_owned(), server.line());
    for url in [
        format!("tcp://{host}"),
        format!("jsonrpc+tcp://{host}"),
        format!("jsonrpc+unix:{}", socket.display()),
        udp.clone(),
        udp.replace("udp:", "jsonrpc+udp:"),
    ] {
        bandy(&format!("wait {url} --timeout 20s")).home(&home).runs().exits(0);
    }
}

/// As RabbitMQ has 5672 and 5671, and Kafka a listener for each.
#[test]
fn ports_with_tls_and_without_stand_side_by_side() {
    let home = Home::new();
    let tls = format!("--tls-self-signed={}", home.path("tls").display());
    let trust = format!("--cacert {}", home.path("tls").join("cert.pem").display());
    let both = |words: &str, [plain, encrypted]: [&str; 2]| {
        let words = format!("{words} -l {plain}://127.0.0.1:0 -l {encrypted}://127.0.0.1:0 {tls}");
        let mut server = bandy(&words).home(&home).starts();
        let second = server.line();
        assert!(server.url.starts_with(&format!("{plain}://127.0.0.1:")), "{}", server.url);
        assert!(second.starts_with(&format!("{encrypted}://127.0.0.1:")), "{second}");
        (server, second)
    };
    let client = |words: String| bandy(&words).home(&home).runs();

    let (mut broker, second) = both("mq broker --memory --admin 127.0.0.1:0", ["amqp", "amqps"]);
    client(format!("mq send jobs in --create -e {second} {trust}")).exits(0);
    client(format!("mq recv jobs -e {}", broker.url)).exits(0).prints("in\n");
    client(format!("mq ls -e {}", broker.url.replace("amqp", "amqps"))).exits(3);
    let admin = broker.line();
    let mut socket = TcpStream::connect(admin.strip_prefix("http://").expect("without TLS")).unwrap();
    let request = "GET /api/overview HTTP/1.1\r\nhost: x\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
        connection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut told = String::new();
    socket.read_to_string(&mut told).unwrap();
    for (protocol, url) in [("amqp", &broker.url), ("amqp/ssl", &second)] {
        let (_, port) = url.rsplit_once(':').unwrap();
        let listed = told.split("\"listeners\":").nth(1).unwrap_or_default();
        let listed = listed.split('{').find(|one| one.contains(&format!("\"port\":{port}")));
        assert!(listed.is_some_and(|one| one.contains(&format!("\"{protocol}\""))), "{protocol}: {told}");
    }

    let (broker, second) = both("log broker --memory", ["kafka", "kafkas"]);
    client(format!("log create t -e {second} {trust}")).exits(0);
    let words = format!("log produce t -e {second} {trust}");
    bandy(&words).home(&home).stdin("hello\n").runs().exits(0);
    client(format!("log consume t -e {}", broker.url)).exits(0).prints("hello\n");

    let (server, second) = both("rpc serve --echo", ["grpc", "grpcs"]);
    client(format!("rpc ping -n 1 -e {}", server.url)).exits(0);
    client(format!("rpc ping -n 1 -e {second} {trust}")).exits(0);
}

#[test]
fn words_about_tls_that_contradict_each_other_are_refused() {
    for (words, complaint) in [
        ("mq broker --memory -l amqps://127.0.0.1:0", "-l amqps://127.0.0.1:0 needs a certificate"),
        ("log broker --memory -l :0 -l kafkas://127.0.0.1:0", "-l kafkas://127.0.0.1:0 needs a certificate"),
        (
            "mq broker --memory -l amqp://:0 --tls-self-signed",
            "a certificate has no use where every -l is amqp://, which speaks no TLS\n  tip: -l amqps://HOST:PORT",
        ),
    ] {
        bandy(words).runs().exits(2).complains(complaint);
    }
    // It may be for the management API alone.
    let mut server = bandy("mq broker --memory -l amqp://:0 --admin https://:0 --tls-self-signed").starts();
    assert!(server.url.starts_with("amqp://"), "{}", server.url);
    assert!(server.line().starts_with("https://"));
}
