//! A node that this user has not started, such as Serf's agent, on this machine: whoever gave no address may have meant
//! it. It is not joined unasked, as everybody on the machine could have put it there; it is told of.

use std::net::SocketAddr;

use super::place::PORT;
use crate::cli::app::App;
use crate::gossip::agent::members_at;
use crate::gossip::wire::{NodeState, Wrapping};
use crate::shutdown::Shutdown;

/// Ports that are asked: strangers have the first one, mostly.
const PORTS_MAX: u16 = 8;

/// Tells of the first node at the ports that were taken before the node's own, in the background.
pub fn tell_of(own: SocketAddr, wrapping: Wrapping, app: &App, shutdown: &Shutdown) {
    let taken = PORT..own.port().min(PORT + PORTS_MAX);
    if taken.is_empty() {
        return;
    }
    let Ok(app) = App::new(&app.global) else { return };
    shutdown.spawn(async move {
        for address in taken.map(|port| SocketAddr::new(own.ip(), port)) {
            let Ok(nodes) = members_at(address, &wrapping).await else { continue };
            let living = nodes.iter().filter(|node| node.state == NodeState::Alive).count();
            let nodes =
                if living == 1 { "a node".to_owned() } else { format!("a cluster of {living} nodes") };
            app.printer
                .note(&format!("this node is alone, and {nodes} that you have not started is at {address}"));
            app.printer.note(&format!("  tip: bandy gossip join {address}    # join it"));
            return;
        }
    });
}
