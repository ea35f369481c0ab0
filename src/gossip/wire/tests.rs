//! Golden bytes of real agents, round trips, garbage and truncation.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::data::{Data, Entry, Stamp, Value, Version};
use super::*;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gossip").join(name)).unwrap()
}

/// What Debian's serf 0.9.4 sent, by what it is.
fn packets() -> BTreeMap<String, Vec<u8>> {
    let text = String::from_utf8(golden("udp_packets.txt")).unwrap();
    let decode = |hex: &str| {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    text.lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, hex)| (name.to_owned(), decode(hex)))
        .collect()
}

const PLAIN: Layers = Layers { checksum: false, compress: false, nonce: [7; 12] };

fn decoded(datagram: &[u8]) -> Vec<Message> {
    let packet = Packet::decode(datagram, &Wrapping::default());
    assert_eq!(packet.fault, None);
    packet.messages
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn packets_of_a_real_agent_are_read_and_written_byte_by_byte() {
    let packets = packets();
    assert_eq!(packets.len(), 9);
    for (name, bytes) in &packets {
        let layers = Layers { checksum: name.starts_with("crc"), ..PLAIN };
        let messages = decoded(bytes);
        assert_eq!(encode(&messages, &Wrapping::default(), layers), *bytes, "{name}");
    }
}

#[test]
fn what_a_real_agent_sent_means_what_it_says() {
    let packets = packets();
    let one = |name: &str| decoded(&packets[name]).remove(0);
    assert_eq!(
        one("ping"),
        Message::Ping(Ping {
            sequence: 2,
            node: "cap1".into(),
            source: Some(Source { address: address("127.0.0.1:17948"), node: "a3".into() }),
        })
    );
    assert_eq!(one("nack"), Message::Nack { sequence: 556 });
    assert_eq!(one("ack"), Message::Ack(Ack { sequence: 555, payload: Bytes::new() }));
    assert_eq!(
        one("crc>suspect"),
        Message::Suspect(Accusation { incarnation: 2, node: "cap1".into(), from: "a9".into() })
    );
    let Message::Alive(alive) = one("crc>alive") else { panic!() };
    assert_eq!((alive.address, alive.incarnation), (address("127.0.0.1:17947"), 2));
    assert_eq!((alive.versions, decode_tags(&alive.meta)), (VERSIONS, BTreeMap::new()));
    let Message::Serf(Serf::Query(query)) = one("crc>user.4") else { panic!() };
    assert_eq!((query.ltime, query.id, &*query.name), (86, 0x7c4e_b785, "nf"));
    assert_eq!(query.timeout, Duration::from_secs(1));
    assert_eq!(Filter::decode(&query.filters[0]), Ok(Filter::Nodes(vec!["cap1".into()])));
    let Message::Serf(Serf::Relay(relay)) = one("user.9") else { panic!() };
    assert_eq!((relay.address, &*relay.node), (address("127.0.0.1:17946"), "a1"));
    let Ok(Serf::Response(response)) = Serf::decode(&relay.inner) else { panic!() };
    assert_eq!((response.ltime, response.flags, &*response.from), (85, RESPONSE_FLAG_ACK, "a1"));
}

fn stream(bytes: &[u8], wrapping: &Wrapping) -> Result<Option<StreamMessage>, StreamError> {
    let mut decoder = StreamDecoder::default();
    decoder.push(bytes)?;
    decoder.next_message(wrapping)
}

/// Reads it in pieces of `step` bytes; it must come with the last piece and not before.
fn in_steps(bytes: &[u8], step: usize, wrapping: &Wrapping) -> StreamMessage {
    let mut decoder = StreamDecoder::default();
    for chunk in bytes[..bytes.len() - 1].chunks(step) {
        decoder.push(chunk).unwrap();
        assert_eq!(decoder.next_message(wrapping), Ok(None));
    }
    decoder.push(&bytes[bytes.len() - 1..]).unwrap();
    decoder.next_message(wrapping).unwrap().unwrap()
}

#[test]
fn an_exchange_with_a_real_agent_is_read_at_any_cut_and_written_byte_by_byte() {
    let plain = Wrapping::default();
    let request = golden("pushpull_request_from_us.bin");
    let Ok(Some(StreamMessage::PushPull(ours))) = stream(&request, &plain) else { panic!() };
    let mut again = Vec::new();
    ours.write(&mut again);
    assert_eq!(again, request);

    let reply = golden("pushpull_response_serf094_plain.bin");
    let Ok(Some(StreamMessage::PushPull(state))) = stream(&reply, &plain) else { panic!() };
    let names: Vec<_> = state.nodes.iter().map(|node| (&*node.name, node.state)).collect();
    let alive = NodeState::Alive;
    assert_eq!(names, [("a2", alive), ("cap1", NodeState::Left), ("a1", alive), ("a3", alive)]);
    let serf = state.serf.as_ref().unwrap();
    let events: Vec<_> = serf.events.iter().map(|event| (event.ltime, &*event.name)).collect();
    assert_eq!(events, [(1, "deploy"), (50, "fromfake"), (70, "ext")]);
    assert_eq!((serf.event_ltime, serf.digest.is_some()), (71, false));
    let packed = golden("pushpull_response_serf094_lzw.bin");
    let Ok(Some(StreamMessage::PushPull(packed_state))) = stream(&packed, &plain) else { panic!() };
    assert!(!packed_state.nodes.is_empty() && packed_state.serf.is_some());
    for bytes in [&request, &reply, &packed] {
        let whole = stream(bytes, &plain).unwrap().unwrap();
        for step in [1, 2, 7, 100] {
            assert_eq!(in_steps(bytes, step, &plain), whole);
        }
    }
}

#[test]
fn a_member_that_cannot_be_named_is_left_out_and_the_others_are_kept() {
    let state = PushPull { join: true, nodes: vec![node("good"), node("evil")], serf: None };
    let mut bytes = Vec::new();
    state.write(&mut bytes);
    let at = bytes.windows(4).position(|window| window == b"evil").unwrap();
    bytes[at] = 0xff;
    let Ok(Some(StreamMessage::PushPull(read))) = stream(&bytes, &Wrapping::default()) else { panic!() };
    assert_eq!(read.nodes, [node("good")]);
}

fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        address: address("[fd00::1]:7946"),
        meta: encode_tags(&BTreeMap::from([("role".into(), "web".into())])).into(),
        incarnation: 300,
        state: NodeState::Suspect,
        versions: VERSIONS,
    }
}

