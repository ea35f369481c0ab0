//! One connection as the APIs see it: who is there, where it came in, and what it waits for.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::Broker;
use super::login::Login;
use super::partition::Partition;
use crate::log::engine::access::{CLUSTER, Who};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::{AclOperation, ResourceType};
use crate::transport::Stream;

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) broker: Arc<Broker>,
    /// For messages and for descriptions of groups.
    pub(super) peer: String,
    /// Where it came in; none for a Unix socket.
    pub(super) local: Option<SocketAddr>,
    /// Who is there.
    pub(super) login: Login,
    /// The same for access rules, once it is known.
    who: OnceLock<Who>,
    /// Rings when something that its first answer waits for has gone on.
    pub(super) call: Arc<Notify>,
}

/// As Kafka writes it. Who came to an IPv6 socket by IPv4 has the address that access rules name.
fn host(address: SocketAddr) -> String {
    format!("/{}", address.ip().to_canonical())
}

impl Session {
    pub(super) fn new(broker: &Arc<Broker>, stream: &Stream) -> Arc<Self> {
        Arc::new(Self {
            broker: Arc::clone(broker),
            peer: stream.peer_address().map_or_else(|| stream.peer(), host),
            local: stream.local_address(),
            login: Login::new(&broker.users, stream.local_address().is_none()),
            who: OnceLock::new(),
            call: Arc::new(Notify::new()),
        })
    }

    /// For access rules. Nothing else is done before it is known who is there.
    fn who(&self) -> &Who {
        let host = || self.peer.trim_start_matches('/').to_owned();
        self.who.get_or_init(|| Who { principal: self.login.principal(), host: host() })
    }

    /// Nothing is refused to it.
    pub(super) fn may_all(&self) -> bool {
        self.broker.guard.lets_all() || self.login.is_own()
    }

    /// Whether it may do something to a thing.
    pub(super) fn may(&self, operation: AclOperation, kind: ResourceType, name: &str) -> bool {
        self.may_all() || self.broker.guard.allows(self.who(), operation, kind, name)
    }

    /// Whether it may do something to any thing of a kind.
    pub(super) fn may_any(&self, operation: AclOperation, kind: ResourceType) -> bool {
        self.may_all() || self.broker.guard.allows_any(self.who(), operation, kind)
    }

    /// Whether it may do something to a topic.
    pub(super) fn may_topic(&self, operation: AclOperation, name: &str) -> bool {
        self.may(operation, ResourceType::Topic, name)
    }

    /// Whether it may do something to a group.
    pub(super) fn may_group(&self, operation: AclOperation, name: &str) -> bool {
        self.may(operation, ResourceType::Group, name)
    }

    /// Whether it may do something to the cluster.
    pub(super) fn may_cluster(&self, operation: AclOperation) -> bool {
        self.may(operation, ResourceType::Cluster, CLUSTER)
    }

    /// Whether it may do something under a transactional id.
    pub(super) fn may_transact(&self, operation: AclOperation, id: &str) -> bool {
        self.may(operation, ResourceType::TransactionalId, id)
    }

    /// Bytes of a request that are taken.
    pub(super) fn request_bytes_max(&self) -> usize {
        let limits = &self.broker.options.limits;
        if self.login.is_done() { limits.request_bytes_max } else { limits.request_bytes_max_first }
    }

    /// Where its client is told to come.
    pub(super) fn advertised(&self) -> (String, i32) {
        self.broker.options.advertised.address(self.local)
    }

    /// Returns when a partition is safe up to `end`. Only for what is first in line: there is one bell.
    pub(super) async fn safe(&self, partition: &Arc<Partition>, end: i64) -> Result<(), ErrorCode> {
        if partition.is_safe(end)? {
            return Ok(());
        }
        loop {
            partition.call(&self.call);
            if partition.is_safe(end)? {
                return Ok(());
            }
            self.call.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_is_written_as_one_whatever_socket_it_came_to() {
        let host = |address: &str| host(address.parse().unwrap());
        assert_eq!(host("[::ffff:10.0.0.1]:9092"), "/10.0.0.1");
        assert_eq!(
            (host("10.0.0.1:1"), host("[2001:db8::1]:1")),
            ("/10.0.0.1".into(), "/2001:db8::1".into())
        );
    }
}
