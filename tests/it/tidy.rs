//! The rules of the tree that no compiler checks. A text search: a fence, not a proof.

use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Which module may use which, besides itself. `cli` and `lib.rs` may use everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("shutdown", &[]),
    ("spelling", &[]),
    ("units", &[]),
    ("secret", &[]),
    ("record", &[]),
    ("backoff", &[]),
    ("wait", &[]),
    ("presence", &[]),
    ("exec", &["backoff", "record", "shutdown", "units"]),
    ("bench", &["units"]),
    ("transport", &["backoff", "shutdown", "units", "secret"]),
    ("storage", &["units"]),
    ("metrics", &["transport", "shutdown", "units"]),
    (
        "gossip",
        &[
            "exec",
            "transport",
            "storage",
            "metrics",
            "bench",
            "backoff",
            "shutdown",
            "units",
            "wait",
            "secret",
        ],
    ),
    (
        "rpc",
        &[
            "gossip",
            "transport",
            "exec",
            "bench",
            "metrics",
            "presence",
            "shutdown",
            "spelling",
            "units",
            "wait",
            "secret",
        ],
    ),
    ("mq", &["transport", "storage", "bench", "backoff", "shutdown", "units", "wait", "secret"]),
    (
        "log",
        &[
            "record",
            "transport",
            "storage",
            "metrics",
            "bench",
            "backoff",
            "shutdown",
            "units",
            "wait",
            "secret",
        ],
    ),
    ("output", &["record", "spelling", "units"]),
];

/// Rooms where only arguments go in and values come out.
fn is_pure(file: &str) -> bool {
    let inside = |room: &str| file.contains(&format!("/{room}/")) || file.ends_with(&format!("/{room}.rs"));
    let pillar =
        ["src/rpc/", "src/mq/", "src/log/", "src/gossip/"].iter().any(|pillar| file.starts_with(pillar));
    // The tests of a room read their golden files.
    pillar && (inside("wire") || inside("engine")) && !file.ends_with("/tests.rs")
}

/// What a pure room does not contain, and what to do instead.
const IMPURE: &[(&str, &str)] = &[
    ("async fn", "be polled with values: the driver awaits"),
    ("tokio::", "leave tasks and sockets to the driver"),
    ("std::net", "leave sockets to the driver"),
    ("std::fs", "leave files to the driver"),
    ("std::env", "take it as an argument"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime::now", "take `now` as an argument"),
    ("thread_rng", "take the random numbers as an argument"),
];

/// Words that belong to certain files only, and what to do elsewhere.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("tokio::spawn(", &["src/shutdown.rs"], "spawn through Shutdown::spawn: a stop must find every task"),
    ("unbounded_channel", &[], "bound the channel: a slow reader must not use up memory"),
    ("super::super", &[], "name the module from `crate::`"),
    ("TcpStream::connect", &["src/transport/"], "open sockets through transport"),
    ("TcpListener::bind", &["src/transport/"], "open sockets through transport"),
    ("UdpSocket::bind", &["src/transport/"], "open sockets through transport"),
    ("UnixStream::connect", &["src/transport/"], "open sockets through transport"),
    ("UnixListener::bind", &["src/transport/"], "open sockets through transport"),
    ("println!", &[], "write data through the Printer: println! panics when the reader leaves"),
    ("eprintln!", &[], "talk through the Printer: it knows about -q and terminals"),
    ("process::exit", &[], "return an Exit: destructors have to run"),
    ("std::env::var", &["src/cli/"], "read the environment in cli and pass the value down"),
    ("is_terminal()", &["src/cli/", "src/output"], "ask the Printer"),
];

/// Longest file in lines of code: what stands before the tests, without comments and blank lines.
const FILE_LINES_MAX: usize = 500;

/// Files that are longer until somebody splits them, and how long they may be; add none.
const LONGER: &[(&str, usize)] = &[("src/storage/log.rs", 700), ("src/storage/recovery.rs", 700)];

struct Source {
    /// Path from the root, with slashes.
    name: String,
    text: String,
}

impl Source {
    /// The code before the unit tests, without comments, with its line numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("\n#[cfg(test)]\n").unwrap_or(self.text.len());
        let lines = self.text[..tests].lines().enumerate();
        lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(n, line)| (n + 1, line))
    }

    /// The module right below the crate that the file belongs to.
    fn module(&self) -> &str {
        let path = self.name.strip_prefix("src/").unwrap_or(&self.name);
        path.split(['/', '.']).next().unwrap_or(path)
    }
}

fn sources(folder: &str) -> Vec<Source> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(ROOT).join(folder), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(ROOT).unwrap().to_string_lossy().into_owned();
    found
        .iter()
        .map(|path| Source { name: name(path), text: std::fs::read_to_string(path).unwrap() })
        .collect()
}

/// Fails with all complaints at once.
#[track_caller]
fn nothing_in(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        let module = source.module();
        if matches!(module, "cli" | "lib" | "main") {
            continue;
        }
        let Some((_, granted)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("{}: module {module} has no row in LAYERS", source.name));
            continue;
        };
        for (number, line) in source.code() {
            for (_, used) in line.match_indices("crate::").map(|(at, found)| (at, &line[at + found.len()..]))
            {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                let is_module = used == "cli" || LAYERS.iter().any(|(name, _)| *name == used);
                if is_module && used != module && !granted.contains(&used) {
                    complaints.push(format!("{}:{number}: {module} may not use {used}", source.name));
                }
            }
        }
    }
    nothing_in(complaints);
}

#[test]
fn wire_and_engine_rooms_are_pure() {
    let mut complaints = Vec::new();
    for source in sources("src").iter().filter(|source| is_pure(&source.name)) {
        for (number, line) in source.code() {
            for (word, remedy) in IMPURE.iter().filter(|(word, _)| line.contains(word)) {
                complaints.push(format!("{}:{number}: `{word}` in a pure room: {remedy}", source.name));
            }
        }
    }
    nothing_in(complaints);
}

#[test]
fn words_stay_where_they_belong() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        for (number, line) in source.code() {
            for (word, owners, remedy) in OWNED {
                let owned = owners.iter().any(|owner| source.name.starts_with(owner));
                if !owned && line.contains(word) {
                    complaints.push(format!("{}:{number}: `{word}`: {remedy}", source.name));
                }
            }
        }
    }
    nothing_in(complaints);
}

#[test]
fn every_file_says_what_it_is_and_is_not_too_long() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            if source.name.ends_with("/mod.rs") {
                complaints
                    .push(format!("{}: src/x.rs is the front door of src/x/, not src/x/mod.rs", source.name));
            }
            if !source.text.starts_with("//! ") {
                complaints.push(format!("{}: the first line says what the file owns: //! …", source.name));
            }
            let lines = source.code().filter(|(_, line)| !line.trim().is_empty()).count();
            let longer = LONGER.iter().find(|(name, _)| *name == source.name);
            if lines > longer.map_or(FILE_LINES_MAX, |(_, lines)| *lines) {
                complaints.push(format!("{}: {lines} lines of code: name a part and move it", source.name));
            }
        }
    }
    nothing_in(complaints);
}

#[test]
fn there_is_one_tls_provider() {
    let lock = std::fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    for banned in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        let found = lock.lines().any(|line| line == format!("name = \"{banned}\""));
        assert!(!found, "{banned} is in Cargo.lock: ring is the one provider");
    }
}
