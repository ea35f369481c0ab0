//! Every decoder of bandy's as a function of bytes that must return, whatever they are.
//!
//! libFuzzer calls them (`just fuzz NAME`), and `tests/it/fuzz.rs` calls them with what is in `seeds`, so that they
//! always compile and hold for that. What a target asserts is what its caller relies on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bandy::bench::{Rate, Threshold};
use bandy::cli::endpoint::{Endpoint, Pillar};
use bandy::cli::payload::Payload as Text;
use bandy::gossip::wire as gossip;
use bandy::log::batch::Batches;
use bandy::log::schema::{avro, message_path, put_message_path, unframed};
use bandy::log::wire::consumer_protocol::{Subscription, assignment_to_bytes, parse_assignment};
use bandy::log::wire::{self as kafka, AnyRequest, ApiKey};
use bandy::mq::wire as amqp;
use bandy::output::Template;
use bandy::record::{Embed, Record};
use bandy::rpc::compact::engine::{
    Caller, CallerInput, CallerLimits, CallerOutput, NewCall, Replier, ReplierInput, ReplierLimits,
    ReplierOutput,
};
use bandy::rpc::compact::wire::{self as compact, Description, Frame};
use bandy::rpc::handler::{Control, lines::Values, worker::line};
use bandy::rpc::jsonrpc::{self, Frames, Framing};
use bandy::rpc::reflection::fetch::{Fetch, Foresight};
use bandy::rpc::registry::dns::wire as dns;
use bandy::rpc::registry::{RegistryUrl, consul, definition};
use bandy::rpc::schema::{Input, Schema, raw};
use bandy::rpc::wire::{ContentType, Deframer, Encoding, connect, metadata, status, timeout, trace, web};
use bandy::rpc::{Code, Format, Payload};
use bandy::transport::Address;
use bandy::units;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use prost::Message as _;

/// A decoder and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Target] = &[
    ("envelope", envelope),
    ("http_fields", http_fields),
    ("json_rpc", json_rpc),
    ("compact_stream", compact_stream),
    ("compact_replier", compact_replier),
    ("compact_caller", compact_caller),
    ("messages", messages),
    ("schema", schema),
    ("proto_text", proto_text),
    ("reflection", reflection),
    ("registry", registry),
    ("handler", handler),
    ("command_line", command_line),
    ("amqp_frame", amqp_frame),
    ("amqp_method", amqp_method),
    ("amqp_table", amqp_table),
    ("amqp_content", amqp_content),
    ("gossip_packet", gossip_packet),
    ("gossip_stream", gossip_stream),
    ("gossip_ipc", gossip_ipc),
    ("kafka_request", kafka_request),
    ("kafka_response", kafka_response),
    ("kafka_batch", kafka_batch),
    ("kafka_values", kafka_values),
    ("kafka_group", kafka_group),
];

/// Largest message that targets with a limit allow.
const SIZE_MAX: usize = 4096;

/// Cuts `data` into pieces whose lengths its bytes say, as a network would.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = data.split_first()?;
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        Some(piece)
    })
}

/// Cuts `data` at every byte 0xff.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0xff)
}

/// gRPC, gRPC-Web and Connect: frames in chunks, and what is compressed in them.
pub fn envelope(data: &[u8]) {
    let mut deframer = Deframer::new(SIZE_MAX);
    for piece in pieces(data) {
        deframer.push(Bytes::copy_from_slice(piece));
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.data.len() <= SIZE_MAX);
                    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
                        if let Ok(message) = encoding.decompress(&frame.data, SIZE_MAX) {
                            assert!(message.len() <= SIZE_MAX);
                            let again = encoding.decompress(&encoding.compress(&message), SIZE_MAX);
                            assert_eq!(again.as_ref(), Ok(&message));
                        }
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _ = deframer.finish();
}

