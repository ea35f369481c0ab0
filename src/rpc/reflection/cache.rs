//! What servers said about themselves, kept on disk so that a call need not ask again.
//!
//! One file per endpoint and service in a directory that the caller names: a header, then the encoded
//! FileDescriptorSet. A file that is too old, damaged or of another version counts as absent. A cached
//! schema can be wrong without anyone noticing, so a caller whose call fails on it should
//! [`forget`](Cache::forget) it and ask again.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::rpc::schema::Schema;

/// First bytes of a file; the number changes with the format.
const MAGIC: &[u8; 16] = b"bandy-schema-1\r\n";
/// Sets over this are not worth keeping.
const ENTRY_SIZE_MAX: usize = 4 << 20;
/// Entries over this number are removed, the oldest first.
const ENTRIES_MAX: usize = 256;

/// A directory of fetched schemas.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    keep: Duration,
}

impl Cache {
    /// Entries live in `directory`, which is made when needed, and are good for `keep`.
    pub fn new(directory: impl Into<PathBuf>, keep: Duration) -> Self {
        Self { directory: directory.into(), keep }
    }

    /// What was kept for that endpoint and service, if it is young enough at `now`.
    pub fn load(&self, endpoint: &str, service: &str, now: SystemTime) -> Option<Schema> {
        let path = self.path(endpoint, service);
        let written = std::fs::metadata(&path).ok()?.modified().ok()?;
        // A file from the future has a wrong clock behind it.
        if now.duration_since(written).ok()? > self.keep {
            return None;
        }
        let set = open(&std::fs::read(&path).ok()?, endpoint, service)?;
        Schema::from_descriptor_set(&set).ok()
    }

    /// Keeps a schema. Failing to is no error: the next call asks again.
    pub fn store(&self, endpoint: &str, service: &str, schema: &Schema) {
        let set = schema.descriptor_set();
        if set.len() <= ENTRY_SIZE_MAX {
            let _ = self.write(&self.path(endpoint, service), &seal(&set, endpoint, service));
        }
    }

    /// Removes an entry that proved wrong.
    pub fn forget(&self, endpoint: &str, service: &str) {
        let _ = std::fs::remove_file(self.path(endpoint, service));
    }

    /// Names never become paths: the file is called by their hash.
    fn path(&self, endpoint: &str, service: &str) -> PathBuf {
        self.directory.join(format!("{:016x}.schema", hash(&[endpoint.as_bytes(), service.as_bytes()])))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        self.evict()?;
        // Readers see all of it or nothing.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    }

    fn evict(&self) -> std::io::Result<()> {
        let mut entries: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&self.directory)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .filter(|(_, path)| path.extension().is_some_and(|extension| extension == "schema"))
            .collect();
        entries.sort();
        let surplus = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
        entries.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    // Fixed keys: the value outlives the process. A new standard library may change it, and then the
    // entry is not found.
    let mut hasher = std::hash::DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Magic, hash of everything after it and of the key, then the set.
fn seal(set: &[u8], endpoint: &str, service: &str) -> Vec<u8> {
    let check = hash(&[endpoint.as_bytes(), service.as_bytes(), set]);
    [MAGIC, &check.to_le_bytes()[..], set].concat()
}

fn open(bytes: &[u8], endpoint: &str, service: &str) -> Option<Vec<u8>> {
    let (check, set) = bytes.strip_prefix(MAGIC)?.split_at_checked(8)?;
    let expected = hash(&[endpoint.as_bytes(), service.as_bytes(), set]).to_le_bytes();
    (check == expected).then(|| set.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_schema_is_kept_until_it_is_too_old_or_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("new"), DAY);
        let now = SystemTime::now();
        assert!(cache.load("grpc://a", "s.S", now).is_none());
        cache.store("grpc://a", "s.S", Schema::standard());
        let soon = now + Duration::from_secs(60);
        assert_eq!(cache.load("grpc://a", "s.S", soon).unwrap().services().count(), 4);
        assert!(cache.load("grpc://b", "s.S", soon).is_none());
        assert!(cache.load("grpc://a", "s.S", now + 2 * DAY).is_none());
        cache.forget("grpc://a", "s.S");
        assert!(cache.load("grpc://a", "s.S", soon).is_none());
    }

    #[test]
    fn a_damaged_entry_is_no_entry() {
        let sealed = seal(b"set", "e", "s");
        assert_eq!(open(&sealed, "e", "s").unwrap(), b"set");
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert_eq!(open(&damaged, "e", "s"), None, "byte {index}");
            assert_eq!(open(&sealed[..index], "e", "s"), None);
        }
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path(), DAY);
        for number in 0..ENTRIES_MAX + 10 {
            cache.store("e", &number.to_string(), &Schema::default());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), ENTRIES_MAX);
    }
}
