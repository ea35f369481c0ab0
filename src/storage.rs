//! One journal for queues and partitions: append-only segments of Kafka record batches, synced by groups, recovered
//! without hiding anything. Synchronous; a caller in an async server keeps what may block off its own threads.
//!
//! ```text
//! Store ── one data directory: lock, checkpoint, flusher, bounded cache of open files
//!   └─ Log ── one queue or partition, named by a UUID: append, read, truncate, trim, compact
//!        └─ segment ── batches back to back, a sparse index beside it
//! ```
//!
//! `docs/storage.md` describes the files, what each durability promises, and how a start after a crash tells a torn tail
//! from damage. Replication needs no other format: every batch carries its leader's epoch, and [`Log::truncate`] cuts
//! to where a leader's epoch ended.
//!
//! ```
//! use bandy::storage::{BatchBuilder, LogConfig, LogId, Options, Store};
//! use bytes::Bytes;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path(), Options::default())?;
//! let log = store.log(LogId::random()?, LogConfig::default())?;
//! let mut batch = BatchBuilder::new();
//! batch.push(0, None, b"", &Bytes::from_static(b"hello"))?;
//! let appended = log.append_built(&mut batch, 0)?;
//! log.wait(appended.end)?; // on disk
//! let read = log.read_record(appended.base)?;
//! assert_eq!(read.value.as_deref(), Some(&b"hello"[..]));
//! store.close()?;
//! # Ok(())
//! # }
//! ```

mod batch;
mod cache;
mod checkpoint;
mod compaction;
pub mod disk;
mod epochs;
mod error;
mod flush;
mod id;
mod index;
mod inspect;
mod lock;
mod log;
mod record;
mod recovery;
mod retention;
mod salvage;
mod segment;
mod snapshot;
mod store;
mod torn;
pub(crate) mod varint;

#[cfg(test)]
mod tests;

pub use batch::{BATCH_BYTES_MAX, Batch, BatchError, Checked, HEADER_LEN, Header, repacked, set_append_time};
pub use compaction::{Compacted, Compaction, Packing, Plain};
pub use error::{Error, Result};
pub use flush::{Observer, Synced};
pub use id::{IdError, LogId};
pub use inspect::{Bad, Examined, Inspection};
pub use lock::{NodeInfo, RESERVE};
pub use log::{Appended, Chunk, Importance, Log, LogConfig, LogState, Reader, StoredBatch, StoredRecord};
pub use record::{BatchBuilder, Headers, Record, Records};
pub use recovery::{Cut, Recovery};
pub use retention::{Retention, SegmentFacts, expired};
pub use salvage::{Salvage, Salvaged};
pub use snapshot::Snapshot;
pub use store::{Counts, Durability, Flushing, Options, Start, Store};
