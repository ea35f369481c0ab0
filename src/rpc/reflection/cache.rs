//! What was learnt about servers, kept on disk, so that the next command asks everything at once.
//!
//! One small file per endpoint and thing that was wanted, in a directory that the caller names. It holds the
//! questions that led to the answer the last time, and the methods that were listed: never a schema. A
//! server can change while nothing tells the client, and a call that is encoded by yesterday's schema may
//! mean something else today. So the types of a call always come from the server, and what is kept here only
//! decides how many round trips that takes. A file that is too old, damaged, or of another version counts as
//! absent.

use std::hash::{Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::fetch::Foresight;

/// First bytes of a file; the number changes with the format.
const MAGIC: &[u8; 16] = b"bandy-asked-1\r\n\0";
/// A larger file is neither written nor read.
const ENTRY_SIZE_MAX: usize = 1 << 20;
/// Entries over this number are removed, the oldest first.
const ENTRIES_MAX: usize = 256;

/// A directory of what was learnt.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    keep: Duration,
}

/// What is known about a server from the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What had to be asked.
    pub foresight: Foresight,
    /// Paths of the methods that it had, if they were listed.
    pub methods: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    /// Endpoint and what was wanted: the name of a file is only their hash.
    #[prost(string, tag = "1")]
    endpoint: String,
    #[prost(string, tag = "2")]
    wanted: String,
    #[prost(string, repeated, tag = "3")]
    symbols: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    files: Vec<String>,
    #[prost(bool, tag = "5")]
    alpha: bool,
    #[prost(string, repeated, tag = "6")]
    methods: Vec<String>,
}

impl Cache {
    /// Entries live in `directory`, which is made when needed, and are good for `keep`.
    pub fn new(directory: impl Into<PathBuf>, keep: Duration) -> Self {
        Self { directory: directory.into(), keep }
    }

    /// What was kept for that endpoint and wish, if it is young enough at `now`.
    pub fn recall(&self, endpoint: &str, wanted: &str, now: SystemTime) -> Option<Memory> {
        let file = std::fs::File::open(self.path(endpoint, wanted)).ok()?;
        let written = file.metadata().ok()?.modified().ok()?;
        // A file from the future has a wrong clock behind it.
        if now.duration_since(written).ok()? > self.keep {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(ENTRY_SIZE_MAX as u64).read_to_end(&mut bytes).ok()?;
        let entry = Entry::decode(bytes.strip_prefix(MAGIC)?).ok()?;
        let Entry { symbols, files, alpha, methods, .. } = entry;
        let is_it = entry.endpoint == endpoint && entry.wanted == wanted;
        is_it.then_some(Memory { foresight: Foresight { symbols, files, alpha }, methods })
    }

    /// Keeps what was learnt. Failing to is no error: the next command asks step by step again.
    pub fn keep(&self, endpoint: &str, wanted: &str, memory: Memory) {
        let Memory { foresight: Foresight { symbols, files, alpha }, methods } = memory;
        let (endpoint, wanted) = (endpoint.to_owned(), wanted.to_owned());
        let path = self.path(&endpoint, &wanted);
        let entry = Entry { endpoint, wanted, symbols, files, alpha, methods }.encode_to_vec();
        if entry.len() + MAGIC.len() < ENTRY_SIZE_MAX {
            let _ = self.write(&path, &entry);
        }
    }

    /// Names never become paths.
    fn path(&self, endpoint: &str, wanted: &str) -> PathBuf {
        // Fixed keys: the value outlives the process. A new standard library may change it, and then the
        // entry is not found.
        let mut hasher = std::hash::DefaultHasher::new();
        (endpoint, wanted).hash(&mut hasher);
        self.directory.join(format!("{:016x}.asked", hasher.finish()))
    }

    fn write(&self, path: &Path, entry: &[u8]) -> std::io::Result<()> {
        // What somebody calls is nobody else's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.evict()?;
        // Readers see all of it or nothing.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(entry)?;
        file.persist(path)?;
        Ok(())
    }

    fn evict(&self) -> std::io::Result<()> {
        let names = std::fs::read_dir(&self.directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        let entries: Vec<PathBuf> =
            names.filter(|path| path.extension().is_some_and(|extension| extension == "asked")).collect();
        let surplus = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
        if surplus == 0 {
            return Ok(());
        }
        let age = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let mut entries: Vec<_> = entries.into_iter().map(|path| (age(&path), path)).collect();
        entries.sort();
        entries.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn memory(symbol: &str) -> Memory {
        let foresight =
            Foresight { symbols: vec![symbol.into()], files: vec!["types.proto".into()], alpha: true };
        Memory { foresight, methods: vec!["s.S/M".into()] }
    }

    #[test]
    fn what_was_learnt_is_kept_until_it_is_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("new"), DAY);
        let now = SystemTime::now();
        assert_eq!(cache.recall("grpc://a", "S", now), None);
        cache.keep("grpc://a", "S", memory("s.S"));
        let soon = now + Duration::from_secs(60);
        assert_eq!(cache.recall("grpc://a", "S", soon), Some(memory("s.S")));
        assert_eq!(cache.recall("grpc://b", "S", soon), None);
        assert_eq!(cache.recall("grpc://a", "T", soon), None);
        assert_eq!(cache.recall("grpc://a", "S", now + 2 * DAY), None);
        cache.keep("grpc://a", "S", memory("t.S"));
        assert_eq!(cache.recall("grpc://a", "S", soon), Some(memory("t.S")));
    }

    #[test]
    fn a_damaged_entry_is_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path(), DAY);
        cache.keep("e", "s", memory("a.A"));
        let path = cache.path("e", "s");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            // What is cut between two fields can still be read; it is only less.
            if let Some(found) = cache.recall("e", "s", SystemTime::now() + DAY / 2) {
                assert!(found.foresight.symbols.len() <= 1 && found.methods.is_empty(), "{length}");
            }
        }
        std::fs::write(&path, [&whole[..], &[0xff; 9]].concat()).unwrap();
        assert_eq!(cache.recall("e", "s", SystemTime::now() + DAY / 2), None);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path(), DAY);
        for number in 0..ENTRIES_MAX + 10 {
            cache.keep("e", &number.to_string(), Memory::default());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), ENTRIES_MAX);
    }
}
