//! What people get wrong: schemas, URLs, schemes, flags of other tools. Each has one clear error and exit code 2.

use crate::support::{Home, bandy};

#[test]
fn proto_files_with_errors_and_cycles_are_shown_with_their_place() {
    let home = Home::new();
    home.file("broken.proto", "syntax = \"proto3\"; message M { strin a = 1; }\n");
    home.file("a.proto", "syntax = \"proto3\"; import \"b.proto\"; message A { B b = 1; }\n");
    home.file("b.proto", "syntax = \"proto3\"; import \"a.proto\"; message B { A a = 1; }\n");
    home.file("self.proto", "syntax = \"proto3\"; import \"self.proto\"; message A {}\n");
    home.file("cut.proto", "syntax = \"proto3\"; message M { string a = 1;\n");
    let bytes = home.file("bytes.proto", b"\xff\xfe\x00");
    bandy("rpc ls --proto").arg(bytes).runs().exits(2).complains("valid UTF-8");
    for (file, text) in [
        ("broken.proto", "broken.proto:1:32: name 'strin' is not defined"),
        ("a.proto", "import cycle: a.proto -> b.proto -> a.proto"),
        ("self.proto", "import cycle: self.proto -> self.proto"),
        ("cut.proto", "reached end of file"),
    ] {
        for words in ["rpc serve -l :0 --proto", "rpc ls --proto"] {
            let mut command = bandy(words).arg(file);
            if words.contains("serve") {
                command = command.arg("--").arg("cat");
            }
            command.folder(home.path("")).home(&home).runs().exits(2).complains(text);
        }
    }
}

#[test]
fn wrong_urls_and_schemes_are_bad_usage() {
    for (url, text) in [
        ("ftp://x:1", "unknown scheme ftp://"),
        ("http://", "host and port are missing"),
        ("grpc://h:99999", "the port is not a number from 1 to 65535"),
        ("grpc://[::1", "']' is missing"),
        ("tcp:x", "tcp is followed by ://"),
        ("kafka://h:1", "kafka:// is a log endpoint"),
        ("amqp://h", "amqp:// is an mq endpoint"),
    ] {
        bandy("rpc call upper x -e").arg(url).runs().exits(2).complains(text);
    }
}

#[test]
fn flags_of_other_tools_are_answered_with_ours() {
    for (words, tip) in [
        ("rpc call -plaintext localhost:1 a.B/C", "bandy rpc call -e localhost:1 a.B/C"),
        ("rpc ls -proto x", "bandy rpc ls --proto x"),
        ("rpc serve -plaintext", "bandy rpc serve"),
    ] {
        bandy(words).runs().exits(2).complains("unexpected argument").complains(tip);
    }
}

#[test]
fn a_file_that_is_wrong_is_told_of_before_the_server_is_asked() {
    for words in ["rpc ls", "rpc info M", "rpc call Say"] {
        bandy(words).with("-e 127.0.0.1:1 --proto nothing.proto").runs().exits(1).complains("nothing.proto");
    }
}

#[test]
fn a_name_that_leads_nowhere_has_a_tip_of_its_own() {
    // RFC 6761, section 6.4: no resolver knows such a name.
    let ran = bandy("rpc ls -e nobody.invalid:1").runs().exits(3).complains("cannot resolve nobody.invalid");
    let ran = ran.complains("tip: is the name right? 'getent hosts NAME' asks the same resolver");
    assert!(!ran.err().contains("rpc wait"), "{}", ran.err());
    bandy("rpc ls -e 127.0.0.1:1").runs().exits(3).complains("tip: wait for it: bandy rpc wait -e");
}
