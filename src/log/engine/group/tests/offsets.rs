//! Offsets: committed, in transactions, forgotten; and what is read back.

use super::*;

#[test]
fn offsets_without_members_are_anybodys() {
    let mut world = world();
    assert_eq!(world.commit(nobody(), 5), ErrorCode::NONE);
    assert_eq!(world.committed(), Some(5));
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.commit(Caller { generation: 3, ..nobody() }, 6), ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = world.one_member();
    assert_eq!(world.commit(nobody(), 7), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.commit(caller(&joined), 8), ErrorCode::NONE);
    assert_eq!(world.commit(Caller { generation: 9, ..caller(&joined) }, 9), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(world.committed(), Some(8));
}

#[test]
fn commits_wait_for_the_assignment() {
    let mut world = world();
    let ticket = world.join(joining(""));
    let joined = world.joined(ticket);
    assert_eq!(world.commit(caller(&joined), 1), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn what_is_remembered_beside_an_offset_has_a_limit() {
    let mut world = world();
    let long = Commit { place: place("t", 1), offset: 1, leader_epoch: -1, metadata: "x".repeat(4097) };
    let fits = Commit { place: place("t", 0), metadata: "x".repeat(4096), ..long.clone() };
    let commits = Commits { by: nobody(), retention_ms: None, commits: vec![long, fits] };
    let results = world.groups.commit(world.now, &commits, &mut world.out);
    assert_eq!(results, [ErrorCode::OFFSET_METADATA_TOO_LARGE, ErrorCode::NONE]);
}

#[test]
fn offsets_of_a_transaction_count_when_it_ends_well() {
    let mut world = world();
    world.commit(nobody(), 1);
    let commit = Commit { place: place("t", 0), offset: 9, leader_epoch: -1, metadata: String::new() };
    let commits = Commits { by: nobody(), retention_ms: None, commits: vec![commit] };
    for (commits_it, expected) in [(false, Some(1)), (true, Some(9))] {
        world.groups.commit_in_transaction(world.now, 7, &commits, &mut world.out);
        let fetched = world.groups.fetch("g", None);
        assert!(fetched[0].is_unstable);
        assert_eq!(world.committed(), Some(1));
        world.groups.end_transaction(7, commits_it);
        assert_eq!(world.committed(), expected);
        assert!(!world.groups.fetch("g", None)[0].is_unstable);
    }
}

#[test]
fn old_offsets_are_forgotten_and_then_their_group() {
    let day = 24 * 3_600_000;
    let mut world = world();
    let joined = world.one_member();
    world.commit(caller(&joined), 1);
    for _ in 0..10 * 24 * 3600 / 9 {
        world.beat(&joined);
        world.pass(9000);
    }
    assert_eq!(world.committed(), Some(1), "somebody is in the group");
    let leaver = Leaver { member_id: joined.member_id, instance_id: None };
    world.groups.leave(world.now, "g", &[leaver], &mut world.out);
    world.pass(7 * day - 1_000_000);
    assert_eq!(world.committed(), Some(1));
    world.take();
    world.pass(2_000_000);
    let expected = [
        Output::Store(Record::Offset { group: "g".to_owned(), place: place("t", 0), value: None }),
        Output::Store(Record::Group { group: "g".to_owned(), value: None }),
    ];
    assert_eq!(world.take(), expected);
    assert_eq!(world.state(), "Dead");
}

#[test]
fn groups_are_deleted_only_when_nobody_is_in_them() {
    let mut world = world();
    let joined = world.one_member();
    world.commit(caller(&joined), 1);
    world.take();
    assert_eq!(world.groups.delete("g", &mut world.out), ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(world.groups.delete("other", &mut world.out), ErrorCode::GROUP_ID_NOT_FOUND);
    let leaver = Leaver { member_id: joined.member_id, instance_id: None };
    world.groups.leave(world.now, "g", &[leaver], &mut world.out);
    world.take();
    assert_eq!(world.groups.delete("g", &mut world.out), ErrorCode::NONE);
    assert_eq!(world.take().len(), 2, "the offset and the group");
    assert!(world.groups.list().is_empty());
}

#[test]
fn offsets_of_topics_that_are_read_are_not_deleted() {
    let mut world = world();
    let subscription = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\0");
    let ticket = world.join(Join { protocols: vec![("range".to_owned(), subscription)], ..joining("") });
    let joined = world.joined(ticket);
    world.sync(&joined, &[]);
    world.commit(caller(&joined), 1);
    let places = [place("t", 0), place("u", 0)];
    let results = world.groups.delete_offsets("g", &places, &mut world.out);
    assert_eq!(results, Ok(vec![ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode::NONE]));
    assert_eq!(world.groups.delete_offsets("x", &places, &mut world.out), Err(ErrorCode::GROUP_ID_NOT_FOUND));
}

#[test]
fn what_was_written_down_is_read_back() {
    let mut world = world();
    let first = world.one_member();
    let second = world.join(of_instance("two"));
    let again = world.join(joining(&first.member_id));
    let (first, second) = (world.joined(again), world.joined(second));
    world.sync(&first, &[(&first.member_id, "a"), (&second.member_id, "b")]);
    world.commit(caller(&first), 42);
    let records: Vec<Record> = world.groups.records();
    let mut other = super::world();
    for record in &records {
        let (key, value) = record.encode();
        let Ok(Restored::Record(read)) = Record::decode(&key, value.as_deref()) else { panic!("{record:?}") };
        assert_eq!(read, *record);
        other.groups.restore(other.now, read, None);
    }
    other.groups.restored(other.now);
    assert_eq!(other.groups.describe("g"), world.groups.describe("g"));
    assert_eq!(other.committed(), Some(42));
    assert_eq!(other.beat(&first), ErrorCode::NONE, "members go on as if nothing had been");
    other.pass(10_000);
    assert_eq!(other.beat(&first), ErrorCode::UNKNOWN_MEMBER_ID, "who is silent after the start is out");
}

#[test]
fn damaged_records_are_refused() {
    let record = Record::Offset {
        group: "g".to_owned(),
        place: place("t", 3),
        value: Some(Committed {
            offset: 1,
            leader_epoch: 2,
            metadata: "m".to_owned(),
            time_ms: 3,
            expires_ms: Some(4),
        }),
    };
    let (key, value) = record.encode();
    let value = value.unwrap();
    // With an expiry the old form is written, which knows no epoch.
    let Ok(Restored::Record(Record::Offset { value: Some(read), .. })) = Record::decode(&key, Some(&value))
    else {
        panic!()
    };
    assert_eq!((read.offset, read.leader_epoch, read.expires_ms), (1, -1, Some(4)));
    for cut in 0..key.len() {
        assert!(Record::decode(&key[..cut], Some(&value)).is_err(), "key cut at {cut}");
    }
    for cut in 0..value.len() - 8 {
        assert!(Record::decode(&key, Some(&value[..cut])).is_err(), "value cut at {cut}");
    }
    assert_eq!(Record::decode(&[0, 9], None), Ok(Restored::Unknown));
}
