//! What a node does, as lists of outputs.

mod hostile;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::gossip::wire::data::{Data, Entry, Stamp, Value, Version};
use crate::gossip::wire::{
    Accusation, Ack, IndirectPing, Intent, Name, Ping, Query, QueryResponse, SerfState, Source,
    StreamMessage, UserEvent,
};

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 7946))
}

fn name(node: u8) -> Name {
    format!("n{node}").into()
}

fn at(millis: u64) -> Time {
    Time(millis * 1000)
}

/// Node 0, which knows as many others as are said, and has told all that it had to.
fn node(others: u8) -> Engine {
    let mut config = Config::new(name(0), address(0), Profile::Lan);
    config.coordinates = false;
    config.tags.insert(DATA_TAG.to_owned(), "1".to_owned());
    let mut engine = Engine::new(Time::default(), config, fastrand::Rng::with_seed(1)).unwrap();
    let messages = (1..=others).map(|other| Message::Alive(alive(other, 1))).collect();
    does(&mut engine, at(0), Input::Packet { from: address(1), messages });
    engine.broadcasts = Broadcasts::default();
    engine
}

fn alive(node: u8, incarnation: u32) -> Alive {
    let meta = Bytes::from_static(b"\xff\x81\xa2dk\xa11");
    Alive { incarnation, node: name(node), address: address(node), meta, versions: VERSIONS }
}

fn does(engine: &mut Engine, now: Time, input: Input) -> Vec<Output> {
    let mut outputs = Vec::new();
    engine.handle(now, input, &mut outputs);
    outputs
}

fn gets(engine: &mut Engine, now: Time, from: u8, message: Message) -> Vec<Output> {
    does(engine, now, Input::Packet { from: address(from), messages: vec![message] })
}

/// Pings, answers and what is passed on have no checksum, as with memberlist: each would be five bytes longer.
fn send(to: u8, message: Message) -> Output {
    Output::Send { to: address(to), messages: vec![message], checksum: false }
}

/// News have one.
fn tell(to: u8, message: Message) -> Output {
    Output::Send { to: address(to), messages: vec![message], checksum: true }
}

fn ping(to: u8, from: u8, sequence: u32) -> Ping {
    let source = Source { address: address(from), node: name(from) };
    Ping { sequence, node: name(to), source: Some(source) }
}

fn accusation(node: u8, incarnation: u32, from: u8) -> Accusation {
    Accusation { incarnation, node: name(node), from: name(from) }
}

fn changes(outputs: &[Output]) -> Vec<(Change, String)> {
    let change = |output: &Output| match output {
        Output::Event(Event::Member { change, member }) => Some((*change, member.name.to_string())),
        _ => None,
    };
    outputs.iter().filter_map(change).collect()
}

#[test]
fn news_wait_for_the_nodes_own_moment_in_each_interval() {
    let tells = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Send { checksum: true, .. }))
    };
    let event = |name: &str| Input::Event { name: name.into(), payload: Bytes::new(), coalesce: false };
    let mut waited = Vec::new();
    for seed in 0..40 {
        let config = Config { probe_interval: Duration::from_secs(900), ..node(0).config };
        let mut engine = Engine::new(Time::default(), config, fastrand::Rng::with_seed(seed)).unwrap();
        gets(&mut engine, at(0), 1, Message::Alive(alive(1, 1)));
        let mut moments = Vec::new();
        for millis in 0..5000 {
            // What comes when nothing has been told for long does not start a new interval.
            if millis == 3317 {
                assert!(!tells(&does(&mut engine, at(millis), event("late"))));
            }
            if tells(&does(&mut engine, at(millis), Input::Tick)) {
                moments.push(millis);
            }
        }
        let first = moments[0];
        waited.push(first);
        assert!(first <= 200 && moments.iter().all(|moment| moment % 200 == first % 200), "{moments:?}");
        let late = moments.iter().find(|moment| **moment > 3317).unwrap();
        assert!(*late <= 3517 && moments.iter().all(|moment| !(2500..3317).contains(moment)), "{moments:?}");
    }
    let mean = waited.iter().sum::<u64>() / 40;
    assert!((75..125).contains(&mean), "half an interval on average: {mean}, {waited:?}");
}

