//! Inputs at made-up instants, and the whole lists of what comes out.

mod next;
mod offsets;

use bytes::Bytes;

use super::*;

/// A coordinator and a clock that stands still unless it is told.
struct World {
    groups: Groups,
    now: Now,
    out: Vec<Output>,
    next_ticket: Ticket,
    topics: next::Topics,
}

fn start(config: Config) -> World {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    World {
        groups: Groups::new(now, config, fastrand::Rng::with_seed(1)),
        now,
        out: Vec::new(),
        next_ticket: 0,
        topics: next::Topics::default(),
    }
}

fn world() -> World {
    start(Config::default())
}

const RANGE: &[u8] = b"range";

fn joining(member_id: &str) -> Join {
    Join {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(RANGE))],
        needs_member_id: false,
        can_skip_assignment: false,
    }
}

fn of_instance(name: &str) -> Join {
    Join { instance_id: Some(name.to_owned()), ..joining("") }
}

impl World {
    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn join(&mut self, join: Join) -> Ticket {
        self.next_ticket += 1;
        self.groups.join(self.now, self.next_ticket, join, &self.topics, &mut self.out);
        self.next_ticket
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&str, &'static str)]) -> Ticket {
        self.next_ticket += 1;
        let give =
            |(id, what): &(&str, &'static str)| ((*id).to_owned(), Bytes::from_static(what.as_bytes()));
        let sync = Sync {
            by: caller(joined),
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(give).collect(),
        };
        self.groups.sync(self.now, self.next_ticket, sync, &self.topics, &mut self.out);
        self.next_ticket
    }

    /// Time goes by, and what is due is done.
    fn pass(&mut self, ms: u64) {
        let until = self.now.instant + Duration::from_millis(ms);
        while let Some(at) = self.groups.deadline().filter(|at| *at <= until) {
            self.jump(at);
            self.groups.tick(self.now, &mut self.out);
        }
        self.jump(until);
    }

    fn jump(&mut self, to: Instant) {
        let passed = to.saturating_duration_since(self.now.instant);
        self.now.unix_ms += i64::try_from(passed.as_millis()).unwrap();
        self.now.instant += passed;
    }

    /// The answer to a join, which must be there.
    #[track_caller]
    fn joined(&mut self, ticket: Ticket) -> Joined {
        let found = self.out.iter().position(|output| matches!(output, Output::Joined(t, _) if *t == ticket));
        match self.out.remove(found.expect("an answer to the join")) {
            Output::Joined(_, joined) => joined,
            _ => unreachable!(),
        }
    }

    #[track_caller]
    fn synced(&mut self, ticket: Ticket) -> Synced {
        let found = self.out.iter().position(|output| matches!(output, Output::Synced(t, _) if *t == ticket));
        match self.out.remove(found.expect("an answer to the sync")) {
            Output::Synced(_, synced) => synced,
            _ => unreachable!(),
        }
    }

    /// A stable group of one.
    fn one_member(&mut self) -> Joined {
        let ticket = self.join(joining(""));
        let joined = self.joined(ticket);
        let id = joined.member_id.clone();
        self.sync(&joined, &[(&id, "all")]);
        self.take();
        joined
    }

    fn beat(&mut self, joined: &Joined) -> ErrorCode {
        self.groups.heartbeat(self.now, &caller(joined))
    }

    fn state(&self) -> &'static str {
        self.groups.describe("g").map_or("Dead", |group| group.state)
    }

    fn commit(&mut self, by: Caller, offset: i64) -> ErrorCode {
        let commit = Commit { place: place("t", 0), offset, leader_epoch: -1, metadata: String::new() };
        let commits = Commits { by, retention_ms: None, commits: vec![commit] };
        self.groups.commit(self.now, &commits, &mut self.out)[0]
    }

    fn committed(&self) -> Option<i64> {
        let fetched = self.groups.fetch("g", Some(&[place("t", 0)]));
        fetched[0].committed.as_ref().map(|committed| committed.offset)
    }
}

