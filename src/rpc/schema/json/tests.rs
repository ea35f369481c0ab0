//! The mapping, both ways.

use super::*;
use crate::rpc::schema::{Input, Schema};

const PROTO: &str = r#"
syntax = "proto3";
package t;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { NONE = 0; RED = 1; GREEN = 2; }
message A {
  int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
  fixed32 f32 = 7; fixed64 f64 = 8; sfixed32 sf32 = 9; sfixed64 sf64 = 10; float flt = 11; double dbl = 12;
  bool yes = 13; string text = 14; bytes data = 15; Color color = 16; A child = 17;
  repeated int32 numbers = 20; repeated string words = 21; repeated A children = 22; repeated Color colors = 23;
  map<string, int32> by_name = 30; map<int64, A> by_id = 31; map<bool, Color> by_truth = 32;
  optional int32 maybe = 40; oneof choice { string one = 41; int32 two = 42; A three = 43; }
  google.protobuf.Any any = 50; google.protobuf.Duration duration = 51; google.protobuf.Empty empty = 52;
  google.protobuf.FieldMask mask = 53; google.protobuf.Struct structure = 54; google.protobuf.Value value = 55;
  google.protobuf.ListValue list_value = 56; google.protobuf.Timestamp time = 57;
  google.protobuf.StringValue wrapped_text = 58; google.protobuf.Int64Value wrapped_number = 59;
  google.protobuf.NullValue null_value = 60; repeated google.protobuf.Value values = 61;
  string long_name_here = 70;
}
"#;

fn schema() -> Schema {
    static SCHEMA: std::sync::OnceLock<Schema> = std::sync::OnceLock::new();
    let input = || Input::Text { name: "t.proto".to_owned(), text: PROTO.to_owned() };
    SCHEMA.get_or_init(|| Schema::compile_inputs(&[input()], &[]).unwrap()).clone()
}

fn index(schema: &Schema) -> MessageIndex {
    schema.pool().message_index("t.A").unwrap()
}

fn read(json: &str) -> Result<Vec<u8>, String> {
    let schema = schema();
    from_json(schema.pool(), index(&schema), json.as_bytes(), &JsonOptions::default())
        .map_err(|e| e.to_string())
}

fn write(bytes: &[u8], options: &JsonOptions) -> Result<String, String> {
    let schema = schema();
    to_json(schema.pool(), index(&schema), bytes, options)
        .map(|json| String::from_utf8(json).unwrap())
        .map_err(|e| e.to_string())
}

#[track_caller]
fn round_trip(json: &str) {
    let bytes = read(json).unwrap();
    assert_eq!(write(&bytes, &JsonOptions::default()).unwrap(), json);
    // The other engine reads the same from our bytes, and from our text.
    let schema = schema();
    let pool = schema.pool();
    let theirs = buffa_descriptor::DynamicMessage::decode(pool.clone(), index(&schema), &bytes).unwrap();
    let parsed = buffa_descriptor::DynamicMessage::from_json(pool.clone(), index(&schema), json).unwrap();
    // Through its bytes, where an empty list is no list.
    let parsed = parsed.encode_to_vec();
    assert_eq!(
        theirs,
        buffa_descriptor::DynamicMessage::decode(pool.clone(), index(&schema), &parsed).unwrap()
    );
}

