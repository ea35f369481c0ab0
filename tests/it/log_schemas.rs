//! Values with schemas through the binary: a registry of our own making, Avro, Protobuf and JSON Schema, local files.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use crate::log_groups::Log;
use crate::support::{Home, bandy};

/// A schema registry that knows what is registered, and nothing of schemas.
struct Registry {
    url: String,
    /// Subjects, in the order of their numbers from 1: subject and what was registered.
    schemas: Arc<Mutex<Vec<(String, Json)>>>,
}

impl Registry {
    fn starts() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // As in every URL, letters may be written by their codes.
        let url = format!("http://b%6fb:secr%65t@{}", listener.local_addr().unwrap());
        let schemas: Arc<Mutex<Vec<(String, Json)>>> = Arc::default();
        let known = Arc::clone(&schemas);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let known = Arc::clone(&known);
                std::thread::spawn(move || while answer(&stream, &known).is_some() {});
            }
        });
        Self { url, schemas }
    }

    fn count(&self) -> usize {
        self.schemas.lock().unwrap().len()
    }
}

/// One request and its answer; none at the end.
fn answer(mut stream: &TcpStream, schemas: &Mutex<Vec<(String, Json)>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?, words.next()?.replace("%2D", "-"));
    let mut known = schemas.lock().unwrap();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (status, answer) = match (method, parts.as_slice()) {
        _ if headers.get("authorization").map(String::as_str) != Some("Basic Ym9iOnNlY3JldA==") => {
            (401, json!({}))
        }
        ("GET", ["schemas", "ids", id]) => match known.get(id.parse::<usize>().unwrap() - 1) {
            Some((_, schema)) => (200, schema.clone()),
            None => (404, json!({"error_code": 40403, "message": "Schema not found"})),
        },
        ("GET", ["subjects", subject, "versions", "latest"]) => {
            match known.iter().rposition(|(name, _)| name == subject) {
                Some(at) => {
                    let mut schema = known[at].1.clone();
                    schema["id"] = (at + 1).into();
                    (200, schema)
                }
                None => (404, json!({"error_code": 40401, "message": "Subject not found"})),
            }
        }
        ("POST", ["subjects", subject, "versions"]) => {
            let schema: Json = serde_json::from_slice(&body).unwrap();
            if schema["schema"].as_str().unwrap().contains("refuse me") {
                (409, json!({"error_code": 409, "message": "Schema being registered is incompatible"}))
            } else {
                let entry = ((*subject).to_owned(), schema);
                if !known.contains(&entry) {
                    known.push(entry.clone());
                }
                (200, json!({"id": known.iter().position(|it| *it == entry).unwrap() + 1}))
            }
        }
        _ => (404, json!({})),
    };
    let text = answer.to_string();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok()
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},
    {"name":"note","type":["null","string"],"default":null}]}"#;

#[test]
fn avro_of_a_registry_goes_round() {
    let (log, registry, home) = (Log::starts(), Registry::starts(), Home::new());
    let log_at = |words: &str| log.log(words).env("BANDY_SCHEMA_REGISTRY", &registry.url);
    log.log("create orders").runs().exits(0);
    log_at("produce orders").stdin("{\"id\":1}").runs().exits(5).complains("no subject 'orders-value'");
    let schema = home.file("order.avsc", ORDER);
    log_at(&format!("produce orders --schema {}", schema.display())).stdin("{\"id\":1}\n").runs().exits(0);
    log_at("produce orders")
        .stdin("{\"id\":2,\"note\":\"hi\"}\n{\"id\":\"x\"}\nno\n")
        .runs()
        .exits(7)
        .complains("line 2: the value does not fit the schema: id: expected a long, found \"x\"");
    assert_eq!(registry.count(), 1);
    // What is stored is framed Avro; what has no schema stays as it is.
    log.log("consume orders --from 1 -o '%v{hex}'").runs().exits(0).prints("00000000010402046869\n");
    log.log("produce orders plain").runs().exits(0);
    let all = "{\"id\":1,\"note\":null}\n{\"id\":2,\"note\":\"hi\"}\nplain\n";
    log_at("consume orders").runs().exits(0).prints(all);
    log_at("consume orders --where '.id > 1'").runs().exits(0).prints("{\"id\":2,\"note\":\"hi\"}\n");
    log_at("consume orders --json --parse -n 1 -g g")
        .runs()
        .exits(0)
        .shows("\"value\":{\"id\":1,\"note\":null}");
    log_at("consume orders -g h -n 2 -- cat").runs().exits(0).prints(&all[..all.len() - 6].replace('\n', ""));
    log.log("consume orders --registry http://127.0.0.1:9")
        .runs()
        .exits(3)
        .complains("cannot reach the schema registry");
    let wrong = registry.url.replace("secr%65t", "wrong");
    log.log(&format!("consume orders --registry {wrong}")).runs().exits(4);
    let bad =
        home.file("bad.avsc", "{\"type\":\"record\",\"name\":\"A\",\"fields\":[],\"doc\":\"refuse me\"}");
    log_at(&format!("produce orders x --schema {}", bad.display())).runs().exits(1).complains("incompatible");
    // A schema that nobody knows: the value is shown as it is, and told once.
    log.log("produce orders --json").stdin("{\"value_base64\":\"AAAAA+dhYg==\"}\n").runs().exits(0);
    let ran = log_at("consume orders --from -1 -o '%v{hex}'").runs().exits(0);
    ran.prints("00000003e76162\n").complains("the registry has no schema 999");
}

