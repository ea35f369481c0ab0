//! What an engine is told, and what it wants done.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{DATA_TAG, Member, Time};
use crate::gossip::wire::data::Entry;
use crate::gossip::wire::{Filter, META_BYTES_MAX, Message, Name, StreamMessage};

/// What a node is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// It is time, as [`super::Engine::deadline`] said.
    Tick,
    /// A datagram came.
    Packet {
        /// From where.
        from: SocketAddr,
        /// What was in it.
        messages: Vec<Message>,
    },
    /// Somebody opened a stream and said this.
    Stream {
        /// The driver's number of it, for [`Output::Answer`].
        stream: u64,
        /// From where.
        from: SocketAddr,
        /// What was said.
        message: StreamMessage,
    },
    /// What came of an [`Output::Open`].
    Reply {
        /// Its number.
        exchange: u64,
        /// The answer, or that there was none.
        reply: StreamReply,
    },
    /// Join the cluster that a node at this address is in.
    Join {
        /// Where.
        seed: SocketAddr,
        /// Whether recent events are told again.
        replay: bool,
    },
    /// Leave the cluster. [`Event::Left`] follows once the others know.
    Leave,
    /// A member that failed shall count as one that left.
    ForceLeave {
        /// Who.
        node: Name,
        /// Forget it at once.
        prune: bool,
    },
    /// Tell everybody.
    Event {
        /// Its name.
        name: Arc<str>,
        /// What it says.
        payload: Bytes,
        /// Whether several of a name may become one.
        coalesce: bool,
    },
    /// Ask.
    Query {
        /// Whom, what, and for how long.
        options: QueryOptions,
        /// Comes back in [`Event::Asked`].
        tag: u64,
    },
    /// Answer a query that came.
    Respond {
        /// Which.
        query: QueryId,
        /// What to say.
        payload: Bytes,
    },
    /// These are the node's tags from now on.
    Tags(BTreeMap<String, String>),
    /// Measure the way to a member.
    Ping {
        /// Which.
        node: Name,
        /// Comes back in [`Event::Pinged`].
        tag: u64,
    },
    /// Set a key, or delete it.
    Set {
        /// The key.
        key: Arc<str>,
        /// Its value; none deletes it.
        value: Option<Bytes>,
    },
}

/// What came over a stream that was opened.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamReply {
    /// An answer.
    Message(StreamMessage),
    /// It was sent, and nothing had to come.
    Sent,
    /// It could not be opened, or nothing came in time.
    Failed(String),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryOptions {
    /// Its name.
    pub name: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// Which members answer: those that all of these match.
    pub filters: Vec<Filter>,
    /// Whether receivers say at once that it came.
    pub acks: bool,
    /// Through how many others answers go as well.
    pub relay_factor: u8,
    /// How long answers are taken; if not said, as long as a cluster of this size needs.
    pub timeout: Option<Duration>,
}

/// Which query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    /// Its time.
    pub ltime: u64,
    /// Tells queries of one time apart.
    pub id: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What is in it.
        messages: Vec<Message>,
        /// Whether the receiver checks its bytes.
        checksum: bool,
    },
    /// Open a stream and say this; [`Input::Reply`] tells what came of it.
    Open {
        /// Its number.
        exchange: u64,
        /// Where to.
        to: SocketAddr,
        /// What to say.
        message: Box<StreamMessage>,
        /// Whether an answer comes.
        answered: bool,
    },
    /// Say this on a stream that somebody opened.
    Answer {
        /// The driver's number of it.
        stream: u64,
        /// What to say.
        message: Box<StreamMessage>,
    },
    /// Tell the user.
    Event(Event),
}

/// How many members are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// They answer.
    pub alive: usize,
    /// They may have failed.
    pub suspect: usize,
    /// They are gone, and had not said so.
    pub failed: usize,
    /// They are gone, as they had said.
    pub left: usize,
}

/// What a node has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes.
    pub probes: u64,
    /// Those that had no answer in time.
    pub probes_indirect: u64,
    /// Those that had none at all.
    pub probes_failed: u64,
    /// How often it objected to what was said of it.
    pub refutations: u64,
    /// Members that were not taken, as there are too many.
    pub members_refused: u64,
    /// Keys that were dropped, as there was no room for newer ones of others.
    pub keys_dropped: u64,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It joined, or came back.
    Join,
    /// It left.
    Leave,
    /// It failed.
    Failed,
    /// Its tags are others.
    Update,
    /// It has been forgotten.
    Reap,
    /// It does not answer, and may still object.
    Suspect,
    /// It was suspect and has objected.
    Refuted,
}

/// What is done to the keys of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOperation {
    /// Add one.
    Install,
    /// Make one the primary.
    Use,
    /// Take one away.
    Remove,
    /// Tell which there are.
    List,
}

