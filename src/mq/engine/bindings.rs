//! The bindings of one exchange and where they lead: direct, fanout, topic, headers, consistent hashing and at random.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::mq::wire::{Table, TableBuf, Value};

use super::id::{ExchangeId, QueueId};
use super::message::Message;
use super::topic::Topics;
use super::value;

/// Most places that one binding of a consistent-hash exchange may take on its ring.
pub const HASH_WEIGHT_MAX: u32 = 10_000;

/// What an exchange sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueId),
    /// Another exchange.
    Exchange(ExchangeId),
}

/// How an exchange chooses among its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The routing key is the binding key.
    Direct,
    /// Always.
    Fanout,
    /// The routing key matches a pattern.
    Topic,
    /// The headers match the arguments of the binding.
    Headers,
    /// One of all, by a hash; the binding key is its weight.
    ConsistentHash,
    /// One of all at random: RabbitMQ 4's, where queues of other nodes do not count.
    LocalRandom,
    /// As the kind of number `0`, but after the time in the header `x-delay`.
    Delayed(Inner),
}

/// The kinds that a delayed exchange can have inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// As [`Kind::Direct`].
    Direct,
    /// As [`Kind::Fanout`].
    Fanout,
    /// As [`Kind::Topic`].
    Topic,
    /// As [`Kind::Headers`].
    Headers,
    /// As [`Kind::ConsistentHash`].
    ConsistentHash,
}

impl Kind {
    /// From the name in `exchange.declare`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "x-delayed-message" => Self::Delayed(Inner::Direct),
            "x-local-random" => Self::LocalRandom,
            other => Inner::from_name(other)?.outside(),
        })
    }

    /// The name in `exchange.declare`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::LocalRandom => "x-local-random",
            Self::Delayed(_) => "x-delayed-message",
        }
    }
}

impl Inner {
    /// From the argument `x-delayed-type`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" | "match" => Self::Headers,
            "x-consistent-hash" => Self::ConsistentHash,
            _ => return None,
        })
    }

    fn outside(self) -> Kind {
        match self {
            Self::Direct => Kind::Direct,
            Self::Fanout => Kind::Fanout,
            Self::Topic => Kind::Topic,
            Self::Headers => Kind::Headers,
            Self::ConsistentHash => Kind::ConsistentHash,
        }
    }
}

