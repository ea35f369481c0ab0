//! Who is there: SASL PLAIN and SCRAM, before anything else is done for a connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::answer::{Head, Outgoing, Pending, encode};
use super::definitions::{Change, Definitions, key};
use super::scram::{Credential, Exchange, First, Hash, ITERATIONS, same};
use super::session::Session;
use crate::log::wire::api::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::log::wire::api::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use crate::log::wire::{self, ApiKey, ErrorCode};
use crate::secret::Secret;
use crate::storage::{self, LogId};
use crate::transport::sasl::Plain;

/// What a client hears who is not let in, whether the name or the password is wrong.
const REFUSED: &str = "Authentication failed: Invalid username or password";

/// A way to show who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    const ALL: [(&'static str, Self); 3] = [
        (Plain::NAME, Self::Plain),
        ("SCRAM-SHA-256", Self::Scram(Hash::Sha256)),
        ("SCRAM-SHA-512", Self::Scram(Hash::Sha512)),
    ];
}

/// Who may come in, if not everybody.
#[derive(Debug)]
pub(super) struct Users {
    /// Of the file that was given at the start.
    passwords: BTreeMap<String, Secret>,
    /// Made through the API.
    made: RwLock<BTreeMap<String, BTreeMap<Hash, Credential>>>,
    salt: [u8; 16],
}

impl Users {
    /// Without any in the file, everybody may come in.
    pub(super) fn new(
        passwords: BTreeMap<String, Secret>,
        definitions: &Definitions,
    ) -> std::io::Result<Self> {
        let mut made: BTreeMap<String, BTreeMap<Hash, Credential>> = BTreeMap::new();
        for (names, value) in definitions.of_kind("scram") {
            match read_credential(&names, &value) {
                Some((user, hash, credential)) => {
                    drop(made.entry(user).or_default().insert(hash, credential))
                }
                None => tracing::error!(?names, "a credential that this version cannot read is left alone"),
            }
        }
        Ok(Self { passwords, made: RwLock::new(made), salt: LogId::random()?.to_bytes() })
    }

    fn are_asked(&self) -> bool {
        !self.passwords.is_empty()
    }

    /// One of the file.
    pub(super) fn is_of_file(&self, user: &str) -> bool {
        self.passwords.contains_key(user)
    }

    /// What everyone logs in with: mechanisms and their rounds of hashing.
    pub(super) fn known(&self) -> BTreeMap<String, BTreeMap<Hash, u32>> {
        let of_file = [(Hash::Sha256, ITERATIONS), (Hash::Sha512, ITERATIONS)];
        let mut known: BTreeMap<String, BTreeMap<Hash, u32>> = BTreeMap::new();
        for (user, credentials) in self.made.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let rounds = credentials.iter().map(|(hash, credential)| (*hash, credential.iterations));
            known.insert(user.clone(), rounds.collect());
        }
        known.extend(self.passwords.keys().map(|user| (user.clone(), of_file.into())));
        known
    }

    /// Changes what a user logs in with; up to where the definitions have to be safe for it.
    ///
    /// # Errors
    /// It cannot be written down; nothing has changed.
    pub(super) fn change(
        &self,
        definitions: &Definitions,
        user: &str,
        changes: Vec<(Hash, Option<Credential>)>,
    ) -> Result<i64, storage::Error> {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let written = |(hash, credential): &(Hash, Option<Credential>)| -> Change {
            (key("scram", &[user, name_of(*hash)]), credential.as_ref().map(written))
        };
        let end = definitions.change(changes.iter().map(written).collect())?;
        let own = made.entry(user.to_owned()).or_default();
        for (hash, credential) in changes {
            match credential {
                Some(credential) => drop(own.insert(hash, credential)),
                None => drop(own.remove(&hash)),
            }
        }
        if own.is_empty() {
            made.remove(user);
        }
        Ok(end)
    }

    /// What is kept of a password. A user that is not there gets one too, with which nobody comes in: names are not to
    /// be found out by asking.
    fn credential(&self, hash: Hash, user: &str) -> (Credential, bool) {
        let password = self.passwords.get(user);
        if password.is_none() {
            let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(credential) = made.get(user).and_then(|own| own.get(&hash)) {
                return (credential.clone(), true);
            }
        }
        let text = password.map_or("", |password| password.expose());
        let salt = [&self.salt[..], user.as_bytes()].concat();
        let salt = ring::digest::digest(&ring::digest::SHA256, &salt);
        (Credential::new(hash, text, &salt.as_ref()[..16]), password.is_some())
    }
}

