//! Who may come in, and what each may do where: users with hashed passwords, virtual hosts, permissions.
//!
//! The file is RabbitMQ's definitions: `rabbitmqctl export_definitions` writes one, with the members `users`, `vhosts`,
//! `permissions` and `topic_permissions` that are read here. A user may have a `password` instead of a `password_hash`.

mod hash;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::change::{
    Change, PermissionDefinition, SHA256, TopicPermissionDefinition, UserDefinition, VhostDefinition,
};
use crate::mq::engine::{Access, Pattern, PatternError};
use crate::mq::wire::{Table, Value};
use crate::transport::sasl::{EXTERNAL, Plain};
use hash::Hash;
pub(crate) use hash::hashed;

/// The virtual host that every broker has at its start.
pub(crate) const DEFAULT_VHOST: &str = "/";

/// Lets in from this machine only: RabbitMQ's `loopback_users`.
const LOCAL_USER: &str = "guest";

/// Why users and permissions cannot be as somebody wants them.
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
    /// Of somebody who is not defined.
    #[error("user '{0}' is not defined")]
    NoUser(String),
    /// Of a virtual host that is not defined.
    #[error("virtual host '{0}' is not defined")]
    NoVhost(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    users: Vec<FileUser>,
    vhosts: Vec<VhostDefinition>,
    permissions: Vec<PermissionDefinition>,
    topic_permissions: Vec<TopicPermissionDefinition>,
}

/// A user as a file may define one.
#[derive(Debug, Deserialize)]
pub(crate) struct FileUser {
    name: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    password_hash: Option<String>,
    #[serde(default)]
    hashing_algorithm: Option<String>,
    #[serde(default)]
    tags: Json,
    #[serde(default)]
    limits: Json,
}

impl From<FileUser> for UserDefinition {
    fn from(user: FileUser) -> Self {
        let limits = user.limits.as_object().into_iter().flatten();
        let (password_hash, hashing_algorithm) = match (user.password_hash, user.password) {
            (Some(hash), _) if !hash.is_empty() => (hash, user.hashing_algorithm),
            (_, Some(password)) if !password.is_empty() => (hashed(&password), None),
            _ => (String::new(), None),
        };
        Self {
            name: user.name,
            password_hash,
            hashing_algorithm,
            tags: super::change::tags_of(&user.tags),
            limits: limits.filter_map(|(name, value)| Some((name.clone(), value.as_i64()?))).collect(),
        }
    }
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    hash: Option<Hash>,
    definition: UserDefinition,
    /// By virtual host.
    permissions: BTreeMap<String, PermissionDefinition>,
    /// By virtual host and exchange.
    topics: BTreeMap<(String, String), TopicPermissionDefinition>,
    /// The above, compiled.
    access: BTreeMap<String, Arc<Access>>,
}

impl User {
    /// Compiles what the user may do on a virtual host.
    fn compile(&mut self, vhost: &str) -> Result<(), PatternError> {
        let Some(permission) = self.permissions.get(vhost) else {
            self.access.remove(vhost);
            return Ok(());
        };
        let mut access = Access {
            configure: Pattern::new(&permission.configure)?,
            write: Pattern::new(&permission.write)?,
            read: Pattern::new(&permission.read)?,
            topics: Default::default(),
            impersonates: self.definition.tags.iter().any(|tag| tag == "impersonator"),
        };
        for topic in self.topics.values().filter(|topic| topic.vhost == vhost) {
            let of = |pattern| Pattern::of_topic(pattern, &self.name, vhost);
            let patterns = (of(&topic.write)?, of(&topic.read)?);
            access.topics.insert(topic.exchange.as_str().into(), patterns);
        }
        self.access.insert(vhost.to_owned(), Arc::new(access));
        Ok(())
    }
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
            Plain::NAME => Some(Self::Plain),
            "AMQPLAIN" => Some(Self::AmqPlain),
            EXTERNAL => Some(Self::External),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => Plain::NAME,
            Self::AmqPlain => "AMQPLAIN",
            Self::External => EXTERNAL,
        }
    }
}

/// Why somebody with a password is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No such user, or another password.
    Credentials,
    /// Right, but from another machine.
    NotLocal,
}

/// See the module.
#[derive(Debug)]
pub struct Users {
    users: BTreeMap<String, User>,
    vhosts: BTreeMap<String, VhostDefinition>,
    /// Limits by virtual host and name.
    limits: BTreeMap<(String, String), i64>,
}

impl Default for Users {
    /// What RabbitMQ has at its first start: `guest` with the password `guest`, from this machine only.
    fn default() -> Self {
        let mut users = Self::nobody();
        let guest = UserDefinition {
            name: LOCAL_USER.to_owned(),
            password_hash: hashed(LOCAL_USER),
            tags: vec!["administrator".to_owned()],
            ..UserDefinition::default()
        };
        let all = || ".*".to_owned();
        let everything = PermissionDefinition {
            user: LOCAL_USER.to_owned(),
            vhost: DEFAULT_VHOST.to_owned(),
            configure: all(),
            write: all(),
            read: all(),
        };
        for change in [Change::User(guest), Change::Permission(everything)] {
            users.apply(&change).expect("made of what is there");
        }
        users
    }
}

