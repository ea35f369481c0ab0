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