fn event(ltime: u64, name: &str) -> UserEvent {
    let payload = Bytes::from_static(b"\x00\xff");
    UserEvent { ltime, name: name.into(), payload, coalesce: false, raw: Bytes::new() }
}

fn entries() -> Vec<Entry> {
    let entry = |key: &str, value| Entry {
        key: key.into(),
        version: Version { counter: 3, writer: "n1".into() },
        value,
    };
    vec![
        entry("a", Value::Bytes(Bytes::from_static(b"1"))),
        entry("empty", Value::Bytes(Bytes::new())),
        entry("b", Value::Tombstone),
        entry("c", Value::Announced { length: 90_000, hash: [9; 32] }),
    ]
}

fn every_message() -> Vec<Message> {
    let stamps = vec![Stamp { key: "a".into(), version: Version { counter: 3, writer: "n1".into() } }];
    let query = Query {
        ltime: 1 << 40,
        id: 77,
        address: address("10.0.0.1:7946"),
        source: "n1".into(),
        filters: vec![
            Filter::Nodes(vec!["n2".into()]).encode(),
            Filter::Tag { tag: "role".into(), expression: "^w".into() }.encode(),
        ],
        flags: QUERY_FLAG_ACK,
        relay_factor: 3,
        timeout: Duration::from_millis(1500),
        name: "load".into(),
        payload: Bytes::from_static(b"now"),
        raw: Bytes::new(),
    };
    let intent = Intent { ltime: 5, node: "n1".into(), prune: true };
    let target = address("10.0.0.3:7946");
    let source = Source { address: address("[fd00::2]:1"), node: "n1".into() };
    let serf = |serf| Message::Serf(serf);
    let data = |data| Message::Serf(Serf::Data(data));
    vec![
        Message::Ping(Ping { sequence: 70_000, node: "n2".into(), source: None }),
        Message::IndirectPing(IndirectPing {
            sequence: 9,
            target,
            node: "n3".into(),
            nack: true,
            source: Some(source),
        }),
        Message::Ack(Ack { sequence: 1, payload: Bytes::from(vec![1; 300]) }),
        Message::Dead(Accusation { incarnation: u32::MAX, node: "n2".into(), from: "n2".into() }),
        serf(Serf::Leave(intent.clone())),
        serf(Serf::Join(Intent { prune: false, ..intent })),
        serf(Serf::Event(event(4, "deploy"))),
        serf(Serf::Query(Box::new(query))),
        serf(Serf::Response(QueryResponse {
            ltime: 4,
            id: 1,
            from: "n2".into(),
            flags: 0,
            payload: Bytes::from_static(b"0.7"),
        })),
        data(Data::Rumors { from: "n1".into(), entries: entries(), feedback: true }),
        data(Data::Known { from: "n1".into(), stamps: stamps.clone() }),
        data(Data::Ask { from: "n1".into() }),
        data(Data::Fetch { from: "n1".into(), stamps }),
    ]
}