#[test]
fn every_type_round_trips() {
    let texts = [
        r#"{}"#,
        r#"{"i32":-1,"i64":"-9223372036854775808","u32":4294967295,"u64":"18446744073709551615","s32":-2147483648,"s64":"-5"}"#,
        r#"{"f32":7,"f64":"8","sf32":-9,"sf64":"-10","flt":0.1,"dbl":1.5,"yes":true,"text":"a\"\\\n\u0001é😀","data":"AP8="}"#,
        r#"{"color":"GREEN","child":{"child":{"i32":1}}}"#,
        r#"{"numbers":[0,1,-1],"words":["","a"],"children":[{},{"i32":3}],"colors":["NONE","RED"]}"#,
        r#"{"byName":{"a":1,"":0},"byId":{"-5":{"i32":1}},"byTruth":{"true":"RED","false":"NONE"}}"#,
        r#"{"maybe":0}"#,
        r#"{"two":0}"#,
        r#"{"three":{}}"#,
        r#"{"any":{"@type":"type.googleapis.com/t.A","i32":1}}"#,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}"#,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"type.googleapis.com/t.A","i32":1}}}"#,
        r#"{"any":{},"duration":"-1.500s","empty":{},"mask":"aB.c,d","time":"2024-02-29T00:00:00.000000001Z"}"#,
        r#"{"structure":{"a":null,"b":[1,1.5,"x",true,{"c":{}}]},"value":null,"listValue":[[],{}]}"#,
        r#"{"wrappedText":"","wrappedNumber":"0"}"#,
        r#"{"values":[null,1,"a"]}"#,
        r#"{"dbl":"NaN"}"#,
        r#"{"flt":"Infinity","dbl":"-Infinity"}"#,
    ];
    for text in texts {
        // NaN is not equal to itself, so the comparison with the other engine cannot hold.
        if text.contains("NaN") {
            assert_eq!(write(&read(text).unwrap(), &JsonOptions::default()).unwrap(), text);
        } else {
            round_trip(text);
        }
    }
}

#[test]
fn integral_doubles_have_no_fraction() {
    let json = r#"{"flt":3,"dbl":100000000000000000000,"value":1.0}"#;
    assert_eq!(
        write(&read(json).unwrap(), &JsonOptions::default()).unwrap(),
        r#"{"flt":3,"dbl":1e20,"value":1}"#
    );
}

