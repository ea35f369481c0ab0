//! Users: those of a file, and those that are made through the API, whose credentials are kept so that nobody can read a
//! password from them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::answer::{Head, Pending};
use super::definitions::{Change, Definitions, key};
use super::scram::{Credential, Hash, ITERATIONS, same};
use super::session::Session;
use super::topics::Failed;
use crate::log::wire::ErrorCode;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use crate::log::wire::api::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use crate::log::wire::api::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use crate::secret::Secret;
use crate::storage::LogId;

/// Rounds of hashing that are taken: fewer are guessed too soon, more make a login a burden for the broker. Kafka's.
const ITERATIONS_MAX: u32 = 16_384;
/// Longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Most bytes of a salt; tools make 16 to 32.
const SALT_BYTES_MAX: usize = 256;
/// Most users that are made through the API.
const USERS_MAX: usize = 10_000;

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

    pub(super) fn are_asked(&self) -> bool {
        !self.passwords.is_empty()
    }

    /// One of the file.
    fn is_of_file(&self, user: &str) -> bool {
        self.passwords.contains_key(user)
    }

    /// What everyone logs in with: mechanisms and their rounds of hashing.
    fn known(&self) -> BTreeMap<String, BTreeMap<Hash, u32>> {
        let of_file = [(Hash::Sha256, ITERATIONS), (Hash::Sha512, ITERATIONS)];
        let mut known: BTreeMap<String, BTreeMap<Hash, u32>> = BTreeMap::new();
        for (user, credentials) in self.made.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let rounds = credentials.iter().map(|(hash, credential)| (*hash, credential.iterations));
            known.insert(user.clone(), rounds.collect());
        }
        known.extend(self.passwords.keys().map(|user| (user.clone(), of_file.into())));
        known
    }

    /// Whether one of the file has that password.
    pub(super) fn has_password(&self, user: &str, password: &Secret) -> bool {
        let is_it = |known: &Secret| same(known.expose().as_bytes(), password.expose().as_bytes());
        self.passwords.get(user).is_some_and(is_it)
    }

    /// Whether a user logs in with a mechanism.
    fn has(&self, user: &str, hash: Hash) -> bool {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        self.is_of_file(user) || made.get(user).is_some_and(|own| own.contains_key(&hash))
    }

    /// Changes what a user logs in with; up to where the definitions have to be safe for it.
    ///
    /// # Errors
    /// There are too many users, or it cannot be written down; nothing has changed.
    fn change(&self, definitions: &Definitions, user: &str, changes: Changes) -> Result<i64, Failed> {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= USERS_MAX && !made.contains_key(user) {
            let message =
                format!("there are {USERS_MAX} users beside those of --user-file, the most there can be");
            return Err(Failed::new(ErrorCode::UNACCEPTABLE_CREDENTIAL, message));
        }
        let written = |(hash, credential): &(Hash, Option<Credential>)| -> Change {
            (key("scram", &[user, hash.mechanism()]), credential.as_ref().map(written))
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
    pub(super) fn credential(&self, hash: Hash, user: &str) -> (Credential, bool) {
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
    let hash = Hash::ALL.into_iter().find(|hash| hash.mechanism() == mechanism)?;
    let bytes = |name: &str| STANDARD.decode(value[name].as_str()?).ok();
    let credential = Credential {
        salt: bytes("salt")?,
        stored_key: bytes("stored")?,
        server_key: bytes("server")?,
        iterations: u32::try_from(value["iterations"].as_u64()?).ok()?,
    };
    Some((user.clone(), hash, credential))
}

type Refusal = (ErrorCode, String);

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err((error, message.into()))
}

fn hash_of(mechanism: i8) -> Result<Hash, Refusal> {
    match mechanism {
        1 => Ok(Hash::Sha256),
        2 => Ok(Hash::Sha512),
        _ => refuse(ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
    }
}

fn code_of(hash: Hash) -> i8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha512 => 2,
    }
}

