//! SaslAuthenticate (36): messages of a SASL mechanism.

use bytes::Bytes;

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for SaslAuthenticateRequest {
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 2 };
    type Response = SaslAuthenticateResponse;
}

message! {
    /// Carries a message of the client's.
    pub struct SaslAuthenticateRequest {
        /// The next message of the SASL mechanism.
        auth_bytes: Bytes [0..],
    }

    /// Carries a message of the broker's.
    pub struct SaslAuthenticateResponse {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// The next message of the SASL mechanism.
        auth_bytes: Bytes [0..],
        /// The client has to log in again after so many ms; 0 for never.
        session_lifetime_ms: i64 [1..],
    }
}