#[test]
fn protobuf_and_json_schemas_go_round() {
    let (log, registry, home) = (Log::starts(), Registry::starts(), Home::new());
    let log_at = |words: &str| log.log(words).env("BANDY_SCHEMA_REGISTRY", &registry.url);
    log.log("create p").runs().exits(0);
    log.log("create j").runs().exits(0);
    let proto = "syntax = \"proto3\"; package shop; message Other { string x = 1; } message Order { int32 id = 1; \
                 message Line { string sku = 1; } repeated Line lines = 2; }";
    let schema = home.file("order.proto", proto);
    let at = format!("produce p --schema {}", schema.display());
    log_at(&format!("{at} --message shop.Order"))
        .stdin("{\"id\":7,\"lines\":[{\"sku\":\"a\"}]}")
        .runs()
        .exits(0);
    log_at(&at).stdin("{\"x\":\"first\"}\n").runs().exits(0);
    log_at(&format!("{at} --message shop.Order.Line")).stdin("{\"sku\":\"b\"}").runs().exits(0);
    log_at("consume p")
        .runs()
        .exits(0)
        .prints("{\"id\":7,\"lines\":[{\"sku\":\"a\"}]}\n{\"x\":\"first\"}\n{\"sku\":\"b\"}\n");
    log.log("consume p -n 1 -o '%v{hex}'").runs().exits(0).prints("00000000010202080712030a0161\n");
    log_at(&format!("{at} --message shop.Nope"))
        .stdin("{}")
        .runs()
        .exits(2)
        .complains("no message 'shop.Nope'");

    let schema = home.file("schema.json", "{\"type\":\"object\"}");
    log_at(&format!("produce j --schema {}", schema.display())).stdin("{\"a\": 1}\n").runs().exits(0);
    log_at("consume j").runs().exits(0).prints("{\"a\": 1}\n");
    log_at("produce j").stdin("no json\n").runs().exits(2).complains("not JSON");
}

