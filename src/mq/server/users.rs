//! Who may come in, and what each may do where: users with hashed passwords, virtual hosts, permissions.
//!
//! The file is RabbitMQ's definitions: `rabbitmqctl export_definitions` writes one, with the members `users`, `vhosts`,
//! `permissions` and `topic_permissions` that are read here. A user may have a `password` instead of a `password_hash`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde::Deserialize;

use crate::mq::engine::{Access, Pattern, PatternError};
use crate::mq::wire::{Table, Value};

/// The virtual host that every broker has.
const DEFAULT_VHOST: &str = "/";

/// Lets in from this machine only: RabbitMQ's `loopback_users`.
const LOCAL_USER: &str = "guest";

/// Bytes of salt before a hash: RabbitMQ's.
const SALT_SIZE: usize = 4;

/// Why the file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It is not JSON of that form.
    #[error("not a file of definitions: {0}")]
    Form(#[from] serde_json::Error),
    /// A hash that is none.
    #[error("user '{0}': the password hash is not base64 of a salt and a SHA-256 or SHA-512 hash")]
    Hash(String),
    /// A hash of an algorithm that is not known.
    #[error("user '{user}': hashing algorithm '{algorithm}' is not known; SHA-256 and SHA-512 are")]
    Algorithm {
        /// Whose.
        user: String,
        /// As it stands there.
        algorithm: String,
    },
    /// A permission that is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Permissions of somebody or somewhere that is not defined.
    #[error("permissions of user '{user}' on virtual host '{vhost}': one of them is not defined")]
    Unknown {
        /// Whose.
        user: String,
        /// Where.
        vhost: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    users: Vec<FileUser>,
    vhosts: Vec<FileVhost>,
    permissions: Vec<FilePermission>,
    topic_permissions: Vec<FileTopicPermission>,
}

#[derive(Debug, Deserialize)]
struct FileUser {
    name: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    password_hash: Option<String>,
    #[serde(default)]
    hashing_algorithm: Option<String>,
    #[serde(default)]
    tags: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct FileVhost {
    name: String,
}

#[derive(Debug, Deserialize)]
struct FilePermission {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Debug, Deserialize)]
struct FileTopicPermission {
    user: String,
    vhost: String,
    exchange: String,
    write: String,
    read: String,
}

/// A salted hash; nobody has one to be let in by certificate only.
#[derive(Clone)]
struct Hash {
    algorithm: &'static digest::Algorithm,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    fn of(password: &str) -> Self {
        let mut salt = vec![0; SALT_SIZE];
        fastrand::fill(&mut salt);
        let hash = Self::digest(&digest::SHA256, &salt, password.as_bytes());
        Self { algorithm: &digest::SHA256, salt, hash }
    }

    fn digest(algorithm: &'static digest::Algorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
        let mut context = digest::Context::new(algorithm);
        context.update(salt);
        context.update(password);
        context.finish().as_ref().to_vec()
    }

    fn matches(&self, password: &[u8]) -> bool {
        let given = Self::digest(self.algorithm, &self.salt, password);
        // All of it is compared whatever differs, so that the time tells nothing.
        given.len() == self.hash.len()
            && given.iter().zip(&self.hash).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    hash: Option<Hash>,
    access: HashMap<String, Arc<Access>>,
}

/// What is known of who wants to come in, beside what is said.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// From this machine.
    pub is_local: bool,
    /// The common name and the whole name of a certificate that was verified.
    pub certificate: Option<(Option<String>, String)>,
}

/// A mechanism of SASL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    AmqPlain,
    External,
}

