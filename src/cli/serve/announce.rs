//! Telling others that a server is ready, and where: stdout, `--url-file`, `--ready-fd`, `--pidfile`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::exit::{Exit, Failure};
use crate::cli::files;

/// How long a server that ends may take to let go of its pidfile.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// A file that is there for as long as this is.
#[derive(Debug)]
pub struct Notice {
    path: PathBuf,
    text: String,
}

impl Notice {
    /// Writes `text` so that nobody ever sees a part of it.
    pub fn post(path: &Path, text: String) -> anyhow::Result<Self> {
        // Readable as any file that a program writes.
        files::write(path, text.as_bytes(), 0o644)?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Writes our process id, unless a server of that file still runs, and does not end within a moment either: scripts start
    /// one anew as soon as they have told the old one to end.
    pub fn pid(path: &Path) -> anyhow::Result<Self> {
        if let Some(pid) = living(path)
            && !ends_within(pid, ENDING_MAX)
        {
            let message = format!("{} names a server that runs: pid {pid}", path.display());
            return Err(Failure::new(Exit::Failed, message).tip(format!("kill {pid}")).into());
        }
        Self::post(path, format!("{}\n", std::process::id()))
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // What another server has written in the meantime stays.
        if std::fs::read_to_string(&self.path).is_ok_and(|now| now == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The process that the file names, if it lives and is one of us.
fn living(path: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    (pid != std::process::id() && name(pid)? == name(std::process::id())?).then_some(pid)
}

/// Waits for the end of a process, at most for so long; a process that has ended and is still listed has ended.
fn ends_within(pid: u32, limit: Duration) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(limit).ok();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], limit.as_ref()).is_ok_and(|ended| ended > 0)
}

/// The descriptor of `--ready-fd`, taken over from whoever started us.
#[derive(Debug)]
pub struct ReadyFd(File);

impl ReadyFd {
    /// Takes the descriptor before the program opens any of its own.
    pub fn take(number: i32) -> anyhow::Result<Self> {
        let refuse = |why: &str| Failure::new(Exit::Usage, format!("--ready-fd {number}: {why}"));
        if !inherited(number) {
            return Err(refuse("no such descriptor was passed on").tip("… --ready-fd 3 3>FILE").into());
        }
        let file = File::options()
            .append(true)
            .open(format!("/proc/self/fd/{number}"))
            .map_err(|error| refuse(&error.to_string()))?;
        // Ours is a second one. The first has to go: its reader waits for the end, and our children would keep it.
        if number > 2 {
            nix::unistd::close(number).map_err(|error| refuse(&error.to_string()))?;
        }
        Ok(Self(file))
    }

    /// Writes the URLs and closes it.
    pub fn tell(mut self, urls: &str) {
        // Whoever asked may have lost interest; serving goes on.
        let _ = self.0.write_all(urls.as_bytes());
    }
}

/// Closes what came with the process beside the standard three, before the program opens any of its own: a server that
/// stays would hold its caller's locks and pipes for as long.
pub fn close_inherited() {
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && inherited(*number)) {
        // The directory itself was among them, and is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// True if the descriptor came with the process: our own are all closed on exec.
fn inherited(number: i32) -> bool {
    const CLOEXEC: u32 = 0o2_000_000;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & CLOEXEC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_goes_unless_it_became_someone_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let notice = Notice::post(&path, "a\n".to_owned()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
        drop(notice);
        assert!(!path.exists());
        let notice = Notice::post(&path, "a\n".to_owned()).unwrap();
        std::fs::write(&path, "b\n").unwrap();
        drop(notice);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stale_pidfile_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        std::fs::write(&path, "garbage\n").unwrap();
        let notice = Notice::pid(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(notice);
        assert!(!path.exists());
    }

    #[test]
    fn descriptors_of_our_own_are_not_taken() {
        use std::os::fd::AsRawFd;
        let own = tempfile::tempfile().unwrap();
        assert!(!inherited(own.as_raw_fd()));
        assert!(!inherited(1_000_000));
        assert!(ReadyFd::take(own.as_raw_fd()).is_err());
    }
}
