//! Asks a server for its schema: drives the questions of [`Fetch`] over a call.

use super::{CallOptions, Ending, HttpClient};
use crate::rpc::reflection::fetch::{Fetch, FetchError, Fetched, Next};

/// Why there is no schema.
#[derive(Debug, thiserror::Error)]
pub enum ReflectError {
    /// The call itself failed before any answer.
    #[error("{}", .0.status)]
    Call(Box<Ending>),
    /// The server answered, but not with a schema.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl HttpClient {
    /// Asks the questions of `fetch` and those that `more` adds after each answer.
    ///
    /// # Errors
    /// The server cannot be reached, has no reflection, or describes itself wrongly.
    pub async fn reflect(
        &self,
        mut fetch: Fetch,
        options: &CallOptions,
        mut more: impl FnMut(&mut Fetch),
    ) -> Result<Fetched, ReflectError> {
        loop {
            match self.converse(&mut fetch, options, &mut more).await {
                Ok(None) => return Ok(fetch.finish()?),
                Err(ReflectError::Fetch(_)) if fetch.forget_foresight() => {}
                Err(error) => return Err(error),
                Ok(Some(ending)) => match fetch.on_failure(ending.status.clone()) {
                    Next::Again => {}
                    Next::Failed(FetchError::Status(_)) => return Err(ReflectError::Call(Box::new(ending))),
                    Next::Failed(error) => return Err(error.into()),
                },
            }
        }
    }

    /// One stream. `Some` if it ended before everything was answered.
    async fn converse(
        &self,
        fetch: &mut Fetch,
        options: &CallOptions,
        more: &mut impl FnMut(&mut Fetch),
    ) -> Result<Option<Ending>, ReflectError> {
        let (mut sender, mut receiver) = match self.stream(&fetch.path(), options).await {
            Ok(both) => both,
            Err(ending) => return Err(ReflectError::Call(Box::new(ending))),
        };
        loop {
            while let Some(request) = fetch.next_request()? {
                if sender.send(&request).await.is_err() {
                    break;
                }
            }
            if fetch.is_done() {
                sender.finish().await;
                return Ok(None);
            }
            match receiver.message().await {
                Some(answer) => {
                    fetch.on_response(answer)?;
                    more(fetch);
                }
                None => return Ok(Some(receiver.end().await.1)),
            }
        }
    }
}
