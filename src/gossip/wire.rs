//! The wire of memberlist and Serf: datagrams and streams as bytes, and back.
//!
//! Golden bytes of real agents decide (`tests/golden/gossip`). What agents of any version send is read, and what is
//! written every version reads.
//!
//! ```text
//! msgpack   the dialect of Go's codec
//! message   who is there, suspected, gone; pings and their answers
//! serf      intents, events, queries, answers
//! data      keys and values of our own
//! state     what two nodes exchange about everybody
//! packet    datagrams: label, encryption, checksum, compression, compound
//! stream    the same over TCP, read as it comes
//! keyring   AES-GCM under several keys
//! payload   what Serf puts into fields of others: tags, coordinates, requests about keys
//! ```

mod compress;
pub mod data;
pub mod ipc;
mod keyring;
mod label;
mod message;
pub mod msgpack;
mod packet;
mod payload;
mod serf;
mod state;
mod stream;
#[cfg(test)]
mod tests;

pub use compress::{compress, decompress};
pub use keyring::{KEY_BYTES, KEYS_MAX, KeyError, Keyring, NonceBytes, OVERHEAD_BYTES};
pub use label::LABEL_BYTES_MAX;
pub use message::{
    Accusation, Ack, Alive, IndirectPing, META_BYTES_MAX, Message, NAME_BYTES_MAX, Name, Ping, Source,
    VERSIONS, Versions,
};
pub use packet::{COMPOUND_BYTES, Layers, PART_BYTES, PARTS_MAX, Packet, PacketError, Wrapping, encode};
pub use payload::{
    Conflict, Coordinate, DIMENSIONS, KeyResponse, decode_key_request, decode_tags, encode_key_request,
    encode_tags,
};
pub use serf::{
    Filter, Intent, QUERY_FLAG_ACK, QUERY_FLAG_NO_BROADCAST, Query, QueryResponse, RESPONSE_FLAG_ACK, Relay,
    Serf, UserEvent,
};
pub use state::{NODES_MAX, Node, NodeState, PushPull, SerfState};
pub use stream::{STREAM_BYTES_MAX, StreamDecoder, StreamError, StreamMessage};
