//! What signals ask of a server.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of a server. Ctrl-Z is left alone: a stopped server is how people show what failing looks like.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    status: Signal,
    give_way: Signal,
    /// In the background there is no terminal whose end could matter.
    ignore_hangup: bool,
}

impl Signals {
    pub(super) fn new(ignore_hangup: bool) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            status: signal(SignalKind::user_defined1())?,
            give_way: signal(SignalKind::user_defined2())?,
            ignore_hangup,
        })
    }

    /// What is asked for next.
    pub(super) async fn next(&mut self) -> Asked {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Asked::Stop,
                _ = self.terminate.recv() => return Asked::Stop,
                _ = self.hangup.recv() => if !self.ignore_hangup { return Asked::Stop },
                _ = self.status.recv() => return Asked::Status,
                _ = self.give_way.recv() => return Asked::GiveWay,
            }
        }
    }

    /// Returns when asked to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    Status,
    /// Of `bandy up`, to a server that would stop when idle: to end if nothing is lost by that, else to stay.
    GiveWay,
}