/// `DescribeClientQuotas`: nobody has any. Kafka's tools ask for them when they describe users.
pub(super) fn quotas(session: &Session, head: Head, _: &DescribeClientQuotasRequest) -> Pending {
    let response = match session.may_cluster(AclOperation::DescribeConfigs) {
        true => DescribeClientQuotasResponse { error_message: None, ..Default::default() },
        false => DescribeClientQuotasResponse {
            error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            error_message: Some("needs 'describe-configs' on the cluster".to_owned()),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    };
    Pending::ready::<DescribeClientQuotasRequest>(head, &response)
}

/// `DescribeUserScramCredentials`.
pub(super) fn describe(
    session: &Session,
    head: Head,
    request: DescribeUserScramCredentialsRequest,
) -> Pending {
    if !session.may_cluster(AclOperation::Describe) {
        let response = DescribeUserScramCredentialsResponse {
            error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            error_message: Some("needs 'describe' on the cluster".to_owned()),
            ..DescribeUserScramCredentialsResponse::default()
        };
        return Pending::ready::<DescribeUserScramCredentialsRequest>(head, &response);
    }
    let known = session.broker.users.known();
    // How often each is asked for.
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        *asked.entry(user.name).or_default() += 1;
    }
    if asked.is_empty() {
        asked.extend(known.keys().map(|user| (user.clone(), 1)));
    }
    let mut results = Vec::with_capacity(asked.len());
    for (user, times) in asked {
        let found = match known.get(&user) {
            _ if times > 1 => refuse(
                ErrorCode::DUPLICATE_RESOURCE,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
                ),
            ),
            None => refuse(
                ErrorCode::RESOURCE_NOT_FOUND,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            Some(credentials) => Ok(credentials),
        };
        let (error_code, error_message, credential_infos) = match found {
            Err((error, message)) => (error, Some(message), Vec::new()),
            Ok(credentials) => {
                let info = |(hash, rounds): (&Hash, &u32)| CredentialInfo {
                    mechanism: code_of(*hash),
                    iterations: i32::try_from(*rounds).unwrap_or(i32::MAX),
                };
                (ErrorCode::NONE, None, credentials.iter().map(info).collect())
            }
        };
        results.push(DescribeUserScramCredentialsResult {
            user,
            error_code,
            error_message,
            credential_infos,
        });
    }
    let response =
        DescribeUserScramCredentialsResponse { error_message: None, results, ..Default::default() };
    Pending::ready::<DescribeUserScramCredentialsRequest>(head, &response)
}

/// What is to become of what a user logs in with.
type Changes = Vec<(Hash, Option<Credential>)>;

/// `AlterUserScramCredentials`.
pub(super) fn alter(
    session: &Arc<Session>,
    head: Head,
    request: AlterUserScramCredentialsRequest,
) -> Pending {
    let broker = &session.broker;
    let may = session.may_cluster(AclOperation::Alter);
    let mut by_user: BTreeMap<String, Result<Changes, Refusal>> = BTreeMap::new();
    let names =
        request.deletions.iter().map(|one| &one.name).chain(request.upsertions.iter().map(|one| &one.name));
    for name in names {
        let start = match may {
            true => Ok(Vec::new()),
            false => refuse(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, "needs 'alter' on the cluster"),
        };
        by_user.entry(name.clone()).or_insert(start);
    }
    for deletion in &request.deletions {
        note(&mut by_user, &deletion.name, deleted(&broker.users, deletion));
    }
    for upsertion in &request.upsertions {
        note(&mut by_user, &upsertion.name, upserted(&broker.users, upsertion));
    }
    let mut end = None;
    let results = by_user.into_iter().map(|(user, changes)| {
        let changed = changes.and_then(|changes| {
            let safe = broker.users.change(&broker.definitions, &user, changes);
            safe.map_err(|failed| (failed.error, failed.message))
        });
        let (error_code, error_message) = match changed {
            Ok(safe) => {
                end = end.max(Some(safe));
                (ErrorCode::NONE, None)
            }
            Err((error, message)) => (error, Some(message)),
        };
        AlterUserScramCredentialsResult { user, error_code, error_message }
    });
    let results = results.collect();
    let response = AlterUserScramCredentialsResponse { throttle_time_ms: 0, results };
    Pending::when_defined::<AlterUserScramCredentialsRequest>(&broker.definitions, end, head, response)
}

