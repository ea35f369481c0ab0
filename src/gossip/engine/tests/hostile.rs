//! What must not do harm: what cannot be, what nobody says, and what is said again.

use super::*;

/// Of each key that is told of: whether it has a value now.
fn data(outputs: &[Output]) -> Vec<bool> {
    let of = |output: &Output| match output {
        Output::Event(Event::Data(entry)) => Some(entry.value != Value::Tombstone),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn refusals(outputs: &[Output]) -> Vec<Refusal> {
    let of = |output: &Output| match output {
        Output::Event(Event::Refused { refusal, .. }) => Some(refusal.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

#[test]
fn the_tag_that_brings_keys_cannot_be_taken_away() {
    let mut engine = node(1);
    let before = engine.me().clone();
    let tags = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned()));
        Input::Tags(pairs.collect())
    };
    for wrong in [tags(&[]), tags(&[("dk", "2")]), tags(&[("role", "web")])] {
        let outputs = does(&mut engine, at(1), wrong);
        assert_eq!(refusals(&outputs), [Refusal::OwnTag]);
        assert_eq!(engine.me(), &before);
    }
    let allowed = does(&mut engine, at(1), tags(&[("dk", "1"), ("role", "web")]));
    assert_eq!(refusals(&allowed), []);
    // One that keeps no keys cannot say that it does.
    let config = Config::new(name(0), address(0), Profile::Lan);
    let mut other = Engine::new(Time::default(), config, fastrand::Rng::with_seed(1)).unwrap();
    assert_eq!(refusals(&does(&mut other, at(1), tags(&[("dk", "1")]))), [Refusal::OwnTag]);
}

#[test]
fn a_node_that_nobody_understands_is_not_taken_for_a_member() {
    let mut engine = node(1);
    for versions in [
        [1, 5, 200, 2, 5, 5],
        [1, 5, 0, 2, 5, 5],
        [1, 255, 200, 2, 5, 5],
        [6, 9, 7, 2, 5, 5],
        [0, 5, 2, 2, 5, 5],
        [5, 1, 2, 2, 5, 5],
        [1, 5, 2, 2, 5, 9],
        [1, 5, 2, 6, 9, 7],
        [1, 5, 2, 2, 4, 4],
        [0; 6],
    ] {
        let ghost = Alive { versions, ..alive(9, 1) };
        assert_eq!(gets(&mut engine, at(1), 1, Message::Alive(ghost.clone())), [], "{versions:?}");
        // Nor does a member become one.
        let changed = Alive { versions, ..alive(1, 5) };
        assert_eq!(gets(&mut engine, at(1), 1, Message::Alive(changed)), [], "{versions:?}");
    }
    assert_eq!((engine.members().count(), engine.incompatible(&[])), (2, None));
    // What is said of this node is corrected: agents believe it.
    let said = Alive { versions: [1, 5, 200, 2, 5, 5], ..alive(0, 1) };
    gets(&mut engine, at(1), 1, Message::Alive(said));
    assert_eq!(engine.me().incarnation, 2);
    // Serf as a library speaks version 4 of its own.
    for (node, versions) in [(7, [1, 5, 2, 2, 5, 4]), (8, [1, 4, 2, 2, 5, 5])] {
        let joined = gets(&mut engine, at(1), 1, Message::Alive(Alive { versions, ..alive(node, 1) }));
        assert_eq!(changes(&joined), [(Change::Join, format!("n{node}"))]);
    }
}

#[test]
fn an_address_of_many_or_of_nobody_is_no_members() {
    let mut engine = node(1);
    for address in [
        "0.0.0.0:7946",
        "224.0.0.1:7946",
        "255.255.255.255:7946",
        "[::]:7946",
        "[ff02::1]:7946",
        "10.0.0.9:0",
    ] {
        let ghost = Alive { address: address.parse().unwrap(), ..alive(9, 1) };
        assert_eq!(gets(&mut engine, at(1), 1, Message::Alive(ghost)), [], "{address}");
    }
    assert_eq!(engine.members().count(), 2);
}

#[test]
fn an_answer_of_nobody_is_none() {
    let mut engine = node(1);
    let options = QueryOptions {
        name: "load".into(),
        payload: Bytes::new(),
        filters: Vec::new(),
        acks: true,
        relay_factor: 0,
        timeout: None,
    };
    let asked = does(&mut engine, at(1), Input::Query { options, tag: 1 });
    let query = asked.iter().find_map(|output| match output {
        Output::Event(Event::Asked { query, .. }) => Some(*query),
        _ => None,
    });
    let QueryId { ltime, id } = query.unwrap();
    for flags in [0, 1] {
        let response = |from: &str| QueryResponse {
            ltime,
            id,
            from: from.into(),
            flags,
            payload: Bytes::from_static(b"7"),
        };
        let message = |from| Message::Serf(Serf::Response(response(from)));
        assert_eq!(gets(&mut engine, at(2), 1, message("")), []);
        assert_eq!(gets(&mut engine, at(2), 1, message("n1")).len(), 1);
    }
}

#[test]
fn that_a_key_is_gone_which_never_was_there_is_kept_and_not_told() {
    let mut engine = node(1);
    let rumor = |counter, value| {
        let version = Version { counter, writer: name(1) };
        let entry = Entry { key: "k".into(), version, value };
        let from = name(1);
        Message::Serf(Serf::Data(Data::Rumors { from, entries: vec![entry], feedback: false }))
    };
    let mut gets = |counter, value| {
        let outputs = gets(&mut engine, at(1), 1, rumor(counter, value));
        let counted = (engine.store().len(), engine.store().values(), engine.store().bytes());
        (data(&outputs), counted)
    };
    assert_eq!(gets(1, Value::Tombstone), (vec![], (1, 0, 1)));
    assert_eq!(gets(2, Value::Tombstone), (vec![], (1, 0, 1)));
    assert_eq!(gets(3, Value::Bytes(Bytes::from_static(b"v"))), (vec![true], (1, 1, 2)));
    assert_eq!(gets(4, Value::Tombstone), (vec![false], (1, 0, 1)));
    // It was taken though nobody was told: what is older does not come back.
    assert_eq!(gets(2, Value::Bytes(Bytes::from_static(b"v"))), (vec![], (1, 0, 1)));
}

/// Encryption does not say when something was sealed: whoever has recorded it can say it again.
#[test]
fn what_is_said_again_changes_nothing() {
    let mut engine = node(3);
    let event = UserEvent {
        ltime: 5,
        name: "deploy".into(),
        payload: Bytes::new(),
        coalesce: false,
        raw: Bytes::new(),
    };
    let query = Query {
        ltime: 6,
        id: 3,
        address: address(1),
        source: name(1),
        filters: Vec::new(),
        flags: 1,
        relay_factor: 0,
        timeout: Duration::from_secs(2),
        name: "restart".into(),
        payload: Bytes::new(),
        raw: Bytes::new(),
    };
    let recorded = [
        Message::Alive(alive(1, 2)),
        Message::Suspect(accusation(2, 1, 3)),
        Message::Alive(alive(2, 2)),
        Message::Serf(Serf::Leave(Intent { ltime: 9, node: name(3), prune: false })),
        Message::Dead(accusation(3, 1, 3)),
        Message::Alive(alive(3, 2)),
        Message::Suspect(accusation(0, 1, 1)),
        Message::Serf(Serf::Event(event)),
        Message::Serf(Serf::Query(Box::new(query))),
    ];
    for message in recorded.clone() {
        gets(&mut engine, at(1), 1, message);
    }
    let members =
        |engine: &Engine| engine.members().map(|member| (member.clone(), member.status)).collect::<Vec<_>>();
    let (before, clocks) = (members(&engine), engine.clocks());
    for round in 0..3 {
        for message in recorded.clone() {
            let outputs = gets(&mut engine, at(2), 2, message.clone());
            let told = outputs.iter().any(|output| matches!(output, Output::Event(_)));
            assert!(!told, "round {round}, {message:?}: {outputs:?}");
        }
    }
    assert_eq!((members(&engine), engine.clocks()), (before, clocks));
}

/// Its new life begins with the first incarnation again.
#[test]
fn what_was_said_of_the_last_life_of_a_node_is_not_believed_of_the_next() {
    let mut engine = node(1);
    let farewell = Message::Dead(accusation(1, 4, 1));
    gets(&mut engine, at(1), 1, Message::Alive(alive(1, 4)));
    assert_eq!(changes(&gets(&mut engine, at(2), 1, farewell.clone())), [(Change::Leave, "n1".to_owned())]);
    let back = |incarnation| Alive { address: address(7), ..alive(1, incarnation) };
    let outputs = gets(&mut engine, at(3), 7, Message::Alive(back(1)));
    assert_eq!(outputs[0], send(7, Message::Suspect(accusation(1, 4, 0))));
    assert_eq!(changes(&outputs), [(Change::Join, "n1".to_owned())]);
    // It objects.
    gets(&mut engine, at(4), 7, Message::Alive(back(5)));
    assert_eq!(gets(&mut engine, at(5), 9, farewell), []);
    assert_eq!(engine.member("n1").unwrap().status, Status::Alive);
}

#[test]
fn what_was_asked_before_a_node_joined_is_not_for_it() {
    let mut engine = node(0);
    let opened = does(&mut engine, at(1), Input::Join { seed: address(1), replay: false });
    let exchange = opened.iter().find_map(|output| match output {
        Output::Open { exchange, .. } => Some(*exchange),
        _ => None,
    });
    let serf = SerfState { query_ltime: 100, ..SerfState::default() };
    let state = PushPull { join: false, nodes: Vec::new(), serf: Some(serf) };
    let reply = StreamReply::Message(StreamMessage::PushPull(state));
    does(&mut engine, at(2), Input::Reply { exchange: exchange.unwrap(), reply });
    let query = |ltime| Query {
        ltime,
        id: 3,
        address: address(1),
        source: name(1),
        filters: Vec::new(),
        flags: 0,
        relay_factor: 0,
        timeout: Duration::from_secs(2),
        name: "restart".into(),
        payload: Bytes::new(),
        raw: Bytes::new(),
    };
    let is_asked = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Event(Event::Query { .. })))
    };
    let mut gets = |ltime| gets(&mut engine, at(3), 1, Message::Serf(Serf::Query(Box::new(query(ltime)))));
    assert!(!is_asked(&gets(99)) && !is_asked(&gets(7)));
    assert!(is_asked(&gets(100)) && is_asked(&gets(101)));
}

