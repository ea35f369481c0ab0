//! Round trips, garbage and golden bytes over the whole of the wire room.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::method::{Long, basic, connection, queue};
use super::*;

/// A value that owns what it holds.
#[derive(Debug, Clone)]
enum Item {
    /// A letter of a type with eight bytes or fewer, and the bytes.
    Plain(Value<'static>),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Array(Vec<Item>),
    Table(Vec<(String, Item)>),
}

impl Item {
    fn give(&self, take: &mut dyn FnMut(Value<'_>)) {
        match self {
            Self::Plain(value) => take(*value),
            Self::Text(bytes) => take(Value::Text(bytes)),
            Self::Bytes(bytes) => take(Value::Bytes(bytes)),
            Self::Array(items) => {
                let mut array = ArrayBuf::new();
                items.iter().for_each(|item| item.give(&mut |value| array.push(value)));
                take(Value::Array(array.as_array()))
            }
            Self::Table(entries) => take(Value::Table(written(entries).as_table())),
        }
    }
}

fn written(entries: &[(String, Item)]) -> TableBuf {
    let mut table = TableBuf::new();
    entries.iter().for_each(|(name, item)| item.give(&mut |value| table.push(name, value)));
    table
}

/// Entries of any type, nested at random.
fn table() -> impl Strategy<Value = TableBuf> {
    let plain = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<i64>().prop_map(Value::L64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<u64>().prop_map(Value::Timestamp),
        any::<(u8, u32)>().prop_map(|(scale, value)| Value::Decimal { scale, value }),
        Just(Value::Void),
    ];
    let leaf = prop_oneof![
        4 => plain.prop_map(Item::Plain),
        1 => vec(any::<u8>(), 0..20).prop_map(Item::Text),
        1 => vec(any::<u8>(), 0..20).prop_map(Item::Bytes),
    ];
    let item = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Item::Array),
            vec(("[a-z]{0,3}", inner), 0..3).prop_map(Item::Table),
        ]
    });
    vec(("[a-c]{0,2}|.{0,4}", item), 0..5).prop_map(|entries| written(&entries))
}

