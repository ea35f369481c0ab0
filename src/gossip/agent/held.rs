//! What open streams hold, all together, within a bound that nobody can use up for others: over it, whoever holds the
//! most gives way, with the oldest stream of theirs.
//!
//! There is no waiting: one who opens streams and says no more in them would be waited for as long as a stream may take.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Bytes that all streams of a node hold: three of the largest there are, or thousands of the usual ones.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What all streams of a node hold. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Held {
    streams: Arc<Mutex<Streams>>,
    bytes_max: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { streams: Arc::default(), bytes_max: HELD_BYTES_MAX }
    }
}

/// When a stream came, and a number of its own: who came first is first.
type Arrival = (Instant, u64);

#[derive(Debug, Default)]
struct Streams {
    all: BTreeMap<Arrival, Entry>,
    count: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    party: IpAddr,
    bytes: usize,
    gives_way: Arc<Notify>,
}

/// What one stream holds; nothing once this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    held: Held,
    arrival: Arrival,
    gives_way: Arc<Notify>,
}

/// The stream is over: others need what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all streams hold more than {HELD_BYTES_MAX} bytes, and those of this address the most")]
pub(super) struct GivesWay;

/// Who is counted as one: an address; of IPv6, the network that one machine has.
fn party(of: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match of.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> HOST_BITS << HOST_BITS).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

impl Held {
    /// A stream with somebody that came then, which may be a while before anybody could look after it.
    pub fn stream(&self, with: IpAddr, since: Instant) -> Share {
        let gives_way = Arc::new(Notify::new());
        let mut streams = self.streams();
        let arrival = (since, streams.count);
        streams.count += 1;
        streams.all.insert(arrival, Entry { party: party(with), bytes: 0, gives_way: gives_way.clone() });
        Share { held: self.clone(), arrival, gives_way }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn remove(&mut self, arrival: Arrival) {
        if let Some(entry) = self.all.remove(&arrival) {
            self.bytes -= entry.bytes;
        }
    }

    /// The oldest stream of whoever holds the most.
    fn next_to_go(&self) -> Option<Arrival> {
        let mut parties: HashMap<IpAddr, (usize, Arrival)> = HashMap::new();
        for (arrival, entry) in self.all.iter().filter(|(_, entry)| entry.bytes > 0) {
            parties.entry(entry.party).or_insert((0, *arrival)).0 += entry.bytes;
        }
        let most = parties.into_values().max_by_key(|(bytes, oldest)| (*bytes, std::cmp::Reverse(*oldest)));
        most.map(|(_, oldest)| oldest)
    }
}

impl Share {
    /// The stream holds so much now.
    ///
    /// # Errors
    /// That is too much for all of them, and it is this one that gives way.
    pub fn hold(&self, bytes: usize) -> Result<(), GivesWay> {
        let mut streams = self.held.streams();
        let entry = streams.all.get_mut(&self.arrival).ok_or(GivesWay)?;
        let before = std::mem::replace(&mut entry.bytes, bytes);
        streams.bytes = streams.bytes - before + bytes;
        while streams.bytes > self.held.bytes_max {
            let Some(first) = streams.next_to_go() else { break };
            if let Some(entry) = streams.all.get(&first) {
                entry.gives_way.notify_one();
            }
            streams.remove(first);
            if first == self.arrival {
                return Err(GivesWay);
            }
        }
        Ok(())
    }

    /// Does something that waits for the other side, unless the stream gives way meanwhile.
    ///
    /// # Errors
    /// It did.
    pub async fn unless_others_need_it<T>(&self, work: impl Future<Output = T>) -> Result<T, GivesWay> {
        tokio::select! {
            biased;
            () = self.gives_way.notified() => Err(GivesWay),
            done = work => Ok(done),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.streams().remove(self.arrival);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(bytes_max: usize) -> Held {
        Held { bytes_max, ..Held::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether a stream has been told to end.
    async fn ends(share: &Share) -> bool {
        share.unless_others_need_it(std::future::ready(())).await.is_err()
    }

    #[tokio::test]
    async fn whoever_holds_the_most_gives_way_with_the_oldest_stream() {
        let held = held(100);
        let greedy: Vec<Share> = (0..4).map(|_| held.stream(ip("10.0.0.9"), Instant::now())).collect();
        for share in &greedy {
            share.hold(25).unwrap();
        }
        let fair = held.stream(ip("10.0.0.1"), Instant::now());
        fair.hold(30).unwrap();
        assert!(ends(&greedy[0]).await && ends(&greedy[1]).await);
        assert!(!ends(&greedy[2]).await && !ends(&fair).await);
        assert_eq!(greedy[0].hold(1), Err(GivesWay), "it is counted no more");
        // However many come after: they take from their own.
        for _ in 0..10 {
            let more = held.stream(ip("10.0.0.9"), Instant::now());
            assert_eq!(more.hold(25), Ok(()));
            assert_eq!(fair.hold(30), Ok(()));
            std::mem::forget(more);
        }
        assert_eq!(held.streams().bytes, 80);
    }

    #[tokio::test]
    async fn who_came_first_is_first_also_if_it_was_looked_after_last() {
        let held = held(100);
        let early = Instant::now();
        let fair = held.stream(ip("10.0.0.9"), early + std::time::Duration::from_secs(1));
        fair.hold(60).unwrap();
        let rude = held.stream(ip("10.0.0.9"), early);
        assert_eq!(rude.hold(60), Err(GivesWay));
        assert!(!ends(&fair).await);
    }

    #[test]
    fn one_that_wants_too_much_gives_way_itself_and_nothing_is_left_of_it() {
        let held = held(100);
        let (small, large) =
            (held.stream(ip("10.0.0.1"), Instant::now()), held.stream(ip("10.0.0.2"), Instant::now()));
        small.hold(40).unwrap();
        assert_eq!(large.hold(101), Err(GivesWay));
        assert_eq!(small.hold(100), Ok(()));
        drop((small, large));
        assert!(held.streams().all.is_empty());
        assert_eq!(held.streams().bytes, 0);
    }

    #[test]
    fn addresses_of_one_machine_are_one_party() {
        assert_eq!(party(ip("2001:db8::1")), party(ip("2001:db8::2:3")));
        assert_ne!(party(ip("2001:db8::1")), party(ip("2001:db8:0:1::1")));
        assert_eq!(party(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_ne!(party(ip("10.0.0.1")), party(ip("10.0.0.2")));
    }
}
