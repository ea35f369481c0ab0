//! Logging in with SASL, in the requests of the protocol (KIP-43, KIP-152).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::scram::First;
use super::{Connection, Credentials, Error, Mechanism};
use crate::log::wire::api::sasl_authenticate::SaslAuthenticateRequest;
use crate::log::wire::api::sasl_handshake::SaslHandshakeRequest;
use crate::log::wire::{ApiKey, ErrorCode};
use crate::transport::sasl::Plain;

/// Logs in, or says why not.
pub(super) async fn login(connection: &Connection, credentials: &Credentials) -> Result<(), Error> {
    let name = credentials.mechanism.name();
    let handshake = connection.ask(&SaslHandshakeRequest { mechanism: name.to_owned() }).await?;
    // Kafka answers a login where nobody logs in as one that is out of turn (KafkaApis, handleSaslHandshakeRequest).
    let nobody = handshake.error_code == ErrorCode::ILLEGAL_SASL_STATE && handshake.mechanisms.is_empty();
    if nobody || handshake.error_code == ErrorCode::UNSUPPORTED_SASL_MECHANISM {
        let offered = handshake.mechanisms.join(", ");
        return Err(Error::Mechanism { offered, wanted: name.to_owned() });
    }
    Error::check(ApiKey::SaslHandshake, handshake.error_code)?;
    match credentials.mechanism {
        Mechanism::Plain => {
            let plain = Plain::new(credentials.user.clone(), credentials.password.clone());
            exchange(connection, credentials, plain.response().into()).await.map(drop)
        }
        Mechanism::Scram(hash) => {
            let (first, message) = First::new(hash, &credentials.user, &nonce()?);
            let challenge = exchange(connection, credentials, message.into()).await?;
            let (last, message) = first.answer(&challenge, credentials.password.expose())?;
            let proof = exchange(connection, credentials, message.into()).await?;
            Ok(last.check(&proof)?)
        }
    }
}

/// Text that nobody can guess.
fn nonce() -> Result<String, Error> {
    let mut random = [0; 24];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| Error::NotReady("there are no random numbers to be had".to_owned()))?;
    Ok(STANDARD.encode(random))
}

/// One message each way.
async fn exchange(
    connection: &Connection,
    credentials: &Credentials,
    message: Bytes,
) -> Result<Bytes, Error> {
    let answer = connection.ask(&SaslAuthenticateRequest { auth_bytes: message }).await;
    let answer = match answer {
        // Some brokers close the connection instead of saying no.
        Err(Error::Ended) => {
            return Err(Error::LoginRefused { user: credentials.user.clone(), said: None });
        }
        answer => answer?,
    };
    match answer.error_code {
        ErrorCode::NONE => Ok(answer.auth_bytes),
        ErrorCode::SASL_AUTHENTICATION_FAILED => {
            Err(Error::LoginRefused { user: credentials.user.clone(), said: answer.error_message })
        }
        code => Err(Error::refused(ApiKey::SaslAuthenticate, code, answer.error_message)),
    }
}