/// All events of bytes that come in these pieces, printed; and the error if there is one.
fn events(mut bytes: &[u8], cuts: &[usize], frame_max: u32) -> (Vec<String>, Option<Error>) {
    let mut assembler = Assembler::new(frame_max, 1 << 20);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    let mut cuts = cuts.iter().copied();
    loop {
        let (piece, rest) =
            bytes.split_at(cuts.next().unwrap_or(bytes.len()).clamp(1, bytes.len().max(1)).min(bytes.len()));
        bytes = rest;
        buffer.extend_from_slice(piece);
        let mut input = buffer.as_slice();
        loop {
            match assembler.next(&mut input) {
                Ok(Some(event)) => seen.push(show(&event)),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        buffer = input.to_vec();
        if bytes.is_empty() {
            return (seen, None);
        }
    }
}

/// The same words however the bytes were cut.
fn show(event: &Event<'_>) -> String {
    match event {
        Event::Content { channel, content } => {
            format!("{channel} {:?} {:?} {:?}", content.method(), &*content.properties, &*content.body)
        }
        Event::Heartbeat | Event::Method { .. } | Event::Oversized { .. } => format!("{event:?}"),
    }
}

/// A few frames that make sense, for garbage to start from.
fn conversation(body: &[u8], headers: &TableBuf, frame_max: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let declare =
        queue::Declare { queue: "q", durable: true, arguments: headers.as_table(), ..Default::default() };
    method(&mut out, 1, &declare.into());
    heartbeat(&mut out);
    let publish =
        basic::Publish { exchange: "x", routing_key: b"a.\xff", mandatory: true, ..Default::default() };
    let properties =
        Fields { headers: Some(headers.as_table()), delivery_mode: Some(2), ..Default::default() };
    content(&mut out, 1, &publish.into(), &properties.to_vec(), body, frame_max);
    let ack = basic::Ack { delivery_tag: 7, multiple: true };
    method(&mut out, 2, &ack.into());
    out
}

proptest! {
    #[test]
    fn tables_read_as_they_were_written(table in table()) {
        let parsed = Table::parse(table.as_table().as_bytes()).unwrap();
        prop_assert_eq!(parsed.as_bytes(), table.as_table().as_bytes());
        let mut again = TableBuf::new();
        parsed.iter().for_each(|(name, value)| again.push(name, value));
        prop_assert_eq!(again.as_table().as_bytes(), parsed.as_bytes());
    }

    #[test]
    fn a_changed_header_leaves_the_others(table in table(), name in "[a-z]{1,3}") {
        let others = |table: &TableBuf| -> Vec<String> {
            let others = table.as_table();
            others.iter().filter(|(key, _)| *key != name.as_bytes()).map(|entry| format!("{entry:?}")).collect()
        };
        let mut changed = table.clone();
        changed.set(&name, Value::I32(5));
        changed.set(&name, Value::Bool(true));
        prop_assert_eq!(changed.as_table().get(&name), Some(Value::Bool(true)));
        prop_assert_eq!(changed.as_table().iter().filter(|(key, _)| *key == name.as_bytes()).count(), 1);
        prop_assert_eq!(others(&changed), others(&table));
        changed.remove(&name);
        prop_assert_eq!(changed.as_table().get(&name), None);
        prop_assert_eq!(others(&changed), others(&table));
    }

    #[test]
    fn events_are_the_same_however_bytes_are_cut(
        body in vec(any::<u8>(), 0..300), table in table(), frame_max in 16u32..400, cuts in vec(1usize..60, 0..200),
    ) {
        let bytes = conversation(&body, &table, frame_max);
        let (whole, error) = events(&bytes, &[], 0);
        prop_assert_eq!(error, None);
        prop_assert_eq!(whole.len(), 4);
        prop_assert_eq!(events(&bytes, &cuts, 0), (whole, None));
    }

    #[test]
    fn bytes_that_rot_never_panic_and_mean_the_same_however_cut(
        table in table(), rot in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cuts in vec(1usize..60, 0..200),
    ) {
        let mut bytes = conversation(b"body", &table, 4096);
        rot.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
        prop_assert_eq!(events(&bytes, &cuts, 4096), events(&bytes, &[], 4096));
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Method::decode(&bytes);
        let _ = frame::decode(&bytes, 4096);
        if let Ok(table) = Table::parse(&bytes) {
            let _ = format!("{table:?}");
        }
        if let Ok(fields) = Properties::parse(&bytes).and_then(|properties| properties.fields()) {
            prop_assert_eq!(fields.to_vec(), bytes);
        }
    }

    #[test]
    fn methods_that_decode_encode_to_the_same_bytes(
        class in prop::sample::select(vec![10u16, 20, 30, 40, 50, 60, 85, 90]), id in 10u16..122, rest in vec(any::<u8>(), 0..40),
    ) {
        let mut payload = [class.to_be_bytes(), id.to_be_bytes()].concat();
        payload.extend(rest);
        if let Ok(method) = Method::decode(&payload) {
            let mut out = Vec::new();
            method.encode(&mut out);
            prop_assert_eq!(Method::decode(&out).unwrap(), method);
            prop_assert_eq!(out.len(), payload.len());
        }
    }

    #[test]
    fn properties_read_as_they_were_written(
        texts in prop::array::uniform10(prop::option::of(vec(any::<u8>(), 0..30))), table in prop::option::of(table()),
        delivery_mode: Option<u8>, priority: Option<u8>, timestamp: Option<u64>,
    ) {
        let [a, b, c, d, e, f, g, h, i, j] = texts.each_ref().map(|text| text.as_deref());
        let fields = Fields {
            content_type: a, content_encoding: b, headers: table.as_ref().map(TableBuf::as_table), delivery_mode, priority,
            correlation_id: c, reply_to: d, expiration: e, message_id: f, timestamp, kind: g, user_id: h, app_id: i,
            cluster_id: j,
        };
        let bytes = fields.to_vec();
        let properties = Properties::parse(&bytes).unwrap();
        prop_assert_eq!(properties.fields().unwrap(), fields);
        for cut in 0..bytes.len() {
            prop_assert!(Properties::parse(&bytes[..cut]).is_err(), "{}", cut);
        }
    }
}

#[test]
fn nested_tables_stop_at_the_limit() {
    let nested = |levels: usize, array: bool| {
        let mut bytes = Vec::new();
        for level in 0..levels {
            let named = level + 1 == levels || !array;
            let mut outer = if named { vec![0] } else { Vec::new() };
            outer.push(if array { b'A' } else { b'F' });
            outer.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            outer.append(&mut bytes);
            bytes = outer;
        }
        bytes
    };
    for array in [false, true] {
        assert!(Table::parse(&nested(TABLE_DEPTH_MAX - 1, array)).is_ok());
        for levels in [TABLE_DEPTH_MAX, 10_000] {
            let error = Table::parse(&nested(levels, array)).unwrap_err();
            assert_eq!(
                error.reply_text(),
                "SYNTAX_ERROR - malformed field table: nested deeper than 64 levels"
            );
        }
    }
}

#[test]
fn a_value_does_not_reach_beyond_its_table() {
    // {"a": {…5 bytes…}} where the inner text is longer than the inner table, but not than the outer.
    let bytes = b"\x01aF\0\0\0\x08\x01bS\0\0\0\x05hello";
    assert!(Table::parse(bytes).is_err());
    // An inner table longer than the outer one it stands in.
    let bytes = b"\x01aF\0\0\0\x07\x01bF\0\0\0\x05hello";
    assert!(Table::parse(bytes).is_err());
}

macro_rules! recorded {
    ($file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/amqp/", $file))
    };
}

/// Lines of a name and bytes, made by `tests/golden/amqp/make.py` with pamqp.
fn golden(text: &str) -> Vec<(String, Vec<u8>)> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let hex = |hex: &str| -> Vec<u8> { hex.as_bytes().chunks(2).map(byte).collect() };
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, bytes)| (name.to_owned(), hex(bytes)))
        .collect()
}

