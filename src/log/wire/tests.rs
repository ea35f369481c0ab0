//! Messages as bytes and back: every API in every version, cut short, damaged and absurd.

use bytes::Bytes;
use proptest::prelude::*;

use super::api::for_each_api;
use super::*;

fn round_trip<R: Request>(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let request = R::sample(&mut rng, version);
        let frame = encode_request(&request, version, 7, Some("me")).unwrap();
        assert_eq!(frame.len(), frame.to_bytes().len());
        let frame = frame.to_bytes();
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
        let mut reader = Reader::new(frame.slice(4..), 0, false);
        let header = RequestHeader::read(&mut reader).unwrap();
        let client_id = Some("me".to_owned());
        let expected = RequestHeader { api_key: R::KEY as i16, version, correlation_id: 7, client_id };
        assert_eq!(header, expected);
        assert_eq!(decode_request::<R>(reader).unwrap(), request, "{} {version}", R::KEY);

        let response = R::Response::sample(&mut rng, version);
        let frame = encode_response::<R>(&response, version, 7).unwrap().to_bytes().slice(4..);
        assert_eq!(correlation_id(&frame), Ok(7));
        assert_eq!(decode_response::<R>(frame, version).unwrap(), (7, response), "{} {version}", R::KEY);
    }
}

/// Every beginning of a message is an error and nothing worse.
fn cut_short<R: Request>(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let request = encode_request(&R::sample(&mut rng, version), version, 7, None).unwrap().to_bytes();
        let response = R::Response::sample(&mut rng, version);
        let response = encode_response::<R>(&response, version, 7).unwrap().to_bytes().slice(4..);
        for len in 4..request.len() {
            let mut reader = Reader::new(request.slice(4..len), 0, false);
            let whole = RequestHeader::read(&mut reader).and_then(|_| decode_request::<R>(reader));
            assert!(whole.is_err(), "{} {version} of {len} bytes", R::KEY);
        }
        for len in 0..response.len() {
            let whole = decode_response::<R>(response.slice(..len), version);
            assert!(whole.is_err(), "{} {version} of {len} bytes", R::KEY);
        }
    }
}

fn any_bytes<R: Request>(bytes: &Bytes) {
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let flexible = R::VERSIONS.is_flexible(version);
        let _ = decode_request::<R>(Reader::new(bytes.clone(), version, flexible));
        let _ = decode_response::<R>(bytes.clone(), version);
    }
}

/// A valid message with some bytes changed: it may be another message, but then that one goes round.
fn damaged<R: Request>((seed, damage): (u64, &[(u16, u8)])) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let response = R::Response::sample(&mut rng, version);
        let mut frame = encode_response::<R>(&response, version, 7).unwrap().to_bytes().to_vec();
        let len = frame.len();
        for (at, byte) in damage {
            frame[usize::from(*at) % len] ^= byte;
        }
        if let Ok((id, response)) = decode_response::<R>(Bytes::from(frame).slice(4..), version) {
            // Null where the version has none is read, and refused when it is written.
            if let Ok(again) = encode_response::<R>(&response, version, id) {
                assert_eq!(decode_response::<R>(again.to_bytes().slice(4..), version), Ok((id, response)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_message_goes_round_in_every_version(seed in any::<u64>()) {
        for_each_api!(round_trip(seed));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for_each_api!(any_bytes(&Bytes::from(bytes.clone())));
    }

    #[test]
    fn damage_never_panics(
        seed in any::<u64>(),
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        for_each_api!(damaged((seed, damage.as_slice())));
    }
}

#[test]
fn messages_that_are_cut_short_are_refused() {
    for seed in 0..4 {
        for_each_api!(cut_short(seed));
    }
}

fn huge_length<R: Request>(_: ()) {
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let flexible = R::VERSIONS.is_flexible(version);
        for bytes in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0xff, 0xff, 0xff, 0xfe]] {
            let bytes = Bytes::copy_from_slice(&bytes);
            let _ = decode_request::<R>(Reader::new(bytes.clone(), version, flexible));
            let _ = decode_response::<R>(bytes, version);
        }
    }
}

#[test]
fn four_bytes_that_claim_two_thousand_million_elements_are_refused() {
    for_each_api!(huge_length(()));
    let bytes = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let refused = decode_request::<api::metadata::MetadataRequest>(Reader::new(bytes, 1, false));
    let field = "MetadataRequest.topics";
    assert_eq!(refused, Err(Error::Length { field, length: 0x7fff_ffff, limit: 0 }));
}

#[test]
fn an_array_takes_no_more_memory_than_its_bytes_allow() {
    let mut bytes = vec![0u8; 4 << 20];
    bytes[..4].copy_from_slice(&[0x80 | 1, 0x80, 0x80, 1]); // (1 << 21) elements, less one, of one byte each
    let mut reader = Reader::new(Bytes::from(bytes), 0, true);
    let topics = Vec::<api::fetch::FetchableTopicResponse>::read(&mut reader, "topics");
    assert!(matches!(topics, Err(Error::Memory { .. } | Error::Length { .. })), "{topics:?}");
}

