//! Peers of a node that want to harm it: others are served meanwhile, and its memory has a bound.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Home, Running, bandy};

/// How many open a stream and say no more in it.
const HOSTILE: usize = 300;
/// What each of them says first.
const SAID_BYTES: usize = 1_100_000;

/// Memory of the node now, in kB.
fn resident(node: &Running) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The start of a state without nodes, and with so many bytes of Serf.
fn state(serf_bytes: u32) -> Vec<u8> {
    let mut bytes = b"\x06\x83\xa4Join\xc2\xa5Nodes\x00\xacUserStateLen\xce".to_vec();
    bytes.extend(serf_bytes.to_be_bytes());
    bytes
}

/// Asks for the state of a node, as nodes do. Fails if the answer takes longer than some seconds.
fn gets_its_state(address: &str, ask: &[u8]) {
    let mut fair = TcpStream::connect(address).unwrap();
    fair.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    fair.write_all(ask).unwrap();
    let mut answer = Vec::new();
    fair.read_to_end(&mut answer).expect("an answer within seconds");
    // A state, compressed or not.
    assert!(matches!(answer.first(), Some(6 | 9)), "{:?}", answer.first());
}

/// So many who open a stream, say this and no more.
fn open(address: &str, count: usize, said: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        // The node may close it at any time.
        let _ = stream.write_all(said);
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn streams_of_those_who_say_little_or_nothing_keep_nobody_out() {
    let home = Home::new();
    let words = "gossip join -l 127.0.0.1:0 --alone --max-connections 64";
    let node = bandy(words).home(&home).starts();
    let _server = bandy(&format!("rpc serve -l :0 --register {}", node.url)).home(&home).starts();
    let members = bandy("gossip ls -o %{addr}").home(&home).runs().exits(0).out();
    let address = node.url.trim_start_matches("gossip://");
    let registered = members.lines().find(|member| *member != address).expect("a member");
    for (address, places, said) in
        [(address, 64, &b""[..]), (registered, 512, b""), (registered, 512, b"\x06")]
    {
        let rude = open(address, places + 100, said);
        gets_its_state(address, &state(0));
        drop(rude);
    }
}

#[test]
fn many_large_streams_that_never_end_keep_nobody_out() {
    let home = Home::new();
    let node = bandy("gossip join -l 127.0.0.1:0 --alone").home(&home).starts();
    let address = node.url.trim_start_matches("gossip://").to_owned();
    let mut said = state(20 << 20);
    said.resize(SAID_BYTES, 0);
    let open = open(&address, HOSTILE, &said);
    // A fair one, with a state as large as that of a cluster of ten thousand: an unknown field of the size, and no more.
    let field = SAID_BYTES as u32;
    let mut serf = b"\x02\x81\xa1x\xdb".to_vec();
    serf.extend(field.to_be_bytes());
    serf.resize(serf.len() + field as usize, 0);
    let mut said = state(serf.len() as u32);
    said.extend(serf);
    gets_its_state(&address, &said);
    let resident = resident(&node);
    assert!(resident < 220_000, "{resident} kB");
    drop(open);
}
