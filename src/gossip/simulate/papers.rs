//! What has been published, to be compared with.

use super::model::{Direction, Model, Stop};

/// A row of a table of Demers et al. 1987 (1,000 nodes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Which table.
    pub table: u32,
    /// The counter, or one in how many.
    pub k: u32,
    /// The share that never heard of it.
    pub residue: f64,
    /// Messages for each node.
    pub traffic: f64,
    /// The round in which the last of the others did.
    pub last_delay: f64,
}

const fn row(table: u32, k: u32, residue: f64, traffic: f64, last_delay: f64) -> Published {
    Published { table, k, residue, traffic, last_delay }
}

/// Tables 1 (push, feedback, counter), 2 (push, blind, coin) and 3 (pull, feedback, counter).
pub const DEMERS: [Published; 13] = [
    row(1, 1, 0.18, 1.7, 16.8),
    row(1, 2, 0.037, 3.3, 16.9),
    row(1, 3, 0.011, 4.5, 17.4),
    row(1, 4, 0.0036, 5.6, 17.5),
    row(1, 5, 0.0012, 6.7, 17.7),
    row(2, 1, 0.96, 0.04, 38.0),
    row(2, 2, 0.20, 1.6, 33.0),
    row(2, 3, 0.060, 2.8, 32.0),
    row(2, 4, 0.021, 3.9, 32.0),
    row(2, 5, 0.008, 4.9, 32.0),
    row(3, 1, 3.1e-2, 2.7, 17.63),
    row(3, 2, 5.8e-4, 4.5, 15.39),
    row(3, 3, 4.0e-6, 6.1, 14.00),
];

impl Published {
    /// What the table is about.
    pub fn title(&self) -> &'static str {
        match self.table {
            1 => "push, feedback, counter",
            2 => "push, blind, coin",
            _ => "pull, feedback, counter",
        }
    }

    /// The same as a model.
    pub fn model(&self) -> Model {
        let (direction, feedback, coin) = match self.table {
            1 => (Direction::Push, true, false),
            2 => (Direction::Push, false, true),
            _ => (Direction::Pull, true, false),
        };
        let stop = Stop::After { feedback, coin, k: self.k };
        Model { nodes: 1000, fanout: 1, direction, loss: 0.0, stop, rounds_max: 10_000 }
    }

    /// The same as this model gives it, on the mean of so many runs.
    pub fn ours(&self, runs: u32, seed: u64) -> Self {
        let model = self.model();
        let (mut residue, mut traffic, mut last_delay) = (0.0, 0.0, 0.0);
        for run in 0..runs.max(1) {
            let outcome = model.run(seed.wrapping_add(u64::from(run)), |_, _| {});
            residue += outcome.residue;
            traffic += outcome.traffic;
            last_delay += f64::from(outcome.last_delay);
        }
        let runs = f64::from(runs.max(1));
        Self { residue: residue / runs, traffic: traffic / runs, last_delay: last_delay / runs, ..*self }
    }
}
