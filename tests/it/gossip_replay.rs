//! Whoever records what an encrypted cluster says can say it again, though not read it: nothing may come of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Home, Running, bandy, until};

/// Stands before a node and records each datagram and each stream that comes to it.
struct Recorder {
    address: SocketAddr,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    streams: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// For a node that listens at `node`, once it does.
    fn new(node: SocketAddr) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
                break (listener, socket);
            }
        };
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            datagrams: Arc::default(),
            streams: Arc::default(),
        };
        let datagrams = recorder.datagrams.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length) = socket.recv(&mut buffer) {
                datagrams.lock().unwrap().push(buffer[..length].to_vec());
                let _ = socket.send_to(&buffer[..length], node);
            }
        });
        let streams = recorder.streams.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(node)) else { continue };
                let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
                let streams = streams.clone();
                thread::spawn(move || pass_on(client, server, &streams));
            }
        });
        recorder
    }

    /// Says all of it again.
    fn repeat(&self, to: SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in self.datagrams.lock().unwrap().iter() {
            socket.send_to(datagram, to).unwrap();
            // The system drops what comes faster than it is read.
            thread::yield_now();
        }
        for stream in self.streams.lock().unwrap().iter() {
            let mut to = TcpStream::connect(to).unwrap();
            to.write_all(stream).unwrap();
            to.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = to.read_to_end(&mut Vec::new());
        }
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, streams: &Mutex<Vec<Vec<u8>>>) {
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(length) = client.read(&mut chunk) {
        if length == 0 || server.write_all(&chunk[..length]).is_err() {
            break;
        }
        all.extend_from_slice(&chunk[..length]);
    }
    let _ = server.shutdown(std::net::Shutdown::Write);
    streams.lock().unwrap().push(all);
}

/// Free for streams and for datagrams.
fn free_address() -> SocketAddr {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

#[test]
fn what_is_recorded_of_an_encrypted_cluster_and_said_again_does_nothing() {
    let home = Home::new();
    let gossip = |words: &str| bandy(&format!("gossip {words}")).home(&home);
    let key = gossip("keygen").runs().exits(0).out();
    let key = home.file("key", key).display().to_string();
    let listens = free_address();
    let recorder = Recorder::new(listens);
    let node = |words: &str| -> Running {
        gossip(&format!("join --profile local --rpc none --key-file {key} {words}")).starts()
    };
    let mut heard = node(&format!("--name b --alone -l {listens} --advertise {}", recorder.address));
    let first = node(&format!("--name a -l 127.0.0.1:0 --tag v=1 {}", recorder.address));
    gossip("wait --members 2 --timeout 30s -e local:a").runs().exits(0);
    // All that can be said: events, queries, tags, keys, leaving and coming back.
    gossip("event deploy one -e local:a").runs().exits(0);
    gossip("query load --wait 0.5s -e local:a").runs().exits(6);
    gossip("set k old -e local:a").runs().exits(0);
    gossip("set k new -e local:a").runs().exits(0);
    gossip("set gone x -e local:a").runs().exits(0);
    gossip("del gone -e local:a").runs().exits(0);
    gossip("tag v=2 -e local:a").runs().exits(0);
    gossip("leave -e local:a").runs().exits(0);
    first.ends().exits(0);
    until("it has left", || gossip("ls a -o %{status} -e local:b").runs().out() == "left\n");
    let _first = node(&format!("--name a -l 127.0.0.1:0 --tag v=3 {}", recorder.address));
    until("it is back, and newer than what was recorded", || {
        let said = gossip("ls a -o '%{status} %{tags.v} %{inc}' -e local:b").runs().out();
        said.trim_end().strip_prefix("alive 3 ").is_some_and(|inc| inc.parse::<u32>().unwrap() > 2)
    });
    until("the keys are there", || gossip("get k -e local:a").runs().out() == "new\n");
    gossip("event before -e local:b").runs().exits(0);
    while heard.line() != "event\tbefore" {}

    let view = || {
        let members = gossip("ls -o '%{node} %{status} %{inc} %{tags.v}' -e local:b").runs().exits(0).out();
        members + &gossip("keys -o '%{key} %{version} %{value}' -e local:b").runs().exits(0).out()
    };
    let before = view();
    assert!(recorder.datagrams.lock().unwrap().len() > 10 && !recorder.streams.lock().unwrap().is_empty());
    for _ in 0..3 {
        recorder.repeat(listens);
    }
    gossip("event after -e local:b").runs().exits(0);
    assert_eq!(heard.line(), "event\tafter", "nothing is told again");
    assert_eq!(view(), before);
    // Nor does the other one come to know something else.
    gossip("wait --members 2 --timeout 30s -e local:a").runs().exits(0);
    assert_eq!(gossip("get gone -e local:a").runs().code(), 5);
}
