//! DescribeClientQuotas (48): limits on what clients may do.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeClientQuotasRequest {
    const KEY: ApiKey = ApiKey::DescribeClientQuotas;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: 1 };
    type Response = DescribeClientQuotasResponse;
}

message! {
    /// Asks for quotas.
    pub struct DescribeClientQuotasRequest {
        /// Of whom, by kinds of names.
        components: Vec<ComponentData> [0..],
        /// Only those that have exactly these kinds of names.
        strict: bool [0..],
    }

    /// One of [`DescribeClientQuotasRequest::components`].
    pub struct ComponentData {
        /// `user`, `client-id` or `ip`.
        entity_type: String [0..],
        /// 0 the name itself, 1 the default, 2 any name.
        match_type: i8 [0..],
        /// The name, or null.
        match_name: Option<String> [0..] = Some(String::new()),
    }

    /// The quotas.
    pub struct DescribeClientQuotasResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// Each who has some; null with an error.
        entries: Option<Vec<EntryData>> [0..] = Some(Vec::new()),
    }

    /// One of [`DescribeClientQuotasResponse::entries`].
    pub struct EntryData {
        /// Who.
        entity: Vec<EntityData> [0..],
        /// What they may do.
        values: Vec<ValueData> [0..],
    }

    /// One of [`EntryData::entity`].
    pub struct EntityData {
        /// `user`, `client-id` or `ip`.
        entity_type: String [0..],
        /// The name; null for the default.
        entity_name: Option<String> [0..] = Some(String::new()),
    }

    /// One of [`EntryData::values`].
    pub struct ValueData {
        /// The quota.
        key: String [0..],
        /// How much: a double, by its bits.
        value: i64 [0..],
    }
}