impl Mechanism {
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            "AMQPLAIN" => Some(Self::AmqPlain),
            "EXTERNAL" => Some(Self::External),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Users {
    users: HashMap<String, User>,
    vhosts: BTreeSet<String>,
}

impl Default for Users {
    /// The user `guest` with the password `guest`, for this machine.
    fn default() -> Self {
        let access = HashMap::from([(DEFAULT_VHOST.to_owned(), Arc::new(Access::full()))]);
        let guest = User { name: LOCAL_USER.into(), hash: Some(Hash::of(LOCAL_USER)), access };
        Self {
            users: HashMap::from([(LOCAL_USER.to_owned(), guest)]),
            vhosts: BTreeSet::from([DEFAULT_VHOST.to_owned()]),
        }
    }
}

impl Users {
    /// Those of a file; nobody else.
    ///
    /// # Errors
    /// It is none, or says what makes no sense.
    pub fn parse(json: &str) -> Result<Self, UsersError> {
        // A structure may be written as a list for serde; these are not.
        serde_json::from_str::<HashMap<String, serde::de::IgnoredAny>>(json)?;
        let file: File = serde_json::from_str(json)?;
        let mut vhosts: BTreeSet<String> = file.vhosts.into_iter().map(|vhost| vhost.name).collect();
        vhosts.insert(DEFAULT_VHOST.to_owned());
        let mut users = HashMap::new();
        let mut impersonators = BTreeSet::new();
        for user in file.users {
            let hash = match (&user.password_hash, &user.password) {
                (Some(hash), _) if !hash.is_empty() => Some(read_hash(&user, hash)?),
                (_, Some(password)) => Some(Hash::of(password)),
                _ => None,
            };
            if has_tag(&user.tags, "impersonator") {
                impersonators.insert(user.name.clone());
            }
            let known = User { name: user.name.as_str().into(), hash, access: HashMap::new() };
            users.insert(user.name, known);
        }
        for permission in file.permissions {
            let user = users.get_mut(&permission.user).filter(|_| vhosts.contains(&permission.vhost));
            let Some(user) = user else {
                return Err(UsersError::Unknown { user: permission.user, vhost: permission.vhost });
            };
            let access = Access {
                configure: Pattern::new(&permission.configure)?,
                write: Pattern::new(&permission.write)?,
                read: Pattern::new(&permission.read)?,
                topics: HashMap::new(),
                impersonates: impersonators.contains(&permission.user),
            };
            user.access.insert(permission.vhost, Arc::new(access));
        }
        for topic in file.topic_permissions {
            let access = users.get_mut(&topic.user).and_then(|user| user.access.get_mut(&topic.vhost));
            let Some(access) = access else {
                return Err(UsersError::Unknown { user: topic.user, vhost: topic.vhost });
            };
            let patterns = (Pattern::new(&topic.write)?, Pattern::new(&topic.read)?);
            Arc::make_mut(access).topics.insert(topic.exchange.as_str().into(), patterns);
        }
        Ok(Self { users, vhosts })
    }

    /// The virtual hosts there are.
    pub fn vhosts(&self) -> impl Iterator<Item = &str> {
        self.vhosts.iter().map(String::as_str)
    }

    /// Who it is, if the response proves it.
    pub(super) fn authenticate(
        &self,
        mechanism: Mechanism,
        response: &[u8],
        origin: &Origin,
    ) -> Option<Arc<str>> {
        let user = match mechanism {
            Mechanism::Plain => self.by_password(plain(response)?)?,
            Mechanism::AmqPlain => self.by_password(amqplain(response)?)?,
            Mechanism::External => {
                let (common, subject) = origin.certificate.as_ref()?;
                let common = common.as_ref().and_then(|name| self.users.get(name));
                common.or_else(|| self.users.get(subject))?
            }
        };
        (&*user.name != LOCAL_USER || origin.is_local).then(|| user.name.clone())
    }

    fn by_password(&self, (name, password): (&[u8], &[u8])) -> Option<&User> {
        let user = self.users.get(std::str::from_utf8(name).ok()?)?;
        user.hash.as_ref()?.matches(password).then_some(user)
    }

    /// What a user may do on a virtual host; none if nothing at all.
    pub(super) fn access(&self, user: &str, vhost: &str) -> Option<Arc<Access>> {
        self.users.get(user)?.access.get(vhost).cloned()
    }
}

fn has_tag(tags: &serde_json::Value, wanted: &str) -> bool {
    match tags {
        // RabbitMQ before 3.9 wrote them with commas between them.
        serde_json::Value::String(text) => text.split(',').any(|tag| tag == wanted),
        serde_json::Value::Array(tags) => tags.iter().any(|tag| tag == wanted),
        _ => false,
    }
}

fn read_hash(user: &FileUser, text: &str) -> Result<Hash, UsersError> {
    let algorithm = match user.hashing_algorithm.as_deref() {
        None | Some("rabbit_password_hashing_sha256") => &digest::SHA256,
        Some("rabbit_password_hashing_sha512") => &digest::SHA512,
        Some(other) => {
            let algorithm = other.to_owned();
            return Err(UsersError::Algorithm { user: user.name.clone(), algorithm });
        }
    };
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == SALT_SIZE + algorithm.output_len());
    let Some(bytes) = bytes else { return Err(UsersError::Hash(user.name.clone())) };
    let (salt, hash) = bytes.split_at(SALT_SIZE);
    Ok(Hash { algorithm, salt: salt.to_vec(), hash: hash.to_vec() })
}

