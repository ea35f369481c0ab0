//! Faults on purpose: late replies, refusals, and replies that get lost after the work was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use crate::rpc::{Backend, Body, Call, Code, Event, Reply, Route, Status};
use crate::wait::until;

/// Which faults, how often. All off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Every call waits this long before its work begins.
    pub delay: Duration,
    /// And up to this much longer.
    pub jitter: Duration,
    /// Share of calls, 0 to 1, that are refused with UNAVAILABLE instead of being done.
    pub fail: f64,
    /// Share of calls, 0 to 1, that are done and whose reply is lost.
    pub drop_reply: f64,
    /// Where the dice begin: the same calls in the same order have the same fate.
    pub seed: u64,
}

impl Faults {
    /// True if there is anything to inject.
    pub fn any(&self) -> bool {
        *self != Self { seed: self.seed, ..Self::default() }
    }

    /// Puts the faults in front of all `routes`.
    pub fn inject(self, routes: Vec<Route>) -> Vec<Route> {
        if !self.any() {
            return routes;
        }
        // One sequence for the whole server, or calls of two methods would share their fate.
        let dice = Arc::new(Dice(AtomicU64::new(self.seed)));
        let wrap = |route: Route| {
            let backend = Arc::new(Faulty { faults: self, dice: Arc::clone(&dice), inner: route.backend });
            Route { method: route.method, backend }
        };
        routes.into_iter().map(wrap).collect()
    }
}

/// SplitMix64: one addition and three mixes for every throw, from any thread.
struct Dice(AtomicU64);

impl Dice {
    /// Even in 0 to 1, without 1.
    fn throw(&self) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let high = (z >> 11) as f64;
        high / (1u64 << 53) as f64
    }
}

struct Faulty {
    faults: Faults,
    dice: Arc<Dice>,
    inner: Arc<dyn Backend>,
}

impl Backend for Faulty {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let Faults { delay, jitter, fail, drop_reply, .. } = self.faults;
        // All dice fall now, in the order of the calls.
        let wait = delay + jitter.mul_f64(self.dice.throw());
        let refuse = self.dice.throw() < fail;
        let lose = self.dice.throw() < drop_reply;
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = until(call.deadline) => {
                        let text = "the deadline passed during the injected delay";
                        return Reply::failed(Status::new(Code::DeadlineExceeded, text));
                    }
                }
            }
            if refuse {
                return Reply::failed(Status::new(Code::Unavailable, "injected failure (--fail)"));
            }
            let reply = inner.call(call).await;
            if !lose {
                return reply;
            }
            let body = match reply.body {
                // A stream works only while it is heard, and the work has to be done.
                Body::Stream(events) => {
                    let events: Vec<Event> = events.collect().await;
                    Body::Stream(stream::iter(events).boxed())
                }
                Body::One { .. } | Body::Failed { .. } | Body::Lost(_) => reply.body,
            };
            Reply { headers: reply.headers, body: Body::Lost(Box::new(body)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::handler::testing::{call, method, status};
    use crate::rpc::handler::{Echo, demo};

    fn faulty(faults: Faults) -> Arc<dyn Backend> {
        let route = Route { method: method("demo.Echo/Say"), backend: Arc::new(Echo) };
        faults.inject(vec![route]).remove(0).backend
    }

    async fn fates(faults: Faults) -> String {
        let backend = faulty(faults);
        let mut fates = String::new();
        for _ in 0..200 {
            let reply = backend.call(call(&method("demo.Echo/Say"), &["{}"])).await;
            fates.push(match reply.body {
                Body::Lost(_) => 'l',
                Body::Failed { .. } => 'f',
                Body::One { .. } | Body::Stream(_) => '.',
            });
        }
        fates
    }

    #[tokio::test]
    async fn the_seed_decides() {
        let faults = Faults { fail: 0.2, drop_reply: 0.1, seed: 3, ..Faults::default() };
        let first = fates(faults).await;
        assert_eq!(first, fates(faults).await);
        assert_ne!(first, fates(Faults { seed: 4, ..faults }).await);
        let count = |fate: char| first.chars().filter(|&letter| letter == fate).count();
        assert!((20..=60).contains(&count('f')), "{first}");
        assert!((5..=35).contains(&count('l')), "{first}");
    }

    #[tokio::test]
    async fn a_lost_reply_is_lost_after_the_work() {
        let schema = demo::schema().unwrap();
        let routes = Faults { drop_reply: 1.0, ..Faults::default() }.inject(demo::routes(&schema));
        let deposit = routes.iter().find(|route| route.method.path == "demo.Account/Deposit").unwrap();
        let reply = deposit.backend.call(call(&deposit.method, &[r#"{"cents":1}"#])).await;
        assert!(matches!(reply.body, Body::Lost(_)));
        let plain = demo::routes(&schema);
        assert!(!Faults { seed: 9, ..Faults::default() }.any());
        assert_eq!(Faults::default().inject(plain).len(), routes.len());
    }

    #[tokio::test]
    async fn a_delay_ends_at_the_deadline() {
        let backend = faulty(Faults { delay: Duration::from_secs(3600), ..Faults::default() });
        let mut late = call(&method("demo.Echo/Say"), &["{}"]);
        late.deadline = Some(tokio::time::Instant::now() + Duration::from_millis(20));
        assert_eq!(status(backend.call(late).await).await.code, Code::DeadlineExceeded);
    }
}
