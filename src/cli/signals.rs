//! SIGINT and SIGTERM of client commands: clean up, then die by the signal.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT, SIGTERM or SIGHUP and returns its number. They are caught from the call on, before anything is waited for.
pub fn interrupted() -> impl Future<Output = u8> {
    let wait = |kind: SignalKind| {
        // Without a handler the signal ends the process by itself, which is what is wanted in the end.
        let caught = signal(kind);
        async move {
            match caught {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            };
            u8::try_from(kind.as_raw_value()).expect("signals have small numbers")
        }
    };
    let waits = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(wait);
    async move { futures_util::future::select_all(waits.map(Box::pin)).await.0 }
}

/// Ends the process by `signal`, as if it had never been caught: the shell that runs us sees why we
/// stopped, and stops its script. Returns if the signal's default is not to end a process.
pub fn reraise(signal: u8) {
    // What fails here is reported by the exit code 128+N instead.
    let _ = signal_hook::low_level::emulate_default_handler(i32::from(signal));
}
