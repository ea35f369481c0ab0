//! A directory of handlers: which files there are and which methods their names may mean.

use std::io;
use std::path::{Path, PathBuf};

/// A directory with more entries than this is not one of handlers.
const ENTRIES_MAX: usize = 10_000;

/// What is in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files that answer a method, in the order of their names.
    pub handlers: Vec<Found>,
    /// Schemas.
    pub protos: Vec<PathBuf>,
    /// Files that look as if they were meant to be handlers, and why they are not.
    pub skipped: Vec<(PathBuf, &'static str)>,
}

/// A file that answers a method.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it may be named after, the likeliest first: `Svc.Method.sh` is `Svc/Method`, or else
    /// `Svc.Method/sh`.
    pub names: Vec<String>,
    /// What it is.
    pub kind: FoundKind,
}

/// What a handler file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// A program.
    Executable,
    /// Replies as JSON.
    Json,
}

/// Reads `directory` and the directories of services in it.
///
/// # Errors
/// It cannot be read, or is far too large.
pub fn list(directory: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for path in entries(directory)? {
        let Some(name) = visible_name(&path) else { continue };
        if path.is_dir() {
            for inner in entries(&path)? {
                let Some(method) = visible_name(&inner) else { continue };
                if inner.is_file() {
                    let names = without_extension(&method).into_iter().chain([method.clone()]);
                    listing.add(inner, names.map(|method| format!("{name}/{method}")).collect());
                }
            }
        } else {
            let names =
                without_extension(&name).into_iter().chain([name]).map(|name| dotted(&name)).collect();
            listing.add(path, names);
        }
    }
    Ok(listing)
}

impl Listing {
    fn add(&mut self, path: PathBuf, names: Vec<String>) {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            "proto" => self.protos.push(path),
            "json" => self.handlers.push(Found { path, names, kind: FoundKind::Json }),
            "md" | "txt" => {}
            _ if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok() => {
                self.handlers.push(Found { path, names, kind: FoundKind::Executable });
            }
            _ => self.skipped.push((path, "it is not executable")),
        }
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        paths.push(entry?.path());
        if paths.len() > ENTRIES_MAX {
            let text = format!("more than {ENTRIES_MAX} files");
            return Err(io::Error::other(text));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The name, unless it is that of a hidden file, an editor's backup, or no text.
fn visible_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    (!name.starts_with('.') && !name.ends_with('~')).then(|| name.to_owned())
}

fn without_extension(name: &str) -> Option<String> {
    name.rsplit_once('.').map(|(stem, _)| stem.to_owned())
}

/// `pkg.Svc.Method` as a path of a method; a name without dots stays.
fn dotted(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((service, method)) => format!("{service}/{method}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_mean_methods() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("demo.Calc")).unwrap();
        let program = |name: &str| {
            std::fs::write(root.join(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        for name in ["upper", "lower.sh", "demo.Greeter.Hello", "demo.Greeter.Bye.py", "demo.Calc/Add.sh"] {
            program(name);
        }
        for name in ["a.proto", "README.md", ".hidden", "old~", "notes", "demo.Clock.Now.json"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let listing = list(root).unwrap();
        let names: Vec<_> =
            listing.handlers.iter().map(|found| (found.kind, found.names.join(" "))).collect();
        assert_eq!(
            names,
            [
                (FoundKind::Executable, "demo.Calc/Add demo.Calc/Add.sh".to_owned()),
                (FoundKind::Json, "demo.Clock/Now demo.Clock.Now/json".to_owned()),
                (FoundKind::Executable, "demo.Greeter/Bye demo.Greeter.Bye/py".to_owned()),
                (FoundKind::Executable, "demo/Greeter demo.Greeter/Hello".to_owned()),
                (FoundKind::Executable, "lower lower/sh".to_owned()),
                (FoundKind::Executable, "upper".to_owned()),
            ]
        );
        assert_eq!(listing.protos, [root.join("a.proto")]);
        assert_eq!(listing.skipped, [(root.join("notes"), "it is not executable")]);
    }
}
