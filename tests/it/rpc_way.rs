//! How a client finds its way: TLS or not, passwords, a server that is not there.

use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use crate::support::{Home, Running, bandy};

fn tls(home: &Home) -> Running {
    bandy(&format!("rpc serve upper='tr a-z A-Z' -l :0 --tls-self-signed={}", home.path("tls").display()))
        .home(home)
        .starts()
}

fn plain(home: &Home) -> Running {
    bandy("rpc serve upper='tr a-z A-Z' -l :0").home(home).starts()
}

fn port(server: &Running) -> &str {
    server.url.rsplit(':').next().unwrap()
}

/// The first tip that is a command, run as it stands.
#[track_caller]
fn pastes(error: &str, home: &Home) -> crate::support::Ran {
    let line = error.lines().find_map(|line| line.trim().strip_prefix("tip: bandy "));
    let line = line.unwrap_or_else(|| panic!("no command in: {error}"));
    let line = line.split("    ").next().unwrap();
    bandy(line).home(home).runs()
}

#[test]
fn a_method_has_its_server_in_front_with_a_scheme_or_without() {
    let home = Home::new();
    let server = plain(&home);
    for place in ["grpc://127.0.0.1:", "127.0.0.1:", "localhost:", ":"] {
        for method in ["bandy.Functions/upper", "Functions/upper"] {
            let line = format!("rpc call {place}{}/{method} hello", port(&server));
            bandy(&line).home(&home).runs().prints("HELLO\n");
        }
    }
    let twice = format!("rpc call :{0}/Functions/upper hello -e :{0}", port(&server));
    bandy(&twice).home(&home).runs().exits(2).complains("named twice");
}

#[test]
fn plaintext_to_a_server_of_tls_is_explained() {
    let home = Home::new();
    let server = tls(&home);
    for endpoint in [format!(":{}", port(&server)), format!("grpc://127.0.0.1:{}", port(&server))] {
        let ran = bandy(&format!("rpc call -e {endpoint} upper hello")).home(&home).runs().exits(3);
        let ran = ran.complains("speaks TLS").complains("grpcs://127.0.0.1:");
        pastes(&ran.err(), &home).prints("HELLO\n");
    }
    // A URL that is the method's, other protocols, other verbs.
    let ran = bandy(&format!("rpc call grpc://127.0.0.1:{}/bandy.Functions/upper hello", port(&server)));
    pastes(&ran.home(&home).runs().exits(3).err(), &home).prints("HELLO\n");
    let ran = bandy(&format!("rpc call -e tcp://127.0.0.1:{} upper hello", port(&server)));
    pastes(&ran.home(&home).runs().exits(3).complains("speaks TLS").err(), &home).prints("HELLO\n");
    let ran = bandy(&format!("rpc ls -e http://127.0.0.1:{}", port(&server))).home(&home).runs().exits(3);
    pastes(&ran.complains("https://").err(), &home).shows("upper");
}

