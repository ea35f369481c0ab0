//! TLS with those who have it from elsewhere: OpenSSL's certificates and s_client, grpcio, curl.

use std::path::PathBuf;
use std::process::Command;

use crate::interop::peers::{script, succeeds};
use crate::interop::rabbitmq::RabbitMq;
use crate::support::{Cmd, Home, Running, bandy, command};

/// Two authorities that know nothing of each other, and certificates of the first, made by OpenSSL.
struct Certificates(Home);

impl Certificates {
    #[track_caller]
    fn new() -> Self {
        let made = Self(Home::new());
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        for name in ["ca", "other-ca"] {
            made.openssl(&[
                &["req", "-x509", "-days", "3650", "-subj", &format!("/CN={name}")][..],
                &key,
                &["-keyout", &made.path(&format!("{name}.key")), "-out", &made.path(&format!("{name}.pem"))],
            ]);
        }
        for (name, subject, names, authority, days) in [
            ("server", "/CN=server", "IP:127.0.0.1,DNS:localhost", "ca", "30"),
            ("elsewhere", "/CN=elsewhere", "DNS:elsewhere.example", "ca", "30"),
            ("one", "/CN=one", "DNS:one.test", "ca", "30"),
            ("two", "/CN=two", "DNS:two.test", "ca", "30"),
            ("expired", "/CN=expired", "IP:127.0.0.1", "ca", "-1"),
            ("ada", "/CN=ada", "DNS:ada", "ca", "30"),
            ("stranger", "/CN=stranger", "DNS:stranger", "other-ca", "30"),
        ] {
            let extensions = made.0.file(&format!("{name}.ext"), format!("subjectAltName={names}\n"));
            let [request, key_file, certificate] =
                ["csr", "key", "pem"].map(|extension| made.path(&format!("{name}.{extension}")));
            made.openssl(&[&["req", "-subj", subject][..], &key, &["-keyout", &key_file, "-out", &request]]);
            let (ca, ca_key) =
                (made.path(&format!("{authority}.pem")), made.path(&format!("{authority}.key")));
            made.openssl(&[
                &["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"][..],
                &["-extfile", extensions.to_str().unwrap(), "-days", days, "-out", &certificate],
            ]);
        }
        made
    }

    #[track_caller]
    fn openssl(&self, words: &[&[&str]]) {
        succeeds(Command::new("openssl").args(words.concat()));
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).to_str().unwrap().to_owned()
    }

    /// `CERT KEY` of a name.
    fn pair(&self, name: &str) -> [String; 2] {
        ["pem", "key"].map(|extension| self.path(&format!("{name}.{extension}")))
    }

    /// A grpcio server with this certificate.
    #[track_caller]
    fn grpcio(&self, name: &str, flags: &str) -> Running {
        let [certificate, key] = self.pair(name);
        script("grpcio_server.py").arg("--tls").arg(certificate).arg(key).with(flags).home(&self.0).starts()
    }

    /// `bandy rpc serve` with this certificate; returns its `HOST:PORT` as well.
    #[track_caller]
    fn serve(&self, name: &str, flags: &str) -> (Running, String) {
        let [certificate, key] = self.pair(name);
        let words = format!("rpc serve -l 127.0.0.1:0 --tls-cert {certificate} --tls-key {key} {flags}");
        let server = bandy(&words).home(&self.0).starts();
        let address = server.url.strip_prefix("grpcs://").expect("TLS").to_owned();
        (server, address)
    }

    fn ca(&self) -> String {
        format!("--cacert {}", self.path("ca.pem"))
    }
}

fn upper(server: &Running, flags: &str) -> Cmd {
    bandy(&format!("rpc call Upper hello -e grpcs://{} {flags}", server.url))
}