#[test]
fn a_ping_is_answered_to_a_member_and_one_for_another_is_not() {
    let mut engine = node(2);
    let ack = Message::Ack(Ack { sequence: 7, payload: Bytes::new() });
    assert_eq!(gets(&mut engine, at(1), 1, Message::Ping(ping(0, 1, 7))), [send(1, ack.clone())]);
    assert_eq!(gets(&mut engine, at(1), 1, Message::Ping(ping(5, 1, 7))), []);
    // The answer goes where it came from if the source that it names is nobody's.
    let mut forged = ping(0, 1, 7);
    forged.source = Some(Source { address: address(200), node: name(9) });
    assert_eq!(gets(&mut engine, at(1), 1, Message::Ping(forged)), [send(1, ack)]);
}

#[test]
fn a_ping_is_passed_on_and_its_answer_back_or_that_there_is_none() {
    let mut engine = node(2);
    let source = Some(Source { address: address(1), node: name(1) });
    let indirect = IndirectPing { sequence: 9, target: address(2), node: name(2), nack: true, source };
    let sent = gets(&mut engine, at(1), 1, Message::IndirectPing(indirect.clone()));
    assert_eq!(sent, [send(2, Message::Ping(ping(2, 0, 1)))]);
    let ack = |sequence| Message::Ack(Ack { sequence, payload: Bytes::new() });
    assert_eq!(gets(&mut engine, at(2), 2, ack(1)), [send(1, ack(9))]);
    // Once more, and now it stays silent.
    gets(&mut engine, at(3), 1, Message::IndirectPing(indirect.clone()));
    let late = does(&mut engine, at(504), Input::Tick);
    assert!(late.contains(&send(1, Message::Nack { sequence: 9 })), "{late:?}");
    // To where no member is it is not passed on.
    let stranger = IndirectPing { target: address(77), ..indirect };
    assert_eq!(gets(&mut engine, at(505), 1, Message::IndirectPing(stranger)), []);
}

#[test]
fn a_member_that_does_not_answer_is_asked_about_and_then_suspected() {
    let mut engine = node(4);
    let mut outputs = Vec::new();
    while !outputs
        .iter()
        .any(|output| changes(std::slice::from_ref(output)).iter().any(|c| c.0 == Change::Suspect))
    {
        let now = engine.deadline().unwrap();
        engine.handle(now, Input::Tick, &mut outputs);
        assert!(now < at(5000));
    }
    let sent = |wanted: fn(&Message) -> bool| {
        let is = |output: &&Output| match output {
            Output::Send { messages, .. } => wanted(&messages[0]),
            _ => false,
        };
        outputs.iter().filter(is).count()
    };
    assert_eq!(sent(|message| matches!(message, Message::Ping(_))), 1);
    assert_eq!(sent(|message| matches!(message, Message::IndirectPing(_))), 3);
    let streams = outputs.iter().filter(|output| matches!(output, Output::Open { .. })).count();
    assert_eq!(streams, 1);
    // Nobody who was asked said that it was missing: this node may be the slow one.
    assert_eq!(engine.awareness(), 3);
}

#[test]
fn who_answers_over_a_stream_is_not_suspected() {
    let mut engine = node(1);
    let mut outputs = Vec::new();
    let exchange = loop {
        let now = engine.deadline().unwrap();
        outputs.clear();
        engine.handle(now, Input::Tick, &mut outputs);
        let opened = outputs.iter().find_map(|output| match output {
            Output::Open { exchange, message, .. } => match &**message {
                StreamMessage::Ping(ping) => Some((*exchange, ping.sequence, now)),
                _ => None,
            },
            _ => None,
        });
        if let Some(opened) = opened {
            break opened;
        }
    };
    let (exchange, sequence, now) = exchange;
    let ack = StreamMessage::Ack(Ack { sequence, payload: Bytes::new() });
    does(&mut engine, now, Input::Reply { exchange, reply: StreamReply::Message(ack) });
    let over = does(&mut engine, now + Duration::from_millis(600), Input::Tick);
    assert_eq!(changes(&over), []);
    assert_eq!(engine.member("n1").unwrap().state, NodeState::Alive);
}

