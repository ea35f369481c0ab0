//! The data directory as a whole: one process at a time, who it belongs to, and whether the last one stopped in order.

use std::any::Any;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Mode, list_or_none, put_file, read_file, replace_file};
use super::error::{Error, Result};
use super::id::LogId;

/// Version of the layout.
const FORMAT: u32 = 1;
pub(crate) const SMALL_FILE_MAX: u64 = 64 << 10;

/// `node.json`: what a cluster knows this directory by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The cluster that the data belongs to.
    pub cluster_id: String,
    /// The node in it.
    pub node_id: i32,
    /// This directory: a new one has another, so that an emptied disk does not pass for the old.
    pub disk_uuid: String,
    /// Version of the layout.
    pub format: u32,
}

/// What is held while a directory is in use.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) node: NodeInfo,
    /// Nothing was ever stored in it.
    pub(crate) is_new: bool,
    /// The last process wrote everything down before it stopped.
    pub(crate) clean: bool,
    /// It ran since the machine started: what it wrote may be in memory only.
    pub(crate) same_boot: bool,
    _lock: Box<dyn Any + Send + Sync>,
}

/// Takes a directory, makes it if need be, and removes the mark of an orderly stop. A new `node.json` is on disk once
/// the caller has synced the directory.
pub(crate) fn take(disk: &dyn Disk, root: &Path) -> Result<Held> {
    create_root(disk, root)?;
    let path = root.join("lock");
    let boot_id = disk.boot_id();
    let before =
        read_file(disk, &path, SMALL_FILE_MAX).map_err(Error::io("read", &path))?.unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    let (pid, boot_before) = before.trim().split_once(' ').unwrap_or_default();
    let content = format!("{} {boot_id}\n", std::process::id());
    let lock = disk.lock(&path, &content).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: root.to_owned(), holder: pid.parse().ok() },
        _ => Error::io("lock", &path)(error),
    })?;
    let same_boot = !boot_id.is_empty() && boot_before == boot_id;
    // A crash may have come between the first two files.
    let logs = list_or_none(disk, &root.join("logs")).map_err(Error::io("list", root))?;
    let is_new = logs.is_empty();
    let node = node(disk, root)?;
    let mark = root.join("clean");
    let clean = read_file(disk, &mark, SMALL_FILE_MAX).map_err(Error::io("read", &mark))?.is_some();
    if clean {
        disk.remove_file(&mark).map_err(Error::io("remove", &mark))?;
        disk.sync_dir(root).map_err(Error::io("sync", root))?;
    }
    Ok(Held { node, is_new, clean, same_boot, _lock: lock })
}

/// Makes the directory so that a power cut does not take it away, name and all.
fn create_root(disk: &dyn Disk, root: &Path) -> Result<()> {
    let known = |dir: &Path| {
        disk.list(dir).is_ok_and(|names| dir != root || names.iter().any(|name| name == "node.json"))
    };
    let new: Vec<&Path> = root.ancestors().take_while(|dir| !known(dir)).collect();
    disk.create_dir(root).map_err(Error::io("create", root))?;
    for parent in new.iter().filter_map(|dir| dir.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // A directory that was made by somebody else, in one that is not ours to read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other.map_err(Error::io("sync", parent))?,
        }
    }
    Ok(())
}

/// Reads or writes `node.json`; the directory is not synced.
fn node(disk: &dyn Disk, root: &Path) -> Result<NodeInfo> {
    let path = root.join("node.json");
    let format = |why: String| Error::Format { path: root.to_owned(), why };
    if let Some(bytes) = read_file(disk, &path, SMALL_FILE_MAX).map_err(Error::io("read", &path))? {
        let node: NodeInfo =
            serde_json::from_slice(&bytes).map_err(|error| format(format!("node.json: {error}")))?;
        if node.format != FORMAT {
            return Err(format(format!("it is of format {}, and {FORMAT} is read", node.format)));
        }
        return Ok(node);
    }
    let random = || LogId::random().map(|id| id.to_string()).map_err(Error::io("name", root));
    let node = NodeInfo { cluster_id: random()?, node_id: 1, disk_uuid: random()?, format: FORMAT };
    let mut text = serde_json::to_vec_pretty(&node).map_err(|error| format(error.to_string()))?;
    text.push(b'\n');
    put_file(disk, &path, &text).map_err(Error::io("write", &path))?;
    Ok(node)
}

/// Marks an orderly stop, after the last sync.
pub(crate) fn mark_clean(disk: &dyn Disk, root: &Path) -> Result<()> {
    let path = root.join("clean");
    let content = format!("{} {}\n", disk.boot_id(), disk.now_ms());
    replace_file(disk, &path, content.as_bytes()).map_err(Error::io("write", &path))
}

/// The reserve is at most such a part of the disk.
const RESERVED_PART: u64 = 64;
/// The name of a data directory's file that only keeps room.
pub const RESERVE: &str = "reserve";

/// A file that only takes space, so that there is some to give back when the disk is full.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: std::path::PathBuf,
    len: u64,
}

impl Reserve {
    /// `max` bytes, less on a small disk: a rule for large ones must not keep a small one from ever being used.
    pub(crate) fn new(disk: &dyn Disk, root: &Path, max: u64) -> Self {
        let part = disk.total_bytes().map_or(max, |total| total / RESERVED_PART);
        Self { path: root.join(RESERVE), len: max.min(part) }
    }

    /// Takes the space; `false` when there is too little.
    pub(crate) fn fill(&self, disk: &dyn Disk) -> bool {
        if self.len == 0 {
            return true;
        }
        let fill = || -> io::Result<bool> {
            let file = disk.open(&self.path, Mode::Create)?;
            if file.len()? >= self.len {
                return Ok(true);
            }
            // Twice: one for the file, one so that the next append does not empty it at once.
            if disk.free_bytes()? < self.len.saturating_mul(2) {
                return Ok(false);
            }
            file.allocate(0, self.len).map(|()| true)
        };
        let filled = fill().unwrap_or(false);
        if !filled {
            self.release(disk);
        }
        filled
    }

    /// Gives the space back.
    pub(crate) fn release(&self, disk: &dyn Disk) {
        // It may not be there; what matters is the space.
        let _ = disk.remove_file(&self.path);
    }
}
