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

#[test]
fn many_large_streams_that_never_end_keep_nobody_out() {
    let home = Home::new();
    let node = bandy("gossip join -l 127.0.0.1:0 --alone").home(&home).starts();
    let address = node.url.trim_start_matches("gossip://").to_owned();
    let mut said = state(20 << 20);
    said.resize(SAID_BYTES, 0);
    let mut open = Vec::new();
    for _ in 0..HOSTILE {
        let mut stream = TcpStream::connect(&address).unwrap();
        // The node may close it at any time.
        let _ = stream.write_all(&said);
        open.push(stream);
    }
    // A fair one, with a state as large as that of a cluster of ten thousand: an unknown field of the size, and no more.
    let mut fair = TcpStream::connect(&address).unwrap();
    fair.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let field = SAID_BYTES as u32;
    let mut serf = b"\x02\x81\xa1x\xdb".to_vec();
    serf.extend(field.to_be_bytes());
    serf.resize(serf.len() + field as usize, 0);
    let mut said = state(serf.len() as u32);
    said.extend(serf);
    fair.write_all(&said).unwrap();
    let mut answer = Vec::new();
    fair.read_to_end(&mut answer).expect("an answer within seconds");
    // A state, compressed or not.
    assert!(matches!(answer.first(), Some(6 | 9)), "{:?}", answer.first());
    let resident = resident(&node);
    assert!(resident < 220_000, "{resident} kB");
    drop(open);
}
