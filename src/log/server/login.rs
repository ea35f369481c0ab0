//! Who is there: SASL PLAIN and SCRAM, before anything else is done for a connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::answer::{Head, Outgoing, Pending, encode};
use super::scram::{Exchange, First, Hash};
use super::session::Session;
use super::users::Users;
use crate::log::wire::api::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::log::wire::api::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use crate::log::wire::{self, ApiKey, ErrorCode};
use crate::storage::LogId;
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
        (Hash::Sha256.mechanism(), Self::Scram(Hash::Sha256)),
        (Hash::Sha512.mechanism(), Self::Scram(Hash::Sha512)),
    ];
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
    // Nobody has rights of another user.
    if users.has_password(&user, &password) && (authorize_as.is_empty() || authorize_as == user) {
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
        // Kafka's answer where nobody is asked who they are.
        None if !users.are_asked() => ErrorCode::ILLEGAL_SASL_STATE,
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