/// Headers, trailers, errors and queries of HTTP's protocols.
pub fn http_fields(data: &[u8]) {
    let _ = connect::decode_error(data, Code::Unknown);
    let _ = connect::decode_end(data);
    let _ = metadata::decode_binary(data);
    let _ = status::decode_message(data);
    if let Some(trailers) = web::decode_trailers(data) {
        assert_eq!(web::decode_trailers(&web::encode_trailers(&trailers)), Some(trailers.clone()));
        let (mut headers, mut stripped) = (HeaderMap::new(), trailers.clone());
        metadata::append_trailers_as_headers(&mut headers, &trailers);
        let _ = metadata::split_trailers(&mut headers);
        metadata::strip_reserved(&mut stripped);
        metadata::append(&mut headers, stripped);
        let _ = status::take_grpc(&mut trailers.clone());
    }
    let mut text = web::TextDecoder::default();
    let whole = text.push(data).and_then(|head| Ok([&head[..], &text.finish()?[..]].concat()));
    let mut text = web::TextDecoder::default();
    let cut: Result<Vec<Bytes>, _> = data.chunks(3).map(|chunk| text.push(chunk)).collect();
    let cut = cut.and_then(|head| Ok([head.concat(), text.finish()?.to_vec()].concat()));
    assert_eq!(whole.is_ok(), cut.is_ok());
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut, "where the network cuts makes no difference");
    }
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut trailers = HeaderMap::new();
        trailers.insert(status::GRPC_STATUS, HeaderValue::from_static("2"));
        trailers.insert(status::GRPC_STATUS_DETAILS, value);
        let _ = status::take_grpc(&mut trailers);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = timeout::parse_grpc(text);
        let _ = timeout::parse_connect(text);
        let _ = trace::decode(text);
        let _ = ContentType::parse(text);
        let _ = Encoding::first_accepted(text);
        let _ = connect::decode_get(text, SIZE_MAX);
    }
}

/// JSON-RPC: lines and `Content-Length`, requests and responses, params.
pub fn json_rpc(data: &[u8]) {
    let split = |chunk: usize| {
        let mut frames = Frames::new(SIZE_MAX);
        let mut documents = Vec::new();
        for piece in data.chunks(chunk) {
            frames.buffer().extend_from_slice(piece);
            while let Some(document) = frames.next_document()? {
                assert!(document.len() <= SIZE_MAX);
                documents.push(document);
            }
        }
        documents.extend(frames.finish());
        Ok::<_, jsonrpc::FrameError>((documents, frames.framing()))
    };
    let whole = split(data.len().max(1));
    if let (Ok((whole, framing)), Ok((cut, _))) = (&whole, split(7)) {
        assert_eq!(*whole, cut, "where the network cuts makes no difference");
        let mut written = Vec::new();
        for document in whole {
            framing.write(&mut written, document);
        }
        let mut frames = Frames::new(SIZE_MAX);
        frames.buffer().extend_from_slice(&written);
        if *framing == Framing::Headers {
            for document in whole {
                assert_eq!(frames.next_document(), Ok(Some(document.clone())));
            }
        }
    }
    for document in whole.iter().flat_map(|(documents, _)| documents).map(|it| &it[..]).chain([data]) {
        let _ = jsonrpc::parse_responses(document);
        let requests = match jsonrpc::parse_document(document, 16) {
            Err(refusal) => {
                let mut line = Vec::new();
                refusal.write(&mut line);
                jsonrpc::parse_responses(&line).expect("our refusal is a response");
                continue;
            }
            Ok(jsonrpc::Document::Single(one)) => vec![one],
            Ok(jsonrpc::Document::Batch(many)) => many,
        };
        for request in requests {
            let jsonrpc::Incoming::Request(request) = request else { continue };
            for name in [
                "google.protobuf.FileDescriptorProto",
                "google.protobuf.StringValue",
                "google.protobuf.Value",
            ] {
                let Some(message) = Schema::standard().message(name) else { continue };
                for streams in [false, true] {
                    let _ = jsonrpc::request_messages(&message, streams, request.params);
                }
            }
        }
    }
}

/// The compact protocol on a stream: both sides read frames this way.
pub fn compact_stream(data: &[u8]) {
    let mut buffer = BytesMut::new();
    let mut greeted = false;
    for piece in pieces(data) {
        buffer.extend_from_slice(piece);
        if !greeted {
            match compact::take_preface(&mut buffer) {
                Ok(false) => continue,
                Ok(true) => greeted = true,
                Err(_) => return,
            }
        }
        while let Ok(Some(bytes)) = compact::next_frame(&mut buffer, SIZE_MAX) {
            assert!(bytes.len() <= SIZE_MAX);
            let Ok(frame) = Frame::parse(bytes) else { return };
            let _ = compact::metadata(&frame.metadata);
            let again = Frame::from_datagram(&frame.datagram());
            assert_eq!(again.as_ref(), Ok(&frame));
            let mut out = BytesMut::new();
            frame.write(&mut out);
            let bytes = compact::next_frame(&mut out, 2 * SIZE_MAX).expect("we wrote it").expect("all of it");
            assert_eq!(Frame::parse(bytes), Ok(frame));
        }
    }
    let _ = Description::decode(data);
}

