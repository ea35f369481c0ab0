//! What holds for this user and process: environment, directories, contexts. Flags win over all of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::endpoint::Pillar;
use super::exit::{Exit, Failure};

/// The environment, as far as the program looks at it. An empty variable counts as unset.
#[derive(Clone, Debug)]
pub enum Environment {
    /// The process's own.
    Process,
    /// Made up, for tests.
    Fixed(BTreeMap<String, String>),
}

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::Process => std::env::var_os(name)?.to_string_lossy().into_owned(),
            Self::Fixed(map) => map.get(name)?.clone(),
        };
        (!value.is_empty()).then_some(value)
    }

    /// True if the variable is set and not to `0`.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }
}

/// This user's directories. `BANDY_HOME` puts all of them under one, which makes a test hermetic.
#[derive(Clone, Debug)]
pub struct Home {
    /// `config.toml`: contexts.
    pub config: PathBuf,
    /// Data that stays.
    pub state: PathBuf,
    /// What can be made again: descriptor caches.
    pub cache: PathBuf,
    /// Sockets and registrations of running servers.
    pub runtime: PathBuf,
}

impl Home {
    /// All of them below one directory.
    pub fn below(home: &Path) -> Self {
        Self {
            config: home.join("config.toml"),
            state: home.join("state"),
            cache: home.join("cache"),
            runtime: home.join("run"),
        }
    }

    /// Where they are; nothing is created.
    pub fn new(environment: &Environment) -> Self {
        if let Some(home) = environment.get("BANDY_HOME") {
            return Self::below(Path::new(&home));
        }
        let user = match environment {
            // Without HOME, the user database says where that is.
            Environment::Process => std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
            Environment::Fixed(_) => PathBuf::from(environment.get("HOME").unwrap_or_else(|| "/".to_owned())),
        };
        // XDG base directory specification: a relative path is to be ignored.
        let xdg = |variable: &str, fallback: PathBuf| {
            let path = environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            path.unwrap_or(fallback).join("bandy")
        };
        let temporary = environment.get("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
        let runtime = match environment.get("XDG_RUNTIME_DIR").filter(|path| path.starts_with('/')) {
            Some(path) => PathBuf::from(path).join("bandy"),
            None => Path::new(&temporary).join(format!("bandy-{}", rustix::process::getuid().as_raw())),
        };
        Self {
            config: xdg("XDG_CONFIG_HOME", user.join(".config")).join("config.toml"),
            state: xdg("XDG_STATE_HOME", user.join(".local/state")),
            cache: xdg("XDG_CACHE_HOME", user.join(".cache")),
            runtime,
        }
    }

    /// The socket of `local:NAME`.
    pub fn socket(&self, pillar: Pillar, name: &str) -> PathBuf {
        self.runtime.join(pillar.name()).join(format!("{name}.sock"))
    }

    /// Whether what listens at `local:NAME` can only be this user's: then a secret may be told to it. What is not there is
    /// nobody's.
    ///
    /// # Errors
    /// A directory on the way, or the socket, is somebody else's, or others may put theirs in its place.
    pub fn trust(&self, pillar: Pillar, name: &str) -> Result<(), Failure> {
        use std::os::unix::fs::MetadataExt;
        let socket = self.socket(pillar, name);
        let folder = socket.parent().unwrap_or(&self.runtime);
        let us = rustix::process::getuid().as_raw();
        for path in [self.runtime.as_path(), folder, &socket] {
            let Ok(about) = std::fs::symlink_metadata(path) else { continue };
            let doubt = if about.uid() != us {
                format!("{} belongs to user {}", path.display(), about.uid())
            } else if about.is_dir() && about.mode() & 0o022 != 0 {
                format!("others may write into {}", path.display())
            } else {
                continue;
            };
            let failure =
                Failure::new(Exit::Denied, format!("what is at local: may be somebody else's: {doubt}"));
            return Err(if about.uid() == us {
                failure.tip(format!("chmod go-w {}", path.display()))
            } else {
                failure.tip("export BANDY_HOME=DIR    with a directory of your own")
            });
        }
        Ok(())
    }

    /// Creates `dir` for this user alone.
    ///
    /// # Errors
    /// It cannot be created, or belongs to someone else: then a socket in it is not to be trusted.
    pub fn create_private(dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let owner = std::fs::metadata(dir)?.uid();
        if owner == rustix::process::getuid().as_raw() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to user {owner}", dir.display()),
        ))
    }
}

