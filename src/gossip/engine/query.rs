//! Questions and answers: told to everybody, answered by those whom the filters match, straight to who asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::{
    About, Engine, Event, KeyOperation, Message, Name, NodeState, Output, QueryId, QueryOptions, Refusal,
    Serf, Status, Summary, Time, Timer,
};
use crate::gossip::wire::{
    Conflict, Filter, QUERY_FLAG_ACK, QUERY_FLAG_NO_BROADCAST, Query, QueryResponse, RESPONSE_FLAG_ACK,
    Relay, decode_key_request, decode_tags,
};

/// Most bytes of a query, and of an answer to one. Serf, QuerySizeLimit and QueryResponseSizeLimit.
pub const QUERY_BYTES_MAX: usize = 1024;
/// Queries are told apart for so many times; older ones are ignored. Serf, QueryBuffer.
const WINDOW: u64 = 512;
/// Most queries of one time.
const PER_TIME_MAX: usize = 256;
/// Longest regular expression of a filter, and how large it may become.
const EXPRESSION_BYTES_MAX: usize = 1024;
const EXPRESSION_SIZE_MAX: usize = 256 * 1024;
/// How long one who is not known is not answered again.
const STRANGER_INTERVAL: Duration = Duration::from_secs(5);
/// Queries of Serf itself begin with it.
const INTERNAL: &str = "_serf_";

/// Queries that came, and those that are ours.
#[derive(Debug, Default)]
pub(super) struct Asked {
    seen: BTreeMap<u64, Vec<u32>>,
    least: u64,
    /// Those that wait for our answer.
    waiting: HashMap<QueryId, Waiting>,
    ours: HashMap<QueryId, Ours>,
    /// When another node was found to have our name: who has it.
    conflict: Option<QueryId>,
    /// When one who is not known may be answered again.
    stranger_after: Time,
}

#[derive(Debug)]
struct Waiting {
    query: Query,
    until: Time,
}

#[derive(Debug)]
struct Ours {
    acks: HashSet<Name>,
    responses: HashSet<Name>,
    /// Of those who know somebody by our name: how many mean us.
    votes: (usize, usize),
}

impl Asked {
    pub fn ignore_until(&mut self, ltime: u64) {
        self.least = self.least.max(ltime);
    }

    /// True if it is news.
    fn put(&mut self, query: &Query, clock: u64) -> bool {
        let oldest = clock.saturating_sub(WINDOW);
        if query.ltime < self.least || query.ltime < oldest {
            return false;
        }
        while self.seen.first_key_value().is_some_and(|(ltime, _)| *ltime < oldest) {
            self.seen.pop_first();
        }
        let slot = self.seen.entry(query.ltime).or_default();
        if slot.len() >= PER_TIME_MAX || slot.contains(&query.id) {
            return false;
        }
        slot.push(query.id);
        true
    }
}

impl Engine {
    /// Asks.
    pub(super) fn ask(&mut self, now: Time, options: QueryOptions, tag: u64, outputs: &mut Vec<Output>) {
        match self.start_query(now, options, Some(tag), outputs) {
            Ok(_) => {}
            Err(refusal) => outputs.push(Output::Event(Event::Refused { tag: Some(tag), refusal })),
        }
    }

    fn start_query(
        &mut self,
        now: Time,
        options: QueryOptions,
        tag: Option<u64>,
        outputs: &mut Vec<Output>,
    ) -> Result<QueryId, Refusal> {
        let timeout = options.timeout.unwrap_or_else(|| self.config.query_timeout(self.members.living()));
        let query = Query {
            ltime: self.query_clock.time(),
            id: self.rng.u32(..),
            address: self.config.address,
            source: self.config.name.clone(),
            filters: options.filters.iter().map(Filter::encode).collect(),
            flags: if options.acks { QUERY_FLAG_ACK } else { 0 },
            relay_factor: options.relay_factor,
            timeout,
            name: options.name,
            payload: options.payload,
            raw: Bytes::new(),
        };
        let bytes = Serf::Query(Box::new(query.clone())).encode().len();
        if bytes > QUERY_BYTES_MAX {
            return Err(Refusal::Query { bytes });
        }
        let id = QueryId { ltime: query.ltime, id: query.id };
        self.query_clock.tick();
        let ours = Ours { acks: HashSet::new(), responses: HashSet::new(), votes: (0, 0) };
        self.asked.ours.insert(id, ours);
        self.timers.set(now + timeout, Timer::Query(id.ltime, id.id));
        if let Some(tag) = tag {
            outputs.push(Output::Event(Event::Asked { tag, query: id, timeout }));
        }
        self.receive_query(now, query, outputs);
        Ok(id)
    }