fn caller(joined: &Joined) -> Caller {
    Caller {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
    }
}

fn nobody() -> Caller {
    Caller { group: "g".to_owned(), generation: -1, member_id: String::new(), instance_id: None }
}

fn place(topic: &str, partition: i32) -> Place {
    Place { topic: topic.to_owned(), partition }
}

#[test]
fn a_first_member_leads_at_once() {
    let mut world = world();
    let ticket = world.join(joining(""));
    let joined = world.joined(ticket);
    assert_eq!(world.take(), []);
    let id = joined.member_id.clone();
    assert!(id.starts_with("c-"), "{id}");
    let me = JoinedMember { member_id: id.clone(), instance_id: None, metadata: Bytes::from_static(RANGE) };
    let expected = Joined {
        error: ErrorCode::NONE,
        generation: 1,
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        leader: id.clone(),
        skip_assignment: false,
        member_id: id.clone(),
        members: vec![me],
    };
    assert_eq!(joined, expected);
    assert_eq!(world.state(), "CompletingRebalance");
    let ticket = world.sync(&joined, &[(&id, "all"), ("nobody", "x")]);
    let out = world.take();
    // First the record, then the answer that waits for it.
    assert!(
        matches!(&out[0], Output::Store(Record::Group { group, value: Some(value) })
        if group == "g" && value.generation == 1 && value.members[0].assignment == "all"),
        "{out:?}"
    );
    let synced = Synced {
        error: ErrorCode::NONE,
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        assignment: Bytes::from_static(b"all"),
    };
    assert_eq!(out[1..], [Output::Synced(ticket, synced)]);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.beat(&joined), ErrorCode::NONE);
}