/// A named set of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Endpoint of rpc.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// Endpoint of mq.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mq: Option<String>,
    /// Endpoint of log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Endpoint of gossip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gossip: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// File whose first line is a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacert: Option<PathBuf>,
    /// Our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_key: Option<PathBuf>,
    /// Name that the server's certificate must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Context {
    /// Its endpoint for `pillar`.
    pub fn endpoint(&self, pillar: Pillar) -> Option<&str> {
        match pillar {
            Pillar::Rpc => self.rpc.as_deref(),
            Pillar::Mq => self.mq.as_deref(),
            Pillar::Log => self.log.as_deref(),
            Pillar::Gossip => self.gossip.as_deref(),
        }
    }
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context that is used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The one before it, for `use -`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// All contexts.
    #[serde(default, rename = "context", skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

impl Config {
    /// Reads the file; without one, there is nothing in it.
    ///
    /// # Errors
    /// It cannot be read, or is not what this program writes.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Failure::new(Exit::Usage, format!("{}, line {line}: {}", file.display(), error.message())).into()
        })
    }

    /// Writes the file for this user alone, in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, file: &Path) -> anyhow::Result<()> {
        let text = toml::to_string_pretty(self).context("cannot write the contexts as TOML")?;
        let dir = file.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            use std::io::Write;
            Home::create_private(dir)?;
            let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
            temporary.write_all(text.as_bytes())?;
            temporary.persist(file)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    /// Makes a context the current one, or none; the one before is remembered.
    pub fn make_current(&mut self, name: Option<String>) {
        if self.current != name {
            self.previous = std::mem::replace(&mut self.current, name);
        }
    }

    /// The context of that name.
    ///
    /// # Errors
    /// Not found (5), with the nearest name as a tip.
    pub fn context(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let failure = Failure::new(Exit::NotFound, format!("no context '{name}'"));
            match super::errors::near_miss(name, self.contexts.keys().map(String::as_str)) {
                Some(near) => failure.tip(format!("did you mean '{near}'?")),
                None => failure.tip("bandy context ls shows them, bandy context add makes one"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(variables: &[(&str, &str)]) -> Home {
        let map = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Home::new(&Environment::Fixed(map))
    }

    #[test]
    fn bandy_home_holds_everything() {
        let home = home(&[("BANDY_HOME", "/b"), ("XDG_RUNTIME_DIR", "/run/user/1"), ("HOME", "/home/ada")]);
        for path in [&home.config, &home.state, &home.cache, &home.runtime] {
            assert!(path.starts_with("/b"), "{}", path.display());
        }
        assert_eq!(home.socket(Pillar::Rpc, "default"), Path::new("/b/run/rpc/default.sock"));
    }

    #[test]
    fn directories_follow_xdg() {
        let home = home(&[
            ("HOME", "/home/ada"),
            ("XDG_STATE_HOME", "relative"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ]);
        assert_eq!(home.config, Path::new("/home/ada/.config/bandy/config.toml"));
        assert_eq!(home.state, Path::new("/home/ada/.local/state/bandy"));
        assert_eq!(home.runtime, Path::new("/run/user/1/bandy"));
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/config.toml");
        assert_eq!(Config::load(&file).unwrap(), Config::default());
        let mut config = Config { current: Some("prod".into()), ..Config::default() };
        let prod = Context { rpc: Some("grpcs://h".into()), user: Some("bob".into()), ..Context::default() };
        config.contexts.insert("prod".into(), prod);
        config.save(&file).unwrap();
        assert_eq!(Config::load(&file).unwrap(), config);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "current = \"a\"\n[context.a]\nrcp = \"grpc://h\"\n").unwrap();
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("rcp"), "{error}");
    }
}