#[test]
#[ignore = "needs openssl, grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn a_grpcio_server_with_an_authority_of_its_own_is_called() {
    let made = Certificates::new();
    let server = made.grpcio("server", "");
    upper(&server, &made.ca()).runs().prints("HELLO\n").silently();
    // Without a scheme, a certificate that is asked for means TLS; so does a name.
    bandy(&format!("rpc call Upper hello -e {} {}", server.url, made.ca())).runs().prints("HELLO\n");
    let port = server.url.rsplit_once(':').unwrap().1;
    bandy(&format!("rpc ls -e grpcs://localhost:{port} {}", made.ca())).runs().shows("demo.Greeter\tHello");
    bandy(&format!("rpc ping -n 1 -e grpcs://{} {}", server.url, made.ca())).runs().shows("SERVING from ");
    upper(&server, "--insecure").runs().prints("HELLO\n");

    upper(&server, "").runs().exits(3).complains("certificate");
    let other = format!("--cacert {}", made.path("other-ca.pem"));
    upper(&server, &other).runs().exits(3).complains("certificate");
    let other = format!("{} --server-name elsewhere.example", made.ca());
    upper(&server, &other).runs().exits(3).complains("certificate").complains("name");
    upper(&server, "--cacert /nowhere.pem").runs().exits(1).complains("cannot read /nowhere.pem");
    // No word of TLS, and none is spoken: plaintext is not tried in its stead, nor the other way round.
    bandy(&format!("rpc call Upper hello -e grpc://{}", server.url))
        .runs()
        .exits(3)
        .complains("speaks TLS")
        .complains("grpcs://");
    let plain = script("grpcio_server.py").starts();
    upper(&plain, &made.ca()).runs().exits(3).complains("does not speak TLS");
}

#[test]
#[ignore = "needs openssl, grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn certificates_of_another_name_or_time_are_told_apart() {
    let made = Certificates::new();
    let elsewhere = made.grpcio("elsewhere", "");
    upper(&elsewhere, &made.ca()).runs().exits(3).complains("certificate").complains("name");
    upper(&elsewhere, &format!("{} --server-name elsewhere.example", made.ca())).runs().prints("HELLO\n");
    let expired = made.grpcio("expired", "");
    upper(&expired, &made.ca()).runs().exits(3).complains("xpired");
    upper(&expired, "--insecure").runs().prints("HELLO\n");
}

#[test]
#[ignore = "needs openssl, grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn a_grpcio_server_learns_who_calls_by_certificate() {
    let made = Certificates::new();
    let server = made.grpcio("server", &format!("--client-ca {}", made.path("ca.pem")));
    let identity = |name: &str| {
        let [certificate, key] = made.pair(name);
        format!("{} --cert {certificate} --cert-key {key}", made.ca())
    };
    let call =
        |flags: &str| bandy(&format!("rpc call Hello name=Ada -v -e grpcs://{} {flags}", server.url)).runs();
    call(&identity("ada")).exits(0).complains("< x-peer: ada\n");
    // BoringSSL says no more than that it will not talk.
    call(&made.ca()).exits(3);
    call(&identity("stranger")).exits(3).complains("cannot reach grpcs://");
    let [certificate, _] = made.pair("ada");
    let [_, key] = made.pair("server");
    call(&format!("{} --cert {certificate} --cert-key {key}", made.ca()))
        .exits(1)
        .complains("does not belong to the certificate");
}

