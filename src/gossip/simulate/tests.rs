//! Clusters under faults: what must never happen, and what must be true once the faults are over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::gossip::engine::{Change, Config, DATA_TAG, Event, Input, Mode, QueryOptions, Status, Time};
use crate::gossip::wire::data::Version;
use crate::gossip::wire::{Filter, Name};

const SECOND: Duration = Duration::from_secs(1);

fn with_data(config: &mut Config) {
    config.tags.insert(DATA_TAG.to_owned(), "1".to_owned());
}

/// So many nodes that have joined the first one.
fn joined(seed: u64, count: usize, links: Links, configure: impl Fn(&mut Config)) -> Network {
    let mut network = Network::new(seed, links);
    for node in 0..count {
        network.add(&configure);
        if node > 0 {
            network.input(node, Input::Join { seed: address_of(0), replay: true });
        }
    }
    let know_all = |network: &Network| {
        (0..count).all(|node| network.engine(node).is_some_and(|engine| engine.living() == count))
    };
    assert!(network.run_until(60 * SECOND, know_all), "not all know all");
    network.happened();
    network
}

fn statuses(network: &Network, node: usize) -> BTreeMap<Name, Status> {
    let members = network.engine(node).unwrap().members();
    members.map(|member| (member.name.clone(), member.status)).collect()
}

fn changes(happened: &[Happened], of: &str) -> Vec<(usize, Change)> {
    let change = |happened: &Happened| match &happened.event {
        Event::Member { change, member } if &*member.name == of => Some((happened.node, *change)),
        _ => None,
    };
    happened.iter().filter_map(change).collect()
}

#[test]
fn who_joins_one_is_known_to_all_within_seconds() {
    let network = joined(1, 20, Links { wire: true, ..Links::default() }, |_| {});
    assert!(network.now() < Time(5_000_000), "it took {:?}", network.now());
    for node in 0..20 {
        assert_eq!(network.engine(node).unwrap().members().count(), 20);
    }
}

#[test]
fn a_crash_is_a_failure_that_all_see_within_the_bounds_of_the_timers() {
    let mut network = joined(2, 10, Links::default(), |_| {});
    network.crash(9);
    let began = network.now();
    let seen = |network: &Network| {
        (0..9).all(|node| network.engine(node).unwrap().member("n9").unwrap().status == Status::Failed)
    };
    assert!(network.run_until(120 * SECOND, seen));
    let took = network.now() - began;
    // A probe within a round of nine, a probe's interval, suspicion of 4 to 24 s.
    assert!(took > 4 * SECOND && took < 45 * SECOND, "{took:?}");
    let happened = network.happened();
    let all = changes(&happened, "n9");
    assert_eq!(all.iter().filter(|(_, change)| *change == Change::Failed).count(), 9);
    assert_eq!(all.iter().filter(|(_, change)| *change == Change::Leave).count(), 0);
}

#[test]
fn who_says_that_it_leaves_has_left() {
    let mut network = joined(3, 8, Links::default(), |_| {});
    network.input(7, Input::Leave);
    assert!(network.run_until(20 * SECOND, |network| {
        (0..7).all(|node| network.engine(node).unwrap().member("n7").unwrap().status == Status::Left)
    }));
    network.run(15 * SECOND);
    let happened = network.happened();
    assert!(happened.iter().any(|happened| happened.node == 7 && happened.event == Event::Left));
    let told: BTreeSet<_> = changes(&happened, "n7")
        .into_iter()
        .filter(|(node, _)| *node != 7)
        .map(|(_, change)| change as u8)
        .collect();
    assert_eq!(told, BTreeSet::from([Change::Leave as u8]));
}

#[test]
fn one_that_is_stopped_is_suspected_and_objects_when_it_goes_on() {
    let mut network = joined(4, 6, Links::default(), |_| {});
    network.pause(5);
    let suspected = |network: &Network| {
        network.engine(0).unwrap().member("n5").unwrap().state == crate::gossip::wire::NodeState::Suspect
    };
    assert!(network.run_until(60 * SECOND, suspected));
    network.resume(5);
    network.run(30 * SECOND);
    let incarnation = network.engine(0).unwrap().member("n5").unwrap().incarnation;
    assert!(incarnation > 1);
    assert_eq!(statuses(&network, 0)[&name_of(5)], Status::Alive);
    let happened = network.happened();
    let told = changes(&happened, "n5");
    assert!(told.iter().any(|(_, change)| *change == Change::Suspect));
    assert!(told.iter().any(|(_, change)| *change == Change::Refuted));
    assert!(told.iter().all(|(_, change)| *change != Change::Failed));
}