#[test]
fn tls_to_a_server_without_is_explained_and_never_left_out() {
    let home = Home::new();
    let server = plain(&home);
    for words in [
        format!("-e :{} --insecure", port(&server)),
        format!("-e grpcs://127.0.0.1:{}", port(&server)),
        format!("-e https://127.0.0.1:{} --server-name x", port(&server)),
    ] {
        let ran = bandy(&format!("rpc call upper hello {words}")).home(&home).runs().exits(3);
        let ran = ran.complains("does not speak TLS");
        pastes(&ran.err(), &home).prints("HELLO\n");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_explained() {
    let home = Home::new();
    let server = tls(&home);
    let url = format!("grpcs://127.0.0.1:{}", port(&server));
    let ran = bandy(&format!("rpc call -e {url} upper hello")).home(&home).runs().exits(3);
    let ran = ran.complains("cannot trust").complains("--cacert FILE");
    let cert = home.path("tls").join("cert.pem");
    let trusting = format!("rpc call -e {url} upper hello --cacert {}", cert.display());
    bandy(&trusting).home(&home).runs().prints("HELLO\n");
    assert!(ran.err().contains("--insecure"), "{}", ran.err());
    bandy(&format!("{trusting} --server-name elsewhere.example"))
        .home(&home)
        .runs()
        .exits(3)
        .complains("another name");
}

#[test]
fn tips_do_not_repeat_secrets() {
    let home = Home::new();
    let server = tls(&home);
    for words in [
        format!("-u bob:hush -e :{}", port(&server)),
        format!("-e grpc://bob:hush@127.0.0.1:{}", port(&server)),
        format!("-H 'Authorization: hush' -e :{}", port(&server)),
    ] {
        let ran = bandy(&format!("rpc call upper hello {words}")).home(&home).runs().exits(3);
        assert!(!ran.complains("speaks TLS").err().contains("hush"), "{words}");
    }
}

#[test]
fn a_dead_port_of_datagrams_is_told_at_once() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    for scheme in ["udp", "jsonrpc+udp"] {
        let start = Instant::now();
        let ran = bandy(&format!("rpc call -e {scheme}://127.0.0.1:{port} upper")).runs().exits(3);
        ran.complains("connection refused");
        assert!(start.elapsed() < Duration::from_secs(3), "{scheme}: {:?}", start.elapsed());
    }
    // Somebody who is there and says nothing takes a little longer.
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    bandy(&format!("rpc call -e udp://127.0.0.1:{port} upper hello"))
        .runs()
        .exits(3)
        .complains("nobody is there, or they are lost");
}

#[test]
fn without_a_terminal_no_password_is_asked_for() {
    let home = Home::new();
    let server = plain(&home);
    let call =
        |words: &str| bandy(&format!("rpc call -e {} upper hello {words}", server.url)).home(&home).runs();
    // A test has no terminal of its own only if it was started without one: a new session never has.
    let ran = crate::support::command("setsid", "-w")
        .arg(env!("CARGO_BIN_EXE_bandy"))
        .arg("rpc")
        .arg("call")
        .arg("-e")
        .arg(&server.url)
        .arg("-u")
        .arg("bob")
        .arg("upper")
        .home(&home)
        .runs();
    ran.exits(2).complains("no terminal to ask for it").complains("--password-file");
    call("-u bob:secret").prints("HELLO\n");
}

#[test]
fn a_password_is_asked_for_on_a_terminal_and_not_shown() {
    let home = Home::new();
    let words = "rpc serve who='sh -c \"echo $BANDY_HEADER_AUTHORIZATION\"' -l :0";
    let server = bandy(words).home(&home).starts();
    let pair =
        native_pty_system().openpty(PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 }).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_bandy"));
    command.args(["rpc", "call", "-e", &server.url, "-u", "bob", "who", "x"]);
    command.env("BANDY_HOME", home.path(""));
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let (send, receive) = std::sync::mpsc::channel();
    let mut reader = pair.master.try_clone_reader().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(size @ 1..) = std::io::Read::read(&mut reader, &mut buffer) {
            if send.send(buffer[..size].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = String::new();
    let mut until = |text: &str| {
        while !screen.contains(text) {
            let more = receive.recv_timeout(crate::support::DEADLINE);
            let more = more.unwrap_or_else(|error| panic!("{error}: never saw {text:?} in {screen:?}"));
            screen.push_str(&String::from_utf8_lossy(&more));
        }
        screen.clone()
    };
    until("password for bob at grpc://");
    let mut writer = pair.master.take_writer().unwrap();
    std::io::Write::write_all(&mut writer, b"wrong\x15secret\r").unwrap();
    // Basic authentication of bob:secret.
    let seen = until("Basic Ym9iOnNlY3JldA==");
    assert!(!seen.contains("secret") && !seen.contains("wrong"), "{seen}");
    assert!(child.wait().unwrap().success());
}
