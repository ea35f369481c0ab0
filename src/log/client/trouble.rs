//! What a user is told of a cluster that is in trouble for a while: once when it lasts, and once when it is over.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Error;

/// What is over sooner is not worth a word.
const BRIEF: Duration = Duration::from_secs(1);

/// All that is in trouble with a cluster just now: whoever notices, it is told once.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many things are tried again.
    count: usize,
    since: Option<Instant>,
    is_told: bool,
}

impl Troubles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is tried again and again. To drop it is to give it up.
#[derive(Debug)]
pub(super) struct Trouble {
    all: Arc<Troubles>,
    is_on: bool,
}

impl Trouble {
    pub(super) fn new(all: &Arc<Troubles>) -> Self {
        Self { all: Arc::clone(all), is_on: false }
    }

    /// It failed once more.
    pub(super) fn goes_on(&mut self, what: &str, error: &Error) {
        let mut state = self.all.state();
        state.count += usize::from(!std::mem::replace(&mut self.is_on, true));
        let since = *state.since.get_or_insert_with(Instant::now);
        if !state.is_told && since.elapsed() >= BRIEF {
            state.is_told = true;
            drop(state);
            tracing::warn!(target: "status", "{what}: {error}; trying again");
        }
    }

    /// Nothing has been heard of it for a while: worth a word at once.
    pub(super) fn is_silent(&mut self, text: &str) {
        let mut state = self.all.state();
        state.count += usize::from(!std::mem::replace(&mut self.is_on, true));
        state.since.get_or_insert_with(Instant::now);
        if !std::mem::replace(&mut state.is_told, true) {
            drop(state);
            tracing::warn!(target: "status", "{text}; waiting");
        }
    }

    /// It worked.
    pub(super) fn is_over(&mut self, what: &str) {
        if self.end() {
            tracing::warn!(target: "status", "{what}: it works again");
        }
    }

    /// True if it was the last one, and was told of.
    fn end(&mut self) -> bool {
        if !std::mem::take(&mut self.is_on) {
            return false;
        }
        let mut state = self.all.state();
        state.count -= 1;
        state.count == 0 && std::mem::take(&mut *state).is_told
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.end();
    }
}

/// What takes longer than this is worth a word.
const SILENCE: Duration = Duration::from_secs(2);

/// Does something that takes its time, `longer` than other things; says that nothing is heard of `who` when it takes too long.
pub(super) async fn patiently<T, E>(
    (all, who, what): (&Arc<Troubles>, &str, &str),
    longer: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let after = SILENCE + longer;
    tokio::pin!(work);
    if let Ok(done) = tokio::time::timeout(after, &mut work).await {
        return done;
    }
    let mut trouble = Trouble::new(all);
    trouble.is_silent(&format!("{who}: no answer to {what} for {after:?}"));
    let done = work.await;
    if done.is_ok() {
        trouble.is_over(who);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_after_two_seconds_and_its_end_too() {
        let all = Arc::new(Troubles::default());
        let asked = |takes| {
            let work = async move {
                tokio::time::sleep(Duration::from_secs(takes)).await;
                Ok::<(), ()>(())
            };
            patiently((&all, "HOST:1", "Fetch"), Duration::from_secs(1), work)
        };
        for (takes, at_four) in [(2, false), (5, true)] {
            let look = async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                is_told(&all)
            };
            let (done, was_told) = tokio::join!(asked(takes), look);
            assert_eq!((done, was_told, is_told(&all)), (Ok(()), at_four, false));
        }
    }

    fn is_told(all: &Arc<Troubles>) -> bool {
        all.state().is_told
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_once_by_whoever_notices_and_is_over_when_all_of_it_is() {
        let all = Arc::new(Troubles::default());
        let [mut one, mut other] = [Trouble::new(&all), Trouble::new(&all)];
        one.goes_on("t", &Error::Ended);
        assert!(!is_told(&all), "it may be brief");
        one.is_over("t");
        tokio::time::advance(BRIEF).await;
        one.goes_on("t", &Error::Ended);
        assert!(!is_told(&all), "the one before was over");
        tokio::time::advance(BRIEF).await;
        other.goes_on("t", &Error::Ended);
        assert!(is_told(&all));
        one.is_over("t");
        assert!(is_told(&all), "the other goes on");
        drop(other);
        assert!(!is_told(&all), "it was given up");
    }
}