fn name_of(hash: Hash) -> &'static str {
    let is_it = |(_, mechanism): &&(&'static str, Mechanism)| *mechanism == Mechanism::Scram(hash);
    Mechanism::ALL.iter().find(is_it).map_or("", |(name, _)| name)
}

fn written(credential: &Credential) -> Json {
    json!({
        "salt": STANDARD.encode(&credential.salt),
        "stored": STANDARD.encode(&credential.stored_key),
        "server": STANDARD.encode(&credential.server_key),
        "iterations": credential.iterations,
    })
}

fn read_credential(names: &[String], value: &Json) -> Option<(String, Hash, Credential)> {
    let [user, mechanism] = names else { return None };
    let found = Mechanism::ALL.iter().find(|(name, _)| name == mechanism).map(|(_, mechanism)| *mechanism);
    let Mechanism::Scram(hash) = found? else { return None };
    let bytes = |name: &str| STANDARD.decode(value[name].as_str()?).ok();
    let credential = Credential {
        salt: bytes("salt")?,
        stored_key: bytes("stored")?,
        server_key: bytes("server")?,
        iterations: u32::try_from(value["iterations"].as_u64()?).ok()?,
    };
    Some((user.clone(), hash, credential))
}

/// How far a connection is.
#[derive(Debug)]
pub(super) struct Login {
    done: AtomicBool,
    /// Who it is; nobody if nobody was asked.
    user: OnceLock<String>,
    /// It is this user of the machine, who may do everything.
    is_own: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chosen: Option<Mechanism>,
    /// After the handshake's version 0 the mechanism's messages come without any header.
    is_bare: bool,
    exchange: Option<(Exchange, bool, String)>,
}

/// What a message of the mechanism comes to.
enum Step {
    /// There is more to say.
    More(Vec<u8>),
    /// Come in, under that name.
    Done(Vec<u8>, String),
    Refused,
}

impl Login {
    /// Unix sockets are this user's own.
    pub(super) fn new(users: &Users, is_local: bool) -> Self {
        Self {
            done: AtomicBool::new(is_local || !users.are_asked()),
            user: OnceLock::new(),
            is_own: is_local,
            state: Mutex::default(),
        }
    }

    /// Nothing is refused to it.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Who it is, as access rules name it.
    pub(super) fn principal(&self) -> String {
        format!("User:{}", self.user.get().map_or("ANONYMOUS", String::as_str))
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Whether the next frame is a message of the mechanism as it is.
    pub(super) fn is_bare(&self) -> bool {
        !self.is_done() && self.state.lock().unwrap_or_else(PoisonError::into_inner).is_bare
    }

    fn step(&self, users: &Users, message: &[u8]) -> Result<Step, ErrorCode> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = state.chosen.ok_or(ErrorCode::ILLEGAL_SASL_STATE)?;
        let step = match (chosen, state.exchange.take()) {
            (Mechanism::Plain, _) => plain(users, message),
            (Mechanism::Scram(hash), None) => match First::parse(message) {
                None => Step::Refused,
                Some(first) => {
                    let nonce = LogId::random().map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
                    let (credential, is_known) = users.credential(hash, &first.user);
                    let (challenge, exchange) = first.challenge(hash, credential, &nonce.to_string());
                    state.exchange = Some((exchange, is_known, first.user));
                    Step::More(challenge.into_bytes())
                }
            },
            (Mechanism::Scram(_), Some((exchange, is_known, user))) => match exchange.finish(message) {
                Some(proof) if is_known => Step::Done(proof.into_bytes(), user),
                _ => Step::Refused,
            },
        };
        if let Step::Done(_, user) = &step {
            let _ = self.user.set(user.clone());
            self.done.store(true, Ordering::Release);
        }
        Ok(step)
    }
}

