//! DescribeUserScramCredentials (50): users who log in with SCRAM.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeUserScramCredentialsRequest {
    const KEY: ApiKey = ApiKey::DescribeUserScramCredentials;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: 0 };
    type Response = DescribeUserScramCredentialsResponse;
}

message! {
    /// Asks what users can log in with.
    pub struct DescribeUserScramCredentialsRequest {
        /// The users; null or empty for all.
        users: Option<Vec<UserName>> [0..] = Some(Vec::new()),
    }

    /// One of [`DescribeUserScramCredentialsRequest::users`].
    pub struct UserName {
        /// The user.
        name: String [0..],
    }

    /// Mechanisms and iterations; no secrets.
    pub struct DescribeUserScramCredentialsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// The outcome for each of them.
        results: Vec<DescribeUserScramCredentialsResult> [0..],
    }

    /// One of [`DescribeUserScramCredentialsResponse::results`].
    pub struct DescribeUserScramCredentialsResult {
        /// The user.
        user: String [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// What the user can log in with.
        credential_infos: Vec<CredentialInfo> [0..],
    }

    /// One of [`DescribeUserScramCredentialsResult::credential_infos`].
    pub struct CredentialInfo {
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 [0..],
        /// How often the password is hashed.
        iterations: i32 [0..],
    }
}