/// A start and the step of a clock that the test drives.
const STEP: Duration = Duration::from_millis(500);

/// The server's side of UDP, given any datagrams: no call is executed twice unless it may be.
pub fn compact_replier(data: &[u8]) {
    let limits =
        ReplierLimits { sessions_max: 4, running_max: 4, cache_size_max: 512, ..ReplierLimits::default() };
    let mut count = 0;
    let random = Box::new(move || {
        count += 1;
        count
    });
    let mut replier = Replier::new(limits, compact::Hello::default(), random);
    let (mut now, mut outputs) = (Instant::now(), Vec::new());
    let (mut running, mut executed) = (Vec::new(), HashSet::new());
    for (n, part) in parts(data).enumerate() {
        now += STEP;
        let input = match part.split_first() {
            None => ReplierInput::Tick,
            // The oldest running call ends.
            Some((0, rest)) if !running.is_empty() => {
                let message = Some(Bytes::copy_from_slice(rest));
                let frame = Box::new(Frame { message, ..Frame::new(compact::Kind::Reply, 0) });
                ReplierInput::Finished { run: running.remove(0), frame, lost: false }
            }
            Some(_) => match Frame::parse(Bytes::copy_from_slice(part)) {
                Ok(frame) => ReplierInput::Datagram { from: n, size: part.len(), frame: Box::new(frame) },
                Err(_) => continue,
            },
        };
        replier.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                ReplierOutput::Send { datagram, .. } => {
                    Frame::from_datagram(&datagram).expect("what is sent can be read");
                }
                ReplierOutput::Execute { run, frame, .. } => {
                    running.push(run);
                    assert!(running.len() <= limits.running_max);
                    // What may be executed again is not remembered, whatever the caller says of it later.
                    let once = frame.at_least_once || executed.insert((frame.session, frame.request));
                    assert!(once, "executed twice");
                }
                ReplierOutput::Cancel { run } => running.retain(|other| *other != run),
            }
        }
    }
}

/// The caller's side of UDP, given any answers: each call ends once.
pub fn compact_caller(data: &[u8]) {
    let mut caller = Caller::new(CallerLimits::default(), Box::new(|| 1));
    let (mut now, mut outputs) = (Instant::now(), Vec::new());
    let (mut handle, mut open) = (0, HashSet::new());
    for part in parts(data) {
        now += STEP;
        let input = match part.split_first() {
            None => CallerInput::Tick,
            Some((0, rest)) => {
                handle += 1;
                open.insert(handle);
                CallerInput::Call(NewCall {
                    handle,
                    method: 7,
                    message: Bytes::copy_from_slice(rest),
                    metadata: Vec::new(),
                    deadline: rest.first().map(|seconds| now + Duration::from_secs(u64::from(*seconds))),
                    at_least_once: rest.len() % 2 == 1,
                })
            }
            Some((1, _)) => {
                open.remove(&handle);
                CallerInput::Cancel(handle)
            }
            Some(_) => match Frame::parse(Bytes::copy_from_slice(part)) {
                Ok(frame) => CallerInput::Datagram(Box::new(frame)),
                Err(_) => continue,
            },
        };
        caller.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                CallerOutput::Send(datagram) => {
                    Frame::from_datagram(&datagram).expect("what is sent can be read");
                }
                CallerOutput::Answered(handle, _) | CallerOutput::Unanswered(handle, _) => {
                    assert!(open.remove(&handle), "it had ended, or never begun");
                }
            }
        }
    }
    assert!(open.is_empty() || caller.deadline().is_some(), "a call that waits for nothing");
}

