//! Registries: Consul itself, Consul's clients against ours, and a DNS server's SRV records.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bandy::rpc::registry::{Error, Instance, Registration, Registry, Watch};
use bandy::shutdown::Shutdown;

use crate::support::bandy;

/// A peer that is killed at the end of its test.
pub struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a peer and waits until its log says that it is ready.
#[track_caller]
fn start(command: &mut Command, ready: &str) -> Peer {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    loop {
        match log.next() {
            Some(Ok(line)) if line.contains(ready) => break,
            Some(Ok(line)) => seen.push(line),
            Some(Err(_)) | None => panic!("{command:?} ended before it was ready:\n{}", seen.join("\n")),
        }
    }
    // Keep reading, so that the peer never waits for us.
    std::thread::spawn(move || log.for_each(drop));
    Peer(child)
}

/// A port that is free for TCP and UDP now.
fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Consul {
    _peer: Peer,
    http: u16,
    dns: u16,
}

impl Consul {
    #[track_caller]
    fn start(extra: &str) -> Self {
        let [http, dns, server, serf] = [(); 4].map(|()| free_port());
        let ports = format!(
            "ports {{ http = {http} dns = {dns} server = {server} serf_lan = {serf} serf_wan = -1 grpc = -1 }} {extra}"
        );
        let mut command = Command::new("consul");
        let peer = start(command.args(["agent", "-dev", "-hcl", &ports]), "Synced node info");
        Self { _peer: peer, http, dns }
    }

    fn url(&self) -> String {
        format!("consul://127.0.0.1:{}", self.http)
    }
}

fn open(url: &str) -> Registry {
    Registry::open(&url.parse().unwrap(), Path::new("/nonexistent")).unwrap()
}

fn registration(port: u16) -> Registration {
    Registration {
        service: "greeter".to_owned(),
        url: format!("grpc://127.0.0.1:{port}"),
        tags: vec!["v1".to_owned()],
        methods: Vec::new(),
    }
}

fn urls(instances: &[Instance]) -> Vec<&str> {
    let mut urls: Vec<&str> = instances.iter().map(|instance| instance.url.as_str()).collect();
    urls.sort_unstable();
    urls
}

fn watch(url: &str) -> Watch {
    Watch::new(open(url), Some("greeter".to_owned()))
}

async fn until(watch: &mut Watch, expected: &[&str]) {
    let waiting = async { while urls(&watch.changed().await.unwrap()) != expected {} };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test]
#[ignore = "needs consul"]
async fn servers_register_with_consul_and_are_found() {
    let consul = Consul::start("");
    let url = consul.url();
    let mut watch = watch(&url);
    assert_eq!(watch.changed().await.unwrap(), []);
    let (one, two) = (Shutdown::new(), Shutdown::new());
    let _first = open(&url).register(registration(1), &one).await.unwrap();
    until(&mut watch, &["grpc://127.0.0.1:1"]).await;
    let _second = open(&url).register(registration(2), &two).await.unwrap();
    until(&mut watch, &["grpc://127.0.0.1:1", "grpc://127.0.0.1:2"]).await;
    let tagged = |tag: &str| open(&format!("{url}/greeter?tag={tag}"));
    assert_eq!(tagged("v1").resolve(None).await.unwrap().len(), 2);
    assert!(matches!(tagged("v2").resolve(None).await, Err(Error::NotFound { .. })));
    // Consul's own DNS tells the same.
    let dns = open(&format!("srv:_greeter._tcp.service.consul?server=127.0.0.1:{}", consul.dns));
    assert_eq!(urls(&dns.resolve(None).await.unwrap()), ["grpc://127.0.0.1:1", "grpc://127.0.0.1:2"]);
    assert!(one.finish(Duration::from_secs(10)).await);
    until(&mut watch, &["grpc://127.0.0.1:2"]).await;
    assert!(two.finish(Duration::from_secs(10)).await);
    until(&mut watch, &[]).await;
}

#[tokio::test]
#[ignore = "needs consul"]
async fn an_entry_that_consul_forgot_comes_back() {
    let consul = Consul::start("");
    let life = Shutdown::new();
    let _lease = open(&consul.url()).register(registration(1), &life).await.unwrap();
    let mut watch = watch(&consul.url());
    until(&mut watch, &["grpc://127.0.0.1:1"]).await;
    let deregister = Command::new("consul")
        .args(["services", "deregister", "-id=greeter@127.0.0.1:1"])
        .arg(format!("-http-addr=127.0.0.1:{}", consul.http))
        .output()
        .unwrap();
    assert!(deregister.status.success(), "{}", String::from_utf8_lossy(&deregister.stderr));
    until(&mut watch, &[]).await;
    until(&mut watch, &["grpc://127.0.0.1:1"]).await;
}