#[test]
fn members_that_are_made_up_have_a_bound_and_leave_room_for_others() {
    use crate::gossip::engine::membership::MEMBERS_MAX;
    let mut engine = node(1);
    let said = |number: u32| Alive { node: format!("ghost-{number}").into(), ..alive(9, 1) };
    for number in 0..MEMBERS_MAX as u32 + 10 {
        gets(&mut engine, at(1), 1, Message::Alive(said(number)));
    }
    assert_eq!(engine.members().count(), MEMBERS_MAX);
    // This node, the one that it knew, and as many as there was room for.
    assert_eq!(engine.counts().members_refused, 12);
    // One that is gone makes room for one that comes.
    let ghost = Accusation { node: "ghost-7".into(), ..accusation(9, 1, 1) };
    gets(&mut engine, at(2), 1, Message::Dead(ghost));
    let joined = gets(&mut engine, at(2), 1, Message::Alive(alive(5, 1)));
    assert_eq!(changes(&joined), [(Change::Reap, "ghost-7".to_owned()), (Change::Join, "n5".to_owned())]);
    assert_eq!(engine.members().count(), MEMBERS_MAX);
}

/// Members that this node tells one who asks, as they come through a stream.
fn told(engine: &mut Engine, now: Time) -> Vec<crate::gossip::wire::Node> {
    let ask = StreamMessage::PushPull(PushPull { join: false, nodes: Vec::new(), serf: None });
    let answers = does(engine, now, Input::Stream { stream: 1, from: address(1), message: ask });
    let answer = answers.iter().find_map(|output| match output {
        Output::Answer { message, .. } => Some(message),
        _ => None,
    });
    let wrapping = crate::gossip::wire::Wrapping::default();
    let mut decoder = crate::gossip::wire::StreamDecoder::of_answer();
    decoder.push(&answer.unwrap().encode_answer(&wrapping, [0; 12])).unwrap();
    match decoder.next_message(&wrapping).unwrap() {
        Some(StreamMessage::PushPull(state)) => state.nodes,
        other => panic!("no state: {other:?}"),
    }
}