/// Messages of known types: bytes to JSON and JSON to bytes; what is printed can be read.
pub fn messages(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let data = Bytes::copy_from_slice(data);
    let schema = Schema::standard();
    let messages = schema.pool().messages();
    let name = messages[usize::from(which) % messages.len()].full_name();
    let Some(message) = schema.message(name) else { return };
    let _ = message.convert(&Payload::json(data.clone()), Format::Proto);
    if let Ok(json) = message.convert(&Payload::proto(data.clone()), Format::Json) {
        message.convert(&Payload::json(json), Format::Proto).expect("what is printed can be read");
    }
    if let Ok(json) = raw::to_json(&data) {
        serde_json::from_str::<serde_json::Value>(&json).expect("what is printed is JSON");
    }
}

/// Descriptor sets as a peer may send them: linked or refused, and used in every way if linked.
pub fn schema(data: &[u8]) {
    let Ok(schema) = Schema::from_descriptor_set(data) else { return };
    use_all(&schema);
}

fn use_all(schema: &Schema) {
    for file in schema.pool().files() {
        let _ = schema.print_file(file.name.as_deref().unwrap_or(""));
    }
    for message in schema.pool().messages() {
        let Some(message) = schema.message(message.full_name()) else { continue };
        let example = message.example().to_string();
        let _ = message.json_schema();
        let _ = message.convert(&Payload::json(example), Format::Proto);
    }
    let _ = schema.methods().count();
    let _ = Schema::from_descriptor_set(&schema.descriptor_set());
}

