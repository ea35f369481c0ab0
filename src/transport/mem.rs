//! A network in memory for tests: byte pipes for streams; datagrams with seeded delay, loss and partition.
//!
//! Same seed, same sends, same fate of every datagram. Delays are Tokio's, so a paused clock runs them at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Stream;
use super::stream::Kind;

/// What a pipe holds until its reader comes: a socket buffer's worth.
const PIPE_BYTES: usize = 64 * 1024;
/// Streams that wait to be accepted.
const BACKLOG_CONNECTIONS: usize = 128;
/// Datagrams that wait to be received; what comes after is lost, as with a socket.
const INBOX_DATAGRAMS: usize = 1024;

/// A network. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    loss: f64,
    delay: RangeInclusive<Duration>,
    /// Names that the others cannot reach and that cannot reach the others.
    apart: BTreeSet<String>,
    listeners: HashMap<String, mpsc::Sender<Stream>>,
    /// Every name's internet address, given out in order of first use.
    addresses: BTreeMap<String, SocketAddr>,
    inboxes: HashMap<SocketAddr, Arc<Inbox>>,
    sent: u64,
}

impl Network {
    /// A network without loss or delay.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            loss: 0.0,
            delay: Duration::ZERO..=Duration::ZERO,
            apart: BTreeSet::new(),
            listeners: HashMap::new(),
            addresses: BTreeMap::new(),
            inboxes: HashMap::new(),
            sent: 0,
        })))
    }

    /// A place in it, to listen at or to connect to.
    pub fn name(&self, name: impl Into<String>) -> Name {
        Name { network: self.clone(), name: name.into() }
    }

    /// Loses this share of all datagrams, from 0 to 1.
    pub fn set_loss(&self, share: f64) {
        self.state().loss = share;
    }

    /// Delays every datagram by a time from this range, so that they overtake each other.
    pub fn set_delay(&self, delay: RangeInclusive<Duration>) {
        self.state().delay = delay;
    }

    /// Cuts these names off from all others, but not from each other.
    pub fn cut_off<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.state().apart = names.into_iter().map(str::to_owned).collect();
    }

    /// Everybody reaches everybody again, without loss or delay.
    pub fn heal(&self) {
        let mut state = self.state();
        state.apart.clear();
        state.loss = 0.0;
        state.delay = Duration::ZERO..=Duration::ZERO;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or one insertion: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn address_of(&mut self, name: &str) -> SocketAddr {
        let next = u32::from(Ipv4Addr::new(10, 0, 0, 1)) + u32::try_from(self.addresses.len()).unwrap_or(0);
        *self.addresses.entry(name.to_owned()).or_insert_with(|| SocketAddr::from((Ipv4Addr::from(next), 1)))
    }

    fn name_of(&self, address: SocketAddr) -> Option<&str> {
        self.addresses.iter().find(|(_, known)| **known == address).map(|(name, _)| name.as_str())
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        self.apart.contains(from) == self.apart.contains(to)
    }
}

/// A place in a network.
#[derive(Clone, Debug)]
pub struct Name {
    network: Network,
    name: String,
}

impl Name {
    pub(super) fn listen(&self) -> io::Result<Listener> {
        let (sender, streams) = mpsc::channel(BACKLOG_CONNECTIONS);
        let mut state = self.network.state();
        if state.listeners.get(&self.name).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(self.name.clone(), sender);
        Ok(Listener { streams: tokio::sync::Mutex::new(streams), name: self.clone() })
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let listener = self.network.state().listeners.get(&self.name).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let theirs = Stream::new(Kind::Mem(theirs, "client".to_owned()));
        listener.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Stream::new(Kind::Mem(ours, self.name.clone())))
    }

    pub(super) fn socket(&self) -> io::Result<Socket> {
        let mut state = self.network.state();
        let address = state.address_of(&self.name);
        if state.inboxes.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = Arc::new(Inbox::default());
        state.inboxes.insert(address, inbox.clone());
        Ok(Socket { name: self.clone(), address, inbox })
    }

    /// A socket that nobody knows yet, and this place's address to send to.
    pub(super) fn socket_to(&self) -> io::Result<(Socket, SocketAddr)> {
        let (there, unused) = {
            let mut state = self.network.state();
            let there = state.address_of(&self.name);
            (there, format!("client-{}", state.addresses.len()))
        };
        Ok((self.network.name(unused).socket()?, there))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.network.0, &other.network.0) && self.name == other.name
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Accepts the streams that are connected to a name.
#[derive(Debug)]
pub struct Listener {
    streams: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
    name: Name,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        let stream = self.streams.lock().await.recv().await;
        stream.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }
}