    /// A query came. Serf, handleQuery.
    pub(super) fn receive_query(&mut self, now: Time, query: Query, outputs: &mut Vec<Output>) {
        if !self.query_clock.witness(query.ltime) || !self.asked.put(&query, self.query_clock.time()) {
            return;
        }
        if query.flags & QUERY_FLAG_NO_BROADCAST == 0 {
            // Passed on also if it is not for us: filters are for those who answer.
            self.broadcasts.pass_on(
                About::Queries,
                Message::Serf(Serf::Query(Box::new(query.clone()))),
                self.room(),
            );
        }
        if !self.is_for_me(&query) {
            return;
        }
        let id = QueryId { ltime: query.ltime, id: query.id };
        if query.flags & QUERY_FLAG_ACK != 0 {
            self.send_response(now, &query, RESPONSE_FLAG_ACK, Bytes::new(), outputs);
        }
        let until = now + query.timeout;
        let event = match query.name.strip_prefix(INTERNAL) {
            Some(internal) => self.internal_query(now, id, internal, &query, outputs),
            None => Some(Event::Query {
                query: id,
                source: query.source.clone(),
                name: query.name.clone(),
                payload: query.payload.clone(),
                until,
            }),
        };
        if let Some(event) = event {
            self.timers.set(until, Timer::Query(id.ltime, id.id));
            self.asked.waiting.insert(id, Waiting { query, until });
            outputs.push(Output::Event(event));
        }
    }

    /// All filters match this node. One that is not understood does not.
    fn is_for_me(&self, query: &Query) -> bool {
        let tags = || decode_tags(&self.me().meta);
        query.filters.iter().all(|filter| match Filter::decode(filter) {
            Ok(Filter::Nodes(nodes)) => nodes.contains(&self.config.name),
            Ok(Filter::Tag { tag, expression }) => {
                let value = tags().remove(&*tag).unwrap_or_default();
                tag_matches(&expression, &value)
            }
            Err(_) => false,
        })
    }

    /// Queries of Serf itself. The driver has the keys.
    fn internal_query(
        &mut self,
        now: Time,
        query: QueryId,
        name: &str,
        asked: &Query,
        outputs: &mut Vec<Output>,
    ) -> Option<Event> {
        let key = || decode_key_request(&asked.payload).unwrap_or_default();
        let keys = |operation, key| Some(Event::Keys { query, operation, key });
        match name {
            "install-key" => keys(KeyOperation::Install, key()),
            "use-key" => keys(KeyOperation::Use, key()),
            "remove-key" => keys(KeyOperation::Remove, key()),
            "list-keys" => keys(KeyOperation::List, Vec::new()),
            "conflict" => {
                // About us: those who do not take part decide.
                let about = std::str::from_utf8(&asked.payload).ok()?;
                let member = self.members.by_name(about).filter(|_| about != &*self.config.name)?;
                let answer = Conflict {
                    node: member.name.clone(),
                    address: member.address,
                    versions: member.versions,
                    status: match member.status {
                        Status::Alive => 1,
                        Status::Leaving => 2,
                        Status::Left => 3,
                        Status::Failed => 4,
                    },
                    tags: decode_tags(&member.meta),
                };
                self.send_response(now, asked, 0, answer.encode().into(), outputs);
                None
            }
            // `ping`, which only wants the acknowledgement, and whatever else there may be.
            _ => None,
        }
    }

    /// Answers a query that came.
    pub(super) fn respond(&mut self, now: Time, id: QueryId, payload: Bytes, outputs: &mut Vec<Output>) {
        let Some(waiting) = self.asked.waiting.remove(&id).filter(|waiting| now <= waiting.until) else {
            let refusal = Refusal::QueryOver;
            return outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        };
        if payload.len() > QUERY_BYTES_MAX {
            let refusal = Refusal::Response { bytes: payload.len() };
            return outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        }
        self.send_response(now, &waiting.query, 0, payload, outputs);
    }

    fn send_response(
        &mut self,
        now: Time,
        query: &Query,
        flags: u32,
        payload: Bytes,
        outputs: &mut Vec<Output>,
    ) {
        let from = self.config.name.clone();
        let response = QueryResponse { ltime: query.ltime, id: query.id, from, flags, payload };
        if query.address == self.config.address {
            return self.receive_response(now, response, outputs);
        }
        // A query with somebody else's address would make the whole cluster flood it.
        if !self.is_member_address(query.address) && !self.may_answer_stranger(now, query) {
            return;
        }
        let message = Serf::Response(response);
        let relays = self.relays(query);
        if !relays.is_empty() {
            let relay =
                Relay { address: query.address, node: query.source.clone(), inner: message.encode().into() };
            for id in relays {
                self.send_to(id, vec![Message::Serf(Serf::Relay(relay.clone()))], outputs);
            }
        }
        self.send_plainly(query.address, vec![Message::Serf(message)], outputs);
    }

