//! Groups of the next generation, and those that go from one kind to the other.

use std::collections::BTreeSet;

use super::*;
use crate::log::engine::group::consumer::Parts;
use crate::log::engine::group::{Commit, Commits, Leaver};
use crate::log::wire::Uuid;
use crate::log::wire::consumer_protocol::parse_assignment;

/// Topics with partitions; their ids are made of their names.
#[derive(Debug, Default)]
pub(super) struct Topics {
    partitions: BTreeMap<String, i32>,
    version: u64,
}

fn id_of(name: &str) -> Uuid {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    Uuid(id)
}

impl Topics {
    fn set(&mut self, name: &str, partitions: i32) {
        self.partitions.insert(name.to_owned(), partitions);
        self.version += 1;
    }
}

impl Catalog for Topics {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.partitions.get(name).map(|count| (id_of(name), *count))
    }

    fn by_id(&self, id: Uuid) -> Option<(String, i32)> {
        self.partitions.iter().find(|(name, _)| id_of(name) == id).map(|(name, count)| (name.clone(), *count))
    }

    fn found(&self, expression: &str) -> Option<Vec<String>> {
        let expression = Expression::compile(expression).ok()?;
        Some(self.partitions.keys().filter(|name| expression.fits(name)).cloned().collect())
    }
}

fn parts(of: &[(&str, &[i32])]) -> Parts {
    of.iter().map(|(name, numbers)| (id_of(name), numbers.iter().copied().collect())).collect()
}

fn beat(id: &str, epoch: i32) -> Beat {
    Beat {
        group: "g".to_owned(),
        member_id: id.to_owned(),
        epoch,
        instance_id: None,
        rack_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: None,
        topics: None,
        regex: None,
        assignor: None,
        owned: None,
        is_given_id: false,
    }
}

fn coming(id: &str, topics: &[&str]) -> Beat {
    Beat {
        rebalance_timeout_ms: Some(30_000),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        owned: Some(Parts::new()),
        ..beat(id, 0)
    }
}

fn having(id: &str, epoch: i32, owned: &Parts) -> Beat {
    Beat { owned: Some(owned.clone()), ..beat(id, epoch) }
}

impl World {
    fn with(topic: &str, partitions: i32) -> Self {
        let mut world = world();
        world.topics.set(topic, partitions);
        world
    }

    fn answer(&mut self, beat: &Beat) -> Beaten {
        self.groups.beat(self.now, beat, &self.topics, &mut self.out)
    }

    #[track_caller]
    fn beats(&mut self, beat: &Beat) -> (i32, Option<Parts>) {
        let beaten = self.answer(beat);
        assert_eq!(beaten.error, ErrorCode::NONE, "{beaten:?}");
        (beaten.epoch, beaten.assignment)
    }

    fn next_state(&self) -> &'static str {
        self.groups.describe_next("g").unwrap().state
    }
}

#[test]
fn one_member_has_all_and_hears_of_changes_only() {
    let mut world = World::with("t", 3);
    assert_eq!(world.beats(&coming("a", &["t"])), (1, Some(parts(&[("t", &[0, 1, 2])]))));
    assert_eq!(world.beats(&beat("a", 1)), (1, None));
    assert_eq!(world.next_state(), "Stable");
    world.topics.set("t", 4);
    assert_eq!(world.beats(&beat("a", 1)), (2, Some(parts(&[("t", &[0, 1, 2, 3])]))));
    world.topics.set("u", 9);
    assert_eq!(world.beats(&beat("a", 2)), (2, None));
}