#[test]
fn an_unknown_version_of_api_versions_has_a_header_that_can_be_answered() {
    let bytes = Bytes::from_static(&[0, 18, 0x7f, 0, 0, 0, 0, 9, 0xff, 0xff, 1, 2, 3]);
    let header = RequestHeader::read(&mut Reader::new(bytes, 0, false)).unwrap();
    assert_eq!((header.api_key, header.version, header.correlation_id), (18, 0x7f00, 9));
}

#[test]
fn the_response_header_of_api_versions_is_the_old_one() {
    let response = api::api_versions::ApiVersionsResponse::default();
    let frame = encode_response::<api::api_versions::ApiVersionsRequest>(&response, 3, 1).unwrap().to_bytes();
    // Size, correlation id, error code, an empty compact array, throttle time, no tagged fields.
    assert_eq!(&frame[..], [0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // A heartbeat answer, version 4: throttle time, error, then two tagged fields that nobody knows.
    let bytes =
        Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 0, 5, 0, 27, 2, 9, 1, 0xaa, 0x80, 1, 2, 0xbb, 0xcc]);
    let (id, response) = decode_response::<api::heartbeat::HeartbeatRequest>(bytes, 4).unwrap();
    assert_eq!((id, response.throttle_time_ms), (1, 5));
    assert_eq!(response.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn what_a_version_cannot_say_is_refused_and_not_lost() {
    let coordinator_keys = vec!["a".to_owned(), "b".to_owned()];
    let request = api::find_coordinator::FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    let refused = encode_request(&request, 3, 1, None);
    let field = "FindCoordinatorRequest.coordinator_keys";
    assert_eq!(refused, Err(Error::NotInVersion { field, version: 3 }));
    assert!(encode_request(&request, 4, 1, None).is_ok());
}

#[test]
fn null_where_a_version_has_none_is_refused() {
    let request = api::metadata::MetadataRequest { topics: None, ..Default::default() };
    let refused = encode_request(&request, 0, 1, None);
    assert_eq!(refused, Err(Error::Null { field: "MetadataRequest.topics", version: 0 }));
    assert!(encode_request(&request, 1, 1, None).is_ok());
}

#[test]
fn large_record_batches_are_not_copied_and_holes_are_left_in_order() {
    use api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
    let records = Bytes::from(vec![7; 5000]);
    let partition = |records| PartitionData { records, ..PartitionData::default() };
    let partitions = vec![partition(records.clone().into()), partition(Records::Hole(3000))];
    let topic = FetchableTopicResponse { partitions, ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    let encoded = encode_response::<FetchRequest>(&response, 12, 1).unwrap();
    let big: Vec<&Chunk> = encoded
        .chunks()
        .iter()
        .filter(|chunk| **chunk == Chunk::Hole(3000) || **chunk == Chunk::Bytes(records.clone()))
        .collect();
    assert_eq!(big, [&Chunk::Bytes(records.clone()), &Chunk::Hole(3000)]);
    let frame = encoded.to_bytes();
    let (_, read) = decode_response::<FetchRequest>(frame.slice(4..), 12).unwrap();
    let read = &read.responses[0].partitions;
    assert_eq!(read[0].records.bytes(), records);
    assert_eq!(read[1].records.len(), 3000);
    let place = read[0].records.bytes().as_ptr();
    assert!(frame.as_ptr_range().contains(&place), "the records that were read are a slice of the frame");
}

/// Kafka's own bytes: see `tests/golden/kafka/Messages.java`.
fn golden<R: Request>(text: &str) {
    let versions = R::VERSIONS.max - R::VERSIONS.min + 1;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let of = |direction: &str| {
        lines.iter().filter(|line| line[0] == R::KEY.name() && line[1] == direction).collect::<Vec<_>>()
    };
    assert_eq!(of("request").len(), 2 * versions as usize, "{}", R::KEY);
    for line in of("request") {
        again::<R>(line);
    }
    for line in of("response") {
        again::<R::Response>(line);
    }

    fn again<T: Field>(line: &[&str]) {
        let version = line[2].parse().unwrap();
        let key = ApiKey::ALL.iter().find(|key| key.name() == line[0]).unwrap();
        let flexible = key.versions().is_flexible(version);
        let hex = line.get(3).copied().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Bytes = hex.chunks(2).map(byte).collect();
        let mut reader = Reader::new(bytes.clone(), version, flexible);
        let message = T::read(&mut reader, key.name()).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(reader.finish(), Ok(()), "{line:?}");
        let mut writer = Writer::new(version, flexible);
        message.write(&mut writer, key.name()).unwrap();
        assert_eq!(writer.finish().to_bytes(), bytes, "{line:?}");
    }
}

#[test]
fn kafka_s_own_bytes_are_read_and_written_alike() {
    let text = std::fs::read_to_string("tests/golden/kafka/messages.txt").unwrap();
    for_each_api!(golden(&text));
}
