//! TCP sockets and their options.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The next address is tried after this long without an answer (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Silence before the kernel asks whether the other end still lives: under the five minutes after which many
/// address translators forget a connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Between such questions; four without an answer end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Connections that wait to be accepted. The kernel caps it at net.core.somaxconn, 4096 by default.
const BACKLOG_CONNECTIONS: u32 = 4096;

/// Connects to whichever of the name's addresses answers first.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = addresses(host, port).await.map_err(Failure::Resolve)?;
    let stream = first_of(in_turn(addresses)).await.map_err(Failure::Connect)?;
    prepare(&stream).map_err(Failure::Connect)?;
    Ok(stream)
}

/// How far connecting came.
#[derive(Debug)]
pub(super) enum Failure {
    Resolve(io::Error),
    Connect(io::Error),
}

/// The addresses of a name, as the system finds them. Literals and `localhost` cost no thread.
///
/// # Errors
/// There are none, or the system cannot tell.
pub async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
        ]);
    }
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// Families in turn, beginning with the resolver's favourite (RFC 8305, section 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let favourite = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == favourite);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let (a, b) = (first.next(), second.next());
        if a.is_none() && b.is_none() {
            return turns;
        }
        turns.extend(a);
        turns.extend(b);
    }
}

async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
        }
        // Wait for an answer; for the next address no longer than the delay.
        let answer = if waiting.len() == 0 {
            attempts.next().await
        } else {
            match tokio::time::timeout(ATTEMPT_DELAY, attempts.next()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        };
        match answer {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = failure.or(Some(error)),
            None => {}
        }
    }
}

/// No delay for small writes; notice a peer that vanished.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    // Some systems refuse one of these on some sockets; the connection is good without.
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES);
    Ok(())
}

/// Listens on the first of the name's addresses that can be had.
pub(super) async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = None;
    for address in addresses(host, port).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server takes its port back while old connections fade away.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let a = |text: &str| text.parse::<SocketAddr>().unwrap();
        let turns = in_turn(vec![a("[::1]:1"), a("[::2]:1"), a("[::3]:1"), a("1.1.1.1:1")]);
        assert_eq!(turns, [a("[::1]:1"), a("1.1.1.1:1"), a("[::2]:1"), a("[::3]:1")]);
        assert_eq!(in_turn(vec![a("1.1.1.1:1"), a("[::1]:1")]), [a("1.1.1.1:1"), a("[::1]:1")]);
    }

    #[tokio::test]
    async fn an_address_that_refuses_leaves_the_next_its_turn() {
        let listener = listen("127.0.0.1", 0).await.unwrap();
        let there = listener.local_addr().unwrap();
        // A port that was free a moment ago, so that connecting is refused.
        let nowhere = listen("127.0.0.1", 0).await.unwrap().local_addr().unwrap();
        let stream = first_of(vec![nowhere, there]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);
        let refused = first_of(vec![nowhere]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