/// What came carries its bytes; what we make does not.
fn without_raw(mut message: Message) -> Message {
    match &mut message {
        Message::Serf(Serf::Event(event)) => event.raw = Bytes::new(),
        Message::Serf(Serf::Query(query)) => query.raw = Bytes::new(),
        _ => {}
    }
    message
}

#[test]
fn every_message_is_read_as_it_was_written_under_every_wrapping() {
    let keyring = || Some(Keyring::new(&[3; 32]).unwrap());
    for (label, keyring) in [("", None), ("blue", None), ("", keyring()), ("blue", keyring())] {
        let wrapping = Wrapping { label: label.into(), keyring };
        for (checksum, compress) in [(false, false), (true, true)] {
            let layers = Layers { checksum, compress, nonce: [5; 12] };
            let datagram = encode(&every_message(), &wrapping, layers);
            let packet = Packet::decode(&datagram, &wrapping);
            assert_eq!(packet.fault, None);
            let read: Vec<_> = packet.messages.into_iter().map(without_raw).collect();
            assert_eq!(read, every_message());
        }
        let other = Wrapping { label: "green".into(), keyring: None };
        let datagram = encode(&every_message(), &wrapping, PLAIN);
        assert_eq!(Packet::decode(&datagram, &other).fault, Some(PacketError::Label));
    }
}

fn every_stream_message() -> Vec<StreamMessage> {
    let serf = SerfState {
        ltime: 9,
        status_ltimes: vec![("a".into(), 3), ("b".into(), 900)],
        left: vec!["b".into()],
        event_ltime: 4,
        events: vec![event(3, "x"), event(3, "y"), event(7, "z")],
        query_ltime: 2,
        digest: Some(vec![Stamp { key: "a".into(), version: Version { counter: 1, writer: "n".into() } }]),
        data: entries(),
    };
    let nodes = (0..50).map(|index| node(&format!("node-{index}"))).collect();
    vec![
        StreamMessage::PushPull(PushPull { join: false, nodes, serf: Some(serf) }),
        StreamMessage::Serf(Serf::Data(Data::Ask { from: "n1".into() })),
        StreamMessage::Ping(Ping { sequence: 1, node: "n2".into(), source: None }),
        StreamMessage::Ack(Ack { sequence: 1, payload: Bytes::new() }),
        StreamMessage::Error("no".into()),
    ]
}

