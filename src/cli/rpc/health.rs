//! What a server says about its health, for `ping` and `wait`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::remote::Remote;
use crate::cli::exit::{Exit, Failure, within};
use crate::rpc::client::{CallOptions, Cause};
use crate::rpc::health::{CheckRequest, CheckResponse, SERVICE, Serving};
use crate::rpc::schema::Schema;
use crate::rpc::{Code, Format, Payload};

/// The answer to a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Ready.
    Serving,
    /// Not ready.
    NotServing,
    /// It does not say.
    Unknown,
    /// There is no such service.
    NotFound,
    /// The server has no health service, but it answered: it is there.
    Unchecked,
}

impl Health {
    /// The word of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::Unknown => "UNKNOWN",
            Self::NotFound => "NOT_FOUND",
            Self::Unchecked => "ANSWERED",
        }
    }
}

/// Asks once.
///
/// # Errors
/// No answer, or a failure that says nothing about health.
pub async fn check(remote: &Remote, service: &str, limit: Duration) -> Result<Health, Failure> {
    let request = request(service, remote.options.format);
    let timeout = remote.options.timeout.map_or(limit, |timeout| timeout.min(limit));
    let options = CallOptions { timeout: Some(timeout), get: false, ..remote.options.clone() };
    let path = format!("{SERVICE}/Check");
    let reply = remote.client.unary(&path, &request, &options).await;
    let code = reply.ending.status.code;
    match (reply.message, &reply.ending.cause) {
        (Some(message), _) => {
            let status = serving(message, remote.options.format)
                .map_err(|error| Failure::new(Exit::Failed, format!("{}: health: {error}", remote.url)))?;
            Ok(match Serving::try_from(status) {
                Ok(Serving::Serving) => Health::Serving,
                Ok(Serving::NotServing) => Health::NotServing,
                Ok(Serving::ServiceUnknown) => Health::NotFound,
                Ok(Serving::Unknown) | Err(_) => Health::Unknown,
            })
        }
        (None, Cause::Answered) if code == Code::NotFound => Ok(Health::NotFound),
        (None, Cause::Answered) if code == Code::Unimplemented => Ok(Health::Unchecked),
        // Silence is no answer of the server's, whatever the clock says.
        (None, Cause::Deadline) => Err(Failure::new(
            Exit::Unreachable,
            format!("cannot reach {} — no answer {}", remote.url, within(timeout)),
        )),
        (None, _) => Err(remote.explain(None, "the health check", &reply.ending).await),
    }
}

fn request(service: &str, format: Format) -> Bytes {
    match format {
        Format::Proto => CheckRequest { service: service.to_owned() }.encode_to_vec().into(),
        Format::Json => serde_json::json!({ "service": service }).to_string().into(),
    }
}

/// The number of the state in an answer.
fn serving(answer: Bytes, format: Format) -> Result<i32, String> {
    let proto = match format {
        Format::Proto => answer,
        Format::Json => {
            let name = "grpc.health.v1.HealthCheckResponse";
            let kind = Schema::standard().message(name).expect("a test compiles the health service");
            kind.convert(&Payload::json(answer), Format::Proto).map_err(|status| status.message)?
        }
    };
    CheckResponse::decode(proto).map(|answer| answer.status).map_err(|error| error.to_string())
}

/// The error for a service that the server does not know.
pub fn not_found(service: &str, remote: &Remote) -> Failure {
    Failure::new(Exit::NotFound, format!("no service '{service}' at {}", remote.url))
        .there("see its services: bandy rpc ls")
}