#[test]
fn an_event_is_told_once_to_everybody_and_a_tag_is_seen() {
    let mut network = joined(5, 12, Links { loss: 0.1, duplicates: 0.1, ..Links::default() }, |_| {});
    let event = Input::Event { name: "deploy".into(), payload: Bytes::from_static(b"1.2"), coalesce: false };
    network.input(3, event);
    network.input(4, Input::Tags(BTreeMap::from([("role".to_owned(), "web".to_owned())])));
    network.run(20 * SECOND);
    let happened = network.happened();
    let mut told: Vec<usize> = happened
        .iter()
        .filter(|happened| matches!(&happened.event, Event::User { name, .. } if &**name == "deploy"))
        .map(|happened| happened.node)
        .collect();
    told.sort_unstable();
    assert_eq!(told, (0..12).collect::<Vec<_>>());
    let updated = changes(&happened, "n4").iter().filter(|(_, change)| *change == Change::Update).count();
    assert_eq!(updated, 12);
    let over = Input::Event { name: "big".into(), payload: Bytes::from(vec![0; 600]), coalesce: false };
    network.input(0, over);
    assert!(matches!(network.happened()[..], [Happened { event: Event::Refused { .. }, .. }]));
}

#[test]
fn a_query_is_answered_by_those_whom_its_filters_match() {
    let mut network = joined(6, 9, Links::default(), |config| {
        if config.name.ends_with(['1', '2', '3']) {
            config.tags.insert("role".to_owned(), "web".to_owned());
        }
    });
    let options = QueryOptions {
        name: "load".into(),
        payload: Bytes::new(),
        filters: vec![Filter::Tag { tag: "role".into(), expression: "^w".into() }],
        acks: true,
        relay_factor: 2,
        timeout: Some(5 * SECOND),
    };
    network.input(0, Input::Query { options, tag: 1 });
    for _ in 0..50 {
        network.run(SECOND / 10);
        for Happened { node, event, .. } in network.happened() {
            match event {
                Event::Query { query, .. } => {
                    network.input(node, Input::Respond { query, payload: Bytes::from(format!("{node}")) });
                }
                Event::Response { from, payload, .. } => assert_eq!(&from[1..].as_bytes(), &&payload[..]),
                Event::QueryOver { summary, .. } => {
                    assert_eq!((summary.acks, summary.responses), (3, 3));
                    return;
                }
                _ => {}
            }
        }
    }
    panic!("the query never ended");
}

#[test]
fn a_restart_without_memory_is_believed_again() {
    let mut network = joined(7, 5, Links::default(), |_| {});
    network.crash(4);
    network.run(90 * SECOND);
    assert_eq!(statuses(&network, 0)[&name_of(4)], Status::Failed);
    network.restart(4, |_| {});
    network.input(4, Input::Join { seed: address_of(1), replay: false });
    assert!(network.run_until(10 * SECOND, |network| {
        (0..5).all(|node| network.engine(node).unwrap().living() == 5)
    }));
}

#[test]
fn two_halves_find_each_other_again() {
    let mut network = joined(8, 8, Links::default(), |_| {});
    (4..8).for_each(|node| network.set_side(node, 1));
    network.run(90 * SECOND);
    assert_eq!(network.engine(0).unwrap().living(), 4);
    assert_eq!(network.engine(7).unwrap().living(), 4);
    (4..8).for_each(|node| network.set_side(node, 0));
    let whole = |network: &Network| (0..8).all(|node| network.engine(node).unwrap().living() == 8);
    assert!(network.run_until(200 * SECOND, whole));
}

#[test]
fn of_two_nodes_of_one_name_the_latecomer_goes() {
    let mut network = joined(9, 5, Links::default(), |_| {});
    // Node 5 says that it is n2.
    network.add(|config| config.name = name_of(2));
    network.input(5, Input::Join { seed: address_of(0), replay: true });
    network.run(60 * SECOND);
    let displaced: BTreeSet<usize> = network
        .happened()
        .iter()
        .filter(|happened| happened.event == Event::Displaced)
        .map(|happened| happened.node)
        .collect();
    assert_eq!(displaced, BTreeSet::from([5]));
}

/// What holds for every node at every moment.
#[derive(Default)]
struct Checker {
    /// The incarnation in which each node holds another for gone.
    gone: HashMap<(usize, u32, Name), u32>,
    incarnations: HashMap<(usize, u32, Name), u32>,
    versions: HashMap<(usize, u32, String), Version>,
    counts: BTreeMap<u8, usize>,
}