/// RFC 4616: an authorization identity that is ignored as RabbitMQ does, NUL, the name, NUL, the password.
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, password))
}

/// AMQP 0-9's own: a field table without its length, with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = Table::parse(response).ok()?;
    match (table.get("LOGIN")?, table.get("PASSWORD")?) {
        (Value::Text(name), Value::Text(password)) => Some((name, password)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Origin {
        Origin { is_local: true, certificate: None }
    }

    #[test]
    fn guest_comes_in_from_this_machine_only() {
        let users = Users::default();
        let may = |response: &[u8], origin: &Origin| {
            users.authenticate(Mechanism::Plain, response, origin).as_deref() == Some("guest")
        };
        assert!(may(b"\0guest\0guest", &local()) && may(b"x\0guest\0guest", &local()));
        assert!(!may(b"\0guest\0guest", &Origin::default()));
        for wrong in
            [b"\0guest\0gues".as_slice(), b"\0guest\0", b"guest", b"", b"\0nobody\0guest", b"\0\xff\0x"]
        {
            assert!(!may(wrong, &local()), "{wrong:?}");
        }
        let table = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
        assert!(users.authenticate(Mechanism::AmqPlain, table, &local()).is_some());
        assert!(users.authenticate(Mechanism::AmqPlain, b"xx", &local()).is_none());
        assert!(users.authenticate(Mechanism::External, b"guest", &local()).is_none());
    }

    #[test]
    fn a_file_of_definitions_says_who_may_do_what() {
        // The hash is RabbitMQ's example of its documentation: salt 908DC60A, password test12.
        let users = Users::parse(
            r#"{"users":[{"name":"bob","password_hash":"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
                "hashing_algorithm":"rabbit_password_hashing_sha256","tags":["impersonator"]},
                {"name":"eve","password":"s3cret","tags":""},{"name":"CN=robot,O=X"}],
                "vhosts":[{"name":"/"},{"name":"shop"}],
                "permissions":[{"user":"bob","vhost":"shop","configure":"^bob","write":".*","read":""}]}"#,
        )
        .unwrap();
        let far = Origin::default();
        let who = |response: &[u8]| users.authenticate(Mechanism::Plain, response, &far);
        assert_eq!(who(b"\0bob\0test12").as_deref(), Some("bob"));
        assert_eq!(who(b"\0bob\0test13"), None);
        assert_eq!(who(b"\0eve\0s3cret").as_deref(), Some("eve"));
        assert_eq!(who(b"\0CN=robot,O=X\0"), None);
        assert_eq!(who(b"\0guest\0guest"), None);
        assert!(users.access("bob", "shop").unwrap().impersonates);
        assert!(users.access("bob", "/").is_none() && users.access("eve", "shop").is_none());
        let by = |common: Option<&str>, subject: &str| Origin {
            is_local: false,
            certificate: Some((common.map(str::to_owned), subject.to_owned())),
        };
        let external = |origin: &Origin| users.authenticate(Mechanism::External, b"", origin);
        assert_eq!(external(&by(Some("eve"), "CN=eve")).as_deref(), Some("eve"));
        assert_eq!(external(&by(Some("robot"), "CN=robot,O=X")).as_deref(), Some("CN=robot,O=X"));
        assert_eq!(external(&by(Some("guest"), "CN=guest")), None);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        for (file, word) in [
            ("[]", "definitions"),
            (r#"{"users":[{"name":"a","password_hash":"AAAA"}]}"#, "hash"),
            (r#"{"users":[{"name":"a","password_hash":"AAAA","hashing_algorithm":"md5"}]}"#, "md5"),
            (
                r#"{"permissions":[{"user":"a","vhost":"/","configure":"","write":"","read":""}]}"#,
                "not defined",
            ),
        ] {
            let error = Users::parse(file).unwrap_err().to_string();
            assert!(error.contains(word), "{file}: {error}");
        }
    }
}
