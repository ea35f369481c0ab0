//! This user's servers on this machine: one locked file per running server, in a directory that only they can write.
//!
//! A file says something for as long as its server lives ([`crate::presence`]).
//! File names are made from a pid and a number; nothing a user or peer chose becomes part of a path.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::{Error, Instance, Registration};
use crate::presence::{self, Presence, Word};

/// What the names of the files end in.
const EXTENSION: &str = "json";

/// What a file says. Readers ignore what they do not know.
#[derive(Serialize, Deserialize)]
struct Entry {
    service: String,
    url: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    methods: Vec<String>,
}

/// The directory of this user's running servers.
#[derive(Clone, Debug)]
pub struct Local {
    directory: PathBuf,
}

/// A server that is listed. Dropping it takes it off the list.
#[derive(Debug)]
pub struct Listing {
    path: PathBuf,
    presence: Presence,
}

impl Listing {
    /// Replaces what is listed, such as after the handlers changed.
    ///
    /// # Errors
    /// The file system's; the old entry then stays.
    pub fn update(&mut self, registration: &Registration) -> Result<(), Error> {
        let updated = self.presence.update(&text(registration));
        updated.map_err(|source| Error::File { what: "write", path: self.path.clone(), source })
    }
}

impl Local {
    /// Servers listed in `directory`, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Lists a server until the returned value is dropped or the process ends.
    ///
    /// # Errors
    /// The directory belongs to somebody else, or cannot be written.
    pub fn publish(&self, registration: &Registration) -> Result<Listing, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        presence::create(&self.directory).map_err(|source| self.failed("create", source))?;
        presence::check(&self.directory).map_err(|source| self.failed("use", source))?;
        let name = format!("{}-{}.{EXTENSION}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = self.directory.join(name);
        match Presence::post(&path, &text(registration)) {
            Ok(presence) => Ok(Listing { path, presence }),
            Err(source) => Err(Error::File { what: "write", path, source }),
        }
    }

    fn failed(&self, what: &'static str, source: std::io::Error) -> Error {
        Error::File { what, path: self.directory.clone(), source }
    }

    /// Every live server, the oldest process first. No directory is no servers.
    ///
    /// # Errors
    /// The directory cannot be read or is not ours alone.
    pub fn list(&self) -> Result<Vec<Instance>, Error> {
        let words =
            presence::all(&self.directory, EXTENSION).map_err(|source| self.failed("read", source))?;
        Ok(words.into_iter().filter_map(instance).collect())
    }

    /// The live servers that offer the method whose path `fits`, instances of one service. If there are
    /// several such methods it is the one of the newest server, which was started to be called.
    ///
    /// # Errors
    /// Those of [`Local::list`].
    pub fn offering(&self, fits: impl Fn(&str) -> bool) -> Result<Vec<Instance>, Error> {
        let mut instances = self.list()?;
        let newest = instances.iter().rev().flat_map(|instance| &instance.methods).find(|path| fits(path));
        let Some(path) = newest.cloned() else { return Ok(Vec::new()) };
        instances.retain(|instance| instance.methods.contains(&path));
        Ok(instances)
    }

    /// The live servers that offer `service`, by its name or by the last words of its name.
    ///
    /// # Errors
    /// Those of [`Local::list`], and no such server.
    pub fn resolve(&self, service: Option<&str>) -> Result<Vec<Instance>, Error> {
        let mut instances = self.list()?;
        if let Some(service) = service {
            instances.retain(|instance| offers(instance, service));
        }
        if instances.is_empty() {
            return Err(Error::NotFound {
                service: service.unwrap_or("any service").to_owned(),
                registry: "local:".to_owned(),
                unhealthy: 0,
            });
        }
        Ok(instances)
    }
}

