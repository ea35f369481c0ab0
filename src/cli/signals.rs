//! SIGINT and SIGTERM of client commands: clean up, then die by the signal.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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

/// The second SIGINT, SIGTERM or SIGHUP from here on ends the process at once: whoever asks again does not want to wait for what
/// is being put in order, nor for a reader that does not read. Tells whether there was a first, before anybody who waits hears of it.
pub fn end_at_the_second() -> Arc<AtomicBool> {
    let was_asked = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let number = kind.as_raw_value();
        // In this order, as they are called: the first signal is noted after it was looked whether there was one. What fails
        // here leaves signals to whoever waits for them.
        let _ = signal_hook::flag::register_conditional_default(number, Arc::clone(&was_asked));
        let _ = signal_hook::flag::register(number, Arc::clone(&was_asked));
    }
    was_asked
}

/// Ends the process by `signal`, as if it had never been caught: the shell that runs us sees why we
/// stopped, and stops its script. Returns if the signal's default is not to end a process.
pub fn reraise(signal: u8) {
    // What fails here is reported by the exit code 128+N instead.
    let _ = signal_hook::low_level::emulate_default_handler(i32::from(signal));
}