#[test]
fn methods_are_written_as_pamqp_writes_them() {
    let golden = golden(recorded!("methods.txt"));
    assert!(golden.len() > 60, "{}", golden.len());
    for (name, bytes) in &golden {
        let frame = frame::decode(bytes, 0).unwrap().unwrap();
        let decoded = Method::decode(frame.payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        let squeezed = |name: &str| name.to_lowercase().replace(['-', '.'], "");
        assert_eq!(squeezed(decoded.name()), squeezed(name));
        assert_eq!(method::name_of(decoded.id().0, decoded.id().1), Some(decoded.name()));
        let mut out = Vec::new();
        super::method(&mut out, frame.channel, &decoded);
        assert_eq!(&out, bytes, "{name}");
    }
}

#[test]
fn fields_are_where_pamqp_puts_them() {
    let golden = golden(recorded!("methods.txt"));
    let decode = |name: &str| {
        let (_, bytes) = golden.iter().find(|(found, _)| found == name).unwrap();
        Method::decode(frame::decode(bytes, 0).unwrap().unwrap().payload).unwrap()
    };
    let Method::QueueDeclare(declare) = decode("Queue.Declare") else { panic!() };
    let table = declare.arguments;
    assert_eq!(table.get("x-max-length").and_then(|value| value.as_integer()), Some(5));
    assert_eq!(format!("{:?}", table.get("a")), "Some(Array([I8(1), Text([116, 119, 111]), Void]))");
    assert_eq!(table.get("d"), Some(Value::F32(1.5)));
    let bits = [declare.passive, declare.durable, declare.exclusive, declare.auto_delete, declare.nowait];
    assert_eq!((declare.queue, bits), ("näme.1", [true; 5]));
    let expected = basic::Deliver {
        consumer_tag: "näme.1",
        delivery_tag: (1 << 40) + 1,
        redelivered: true,
        exchange: "amq.topic",
        routing_key: b"a.b",
    };
    assert_eq!(decode("Basic.Deliver"), expected.into());
    let expected = connection::SecureOk { response: Long(b"PLAIN AMQPLAIN") };
    assert_eq!(decode("Connection.SecureOk"), expected.into());
    let expected = connection::Tune { channel_max: 513, frame_max: 70_000, heartbeat: 513 };
    assert_eq!(decode("Connection.Tune"), expected.into());
}

#[test]
fn properties_are_written_as_pamqp_writes_them() {
    for (name, bytes) in golden(recorded!("contents.txt")) {
        let decoded = frame::decode(&bytes, 0).unwrap().unwrap();
        if decoded.kind != Kind::Header {
            continue;
        }
        let (fixed, rest) = decoded.payload.split_first_chunk::<12>().unwrap();
        let fields = Properties::parse(rest).unwrap().fields().unwrap();
        assert_eq!(fields.to_vec(), rest, "{name}");
        if name == "all" {
            assert_eq!(fixed, b"\0\x3c\0\0\0\0\0\x02\0\0\0\0");
            assert_eq!(fields.kind, Some(b"t".as_slice()));
            assert_eq!((fields.timestamp, fields.priority), (Some(1_767_312_000), Some(7)));
        }
    }
}

/// What RabbitMQ says to frames that have no place, as recorded in `errors-rabbitmq-3.10.8.txt`.
#[test]
fn frames_out_of_place_are_refused_in_rabbitmqs_words() {
    let golden = recorded!("errors-rabbitmq-3.10.8.txt");
    let header = |class: u16, body_size: u64| {
        let mut bytes = Vec::new();
        write::header(&mut bytes, 1, class, &[0, 0], body_size);
        bytes
    };
    let mut publish = Vec::new();
    method(&mut publish, 1, &basic::Publish { routing_key: b"q", ..Default::default() }.into());
    let published = |body_size: u64| [publish.clone(), header(60, body_size)].concat();
    let mut interrupted = publish.clone();
    method(&mut interrupted, 1, &queue::Declare { queue: "q9", ..Default::default() }.into());
    for (case, bytes) in [
        ("heartbeat on ch 1", b"\x08\0\x01\0\0\0\0\xce".to_vec()),
        ("body frame without publish", b"\x03\0\x01\0\0\0\x01x\xce".to_vec()),
        ("header frame without publish", header(60, 1)),
        ("method in the middle of content", interrupted),
        ("bad frame end", b"\x08\0\0\0\0\0\0\xcd".to_vec()),
        ("unknown frame type 9", b"\x09\0\x01\0\0\0\0\xce".to_vec()),
        ("frame larger than frame_max", b"\x03\0\x01\0\x03\x0d\x40".to_vec()),
        ("truncated queue.declare args", b"\x01\0\x01\0\0\0\x06\0\x32\0\x0a\0\0\xce".to_vec()),
    ] {
        let line = golden.lines().find(|line| line.starts_with(&format!("{case} "))).unwrap();
        let (_, expected) = line.split_once("| ").unwrap();
        let error = events(&bytes, &[], FRAME_SIZE_DEFAULT).1.unwrap();
        let (class, method) = error.failing_method();
        let got = format!(
            "Connection.Close {} \"{}\" class={class} method={method} (ch 0)",
            error.code().number(),
            error.reply_text()
        );
        assert_eq!(got, expected, "{case}");
    }
    // Not in the recording, as RabbitMQ does not answer: from its source, rabbit_command_assembler.
    let mut overrun = published(1);
    overrun.extend(b"\x03\0\x01\0\0\0\x03xxx\xce");
    let other_class = [publish.clone(), header(90, 1)].concat();
    for (bytes, expected) in [
        (overrun, "FRAME_ERROR - content body frame exceeds remaining content size"),
        (
            published(u64::MAX),
            "FRAME_ERROR - content body size 18446744073709551615 exceeds maximum allowed size 536870912",
        ),
        (
            other_class,
            "UNEXPECTED_FRAME - expected content header for class 60, got one for class 90 instead",
        ),
        (b"\x01\0\x01\0\0\0\x04\0\x63\0\x0a\xce".to_vec(), "COMMAND_INVALID - unknown method 99.10"),
        (
            b"\x02\0\0\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0\xce".to_vec(),
            "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,0,0,0>>",
        ),
    ] {
        assert_eq!(events(&bytes, &[], FRAME_SIZE_DEFAULT).1.unwrap().reply_text(), expected);
    }
}

#[test]
fn contents_of_channels_may_be_interleaved() {
    let whole = |channel: u16, body: &[u8]| {
        let mut bytes = Vec::new();
        let deliver = basic::Deliver { delivery_tag: channel.into(), ..Default::default() };
        content(&mut bytes, channel, &deliver.into(), &[0, 0], body, 12);
        bytes
    };
    let cut = |mut bytes: &[u8]| {
        let mut frames = Vec::new();
        while let Some(frame) = frame::decode(bytes, 0).unwrap() {
            frames.push(bytes[..frame.size()].to_vec());
            bytes = &bytes[frame.size()..];
        }
        frames
    };
    let (one, two) = (cut(&whole(1, b"one one one")), cut(&whole(2, b"two two two")));
    let mixed: Vec<u8> = one.iter().zip(&two).flat_map(|(one, two)| [one.as_slice(), two].concat()).collect();
    let (seen, error) = events(&mixed, &[], 0);
    assert_eq!(error, None);
    assert!(seen[0].starts_with("1 BasicDeliver") && seen[1].starts_with("2 BasicDeliver"), "{seen:?}");
}

#[test]
fn an_oversized_body_is_read_and_not_kept() {
    let mut assembler = Assembler::new(0, 10);
    let mut bytes = Vec::new();
    let publish = basic::Publish::default();
    content(&mut bytes, 1, &publish.into(), &[0, 0], &[7; 11], 12);
    content(&mut bytes, 1, &publish.into(), &[0, 0], &[7; 10], 12);
    let mut input = bytes.as_slice();
    assert_eq!(assembler.next(&mut input), Ok(Some(Event::Oversized { channel: 1, body_size: 11 })));
    let Ok(Some(Event::Content { content, .. })) = assembler.next(&mut input) else { panic!() };
    assert_eq!(&*content.body, [7; 10]);
    assert_eq!(assembler.next(&mut input), Ok(None));
}

#[test]
fn what_a_header_announces_is_not_allocated() {
    let mut assembler = Assembler::new(0, BODY_SIZE_MAX);
    let mut bytes = Vec::new();
    method(&mut bytes, 1, &basic::Publish::default().into());
    write::header(&mut bytes, 1, 60, &[0, 0], BODY_SIZE_MAX);
    bytes.extend(b"\x03\0\x01\0\0\0\x01x\xce");
    assert_eq!(assembler.next(&mut bytes.as_slice()), Ok(None));
    assert_eq!(assembler.pending_bytes(), 1);
    let reserved: usize = assembler.reserved();
    assert!(reserved <= 128 * 1024, "{reserved}");
}

#[test]
fn a_body_in_one_chunk_is_shared_and_not_copied() {
    let mut bytes = Vec::new();
    content(&mut bytes, 1, &basic::Publish::default().into(), &[0, 0], b"hello", 0);
    let chunk = Bytes::from(bytes);
    let mut input = &chunk[..];
    let Ok(Some(Event::Content { content, .. })) = Assembler::new(0, 100).next(&mut input) else { panic!() };
    let shared = content.body.share(&chunk);
    assert_eq!(shared.as_ptr(), content.body.as_ptr());
    assert_ne!(content.body.keep().as_ptr(), content.body.as_ptr());
}

#[test]
fn names_that_do_not_fit_are_told_before_and_cut_after() {
    let long = "x".repeat(256);
    assert_eq!(short(&long), Err(TooLong { length: 256 }));
    let mut out = Vec::new();
    method(&mut out, 1, &queue::Declare { queue: &long, ..Default::default() }.into());
    let payload = frame::decode(&out, 0).unwrap().unwrap().payload;
    let Ok(Method::QueueDeclare(declare)) = Method::decode(payload) else { panic!() };
    assert_eq!(declare.queue, "x".repeat(255));
}