#[test]
fn made_up_members_with_long_names_make_no_state_that_nobody_takes() {
    let mut engine = node(2);
    assert_eq!(told(&mut engine, at(1)).len(), 3);
    for part in 0..2 {
        let ghost = |number: usize| crate::gossip::wire::Node {
            name: format!("{number:0512}").as_str().into(),
            address: address(9),
            meta: vec![7; 512].into(),
            incarnation: 1,
            state: NodeState::Alive,
            versions: VERSIONS,
        };
        let nodes = (part * 20_000..(part + 1) * 20_000).map(ghost).collect();
        let message = StreamMessage::PushPull(PushPull { join: false, nodes, serf: None });
        does(&mut engine, at(2), Input::Stream { stream: 1, from: address(9), message });
    }
    assert_eq!(engine.members().count(), 40_003);
    // One that comes later, and one that was there: both answer.
    gets(&mut engine, at(3), 3, Message::Alive(alive(3, 1)));
    for other in [1, 3] {
        let pings = does(&mut engine, at(3), Input::Ping { node: name(other), tag: 1 });
        let sequence = pings.iter().find_map(|output| match output {
            Output::Send { messages, .. } => messages.iter().find_map(|message| match message {
                Message::Ping(ping) if ping.node == name(other) => Some(ping.sequence),
                _ => None,
            }),
            _ => None,
        });
        let ack = Ack { sequence: sequence.unwrap(), payload: Bytes::new() };
        gets(&mut engine, at(3), other, Message::Ack(ack));
    }
    let ghost = Accusation { node: format!("{:0512}", 0).as_str().into(), ..accusation(9, 1, 1) };
    gets(&mut engine, at(4), 1, Message::Dead(ghost));
    let (one, two) = (told(&mut engine, at(5)), told(&mut engine, at(905)));
    for nodes in [&one, &two] {
        let names: Vec<&Name> = nodes.iter().take(3).map(|node| &node.name).collect();
        assert_eq!(names, [&name(0), &name(1), &name(3)]);
        assert!(nodes.len() > 5000, "{}", nodes.len());
        assert!(nodes.iter().all(|node| node.state == NodeState::Alive), "those who are gone come last");
    }
    assert_ne!(one[3], two[3], "what has no room now has it another time");
}