/// Runs a peer and returns whether it succeeded, and all that it said.
#[track_caller]
fn runs(program: &str, words: &str) -> (bool, String) {
    let words = shell_words::split(words).unwrap();
    let output = Command::new(program).args(&words).stdin(std::process::Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
#[ignore = "needs openssl and curl"]
fn openssl_and_curl_speak_tls_with_us() {
    let made = Certificates::new();
    let (server, address) = made.serve("server", "");
    let ca = made.path("ca.pem");
    let client = format!("s_client -connect {address} -CAfile {ca} -verify_return_error");
    for (words, expected) in [
        ("-alpn h2", "ALPN protocol: h2"),
        ("-alpn http/1.1", "ALPN protocol: http/1.1"),
        ("-alpn http/1.1,h2", "ALPN protocol: h2"),
        ("", "No ALPN negotiated"),
        ("-tls1_2", "TLSv1.2"),
        ("-tls1_3", "TLSv1.3"),
    ] {
        let (is_ok, said) = runs("openssl", &format!("{client} {words}"));
        assert!(is_ok && said.contains(expected), "{words}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{words}: {said}");
    }
    // Nothing in common, or nothing that is still good enough.
    let (is_ok, said) = runs("openssl", &format!("{client} -alpn smtp"));
    assert!(!is_ok && said.contains("no application protocol"), "{said}");
    let (is_ok, said) = runs("openssl", &format!("{client} -tls1_1 -cipher ALL:@SECLEVEL=0"));
    assert!(!is_ok, "{said}");

    let hello = |flags: &str| {
        let url = format!("https://{address}/demo.Greeter/Hello");
        let body = "-H 'content-type: application/json' -d '{\"name\":\"Ada\"}'";
        runs("curl", &format!("-sS --max-time 20 {flags} {body} {url} -w '|%{{http_version}}'"))
    };
    for (flags, version) in
        [("--http2", "2"), ("--http1.1", "1.1"), ("--tls-max 1.2", "2"), ("--no-alpn", "1.1")]
    {
        let (is_ok, said) = hello(&format!("--cacert {ca} {flags}"));
        assert_eq!((is_ok, said), (true, format!("{{\"message\":\"Hello, Ada!\"}}|{version}")), "{flags}");
    }
    let (is_ok, said) = hello("");
    assert!(!is_ok && said.contains("(60)"), "{said}");
    let (is_ok, said) = hello(&format!("--cacert {}", made.path("other-ca.pem")));
    assert!(!is_ok && said.contains("(60)"), "{said}");
    server.signal(rustix::process::Signal::TERM);
    server.ends().exits(0);
}

#[test]
#[ignore = "needs openssl, curl, and grpcio-tools"]
fn clients_show_us_their_certificates() {
    let made = Certificates::new();
    let ca = made.path("ca.pem");
    let (server, address) = made.serve("server", &format!("--tls-client-ca {ca}"));
    let [certificate, key] = made.pair("ada");
    let hello = |flags: &str| {
        let url = format!("https://{address}/demo.Greeter/Hello");
        let body = "-H 'content-type: application/json' -d '{\"name\":\"Ada\"}'";
        runs("curl", &format!("-sS --max-time 20 --cacert {ca} {flags} {body} {url}"))
    };
    let good = hello(&format!("--cert {certificate} --key {key}"));
    assert_eq!(good, (true, "{\"message\":\"Hello, Ada!\"}".to_owned()));
    let (is_ok, said) = hello("");
    assert!(!is_ok && said.contains("certificate"), "{said}");
    let [certificate, key] = made.pair("stranger");
    let (is_ok, said) = hello(&format!("--cert {certificate} --key {key}"));
    assert!(!is_ok, "{said}");
    // grpcio as well, in all three ways.
    let grpcio = |name: &str| {
        let mut peer = script("tls-grpcio.py").arg(&address).arg(&ca);
        if !name.is_empty() {
            let [certificate, key] = made.pair(name);
            peer = peer.arg(certificate).arg(key);
        }
        peer.runs()
    };
    grpcio("ada").prints("Hello, Ada!\n");
    grpcio("").prints("UNAVAILABLE\n");
    grpcio("stranger").prints("UNAVAILABLE\n");
    // And we ourselves.
    let us = |flags: &str| {
        bandy(&format!("rpc call Hello name=Ada -e grpcs://{address} --cacert {ca} {flags}")).runs()
    };
    let [certificate, key] = made.pair("ada");
    us(&format!("--cert {certificate} --cert-key {key}")).prints("{\"message\":\"Hello, Ada!\"}\n");
    us("").exits(3).complains("CertificateRequired");
    drop(server);
}

#[test]
#[ignore = "needs openssl"]
fn a_server_refuses_certificates_that_nobody_would_take() {
    let made = Certificates::new();
    let serve = |certificate: PathBuf, key: PathBuf| {
        bandy("rpc serve -l :0 --tls-cert").arg(certificate).arg("--tls-key").arg(key).runs().exits(1)
    };
    let file = |name: &str| made.0.path(name);
    serve(file("expired.pem"), file("expired.key")).complains("expired on ");
    serve(file("server.pem"), file("ada.key")).complains("does not belong to the certificate");
    serve(file("server.key"), file("server.key")).complains("holds no certificate");
    serve(file("server.pem"), file("server.pem")).complains("holds no ");
    serve(file("none.pem"), file("server.key")).complains("cannot read ");
    command("openssl", "pkcs12 -export -passout pass:x -inkey")
        .arg(file("server.key"))
        .arg("-in")
        .arg(file("server.pem"))
        .arg("-out")
        .arg(file("server.p12"))
        .runs()
        .exits(0);
    serve(file("server.p12"), file("server.key")).complains("holds no certificate");
}

#[test]
#[ignore = "needs openssl and dnsmasq"]
fn each_instance_behind_a_registry_is_expected_to_have_its_own_name() {
    let made = Certificates::new();
    let serve = |name: &str| made.serve(name, &format!("who='echo {name}'"));
    let (one, two) = (serve("one"), serve("two"));
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let dns = |first: &str, second: &str| {
        let words = [
            "--host-record=one.test,127.0.0.1".to_owned(),
            "--host-record=two.test,127.0.0.1".to_owned(),
            format!("--srv-host=_grpc._tcp.who.test,{first},{},10,1", port(&one.1)),
            format!("--srv-host=_grpc._tcp.who.test,{second},{},10,1", port(&two.1)),
        ];
        super::registry::name_server(&words)
    };
    let call = |port: u16| {
        bandy(&format!("rpc call {} --each who", made.ca()))
            .arg("-e")
            .arg(format!("srv://who.test?server=127.0.0.1:{port}&scheme=grpcs"))
            .home(&made.0)
            .stdin("\"\"\n".repeat(4))
            .runs()
    };
    let (_right, at) = dns("one.test", "two.test");
    let told = call(at).exits(0).out();
    let mut answers: Vec<&str> = told.lines().collect();
    answers.sort_unstable();
    assert_eq!(answers, ["one", "one", "two", "two"]);
    // A registry that mixes them up leads to servers that are not who they should be.
    let (_wrong, at) = dns("two.test", "one.test");
    call(at).exits(3).complains("another name");
}

/// Ada has no password.
const ADA: &str = r#"{
    "users": [{"name": "guest", "password": "guest"}, {"name": "ada"}],
    "permissions": [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "ada", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]}"#;

#[test]
#[ignore = "needs pika and openssl"]
fn pika_and_our_commands_prove_to_mq_broker_who_they_are() {
    let made = Certificates::new();
    let users = made.0.file("users.json", ADA);
    let [certificate, key] = made.pair("server");
    let authority = made.path("ca.pem");
    let server = bandy(&format!(
        "mq broker -l 127.0.0.1:0 --memory --tls-cert {certificate} --tls-key {key} --tls-client-ca {authority} \
         --tls-client-optional --user-file {}",
        users.display()
    ))
    .home(&made.0)
    .starts();
    let port = server.url.rsplit_once(':').unwrap().1;
    let [certificate, key] = made.pair("ada");
    script("mq-broker-external.py").arg(port).arg(&authority).arg(&certificate).arg(&key).runs().prints(
        "EXTERNAL: ok\nEXTERNAL without a certificate: refused\nPLAIN: ok\nPLAIN without a certificate: ok\n",
    );
    let mq = |words: &str| {
        bandy(&format!("mq {words} -e amqps://localhost:{port} --cacert {authority}")).home(&made.0)
    };
    mq(&format!("send jobs hi --create --cert {certificate} --cert-key {key}")).runs().exits(0);
    mq("recv jobs").runs().prints("hi\n");
}

/// The same users, and what a RabbitMQ asks for beside.
const ADA_OF_RABBITMQ: &str = r#"{
    "vhosts": [{"name": "/"}],
    "users": [
        {"name": "guest", "password": "guest", "tags": "administrator"},
        {"name": "ada", "password_hash": "", "tags": ""}],
    "permissions": [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "ada", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]}"#;

#[tokio::test]
#[ignore = "needs rabbitmq-server and openssl"]
async fn our_commands_prove_to_rabbitmq_who_they_are() {
    let made = Certificates::new();
    let authority = made.path("ca.pem");
    let (_rabbit, port) =
        RabbitMq::start_with_certificates(&authority, made.pair("server"), ADA_OF_RABBITMQ).await;
    let mq = |words: &str, name: &str| {
        let [certificate, key] = made.pair(name);
        let by = format!("--cacert {authority} --cert {certificate} --cert-key {key}");
        bandy(&format!("mq {words} -e amqps://localhost:{port} {by}")).home(&made.0).runs()
    };
    mq("create jobs", "ada").exits(0);
    mq("send jobs hi", "ada").exits(0);
    mq("recv jobs", "ada").exits(0).prints("hi\n");
    // A certificate that is trusted, of somebody who is no user.
    mq("send jobs hi", "server").exits(4).complains("lets nobody in by this certificate");
    let plain = format!("mq send jobs hi -e amqps://guest:guest@localhost:{port} --cacert {authority}");
    bandy(&plain).home(&made.0).runs().exits(0);
}