#[test]
fn an_accusation_of_this_node_is_refuted_with_a_newer_incarnation() {
    let mut engine = node(3);
    assert_eq!(gets(&mut engine, at(1), 1, Message::Suspect(accusation(0, 5, 1))), []);
    assert_eq!((engine.me().incarnation, engine.awareness()), (6, 1));
    assert_eq!(engine.queued()[0], 1);
    // An old one is not worth a word; one at the end of the range is not believed.
    gets(&mut engine, at(2), 1, Message::Dead(accusation(0, 5, 2)));
    gets(&mut engine, at(2), 1, Message::Suspect(accusation(0, u32::MAX, 2)));
    assert_eq!(engine.me().incarnation, 6);
}

#[test]
fn states_follow_incarnations() {
    let mut engine = node(3);
    let suspected = gets(&mut engine, at(1), 2, Message::Suspect(accusation(1, 1, 2)));
    assert_eq!(changes(&suspected), [(Change::Suspect, "n1".into())]);
    assert_eq!(changes(&gets(&mut engine, at(2), 3, Message::Alive(alive(1, 1)))), []);
    let refuted = gets(&mut engine, at(2), 1, Message::Alive(alive(1, 2)));
    assert_eq!(changes(&refuted), [(Change::Refuted, "n1".into())]);
    assert_eq!(changes(&gets(&mut engine, at(3), 2, Message::Dead(accusation(1, 1, 2)))), []);
    let failed = gets(&mut engine, at(4), 2, Message::Dead(accusation(1, 2, 2)));
    assert_eq!(changes(&failed), [(Change::Failed, "n1".into())]);
    // Not back as who it was: it is told so, that it can object.
    let reminded = gets(&mut engine, at(5), 1, Message::Alive(alive(1, 1)));
    assert_eq!(reminded, [send(1, Message::Suspect(accusation(1, 2, 0)))]);
    let back = gets(&mut engine, at(6), 1, Message::Alive(alive(1, 3)));
    assert_eq!(changes(&back), [(Change::Join, "n1".into())]);
    // A name that is taken stays with whom it is.
    let other = Alive { address: address(99), ..alive(1, 9) };
    let conflict = gets(&mut engine, at(7), 9, Message::Alive(other));
    let (known, other) = (address(1), address(99));
    assert_eq!(conflict, [Output::Event(Event::Conflict { node: name(1), known, other })]);
}

#[test]
fn who_announced_that_it_leaves_has_left_and_who_is_forced_out_too() {
    let mut engine = node(3);
    let intent = |node, ltime| Message::Serf(Serf::Leave(Intent { ltime, node: name(node), prune: false }));
    gets(&mut engine, at(1), 1, intent(1, 3));
    let gone = gets(&mut engine, at(2), 2, Message::Dead(accusation(1, 1, 2)));
    assert_eq!(changes(&gone), [(Change::Leave, "n1".into())]);
    gets(&mut engine, at(3), 3, Message::Dead(accusation(2, 1, 3)));
    assert_eq!(engine.member("n2").unwrap().status, Status::Failed);
    let forced = does(&mut engine, at(4), Input::ForceLeave { node: name(2), prune: true });
    assert_eq!(changes(&forced), [(Change::Leave, "n2".into()), (Change::Reap, "n2".into())]);
    let living = does(&mut engine, at(5), Input::ForceLeave { node: name(3), prune: false });
    let refusal = Refusal::Living { node: name(3) };
    assert_eq!(living, [Output::Event(Event::Refused { tag: None, refusal })]);
}