/// What the user, or the driver, is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something became of a member.
    Member {
        /// What.
        change: Change,
        /// The member as it is now.
        member: Box<Member>,
    },
    /// A user's event.
    User {
        /// Its time.
        ltime: u64,
        /// Its name.
        name: Arc<str>,
        /// What it says.
        payload: Bytes,
        /// Whether several of a name may become one.
        coalesce: bool,
    },
    /// A query for this node: [`Input::Respond`] answers it.
    Query {
        /// Which.
        query: QueryId,
        /// Who asks; older agents do not say.
        source: Name,
        /// Its name.
        name: Arc<str>,
        /// What it says.
        payload: Bytes,
        /// Until when an answer is taken.
        until: Time,
    },
    /// A query about the keys: [`Input::Respond`] with a `KeyResponse` answers it.
    Keys {
        /// Which query.
        query: QueryId,
        /// What to do.
        operation: KeyOperation,
        /// The key.
        key: Vec<u8>,
    },
    /// A query of ours is on its way.
    Asked {
        /// What was said with [`Input::Query`].
        tag: u64,
        /// Which query it is.
        query: QueryId,
        /// How long answers are taken.
        timeout: Duration,
    },
    /// A member has received our query.
    Ack {
        /// Which query.
        query: QueryId,
        /// Who.
        from: Name,
    },
    /// A member has answered our query.
    Response {
        /// Which query.
        query: QueryId,
        /// Who.
        from: Name,
        /// What it says.
        payload: Bytes,
    },
    /// No more answers to our query are taken.
    QueryOver {
        /// Which query.
        query: QueryId,
        /// What came.
        summary: Summary,
    },
    /// What came of [`Input::Join`].
    Joined {
        /// Where.
        seed: SocketAddr,
        /// Why not, if it failed.
        failure: Option<String>,
    },
    /// What came of [`Input::Ping`]: the time it took, if it came back.
    Pinged {
        /// What was said with [`Input::Ping`].
        tag: u64,
        /// How long there and back.
        time: Option<Duration>,
    },
    /// Another node has a member's name.
    Conflict {
        /// The name.
        node: Name,
        /// Where the one is that we know.
        known: SocketAddr,
        /// Where the other one is.
        other: SocketAddr,
    },
    /// Most others hold another node for the owner of this one's name: this one has to go.
    Displaced,
    /// The others know that this node leaves.
    Left,
    /// A key has another value.
    Data(Entry),
    /// What was asked for cannot be done.
    Refused {
        /// What was said with the input, if it had a tag.
        tag: Option<u64>,
        /// Why.
        refusal: Refusal,
    },
    /// A node speaks what we do not: its whole state was refused.
    Incompatible {
        /// Who.
        node: Name,
    },
}

/// What came of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many received it.
    pub acks: usize,
    /// How many answered it.
    pub responses: usize,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Tags that do not fit.
    #[error("tags of {bytes} bytes are over the limit of {META_BYTES_MAX} for all tags of a node")]
    Tags {
        /// How many.
        bytes: usize,
    },
    /// A tag that only the node itself sets.
    #[error("the tag {DATA_TAG} is the node's own: it says that it keeps keys and values")]
    OwnTag,
    /// An event that does not fit.
    #[error(
        "an event of {bytes} bytes is over the limit of {} for name and payload",
        super::event::EVENT_BYTES_MAX
    )]
    Event {
        /// How many.
        bytes: usize,
    },
    /// A query that does not fit.
    #[error("a query of {bytes} bytes is over the limit of {}", super::query::QUERY_BYTES_MAX)]
    Query {
        /// How many.
        bytes: usize,
    },
    /// An answer that does not fit.
    #[error("an answer of {bytes} bytes is over the limit of {}", super::query::QUERY_BYTES_MAX)]
    Response {
        /// How many.
        bytes: usize,
    },
    /// The query is over, was answered, or never came.
    #[error("the query is over or has been answered")]
    QueryOver,
    /// Nobody of that name is known.
    #[error("no member has the name {node}")]
    Unknown {
        /// The name.
        node: Name,
    },
    /// It is there.
    #[error("{node} is alive: only one that failed can be made to leave")]
    Living {
        /// Its name.
        node: Name,
    },
    /// A key that cannot be one.
    #[error("a key has 1 to {} bytes", crate::gossip::wire::data::KEY_BYTES_MAX)]
    Key,
    /// A value that does not fit.
    #[error("a value of {bytes} bytes is over the limit of {}", crate::gossip::wire::data::VALUE_BYTES_MAX)]
    Value {
        /// How many.
        bytes: usize,
    },
    /// No more keys or bytes are held.
    #[error("the store is full")]
    Full,
    /// The node is leaving.
    #[error("the node is leaving")]
    Leaving,
}
