//! What goes to one connection: filled under the lock of its host, emptied by its writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::mq::engine::{Message, Send as Out};

/// Bytes of answers that a client may leave unread before it is not read itself. Deliveries are not counted: they are
/// bounded by the engine's credit.
const UNREAD_MAX: usize = 1 << 20;

/// What an answer costs beside a body, in bytes.
const ANSWER_SIZE: usize = 64;

/// How a connection ends, after everything before was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    /// The client closed it.
    CloseOk,
    /// The broker did.
    Close { code: u16, text: String, method: (u16, u16) },
}

/// What the writer takes at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub sends: Vec<Out>,
    /// Credit of its deliveries and of those before that was not given back.
    pub cost: u64,
    /// How many new secrets were taken.
    pub secrets: u32,
    pub last: Option<Last>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.secrets == 0 && self.last.is_none()
    }
}

#[derive(Debug, Default)]
struct Inner {
    parts: VecDeque<Part>,
    /// Bytes of answers in it.
    unread: usize,
    secrets: u32,
    last: Option<Last>,
    /// What comes now is not sent.
    mute: bool,
}

/// What may be sent once so many changes of definitions are on disk.
#[derive(Debug)]
struct Part {
    after: u64,
    sends: Vec<Out>,
    cost: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// There is something to write.
    pub filled: Notify,
    /// Something that the reader waits for may have changed.
    pub reader: Notify,
    /// Publishers have to wait: memory is short.
    blocked: AtomicBool,
    /// What was held back may be tried again.
    resumed: AtomicBool,
    /// Nothing that is read matters any more but the answer to the close.
    closing: AtomicBool,
}

fn answer_size(send: &Out) -> usize {
    let of = |message: &Message| ANSWER_SIZE + message.body.len() + message.properties.len();
    match send {
        Out::Deliver(_) => 0,
        Out::GetOk { message, .. } | Out::Return { message, .. } => of(message),
        _ => ANSWER_SIZE,
    }
}

impl Outbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what the engine sends, to go out once `after` changes of definitions are on disk. Leaves `sends` empty.
    pub fn push(&self, sends: &mut Vec<Out>, cost: u64, after: u64) {
        let unread: usize = sends.iter().map(answer_size).sum();
        {
            let mut inner = self.inner();
            if inner.mute {
                sends.clear();
                return;
            }
            inner.unread += unread;
            match inner.parts.back_mut() {
                Some(part) if part.after == after => {
                    part.sends.append(sends);
                    part.cost += cost;
                }
                _ => inner.parts.push_back(Part { after, sends: std::mem::take(sends), cost }),
            }
        }
        self.filled.notify_one();
    }

    /// A new secret was taken.
    pub fn take_secret(&self) {
        self.inner().secrets += 1;
        self.filled.notify_one();
    }

    /// Ends the connection. The first end counts.
    pub fn finish(&self, last: Last) {
        self.inner().last.get_or_insert(last);
        self.close();
        self.filled.notify_one();
    }

    /// Ends the connection with nothing of what it waits for.
    pub fn give_up(&self, last: Last) {
        {
            let mut inner = self.inner();
            inner.parts.clear();
            inner.mute = true;
        }
        self.finish(last);
    }

    /// What may be sent now that so many changes are on disk. `spare` is where the next sends are gathered.
    pub fn take(&self, stored: u64, spare: &mut Batch) {
        let mut inner = self.inner();
        while inner.parts.front().is_some_and(|part| part.after <= stored)
            && let Some(mut part) = inner.parts.pop_front()
        {
            spare.cost += part.cost;
            if spare.sends.is_empty() {
                std::mem::swap(&mut spare.sends, &mut part.sends);
            } else {
                spare.sends.append(&mut part.sends);
            }
        }
        spare.secrets += std::mem::take(&mut inner.secrets);
        let was_full = inner.unread >= UNREAD_MAX;
        inner.unread = inner.parts.iter().flat_map(|part| &part.sends).map(answer_size).sum();
        if inner.parts.is_empty() {
            spare.last = inner.last.take();
        }
        drop(inner);
        if was_full {
            self.reader.notify_one();
        }
    }

    /// How many changes have to be on disk before the next part may be sent; none if there is no part.
    pub fn waits_for(&self) -> Option<u64> {
        self.inner().parts.front().map(|part| part.after)
    }

    /// Whether the client leaves too much unread.
    pub fn is_full(&self) -> bool {
        self.inner().unread >= UNREAD_MAX
    }

    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Release);
        self.reader.notify_one();
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    pub fn resume(&self) {
        self.resumed.store(true, Ordering::Release);
        self.reader.notify_one();
    }

    /// Whether what was held back may be tried again; says so once.
    pub fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::AcqRel)
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.reader.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