/// All of a user's changes are done or none.
fn note(
    by_user: &mut BTreeMap<String, Result<Changes, Refusal>>,
    user: &str,
    change: Result<(Hash, Option<Credential>), Refusal>,
) {
    let Some(found) = by_user.get_mut(user) else { return };
    let Ok(changes) = found else { return };
    match change {
        Err(refusal) => *found = Err(refusal),
        Ok((hash, _)) if changes.iter().any(|(other, _)| *other == hash) => {
            let message = "A user credential cannot be altered twice in the same request";
            *found = refuse(ErrorCode::DUPLICATE_RESOURCE, message);
        }
        Ok(change) => changes.push(change),
    }
}

fn check_name(users: &Users, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    }
    if name.len() > NAME_BYTES_MAX {
        let message = format!("a user's name has up to {NAME_BYTES_MAX} bytes");
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, message);
    }
    if users.is_of_file(name) {
        let message = format!("'{name}' is a user of --user-file: change it there");
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, message);
    }
    Ok(())
}

fn deleted(users: &Users, asked: &ScramCredentialDeletion) -> Result<(Hash, Option<Credential>), Refusal> {
    let hash = hash_of(asked.mechanism)?;
    check_name(users, &asked.name)?;
    if !users.has(&asked.name, hash) {
        let message = "Attempt to delete a user credential that does not exist";
        return refuse(ErrorCode::RESOURCE_NOT_FOUND, message);
    }
    Ok((hash, None))
}

fn upserted(users: &Users, asked: &ScramCredentialUpsertion) -> Result<(Hash, Option<Credential>), Refusal> {
    let hash = hash_of(asked.mechanism)?;
    check_name(users, &asked.name)?;
    let rounds = u32::try_from(asked.iterations).unwrap_or(0);
    if rounds < ITERATIONS {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Too few iterations");
    }
    if rounds > ITERATIONS_MAX {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Too many iterations");
    }
    if asked.salt.len() > SALT_BYTES_MAX {
        let message = format!("a salt has up to {SALT_BYTES_MAX} bytes, this one has {}", asked.salt.len());
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, message);
    }
    if asked.salt.is_empty() || asked.salted_password.len() != hash.len() {
        return refuse(
            ErrorCode::UNACCEPTABLE_CREDENTIAL,
            "a salt and a salted password of the hash's length are needed",
        );
    }
    Ok((hash, Some(Credential::of_salted(hash, &asked.salted_password, &asked.salt, rounds))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Options, Store};

    #[test]
    fn so_many_users_are_made_and_no_more() {
        let store = Store::memory(Options::default()).unwrap();
        let definitions = Definitions::open(&store).unwrap();
        let users = Users::new(BTreeMap::new(), &definitions).unwrap();
        let credential = Credential::of_salted(Hash::Sha256, &[7; 32], b"salt", ITERATIONS);
        let change = |name: &str, credential: Option<&Credential>| {
            users.change(&definitions, name, vec![(Hash::Sha256, credential.cloned())])
        };
        for number in 0..USERS_MAX {
            change(&number.to_string(), Some(&credential)).unwrap();
        }
        assert_eq!(
            change("one more", Some(&credential)).unwrap_err().error,
            ErrorCode::UNACCEPTABLE_CREDENTIAL
        );
        change("7", Some(&credential)).unwrap();
        change("8", None).unwrap();
        change("one more", Some(&credential)).unwrap();
        assert!(users.has("one more", Hash::Sha256) && !users.has("8", Hash::Sha256));
    }
}