/// A member that never brings what it announces, and one that wants a large value a thousand times.
#[test]
fn what_is_announced_and_what_is_wanted_have_a_bound() {
    let mut engine = node(1);
    let announced = |number: u32| {
        let version = Version { counter: 1, writer: name(1) };
        let value = Value::Announced { length: 1000, hash: [0; 32] };
        let entries = vec![Entry { key: format!("k{number}").as_str().into(), version, value }];
        Message::Serf(Serf::Data(Data::Rumors { from: name(1), entries, feedback: true }))
    };
    for number in 0..10_000 {
        gets(&mut engine, at(1), 1, announced(number));
    }
    assert!(engine.fetching() <= 4096, "{}", engine.fetching());
    let value = Some(Bytes::from(vec![7; 1 << 20]));
    for key in ["a", "b", "c", "d", "e"] {
        does(&mut engine, at(2), Input::Set { key: key.into(), value: value.clone() });
    }
    let stamp = |key: &str| Stamp { key: key.into(), version: Version { counter: 1, writer: name(0) } };
    let stamps = (0..1000).flat_map(|_| ["a", "b", "c", "d", "e"].map(stamp)).collect();
    let message = StreamMessage::Serf(Serf::Data(Data::Fetch { from: name(1), stamps }));
    let opened = does(&mut engine, at(3), Input::Stream { stream: 1, from: address(1), message });
    let of = |output: &Output| match output {
        Output::Open { message, .. } => match &**message {
            StreamMessage::Serf(Serf::Data(Data::Rumors { entries, .. })) => Some(entries.len()),
            _ => None,
        },
        _ => None,
    };
    // Each once, in streams that the other side takes.
    assert_eq!(opened.iter().filter_map(of).collect::<Vec<_>>(), [3, 2]);
}
