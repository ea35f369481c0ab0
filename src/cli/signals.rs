//! SIGINT and SIGTERM of client commands: clean up, then die by the signal.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT, SIGTERM or SIGHUP and returns its number.
pub async fn interrupted() -> u8 {
    // Without a handler the signal ends the process by itself, which is what is wanted in the end.
    let wait = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        };
        u8::try_from(kind.as_raw_value()).expect("signals have small numbers")
    };
    tokio::select! {
        number = wait(SignalKind::interrupt()) => number,
        number = wait(SignalKind::terminate()) => number,
        number = wait(SignalKind::hangup()) => number,
    }
}

/// Ends the process by `signal`, as if it had never been caught: the shell that runs us sees why we
/// stopped, and stops its script. Returns if the signal's default is not to end a process.
pub fn reraise(signal: u8) {
    // What fails here is reported by the exit code 128+N instead.
    let _ = signal_hook::low_level::emulate_default_handler(i32::from(signal));
}
