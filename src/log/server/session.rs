//! One connection as the APIs see it: who is there, where it came in, and what it waits for.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Broker;
use super::login::Login;
use super::partition::Partition;
use crate::log::wire::ErrorCode;
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
    /// Rings when something that its first answer waits for has gone on.
    pub(super) call: Arc<Notify>,
}

impl Session {
    pub(super) fn new(broker: &Arc<Broker>, stream: &Stream) -> Arc<Self> {
        Arc::new(Self {
            broker: Arc::clone(broker),
            peer: stream.peer_address().map_or_else(|| stream.peer(), |address| format!("/{}", address.ip())),
            local: stream.local_address(),
            login: Login::new(&broker.users, stream.local_address().is_none()),
            call: Arc::new(Notify::new()),
        })
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
