//! Users that are made through the API: what they log in with, kept so that nobody can read their passwords from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Head, Pending, encode};
use super::login::Users;
use super::scram::{Credential, Hash, ITERATIONS};
use super::session::Session;
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

/// Rounds of hashing that are taken: fewer are guessed too soon, more make a login a burden for the broker. Kafka's.
const ITERATIONS_MAX: u32 = 16_384;
/// Longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 1024;

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
    let asked: Vec<String> = request.users.unwrap_or_default().into_iter().map(|user| user.name).collect();
    let names = if asked.is_empty() { known.keys().cloned().collect() } else { asked.clone() };
    let mut seen = BTreeSet::new();
    let mut results = Vec::new();
    for user in names {
        if !seen.insert(user.clone()) {
            continue;
        }
        let twice = asked.iter().filter(|name| **name == user).count() > 1;
        let found = match known.get(&user) {
            _ if twice => refuse(
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
            safe.map_err(|error| (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))
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
    let Some(end) = end else { return Pending::ready::<AlterUserScramCredentialsRequest>(head, &response) };
    let definitions = Arc::clone(&broker.definitions);
    Pending::Later(Box::pin(async move {
        definitions.safe(end).await.ok()?;
        encode::<AlterUserScramCredentialsRequest>(head, &response)
    }))
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
    let is_there = users.known().get(&asked.name).is_some_and(|known| known.contains_key(&hash));
    if !is_there {
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
    if asked.salt.is_empty() || asked.salted_password.len() != hash.len() {
        return refuse(
            ErrorCode::UNACCEPTABLE_CREDENTIAL,
            "a salt and a salted password of the hash's length are needed",
        );
    }
    Ok((hash, Some(Credential::of_salted(hash, &asked.salted_password, &asked.salt, rounds))))
}
