//! AlterUserScramCredentials (51): changes users who log in with SCRAM.

use bytes::Bytes;

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for AlterUserScramCredentialsRequest {
    const KEY: ApiKey = ApiKey::AlterUserScramCredentials;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: 0 };
    type Response = AlterUserScramCredentialsResponse;
}

message! {
    /// Adds, replaces and removes credentials.
    pub struct AlterUserScramCredentialsRequest {
        /// Credentials to remove.
        deletions: Vec<ScramCredentialDeletion> [0..],
        /// Credentials to add or replace.
        upsertions: Vec<ScramCredentialUpsertion> [0..],
    }

    /// One of [`AlterUserScramCredentialsRequest::deletions`].
    pub struct ScramCredentialDeletion {
        /// The user.
        name: String [0..],
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 [0..],
    }

    /// One of [`AlterUserScramCredentialsRequest::upsertions`].
    pub struct ScramCredentialUpsertion {
        /// The user.
        name: String [0..],
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 [0..],
        /// How often the password is hashed.
        iterations: i32 [0..],
        /// The salt of the hash.
        salt: Bytes [0..],
        /// The password, hashed.
        salted_password: Bytes [0..],
    }

    /// The outcome for each user.
    pub struct AlterUserScramCredentialsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each of them.
        results: Vec<AlterUserScramCredentialsResult> [0..],
    }

    /// One of [`AlterUserScramCredentialsResponse::results`].
    pub struct AlterUserScramCredentialsResult {
        /// The user.
        user: String [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
    }
}
