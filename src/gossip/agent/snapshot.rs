//! Whom to join again after a restart: a file of lines, as Serf's snapshot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Agent, Core};
use crate::gossip::engine::{Event, Status};

/// Changes within this time are written together.
const WRITE_PAUSE: Duration = Duration::from_millis(500);
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Who was there, and where.
    pub alive: BTreeMap<String, SocketAddr>,
    /// The clocks of members, events and queries.
    pub clocks: [u64; 3],
    /// Whether the node had left.
    pub left: bool,
}

impl Snapshot {
    /// Reads a file, if it is there and can be read.
    pub fn read(path: &Path) -> Option<Self> {
        let length = std::fs::metadata(path).ok()?.len();
        (length <= FILE_BYTES_MAX).then(|| std::fs::read_to_string(path).ok())?.map(|text| Self::parse(&text))
    }

    /// Understands the lines; those that it does not are passed over.
    pub fn parse(text: &str) -> Self {
        let mut snapshot = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(": ").unwrap_or((line, ""));
            let mut clock = |which: usize| {
                let time: u64 = rest.trim().parse().unwrap_or(0);
                snapshot.clocks[which] = snapshot.clocks[which].max(time);
            };
            match word {
                "alive" => {
                    // A name may have blanks.
                    if let Some((name, address)) = rest.rsplit_once(' ')
                        && let Ok(address) = address.parse()
                    {
                        snapshot.alive.insert(name.to_owned(), address);
                        snapshot.left = false;
                    }
                }
                "not-alive" => drop(snapshot.alive.remove(rest)),
                "clock" => clock(0),
                "event-clock" => clock(1),
                "query-clock" => clock(2),
                "leave" => snapshot.left = true,
                _ => {}
            }
        }
        snapshot
    }

    /// What a node has to remember.
    fn of(core: &Core) -> Self {
        let engine = core.engine();
        let me = engine.me().name.clone();
        let others = engine.members().filter(|member| member.status == Status::Alive && member.name != me);
        Self {
            alive: others.map(|member| (member.name.to_string(), member.address)).collect(),
            clocks: engine.clocks().map(|next| next.saturating_sub(1)),
            left: engine.is_gone(),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, address) in &self.alive {
            let _ = writeln!(text, "alive: {} {address}", name.replace('\n', " "));
        }
        let [members, events, queries] = self.clocks;
        let _ = writeln!(text, "clock: {members}\nevent-clock: {events}\nquery-clock: {queries}");
        if self.left {
            text.push_str("leave\n");
        }
        text
    }
}

/// Writes the file whenever something has changed, and at the end.
pub(super) async fn keep(path: PathBuf, agent: Agent) {
    let mut events = agent.watch();
    loop {
        let ended = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => match &*event {
                    Event::Member { .. } | Event::User { .. } | Event::Query { .. } => false,
                    _ => continue,
                },
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => false,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => true,
            },
            () = agent.gone() => true,
        };
        if !ended {
            tokio::select! {
                () = tokio::time::sleep(WRITE_PAUSE) => {}
                () = agent.gone() => {}
            }
        }
        let Ok(snapshot) = agent.with(|core| Snapshot::of(core)).await else {
            // It left in order: nobody is to be joined again.
            let mut last = Snapshot::read(&path).unwrap_or_default();
            last.left = true;
            let _ = write(&path, &last);
            return;
        };
        if let Err(error) = write(&path, &snapshot) {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
        if ended {
            return;
        }
    }
}

fn write(path: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, snapshot.text())?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_was_written_and_as_serf_writes_it() {
        let address = "10.0.0.1:7946".parse().unwrap();
        let snapshot = Snapshot {
            alive: BTreeMap::from([("web 1".to_owned(), address)]),
            clocks: [7, 8, 9],
            left: false,
        };
        assert_eq!(Snapshot::parse(&snapshot.text()), snapshot);
        let serf = "alive: a 10.0.0.1:7946\nalive: b 10.0.0.2:1\nnot-alive: b\nclock: 3\nclock: 12\n\
            event-clock: 2\nquery-clock: 1\ncoordinate: {}\n#comment\nalive: broken\n";
        let expected =
            Snapshot { alive: BTreeMap::from([("a".to_owned(), address)]), clocks: [12, 2, 1], left: false };
        assert_eq!(Snapshot::parse(serf), expected);
        assert!(Snapshot::parse("alive: a 10.0.0.1:1\nleave\n").left);
    }
}