#[test]
fn readers_are_lenient_where_the_mapping_says_so() {
    let same = [
        (r#"{"i32":"12"}"#, r#"{"i32":12}"#),
        (r#"{"i32":1.2e1,"i64":5}"#, r#"{"i32":12,"i64":"5"}"#),
        (r#"{"color":2,"by_name":{}}"#, r#"{"color":"GREEN"}"#),
        (r#"{"data":"_-8"}"#, r#"{"data":"/+8="}"#),
        (r#"{"long_name_here":"x"}"#, r#"{"longNameHere":"x"}"#),
        (r#" { "i32" : null , "numbers" : null } "#, r#"{}"#),
        (r#"{"color":77}"#, r#"{"color":77}"#),
        (r#"{"i32":0,"text":"","yes":false,"dbl":0.0}"#, r#"{}"#),
        (r#"{"any":{"i32":1,"@type":"a/t.A"}}"#, r#"{"any":{"@type":"a/t.A","i32":1}}"#),
        (r#"{"time":"2024-01-01T01:00:00+01:00"}"#, r#"{"time":"2024-01-01T00:00:00Z"}"#),
        (r#"{"text":"\ud83d\ude00\/"}"#, r#"{"text":"😀/"}"#),
    ];
    for (given, canonical) in same {
        assert_eq!(write(&read(given).unwrap(), &JsonOptions::default()).unwrap(), canonical, "{given}");
    }
}

#[test]
fn errors_name_the_field_and_what_was_meant() {
    let errors = [
        (r#"{"txet":"a"}"#, "unknown field 'txet' in t.A; did you mean 'text'?"),
        (
            r#"{"child":{"children":[{},{"colour":1}]}}"#,
            "child.children[1]: unknown field 'colour' in t.A; did you mean 'color'?",
        ),
        (r#"{"qqqqqqqqqqqq":1}"#, "unknown field 'qqqqqqqqqqqq' in t.A"),
        (r#"{"color":"GREN"}"#, "color: no value 'GREN' in t.Color; did you mean 'GREEN'?"),
        (r#"{"i32":2147483648}"#, "i32: '2147483648' is not an integer, or out of range"),
        (r#"{"i32":1.5}"#, "i32: '1.5' is not an integer, or out of range"),
        (r#"{"i32":true}"#, "i32: expected a number, got a boolean"),
        (r#"{"text":1}"#, "text: expected a string, got a number"),
        (r#"{"numbers":[1,"x"]}"#, "numbers[1]: 'x' is not an integer, or out of range"),
        (r#"{"numbers":[null]}"#, "numbers[0]: null is not allowed here"),
        (r#"{"byId":{"x":{}}}"#, "by_id[\"x\"]: 'x' is not an integer, or out of range"),
        (r#"{"i32":1,"i32":2}"#, "i32: given twice"),
        (r#"{"longNameHere":"","long_name_here":""}"#, "long_name_here: given twice"),
        (r#"{"byName":{"a":1,"a":2}}"#, "by_name[\"a\"]: given twice"),
        (r#"{"one":"","two":1}"#, "two: only one of 'choice' can be given, and 'one' is"),
        (r#"{"duration":"1"}"#, "duration: '1' is no Duration, such as 1.5s"),
        (r#"{"data":"*"}"#, "data: not base64: Invalid symbol 42, offset 0."),
        (r#"{"any":{"i32":1}}"#, "any: an Any needs \"@type\""),
        (r#"{"any":{"@type":"x/y.Z","a":1}}"#, "any: unknown field 'a' beside \"@type\" and \"value\""),
        (r#"{"flt":1e39}"#, "flt: 1e39 is too large for a float"),
        (r#"[]"#, "expected an object, got a list"),
        (r#"{"i32":1,}"#, "not JSON: expected '\"' at line 1 column 10"),
        ("{\n\"i32\": 01}", "i32: not JSON: a malformed number at line 2 column 10"),
        (r#"{} x"#, "not JSON: expected the end at line 1 column 4"),
        (r#"{"text":"\ud800"}"#, "text: not JSON: half a surrogate pair at line 1 column 16"),
        ("", "not JSON: the text ends where a value is expected at line 1 column 1"),
    ];
    for (given, message) in errors {
        assert_eq!(read(given).unwrap_err(), message, "{given}");
    }
}

#[test]
fn options_change_what_is_written_and_read() {
    let bytes = read(r#"{"i64":5,"color":"RED","longNameHere":"x","numbers":[1]}"#).unwrap();
    let plain = JsonOptions::default();
    let written = |options| write(&bytes, &options).unwrap();
    assert_eq!(
        written(JsonOptions { proto_names: true, int64_numbers: true, enum_numbers: true, ..plain }),
        r#"{"i64":5,"color":1,"numbers":[1],"long_name_here":"x"}"#
    );
    let full = written(JsonOptions { emit_defaults: true, ..plain });
    for part in
        [r#""i32":0"#, r#""text":"""#, r#""yes":false"#, r#""words":[]"#, r#""byName":{}"#, r#""sf64":"0""#]
    {
        assert!(full.contains(part), "{part} in {full}");
    }
    for part in ["maybe", "child\"", "\"one\"", "empty"] {
        assert!(!full.contains(part), "{part} in {full}");
    }
    let schema = schema();
    let ignoring = JsonOptions { ignore_unknown: true, ..plain };
    let text = br#"{"nope":[{"a":1}],"color":"NOPE","colors":["RED","NOPE"],"i32":1}"#;
    let bytes = from_json(schema.pool(), index(&schema), text, &ignoring).unwrap();
    assert_eq!(write(&bytes, &plain).unwrap(), r#"{"i32":1,"colors":["RED"]}"#);
}

#[test]
fn the_wire_may_repeat_split_and_reorder() {
    // child {i32: 1}, i32: 5, child {text: "a"}, i32: 6, numbers unpacked 1, packed 2 3
    let bytes = b"\x8a\x01\x02\x08\x01\x08\x05\x8a\x01\x03\x72\x01a\x08\x06\xa0\x01\x01\xa2\x01\x02\x02\x03";
    let json = r#"{"i32":6,"child":{"i32":1,"text":"a"},"numbers":[1,2,3]}"#;
    assert_eq!(write(bytes, &JsonOptions::default()).unwrap(), json);
    // one: "a", two: 1 - the later member of the oneof wins; unknown field 999 is passed over
    let bytes = b"\xca\x02\x01a\xd0\x02\x01\xba\x3e\x00";
    assert_eq!(write(bytes, &JsonOptions::default()).unwrap(), r#"{"two":1}"#);
    // a map entry without a key, and the same key twice
    let bytes = b"\xf2\x01\x02\x10\x01\xf2\x01\x02\x10\x02";
    assert_eq!(write(bytes, &JsonOptions::default()).unwrap(), r#"{"byName":{"":2}}"#);
}

#[test]
fn an_any_of_an_unknown_type_is_shown_and_taken_as_base64() {
    let json = r#"{"any":{"@type":"type.googleapis.com/nobody.Knows","value":"AQI="}}"#;
    let bytes = read(json).unwrap();
    assert_eq!(write(&bytes, &JsonOptions::default()).unwrap(), json);
    let details = r#"{"any":{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}}"#;
    assert_eq!(write(&read(details).unwrap(), &JsonOptions::default()).unwrap(), details);
}

#[test]
fn nesting_is_limited_both_ways() {
    let deep = |n: usize| format!("{}{}", r#"{"child":"#.repeat(n) + "{}", "}".repeat(n));
    assert!(write(&read(&deep(99)).unwrap(), &JsonOptions::default()).is_ok());
    assert!(read(&deep(100)).unwrap_err().ends_with("nested deeper than 100 levels"));
    let mut bytes = Vec::new();
    for _ in 0..150 {
        let mut outer = vec![0x8a, 0x01];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.append(&mut bytes);
        bytes = outer;
    }
    assert!(write(&bytes, &JsonOptions::default()).unwrap_err().ends_with("nested deeper than 100 levels"));
    let lists = format!("{{\"value\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&lists).is_err());
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100), text in "\\PC{0,80}") {
        let _ = write(&bytes, &JsonOptions { emit_defaults: true, ..JsonOptions::default() });
        let _ = read(&text);
    }

    #[test]
    fn what_we_write_we_read(
        words in proptest::collection::vec("[^\\x00]{0,20}", 0..4), numbers: Vec<i32>, wide: i64, double: f64, float: f32,
        data: Vec<u8>, seconds in -100_000_000_000i64..100_000_000_000,
    ) {
        use prost::Message as _;
        #[derive(Clone, PartialEq, prost::Message)]
        struct A {
            #[prost(sint64, tag = "6")] wide: i64,
            #[prost(float, tag = "11")] float: f32,
            #[prost(double, tag = "12")] double: f64,
            #[prost(bytes = "vec", tag = "15")] data: Vec<u8>,
            #[prost(int32, repeated, tag = "20")] numbers: Vec<i32>,
            #[prost(string, repeated, tag = "21")] words: Vec<String>,
            #[prost(message, optional, tag = "57")] time: Option<T>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        struct T { #[prost(int64, tag = "1")] seconds: i64 }
        // Minus zero is sent by some and not by others; NaN equals nothing.
        let double = if double.is_nan() { 0.0 } else { double + 0.0 };
        let float = if float.is_nan() { 0.0 } else { float + 0.0 };
        let seconds = seconds.max(-62_135_596_800);
        let message = A { wide, float, double, data, numbers, words, time: Some(T { seconds }) };
        let json = write(&message.encode_to_vec(), &JsonOptions::default()).unwrap();
        proptest::prop_assert_eq!(A::decode(&*read(&json).unwrap()).unwrap(), message);
    }
}