fn offers(instance: &Instance, wanted: &str) -> bool {
    let named = |name: &str| {
        name.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let mut services =
        instance.methods.iter().filter_map(|path| path.split_once('/')).map(|(service, _)| service);
    named(&instance.service) || services.any(named)
}

fn text(registration: &Registration) -> Vec<u8> {
    let entry = Entry {
        service: registration.service.clone(),
        url: registration.url.clone(),
        tags: registration.tags.clone(),
        methods: registration.methods.clone(),
    };
    serde_json::to_vec(&entry).expect("strings are JSON")
}

/// The instance that an entry tells of; `None` for one that cannot be read.
fn instance(word: Word) -> Option<Instance> {
    let entry: Entry = serde_json::from_slice(&word.text).ok()?;
    let instance = Instance::new(word.name, entry.service, entry.url);
    Some(Instance { tags: entry.tags, methods: entry.methods, ..instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(service: &str, url: &str) -> Registration {
        Registration {
            service: service.to_owned(),
            url: url.to_owned(),
            tags: Vec::new(),
            methods: vec![format!("{service}/Hello")],
        }
    }

    fn urls(instances: &[Instance]) -> Vec<&str> {
        instances.iter().map(|instance| instance.url.as_str()).collect()
    }

    #[test]
    fn servers_are_listed_while_they_live() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(&home.path().join("services"));
        assert_eq!(local.list().unwrap(), []);
        let one = local.publish(&registration("demo.Greeter", "unix:/a")).unwrap();
        let two = local.publish(&registration("demo.Greeter", "unix:/b")).unwrap();
        let other = local.publish(&registration("demo.Echo", "unix:/c")).unwrap();
        assert_eq!(urls(&local.resolve(Some("demo.Greeter")).unwrap()), ["unix:/a", "unix:/b"]);
        assert_eq!(urls(&local.resolve(Some("Greeter")).unwrap()), ["unix:/a", "unix:/b"]);
        assert_eq!(urls(&local.resolve(None).unwrap()).len(), 3);
        drop(one);
        assert_eq!(urls(&local.resolve(Some("Greeter")).unwrap()), ["unix:/b"]);
        drop((two, other));
        assert!(matches!(local.resolve(Some("Greeter")), Err(Error::NotFound { .. })));
    }

    #[test]
    fn one_method_is_called_where_it_is_offered_and_never_another_of_its_name() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(&home.path().join("services"));
        let hello = |path: &str| path.ends_with("/Hello");
        assert_eq!(local.offering(hello).unwrap(), []);
        let _old = local.publish(&registration("shop.Greeter", "unix:/a")).unwrap();
        let _one = local.publish(&registration("demo.Greeter", "unix:/b")).unwrap();
        let _two = local.publish(&registration("demo.Greeter", "unix:/c")).unwrap();
        assert_eq!(urls(&local.offering(hello).unwrap()), ["unix:/b", "unix:/c"]);
        assert_eq!(urls(&local.offering(|path| path == "shop.Greeter/Hello").unwrap()), ["unix:/a"]);
        assert_eq!(local.offering(|path| path.ends_with("/Bye")).unwrap(), []);
    }

    #[test]
    fn the_last_words_of_a_name_are_whole_words() {
        let instance = Instance::new("1", "demo.Greeter", "unix:/a");
        assert!(offers(&instance, "Greeter") && offers(&instance, "demo.Greeter"));
        assert!(!offers(&instance, "eeter") && !offers(&instance, "x.demo.Greeter"));
    }

    #[test]
    fn an_entry_without_a_live_process_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(&home.path().join("services"));
        let live = local.publish(&registration("a.B", "unix:/a")).unwrap();
        let stale = home.path().join("services/1-0.json");
        std::fs::write(&stale, r#"{"service":"a.B","url":"unix:/stale"}"#).unwrap();
        assert_eq!(urls(&local.list().unwrap()), ["unix:/a"]);
        assert!(!stale.exists() && live.path.exists());
    }

    #[test]
    fn an_update_replaces_the_entry_and_stays_live() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(home.path().join("services").as_path());
        let mut listing = local.publish(&registration("a.B", "unix:/a")).unwrap();
        listing.update(&registration("a.C", "unix:/a")).unwrap();
        assert!(local.resolve(Some("B")).is_err());
        assert_eq!(local.resolve(Some("C")).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(home.path().join("services")).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("services");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        let local = Local::new(&directory);
        assert!(matches!(local.publish(&registration("a.B", "unix:/a")), Err(Error::File { .. })));
        assert!(matches!(local.list(), Err(Error::File { .. })));
    }

    #[test]
    fn names_never_become_paths() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(&home.path().join("services"));
        let _listing = local.publish(&registration("../../etc/passwd\0", "unix:/a")).unwrap();
        assert_eq!(local.list().unwrap()[0].service, "../../etc/passwd\0");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