#[test]
fn what_one_has_to_give_up_another_gets_when_it_has() {
    let mut world = World::with("t", 4);
    let all = parts(&[("t", &[0, 1, 2, 3])]);
    world.beats(&coming("a", &["t"]));
    // Nothing is free yet.
    assert_eq!(world.beats(&coming("b", &["t"])), (2, Some(Parts::new())));
    assert_eq!(world.next_state(), "Reconciling");
    let (epoch, kept) = world.beats(&having("a", 1, &all));
    let kept = kept.unwrap();
    assert_eq!((epoch, kept.values().map(BTreeSet::len).sum::<usize>()), (1, 2));
    // It still has them, or does not say.
    assert_eq!(world.beats(&beat("a", 1)), (1, None));
    assert_eq!(world.beats(&having("a", 1, &all)).0, 1);
    assert_eq!(world.beats(&beat("b", 2)), (2, None));
    assert_eq!(world.beats(&having("a", 1, &kept)), (2, None));
    let (_, rest) = world.beats(&beat("b", 2));
    let both: Vec<i32> = [kept, rest.unwrap()].iter().flat_map(|one| one[&id_of("t")].clone()).collect();
    assert_eq!(both.iter().copied().collect::<BTreeSet<i32>>(), (0..4).collect());
    assert_eq!((both.len(), world.next_state()), (4, "Stable"));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_out() {
    let mut world = World::with("t", 2);
    let all = parts(&[("t", &[0, 1])]);
    world.beats(&coming("a", &["t"]));
    world.beats(&coming("b", &["t"]));
    world.beats(&having("a", 1, &all));
    for _ in 0..4 {
        world.pass(8_000);
        let late = world.answer(&having("a", 1, &all)).error;
        let _ = world.answer(&beat("b", 2));
        if late != ErrorCode::NONE {
            assert_eq!(late, ErrorCode::UNKNOWN_MEMBER_ID);
            return assert_eq!(world.groups.describe_next("g").unwrap().members.len(), 1);
        }
    }
    panic!("it is still in");
}

#[test]
fn a_silent_member_is_out_and_the_others_get_what_it_had() {
    let mut world = World::with("t", 2);
    world.beats(&coming("a", &["t"]));
    world.pass(40_000);
    world.beats(&coming("b", &["t"]));
    world.pass(10_000);
    assert_eq!(world.answer(&beat("a", 1)).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.beats(&beat("b", 2)), (3, Some(parts(&[("t", &[0, 1])]))));
    world.pass(60_000);
    assert_eq!(world.next_state(), "Empty");
}

#[test]
fn a_lost_answer_is_asked_for_again_and_an_old_epoch_is_fenced() {
    let mut world = World::with("t", 1);
    world.beats(&coming("a", &["t"]));
    world.topics.set("t", 2);
    world.beats(&beat("a", 1));
    let had = parts(&[("t", &[0])]);
    assert_eq!(world.beats(&having("a", 1, &had)).0, 2);
    assert_eq!(world.answer(&having("a", 1, &parts(&[("t", &[7])]))).error, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(world.answer(&beat("a", 3)).error, ErrorCode::FENCED_MEMBER_EPOCH);
    // It abandons all and comes anew under its id.
    assert_eq!(world.beats(&coming("a", &["t"])), (2, Some(parts(&[("t", &[0, 1])]))));
    assert_eq!(world.answer(&beat("b", 1)).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut world = World::with("t", 1);
    let of = |change: fn(&mut Beat)| {
        let mut beat = coming("a", &["t"]);
        change(&mut beat);
        beat
    };
    let wrong = [
        of(|beat| beat.group.clear()),
        of(|beat| beat.member_id.clear()),
        of(|beat| beat.epoch = -3),
        of(|beat| beat.epoch = -2),
        of(|beat| beat.rebalance_timeout_ms = None),
        of(|beat| beat.topics = None),
        of(|beat| beat.owned = Some(parts(&[("t", &[0])]))),
        of(|beat| beat.instance_id = Some(String::new())),
    ];
    for beat in wrong {
        assert_eq!(world.answer(&beat).error, ErrorCode::INVALID_REQUEST, "{beat:?}");
    }
    assert_eq!(
        world.answer(&of(|beat| beat.assignor = Some("x".into()))).error,
        ErrorCode::UNSUPPORTED_ASSIGNOR
    );
    let open = of(|beat| beat.regex = Some("a(".into()));
    assert_eq!(world.answer(&open).error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert_eq!(world.answer(&beat("a", 1)).error, ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(world.out.is_empty() && world.groups.is_empty());
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = World::with("t", 2);
    let named = |id: &str| Beat { instance_id: Some("i".to_owned()), ..coming(id, &["t"]) };
    let all = parts(&[("t", &[0, 1])]);
    world.beats(&named("a"));
    assert_eq!(world.answer(&named("b")).error, ErrorCode::UNRELEASED_INSTANCE_ID);
    let leaves = Beat { instance_id: Some("i".to_owned()), ..beat("a", -2) };
    assert_eq!(world.beats(&leaves).0, -2);
    // Another one gets nothing of it meanwhile.
    assert_eq!(world.beats(&coming("c", &["t"])).1, Some(Parts::new()));
    let (epoch, had) = world.beats(&named("b"));
    assert!(had.unwrap().values().all(|own| own.len() == 1), "{epoch}");
    let late = Beat { instance_id: Some("i".to_owned()), ..beat("a", 1) };
    assert_eq!(world.answer(&late).error, ErrorCode::FENCED_INSTANCE_ID);
    let _ = all;
}

#[test]
fn topics_are_found_by_an_expression_when_they_come() {
    let mut world = World::with("logs-a", 1);
    let mut coming = coming("a", &[]);
    (coming.topics, coming.regex) = (None, Some("logs-.*".to_owned()));
    assert_eq!(world.beats(&coming).1, Some(parts(&[("logs-a", &[0])])));
    world.topics.set("logs-b", 1);
    world.topics.set("my-logs-c", 1);
    assert_eq!(world.groups.expressions("g", world.topics.version).len(), 1);
    assert_eq!(world.beats(&beat("a", 1)).1, Some(parts(&[("logs-a", &[0]), ("logs-b", &[0])])));
    // It is looked once for each version.
    assert!(world.groups.expressions("g", world.topics.version).is_empty());
    coming.regex = Some("a".repeat(2000));
    assert_eq!(world.answer(&coming).error, ErrorCode::INVALID_REGULAR_EXPRESSION);
}

#[test]
fn each_time_that_a_member_has_to_give_up_it_has_its_whole_time_for_it() {
    let mut world = World::with("t", 9);
    let all = parts(&[("t", &[0, 1, 2, 3, 4, 5, 6, 7, 8])]);
    world.beats(&coming("a", &["t"]));
    world.beats(&coming("b", &["t"]));
    let kept = world.beats(&having("a", 1, &all)).1.unwrap();
    world.pass(20_000);
    // It has given that up, and has to give up more: the 30 s begin anew.
    world.beats(&coming("c", &["t"]));
    world.beats(&having("a", 1, &kept)).1.unwrap();
    world.pass(20_000);
    assert_eq!(world.groups.describe_next("g").unwrap().members.len(), 3);
    world.pass(11_000);
    assert!(world.groups.describe_next("g").unwrap().members.iter().all(|member| member.member_id != "a"));
}

#[test]
fn offsets_are_committed_at_the_member_s_epoch() {
    let mut world = World::with("t", 1);
    world.beats(&coming("a", &["t"]));
    let commits = |member: &str, epoch: i32| Commits {
        by: Caller {
            group: "g".to_owned(),
            generation: epoch,
            member_id: member.to_owned(),
            instance_id: None,
        },
        retention_ms: None,
        commits: vec![Commit {
            place: Place { topic: "t".to_owned(), partition: 0 },
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    };
    let mut commit =
        |member: &str, epoch: i32| world.groups.commit(world.now, &commits(member, epoch), &mut world.out)[0];
    assert_eq!(commit("a", 1), ErrorCode::NONE);
    assert_eq!(commit("a", 0), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(commit("b", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit("", -1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.groups.may_fetch("g", Some("a"), 0), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(world.groups.may_fetch("g", Some("a"), 1), Ok(()));
    assert_eq!(world.groups.may_fetch("g", None, -1), Ok(()));
    assert_eq!(world.groups.delete("g", &mut world.out), ErrorCode::NON_EMPTY_GROUP);
    world.beats(&beat("a", -1));
    assert_eq!(world.groups.delete("g", &mut world.out), ErrorCode::NONE);
}

/// What was written down, read back by another coordinator.
fn after_a_restart(world: &World) -> World {
    let mut after = start(Config::default());
    after.topics.partitions.clone_from(&world.topics.partitions);
    for output in &world.out {
        let Output::Store(record) = output else { continue };
        let (key, value) = record.encode();
        match Record::decode(&key, value.as_deref()).unwrap() {
            Restored::Record(read) => {
                assert_eq!(&read, record);
                after.groups.restore(after.now, read, None);
            }
            Restored::Unknown => panic!("{record:?}"),
        }
    }
    after.groups.restored(after.now);
    after
}

#[test]
fn a_group_is_as_it_was_after_a_restart() {
    let mut world = World::with("t", 4);
    let all = parts(&[("t", &[0, 1, 2, 3])]);
    world.beats(&coming("a", &["t"]));
    world.beats(&Beat { instance_id: Some("i".to_owned()), ..coming("b", &["t"]) });
    world.beats(&having("a", 1, &all));
    let mut after = after_a_restart(&world);
    assert_eq!(after.groups.describe_next("g"), world.groups.describe_next("g"));
    assert_eq!(after.groups.records().len(), world.groups.records().len());
    // What a has to give up is not given to b, and nothing has changed.
    assert_eq!(after.beats(&beat("b", 2)), (2, None));
    after.pass(60_000);
    assert_eq!(after.next_state(), "Empty");
    let mut after = after_a_restart(&after);
    assert!(after.groups.is_empty() || after.groups.delete("g", &mut after.out) == ErrorCode::NONE);
}

#[test]
fn a_member_is_as_it_was_when_a_compaction_left_what_it_has_before_what_it_wants() {
    let mut world = World::with("t", 4);
    world.beats(&coming("a", &["t"]));
    // Nothing of what it has changes with this.
    world.beats(&Beat { rack_id: Some("r".to_owned()), ..beat("a", 1) });
    let stored = world.take();
    let key = |output: &Output| match output {
        Output::Store(record) => record.encode().0,
        other => panic!("{other:?}"),
    };
    let is_last =
        |(at, output): &(usize, &Output)| !stored[at + 1..].iter().any(|later| key(later) == key(output));
    world.out = stored.iter().enumerate().filter(is_last).map(|(_, output)| output.clone()).collect();
    assert!(matches!(world.out.last(), Some(Output::Store(Record::Member { .. }))));
    let mut after = after_a_restart(&world);
    assert_eq!(after.groups.describe_next("g"), world.groups.describe_next("g"));
    assert_eq!(after.beats(&beat("a", 1)), (1, None));
    // Of whom nothing but what it had is left is no member.
    world.out.pop();
    assert!(after_a_restart(&world).groups.describe_next("g").unwrap().members.is_empty());
}

#[test]
fn an_empty_group_becomes_one_of_the_other_kind() {
    let mut world = World::with("t", 1);
    let ticket = world.join(joining(""));
    let joined = world.joined(ticket);
    let leaver = Leaver { member_id: joined.member_id, instance_id: None };
    world.groups.leave(world.now, "g", &[leaver], &mut world.out);
    world.beats(&coming("a", &["t"]));
    assert_eq!((world.groups.describe("g"), world.next_state()), (None, "Stable"));
    world.beats(&beat("a", -1));
    let ticket = world.join(joining(""));
    assert_eq!(world.joined(ticket).error, ErrorCode::NONE);
    assert_eq!(world.groups.describe_next("g"), None);
    assert!(after_a_restart(&world).groups.describe_next("g").is_none());
}

/// A subscription of the classic protocol's version 1: topics, no user data, and what the member has.
fn said(topic: &str, owned: &[i32]) -> Bytes {
    let mut out = vec![0, 1, 0, 0, 0, 1];
    let name = |out: &mut Vec<u8>| {
        out.extend((topic.len() as u16).to_be_bytes());
        out.extend(topic.as_bytes());
    };
    name(&mut out);
    out.extend((-1i32).to_be_bytes());
    out.extend(u32::from(!owned.is_empty()).to_be_bytes());
    if !owned.is_empty() {
        name(&mut out);
        out.extend((owned.len() as u32).to_be_bytes());
        owned.iter().for_each(|number| out.extend(number.to_be_bytes()));
    }
    out.into()
}

fn classic(id: &str, owned: &[i32]) -> Join {
    Join { protocols: vec![("range".to_owned(), said("t", owned))], ..joining(id) }
}

#[test]
fn members_move_over_one_by_one_and_back() {
    let mut world = World::with("t", 2);
    let ticket = world.join(classic("", &[]));
    let old = world.joined(ticket);
    let assigned = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff";
    let bytes = Bytes::from_static(assigned);
    let sync = Sync {
        by: caller(&old),
        protocol_type: None,
        protocol: None,
        assignments: vec![(old.member_id.clone(), bytes)],
    };
    world.groups.sync(world.now, 77, sync, &world.topics, &mut world.out);
    assert_eq!(world.synced(77).assignment[..], assigned[..]);
    // A member of the next generation comes: nothing is free, and the classic one is to join again.
    let (epoch, nothing) = world.beats(&coming("n", &["t"]));
    assert_eq!((epoch, nothing), (2, Some(Parts::new())));
    assert_eq!(world.groups.heartbeat(world.now, &caller(&old)), ErrorCode::REBALANCE_IN_PROGRESS);
    // It still has both: it is told to keep one, and has to come again without the other.
    let ticket = world.join(classic(&old.member_id, &[0, 1]));
    let joined = world.joined(ticket);
    assert_eq!((joined.error, joined.generation, joined.leader.as_str()), (ErrorCode::NONE, 1, ""));
    let ticket = world.sync(&joined, &[]);
    let kept = parse_assignment(&world.synced(ticket).assignment).unwrap();
    assert_eq!(kept.len(), 1);
    let kept = kept["t"].clone();
    assert_eq!(kept.len(), 1);
    assert_eq!(world.groups.heartbeat(world.now, &caller(&joined)), ErrorCode::REBALANCE_IN_PROGRESS);
    let ticket = world.join(classic(&old.member_id, &kept));
    let joined = world.joined(ticket);
    assert_eq!(joined.generation, 2);
    let ticket = world.sync(&joined, &[]);
    assert_eq!(world.synced(ticket).error, ErrorCode::NONE);
    assert_eq!(world.groups.heartbeat(world.now, &caller(&joined)), ErrorCode::NONE);
    let (_, rest) = world.beats(&beat("n", 2));
    assert_eq!(rest.unwrap()[&id_of("t")].len(), 1);
    assert_eq!(world.next_state(), "Stable");
    assert_eq!(after_a_restart(&world).groups.describe_next("g"), world.groups.describe_next("g"));
    // The last one of the next generation goes: the other is in a classic group again.
    world.beats(&beat("n", -1));
    assert_eq!(world.groups.describe_next("g"), None);
    assert_eq!(world.groups.describe("g").unwrap().members.len(), 1);
    let again = Caller { generation: 3, ..caller(&joined) };
    assert_eq!(world.groups.heartbeat(world.now, &again), ErrorCode::REBALANCE_IN_PROGRESS);
    let ticket = world.join(classic(&old.member_id, &kept));
    let joined = world.joined(ticket);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 4));
    assert_eq!(joined.leader, old.member_id);
}

#[test]
fn others_than_consumers_do_not_mix() {
    let mut world = World::with("t", 1);
    let ticket = world.join(Join { protocol_type: "connect".to_owned(), ..joining("") });
    let _ = world.joined(ticket);
    assert_eq!(world.answer(&coming("a", &["t"])).error, ErrorCode::GROUP_ID_NOT_FOUND);
    let mut world = World::with("t", 1);
    world.beats(&coming("a", &["t"]));
    let ticket = world.join(Join { protocol_type: "connect".to_owned(), ..joining("") });
    assert_eq!(world.joined(ticket).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}
