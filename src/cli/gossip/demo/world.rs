//! Nodes that have found each other, in a made-up time, and what is told of them.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use serde_json::json;

use crate::cli::stage::Note;
use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::gossip::engine::{DATA_TAG, Input, Status, Time};
use crate::gossip::simulate::{Links, Network, address_of, name_of};
use crate::gossip::wire::NodeState;

/// How long nodes are given to find each other.
const SETTLES: Duration = Duration::from_secs(10);

/// How a node sees another one: as memberlist says it, and as Serf does.
pub type View = (NodeState, Status);

/// See the module.
pub struct World {
    /// Decides everything that is left to chance.
    pub seed: u64,
    pub network: Network,
    /// The viewer has taken over.
    pub directed: bool,
    began: Time,
    /// Since when what an act waits for is so.
    since: Option<Time>,
    notes: Vec<Note>,
    chronicle: Chronicle,
}

impl World {
    /// So many nodes, which have joined the first one and all know each other.
    pub fn new(seed: u64, nodes: usize) -> Self {
        let mut network = Network::new(seed, Links::default());
        for node in 0..nodes {
            network.add(|config| {
                config.tags.insert(DATA_TAG.to_owned(), "1".to_owned());
            });
            if node > 0 {
                network.input(node, Input::Join { seed: address_of(0), replay: false });
            }
        }
        let know_all = |network: &Network| {
            (0..nodes).all(|node| network.engine(node).is_some_and(|engine| engine.living() == nodes))
        };
        network.run_until(SETTLES, know_all);
        // And until nothing is told of it any more.
        network.run(SETTLES);
        network.happened();
        let (began, chronicle) = (network.now(), Chronicle::default());
        Self { seed, network, directed: false, began, since: None, notes: Vec::new(), chronicle }
    }

    /// Milliseconds since the story began.
    pub fn ms(&self) -> u64 {
        u64::try_from((self.network.now() - self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// How a node sees another one, if it knows it.
    pub fn view(&self, by: usize, of: usize) -> Option<View> {
        let member = self.network.engine(by)?.member(&name_of(of))?;
        Some((member.state, member.status))
    }

    /// Tells something of a node.
    pub fn note(&mut self, node: &str, what: &str) {
        let ms = self.ms();
        self.notes.push(Note::new(
            format!("{node:<3} {what}"),
            vec![(TIME, json!(ms)), ("node", json!(node)), ("what", json!(what))],
        ));
    }

    /// What was told since this was asked last.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.chronicle.add(&self.notes);
        std::mem::take(&mut self.notes)
    }

    /// Draws what was told.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        self.chronicle.draw(frame, area, theme);
    }

    /// True once something has been so for as long as `wait`.
    pub fn has_held(&mut self, holds: bool, wait: Duration) -> bool {
        if !holds {
            self.since = None;
            return false;
        }
        let now = self.network.now();
        if now - *self.since.get_or_insert(now) < wait {
            return false;
        }
        self.since = None;
        true
    }
}
