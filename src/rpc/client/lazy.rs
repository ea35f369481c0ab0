//! A connection that is opened by the first who needs it, shared by the others, and replaced once it is gone.

use tokio::sync::Mutex;

use super::Ending;

/// A slot for one connection.
pub(crate) struct Lazy<T>(Mutex<Option<T>>);

impl<T: Clone> Lazy<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// True if there is one, dead or alive.
    pub(crate) async fn is_open(&self) -> bool {
        self.0.lock().await.is_some()
    }

    /// The connection, opened if there is none that `lives`. Who comes meanwhile waits for the same one.
    pub(crate) async fn get(
        &self,
        lives: impl Fn(&T) -> bool,
        open: impl Future<Output = Result<T, Ending>>,
    ) -> Result<T, Ending> {
        let mut slot = self.0.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| lives(connection)) {
            return Ok(connection.clone());
        }
        let connection = open.await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }
}