/// `.proto` text: compiled or refused with a place, and used if compiled.
pub fn proto_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let input = Input::Text { name: "fuzz.proto".to_owned(), text: text.to_owned() };
    match Schema::compile_inputs(&[input], &[]) {
        Ok(schema) => use_all(&schema),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What a server answers to reflection's questions.
pub fn reflection(data: &[u8]) {
    let foresight =
        Foresight { symbols: vec!["a.A".to_owned()], files: vec!["a.proto".to_owned()], alpha: false };
    let guessing = Fetch::everything().foreseeing(&foresight);
    for mut fetch in [Fetch::everything(), Fetch::symbols(["a.A"]), guessing] {
        for part in parts(data) {
            while let Ok(Some(_)) = fetch.next_request() {}
            if fetch.on_response(Bytes::copy_from_slice(part)).is_err() {
                break;
            }
        }
        if let Ok(fetched) = fetch.finish() {
            use_all(&fetched.schema);
        }
    }
}

/// What a Consul agent or a name server answers, what servers register, and URLs of registries.
pub fn registry(data: &[u8]) {
    if let Ok((instances, _)) = consul::parse(data, "grpc") {
        for instance in instances {
            assert!(instance.url.contains("://"));
        }
    }
    let _ = definition::parse(data);
    for kind in [dns::Kind::Ipv4, dns::Kind::Ipv6, dns::Kind::Service] {
        let question = dns::question(7, "a.test", kind).expect("it is a name");
        let _ = dns::reply(data, &question, kind);
        // Behind a header that promises four records, and the question.
        let mut answer = question.clone();
        (answer[2], answer[7]) = (0x81, 4);
        answer.extend_from_slice(data);
        let _ = dns::reply(&answer, &question, kind);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<RegistryUrl>();
    }
}

/// What handlers print: values, a worker's lines, the control file.
pub fn handler(data: &[u8]) {
    let split = |chunk: usize| {
        let mut values = Values::new(SIZE_MAX);
        let mut all = Vec::new();
        for piece in data.chunks(chunk) {
            values.buffer().extend_from_slice(piece);
            while let Some(value) = values.next_value()? {
                all.push(value);
            }
        }
        while let Some(value) = values.rest()? {
            all.push(value);
        }
        Ok::<_, bandy::rpc::handler::lines::TooLong>(all)
    };
    let whole = split(data.len().max(1));
    assert_eq!(whole, split(5), "where the pipe cuts makes no difference");
    for value in whole.iter().flatten() {
        let _ = line::parse(value);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Control::parse(text, Schema::standard());
    }
}

/// What a user writes: records, templates, payloads with blanks, endpoints, numbers with units.
pub fn command_line(data: &[u8]) {
    if let Ok(record) = Record::from_json(data) {
        let mut line = Vec::new();
        record.write_json(Embed::Never, &mut line);
        assert!(!line.contains(&b'\n'));
        // Headers of one name are put together, and a topic may be a number that loses its last digit.
        let again = Record::from_json(&line).expect("we wrote it");
        assert_eq!(
            (again.key, again.value, again.timestamp, again.headers.len()),
            (record.key.clone(), record.value.clone(), record.timestamp, record.headers.len())
        );
        let _ = bandy::exec::variables(&record);
    }
    if let Ok(payload) = Text::parse(data) {
        let _ = payload.fill(1, jiff::Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(1));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Template::parse(text, || jiff::tz::TimeZone::UTC);
    let _ = Endpoint::parse(Pillar::Rpc, text).map(|endpoint| endpoint.addresses());
    let _ = text.parse::<Address>();
    let _ = text.parse::<Rate>();
    let _ = text.parse::<Threshold>();
    let _ = units::parse_duration(text);
    let _ = units::parse_size(text);
    let _ = units::parse_count(text);
    let _ = units::parse_percent(text);
    let _ = bandy::cli::endpoint::mask(text);
}

/// AMQP frames: what is taken is written again to the same bytes, and what is split off a buffer is whole frames.
pub fn amqp_frame(data: &[u8]) {
    let _ = amqp::frame::protocol(data);
    for frame_max in [0, 4096] {
        assert!(amqp::frame::whole(data, frame_max) <= data.len());
        if let Ok(Some(found)) = amqp::frame::decode(data, frame_max) {
            let size = u32::try_from(found.payload.len()).expect("its header says it in four bytes");
            let mut again = amqp::frame_header(found.kind, found.channel, size).to_vec();
            again.extend_from_slice(found.payload);
            again.push(amqp::frame::END);
            assert_eq!(again, data[..found.size()]);
        }
    }
}

/// AMQP methods: what decodes is encoded to bytes that decode to the same, and errors have texts that fit.
pub fn amqp_method(data: &[u8]) {
    match amqp::Method::decode(data) {
        Ok(method) => {
            let mut again = Vec::new();
            method.encode(&mut again);
            assert_eq!(amqp::Method::decode(&again), Ok(method));
            let _ = format!("{method:?}");
        }
        Err(error) => assert!(error.reply_text().len() <= 255),
    }
}

/// AMQP field tables and properties: read, written, changed, read again.
pub fn amqp_table(data: &[u8]) {
    if let Ok(table) = amqp::Table::parse(data) {
        let mut again = amqp::TableBuf::new();
        table.iter().for_each(|(name, value)| again.push(name, value));
        assert_eq!(again.as_table().as_bytes().len(), data.len());
        assert!(amqp::Table::parse(again.as_table().as_bytes()).is_ok());
        again.set("x-death", amqp::Value::Void);
        assert_eq!(again.as_table().get("x-death"), Some(amqp::Value::Void));
        again.remove("x-death");
        assert_eq!(again.as_table().get("x-death"), None);
    }
    if let Ok(fields) = amqp::Properties::parse(data).and_then(|properties| properties.fields()) {
        assert_eq!(fields.to_vec(), data);
    }
}

/// AMQP methods and messages: the same ones wherever the network cuts, and no body over the limit.
pub fn amqp_content(data: &[u8]) {
    let whole: Vec<u8> = pieces(data).flatten().copied().collect();
    assert_eq!(amqp_events(pieces(data)), amqp_events(std::iter::once(whole.as_slice())));
}

/// Events in words, with the error at the end if there is one.
fn amqp_events<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut assembler = amqp::Assembler::new(SIZE_MAX as u32, SIZE_MAX as u64);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        let mut input = buffer.as_slice();
        loop {
            match assembler.next(&mut input) {
                Ok(Some(amqp::Event::Content { channel, content })) => {
                    assert!(content.body.len() <= SIZE_MAX);
                    let _ = amqp::Properties::parse(&content.properties);
                    let (properties, body) = (&*content.properties, &*content.body);
                    seen.push(format!("{channel} {:?} {properties:?} {body:?}", content.method()));
                }
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.reply_text());
                    return seen;
                }
            }
        }
        buffer = input.to_vec();
    }
    seen
}

