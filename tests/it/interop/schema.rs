//! The compiler of schemas beside protoc, and the JSON mapping beside Google's own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bandy::rpc::schema::Schema;
use bandy::rpc::{Format, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const FILES: [&str; 6] = [
    "options.proto",
    "proto2.proto",
    "base/public.proto",
    "proto3.proto",
    "edition2023.proto",
    "edition2024.proto",
];

fn tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn compiled() -> Schema {
    let files: Vec<PathBuf> = FILES.iter().map(|name| tests("proto").join(name)).collect();
    Schema::compile(&files, &[tests("proto")]).unwrap()
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

#[test]
#[ignore = "needs grpcio-tools"]
fn descriptors_are_those_of_protoc() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("ours.binpb");
    std::fs::write(&set, compiled().descriptor_set()).unwrap();
    let script = tests("interop/schema-descriptors.py");
    succeeds(Command::new("python3").arg(script).arg(tests("proto")).arg(set).args(FILES));
}

#[test]
#[ignore = "needs buf"]
fn an_image_of_buf_is_a_descriptor_set() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.binpb");
    let copy = folder.path().join("proto");
    std::fs::create_dir_all(copy.join("base")).unwrap();
    // buf knows no edition 2024 yet, and no names of groups in options.
    for name in FILES.into_iter().filter(|name| !matches!(*name, "edition2024.proto" | "proto2.proto")) {
        std::fs::copy(tests("proto").join(name), copy.join(name)).unwrap();
    }
    succeeds(Command::new("buf").arg("build").arg(&copy).arg("-o").arg(&image));
    let theirs = Schema::from_descriptor_set(&std::fs::read(image).unwrap()).unwrap();
    let ours = compiled();
    let merged = Schema::merge(&[ours.clone(), theirs.clone()]).unwrap();
    assert_eq!(merged.conflicts(), &[] as &[String]);
    let paths = |schema: &Schema, package: &str| {
        let methods = schema.methods().map(|method| method.path);
        methods.filter(|path| path.starts_with(package)).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(!paths(&theirs, "compare.p3").is_empty());
    for package in ["compare.p3", "compare.e23"] {
        assert_eq!(paths(&ours, package), paths(&theirs, package));
    }
}

/// Each message that json_format wrote, there and back.
fn converted(schema: &Schema, line: &str) -> String {
    let mut parts = line.split('\t');
    let mut part = || parts.next().unwrap();
    let (kind, data, text) = (schema.message(part()).unwrap(), STANDARD.decode(part()).unwrap(), part());
    let json = kind.convert(&Payload::proto(data), Format::Json);
    let json =
        json.map_or_else(|e| format!("!{}", e.message), |json| String::from_utf8(json.to_vec()).unwrap());
    let proto = kind.convert(&Payload::json(text.to_owned()), Format::Proto);
    let proto = proto.map_or_else(|e| format!("!{}", e.message), |proto| STANDARD.encode(proto));
    format!("{json}\t{proto}")
}

#[test]
#[ignore = "needs protobuf for Python"]
fn json_is_that_of_json_format_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let schema = compiled();
    std::fs::write(path("set"), schema.descriptor_set()).unwrap();
    let script = || {
        let mut python = Command::new("python3");
        python.arg(tests("interop/schema-json.py")).arg(path("set")).args(["4000", "7"]);
        python
    };
    let theirs = succeeds(&mut script()).stdout;
    let text = String::from_utf8(theirs).unwrap();
    let mut ours = String::new();
    for line in text.lines() {
        writeln!(ours, "{}", converted(&schema, line)).unwrap();
    }
    std::fs::write(path("theirs"), text).unwrap();
    std::fs::write(path("ours"), ours).unwrap();
    succeeds(script().arg(path("theirs")).arg(path("ours")));
}
