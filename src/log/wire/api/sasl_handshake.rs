//! SaslHandshake (17): choosing a SASL mechanism.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for SaslHandshakeRequest {
    const KEY: ApiKey = ApiKey::SaslHandshake;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: Versions::NEVER };
    type Response = SaslHandshakeResponse;
}

message! {
    /// Chooses how to log in. After version 0 bare SASL messages follow, after version 1 SaslAuthenticate.
    pub struct SaslHandshakeRequest {
        /// Name of the mechanism that the client chooses.
        mechanism: String [0..],
    }

    /// The mechanisms that are offered.
    pub struct SaslHandshakeResponse {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Names of the mechanisms that the broker offers, whether or not there was an error.
        mechanisms: Vec<String> [0..],
    }
}
