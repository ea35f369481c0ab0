//! Peers that encrypt otherwise than this node: counted each time, and told of once for each.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::gossip::wire::{KeyError, PacketError, StreamError};
use crate::metrics::{Counter, Registry};

/// Peers that are told of; forged sources are no reason to fill a log, or the memory.
const PEERS_MAX: usize = 64;

/// What two nodes do not agree about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mismatch {
    /// It encrypts, and this node has no key.
    NoKey,
    /// It does not encrypt, and this node does.
    Plain,
    /// It encrypts with a key that this node does not have.
    OtherKey,
}

impl Mismatch {
    const ALL: [(Self, &'static str); 3] =
        [(Self::NoKey, "no_key"), (Self::Plain, "plain"), (Self::OtherKey, "other_key")];

    /// What a datagram shows.
    pub fn of_packet(fault: &PacketError) -> Option<Self> {
        match fault {
            PacketError::Encrypted => Some(Self::NoKey),
            PacketError::Key(KeyError::Sealed) => Some(Self::OtherKey),
            PacketError::Key(_) => Some(Self::Plain),
            _ => None,
        }
    }

    /// What a stream shows.
    pub fn of_stream(fault: &StreamError) -> Option<Self> {
        match fault {
            StreamError::Encrypted => Some(Self::NoKey),
            StreamError::Plain => Some(Self::Plain),
            StreamError::Key(_) => Some(Self::OtherKey),
            _ => None,
        }
    }

    /// What is wrong with a peer, and what helps.
    fn told(self, peer: IpAddr) -> String {
        match self {
            Self::NoKey => format!(
                "{peer} encrypts, and this node has no key: what it says is dropped; tip: --key-file FILE has the key of its \
                 cluster, --cluster LABEL on both sides keeps clusters apart"
            ),
            Self::Plain => format!(
                "{peer} does not encrypt, and this node does: what it says is dropped; tip: start it with the --key-file of \
                 this cluster"
            ),
            Self::OtherKey => format!(
                "{peer} encrypts with a key that this node does not have: what it says is dropped; tip: \
                 'bandy gossip keyring install KEY' adds one to this cluster"
            ),
        }
    }
}

/// Peers that encrypt otherwise. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Mismatches {
    counters: [Counter; Mismatch::ALL.len()],
    told: Arc<Mutex<HashSet<(IpAddr, Mismatch)>>>,
}

impl Mismatches {
    pub fn new(registry: &Registry) -> Self {
        let family = registry.counters(
            "bandy_gossip_encryption_mismatches_total",
            "Datagrams and streams of peers that encrypt otherwise.",
            &["kind"],
        );
        Self { counters: Mismatch::ALL.map(|(_, name)| family.with(&[name])), told: Arc::default() }
    }

    /// Counts one, and tells of it if it is the first of that peer.
    pub fn seen(&self, peer: IpAddr, mismatch: Option<Mismatch>) {
        let Some(mismatch) = mismatch else { return };
        let counters = Mismatch::ALL.iter().zip(&self.counters);
        counters.filter(|((kind, _), _)| *kind == mismatch).for_each(|(_, counter)| counter.increment());
        if self.is_news(peer, mismatch) {
            tracing::warn!("{}", mismatch.told(peer));
        }
    }

    fn is_news(&self, peer: IpAddr, mismatch: Mismatch) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < PEERS_MAX && told.insert((peer.to_canonical(), mismatch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_of_once_and_however_many_there_are_no_more_than_some() {
        let mismatches = Mismatches::new(&Registry::default());
        let peer = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(mismatches.is_news(peer(1), Mismatch::NoKey));
        assert!(!mismatches.is_news(peer(1), Mismatch::NoKey));
        assert!(mismatches.is_news(peer(1), Mismatch::Plain), "something else");
        let told = (2..10_000).filter(|number| mismatches.is_news(peer(*number), Mismatch::NoKey)).count();
        assert_eq!(told, PEERS_MAX - 2);
        mismatches.seen(peer(1), Some(Mismatch::Plain));
        mismatches.seen(peer(1), None);
        assert_eq!(mismatches.counters.each_ref().map(Counter::value), [0, 1, 0]);
    }
}
