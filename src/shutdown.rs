//! Start, stop and await tasks: the only place that spawns.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new work; finish what runs.
    Draining,
    /// Leave now.
    Stopped,
}

/// Spawns tasks, tells them to stop, waits until they did. Clones share one state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
    // Every task holds a receiver; when the last is dropped, all are done.
    alive: Arc<watch::Sender<()>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A running state without tasks.
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Running)), alive: Arc::new(watch::Sender::new(())) }
    }

    /// Runs `task` on the current runtime; `finish` waits for it.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_boxed(Box::pin(task))
    }

    /// Compiled for each kind of result, not for each task.
    fn spawn_boxed<T: Send + 'static>(
        &self,
        task: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> tokio::task::JoinHandle<T> {
        let token = self.alive.subscribe();
        tokio::spawn(async move {
            let _token = token;
            task.await
        })
    }

    /// Asks every task to finish its work and take no more.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Asks every task to leave at once.
    pub fn stop(&self) {
        self.advance(Phase::Stopped);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// The phase as it is now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns when draining has begun, at once if it has already.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns when tasks are to leave at once.
    pub async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    async fn reached(&self, phase: Phase) {
        let mut watch = self.phase.subscribe();
        // The sender lives in self, so this cannot fail while we are borrowed.
        let _ = watch.wait_for(|now| *now >= phase).await;
    }

    /// Drains, waits up to `grace` for all tasks, then stops the rest. True if all ended by themselves.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.drain();
        let in_time = tokio::time::timeout(grace, self.alive.closed()).await.is_ok();
        self.stop();
        in_time
    }
}
