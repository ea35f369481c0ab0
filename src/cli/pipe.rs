//! The reader of our output, if it is a pipe: what it has taken, and whether it is still there.
//!
//! Bytes in a pipe are written, but not read. `recv -f | head -3` reads three records and leaves: what waits in the
//! pipe by then was read by nobody, and must not count as delivered.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// A reader that takes at once is waited for so long without a pause.
const SPIN: Duration = Duration::from_micros(300);
/// Then this is the pause between two looks: nothing tells when a pipe runs empty.
const PAUSE: Duration = Duration::from_millis(1);

/// Who reads our pipe.
#[derive(Debug)]
pub struct Reader {
    pipe: File,
    /// The pipe once more: this one does not block, and can tell. Linux has it by this name.
    watch: Option<pipe::Sender>,
}

impl Reader {
    /// The reader of stdout; `None` if that is no pipe.
    pub fn of_stdout() -> Option<Self> {
        let pipe = File::from(std::io::stdout().as_fd().try_clone_to_owned().ok()?);
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&pipe).ok()?.st_mode);
        if kind != FileType::Fifo {
            return None;
        }
        let watch = pipe::OpenOptions::new().open_sender("/proc/self/fd/1").ok();
        Some(Self { pipe, watch })
    }

    /// True if it has left.
    pub fn is_gone(&self) -> bool {
        let mut polled = [PollFd::new(&self.pipe, PollFlags::empty())];
        poll(&mut polled, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
            && polled[0].revents().contains(PollFlags::ERR)
    }

    /// True if nothing waits in the pipe. Where that cannot be known, nothing does.
    fn is_empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).map_or(true, |bytes| bytes == 0)
    }

    /// Waits until it has taken everything; false if it has left without.
    pub async fn takes(&self) -> bool {
        let since = Instant::now();
        loop {
            if self.is_empty() {
                return true;
            }
            if self.is_gone() {
                // Between the two looks it may have taken the rest and left.
                return self.is_empty();
            }
            match since.elapsed() < SPIN {
                true => {
                    std::thread::yield_now();
                    tokio::task::yield_now().await;
                }
                false => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Returns when it has left; never, if there is none.
    pub async fn any_gone(reader: Option<&Self>) {
        match reader {
            Some(reader) => reader.gone().await,
            None => std::future::pending().await,
        }
    }

    /// Returns when it has left.
    pub async fn gone(&self) {
        if self.is_gone() {
            return;
        }
        match &self.watch {
            // An error of the end that writes is that nobody reads.
            Some(watch) => drop(watch.ready(Interest::ERROR).await),
            None => std::future::pending().await,
        }
    }
}
