//! What a caller sees: virtual hosts, connections, and things by the names of their connections.

use std::collections::HashMap;
use std::sync::Arc;

use super::Management;
use super::ask::Caller;
use super::reply::Refusal;
use crate::mq::engine::ConnectionId;
use crate::mq::server::host::Host;
use crate::mq::server::live::Link;

/// The connections of one virtual host, by what the engine calls them.
pub(super) type Links = HashMap<ConnectionId, Arc<Link>>;

impl Management {
    /// The virtual hosts on which the caller may do anything, by name.
    pub(super) fn hosts_of(&self, caller: &Caller) -> Vec<Arc<Host>> {
        let names = self.broker.users().vhosts_of(&caller.name);
        names.iter().filter_map(|name| self.broker.host(name)).collect()
    }

    /// One virtual host.
    pub(super) fn host_named(&self, name: &str) -> Result<Arc<Host>, Refusal> {
        self.broker.host(name).ok_or_else(Refusal::nothing_there)
    }

    /// Connections that the caller may see: all for who watches, one's own for others.
    pub(super) fn links_of(&self, caller: &Caller) -> Vec<Arc<Link>> {
        let mut links = self.broker.live.all();
        if !caller.is_monitor() {
            links.retain(|link| link.terms.user == caller.name);
        }
        links
    }

    pub(super) fn links_on(&self, host: &Arc<Host>) -> Links {
        let mut links = self.broker.live.all();
        links.retain(|link| Arc::ptr_eq(&link.host, host));
        links.into_iter().map(|link| (link.id, link)).collect()
    }
}
