//! `rpc info` through the binary: against a server, and of local files.

use std::fs;

use serde_json::Value;

use crate::support::{Home, bandy};

const SHOP: &str = r#"// Terms of trade.
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
// Sells.
service Shop {
  // Finds an item.
  rpc Find(Query) returns (stream Item);
}
message Query {
  string text = 1; // what to look for
  oneof page { int64 offset = 2; string token = 3; }
}
message Item {
  enum State { NEW = 0; USED = 1; }
  string name = 1;
  State state = 2;
  repeated Item parts = 3;
  google.protobuf.Timestamp since = 4;
}
"#;

const SERVE: &str = r#"rpc serve -l :0 Find:='{"name":"lamp"}' --proto"#;

fn shop() -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let file = home.file("shop.proto", SHOP);
    (home, file)
}

#[test]
fn symbols_of_a_server_are_shown_by_their_last_words() {
    let server = bandy("rpc serve -l :0").starts();
    let hello =
        "rpc Hello(HelloRequest) returns (HelloReply) {\n  option idempotency_level = NO_SIDE_EFFECTS;\n}\n";
    for symbol in
        ["demo.Greeter/Hello", "demo.Greeter.Hello", "Greeter/Hello", "Hello", ".demo.Greeter.Hello"]
    {
        bandy("rpc info").arg(symbol).endpoint(&server).runs().prints(hello).silently();
    }
    let request = "message HelloRequest {\n  // Whom to greet; the world if empty.\n  string name = 1;\n}\n";
    bandy("rpc info HelloRequest").endpoint(&server).runs().prints(request);
    bandy("rpc info demo.HelloRequest.name").endpoint(&server).runs().prints(request);
    bandy("rpc info Greeter")
        .endpoint(&server)
        .runs()
        .shows("// The first function everybody calls.\nservice Greeter {\n");
}

#[test]
fn symbols_of_files_are_shown_without_a_server() {
    let (_home, file) = shop();
    let info = |symbol: &str| bandy("rpc info").arg(symbol).arg("--proto").arg(&file).runs();
    info("Find").prints("// Finds an item.\nrpc Find(Query) returns (stream Item);\n").silently();
    let state = "enum State {\n  NEW = 0;\n  USED = 1;\n}\n";
    for symbol in ["State", "Item.State", "shop.v1.Item.State", "shop.v1.Item.USED"] {
        info(symbol).prints(state);
    }
    bandy("rpc info Find --proto -").stdin(SHOP).runs().shows("rpc Find(Query)");
    let printed = info("Query").exits(0).out();
    assert_eq!(
        printed,
        "message Query {\n  string text = 1; // what to look for\n  oneof page {\n    int64 offset = 2;\n    string token = 3;\n  }\n}\n"
    );
}

#[test]
fn json_has_the_kind_and_the_file_beside_the_definition() {
    let (_home, file) = shop();
    let json = |symbol: &str| -> Value {
        let ran = bandy("rpc info --json").arg(symbol).arg("--proto").arg(&file).runs().exits(0);
        assert_eq!(ran.out().lines().count(), 1);
        serde_json::from_str(&ran.out()).unwrap()
    };
    for (symbol, kind) in [
        ("shop.v1.Shop", "service"),
        ("shop.v1.Shop.Find", "method"),
        ("shop.v1.Item", "message"),
        ("shop.v1.Item.parts", "field"),
        ("shop.v1.Query.page", "field"),
        ("shop.v1.Item.State", "enum"),
        ("shop.v1.Item.USED", "value"),
    ] {
        let shown = json(symbol);
        assert_eq!((&shown["symbol"], &shown["kind"]), (&symbol.into(), &kind.into()));
        assert_eq!(shown["file"], "shop.proto");
    }
    assert_eq!(json("Find")["definition"], "// Finds an item.\nrpc Find(Query) returns (stream Item);");
}

#[test]
fn an_example_can_be_sent_as_it_is() {
    let (home, file) = shop();
    let example = bandy("rpc info Item --example --proto").arg(&file).runs().exits(0).out();
    assert_eq!(
        example,
        "{\n  \"name\": \"\",\n  \"state\": \"NEW\",\n  \"since\": \"1970-01-01T00:00:00Z\"\n}\n"
    );
    bandy("rpc info Find --example --json --proto")
        .arg(&file)
        .runs()
        .prints("{\"text\":\"\",\"offset\":\"0\"}\n");
    let server = bandy(SERVE).arg(&file).home(&home).starts();
    let request = bandy("rpc info Find --example").endpoint(&server).runs().exits(0).stdout;
    bandy("rpc call Find -d @-").stdin(request).endpoint(&server).runs().shows("lamp");
}

#[test]
fn a_json_schema_describes_the_request() {
    let (_home, file) = shop();
    let text = bandy("rpc info Shop/Find --json-schema --proto").arg(&file).runs().exits(0).out();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["$ref"], "#/$defs/shop.v1.Query");
    assert_eq!(schema["$defs"]["shop.v1.Query"]["properties"]["text"]["type"], "string");
}