/// Gossip's datagrams: what is understood is written again to something that is understood, and means the same.
pub fn gossip_packet(data: &[u8]) {
    let key = gossip::Keyring::new(&[7; 32]).expect("32 bytes are a key");
    for keyring in [None, Some(key)] {
        let wrapping = gossip::Wrapping { label: "".into(), keyring };
        for message in gossip::Packet::decode(data, &wrapping).messages {
            let layers = gossip::Layers { checksum: true, compress: true, nonce: [1; 12] };
            let again = gossip::encode(std::slice::from_ref(&message), &wrapping, layers);
            let packet = gossip::Packet::decode(&again, &wrapping);
            assert_eq!((packet.fault, packet.messages.len()), (None, 1));
            // What is passed on as it came may hold what we do not know of, and numbers that are not equal to themselves.
            if !format!("{message:?}").contains("NaN") {
                assert_eq!(packet.messages, [message]);
            }
        }
    }
    for filter in data.chunks(16) {
        let _ = gossip::Filter::decode(filter);
    }
    let _ = gossip::Coordinate::decode(data);
    let _ = gossip::KeyResponse::decode(data);
    let _ = gossip::Conflict::decode(data);
    assert!(gossip::decode_tags(data).len() <= 256);
}

/// Gossip's streams: the same message wherever the network cuts.
pub fn gossip_stream(data: &[u8]) {
    let wrapping = gossip::Wrapping::default();
    let read = |chunk: usize| {
        let mut decoder = gossip::StreamDecoder::default();
        for piece in data.chunks(chunk) {
            decoder.push(piece)?;
            if let Some(message) = decoder.next_message(&wrapping)? {
                return Ok(Some(message));
            }
        }
        Ok::<_, gossip::StreamError>(None)
    };
    let whole = read(data.len().max(1));
    match (&whole, read(3)) {
        // How much is missing depends on where it was cut.
        (Err(_), Err(_)) => {}
        (whole, pieces) => assert_eq!(*whole, pieces),
    }
    if let Ok(Some(message)) = whole {
        let bytes = message.encode(&wrapping, [1; 12]);
        let mut decoder = gossip::StreamDecoder::default();
        decoder.push(&bytes).expect("it is not longer than it was");
        let again = decoder.next_message(&wrapping).expect("we wrote it").expect("all of it");
        if let (gossip::StreamMessage::PushPull(a), gossip::StreamMessage::PushPull(b)) = (&again, &message) {
            assert_eq!((a.nodes.len(), a.join), (b.nodes.len(), b.join));
        }
    }
}

/// Kafka: the header of a request and its message, as a broker reads them.
pub fn kafka_request(data: &[u8]) {
    let mut reader = kafka::Reader::new(Bytes::copy_from_slice(data), 0, false);
    let Ok(header) = kafka::RequestHeader::read(&mut reader) else { return };
    let Some(key) = ApiKey::from_code(header.api_key) else { return };
    if let Ok(request) = AnyRequest::decode(key, reader) {
        assert_eq!(request.key(), key);
        assert!(key.versions().contains(header.version), "only known versions are read");
    }
}

/// Kafka: a response, its API and version before it, as a client reads them.
pub fn kafka_response(data: &[u8]) {
    let [key, version, frame @ ..] = data else { return };
    let Some(key) = ApiKey::from_code((*key).into()) else { return };
    let _ = key.check_response((*version).into(), Bytes::copy_from_slice(frame));
}

/// Kafka: the record batches of a fetch, packed or not.
pub fn kafka_batch(data: &[u8]) {
    for batch in Batches::new(Bytes::copy_from_slice(data)) {
        let Ok(batch) = batch else { return };
        let _ = batch.marker();
        let mut count = 0;
        for record in batch.records().map_while(Result::ok) {
            std::hint::black_box(record.headers.iter().count());
            count += 1;
        }
        assert!(count <= batch.header.count as usize);
    }
}

/// What members of a group tell each other means the same when it is written again; so do values of Avro.
pub fn kafka_values(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(subscription) = Subscription::parse(&bytes) {
        assert_eq!(Subscription::parse(&subscription.to_bytes()).ok(), Some(subscription));
    }
    if let Ok(assignment) = parse_assignment(&bytes) {
        assert_eq!(parse_assignment(&assignment_to_bytes(0, &assignment)).ok(), Some(assignment));
    }
    if let Some((path, rest)) = message_path(data) {
        let mut again = Vec::new();
        put_message_path(&path, &mut again);
        assert_eq!(message_path(&[&again, rest].concat()), Some((path, rest)));
    }
    let schema = avro::Schema::parse(AVRO, &[]).expect("a schema");
    let (_, value) = unframed(data).unwrap_or((0, data));
    if let Ok(value) = schema.decode(value) {
        let mut again = Vec::new();
        schema.encode(&value, &mut again).expect("what was read can be written");
        assert_eq!(schema.decode(&again).expect("what was written can be read"), value);
    }
}

