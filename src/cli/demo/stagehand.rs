//! Runs the tour's commands: a home of their own, servers that go when the tour goes.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};

/// Owns what the tour started; dropping it stops all of it.
pub(super) struct Stagehand {
    folder: tempfile::TempDir,
    servers: Vec<Child>,
}

impl Stagehand {
    /// A temporary home in which `bandy` is this very program.
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("bandy-demo-").tempdir().context("no temporary directory")?;
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin)?;
        std::os::unix::fs::symlink(std::env::current_exe()?, bin.join("bandy"))?;
        Ok(Self { folder, servers: Vec::new() })
    }

    fn command(&self, line: &str) -> Command {
        let mut path = self.folder.path().join("bin").into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).env("PATH", path).env("BANDY_HOME", self.folder.path().join("home"));
        for name in Pillar::ALL.map(Pillar::variable).into_iter().chain(["BANDY_CONTEXT", "BANDY_OUTPUT"]) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end; its output is the tour's.
    pub(super) async fn run(&mut self, line: &str) -> anyhow::Result<()> {
        // The shell gives way to the one command that it has: who ends that need not look for it.
        let is_one = !line.contains(['|', ';', '&']);
        let exec = if is_one { "exec " } else { "" };
        let status = self
            .command(&format!("{exec}{line}"))
            .status()
            .await
            .with_context(|| format!("cannot run {line}"))?;
        if !status.success() {
            let message = format!("a command of the tour failed: {line} ({status})");
            return Err(Failure::new(Exit::Failed, message).into());
        }
        Ok(())
    }

    /// Starts a server, leaves it running, and returns its first line: the URL, when it is ready.
    pub(super) async fn serve(&mut self, line: &str) -> anyhow::Result<String> {
        let mut server = self
            // It goes when the tour does, without a word about it.
            .command(&format!("exec {line} --die-with {}", std::process::id()))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {line}"))?;
        let stdout = server.stdout.take().expect("it was asked for");
        self.servers.push(server);
        let mut url = String::new();
        BufReader::new(stdout).read_line(&mut url).await?;
        if url.is_empty() {
            return Err(
                Failure::new(Exit::Failed, format!("a server of the tour did not start: {line}")).into()
            );
        }
        Ok(url)
    }
}

impl Drop for Stagehand {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
        let pids =
            self.servers.iter().filter_map(Child::id).filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pids: Vec<Pid> = pids.collect();
        for pid in &pids {
            let _ = kill_process(*pid, Signal::TERM);
        }
        for pid in pids {
            // They say goodbye before their home is removed.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}