#[test]
fn an_exported_schema_serves_as_well_as_the_server() {
    let home = Home::new();
    let server = bandy("rpc serve -l :0").home(&home).starts();
    let (folder, set) = (home.path("api"), home.path("set.binpb"));
    bandy("rpc info --export")
        .arg(&folder)
        .arg("--protoset-out")
        .arg(&set)
        .endpoint(&server)
        .runs()
        .prints("");
    assert!(folder.join("demo.proto").exists());
    assert!(!folder.join("google").exists(), "well-known files are everywhere already");
    let expected = bandy("rpc ls").endpoint(&server).runs().exits(0).out();
    bandy("rpc ls --proto").arg(&folder).runs().prints(&expected);
    bandy("rpc ls --protoset").arg(&set).runs().prints(&expected);
    // What is exported is exported again the same.
    let again = home.path("again");
    bandy("rpc info --export").arg(&again).arg("--proto").arg(&folder).runs().exits(0);
    for name in ["demo.proto", "grpc/health/v1/health.proto"] {
        assert_eq!(
            fs::read_to_string(again.join(name)).unwrap(),
            fs::read_to_string(folder.join(name)).unwrap()
        );
    }
}

#[test]
fn what_is_not_there_has_exit_5_and_the_nearest_name() {
    let server = bandy("rpc serve -l :0").starts();
    let info = |symbol: &str| bandy("rpc info").arg(symbol).endpoint(&server).runs();
    info("Greter").exits(5).complains("error: no symbol 'Greter'").complains("tip: did you mean 'Greeter'?");
    info("greeter").exits(5).complains("tip: did you mean 'Greeter'?");
    info("demo.Greeter/Helo").exits(5).complains("tip: did you mean 'demo.Greeter.Hello'?");
    info("Quux").exits(5).complains("tip: see the services: bandy rpc ls");
    let (_home, file) = shop();
    bandy("rpc info Itme --proto").arg(file).runs().exits(5).complains("tip: did you mean 'Item'?");
}

#[test]
fn several_symbols_of_one_name_are_all_named() {
    let home = Home::new();
    let file = home.file(
        "a.proto",
        "syntax = \"proto3\"; package a; message X { message Y {} } message Z { message Y {} }",
    );
    bandy("rpc info Y --proto")
        .arg(&file)
        .runs()
        .exits(5)
        .complains("'Y' is 2 symbols: a.X.Y, a.Z.Y")
        .complains("tip: say which: bandy rpc info a.X.Y");
}

#[test]
fn mistakes_are_explained() {
    let (home, file) = shop();
    bandy("rpc info").runs().exits(2).complains("<SYMBOL>");
    bandy("rpc info Shop --example --proto")
        .arg(&file)
        .runs()
        .exits(2)
        .complains("'shop.v1.Shop' is neither a message nor a method")
        .complains("tip: of one of its methods: bandy rpc info shop.v1.Shop/Find --example");
    bandy("rpc info X --proto /nowhere.proto").runs().exits(1).complains("cannot read /nowhere.proto");
    let wrong = home.file("wrong.proto", "syntax = \"proto3\";\nmessage A {\n  Bar b = 1;\n}\n");
    bandy("rpc info A --proto")
        .arg(&wrong)
        .runs()
        .exits(2)
        .complains("wrong.proto:3:3: name 'Bar' is not defined");
    bandy("rpc info A --protoset").arg(&wrong).runs().exits(2).complains("not a FileDescriptorSet");
    bandy("rpc info A -e :1").runs().exits(3).complains("cannot reach grpc://127.0.0.1:1");
    let silent = bandy("rpc serve -l :0 --no-reflection").starts();
    bandy("rpc info Greeter").endpoint(&silent).runs().exits(5).complains("it offers no reflection");
    bandy("rpc info Find --export /dev/null/x --proto")
        .arg(&file)
        .runs()
        .exits(1)
        .complains("cannot create /dev/null/x");
}

#[test]
fn an_edition_file_that_cannot_be_read_points_to_other_compilers() {
    let home = Home::new();
    let file = home.file("a.proto", "edition = \"2023\";\nmessage A { Nobody a = 1; }\n");
    bandy("rpc info A --proto")
        .arg(file)
        .runs()
        .exits(2)
        .complains("a.proto:2:13: name 'Nobody'")
        .complains("--protoset set.binpb");
}

#[test]
fn files_that_contradict_the_server_win_with_a_warning() {
    let (home, file) = shop();
    let server = bandy(SERVE).arg(file).home(&home).starts();
    let other = home.file("local/shop.proto", SHOP.replace("string name = 1;", "bytes name = 1;"));
    let ran = bandy("rpc info Item --proto").arg(&other).endpoint(&server).runs();
    ran.shows("bytes name = 1;").complains(
        "field 1 of shop.v1.Item is 'bytes name' in the first schema and 'string name' in a later one; the first is used",
    );
}