#[tokio::test]
#[ignore = "needs consul"]
async fn an_entry_that_nobody_renews_lapses() {
    let consul = Consul::start("");
    let url = consul.url();
    let mut watch = watch(&url);
    // A runtime that is thrown away takes its tasks with it, as kill -9 does.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let life = Shutdown::new();
        std::mem::forget(runtime.block_on(open(&url).register(registration(1), &life)).unwrap());
    })
    .join()
    .unwrap();
    until(&mut watch, &["grpc://127.0.0.1:1"]).await;
    until(&mut watch, &[]).await;
    let error = open(&consul.url()).resolve(Some("greeter")).await.unwrap_err();
    assert!(error.to_string().ends_with("(1 unhealthy)"), "{error}");
}

#[tokio::test]
#[ignore = "needs consul"]
async fn consul_wants_its_token() {
    let token = "8a4f0bd3-5b0e-4d2f-9a43-6f6a3a6e9d11";
    let acl = format!(
        "acl {{ enabled = true default_policy = \"deny\" tokens {{ initial_management = \"{token}\" agent = \"{token}\" }} }}"
    );
    let consul = Consul::start(&acl);
    let life = Shutdown::new();
    let denied = open(&consul.url()).register(registration(1), &life).await.unwrap_err();
    assert!(matches!(&denied, Error::Denied { why, .. } if why.starts_with("403")), "{denied}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    let url = format!("{}?token-file={}", consul.url(), file.path().display());
    let _lease = open(&url).register(registration(1), &life).await.unwrap();
    until(&mut watch(&url), &["grpc://127.0.0.1:1"]).await;
}

/// A name server that knows what `flags` of dnsmasq say about `.test`, and its port.
#[track_caller]
pub fn name_server(flags: &[String]) -> (Peer, u16) {
    let port = free_port();
    let mut command = Command::new("dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=/dev/stdout", "--pid-file="])
        .args([
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--local-ttl=1",
        ])
        .args(["--user=", "--local=/test/"])
        .args(flags)
        .arg(format!("--port={port}"));
    (start(&mut command, "started"), port)
}

#[tokio::test]
#[ignore = "needs dnsmasq"]
async fn srv_records_of_a_dns_server_are_followed() {
    let (_peer, port) = name_server(&[
        "--host-record=one.test,127.0.0.1,::1".to_owned(),
        "--host-record=two.test,127.0.0.2".to_owned(),
        "--srv-host=_grpc._tcp.greeter.test,one.test,5001,10,60".to_owned(),
        "--srv-host=_grpc._tcp.greeter.test,two.test,5002,20,40".to_owned(),
    ]);
    let srv = open(&format!("srv://greeter.test?server=127.0.0.1:{port}")).resolve(None).await.unwrap();
    assert_eq!(urls(&srv), ["grpc://127.0.0.1:5001", "grpc://127.0.0.2:5002", "grpc://[::1]:5001"]);
    let two = srv.iter().find(|instance| instance.url.contains("5002")).unwrap();
    assert_eq!((two.priority, two.weight, two.server_name.as_deref()), (20, 40, Some("two.test")));
    let addresses = open(&format!("dns://127.0.0.1:{port}/two.test:7")).resolve(None).await.unwrap();
    assert_eq!(urls(&addresses), ["grpc://127.0.0.2:7"]);
    for nothing in ["srv://nobody.test?server=127.0.0.1:", "dns:nobody.test:1?server=127.0.0.1:"] {
        let error = open(&format!("{nothing}{port}")).resolve(None).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
}

/// HOST and PORT behind `consul://`.
fn host_port(url: &str) -> (String, String) {
    let (host, port) = url.trim().strip_prefix("consul://").unwrap().rsplit_once(':').unwrap();
    (host.to_owned(), port.to_owned())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

#[track_caller]
fn says_ok(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
}

#[test]
#[ignore = "needs py-consul"]
fn py_consul_takes_our_registry_for_consul() {
    let registry = bandy("rpc registry -l :0").starts();
    let (host, port) = host_port(&registry.url);
    says_ok(Command::new("python3").arg(script("consul-client.py")).args([host, port]));
}

#[test]
#[ignore = "needs consul, py-consul"]
fn py_consul_expects_of_us_what_consul_does() {
    let consul = Consul::start("");
    says_ok(Command::new("python3").arg(script("consul-client.py")).args([
        "127.0.0.1",
        &consul.http.to_string(),
        "consul",
    ]));
}

#[test]
#[ignore = "needs go"]
fn consuls_go_client_takes_our_registry_for_consul() {
    let registry = bandy("rpc registry -l :0").starts();
    let (host, port) = host_port(&registry.url);
    says_ok(
        Command::new("go").args(["run", ".", &format!("{host}:{port}")]).current_dir(script("consul-go")),
    );
}

#[test]
#[ignore = "needs consul, go"]
fn consuls_go_client_expects_of_us_what_consul_does() {
    let consul = Consul::start("");
    let place = format!("127.0.0.1:{}", consul.http);
    says_ok(Command::new("go").args(["run", ".", &place]).current_dir(script("consul-go")));
}