#[derive(Debug, Default)]
struct Inbox {
    /// By time of arrival, then by order of sending.
    waiting: Mutex<BTreeMap<(Instant, u64), (SocketAddr, Bytes)>>,
    arrived: Notify,
}

impl Inbox {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), (SocketAddr, Bytes)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends and receives datagrams under a name.
#[derive(Debug)]
pub struct Socket {
    name: Name,
    address: SocketAddr,
    inbox: Arc<Inbox>,
}

impl Socket {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        let mut state = self.name.network.state();
        let lost = state.rng.f64() < state.loss;
        let (least, most) = (*state.delay.start(), *state.delay.end());
        let delay = least + (most.saturating_sub(least)).mul_f64(state.rng.f64());
        state.sent += 1;
        let reached = state.name_of(to).is_some_and(|there| state.reaches(&self.name.name, there));
        let Some(inbox) = state.inboxes.get(&to).filter(|_| reached && !lost) else { return };
        let mut waiting = inbox.waiting();
        if waiting.len() < INBOX_DATAGRAMS {
            let at = (Instant::now() + delay, state.sent);
            waiting.insert(at, (self.address, Bytes::copy_from_slice(bytes)));
            inbox.arrived.notify_one();
        }
    }

    pub(super) async fn recv_from(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        loop {
            let next = {
                let mut waiting = self.inbox.waiting();
                match waiting.first_entry() {
                    Some(entry) if entry.key().0 <= Instant::now() => {
                        let (from, bytes) = entry.remove();
                        let length = bytes.len().min(buffer.len());
                        buffer[..length].copy_from_slice(&bytes[..length]);
                        return (length, from);
                    }
                    Some(entry) => Some(entry.key().0),
                    None => None,
                }
            };
            match next {
                Some(at) => {
                    // Whatever comes first: this one's time, or another one that may be due earlier.
                    let _ = tokio::time::timeout_at(at, self.inbox.arrived.notified()).await;
                }
                None => self.inbox.arrived.notified().await,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.name.network.state().inboxes.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{self, Address, Datagrams};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn streams_connect_by_name_and_end() {
        let network = Network::new(1);
        let address = Address::Mem(network.name("a"));
        assert!(Stream::connect(&address).await.is_err());
        let listener = transport::Listener::bind(&address).await.unwrap();
        assert!(transport::Listener::bind(&address).await.is_err());
        let mut client = Stream::connect(&address).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        client.write_all(b"hi").await.unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hi");
        drop(listener);
        assert!(Stream::connect(&address).await.is_err());
    }

    /// Sends 200 numbers and returns the ones that arrive, in order of arrival.
    async fn arrivals(seed: u64) -> Vec<u8> {
        let network = Network::new(seed);
        network.set_loss(0.3);
        network.set_delay(Duration::from_millis(1)..=Duration::from_millis(50));
        let a = Datagrams::bind(&Address::Mem(network.name("a"))).await.unwrap();
        let b = Datagrams::bind(&Address::Mem(network.name("b"))).await.unwrap();
        for number in 0..200u8 {
            a.send_to(&[number], b.local_address().unwrap()).await.unwrap();
        }
        let mut arrived = Vec::new();
        let mut buffer = [0; 8];
        while let Ok(received) = tokio::time::timeout(Duration::from_secs(1), b.recv_from(&mut buffer)).await
        {
            assert_eq!(received.unwrap(), (1, a.local_address().unwrap()));
            arrived.push(buffer[0]);
        }
        arrived
    }

    #[tokio::test(start_paused = true)]
    async fn loss_and_delay_follow_the_seed() {
        let arrived = arrivals(7).await;
        assert!((110..170).contains(&arrived.len()), "{} of 200 at 30 % loss", arrived.len());
        assert!(!arrived.is_sorted(), "delays let datagrams overtake each other");
        assert_eq!(arrivals(7).await, arrived);
        assert_ne!(arrivals(8).await, arrived);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_cuts_both_ways_and_heals() {
        let network = Network::new(1);
        let bind = async |name: &str| Datagrams::bind(&Address::Mem(network.name(name))).await.unwrap();
        let (a, b, c) = (bind("a").await, bind("b").await, bind("c").await);
        let reaches = async |from: &Datagrams, to: &Datagrams| {
            from.send_to(b"x", to.local_address().unwrap()).await.unwrap();
            tokio::time::timeout(Duration::from_secs(1), to.recv_from(&mut [0; 1])).await.is_ok()
        };
        network.cut_off(["a", "b"]);
        assert!(reaches(&a, &b).await);
        assert!(!reaches(&a, &c).await);
        assert!(!reaches(&c, &b).await);
        network.heal();
        assert!(reaches(&a, &c).await);
    }
}