fn plain(users: &Users, message: &[u8]) -> Step {
    let Ok(Plain { authorize_as, user, password }) = Plain::parse(message) else { return Step::Refused };
    let fits = users
        .passwords
        .get(&user)
        .is_some_and(|known| same(known.expose().as_bytes(), password.expose().as_bytes()));
    // Nobody has rights of another user.
    if fits && (authorize_as.is_empty() || authorize_as == user) {
        Step::Done(Vec::new(), user)
    } else {
        Step::Refused
    }
}

/// What may be asked by someone who has not said who it is.
pub(super) fn is_open_to_all(key: ApiKey) -> bool {
    matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate)
}

/// `SaslHandshake`. The mechanisms are told on success too: kafkajs and kafka-python look for theirs among them.
pub(super) fn handshake(session: &Session, head: Head, request: &SaslHandshakeRequest) -> Pending {
    let users = &session.broker.users;
    let mechanisms: Vec<String> = match users.are_asked() {
        true => Mechanism::ALL.iter().map(|(name, _)| (*name).to_owned()).collect(),
        false => Vec::new(),
    };
    let found =
        Mechanism::ALL.iter().find(|(name, _)| *name == request.mechanism).map(|(_, mechanism)| *mechanism);
    let mut state = session.login.state.lock().unwrap_or_else(PoisonError::into_inner);
    let error_code = match found.filter(|_| users.are_asked()) {
        None => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
        Some(_) if session.login.is_done() || state.chosen.is_some() => ErrorCode::ILLEGAL_SASL_STATE,
        Some(mechanism) => {
            state.chosen = Some(mechanism);
            state.is_bare = head.version == 0;
            ErrorCode::NONE
        }
    };
    Pending::ready::<SaslHandshakeRequest>(head, &SaslHandshakeResponse { error_code, mechanisms })
}

/// `SaslAuthenticate`.
pub(super) fn authenticate(session: &Session, head: Head, request: &SaslAuthenticateRequest) -> Pending {
    let refused = |error_code, message: &str| {
        let response = SaslAuthenticateResponse {
            error_code,
            error_message: Some(message.to_owned()),
            ..SaslAuthenticateResponse::default()
        };
        encode::<SaslAuthenticateRequest>(head, &response).map_or(Pending::Close, Pending::Last)
    };
    if session.login.is_done() {
        return refused(ErrorCode::ILLEGAL_SASL_STATE, "nobody is asked who it is, or it is known already");
    }
    match session.login.step(&session.broker.users, &request.auth_bytes) {
        Err(error) => refused(error, "SaslHandshake comes first"),
        Ok(Step::Refused) => {
            tracing::info!(peer = session.peer, "not let in: wrong user or password");
            refused(ErrorCode::SASL_AUTHENTICATION_FAILED, REFUSED)
        }
        Ok(Step::More(bytes) | Step::Done(bytes, _)) => {
            let response = SaslAuthenticateResponse {
                error_message: None,
                auth_bytes: bytes.into(),
                ..SaslAuthenticateResponse::default()
            };
            Pending::ready::<SaslAuthenticateRequest>(head, &response)
        }
    }
}

/// A message of the mechanism without any header; so is the answer, and a refusal is the end.
pub(super) fn bare(session: &Session, message: &Bytes) -> Pending {
    match session.login.step(&session.broker.users, message) {
        Ok(Step::More(bytes) | Step::Done(bytes, _)) => {
            let mut out = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes().to_vec();
            out.extend_from_slice(&bytes);
            Pending::Ready(Outgoing { message: vec![wire::Chunk::Bytes(out.into())], records: Vec::new() })
        }
        Ok(Step::Refused) | Err(_) => Pending::Close,
    }
}
