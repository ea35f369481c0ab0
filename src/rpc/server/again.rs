//! A waker that knows whether its task is being polled: who is woken by itself goes on, and is not scheduled anew.
//!
//! The calls of a connection and the connection wake each other all the time. Told so, a scheduler puts the task at the end
//! of its queue and wakes another thread to take it from there: two system calls and a poll in vain for each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// So often it is polled in one go; then others have their turn, even if it has used nothing of Tokio's budget. A round can
/// be a message of each of a hundred calls, so few rounds are a millisecond already; and of the trips through the scheduler
/// they spare all but one in sixteen.
const ROUNDS_MAX: usize = 16;

/// Polls something until it has not woken itself.
#[derive(Debug)]
pub struct Again {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Shared {
    polling: AtomicBool,
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and the other way round in `poll`: one of the two sees what the other has done.
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Again {
    /// Nothing has woken it yet.
    pub fn new() -> Self {
        let shared = Arc::new(Shared::default());
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Polls `work` with a waker of its own, again as long as that was woken meanwhile, within the budget that Tokio
    /// gives a task before others have their turn.
    pub fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let shared = &self.shared;
        shared.task.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            shared.polling.store(true, Ordering::SeqCst);
            // Exchanged, not stored: only who has read the other's `true` sees all that the other did before it.
            shared.woken.swap(false, Ordering::SeqCst);
            let polled = work(&mut Context::from_waker(&self.waker));
            shared.polling.store(false, Ordering::SeqCst);
            if polled.is_ready() || !shared.woken.load(Ordering::SeqCst) {
                return polled;
            }
            if !coop::has_budget_remaining() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_wakes_itself_goes_on_and_who_is_woken_by_others_is_scheduled() {
        let (again, count) = (Again::new(), Arc::new(Count::default()));
        let outer = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&outer);
        let (mut polls, mut kept) = (0, None);
        let polled: Poll<()> = again.poll(&mut cx, |cx| {
            polls += 1;
            if polls < 4 {
                cx.waker().wake_by_ref();
            }
            kept = Some(cx.waker().clone());
            Poll::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((polls, count.0.load(Ordering::Relaxed)), (4, 0));
        kept.expect("it was polled").wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(again.poll(&mut cx, |_| Poll::Ready(7)), Poll::Ready(7));
    }

    #[tokio::test]
    async fn others_have_their_turn_however_often_it_wakes_itself() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        (0..1000).for_each(|number| sender.send(number).unwrap());
        let (again, mut taken, mut waited) = (Again::new(), 0, 0);
        std::future::poll_fn(|cx| {
            let before = taken;
            let polled = again.poll(cx, |cx| {
                cx.waker().wake_by_ref();
                // Counts against the budget.
                taken += usize::from(receiver.poll_recv(cx).is_ready());
                if taken < 1000 { Poll::Pending } else { Poll::Ready(()) }
            });
            assert!(taken - before <= ROUNDS_MAX, "{} at once", taken - before);
            waited += usize::from(polled.is_pending());
            polled
        })
        .await;
        assert!(waited >= 1000 / ROUNDS_MAX - 1, "{waited}");
    }
}
