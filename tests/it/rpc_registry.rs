//! Servers that register, callers that find them, and `rpc registry` between the two.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{DEADLINE, Home, Ran, Running, bandy, until};

const SERVICE: &str = "bandy.Functions";

fn registry() -> Running {
    let registry = bandy("rpc registry -l :0").starts();
    assert!(registry.url.starts_with("consul://127.0.0.1:"), "{}", registry.url);
    registry
}

/// A server whose function `who` answers with `name`.
fn server(name: &str, registry: &str) -> Running {
    bandy(&format!("rpc serve -l :0 who='echo {name}' --register {registry}")).starts()
}

/// Calls `who` at whatever the registry knows.
fn call(registry: &str, flags: &str) -> Ran {
    bandy(&format!("rpc call -e {registry} {flags} {SERVICE}/who")).runs()
}

/// Asks the registry as any HTTP client would: the index of the answer, and the answer.
fn get(registry: &Running, path: &str) -> (u64, Value) {
    let mut stream = TcpStream::connect(registry.url.strip_prefix("consul://").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let index = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-consul-index: ")?.parse().ok());
    (index.unwrap_or(0), serde_json::from_str(body).unwrap())
}

/// Registers what listens at a port as another instance.
fn enter(registry: &Running, port: u16) {
    let entry = serde_json::json!({
        "ID": "broken", "Name": SERVICE, "Address": "127.0.0.1", "Port": port, "Meta": {"scheme": "grpc"}
    });
    let (entry, place) = (entry.to_string(), registry.url.strip_prefix("consul://").unwrap());
    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = entry.len();
    write!(stream, "PUT /v1/agent/service/register HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n")
        .unwrap();
    write!(stream, "content-length: {length}\r\n\r\n{entry}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Waits, by queries that the registry holds until something changes, until so many instances are healthy.
#[track_caller]
fn healthy(registry: &Running, count: usize) -> Value {
    let path = format!("/v1/health/service/{SERVICE}?passing");
    let (mut index, mut found) = get(registry, &path);
    while found.as_array().unwrap().len() != count {
        let before = index;
        (index, found) = get(registry, &format!("{path}&index={index}&wait=30s"));
        assert_ne!(index, before, "nothing changed any more: {found}");
    }
    found
}

#[test]
fn a_server_is_found_until_it_stops() {
    let registry = registry();
    let url = registry.url.clone();
    call(&url, "").exits(5).complains("no healthy instance of bandy.Functions");
    let server = server("ada", &url);
    call(&url, "").prints("ada\n");
    // In one word, too.
    bandy(&format!("rpc call {url}/{SERVICE}/who")).runs().exits(0).prints("ada\n");
    bandy(&format!("rpc call {url}/{SERVICE}/who?dc=dc1")).runs().exits(0).prints("ada\n");
    bandy(&format!("rpc call {url}/who")).runs().exits(2).complains("names no method");
    let entry = &healthy(&registry, 1)[0]["Service"];
    let (_, port) = server.url.rsplit_once(':').unwrap();
    assert_eq!((&entry["Address"], entry["Port"].to_string()), (&"127.0.0.1".into(), port.to_owned()));
    server.signal(Signal::TERM);
    server.ends().exits(0);
    // Deregistered, not merely unhealthy.
    call(&url, "").exits(5).complains("no healthy instance of bandy.Functions at").complains(&url);
    assert_eq!(get(&registry, &format!("/v1/health/service/{SERVICE}")).1, Value::Array(Vec::new()));
}

#[test]
fn who_ends_after_it_was_found_is_passed_over() {
    let registry = registry();
    let _server = server("ada", &registry.url);
    // It can be reached, and is gone as soon as it is asked something.
    let broken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    enter(&registry, broken.local_addr().unwrap().port());
    std::thread::spawn(move || broken.incoming().for_each(drop));
    healthy(&registry, 2);
    for _ in 0..20 {
        call(&registry.url, "").exits(0).prints("ada\n");
    }
}

#[test]
fn instances_take_turns() {
    let registry = registry();
    let _servers = [server("ada", &registry.url), server("bob", &registry.url)];
    let words = format!("rpc call -e {} --each {SERVICE}/who", registry.url);
    let text = bandy(&words).stdin("\"x\"\n".repeat(6)).runs().exits(0).out();
    let answers: Vec<&str> = text.lines().collect();
    let turns = [["ada", "bob"].repeat(3), ["bob", "ada"].repeat(3)];
    assert!(turns.contains(&answers), "{answers:?}");
}

#[test]
fn a_bench_spreads_over_all_instances_and_follows_them() {
    let registry = registry();
    let home = Home::new();
    let count = |name: &str| {
        let file = home.path(name);
        let words = format!(
            "rpc serve -l :0 who='sh -c \"echo x >>{}\"' --register {}",
            file.display(),
            registry.url
        );
        bandy(&words).home(&home).starts()
    };
    let calls = |name: &str| std::fs::read_to_string(home.path(name)).unwrap_or_default().lines().count();
    let (_ada, _bob) = (count("ada"), count("bob"));
    healthy(&registry, 2);
    let bench = |words: &str| bandy(&format!("rpc bench --json -e {} {SERVICE}/who x {words}", registry.url));
    bench("-n 40 -c 2").runs().exits(0).shows("\"errors\":0");
    assert_eq!((calls("ada"), calls("bob")), (20, 20));
    // One that comes while it runs gets its share.
    let running = bench("--for 60s -c 2 --rate 50").spawns();
    let _eve = count("eve");
    until("the new instance is called", || calls("eve") > 0);
    running.signal(Signal::INT);
    let _ = running.ends();
}

#[test]
fn many_calls_go_on_with_the_instances_that_come_and_go() {
    let registry = registry();
    let first = server("first", &registry.url);
    let words = format!("rpc call -e {} --each {SERVICE}/who", registry.url);
    let mut each = bandy(&words).spawns();
    each.writes("x\n");
    assert_eq!(each.line(), "first");
    let second = server("second", &registry.url);
    first.signal(Signal::TERM);
    first.ends().exits(0);
    // It had never heard of it when it began.
    each.writes("x\n");
    let answer = each.line();
    assert_eq!(answer, "second");
    second.signal(Signal::KILL);
    let _ = second.ends().dies_by(Signal::KILL);
    each.writes("x\n");
    let ran = each.ends().exits(7);
    ran.complains("line 3");
}

#[test]
fn a_stream_is_opened_where_somebody_is_there() {
    let registry = registry();
    let words = format!("rpc serve -l :0 --register {}", registry.url);
    let dead = bandy(&words).starts();
    let _alive = bandy(&words).starts();
    dead.signal(Signal::KILL);
    let _ = dead.ends().dies_by(Signal::KILL);
    for _ in 0..4 {
        let call = format!("rpc call -e {} demo.Clock/Ticks -n 2 interval_ms=1 -o %n", registry.url);
        bandy(&call).runs().prints("1\n2\n");
        let sum = format!("rpc call -e {} demo.Calc/Sum", registry.url);
        bandy(&sum).stdin("{\"value\":1}\n").runs().exits(0).shows("\"sum\":1");
    }
}

#[test]
fn the_instance_that_fails_is_named() {
    let registry = registry();
    let fails = |name: &str| {
        let words =
            format!("rpc serve -l :0 who='sh -c \"echo {name} >&2; exit 70\"' --register {}", registry.url);
        bandy(&words).starts()
    };
    let (ada, bob) = (fails("ada"), fails("bob"));
    healthy(&registry, 2);
    for _ in 0..4 {
        let words = format!("rpc call -e {} --each {SERVICE}/who", registry.url);
        let error = bandy(&words).stdin("x\n").runs().err();
        let url = if error.contains("ada") { &ada.url } else { &bob.url };
        assert!(error.contains(url.as_str()), "{url} is not in {error}");
    }
}

#[test]
fn a_listener_at_every_address_is_registered_at_one() {
    let registry = registry();
    let words = format!("rpc serve -l 0.0.0.0:0 who='echo ada' --register {}", registry.url);
    let _server = bandy(&words).starts();
    let address = healthy(&registry, 1)[0]["Service"]["Address"].as_str().unwrap().to_owned();
    let ip: std::net::IpAddr = address.parse().unwrap();
    assert!(!ip.is_unspecified(), "{address}");
    let called = bandy(&format!("rpc call -e {} {SERVICE}/who", registry.url)).runs();
    // Without a scheme off this machine TLS would be spoken: a registered URL has one.
    called.prints("ada\n");
}

#[test]
fn all_servers_of_this_machine_are_listed() {
    let home = Home::new();
    let _one = bandy("rpc serve -l :0 ada=date --name one").home(&home).starts();
    bandy("rpc ls Functions").home(&home).runs().shows("ada");
    let _two = bandy("rpc serve -l :0 bob=date --name two").home(&home).starts();
    let listed = bandy("rpc ls Functions").home(&home).runs().exits(0).out();
    assert!(listed.contains("ada") && listed.contains("bob"), "{listed}");
    bandy("rpc ls --json Functions").home(&home).runs().shows("\"server\":");
    bandy("rpc ls Nothing").home(&home).runs().exits(5).complains("no service 'Nothing'");
}

#[test]
fn an_instance_that_cannot_be_reached_is_passed_over() {
    let registry = registry();
    // The entry of the one that was killed is still there, and healthy as far as anybody knows.
    let dead = server("dead", &registry.url);
    let _alive = server("alive", &registry.url);
    dead.signal(Signal::KILL);
    let _ = dead.ends().dies_by(Signal::KILL);
    healthy(&registry, 2);
    for _ in 0..6 {
        call(&registry.url, "").prints("alive\n");
    }
    let words = format!("rpc call -e {} --each {SERVICE}/who", registry.url);
    bandy(&words).stdin("\"x\"\n".repeat(4)).runs().prints(&"alive\n".repeat(4));
}

#[test]
fn every_service_of_a_server_is_registered_once() {
    let registry = registry();
    let _server = bandy(&format!("rpc serve -l :0 --register {}", registry.url)).starts();
    let (_, services) = get(&registry, "/v1/catalog/services");
    let names: Vec<&String> = services.as_object().unwrap().keys().filter(|name| *name != "consul").collect();
    assert_eq!(names, ["demo.Account", "demo.Calc", "demo.Chat", "demo.Clock", "demo.Echo", "demo.Greeter"]);
    let words = format!("rpc call -e {} demo.Greeter/Hello name=Ada", registry.url);
    bandy(&words).runs().exits(0).shows("Ada");
}

#[test]
fn a_server_can_be_registered_under_another_name_and_address() {
    let registry = registry();
    let named = "--service-name shouting --advertise grpc://10.1.2.3:4";
    let _server = bandy(&format!("rpc serve -l :0 who=date --register {} {named}", registry.url)).starts();
    let (_, found) = get(&registry, "/v1/health/service/shouting?passing");
    let service = &found[0]["Service"];
    assert_eq!((&service["Address"], &service["Port"]), (&"10.1.2.3".into(), &4.into()), "{found}");
}

#[test]
fn what_was_killed_lapses() {
    let registry = registry();
    let (url, mortal) = (registry.url.clone(), format!("{}?ttl=1s", registry.url));
    let victim = server("victim", &mortal);
    let _survivor = server("survivor", &mortal);
    healthy(&registry, 2);
    victim.signal(Signal::KILL);
    let _ = victim.ends().dies_by(Signal::KILL);
    healthy(&registry, 1);
    for _ in 0..4 {
        call(&url, "").prints("survivor\n");
    }
}

#[test]
fn the_last_instance_that_lapsed_is_counted_in_the_error() {
    let registry = registry();
    let server = server("ada", &format!("{}?ttl=1s", registry.url));
    server.signal(Signal::KILL);
    let _ = server.ends().dies_by(Signal::KILL);
    healthy(&registry, 0);
    call(&registry.url, "").exits(5).complains("(1 unhealthy)");
}

#[test]
fn a_registry_that_was_restarted_is_told_again() {
    let first = registry();
    let address = first.url.strip_prefix("consul://").unwrap().to_owned();
    let _server = server("ada", &format!("{}?ttl=1s", first.url));
    healthy(&first, 1);
    first.signal(Signal::KILL);
    let _ = first.ends().dies_by(Signal::KILL);
    call(&format!("consul://{address}"), "").exits(3).complains("cannot reach the registry");
    let second = bandy(&format!("rpc registry -l {address}")).starts();
    healthy(&second, 1);
    call(&second.url, "").prints("ada\n");
}

#[test]
fn a_token_is_asked_for() {
    let home = Home::new();
    let token = home.file("token", "hush-hush\n");
    let registry = bandy(&format!("rpc registry -l :0 --token-file {}", token.display())).starts();
    let bare = registry.url.clone();
    let url = format!("{bare}?token-file={}", token.display());
    let refused = bandy(&format!("rpc serve -l :0 who=date --register {bare}")).runs().exits(4);
    assert!(!refused.err().contains("hush-hush"));
    let _server = server("ada", &url);
    call(&bare, "").exits(4).complains("Permission denied");
    call(&url, "").prints("ada\n");
}

#[test]
fn a_registry_speaks_tls() {
    let home = Home::new();
    let keys = home.path("keys");
    let registry =
        bandy(&format!("rpc registry -l :0 --tls-self-signed={}", keys.display())).home(&home).starts();
    assert!(registry.url.starts_with("consuls://127.0.0.1:"), "{}", registry.url);
    let url = format!("{}?cacert={}", registry.url, keys.join("cert.pem").display());
    let _server = server("ada", &url);
    call(&url, "").prints("ada\n");
    call(&registry.url, "").exits(3).complains("certificate");
}

#[test]
fn a_registry_is_a_server_like_the_others() {
    let home = Home::new();
    let file = home.path("url");
    let registry = bandy(&format!("rpc registry -l :0 --url-file {}", file.display())).home(&home).starts();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", registry.url));
    let port = registry.url.rsplit_once(':').unwrap().1;
    bandy(&format!("rpc registry -l :{port}")).runs().exits(1).complains("-l :0");
    registry.signal(Signal::USR1);
    registry.says("accepted 0");
    registry.signal(Signal::TERM);
    registry.ends().exits(0);
    assert!(!file.exists());
    bandy("rpc registry -l udp::0").runs().exits(2);
    bandy("rpc registry --name x").runs().exits(2).complains("no local: name");
}

#[test]
fn a_waiting_query_does_not_delay_a_stop() {
    let registry = bandy("rpc registry -l :0 --grace 5m").starts();
    let (index, _) = get(&registry, &format!("/v1/health/service/{SERVICE}"));
    let address = registry.url.strip_prefix("consul://").unwrap();
    let mut waiting = TcpStream::connect(address).unwrap();
    let query = format!("/v1/health/service/{SERVICE}?index={index}&wait=5m");
    write!(waiting, "GET {query} HTTP/1.1\r\nhost: r\r\n\r\n").unwrap();
    until("the query is accepted", || {
        registry.signal(Signal::USR1);
        registry.stderr().contains("accepted 2")
    });
    registry.signal(Signal::TERM);
    // Long before the grace is over.
    registry.ends().exits(0);
}