    /// A node that found its name taken asks from where nobody knows it. It is answered, but seldom.
    fn may_answer_stranger(&mut self, now: Time, query: &Query) -> bool {
        let conflict = query.name.strip_prefix(INTERNAL) == Some("conflict");
        let may = conflict && now >= self.asked.stranger_after;
        if may {
            self.asked.stranger_after = now + STRANGER_INTERVAL;
        }
        may
    }

    /// Through whom an answer goes as well. Serf, relayResponse.
    fn relays(&mut self, query: &Query) -> Vec<u32> {
        let factor = usize::from(query.relay_factor);
        if factor == 0 || self.members.living() < factor + 1 {
            return Vec::new();
        }
        let me = self.me;
        self.members.sample(&mut self.rng, factor, |id, member| {
            id != me
                && member.state == NodeState::Alive
                && member.versions[4] >= 5
                && member.address != query.address
        })
    }

    /// Passes on an answer to another member; nothing else, and to nobody else.
    pub(super) fn relay(&mut self, relay: &Relay, outputs: &mut Vec<Output>) {
        let Ok(inner @ Serf::Response(_)) = Serf::decode(&relay.inner) else { return };
        if self.is_member_address(relay.address) {
            self.send_plainly(relay.address, vec![Message::Serf(inner)], outputs);
        }
    }

    /// An answer to a query of ours. Serf, handleQueryResponse.
    pub(super) fn receive_response(&mut self, now: Time, response: QueryResponse, outputs: &mut Vec<Output>) {
        let _ = now;
        let query = QueryId { ltime: response.ltime, id: response.id };
        let Some(ours) = self.asked.ours.get_mut(&query) else { return };
        let members = self.members.len();
        // An answer of nobody is none.
        if response.from.is_empty() {
            return;
        }
        let ack = response.flags & RESPONSE_FLAG_ACK != 0;
        let who = if ack { &mut ours.acks } else { &mut ours.responses };
        // There are no more answers than members, however many are sent.
        if who.len() > 2 * members || !who.insert(response.from.clone()) {
            return;
        }
        let from = response.from;
        if self.asked.conflict == Some(query) {
            if !ack && let Ok((_, address)) = Conflict::decode(&response.payload) {
                ours.votes.0 += usize::from(address == self.config.address);
                ours.votes.1 += 1;
            }
            return;
        }
        let payload = response.payload;
        outputs.push(Output::Event(if ack {
            Event::Ack { query, from }
        } else {
            Event::Response { query, from, payload }
        }));
    }

    pub(super) fn query_over(&mut self, now: Time, query: QueryId, outputs: &mut Vec<Output>) {
        if self.asked.waiting.get(&query).is_some_and(|waiting| waiting.until <= now) {
            self.asked.waiting.remove(&query);
        }
        let Some(ours) = self.asked.ours.remove(&query) else { return };
        if self.asked.conflict.take_if(|conflict| *conflict == query).is_some() {
            let (for_us, all) = ours.votes;
            if all > 0 && for_us <= all / 2 {
                outputs.push(Output::Event(Event::Displaced));
            }
            return;
        }
        let summary = Summary { acks: ours.acks.len(), responses: ours.responses.len() };
        outputs.push(Output::Event(Event::QueryOver { query, summary }));
    }

    /// Another node says that it has our name: the others decide who stays. Serf, resolveNodeConflict.
    pub(super) fn conflict(&mut self, now: Time, other: core::net::SocketAddr, outputs: &mut Vec<Output>) {
        if self.asked.conflict.is_some() {
            return;
        }
        let (node, known) = (self.config.name.clone(), self.config.address);
        outputs.push(Output::Event(Event::Conflict { node: node.clone(), known, other }));
        let options = QueryOptions {
            name: "_serf_conflict".into(),
            payload: Bytes::copy_from_slice(node.as_bytes()),
            filters: Vec::new(),
            acks: false,
            relay_factor: 0,
            timeout: None,
        };
        if let Ok(query) = self.start_query(now, options, None, outputs) {
            self.asked.conflict = Some(query);
        }
    }
}

/// Whether an expression matches somewhere in a tag's value, as Go's regexp does.
fn tag_matches(expression: &str, value: &str) -> bool {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return false;
    }
    regex_lite::RegexBuilder::new(expression)
        .size_limit(EXPRESSION_SIZE_MAX)
        .build()
        .is_ok_and(|expression| expression.is_match(value))
}

/// Whether a member of these tags is one that the filters are for: what a command that lists members asks.
pub fn matches(filters: &[Filter], name: &str, tags: &BTreeMap<String, String>) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Nodes(nodes) => nodes.iter().any(|node| &**node == name),
        Filter::Tag { tag, expression } => {
            tag_matches(expression, tags.get(&**tag).map_or("", String::as_str))
        }
    })
}
