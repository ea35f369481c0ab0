//! A child in a process group of its own, which is gone with everything it started when this is dropped.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::Program;
use crate::shutdown::Shutdown;

/// Time between the polite SIGTERM and the SIGKILL.
pub const KILL_AFTER: Duration = Duration::from_secs(2);

/// Where what a command prints goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// To us, through [`Process::stdout`] and [`Process::stderr`].
    ToUs,
    /// What it says to us, through [`Process::stdout`]; what it complains, wherever we print.
    StdoutToUs,
    /// Wherever we print.
    Through,
}

/// A running command with a pipe to it. Dropping it asks the whole group to end and, after
/// [`KILL_AFTER`], ends it.
#[derive(Debug)]
pub struct Process {
    id: Pid,
    // None once the command was waited for.
    group: Option<Group>,
    shutdown: Shutdown,
    /// What it reads.
    pub stdin: Option<ChildStdin>,
    /// What it prints, if it [prints to us](Prints::ToUs).
    pub stdout: Option<ChildStdout>,
    /// What it complains, likewise.
    pub stderr: Option<ChildStderr>,
}

/// The group and its leader; killed at once when dropped unfinished.
#[derive(Debug)]
struct Group {
    id: Pid,
    armed: bool,
    // None when it was waited for already.
    leader: Option<Child>,
}

impl Process {
    /// Starts `program` with the variables in `environment` added to ours.
    ///
    /// # Errors
    /// Not found, not executable, no more processes.
    pub fn spawn(
        program: &Program,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let environment = environment.into_iter().map(|(name, value)| (name, Some(value)));
        Self::start(program, environment, Prints::ToUs, shutdown)
    }

    /// The same, with variables to take away (`None`) and a choice of where it prints.
    ///
    /// # Errors
    /// Not found, not executable, no more processes, too large an environment.
    pub fn start(
        program: &Program,
        environment: impl IntoIterator<Item = (OsString, Option<OsString>)>,
        prints: Prints,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let (path, arguments) = program.argv().split_first().expect("a program is never without words");
        // No pre_exec and no uid: std takes posix_spawn, which does not copy our page tables.
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).process_group(0);
        if prints != Prints::Through {
            command.stdout(Stdio::piped());
        }
        if prints == Prints::ToUs {
            command.stderr(Stdio::piped());
        }
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Some(Group { id, armed: true, leader: Some(child) });
        Ok(Self { id, group, shutdown: shutdown.clone(), stdin, stdout, stderr })
    }

    /// Id of the process and of its group.
    pub fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Returns when the command itself ended; what it left running in its group is told to end.
    /// Cancel safe.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let leader = self.group.as_mut().and_then(|group| group.leader.as_mut());
        let status = leader.ok_or_else(|| io::Error::other("waited for already"))?.wait().await?;
        if let Some(mut group) = self.group.take() {
            group.leader = None;
            // Nearly always nobody is left. The number cannot name a new group already: ids are
            // given out in turn.
            match kill_process_group(group.id, Signal::TERM) {
                Ok(()) => end_later(group, &self.shutdown),
                Err(_) => group.disarm(),
            }
        }
        Ok(status)
    }

    /// Asks the whole group to end, kills it after [`KILL_AFTER`], and returns when the command is gone.
    pub async fn end(mut self) {
        let Some(mut group) = self.group.take() else { return };
        let _ = kill_process_group(group.id, Signal::TERM);
        if let Some(leader) = &mut group.leader
            && tokio::time::timeout(KILL_AFTER, leader.wait()).await.is_err()
        {
            let _ = kill_process_group(group.id, Signal::KILL);
            let _ = leader.wait().await;
        }
        // Dropping it kills what the command has left running.
        drop(group);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group.id, Signal::TERM);
            end_later(group, &self.shutdown);
        }
    }
}

/// Gives the group its time and then kills it: at once if the server stops meanwhile.
fn end_later(mut group: Group, shutdown: &Shutdown) {
    if tokio::runtime::Handle::try_current().is_err() {
        return; // The runtime is gone; dropping the group kills it.
    }
    let stopped = shutdown.clone();
    shutdown.spawn(async move {
        let leader_ends = async {
            match &mut group.leader {
                Some(leader) => drop(leader.wait().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leader_ends => {}
            () = tokio::time::sleep(KILL_AFTER) => {}
            () = stopped.stopped() => {}
        }
        // When the leader has ended, so has the time of the others.
        let _ = kill_process_group(group.id, Signal::KILL);
        // Waited for here: a child that is dropped while it dies may stay a zombie until the next one ends.
        if let Some(leader) = &mut group.leader {
            drop(leader.wait().await);
        }
        group.disarm();
    });
}

impl Group {
    /// Nobody is left: the number may soon belong to somebody else.
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.armed {
            // ESRCH is the usual answer and the good one.
            let _ = kill_process_group(self.id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    fn shell(text: &str) -> Program {
        Program::from_text(text, Some(OsStr::new("/usr/bin:/bin")))
    }

    async fn first_line(process: &mut Process) -> String {
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        line
    }

    /// Waits until nobody is in the group any more.
    async fn gone(id: i32) {
        let group = Pid::from_raw(id).unwrap();
        let empty = async {
            while rustix::process::test_kill_process_group(group).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the group is still there");
    }

    #[tokio::test]
    async fn dropping_it_ends_the_children_of_the_child() {
        let shutdown = Shutdown::new();
        let mut process =
            Process::spawn(&shell("sleep 100 & sleep 100 & echo up; wait"), [], &shutdown).unwrap();
        assert_eq!(first_line(&mut process).await, "up\n");
        let id = process.id();
        drop(process);
        gone(id).await;
    }

    #[tokio::test]
    async fn one_that_ignores_sigterm_is_killed_when_the_server_stops() {
        let shutdown = Shutdown::new();
        let text = "trap '' TERM; echo up; while :; do sleep 1; done";
        let mut process = Process::spawn(&shell(text), [], &shutdown).unwrap();
        assert_eq!(first_line(&mut process).await, "up\n");
        let id = process.id();
        drop(process);
        shutdown.stop();
        gone(id).await;
    }

    #[tokio::test]
    async fn ending_it_returns_when_it_is_gone_even_if_it_ignores_sigterm() {
        let shutdown = Shutdown::new();
        let text = "trap '' TERM; echo up; while :; do sleep 1; done";
        let mut process = Process::spawn(&shell(text), [], &shutdown).unwrap();
        assert_eq!(first_line(&mut process).await, "up\n");
        let id = process.id();
        process.end().await;
        let leader = Pid::from_raw(id).unwrap();
        assert!(rustix::process::test_kill_process(leader).is_err(), "it is still there");
        gone(id).await;
    }

    #[tokio::test]
    async fn what_it_left_in_the_background_ends_with_it() {
        let shutdown = Shutdown::new();
        let mut process = Process::spawn(&shell("sleep 100 & echo up"), [], &shutdown).unwrap();
        let id = process.id();
        assert!(process.wait().await.unwrap().success());
        gone(id).await;
    }

    #[tokio::test]
    async fn environment_is_added_to_ours() {
        let shutdown = Shutdown::new();
        let variables = [(OsString::from("BANDY_X"), OsString::from("a b"))];
        let mut process = Process::spawn(&shell("echo \"$BANDY_X\""), variables, &shutdown).unwrap();
        assert_eq!(first_line(&mut process).await, "a b\n");
        assert!(process.wait().await.unwrap().success());
    }
}
