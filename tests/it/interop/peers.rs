//! Peers: servers and clients that others wrote, in the scripts of tests/interop.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Cmd, command};

/// A file of tests/interop.
pub fn interop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

/// A script of tests/interop, to be started or run.
#[track_caller]
pub fn script(name: &str) -> Cmd {
    let program = if Path::new(name).extension().is_some_and(|it| it == "py") { "python3" } else { "node" };
    let node_path = std::env::var_os("NODE_PATH").unwrap_or_default();
    command(program, "").arg(interop(name)).env("NODE_PATH", node_path)
}

/// Runs a peer to its end and returns what it printed.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {printed}{said}");
    printed
}