impl Checker {
    fn check(&mut self, lives: &[u32], happened: Vec<Happened>, seed: u64) {
        for Happened { at, node, event } in happened {
            let place = format!("seed {seed}, {at:?}, node {node}");
            match event {
                Event::Member { change, member } => {
                    *self.counts.entry(change as u8).or_default() += 1;
                    let key = (node, lives[node], member.name.clone());
                    let last = self.incarnations.insert(key.clone(), member.incarnation).unwrap_or(0);
                    assert!(member.incarnation >= last, "{place}: an older incarnation of {}", member.name);
                    match change {
                        Change::Failed | Change::Leave => {
                            self.gone.insert(key, member.incarnation);
                        }
                        Change::Join => {
                            let gone = self.gone.remove(&key);
                            assert!(
                                gone.is_none_or(|gone| member.incarnation > gone),
                                "{place}: {} is back without a new incarnation",
                                member.name
                            );
                        }
                        Change::Update | Change::Reap | Change::Suspect | Change::Refuted => {}
                    }
                }
                Event::Data(entry) => {
                    let key = (node, lives[node], entry.key.to_string());
                    let last = self.versions.insert(key, entry.version.clone());
                    assert!(last.is_none_or(|last| entry.version > last), "{place}: a version went back");
                }
                _ => {}
            }
        }
    }
}

/// Faults at random for a time, then calm: in it all must come to know the same, and the truth.
fn chaos(seed: u64, mode: Mode) -> (Checker, Totals) {
    const COUNT: usize = 6;
    let mut rng = fastrand::Rng::with_seed(seed);
    let links = Links { loss: 0.05, duplicates: 0.05, wire: seed.is_multiple_of(4), ..Links::default() };
    let configure = |config: &mut Config| {
        with_data(config);
        config.data.mode = mode;
    };
    let mut network = joined(seed, COUNT, links, configure);
    let (mut checker, mut lives) = (Checker::default(), vec![0u32; COUNT]);
    let mut up = [true; COUNT];
    for _ in 0..60 {
        let node = rng.usize(0..COUNT);
        match rng.u32(0..12) {
            0 if up[node] && up.iter().filter(|up| **up).count() > 2 => {
                up[node] = false;
                network.crash(node);
            }
            1 | 2 if !up[node] => {
                (up[node], lives[node]) = (true, lives[node] + 1);
                network.restart(node, configure);
                let others = (0..COUNT).filter(|other| up[*other] && *other != node);
                for other in others {
                    network.input(node, Input::Join { seed: address_of(other), replay: true });
                }
            }
            3 if up[node] => network.pause(node),
            4 if up[node] => network.resume(node),
            5 => network.set_side(node, rng.u32(0..2)),
            6 => (0..COUNT).for_each(|node| network.set_side(node, 0)),
            7 => network.links().loss = rng.f64() * 0.4,
            8 if up[node] => {
                let tags = BTreeMap::from([
                    (DATA_TAG.to_owned(), "1".to_owned()),
                    ("n".to_owned(), rng.u8(..).to_string()),
                ]);
                network.input(node, Input::Tags(tags));
            }
            9..=11 if up[node] => {
                let value = (rng.f64() < 0.7).then(|| Bytes::from(vec![b'x'; rng.usize(0..900)]));
                network.input(node, Input::Set { key: format!("k{}", rng.u8(0..5)).into(), value });
            }
            _ => {}
        }
        network.run(Duration::from_millis(rng.u64(50..6000)));
        checker.check(&lives, network.happened(), seed);
    }
    // Calm.
    *network.links() = Links::default();
    for (node, is_up) in up.iter().enumerate() {
        network.set_side(node, 0);
        if *is_up {
            network.resume(node);
        }
    }
    let first = (0..COUNT).find(|node| up[*node]).unwrap();
    for _ in 0..60 {
        network.run(10 * SECOND);
        checker.check(&lives, network.happened(), seed);
    }
    let expected: Vec<_> = (0..COUNT).filter(|node| up[*node]).map(name_of).collect();
    for node in (0..COUNT).filter(|node| up[*node]) {
        let engine = network.engine(node).unwrap();
        let mut living: Vec<Name> =
            engine.members().filter(|member| member.is_living()).map(|member| member.name.clone()).collect();
        living.sort();
        assert_eq!(living, expected, "seed {seed}: whom n{node} holds for alive");
        let data = |node: usize| -> Vec<_> {
            let store = network.engine(node).unwrap().store();
            store
                .iter()
                .map(|(key, stored)| (key.clone(), stored.version.clone(), stored.value.clone()))
                .collect()
        };
        assert_eq!(data(node), data(first), "seed {seed}: data of n{node}");
        let metas = |node: usize| -> Vec<_> {
            let members = network.engine(node).unwrap().members().filter(|member| member.is_living());
            let mut metas: Vec<_> =
                members.map(|member| (member.name.clone(), member.meta.clone())).collect();
            metas.sort();
            metas
        };
        assert_eq!(metas(node), metas(first), "seed {seed}: tags that n{node} knows");
    }
    (checker, network.totals())
}

