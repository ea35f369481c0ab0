//! What a node is set to.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::gossip::wire::{Name, OVERHEAD_BYTES};

/// Which network the timers suit. memberlist, DefaultLANConfig and its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One machine.
    Local,
    /// One building.
    Lan,
    /// Several continents.
    Wan,
}

/// Timers, counts and limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub name: Name,
    /// Where others reach it.
    pub address: SocketAddr,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// How often somebody is probed.
    pub probe_interval: Duration,
    /// How long an answer may take.
    pub probe_timeout: Duration,
    /// How many others are asked to probe.
    pub indirect_checks: usize,
    /// How often news are passed on.
    pub gossip_interval: Duration,
    /// When in each interval; at random if it is not said. Nodes that all have the same one gossip in rounds, as the
    /// models of papers do.
    pub gossip_phase: Option<Duration>,
    /// To how many.
    pub gossip_nodes: usize,
    /// For how long the dead are told: they may not know.
    pub gossip_to_the_dead: Duration,
    /// How often states are exchanged, in a cluster of up to 32.
    pub push_pull_interval: Duration,
    /// Each piece of news is sent this many times the logarithm of the cluster's size.
    pub retransmit_mult: u32,
    /// A suspect has this many times the logarithm of the cluster's size in probe intervals.
    pub suspicion_mult: u32,
    /// And this many times as long if nobody confirms it.
    pub suspicion_max_mult: u32,
    /// How slow a node may think that it is.
    pub awareness_max: u32,
    /// Bytes of a datagram.
    pub packet_bytes: usize,
    /// Bytes of a datagram that its wrapping takes.
    pub overhead_bytes: usize,
    /// How often the gone are forgotten.
    pub reap_interval: Duration,
    /// How long one that failed is remembered.
    pub failed_timeout: Duration,
    /// How long one that left is remembered.
    pub left_timeout: Duration,
    /// How often one that failed is tried again.
    pub reconnect_interval: Duration,
    /// How long leaving waits for each of its announcements.
    pub leave_timeout: Duration,
    /// How long a node that has left stays for those who have not heard of it.
    pub leave_linger: Duration,
    /// Whether coordinates are kept.
    pub coordinates: bool,
    /// Whether states are exchanged at intervals; a simulation may do without.
    pub push_pull: bool,
    /// Where it joins again whenever it is alone.
    pub seeds: Vec<SocketAddr>,
    /// Keys and values of our own.
    pub data: DataConfig,
}

/// How keys and values spread.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Who tells whom.
    pub mode: Mode,
    /// To how many at a time.
    pub fanout: usize,
    /// A rumour is dropped after so many in a row who knew it already: this, and as often as other news are told in a
    /// cluster of this size. This alone would leave 0.36 % of the nodes without it, which is one node of a hundred at
    /// every third change. Demers et al. 1987, table 1.
    pub removal_count: u32,
    /// How long a tombstone is kept.
    pub tombstone_ttl: Duration,
    /// Milliseconds since 1970 at the beginning of the engine's time: a node that restarts writes newer versions than
    /// it did before, though it has forgotten them.
    pub epoch_ms: u64,
    /// Most keys.
    pub keys_max: usize,
    /// Most bytes of keys and values.
    pub bytes_max: usize,
}

/// Who tells whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Who knows something tells.
    Push,
    /// Who wants to know asks.
    Pull,
    /// Both.
    PushPull,
}

impl Mode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::PushPull => "push-pull",
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            mode: Mode::PushPull,
            fanout: 3,
            removal_count: 4,
            tombstone_ttl: Duration::from_secs(24 * 3600),
            epoch_ms: 0,
            keys_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl Config {
    /// A node with the timers of a profile.
    pub fn new(name: Name, address: SocketAddr, profile: Profile) -> Self {
        let lan = Self {
            name,
            address,
            tags: BTreeMap::new(),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_phase: None,
            gossip_nodes: 3,
            gossip_to_the_dead: Duration::from_secs(30),
            push_pull_interval: Duration::from_secs(30),
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            awareness_max: 8,
            packet_bytes: 1400,
            overhead_bytes: OVERHEAD_BYTES,
            reap_interval: Duration::from_secs(15),
            failed_timeout: Duration::from_secs(24 * 3600),
            left_timeout: Duration::from_secs(24 * 3600),
            reconnect_interval: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            leave_linger: Duration::from_secs(1),
            coordinates: true,
            push_pull: true,
            seeds: Vec::new(),
            data: DataConfig::default(),
        };
        match profile {
            Profile::Lan => lan,
            Profile::Wan => Self {
                probe_interval: Duration::from_secs(5),
                probe_timeout: Duration::from_secs(3),
                gossip_interval: Duration::from_millis(500),
                gossip_nodes: 4,
                gossip_to_the_dead: Duration::from_secs(60),
                push_pull_interval: Duration::from_secs(60),
                suspicion_mult: 6,
                ..lan
            },
            Profile::Local => Self {
                probe_timeout: Duration::from_millis(200),
                indirect_checks: 1,
                gossip_interval: Duration::from_millis(100),
                gossip_to_the_dead: Duration::from_secs(15),
                push_pull_interval: Duration::from_secs(15),
                retransmit_mult: 2,
                suspicion_mult: 3,
                ..lan
            },
        }
    }

    /// How often each piece of news is sent in a cluster of `nodes`. memberlist, retransmitLimit.
    pub fn retransmit_limit(&self, nodes: usize) -> u32 {
        self.retransmit_mult * digits(nodes)
    }

    /// How often states are exchanged in a cluster of `nodes`: seldom in large ones. memberlist, pushPullScale.
    pub fn push_pull_interval(&self, nodes: usize) -> Duration {
        const SCALE_FROM: usize = 32;
        if nodes <= SCALE_FROM {
            return self.push_pull_interval;
        }
        let factor = ((nodes as f64).log2() - (SCALE_FROM as f64).log2()).ceil() + 1.0;
        self.push_pull_interval.mul_f64(factor)
    }

    /// How long a query is answered in a cluster of `nodes`. Serf, DefaultQueryTimeout.
    pub fn query_timeout(&self, nodes: usize) -> Duration {
        const QUERY_TIMEOUT_MULT: u32 = 16;
        self.gossip_interval * QUERY_TIMEOUT_MULT * digits(nodes)
    }
}

/// The decimal logarithm of one more, rounded up.
fn digits(nodes: usize) -> u32 {
    nodes.checked_ilog10().map_or(0, |whole| whole + 1)
}
