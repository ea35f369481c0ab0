//! `--idle-exit`: a server that nobody needs stops.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::local::Turn;
use crate::transport::Acceptor;

/// Between two looks, at most.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// A connection that the kernel has accepted is counted within this time.
pub const AT_THE_DOOR: Duration = Duration::from_millis(50);

/// Returns when nobody has been connected for `limit` and `holds` says that nothing would be lost. With a `socket`, no
/// client that looks for a server finds this one from then on: it waits for the [`Turn`] that is returned.
pub async fn wait(
    limit: Duration,
    acceptor: &Acceptor,
    holds: &dyn Fn() -> bool,
    socket: Option<&Path>,
) -> Option<Turn> {
    let look = (limit / 8).clamp(Duration::from_millis(10), LOOK_MAX);
    let mut accepted = acceptor.door().accepted;
    let mut is_needed = || {
        let door = acceptor.door();
        let before = std::mem::replace(&mut accepted, door.accepted);
        door.open > 0 || door.accepted != before
    };
    let mut since = Instant::now();
    loop {
        sleep(look).await;
        if is_needed() {
            since = Instant::now();
        }
        if since.elapsed() < limit || holds() {
            continue;
        }
        // Without a socket there is nobody who would start another one.
        let socket = socket?;
        // Somebody is starting to use it.
        let Some(turn) = Turn::try_take(socket) else { continue };
        // And who found it just before that is at the door by now.
        sleep(AT_THE_DOOR).await;
        if !is_needed() && !holds() {
            return Some(turn);
        }
        since = Instant::now();
    }
}