#[test]
fn an_event_is_told_once_and_passed_on_as_it_came() {
    let mut engine = node(1);
    let raw = Bytes::from_static(b"\x03as it came");
    let event = UserEvent { ltime: 5, name: "x".into(), payload: Bytes::new(), coalesce: true, raw };
    let message = Message::Serf(Serf::Event(event.clone()));
    let told = gets(&mut engine, at(1), 1, message.clone());
    assert!(matches!(&told[..], [Output::Event(Event::User { ltime: 5, .. })]), "{told:?}");
    assert_eq!(gets(&mut engine, at(2), 1, message.clone()), []);
    let gossip = does(&mut engine, at(201), Input::Tick);
    assert!(gossip.contains(&tell(1, message)), "{gossip:?}");
    // What is older than the window, or claims a time that cannot be, is not told.
    for ltime in [5 + 600, 5 + (1 << 40), u64::MAX] {
        let event = UserEvent { ltime, name: "y".into(), ..event.clone() };
        let told = gets(&mut engine, at(300), 1, Message::Serf(Serf::Event(event)));
        assert_eq!(told.is_empty(), ltime > 1 << 33, "{ltime}");
    }
    let old = UserEvent { ltime: 6, name: "z".into(), ..event };
    assert_eq!(gets(&mut engine, at(301), 1, Message::Serf(Serf::Event(old))), []);
}

#[test]
fn one_that_joins_does_not_make_a_cluster_deaf() {
    let state = |ltime| {
        let serf = SerfState { ltime, event_ltime: ltime, query_ltime: ltime, ..SerfState::default() };
        let message = StreamMessage::PushPull(PushPull { join: true, nodes: Vec::new(), serf: Some(serf) });
        Input::Stream { stream: 1, from: address(9), message }
    };
    for (others, ltime, clocks) in
        [(2, 1 << 40, [1; 3]), (2, 1 << 20, [1 << 20; 3]), (0, 1 << 40, [1 << 40; 3])]
    {
        let mut engine = node(others);
        does(&mut engine, at(1), state(ltime));
        assert_eq!(engine.clocks(), clocks, "{others} others, {ltime}");
    }
}

#[test]
fn an_event_that_fits_no_datagram_is_told_here_and_waits_for_none() {
    let mut engine = node(1);
    let event = |name: &str, bytes: usize| {
        let payload = Bytes::from(vec![b'x'; bytes]);
        let event = UserEvent { ltime: 5, name: name.into(), payload, coalesce: true, raw: Bytes::new() };
        Message::Serf(Serf::Event(event))
    };
    assert_eq!(gets(&mut engine, at(1), 1, event("large", 2000)).len(), 1);
    assert_eq!(gets(&mut engine, at(2), 1, event("over all limits", 9 * 1024)), []);
    let gossip = does(&mut engine, at(201), Input::Tick);
    assert!(!gossip.iter().any(|output| matches!(output, Output::Send { .. })), "{gossip:?}");
}

#[test]
fn a_query_of_nobody_floods_nobody() {
    let mut engine = node(1);
    let query = |node: u8, name: &str, ltime| Query {
        ltime,
        id: 1,
        address: address(node),
        source: super::tests::name(node),
        filters: Vec::new(),
        flags: crate::gossip::wire::QUERY_FLAG_ACK,
        relay_factor: 0,
        timeout: Duration::from_secs(1),
        name: name.into(),
        payload: Bytes::new(),
        raw: Bytes::new(),
    };
    let sends =
        |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    let asked = gets(&mut engine, at(1), 1, Message::Serf(Serf::Query(Box::new(query(1, "load", 2)))));
    assert_eq!(sends(&asked), 1);
    let forged = gets(&mut engine, at(1), 1, Message::Serf(Serf::Query(Box::new(query(88, "load", 3)))));
    assert_eq!(sends(&forged), 0);
    // An answer is given once, in time.
    let id = QueryId { ltime: 2, id: 1 };
    let respond = |payload: &'static [u8]| Input::Respond { query: id, payload: Bytes::from_static(payload) };
    let answer = does(&mut engine, at(2), respond(b"0.7"));
    let from = name(0);
    let response = QueryResponse { ltime: 2, id: 1, from, flags: 0, payload: Bytes::from_static(b"0.7") };
    assert_eq!(answer, [send(1, Message::Serf(Serf::Response(response)))]);
    let again = does(&mut engine, at(3), respond(b"0.8"));
    let refusal = Refusal::QueryOver;
    assert_eq!(again, [Output::Event(Event::Refused { tag: None, refusal })]);
}

