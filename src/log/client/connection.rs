//! One connection to one broker: what it speaks, who we are to it, and questions to it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::link::{self, Link};
use super::trouble::{self, Troubles};
use super::{Config, Credentials, Error, login};
use crate::log::wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::log::wire::{self, ApiKey, Chunk, ErrorCode, Request};
use crate::shutdown::Shutdown;
use crate::transport::{Address, Stream};

/// A connection that is logged in. Clones share it; dropping the last one closes it.
#[derive(Clone)]
pub struct Connection(Arc<Owner>);

struct Owner {
    link: Arc<Link>,
    /// What the broker offers: the oldest and newest version of each API.
    offers: HashMap<i16, (i16, i16)>,
    features: ApiVersionsResponse,
    client_id: String,
    request_timeout: Duration,
    /// Who is there, for people.
    who: String,
    troubles: Arc<Troubles>,
    /// Answers that everybody gets, before anybody is logged in.
    greetings: usize,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.link.leave();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("ended", &self.ended()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, asks what the broker speaks, and logs in. Its task runs until all clones are dropped, or `shutdown` stops.
    ///
    /// # Errors
    /// Nobody there, no broker there, login refused.
    pub async fn open(address: &Address, config: &Config, shutdown: &Shutdown) -> Result<Self, Error> {
        let (who, troubles) = (address.to_string(), Arc::clone(&config.troubles));
        let connecting = Stream::connect_with(address, &config.connect);
        let about = (&troubles, who.as_str(), "a new connection");
        let stream = trouble::patiently(about, Duration::ZERO, connecting).await?;
        let link = Arc::new(Link::default());
        shutdown.spawn(link::drive(stream, link.clone(), shutdown.clone()));
        let mut owner = Owner {
            link,
            offers: HashMap::new(),
            features: ApiVersionsResponse::default(),
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            who,
            troubles,
            greetings: 0,
        };
        owner.features = owner.api_versions().await?;
        owner.greetings = owner.link.answers();
        let ranges = owner.features.api_keys.iter();
        owner.offers = ranges.map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        let connection = Self(Arc::new(owner));
        if let Some(credentials) = &config.credentials {
            login::login(&connection, credentials).await?;
        }
        Ok(connection)
    }

    /// Why the connection has ended; none while it has not.
    pub fn ended(&self) -> Option<Error> {
        self.0.link.ended()
    }

    /// Did the broker close it at the first question? One that wants a login does.
    pub(super) fn was_shut(&self) -> bool {
        matches!(self.ended(), Some(Error::Ended)) && self.0.link.answers() == self.0.greetings
    }

    /// What the broker said about itself: APIs and features.
    pub fn features(&self) -> &ApiVersionsResponse {
        &self.0.features
    }

    /// The newest version of a request that both sides know, `max` at most.
    ///
    /// # Errors
    /// There is none.
    pub fn version<R: Request>(&self, max: i16) -> Result<i16, Error> {
        let ours = R::VERSIONS;
        let max = ours.max.min(max);
        let unsupported = Error::Unsupported { api: R::KEY, min: ours.min, max };
        let (their_min, their_max) = self.0.offers.get(&(R::KEY as i16)).ok_or(unsupported.clone())?;
        let version = max.min(*their_max);
        if version >= ours.min.max(*their_min) { Ok(version) } else { Err(unsupported) }
    }

    /// Does the broker offer the request in a version that is known here?
    pub fn offers<R: Request>(&self) -> bool {
        self.version::<R>(i16::MAX).is_ok()
    }

    /// Asks, in the newest version that both sides know.
    ///
    /// # Errors
    /// The connection's; no answer in time. Error codes in the answer are the caller's to look at.
    pub async fn ask<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        self.send(request, self.version::<R>(i16::MAX)?, Duration::ZERO)?.await
    }

    /// Puts a request into the row, and returns the answer to wait for. The broker may take `longer` than others.
    ///
    /// # Errors
    /// The connection has ended; the version cannot say this.
    pub fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
        longer: Duration,
    ) -> Result<impl Future<Output = Result<R::Response, Error>> + Send + use<R>, Error> {
        let receiver = self.0.send(request, version, true)?;
        // Whoever waits keeps the connection: it is not left while an answer is on its way.
        let connection = self.clone();
        Ok(async move {
            let frame = connection.0.answer(receiver, R::KEY, longer).await?;
            Ok(wire::decode_response::<R>(frame, version)?.1)
        })
    }

    /// Sends what is not answered: a produce request with `acks` 0.
    ///
    /// # Errors
    /// The connection has ended; the version cannot say this.
    pub fn tell<R: Request>(&self, request: &R, version: i16) -> Result<(), Error> {
        self.0.send(request, version, false).map(drop)
    }
}

impl Owner {
    fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
        is_answered: bool,
    ) -> Result<Option<oneshot::Receiver<Result<Bytes, Error>>>, Error> {
        self.link.send(is_answered, |id| {
            let encoded = wire::encode_request(request, version, id, Some(&self.client_id))?;
            let bytes = |chunk| match chunk {
                Chunk::Bytes(bytes) => bytes,
                Chunk::Hole(len) => Bytes::from(vec![0; len]),
            };
            Ok(encoded.into_chunks().into_iter().map(bytes).collect())
        })
    }

    /// Asks in version 3; a broker that knows only older ones says so in version 0 (KIP-511).
    async fn api_versions(&self) -> Result<ApiVersionsResponse, Error> {
        let request = ApiVersionsRequest {
            client_software_name: "bandy".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        for version in [3, 0] {
            let receiver = self.send(&request, version, true)?;
            let frame = self.answer(receiver, ApiKey::ApiVersions, Duration::ZERO).await?;
            // The answer to a version that is not known has the code in the same place in all versions.
            if version == 3 && frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()) {
                continue;
            }
            let (_, response) = wire::decode_response::<ApiVersionsRequest>(frame, version)?;
            Error::check(ApiKey::ApiVersions, response.error_code)?;
            return Ok(response);
        }
        Err(Error::refused(ApiKey::ApiVersions, ErrorCode::UNSUPPORTED_VERSION, None))
    }

    async fn answer(
        &self,
        receiver: Option<oneshot::Receiver<Result<Bytes, Error>>>,
        api: ApiKey,
        longer: Duration,
    ) -> Result<Bytes, Error> {
        let receiver = receiver.ok_or(Error::Closed)?;
        let after = self.request_timeout + longer;
        let about = (&self.troubles, self.who.as_str(), api.name());
        let answer = trouble::patiently(about, longer, timeout(after, receiver)).await;
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.link.ended().unwrap_or(Error::Closed)),
            Err(_) => {
                // Answers come in a row: after this one is missed, none can be told from another's.
                let error = Error::Timeout { what: api.name(), after };
                self.link.end(&error);
                Err(error)
            }
        }
    }
}

impl Credentials {
    /// Who.
    pub fn user(&self) -> &str {
        &self.user
    }
}