/// A schema with everything but decimals, of which some bytes mean the same.
const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"]},
    {"name":"c","type":{"type":"enum","name":"E","symbols":["X","Y"]}},{"name":"d","type":{"type":"array","items":"int"}},
    {"name":"e","type":{"type":"map","values":"bytes"}},{"name":"f","type":{"type":"fixed","name":"F","size":2}},
    {"name":"g","type":["null","R"]},{"name":"h","type":"double"},{"name":"i","type":"float"},{"name":"j","type":"boolean"}]}"#;

/// Kafka's groups: what consumers say inside of the group protocol, and the records in which groups are kept. The first byte is the
/// length of a record's key.
pub fn kafka_group(data: &[u8]) {
    use bandy::log::engine::Now;
    use bandy::log::engine::group::{Catalog, Config, Expression, Groups, Join, Record, Restored};
    struct Topics;
    impl Catalog for Topics {
        fn version(&self) -> u64 {
            1
        }
        fn topic(&self, name: &str) -> Option<(kafka::Uuid, i32)> {
            (name == "t").then_some((kafka::Uuid([1; 16]), 4))
        }
        fn by_id(&self, _: kafka::Uuid) -> Option<(String, i32)> {
            Some(("t".to_owned(), 4))
        }
        fn found(&self, expression: &str) -> Option<Vec<String>> {
            let expression = Expression::compile(expression).ok()?;
            Some(expression.fits("t").then(|| "t".to_owned()).into_iter().collect())
        }
    }
    let Some((len, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at_checked(usize::from(*len)).unwrap_or((rest, &[]));
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    let mut groups = Groups::new(now, Config::default(), fastrand::Rng::with_seed(1));
    for value in [Some(value), None] {
        let Ok(Restored::Record(record)) = Record::decode(key, value) else { continue };
        let (again, written) = record.encode();
        assert_eq!(Record::decode(&again, written.as_deref()), Ok(Restored::Record(record.clone())));
        groups.restore(now, record, None);
    }
    groups.restored(now);
    // As a member's subscription, in a classic group and in one of the next generation.
    let mut out = Vec::new();
    for group in ["classic", "next"] {
        if group == "next" {
            let beat = bandy::log::engine::group::Beat {
                group: group.to_owned(),
                member_id: "n".to_owned(),
                epoch: 0,
                instance_id: None,
                rack_id: None,
                client_id: String::new(),
                client_host: String::new(),
                rebalance_timeout_ms: Some(1000),
                topics: Some(vec!["t".to_owned()]),
                regex: None,
                assignor: None,
                owned: None,
                is_given_id: false,
            };
            groups.beat(now, &beat, &Topics, &mut out);
        }
        let join = Join {
            group: group.to_owned(),
            member_id: String::new(),
            instance_id: None,
            client_id: "c".to_owned(),
            client_host: String::new(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::copy_from_slice(rest))],
            needs_member_id: false,
            can_skip_assignment: false,
        };
        groups.join(now, 1, join, &Topics, &mut out);
    }
}

/// Serf's agent protocol: a request is written again to one that means the same, and replies are bounded.
pub fn gossip_ipc(data: &[u8]) {
    use gossip::ipc;
    use gossip::msgpack::Reader;
    if let Ok((sequence, Ok(request))) = ipc::Request::read(&mut Reader::new(data)) {
        let mut again = Vec::new();
        request.write(sequence, &mut again);
        assert_eq!(ipc::Request::read(&mut Reader::new(&again)), Ok((sequence, Ok(request))));
    }
    let mut reader = Reader::new(data);
    if ipc::read_header(&mut reader).is_ok() {
        let _ = ipc::read_members(&mut reader.clone());
        let _ = ipc::read_stats(&mut reader.clone());
        let _ = ipc::read_data(&mut reader.clone());
        let _ = ipc::read_coordinate(&mut reader.clone());
        let _ = ipc::StreamRecord::read(&mut reader.clone());
        let _ = ipc::QueryRecord::read(&mut reader.clone());
        let _ = ipc::KeysReply::read(&mut reader);
    }
    assert!(reader.position() <= data.len());
}
