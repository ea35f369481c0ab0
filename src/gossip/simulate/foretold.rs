//! What is published about rounds and residues, the model, and the engine: they agree.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::gossip::engine::{Event, Input};

const SECOND: Duration = Duration::from_secs(1);

/// Mean rounds until all know.
fn rounds(nodes: u32, direction: Direction, fanout: u32, loss: f64, runs: u32) -> f64 {
    let model = Model { nodes, fanout, direction, loss, stop: Stop::Never, rounds_max: 1000 };
    let sum: u32 = (0..runs).map(|seed| model.run(u64::from(seed), |_, _| {}).last.round).sum();
    f64::from(sum) / f64::from(runs)
}

#[test]
fn the_tables_of_demers_are_reproduced() {
    const RUNS: u32 = 400;
    for published in DEMERS {
        let ours = published.ours(RUNS, 7);
        let near = |ours: f64, theirs: f64, sigma: f64| (ours - theirs).abs() <= 0.05 * theirs + 3.0 * sigma;
        // Those left over come in ones: their number has its own variance, and so has the rare last of them.
        let left = published.residue * 1000.0;
        let sigma =
            (left.max(0.01) / f64::from(RUNS)).sqrt() / 1000.0 * if published.table == 2 { 8.0 } else { 3.0 };
        assert!(near(ours.residue, published.residue, sigma), "residue: {ours:?}, {published:?}");
        assert!(near(ours.traffic, published.traffic, 0.05), "traffic: {ours:?}, {published:?}");
        // One in a thousand hears of it in the first row of table 2: a mean over those runs is not one.
        if (published.table, published.k) != (2, 1) {
            assert!(near(ours.last_delay, published.last_delay, 0.3), "delay: {ours:?}, {published:?}");
        }
    }
}

#[test]
fn rounds_until_all_know_grow_with_the_logarithm() {
    use Direction::{Pull, Push, PushPull};
    for (nodes, direction, fanout, loss, expected, runs) in [
        (100, Push, 1, 0.0, 12.4, 300),
        (1000, Push, 1, 0.0, 18.0, 100),
        (1000, Pull, 1, 0.0, 13.8, 100),
        (1000, PushPull, 1, 0.0, 9.2, 100),
        (1000, Push, 3, 0.0, 8.2, 100),
        (1000, PushPull, 3, 0.0, 5.1, 100),
        (1000, Push, 3, 0.25, 10.0, 100),
        (10_000, Push, 1, 0.0, 23.7, 20),
        (10_000, PushPull, 1, 0.0, 11.6, 20),
    ] {
        let ours = rounds(nodes, direction, fanout, loss, runs);
        assert!(
            (ours - expected).abs() < 0.07 * expected,
            "{nodes} {direction:?} {fanout}: {ours}, not {expected}"
        );
    }
}

/// Intervals until all of a thousand engines know a piece of news, of so many runs each.
fn intervals(phase: Option<Duration>, fanout: u32, loss: f64, runs: u64) -> f64 {
    const NODES: usize = 1000;
    let mut sum = 0.0;
    for seed in 0..runs {
        let mut network = Network::new(seed, Links { loss, ..Links::default() });
        network.add_cluster(NODES, |config| {
            config.gossip_nodes = fanout as usize;
            config.gossip_phase = phase;
            // As in the model, nobody stops before all know.
            config.retransmit_mult = 100;
            config.probe_interval = 1000 * SECOND;
            config.push_pull = false;
            config.coordinates = false;
        });
        network.input(0, Input::Event { name: "news".into(), payload: Bytes::new(), coalesce: false });
        let (mut informed, mut steps) = (0, 0);
        while informed < NODES && steps < 500 {
            network.run(SECOND / 50);
            steps += 1;
            informed += network.happened().iter().filter(|h| matches!(h.event, Event::User { .. })).count();
        }
        assert_eq!(informed, NODES, "fanout {fanout}, loss {loss}, seed {seed}");
        sum += f64::from(steps) / 10.0;
    }
    sum / runs as f64
}

/// In the model all tell at once, in rounds: so do engines of one phase.
#[test]
fn the_model_foretells_the_engine_at_a_thousand_nodes() {
    for (fanout, loss) in [(3, 0.0), (3, 0.25), (2, 0.0)] {
        let engine = intervals(Some(Duration::ZERO), fanout, loss, 5);
        let model = rounds(1000, Direction::Push, fanout, loss, 50);
        assert!(
            (engine - model).abs() <= 0.1 * model,
            "fanout {fanout}, loss {loss}: {engine}, {model} in the model"
        );
    }
}

/// Each at its own moment: who has heard of it tells half an interval later, not a whole one. While few know their number
/// grows by e^f in an interval instead of by 1 + f; at the end it is e^-f of the rest that is not told, as in rounds.
#[test]
fn news_are_faster_where_each_tells_at_its_own_moment() {
    for (fanout, loss) in [(3, 0.0), (3, 0.25), (2, 0.0)] {
        let useful = f64::from(fanout) * (1.0 - loss);
        let saved = 1000f64.ln() / (1.0 + useful).ln() - 1000f64.ln() / useful;
        let expected = rounds(1000, Direction::Push, fanout, loss, 50) - saved;
        let engine = intervals(None, fanout, loss, 5);
        assert!(
            (engine - expected).abs() <= 0.15 * expected,
            "fanout {fanout}, loss {loss}: {engine}, not {expected}"
        );
    }
}
