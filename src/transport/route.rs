//! By which address others see this machine: asked of the routing table, nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// Addresses for documentation (RFC 5737, RFC 3849): never on a network of ours, so that the way there is the
/// default one.
const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// The address of this machine on the way to `peer` (`HOST:PORT`). If the peer is this machine itself, or nobody,
/// it is the address on the way to everyone else; without a network it is loopback. `is_v6` says whether an
/// IPv6 address would do.
pub fn own_address(peer: &str, is_v6: bool) -> IpAddr {
    let peers = peer.to_socket_addrs().into_iter().flatten();
    let fits = |address: &IpAddr| (is_v6 || address.is_ipv4()) && !address.is_unspecified();
    peers
        .filter(|peer| !peer.ip().is_loopback())
        .chain(ELSEWHERE)
        .filter_map(towards)
        .find(|address| fits(address) && !address.is_loopback())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn towards(peer: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if peer.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ours_can_be_called() {
        for peer in ["", "127.0.0.1:8500", "no.such.host.invalid:1"] {
            let address = own_address(peer, false);
            assert!(address.is_ipv4() && !address.is_unspecified(), "{peer}: {address}");
        }
    }
}
