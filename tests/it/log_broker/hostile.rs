//! What those may do to the broker who mean no good, or break off in the middle.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::{Client, batch};
use crate::support::{Running, bandy, until};

const MIB: usize = 1 << 20;

/// Memory of the broker now.
fn resident(server: &Running) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Announces a request and sends the beginning of it. The socket, unless it was closed meanwhile.
fn half(address: &str, announced: usize, sent: usize) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(&(announced as i32).to_be_bytes()).ok()?;
    let chunk = vec![0; MIB];
    for _ in 0..sent / MIB {
        socket.write_all(&chunk).ok()?;
    }
    Some(socket)
}

#[test]
fn halves_of_requests_hold_no_more_than_their_bound_and_give_way_to_others() {
    let server = bandy("log broker -l :0 --memory -v").starts();
    let address = server.url.strip_prefix("kafka://").unwrap().to_owned();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let begins = || {
        let address = address.clone();
        std::thread::spawn(move || half(&address, 90 * MIB, 40 * MIB))
    };
    let mut halves: Vec<_> = (0..12).map(|_| begins()).collect();
    until("they hold what they may", || resident(&server) > 200 * MIB);
    // Who wants little is served as ever.
    assert_eq!(client.produce("t", -1, &batch(&["small"])).base_offset, 0);
    // There is room for six of them; the others wait in vain, or the first ones stand still for too long.
    let closed = || server.stderr().matches("the connection is closed").count();
    until("the others are closed", || closed() >= 6);
    // None of those that stay sends any more: they go when somebody else wants their room.
    halves.push(begins());
    server.says("half a request stands still and others wait; the connection is closed");
    let open: Vec<TcpStream> = halves.into_iter().filter_map(|half| half.join().unwrap()).collect();
    assert!(resident(&server) < 340 * MIB, "{} MiB", resident(&server) / MIB);
    drop(open);
    until("nothing of it is left", || resident(&server) < 100 * MIB);
    // A large request comes through.
    let value = "v".repeat(900_000);
    client.socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(client.produce("t", -1, &batch(&[&value])).base_offset, 1);
}