#[test]
fn a_new_member_is_given_an_id_first_from_version_4_on() {
    let mut world = world();
    let ticket = world.join(Join { needs_member_id: true, ..joining("") });
    let refused = world.joined(ticket);
    assert_eq!(refused.error, ErrorCode::MEMBER_ID_REQUIRED);
    assert!(world.groups.describe("g").unwrap().members.is_empty());
    let ticket = world.join(Join { needs_member_id: true, ..joining(&refused.member_id) });
    let joined = world.joined(ticket);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1));
    assert_eq!(joined.member_id, refused.member_id);
    let ticket = world.join(joining("made-up"));
    assert_eq!(world.joined(ticket).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_id_that_is_not_used_in_time_is_no_good_any_more_and_does_not_hold_others_up() {
    let mut world = world();
    let ticket = world.join(Join { needs_member_id: true, ..joining("") });
    let id = world.joined(ticket).member_id;
    let ticket = world.join(joining(""));
    assert_eq!(world.take(), [], "the group waits for the one with an id");
    world.pass(10_000);
    assert_eq!(world.joined(ticket).error, ErrorCode::NONE);
    let ticket = world.join(joining(&id));
    assert_eq!(world.joined(ticket).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(joining(""));
    assert_eq!(world.take(), [], "it waits for the first");
    assert_eq!(world.beat(&first), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = world.join(joining(&first.member_id));
    let (first, second) = (world.joined(again), world.joined(second));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(first.leader, first.member_id);
    assert_eq!(first.members.len(), 2);
    assert!(second.members.is_empty(), "only the leader sees everyone");
    let waits = world.sync(&second, &[]);
    assert_eq!(world.take(), []);
    let leads = world.sync(&first, &[(&first.member_id, "a"), (&second.member_id, "b")]);
    assert_eq!(world.synced(leads).assignment, "a");
    assert_eq!(world.synced(waits).assignment, "b");
}

#[test]
fn a_member_that_does_not_join_again_is_out_when_the_time_is_up() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(joining(""));
    for _ in 0..11 {
        // It is alive, and does not do what it is told.
        assert_eq!(world.beat(&first), ErrorCode::REBALANCE_IN_PROGRESS);
        world.pass(5000);
    }
    assert_eq!(world.take(), []);
    assert_eq!(world.beat(&first), ErrorCode::REBALANCE_IN_PROGRESS);
    world.pass(5000);
    let second = world.joined(second);
    assert_eq!(second.members.len(), 1);
    assert_eq!(second.leader, second.member_id);
    assert_eq!(world.beat(&first), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_silent_member_is_out_and_the_others_share() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(joining(""));
    let again = world.join(joining(&first.member_id));
    let (first, second) = (world.joined(again), world.joined(second));
    world.sync(&first, &[]);
    world.sync(&second, &[]);
    world.take();
    world.pass(9000);
    assert_eq!(world.beat(&first), ErrorCode::NONE);
    world.pass(1000);
    assert_eq!(world.beat(&first), ErrorCode::REBALANCE_IN_PROGRESS, "the second was silent for 10 s");
    let again = world.join(joining(&first.member_id));
    assert_eq!(world.joined(again).members.len(), 1);
    assert_eq!(world.beat(&second), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_that_all_left_is_empty_and_says_so_on_disk() {
    let mut world = world();
    let joined = world.one_member();
    let leaver = |id: &str| Leaver { member_id: id.to_owned(), instance_id: None };
    let leavers = [leaver(&joined.member_id), leaver("nobody")];
    let results = world.groups.leave(world.now, "g", &leavers, &mut world.out);
    assert_eq!(results, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    let out = world.take();
    assert!(
        matches!(&out[..], [Output::Store(Record::Group { value: Some(value), .. })] if value.members.is_empty()),
        "{out:?}"
    );
    assert_eq!(world.state(), "Empty");
    assert_eq!(
        world.groups.leave(world.now, "none", &leavers[..1], &mut world.out),
        [ErrorCode::UNKNOWN_MEMBER_ID]
    );
}

#[test]
fn members_that_never_ask_what_they_got_are_out() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(joining(""));
    let again = world.join(joining(&first.member_id));
    let (first, second) = (world.joined(again), world.joined(second));
    world.sync(&first, &[(&first.member_id, "a")]);
    world.take();
    for _ in 0..12 {
        world.beat(&first);
        world.beat(&second);
        world.pass(5000);
    }
    assert_eq!(world.beat(&second), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.beat(&first), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_leader_that_does_not_assign_is_out() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(joining(""));
    let again = world.join(joining(&first.member_id));
    let (first, second) = (world.joined(again), world.joined(second));
    let waits = world.sync(&second, &[]);
    for _ in 0..12 {
        world.beat(&first);
        world.pass(5000);
    }
    assert_eq!(world.synced(waits).error, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(world.beat(&first), ErrorCode::UNKNOWN_MEMBER_ID);
    let again = world.join(joining(&second.member_id));
    assert_eq!(world.joined(again).leader, second.member_id);
}

#[test]
fn generations_and_members_are_checked() {
    let mut world = world();
    let joined = world.one_member();
    let old = Joined { generation: joined.generation - 1, ..joined.clone() };
    let other = Joined { member_id: "other".to_owned(), ..joined.clone() };
    assert_eq!(world.beat(&old), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(world.beat(&other), ErrorCode::UNKNOWN_MEMBER_ID);
    let ticket = world.sync(&old, &[]);
    assert_eq!(world.synced(ticket).error, ErrorCode::ILLEGAL_GENERATION);
    let ticket = world.join(Join { protocol_type: "connect".to_owned(), ..joining("") });
    assert_eq!(world.joined(ticket).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let ticket = world.join(Join { protocols: vec![("sticky".to_owned(), Bytes::new())], ..joining("") });
    assert_eq!(world.joined(ticket).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let ticket = world.join(Join { session_timeout_ms: 1, ..joining("") });
    assert_eq!(world.joined(ticket).error, ErrorCode::INVALID_SESSION_TIMEOUT);
    let ticket = world.join(Join { group: String::new(), ..joining("") });
    assert_eq!(world.joined(ticket).error, ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn the_protocol_that_most_want_and_all_can_do_is_chosen() {
    let mut world = world();
    let of = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect::<Vec<_>>();
    let tickets: Vec<_> = [&["a", "b", "c"][..], &["c", "b"], &["c", "b", "x"]]
        .map(|names| world.join(Join { protocols: of(names), ..joining("") }))
        .into();
    // The first one is alone at first.
    let first = world.joined(tickets[0]);
    let again = world.join(Join { protocols: of(&["a", "b", "c"]), ..joining(&first.member_id) });
    assert_eq!(world.joined(again).protocol.as_deref(), Some("c"));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut world = world();
    let ticket = world.join(Join { can_skip_assignment: true, ..of_instance("one") });
    let before = world.joined(ticket);
    let me = before.member_id.clone();
    let by = Caller { instance_id: Some("one".to_owned()), ..caller(&before) };
    let sync = Sync {
        by,
        protocol_type: None,
        protocol: None,
        assignments: vec![(me.clone(), Bytes::from_static(b"all"))],
    };
    world.groups.sync(world.now, 99, sync, &world.topics, &mut world.out);
    world.take();
    let ticket = world.join(Join { can_skip_assignment: true, ..of_instance("one") });
    let after = world.joined(ticket);
    assert_ne!(after.member_id, me);
    assert_eq!((after.generation, after.leader == after.member_id, after.skip_assignment), (1, true, true));
    assert_eq!(after.members.len(), 1);
    assert!(matches!(&world.take()[..], [Output::Store(_)]), "the new id is written down");
    // Who was replaced hears of it, whatever it asks.
    let old = Caller { instance_id: Some("one".to_owned()), ..caller(&before) };
    assert_eq!(world.groups.heartbeat(world.now, &old), ErrorCode::FENCED_INSTANCE_ID);
    let ticket = world.join(Join { member_id: me, ..of_instance("one") });
    assert_eq!(world.joined(ticket).error, ErrorCode::FENCED_INSTANCE_ID);
    // A client that cannot skip must not assign: nobody would hear of it.
    let ticket = world.join(of_instance("one"));
    let again = world.joined(ticket);
    assert_eq!((again.leader, again.skip_assignment, again.members.len()), (after.member_id, false, 0));
}

#[test]
fn a_static_member_that_is_away_is_waited_for_until_it_is_silent_for_too_long() {
    let mut world = world();
    let ticket = world.join(of_instance("one"));
    let one = world.joined(ticket);
    let by = Caller { instance_id: Some("one".to_owned()), ..caller(&one) };
    let sync = Sync { by, protocol_type: None, protocol: None, assignments: Vec::new() };
    world.groups.sync(world.now, 99, sync, &world.topics, &mut world.out);
    world.take();
    let second = world.join(joining(""));
    world.pass(9_999);
    assert_eq!(world.take(), []);
    world.pass(1);
    assert_eq!(world.joined(second).members.len(), 1);
}

#[test]
fn a_join_that_is_sent_again_gets_the_answer_again() {
    let mut world = world();
    let ticket = world.join(joining(""));
    let joined = world.joined(ticket);
    let ticket = world.join(joining(&joined.member_id));
    assert_eq!(world.joined(ticket), joined);
    world.sync(&joined, &[]);
    world.take();
    let changed = vec![("range".to_owned(), Bytes::from_static(b"other topics"))];
    let ticket = world.join(Join { protocols: changed, ..joining(&joined.member_id) });
    assert_eq!(world.joined(ticket).generation, 2, "another subscription is a rebalance");
}

#[test]
fn with_a_delay_the_first_members_share_one_rebalance() {
    let mut world = start(Config { first_wait: Duration::from_secs(3), ..Config::default() });
    let first = world.join(joining(""));
    world.pass(1000);
    let second = world.join(joining(""));
    world.pass(2000);
    assert_eq!(world.take(), [], "someone came: the wait begins anew");
    world.pass(3000);
    assert_eq!(world.joined(first).members.len(), 2);
    assert_eq!(world.joined(second).generation, 1);
}