#[test]
fn streams_are_read_as_they_were_written_and_never_before_their_end() {
    let keyring = Keyring::new(&[3; 16]).unwrap();
    for keyring in [None, Some(keyring)] {
        for label in ["", "blue"] {
            let wrapping = Wrapping { label: label.into(), keyring: keyring.clone() };
            for message in every_stream_message() {
                let bytes = message.encode(&wrapping, [5; 12]);
                assert_eq!(in_steps(&bytes, 1, &wrapping), message);
                assert_eq!(in_steps(&bytes, 1000, &wrapping), message);
            }
        }
    }
}

/// The algorithm's own vectors: McGrew and Viega, The Galois/Counter Mode of Operation, cases 2, 8 and 14.
#[test]
fn keys_of_each_length_seal_as_everybody_does() {
    for (length, expected) in [
        (16, "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
        (24, "98e7247c07f0fe411c267e4384b0f6002ff58d80033927ab8ef4d4587514f0fb"),
        (32, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ] {
        let ring = Keyring::new(&vec![0; length]).unwrap();
        let mut sealed = Vec::new();
        ring.seal(&[0; 16], b"", [0; 12], &mut sealed);
        let hex: String = sealed[13..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{length}");
        assert_eq!(ring.open(&sealed, b"").unwrap(), [0; 16]);
        assert_eq!(ring.open(&sealed, b"another stream"), Err(KeyError::Sealed));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x80;
            assert!(ring.open(&damaged, b"").is_err(), "{length}, byte {at}");
            assert!(ring.open(&sealed[..at], b"").is_err(), "{length}, {at} bytes");
        }
    }
}

#[test]
fn both_versions_of_encryption_are_opened_by_any_key_of_the_ring() {
    // Version 0 pads to 16 bytes before it seals: what memberlist before protocol 2 sends.
    let key = ring::aead::UnboundKey::new(&ring::aead::AES_128_GCM, &[1; 16]).unwrap();
    let key = ring::aead::LessSafeKey::new(key);
    let mut sealed = b"hello".to_vec();
    sealed.extend([11; 11]);
    let nonce = ring::aead::Nonce::assume_unique_for_key([2; 12]);
    key.seal_in_place_append_tag(nonce, ring::aead::Aad::empty(), &mut sealed).unwrap();
    let padded = [&[0][..], &[2; 12], &sealed].concat();

    let mut ring = Keyring::new(&[9; 32]).unwrap();
    assert_eq!(ring.open(&padded, b""), Err(KeyError::Sealed));
    ring.install(&[1; 16]).unwrap();
    assert_eq!(ring.open(&padded, b"").unwrap(), b"hello");
    assert_eq!(ring.open(&padded, b"another cluster"), Err(KeyError::Sealed));
    assert_eq!(ring.remove(&[9; 32]), Err(KeyError::Primary));
    assert_eq!(ring.choose(&[8; 32]), Err(KeyError::Unknown));
    ring.choose(&[1; 16]).unwrap();
    ring.remove(&[9; 32]).unwrap();
    assert_eq!(ring.keys().collect::<Vec<_>>(), [&[1; 16]]);
    let mut ours = Vec::new();
    ring.seal(b"hello", b"", [4; 12], &mut ours);
    assert_eq!(ours.len(), Keyring::sealed_bytes(5));
    assert_eq!(ring.open(&ours, b"").unwrap(), b"hello");
    for length in [0, 15, 17, 23, 25, 31, 33] {
        assert!(matches!(Keyring::new(&vec![0; length]), Err(KeyError::Length(wrong)) if wrong == length));
    }
}

#[test]
fn plain_and_encrypted_do_not_mix() {
    let plain = Wrapping::default();
    let sealed = Wrapping { label: "".into(), keyring: Some(Keyring::new(&[3; 16]).unwrap()) };
    let ping = every_stream_message().remove(2);
    assert_eq!(stream(&ping.encode(&plain, [0; 12]), &sealed), Err(StreamError::Plain));
    assert_eq!(stream(&ping.encode(&sealed, [0; 12]), &plain), Err(StreamError::Encrypted));
    // An agent that cannot open what we sent says so in the clear.
    let error = StreamMessage::Error("no installed keys could decrypt the message".into());
    assert_eq!(stream(&error.encode(&plain, [0; 12]), &sealed), Ok(Some(error)));
    let datagram = encode(&every_message()[..1], &plain, PLAIN);
    assert!(matches!(Packet::decode(&datagram, &sealed).fault, Some(PacketError::Key(_))));
    for message in every_message() {
        let datagram = encode(&[message], &sealed, PLAIN);
        assert_eq!(Packet::decode(&datagram, &plain).fault, Some(PacketError::Encrypted));
    }
}

#[test]
fn what_is_compressed_is_bounded_and_comes_back() {
    let long: Vec<u8> = (0..300_000u32).flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes()).collect();
    let mut packed = Vec::new();
    compress(&long, &mut packed);
    assert_eq!(decompress(&packed[1..], long.len()).unwrap(), long);
    assert!(matches!(decompress(&packed[1..], long.len() - 1), Err(msgpack::Fault::Length { .. })));

    // A bomb: megabytes of zeros in a datagram.
    let mut bomb = Vec::new();
    compress(&vec![0; 8 << 20], &mut bomb);
    assert!(bomb.len() < 65_000);
    assert!(Packet::decode(&bomb, &Wrapping::default()).fault.is_some());
}

#[test]
fn the_parts_before_a_cut_are_kept() {
    let datagram = encode(&every_message(), &Wrapping::default(), PLAIN);
    let cut = Packet::decode(&datagram[..datagram.len() - 1], &Wrapping::default());
    assert_eq!(cut.messages.len(), every_message().len() - 1);
    assert_eq!(cut.fault, Some(PacketError::Layers("a compound is cut short")));
}

#[test]
fn unknown_parts_do_not_hide_the_others() {
    let ping = every_message().remove(0);
    let mut datagram = vec![7, 2, 0, 4, 0, ping.encode().len() as u8, 200];
    datagram.extend(b"abc");
    datagram.extend(ping.encode());
    let packet = Packet::decode(&datagram, &Wrapping::default());
    assert_eq!(packet.messages, [ping]);
    assert!(matches!(packet.fault, Some(PacketError::Message { kind: 200, .. })));
}

#[test]
fn layers_are_bounded() {
    let mut datagram = every_message()[0].encode();
    for _ in 0..10 {
        let length = (datagram.len() as u16).to_be_bytes();
        datagram.splice(..0, [7, 1, length[0], length[1]]);
    }
    let packet = Packet::decode(&datagram, &Wrapping::default());
    assert_eq!(packet.fault, Some(PacketError::Layers("layers are nested too deeply")));
}

#[test]
fn claimed_lengths_of_a_stream_are_refused_before_they_come() {
    let plain = Wrapping::default();
    let huge = b"\x06\x83\xa4Join\xc3\xa5Nodes\xce\x7f\xff\xff\xff\xacUserStateLen\x00";
    assert!(matches!(stream(huge, &plain), Err(StreamError::Message { .. })));
    let huge = b"\x06\x83\xa4Join\xc3\xa5Nodes\x00\xacUserStateLen\xce\x7f\xff\xff\xff";
    assert!(matches!(stream(huge, &plain), Err(StreamError::Message { .. })));
    let sealed = Wrapping { label: "".into(), keyring: Some(Keyring::new(&[3; 16]).unwrap()) };
    let huge = b"\x0a\xff\xff\xff\xff";
    assert!(matches!(stream(huge, &sealed), Err(StreamError::Length { .. })));
    let huge = b"\x09\x82\xa4Algo\x00\xa3Buf\xdb\xff\xff\xff\xff";
    assert!(matches!(stream(huge, &plain), Err(StreamError::Length { .. })));
}

#[test]
fn tags_coordinates_and_keys_are_read_as_they_were_written() {
    let tags = BTreeMap::from([("dk".to_owned(), "1".to_owned()), ("role".to_owned(), "w".repeat(40))]);
    assert_eq!(decode_tags(&encode_tags(&tags)), tags);
    assert_eq!(decode_tags(b"web"), BTreeMap::from([("role".to_owned(), "web".to_owned())]));
    let coordinate = Coordinate {
        vector: [0.5, -1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 3.0],
        error: 1.5,
        adjustment: 0.0,
        height: 1e-5,
    };
    assert_eq!(Coordinate::decode(&coordinate.encode()), Ok(coordinate.clone()));
    let broken = Coordinate { error: f64::NAN, ..coordinate };
    assert!(Coordinate::decode(&broken.encode()).is_err());
    assert_eq!(decode_key_request(&encode_key_request(b"k")), Ok(b"k".to_vec()));
    let response =
        KeyResponse { result: true, message: "m".into(), keys: vec!["a".into()], primary: "a".into() };
    assert_eq!(KeyResponse::decode(&response.encode()), Ok(response));
    let owner = Conflict {
        node: "n1".into(),
        address: address("10.0.0.1:7946"),
        versions: VERSIONS,
        status: 1,
        tags,
    };
    assert_eq!(Conflict::decode(&owner.encode()), Ok(("n1".into(), address("10.0.0.1:7946"))));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..14) {
        let plain = Wrapping::default();
        let typed = [&[kind][..], &bytes].concat();
        Packet::decode(&bytes, &plain);
        Packet::decode(&typed, &plain);
        let _ = stream(&bytes, &plain);
        let _ = stream(&typed, &plain);
        let _ = Serf::decode(&typed);
        let _ = (Filter::decode(&bytes), decode_tags(&bytes), Coordinate::decode(&typed));
        let _ = (KeyResponse::decode(&typed), Conflict::decode(&typed), decode_key_request(&typed));
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..2000, bit in 0u8..8) {
        let plain = Wrapping::default();
        let mut datagram = encode(&every_message(), &plain, PLAIN);
        let length = datagram.len();
        datagram[at % length] ^= 1 << bit;
        let packet = Packet::decode(&datagram, &plain);
        for message in &packet.messages {
            let again = encode(std::slice::from_ref(message), &plain, PLAIN);
            prop_assert_eq!(Packet::decode(&again, &plain).fault, None);
        }
        for message in every_stream_message() {
            let mut bytes = Vec::new();
            if let StreamMessage::PushPull(state) = message {
                state.write(&mut bytes);
                let length = bytes.len();
                bytes[at % length] ^= 1 << bit;
                let _ = stream(&bytes, &plain);
            }
        }
    }

    #[test]
    fn truncation_never_panics_and_never_invents(cut in 0usize..4000) {
        let plain = Wrapping::default();
        for message in every_message() {
            let bytes = message.encode();
            let packet = Packet::decode(&bytes[..cut % bytes.len()], &plain);
            // A relay's end is the datagram's, and there is none in the list.
            prop_assert!(packet.messages.is_empty());
        }
    }
}

