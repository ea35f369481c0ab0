//! bandy: one binary for everything programs say to each other.
//!
//! The map, top to bottom; a module uses only what stands below it:
//!
//! ```text
//! cli                                parses, calls, prints; used by nobody
//! output                             tables, JSON lines, templates; used by cli only
//! rpc   mq   log                     gRPC, gRPC-Web, Connect, JSON-RPC, compact; AMQP 0-9-1; Kafka
//! gossip                             Serf and memberlist
//! transport   storage   bench   exec   sockets; journals on disk; load loops; a command per record
//! shutdown   spelling   units   secret   record   backoff   wait   leaves
//! ```
//!
//! `tests/it/tidy.rs` holds the exact table and refuses an import that it does not grant.

#![deny(unsafe_code)]

pub mod backoff;
pub mod bench;
pub mod cli;
pub mod exec;
pub mod gossip;
pub mod log;
pub mod metrics;
pub mod mq;
pub mod output;
pub mod presence;
pub mod record;
pub mod rpc;
pub mod secret;
pub mod shutdown;
pub mod spelling;
pub mod storage;
pub mod transport;
pub mod units;
pub mod wait;