#[test]
fn what_does_not_fit_is_refused_with_the_limit() {
    let mut engine = node(1);
    let refused = |outputs: Vec<Output>| match &outputs[..] {
        [Output::Event(Event::Refused { refusal, .. })] => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    let payload = Bytes::from(vec![0; 600]);
    let event = Input::Event { name: "e".into(), payload, coalesce: false };
    assert_eq!(
        refused(does(&mut engine, at(1), event)),
        "an event of 601 bytes is over the limit of 512 for name and payload"
    );
    let tags = BTreeMap::from([("a".to_owned(), "x".repeat(600))]);
    let text = refused(does(&mut engine, at(1), Input::Tags(tags)));
    assert!(text.contains("over the limit of 512"), "{text}");
    let value = Some(Bytes::from(vec![0; 2 << 20]));
    let text = refused(does(&mut engine, at(1), Input::Set { key: "k".into(), value }));
    assert!(text.contains("a value of 2097152 bytes"), "{text}");
}

#[test]
fn rumours_are_told_to_those_who_understand_them_until_enough_knew() {
    let mut engine = node(60);
    let value = Some(Bytes::from_static(b"1"));
    does(&mut engine, at(1), Input::Set { key: "k".into(), value });
    let mut told = Vec::new();
    for round in 1..100 {
        let outputs = does(&mut engine, at(1 + 200 * round), Input::Tick);
        for output in &outputs {
            let Output::Send { to, messages, .. } = output else { continue };
            if let Message::Serf(Serf::Data(Data::Rumors { entries, .. })) = &messages[0] {
                told.push(*to);
                // Everybody knew it already.
                let entry = &entries[0];
                let stamp = crate::gossip::wire::data::Stamp {
                    key: entry.key.clone(),
                    version: entry.version.clone(),
                };
                let node: u8 = to.ip().to_string().rsplit('.').next().unwrap().parse().unwrap();
                let known = Data::Known { from: name(node), stamps: vec![stamp] };
                gets(&mut engine, at(1 + 200 * round), node, Message::Serf(Serf::Data(known)));
            }
        }
    }
    // Four rounds of three: then four and twice four in a row had known it. Nobody was told twice.
    assert_eq!(told.len(), 12);
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 12);
}

#[test]
fn versions_do_not_go_back_and_strangers_are_not_believed() {
    let mut engine = node(1);
    let entry = |counter, value: &'static [u8]| Entry {
        key: "k".into(),
        version: Version { counter, writer: name(1) },
        value: Value::Bytes(Bytes::from_static(value)),
    };
    let rumors = |from: u8, entry: Entry| {
        Message::Serf(Serf::Data(Data::Rumors { from: name(from), entries: vec![entry], feedback: true }))
    };
    let news = gets(&mut engine, at(1), 1, rumors(1, entry(5, b"new")));
    assert!(matches!(&news[..], [Output::Event(Event::Data(_))]), "{news:?}");
    // Who tells old news is told the new ones.
    let answer = gets(&mut engine, at(1), 1, rumors(1, entry(4, b"old")));
    let from = name(0);
    let newer = Data::Rumors { from, entries: vec![entry(5, b"new")], feedback: false };
    assert_eq!(answer, [tell(1, Message::Serf(Serf::Data(newer)))]);
    assert_eq!(gets(&mut engine, at(1), 1, rumors(77, entry(9, b"evil"))), []);
    assert_eq!(gets(&mut engine, at(1), 1, rumors(1, entry(u64::MAX, b"evil"))).len(), 1);
    assert_eq!(engine.store().get("k").unwrap().value.as_deref(), Some(&b"new"[..]));
}

#[test]
fn users_news_have_room_whatever_happens_among_members() {
    let mut engine = node(1);
    for other in 0..200u8 {
        engine.broadcasts.push_about(1000 + u32::from(other), Message::Alive(alive(other, 2)));
    }
    let event = Input::Event { name: "e".into(), payload: Bytes::from(vec![b'x'; 200]), coalesce: false };
    does(&mut engine, at(1), event);
    let gossip = does(&mut engine, at(202), Input::Tick);
    let has_event = gossip.iter().any(|output| match output {
        Output::Send { messages, .. } => {
            messages.len() > 5
                && messages.iter().any(|message| matches!(message, Message::Serf(Serf::Event(_))))
        }
        _ => false,
    });
    assert!(has_event);
}