#[test]
fn keys_have_schemas_of_their_own() {
    let (log, registry, home) = (Log::starts(), Registry::starts(), Home::new());
    let log_at = |words: &str| log.log(words).env("BANDY_SCHEMA_REGISTRY", &registry.url);
    log.log("create orders").runs().exits(0);
    let (order, key) = (home.file("order.avsc", ORDER), home.file("key.avsc", "\"long\""));
    let (order, key) = (order.display(), key.display());
    log_at("produce orders --encode-keys --subject x").runs().exits(5).complains("no subject 'x'");
    log_at(&format!("produce orders -k 7 --schema {order} --key-schema {key}"))
        .stdin("{\"id\":1}\n")
        .runs()
        .exits(0);
    let more = "{\"key\":\"8\",\"value\":{\"id\":2}}\n{\"key\":\"no\",\"value\":{\"id\":3}}\n";
    log_at("produce orders --json --encode-keys")
        .stdin(more)
        .runs()
        .exits(7)
        .complains("line 2: the key does not fit the schema: not JSON");
    log.log("consume orders -o '%k{hex} %v{hex}'")
        .runs()
        .exits(0)
        .prints("00000000020e 00000000010200\n000000000210 00000000010400\n");
    // Both are found by the numbers in them; keys only if they are asked for.
    log_at("consume orders --decode-keys -o '%k %v'")
        .runs()
        .exits(0)
        .prints("7 {\"id\":1,\"note\":null}\n8 {\"id\":2,\"note\":null}\n");
    log_at("consume orders -n 1 -o '%k{hex}'").runs().exits(0).prints("00000000020e\n");
    // Without a registry, keys alone.
    log.log("create plain").runs().exits(0);
    log.log(&format!("produce plain hello -k 64 --key-schema {key}")).runs().exits(0);
    log.log("consume plain -o '%k{hex} %v'").runs().exits(0).prints("8001 hello\n");
    log.log(&format!("consume plain -o '%k %v' --key-schema {key}")).runs().exits(0).prints("64 hello\n");
    log.log("produce plain hello -k 1 --encode-keys").runs().exits(2).complains("which schema do keys have?");
}

#[test]
fn a_registry_has_an_authority_of_its_own() {
    let (log, home) = (Log::starts(), Home::new());
    let keys = home.path("keys");
    // It is none, but it answers over TLS.
    let server = bandy(&format!("rpc serve -l https://:0 --tls-self-signed={} who=date", keys.display()))
        .home(&home)
        .starts();
    let (_, place) = server.url.split_once("://").unwrap();
    log.log("create t").runs().exits(0);
    let at = |query: &str| log.log(&format!("produce t x --registry 'https://{place}{query}'")).runs();
    at("").exits(3).complains("certificate");
    let trusted = format!("?cacert={}", keys.join("cert.pem").display());
    let said = at(&trusted).exits(5);
    said.complains("the schema registry has no subject 't-value'");
    at("?cacert=/nowhere.pem").exits(1).complains("cannot read /nowhere.pem");
    at("?ca=x").exits(2).complains("?ca=x is nothing that is said to a schema registry");
}

#[test]
fn a_local_schema_needs_no_registry() {
    let (log, home) = (Log::starts(), Home::new());
    log.log("create t").runs().exits(0);
    let schema = home.file("order.avsc", ORDER);
    let with = |words: &str| log.log(&format!("{words} --schema {}", schema.display()));
    with("produce t").stdin("{\"id\":1,\"note\":\"a\"}\n").runs().exits(0);
    log.log("consume t -o '%v{hex}'").runs().exits(0).prints("02020261\n");
    with("consume t").runs().exits(0).prints("{\"id\":1,\"note\":\"a\"}\n");
    log.log("produce t x").runs().exits(0);
    let ran = with("consume t --from 1").runs().exits(0);
    ran.prints("x\n").complains("t p0 @1 is shown as it is: not of this Avro schema");
    let wrong = home.file("wrong.avsc", "{");
    log.log(&format!("consume t --schema {}", wrong.display()))
        .runs()
        .exits(2)
        .complains("not an Avro schema");
}

#[test]
fn a_context_is_made_of_the_file_of_another_client() {
    let home = Home::new();
    let text = "bootstrap.servers=127.0.0.1:1,127.0.0.1:2\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n\
        sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"bob\" password=\"x\";\n";
    let file = home.file("client.properties", text);
    let at = |words: &str| bandy(words).home(&home);
    at(&format!("context add k --kafka-config {}", file.display())).runs().exits(0);
    let shown = at("context show k --json").runs().exits(0).object();
    assert_eq!(shown["log"], "kafka://127.0.0.1:1,127.0.0.1:2?sasl=scram-sha-256");
    assert_eq!(shown["user"], "bob");
    let secret = std::fs::read_to_string(shown["password_file"].as_str().unwrap()).unwrap();
    assert_eq!(secret, "x\n");
    at("log ls --context k").runs().exits(3).complains("cannot reach");
    at("context rm k").runs().exits(0);
    assert!(!std::path::Path::new(shown["password_file"].as_str().unwrap()).exists());
    let bad = home.file("bad.conf", "a=b\n");
    at(&format!("context add b --kafka-config {}", bad.display()))
        .runs()
        .exits(2)
        .complains("bootstrap.servers");
}
