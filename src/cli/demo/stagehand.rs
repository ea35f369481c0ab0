//! Runs the tour's commands: a home of their own, servers that go when the tour goes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

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
        for name in ["BANDY_RPC_URL", "BANDY_CONTEXT", "BANDY_OUTPUT"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; its output is the tour's.
    pub(super) fn run(&mut self, line: &str, out: &mut impl Write) -> anyhow::Result<()> {
        out.flush()?;
        let status = self.command(line).status().with_context(|| format!("cannot run {line}"))?;
        if !status.success() {
            return Err(
                Failure::new(Exit::Failed, format!("the tour's command failed: {line} ({status})")).into()
            );
        }
        Ok(())
    }

    /// Starts a server, waits for its URL, prints it, leaves it running.
    pub(super) fn serve(&mut self, line: &str, out: &mut impl Write) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        out.flush()?;
        let mut server = self
            .command(&format!("exec {line}"))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {line}"))?;
        let stdout = server.stdout.take().expect("it was asked for");
        self.servers.push(server);
        let mut url = String::new();
        BufReader::new(stdout).read_line(&mut url)?;
        if url.is_empty() {
            return Err(Failure::new(Exit::Failed, format!("the tour's server did not start: {line}")).into());
        }
        out.write_all(url.as_bytes())?;
        Ok(())
    }
}

impl Drop for Stagehand {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        for server in &self.servers {
            let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for server in &mut self.servers {
            let _ = server.wait();
        }
    }
}