/// memberlist 0.5: who answers with a label is not understood.
#[test]
fn an_answer_has_no_label_and_is_authenticated_with_it() {
    let message = StreamMessage::Error("no".to_owned());
    let key = Keyring::new(&[3; 16]).unwrap();
    let labelled =
        |label: &str, keyring: Option<&Keyring>| Wrapping { label: label.into(), keyring: keyring.cloned() };
    let read = |bytes: &[u8], wrapping: &Wrapping| {
        let mut decoder = StreamDecoder::of_answer();
        decoder.push(bytes).unwrap();
        decoder.next_message(wrapping)
    };
    let plain = labelled("blue", None);
    let bytes = message.encode_answer(&plain, [1; 12]);
    assert_eq!(
        (bytes[0], &bytes),
        (super::message::kind::ERROR, &message.encode(&Wrapping::default(), [1; 12]))
    );
    assert_eq!(read(&bytes, &plain), Ok(Some(message.clone())));
    let sealed = labelled("blue", Some(&key));
    let bytes = message.encode_answer(&sealed, [1; 12]);
    assert_eq!(bytes[0], super::message::kind::ENCRYPTED);
    assert_eq!(read(&bytes, &sealed), Ok(Some(message)));
    assert!(read(&bytes, &labelled("green", Some(&key))).is_err());
}