impl Users {
    /// The default virtual host, and nobody to use it.
    pub fn nobody() -> Self {
        let vhost = VhostDefinition {
            name: DEFAULT_VHOST.to_owned(),
            description: "Default virtual host".to_owned(),
            ..VhostDefinition::default()
        };
        let vhosts = BTreeMap::from([(DEFAULT_VHOST.to_owned(), vhost)]);
        Self { users: BTreeMap::new(), vhosts, limits: BTreeMap::new() }
    }

    /// Reads a file of definitions.
    ///
    /// # Errors
    /// It has another form, hashes that are none, or permissions of somebody who is not defined.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        // A structure may be written as a list for serde; these are not.
        serde_json::from_str::<BTreeMap<String, serde::de::IgnoredAny>>(text)?;
        let file: File = serde_json::from_str(text)?;
        let mut users = Self::nobody();
        let vhosts = file.vhosts.into_iter().map(Change::Vhost);
        let people = file.users.into_iter().map(|user| Change::User(user.into()));
        let permissions = file.permissions.into_iter().map(Change::Permission);
        let topics = file.topic_permissions.into_iter().map(Change::TopicPermission);
        for change in vhosts.chain(people).chain(permissions).chain(topics) {
            users.apply(&change)?;
        }
        Ok(users)
    }

    /// Takes a change over, as far as it is about users, virtual hosts and limits. A change that makes no sense
    /// changes nothing.
    ///
    /// # Errors
    /// It is about somebody or something that is not defined, or no pattern or hash.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), UsersError> {
        match change {
            Change::User(definition) => self.set_user(definition)?,
            Change::UserDeleted(name) => {
                self.users.remove(name);
            }
            Change::Vhost(definition) => {
                self.vhosts.insert(definition.name.clone(), definition.clone());
            }
            Change::VhostDeleted(name) => {
                self.vhosts.remove(name);
                self.limits.retain(|(vhost, _), _| vhost != name);
                for user in self.users.values_mut() {
                    user.permissions.remove(name);
                    user.topics.retain(|(vhost, _), _| vhost != name);
                    user.access.remove(name);
                }
            }
            Change::Permission(permission) => {
                for pattern in [&permission.configure, &permission.write, &permission.read] {
                    Pattern::new(pattern)?;
                }
                let user = self.user_on(&permission.user, &permission.vhost)?;
                user.permissions.insert(permission.vhost.clone(), permission.clone());
                user.compile(&permission.vhost)?;
            }
            Change::PermissionDeleted { user, vhost } => {
                let user = self.user_on(user, vhost)?;
                user.permissions.remove(vhost);
                user.compile(vhost)?;
            }
            Change::TopicPermission(topic) => {
                for pattern in [&topic.write, &topic.read] {
                    Pattern::of_topic(pattern, &topic.user, &topic.vhost)?;
                }
                let user = self.user_on(&topic.user, &topic.vhost)?;
                user.topics.insert((topic.vhost.clone(), topic.exchange.clone()), topic.clone());
                user.compile(&topic.vhost)?;
            }
            Change::TopicPermissionDeleted { user, vhost, exchange } => {
                let user = self.user_on(user, vhost)?;
                user.topics.retain(|(held, name), _| {
                    held != vhost || exchange.as_ref().is_some_and(|exchange| exchange != name)
                });
                user.compile(vhost)?;
            }
            Change::VhostLimit { vhost, name, value } => {
                if !self.vhosts.contains_key(vhost) {
                    return Err(UsersError::NoVhost(vhost.clone()));
                }
                self.limits.insert((vhost.clone(), name.clone()), *value);
            }
            Change::VhostLimitDeleted { vhost, name } => {
                self.limits.remove(&(vhost.clone(), name.clone()));
            }
            Change::UserLimit { user, name, value } => {
                let held = self.users.get_mut(user).ok_or_else(|| UsersError::NoUser(user.clone()))?;
                held.definition.limits.insert(name.clone(), *value);
            }
            Change::UserLimitDeleted { user, name } => {
                if let Some(held) = self.users.get_mut(user) {
                    held.definition.limits.remove(name);
                }
            }
            Change::Policy { .. }
            | Change::PolicyDeleted { .. }
            | Change::OperatorPolicy { .. }
            | Change::OperatorPolicyDeleted { .. }
            | Change::GlobalParameter { .. }
            | Change::GlobalParameterDeleted(_) => {}
        }
        Ok(())
    }

    fn set_user(&mut self, definition: &UserDefinition) -> Result<(), UsersError> {
        let hash = Hash::read(definition)?;
        let mut definition = definition.clone();
        definition.hashing_algorithm.get_or_insert_with(|| SHA256.to_owned());
        match self.users.get_mut(&definition.name) {
            Some(held) => {
                held.hash = hash;
                held.definition = definition;
                // Who has become an impersonator may be one.
                let vhosts: Vec<String> = held.permissions.keys().cloned().collect();
                vhosts.iter().try_for_each(|vhost| held.compile(vhost))?;
            }
            None => {
                let user = User {
                    name: definition.name.as_str().into(),
                    hash,
                    permissions: BTreeMap::new(),
                    topics: BTreeMap::new(),
                    access: BTreeMap::new(),
                    definition,
                };
                self.users.insert(user.definition.name.clone(), user);
            }
        }
        Ok(())
    }

    fn user_on(&mut self, user: &str, vhost: &str) -> Result<&mut User, UsersError> {
        let known = self.users.get_mut(user).filter(|_| self.vhosts.contains_key(vhost));
        known.ok_or_else(|| UsersError::Unknown { user: user.to_owned(), vhost: vhost.to_owned() })
    }

    /// The virtual hosts there are, by name.
    pub fn vhosts(&self) -> impl Iterator<Item = &VhostDefinition> {
        self.vhosts.values()
    }

    /// One of them.
    pub(super) fn vhost(&self, name: &str) -> Option<&VhostDefinition> {
        self.vhosts.get(name)
    }

    /// Everybody, by name.
    pub(super) fn users(&self) -> impl Iterator<Item = &UserDefinition> {
        self.users.values().map(|user| &user.definition)
    }

    /// One user.
    pub(super) fn user(&self, name: &str) -> Option<&UserDefinition> {
        self.users.get(name).map(|user| &user.definition)
    }

    /// Who may do what where.
    pub(super) fn permissions(&self) -> impl Iterator<Item = &PermissionDefinition> {
        self.users.values().flat_map(|user| user.permissions.values())
    }

    /// Who may use which topics.
    pub(super) fn topic_permissions(&self) -> impl Iterator<Item = &TopicPermissionDefinition> {
        self.users.values().flat_map(|user| user.topics.values())
    }

    /// Limits of virtual hosts: the host, which limit, how many.
    pub(super) fn vhost_limits(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        self.limits.iter().map(|((vhost, name), value)| (vhost.as_str(), name.as_str(), *value))
    }

    /// A limit of a virtual host.
    pub(super) fn vhost_limit(&self, vhost: &str, name: &str) -> Option<u64> {
        let value = self.limits.get(&(vhost.to_owned(), name.to_owned()))?;
        u64::try_from(*value).ok()
    }

    /// A limit of a user.
    pub(super) fn user_limit(&self, user: &str, name: &str) -> Option<u64> {
        u64::try_from(*self.user(user)?.limits.get(name)?).ok()
    }

    /// Who it is, if the response proves it.
    pub(super) fn authenticate(
        &self,
        mechanism: Mechanism,
        response: &[u8],
        origin: &Origin,
    ) -> Option<Arc<str>> {
        let by_password = |name: &str, password: &[u8]| self.login(name, password, origin.is_local).ok();
        let user = match mechanism {
            // The identity that is asked for is ignored, as RabbitMQ does.
            Mechanism::Plain => {
                let plain = Plain::parse(response).ok()?;
                by_password(&plain.user, plain.password.expose().as_bytes())?
            }
            Mechanism::AmqPlain => {
                let (name, password) = amqplain(response)?;
                by_password(std::str::from_utf8(name).ok()?, password)?
            }
            Mechanism::External => {
                let (common, subject) = origin.certificate.as_ref()?;
                let common = common.as_ref().and_then(|name| self.users.get(name));
                let user = common.or_else(|| self.users.get(subject))?;
                return (&*user.name != LOCAL_USER || origin.is_local).then(|| user.name.clone());
            }
        };
        Some(user)
    }

    /// Who knows the password.
    ///
    /// # Errors
    /// Nobody does, or from this machine only.
    pub(super) fn login(&self, name: &str, password: &[u8], is_local: bool) -> Result<Arc<str>, Denied> {
        let user = self.users.get(name).ok_or(Denied::Credentials)?;
        if !user.hash.as_ref().is_some_and(|hash| hash.matches(password)) {
            return Err(Denied::Credentials);
        }
        if &*user.name == LOCAL_USER && !is_local { Err(Denied::NotLocal) } else { Ok(user.name.clone()) }
    }

    /// What a user may do on a virtual host; none if nothing at all.
    pub(super) fn access(&self, user: &str, vhost: &str) -> Option<Arc<Access>> {
        self.users.get(user)?.access.get(vhost).cloned()
    }

    /// Virtual hosts on which a user may do anything.
    pub(super) fn vhosts_of(&self, user: &str) -> BTreeSet<String> {
        self.users.get(user).into_iter().flat_map(|user| user.access.keys().cloned()).collect()
    }
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