/// What a consistent-hash exchange hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HashOf {
    RoutingKey,
    Header(Arc<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

#[derive(Debug)]
enum Routes {
    Direct(HashMap<Arc<[u8]>, Counted>),
    Fanout(Counted),
    Topic(Topics<Destination>),
    Headers(Vec<(Match, Destination)>),
    Hash(HashOf, Vec<Destination>),
    /// With the number of messages so far.
    Random(Counted, Cell<u64>),
}

/// Destinations, each once, with how often it is bound.
#[derive(Debug, Default)]
struct Counted {
    list: Vec<Destination>,
    counts: HashMap<Destination, (usize, u32)>,
}

impl Counted {
    fn add(&mut self, destination: Destination) {
        let at = self.list.len();
        let (_, count) = self.counts.entry(destination).or_insert((at, 0));
        *count += 1;
        if *count == 1 {
            self.list.push(destination);
        }
    }

    fn remove(&mut self, destination: Destination) {
        let Some((at, count)) = self.counts.get_mut(&destination) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let at = *at;
        self.counts.remove(&destination);
        self.list.swap_remove(at);
        if let Some((moved, _)) = self.list.get(at).and_then(|other| self.counts.get_mut(other)) {
            *moved = at;
        }
    }
}

/// What a binding of a headers exchange asks for.
#[derive(Debug, Clone, PartialEq)]
struct Match {
    any: bool,
    with_x: bool,
    arguments: TableBuf,
}

impl Match {
    fn new(arguments: Table<'_>) -> Self {
        let kind = arguments.get("x-match").and_then(|value| value.as_str());
        Self {
            any: matches!(kind, Some("any" | "any-with-x")),
            with_x: matches!(kind, Some("all-with-x" | "any-with-x")),
            arguments: arguments.into(),
        }
    }

    fn accepts(&self, headers: Table<'_>) -> bool {
        let mut asked = self
            .arguments
            .as_table()
            .iter()
            .filter(|(name, _)| if self.with_x { *name != b"x-match" } else { !name.starts_with(b"x-") });
        let matches = |(name, wanted): (&[u8], Value<'_>)| {
            let held = headers.iter().find(|(other, _)| *other == name);
            held.is_some_and(|(_, held)| matches!(wanted, Value::Void) || value::is_same(held, wanted))
        };
        if self.any { asked.any(matches) } else { asked.all(matches) }
    }
}

/// All bindings from one exchange.
#[derive(Debug)]
pub(crate) struct Bindings {
    all: BTreeMap<(Destination, Arc<[u8]>), Vec<TableBuf>>,
    count: usize,
    routes: Routes,
}

impl Bindings {
    pub fn new(kind: Kind, arguments: Table<'_>) -> Self {
        let routes = match kind {
            Kind::Direct | Kind::Delayed(Inner::Direct) => Routes::Direct(HashMap::new()),
            Kind::Fanout | Kind::Delayed(Inner::Fanout) => Routes::Fanout(Counted::default()),
            Kind::Topic | Kind::Delayed(Inner::Topic) => Routes::Topic(Topics::default()),
            Kind::Headers | Kind::Delayed(Inner::Headers) => Routes::Headers(Vec::new()),
            Kind::LocalRandom => Routes::Random(Counted::default(), Cell::new(0)),
            Kind::ConsistentHash | Kind::Delayed(Inner::ConsistentHash) => {
                Routes::Hash(hash_of(arguments), Vec::new())
            }
        };
        Self { all: BTreeMap::new(), count: 0, routes }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Adds a binding; false if it was there.
    pub fn add(&mut self, destination: Destination, key: &Arc<[u8]>, arguments: Table<'_>) -> bool {
        let same = self.all.entry((destination, key.clone())).or_default();
        if same.iter().any(|held| value::is_same_table(held.as_table(), arguments)) {
            return false;
        }
        same.push(arguments.into());
        self.count += 1;
        match &mut self.routes {
            Routes::Direct(keys) => keys.entry(key.clone()).or_default().add(destination),
            Routes::Fanout(all) | Routes::Random(all, _) => all.add(destination),
            Routes::Topic(topics) => topics.insert(key, destination),
            Routes::Headers(all) => all.push((Match::new(arguments), destination)),
            Routes::Hash(_, ring) => {
                let weight = weight(key);
                ring.extend((0..weight).map(|_| destination));
            }
        }
        true
    }

    /// Takes a binding away, and tells its arguments as they were given when it was made, if there was one.
    pub fn remove(
        &mut self,
        destination: Destination,
        key: &Arc<[u8]>,
        arguments: Table<'_>,
    ) -> Option<TableBuf> {
        let same = self.all.get_mut(&(destination, key.clone()))?;
        let at = same.iter().position(|held| value::is_same_table(held.as_table(), arguments))?;
        let held = same.swap_remove(at);
        if same.is_empty() {
            self.all.remove(&(destination, key.clone()));
        }
        self.count -= 1;
        match &mut self.routes {
            Routes::Direct(keys) => {
                if let Some(counted) = keys.get_mut(key) {
                    counted.remove(destination);
                    if counted.list.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            Routes::Fanout(all) | Routes::Random(all, _) => all.remove(destination),
            Routes::Topic(topics) => topics.remove(key, destination),
            Routes::Headers(all) => {
                let asked = Match::new(held.as_table());
                if let Some(at) = all.iter().position(|(held, to)| *to == destination && *held == asked) {
                    all.remove(at);
                }
            }
            Routes::Hash(_, ring) => {
                let mut weight = weight(key);
                ring.retain(|held| {
                    let goes = *held == destination && weight > 0;
                    weight -= u32::from(goes);
                    !goes
                });
            }
        }
        Some(held)
    }

    /// The bindings to one destination.
    pub fn to(&self, destination: Destination) -> Vec<(Arc<[u8]>, TableBuf)> {
        let from = (destination, Arc::from(&b""[..]));
        let range = self.all.range(from..).take_while(|((to, _), _)| *to == destination);
        range.flat_map(|((_, key), tables)| tables.iter().map(|table| (key.clone(), table.clone()))).collect()
    }

    /// Whether there is a binding to a destination.
    pub fn is_bound(&self, destination: Destination) -> bool {
        let from = (destination, Arc::from(&b""[..]));
        self.all.range(from..).next().is_some_and(|((to, _), _)| *to == destination)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Destination, &Arc<[u8]>, &TableBuf)> {
        self.all.iter().flat_map(|((to, key), tables)| tables.iter().map(move |table| (*to, key, table)))
    }

    /// Whether routing looks at nothing but the routing key.
    pub fn is_by_key(&self) -> bool {
        match &self.routes {
            Routes::Direct(_) | Routes::Fanout(_) | Routes::Topic(_) => true,
            Routes::Headers(_) | Routes::Random(..) => false,
            Routes::Hash(of, _) => *of == HashOf::RoutingKey,
        }
    }

    /// Calls back for each destination of a message, possibly more than once.
    pub fn route(
        &self,
        key: &[u8],
        message: &Message,
        headers: Table<'_>,
        found: &mut impl FnMut(Destination),
    ) {
        match &self.routes {
            Routes::Direct(keys) => {
                if let Some(counted) = keys.get(key) {
                    counted.list.iter().copied().for_each(found);
                }
            }
            Routes::Fanout(all) => all.list.iter().copied().for_each(found),
            Routes::Topic(topics) => topics.matches(key, found),
            Routes::Headers(all) => {
                all.iter().filter(|(asked, _)| asked.accepts(headers)).for_each(|(_, to)| found(*to));
            }
            Routes::Random(all, count) => {
                let number = count.get().wrapping_add(1);
                count.set(number);
                if let Some(chosen) = hash(&number.to_le_bytes()).checked_rem(all.list.len() as u64) {
                    found(all.list[chosen as usize]);
                }
            }
            Routes::Hash(of, ring) => {
                if ring.is_empty() {
                    return;
                }
                let hash = match of {
                    HashOf::RoutingKey => hash(key),
                    HashOf::Header(name) => headers.get(name).map_or(0, |held| hash(&value::bytes_of(held))),
                    HashOf::MessageId => hash(message.properties().message_id().unwrap_or_default()),
                    HashOf::CorrelationId => hash(message.properties().correlation_id().unwrap_or_default()),
                    HashOf::Timestamp => {
                        hash(&message.properties().timestamp().unwrap_or_default().to_be_bytes())
                    }
                };
                found(ring[jump(hash, ring.len())]);
            }
        }
    }
}

/// How many places on the ring a binding key asks for: a number, 0 if it is none.
fn weight(key: &[u8]) -> u32 {
    let number = std::str::from_utf8(key).ok().and_then(|key| key.parse().ok());
    number.unwrap_or(0).min(HASH_WEIGHT_MAX)
}

fn hash_of(arguments: Table<'_>) -> HashOf {
    if let Some(header) = arguments.get("hash-header").and_then(|value| value.as_str()) {
        return HashOf::Header(header.into());
    }
    match arguments.get("hash-property").and_then(|value| value.as_str()) {
        Some("message_id") => HashOf::MessageId,
        Some("correlation_id") => HashOf::CorrelationId,
        Some("timestamp") => HashOf::Timestamp,
        _ => HashOf::RoutingKey,
    }
}

/// FNV-1a with a final mix: the same after every restart, so that a key keeps its queue.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Jump consistent hash (Lamping and Veach, 2014), as RabbitMQ's exchange uses it.
fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0_i64, 0_i64);
    while next < buckets as i64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_i64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    bucket as usize
}