#[test]
fn faults_never_bring_back_the_dead_and_calm_brings_agreement() {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for seed in 0..24 {
        let mode = [Mode::PushPull, Mode::Push, Mode::Pull][seed as usize % 3];
        for (change, count) in chaos(seed, mode).0.counts {
            *counts.entry(change).or_default() += count;
        }
    }
    // Not in vain: all of it has happened.
    for change in [Change::Join, Change::Failed, Change::Update, Change::Suspect, Change::Refuted] {
        assert!(counts.get(&(change as u8)).is_some_and(|count| *count > 20), "{change:?}: {counts:?}");
    }
}

#[test]
fn one_seed_has_one_outcome() {
    let trace = |seed| chaos(seed, Mode::PushPull).1;
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

#[test]
fn data_reach_everybody_in_every_mode_and_a_deleted_key_stays_deleted() {
    for mode in [Mode::Push, Mode::Pull, Mode::PushPull] {
        let links = Links { wire: true, ..Links::default() };
        let mut network = joined(11, 10, links, |config| {
            with_data(config);
            config.data.mode = mode;
        });
        let large = Bytes::from(vec![7; 100_000]);
        let set = |key: &str, value| Input::Set { key: key.into(), value };
        network.input(1, set("a", Some(Bytes::from_static(b"1"))));
        network.input(2, set("large", Some(large.clone())));
        let has = |network: &Network, key: &str, value: Option<&[u8]>| {
            (0..10).all(|node| {
                let stored = network.engine(node).unwrap().store().get(key);
                stored.is_some_and(|stored| stored.value.as_deref() == value)
            })
        };
        let both = |network: &Network| has(network, "a", Some(b"1")) && has(network, "large", Some(&large));
        assert!(network.run_until(200 * SECOND, both), "{mode:?}");
        // A node that was away does not bring back what was deleted meanwhile.
        network.set_side(9, 1);
        network.input(3, set("a", None));
        network.run(60 * SECOND);
        assert_eq!(network.engine(9).unwrap().store().get("a").unwrap().value.as_deref(), Some(&b"1"[..]));
        network.set_side(9, 0);
        assert!(network.run_until(300 * SECOND, |network| has(network, "a", None)), "{mode:?}");
    }
}

/// A stream brings 20 MiB at most, here and at real agents.
#[test]
fn more_data_than_a_stream_brings_reach_one_who_joins() {
    for mode in [Mode::Push, Mode::Pull, Mode::PushPull] {
        let links = Links { wire: true, ..Links::default() };
        let mut network = Network::new(21, links);
        let add = |network: &mut Network| {
            network.add(|config| {
                with_data(config);
                config.data.mode = mode;
            })
        };
        let (first, second) = (add(&mut network), add(&mut network));
        let value = Bytes::from(vec![7; 1 << 20]);
        for key in 0..30 {
            let key = format!("k{key}").as_str().into();
            network.input(first, Input::Set { key, value: Some(value.clone()) });
        }
        network.input(second, Input::Join { seed: address_of(first), replay: false });
        let has_all = |network: &Network| network.engine(second).unwrap().store().values() == 30;
        assert!(network.run_until(10 * SECOND, has_all), "{mode:?}");
    }
}

#[test]
fn rumours_alone_reach_everybody_within_seconds() {
    for nodes in [3, 9, 30, 100] {
        let mut network = joined(17, nodes, Links::default(), |config| {
            with_data(config);
            config.push_pull = false;
        });
        for change in 0..50 {
            let key = format!("k{change}");
            network.input(change % nodes, Input::Set { key: key.as_str().into(), value: None });
            let all_have = |network: &Network| {
                (0..nodes).all(|node| network.engine(node).unwrap().store().get(&key).is_some())
            };
            assert!(network.run_until(3 * SECOND, all_have), "change {change} of {nodes} nodes");
        }
    }
}

#[test]
fn nothing_is_told_to_those_who_do_not_understand_it() {
    let mut network = joined(12, 4, Links::default(), |config| {
        if &*config.name != "n3" {
            with_data(config);
        }
    });
    network.input(0, Input::Set { key: "a".into(), value: Some(Bytes::from_static(b"1")) });
    network.run(120 * SECOND);
    let has = |node| network.engine(node).unwrap().store().get("a").is_some();
    assert_eq!([has(0), has(1), has(2), has(3)], [true, true, true, false]);
}

#[test]
fn all_can_leave_at_once_and_none_waits_for_those_who_are_gone() {
    for nodes in [2, 3, 5] {
        let mut network = joined(nodes as u64, nodes, Links::default(), |_| {});
        network.happened();
        (0..nodes).for_each(|node| network.input(node, Input::Leave));
        let mut left = 0;
        for _ in 0..50 {
            network.run(SECOND / 10);
            for happened in network.happened() {
                if happened.event == Event::Left {
                    network.crash(happened.node);
                    left += 1;
                }
            }
        }
        assert_eq!(left, nodes, "within five seconds");
    }
}
