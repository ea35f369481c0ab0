//! The management API of `bandy mq broker`, asked with plain HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use bandy::mq::wire::method::{basic, channel, connection, queue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Client, GUEST, Login};
use crate::support::{DEADLINE, Home, Running, bandy, until};

/// A broker with its API.
struct Admin {
    server: Running,
    address: String,
}

/// What was answered.
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The members `error` and `reason`.
    #[track_caller]
    fn refusal(&self) -> (u16, Value, Value) {
        let body = self.json();
        (self.status, body["error"].clone(), body["reason"].clone())
    }
}

fn admin(flags: &str) -> Admin {
    of(bandy(&format!("mq broker -l :0 --admin :0 {flags}")).starts())
}

fn of(mut server: Running) -> Admin {
    let address = server.line().strip_prefix("http://").expect("the second line is the API's").to_owned();
    Admin { server, address }
}

impl Admin {
    /// Sends bytes as they are; what comes back until the server closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn asks(&self, credentials: &str, head: &str, more: &str, body: &str) -> Answered {
        let (method, path) = head.split_once(' ').unwrap();
        let credentials = STANDARD.encode(credentials);
        let answer = self.raw(
            format!(
                "{method} /api{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
                 authorization: Basic {credentials}\r\ncontent-length: {}\r\n{more}\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answered {
        self.asks("guest:guest", &format!("GET {path}"), "", "")
    }

    /// Does something as guest; the status.
    fn does(&self, head: &str, body: Value) -> Answered {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.asks("guest:guest", head, "", &body)
    }
}

#[test]
fn a_connection_is_listed_and_sent_away_with_the_reason() {
    let admin = admin("");
    let mut client = Client::ready(&admin.server);
    client.declare("q");
    client.consume("q", false);
    let listed = admin.get("/connections").json();
    let connection = &listed[0];
    let name = connection["name"].as_str().unwrap();
    assert!(name.contains(" -> 127.0.0.1:"), "{name}");
    for (member, expected) in [
        ("user", json!("guest")),
        ("vhost", json!("/")),
        ("state", json!("running")),
        ("channels", json!(1)),
        ("protocol", json!("AMQP 0-9-1")),
        ("channel_max", json!(2047)),
        ("frame_max", json!(131_072)),
        ("timeout", json!(0)),
        ("auth_mechanism", json!("PLAIN")),
        ("peer_host", json!("127.0.0.1")),
        ("type", json!("network")),
    ] {
        assert_eq!(connection[member], expected, "{member}");
    }
    assert_eq!(connection["client_properties"]["capabilities"]["connection.blocked"], true);
    assert!(connection["recv_oct"].as_u64().unwrap() > 0 && connection["send_oct"].as_u64().unwrap() > 0);
    assert_eq!(admin.get("/channels").json()[0]["name"], format!("{name} (1)"));
    assert_eq!(admin.get("/consumers").json()[0]["channel_details"]["connection_name"], name);
    let path = name.replace(' ', "%20").replace('>', "%3E").replace(':', "%3A");
    assert_eq!(admin.get(&format!("/connections/{path}")).json()["name"], name);
    assert_eq!(admin.get(&format!("/connections/{path}/channels")).json()[0]["number"], 1);
    let head = format!("DELETE /connections/{path}");
    assert_eq!(admin.asks("guest:guest", &head, "x-reason: because\r\n", "").status, 204);
    assert_eq!(client.next(), "connection.close CONNECTION_FORCED - because");
    client.say(0, connection::CloseOk {});
    assert_eq!(client.next(), "end");
    until("it is off the list", || admin.get("/connections").json() == json!([]));
    assert_eq!(admin.does(&head, Value::Null).status, 404);
    assert_eq!(admin.get("/queues/%2F/q").json()["consumers"], 0);
}

#[test]
fn queues_exchanges_bindings_and_messages_come_and_go() {
    let admin = admin("");
    let does = |head: &str, body: Value| admin.does(head, body).status;
    assert_eq!(
        does("PUT /queues/%2F/a%2Fb", json!({"durable": true, "arguments": {"x-max-length": 2}})),
        201
    );
    assert_eq!(
        does("PUT /queues/%2F/a%2Fb", json!({"durable": true, "arguments": {"x-max-length": 2}})),
        204
    );
    let refused = admin.does("PUT /queues/%2F/a%2Fb", json!({"durable": false})).refusal();
    let reason =
        "inequivalent arg 'durable' for queue 'a/b' in vhost '/': received 'false' but current is 'true'";
    assert_eq!(refused, (400, json!("bad_request"), json!(reason)));
    assert_eq!(does("PUT /exchanges/%2F/e", json!({"type": "topic", "durable": true})), 201);
    let bound =
        admin.does("POST /bindings/%2F/e/e/q/a%2Fb", json!({"routing_key": "k.#", "arguments": {"x": 1}}));
    assert_eq!(bound.status, 201);
    assert!(bound.head.contains("location: a%2fb/k%2e%2523~"), "{}", bound.head);
    let bindings = admin.get("/bindings/%2F/e/e/q/a%2Fb").json();
    let key = bindings[0]["properties_key"].as_str().unwrap().to_owned();
    let encoded = key.replace('%', "%25");
    assert_eq!(admin.get(&format!("/bindings/%2F/e/e/q/a%2Fb/{encoded}")).json(), bindings[0]);
    let publish = |key: &str, payload: &str, encoding: &str| {
        let message = json!({
            "properties": {"delivery_mode": 2, "headers": {"h": [1, "x"]}}, "routing_key": key,
            "payload": payload, "payload_encoding": encoding,
        });
        admin.does("POST /exchanges/%2F/e/publish", message).json()
    };
    assert_eq!(publish("k.1", "one", "string"), json!({"routed": true}));
    assert_eq!(publish("k.2", "//79", "base64"), json!({"routed": true}));
    assert_eq!(publish("other", "x", "string"), json!({"routed": false}));
    let get = |mode: &str, truncate: Value| {
        let order = json!({"count": 5, "ackmode": mode, "encoding": "auto", "truncate": truncate});
        admin.does("POST /queues/%2F/a%2Fb/get", order).json()
    };
    let got = get("ack_requeue_true", json!(2));
    assert_eq!(got[0]["payload"], "on");
    assert_eq!(got[0]["payload_bytes"], 3);
    assert_eq!(got[0]["properties"], json!({"delivery_mode": 2, "headers": {"h": [1, "x"]}}));
    assert_eq!((&got[1]["payload"], &got[1]["payload_encoding"]), (&json!("//4="), &json!("base64")));
    assert_eq!(get("ack_requeue_false", Value::Null).as_array().unwrap().len(), 2);
    assert_eq!(get("reject_requeue_false", Value::Null), json!([]));
    let stats = admin.get("/queues/%2F/a%2Fb").json()["message_stats"].clone();
    assert_eq!((&stats["publish"], &stats["get"], &stats["get_no_ack"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(admin.get("/exchanges/%2F/e").json()["message_stats"]["publish_in"], 3);
    publish("k.3", "x", "string");
    assert_eq!(does("DELETE /queues/%2F/a%2Fb?if-empty=true", Value::Null), 400);
    assert_eq!(does("DELETE /queues/%2F/a%2Fb/contents", Value::Null), 204);
    assert_eq!(does(&format!("DELETE /bindings/%2F/e/e/q/a%2Fb/{encoded}"), Value::Null), 204);
    assert_eq!(does("DELETE /queues/%2F/a%2Fb?if-empty=true", Value::Null), 204);
    assert_eq!(does("DELETE /queues/%2F/a%2Fb", Value::Null), 404);
    assert_eq!(does("DELETE /exchanges/%2F/e", Value::Null), 204);
    assert_eq!(admin.does("DELETE /exchanges/%2F/amq.topic", Value::Null).refusal().1, "not_authorised");
    assert_eq!(admin.get("/aliveness-test/%2F").json(), json!({"status": "ok"}));
}

#[test]
fn users_and_virtual_hosts_change_while_clients_are_connected() {
    let admin = admin("");
    let does = |head: &str, body: Value| admin.does(head, body).status;
    assert_eq!(does("PUT /vhosts/shop", json!({"description": "d", "tags": "a,b"})), 201);
    assert_eq!(admin.get("/vhosts/shop").json()["tags"], json!(["a", "b"]));
    assert_eq!(does("PUT /users/eve", json!({"password": "s3cret", "tags": "monitoring"})), 201);
    let eve = || Login { response: b"\0eve\0s3cret", vhost: "shop", ..GUEST };
    let refused = Client::to(&admin.server).login(&eve());
    assert_eq!(refused, "connection.close NOT_ALLOWED - access to vhost 'shop' refused for user 'eve'");
    let may = |configure: &str| json!({"configure": configure, "write": ".*", "read": ".*"});
    assert_eq!(does("PUT /permissions/shop/eve", may("^eve")), 201);
    let mut client = Client::to(&admin.server);
    assert_eq!(client.login(&eve()), "connection.open-ok");
    assert_eq!(client.ask(channel::Open { out_of_band: "" }), "channel.open-ok");
    assert_eq!(client.declare("eve.q"), "eve.q 0");
    // What may be done changes for those who are in.
    assert_eq!(does("PUT /permissions/shop/eve", may("^other")), 204);
    let denied = client.ask(queue::Delete { queue: "eve.q", ..queue::Delete::default() });
    assert!(denied.starts_with("channel.close ACCESS_REFUSED"), "{denied}");
    assert_eq!(does("DELETE /vhosts/shop", Value::Null), 204);
    assert_eq!(client.next(), "connection.close CONNECTION_FORCED - vhost 'shop' is deleted");
    assert_eq!(
        Client::to(&admin.server).login(&eve()),
        "connection.close NOT_ALLOWED - vhost shop not found"
    );
    assert_eq!(does("PUT /permissions/%2F/eve", may(".*")), 201);
    let mut client = Client::to(&admin.server);
    assert_eq!(client.login(&Login { vhost: "/", ..eve() }), "connection.open-ok");
    assert_eq!(does("PUT /user-limits/eve/max-connections", json!({"value": 1})), 204);
    let refused = Client::to(&admin.server).login(&Login { vhost: "/", ..eve() });
    assert!(refused.contains("user connection limit (1) is reached"), "{refused}");
    assert_eq!(admin.asks("eve:s3cret", "GET /whoami", "", "").json()["tags"], json!(["monitoring"]));
    assert_eq!(admin.asks("eve:s3cret", "GET /users", "", "").refusal().2, "Not administrator user");
    assert_eq!(does("DELETE /users/eve", Value::Null), 204);
    assert_eq!(client.next(), "connection.close CONNECTION_FORCED - user 'eve' was deleted");
    assert_eq!(admin.asks("eve:s3cret", "GET /whoami", "", "").refusal().2, "Login failed");
}

#[test]
fn policies_hold_at_once_and_show() {
    let admin = admin("");
    assert_eq!(admin.does("PUT /queues/%2F/q", json!({})).status, 201);
    let mut client = Client::ready(&admin.server);
    for body in [b"1", b"2", b"3"] {
        client.publish("q", body);
    }
    assert_eq!(client.declare("other"), "other 0");
    let policy =
        json!({"pattern": "^q$", "definition": {"max-length": 2}, "apply-to": "queues", "priority": 7});
    assert_eq!(admin.does("PUT /policies/%2F/p", policy).status, 201);
    let shown = admin.get("/queues/%2F/q").json();
    assert_eq!((&shown["messages"], &shown["policy"]), (&json!(2), &json!("p")));
    let limit = json!({"pattern": "^q$", "definition": {"max-length": 1}});
    assert_eq!(admin.does("PUT /operator-policies/%2F/o", limit).status, 201);
    let shown = admin.get("/queues/%2F/q").json();
    assert_eq!((&shown["messages"], &shown["operator_policy"]), (&json!(1), &json!("o")));
    assert_eq!(shown["effective_policy_definition"], json!({"max-length": 1}));
    assert_eq!(admin.get("/policies/%2F/p").json()["priority"], 7);
    let wrong = admin.does("PUT /policies/%2F/w", json!({"pattern": "x", "definition": {"nope": 1}}));
    assert!(wrong.body.contains("are not recognised policy settings"), "{}", wrong.body);
    assert_eq!(admin.does("DELETE /policies/%2F/p", Value::Null).status, 204);
    assert_eq!(admin.get("/policies").json(), json!([]));
}

#[test]
fn definitions_move_from_one_broker_to_another() {
    let first = admin("");
    for (head, body) in [
        ("PUT /vhosts/shop", json!({})),
        ("PUT /users/eve", json!({"password": "s3cret", "tags": ["management"]})),
        ("PUT /permissions/shop/eve", json!({"configure": "", "write": "", "read": ".*"})),
        ("PUT /topic-permissions/shop/eve", json!({"exchange": "e", "write": "", "read": "^k"})),
        ("PUT /queues/shop/q", json!({"durable": true, "arguments": {"x-message-ttl": 5}})),
        ("PUT /exchanges/shop/e", json!({"type": "topic", "durable": true})),
        ("POST /bindings/shop/e/e/q/q", json!({"routing_key": "k"})),
        ("PUT /policies/shop/p", json!({"pattern": "q", "definition": {"max-length": 3}})),
        ("PUT /operator-policies/shop/o", json!({"pattern": "q", "definition": {"expires": 60_000}})),
        ("PUT /vhost-limits/shop/max-queues", json!({"value": 9})),
        ("PUT /global-parameters/mine", json!({"value": {"a": 1}})),
    ] {
        let status = first.does(head, body).status;
        assert!(matches!(status, 201 | 204), "{head}: {status}");
    }
    let file = first.get("/definitions").json();
    let second = admin("");
    assert_eq!(second.does("POST /definitions", file.clone()).status, 204);
    let again = second.get("/definitions").json();
    for member in [
        "vhosts",
        "permissions",
        "topic_permissions",
        "parameters",
        "policies",
        "queues",
        "exchanges",
        "bindings",
        "global_parameters",
    ] {
        assert_eq!(again[member], file[member], "{member}");
        assert!(!file[member].as_array().unwrap().is_empty(), "{member}");
    }
    assert_eq!(second.asks("eve:s3cret", "GET /whoami", "", "").status, 200);
    // And as a file at the start, where who defines users wants no guest.
    let home = Home::new();
    let path = home.file("definitions.json", file.to_string());
    let third = of(bandy("mq broker -l :0 --admin :0 --definitions").arg(&path).starts());
    assert_eq!(third.get("/queues/shop/q").json()["policy"], "p");
    let file = json!({"users": [{"name": "bob", "password": "x", "tags": "administrator"}], "queues": [{"name": "q"}]});
    let path = home.file("bob.json", file.to_string());
    let fourth = of(bandy("mq broker -l :0 --admin :0 --definitions").arg(&path).starts());
    assert_eq!(fourth.get("/whoami").status, 401);
    assert_eq!(fourth.asks("bob:x", "GET /vhosts", "", "").json()[0]["name"], "/");
    bandy("mq broker -l :0 --definitions")
        .arg(home.file("bad.json", r#"{"queues":[{"name":"q","vhost":"nope"}]}"#))
        .runs()
        .exits(2)
        .complains("virtual host 'nope' is not defined");
}

#[test]
fn what_makes_no_sense_is_answered_and_nobody_else_notices() {
    let admin = admin("");
    assert_eq!(admin.get("/nope").refusal(), (404, json!("Object Not Found"), json!("Not Found")));
    let patched = admin.does("PATCH /queues/%2F/q", Value::Null);
    assert_eq!(patched.status, 405);
    assert!(patched.head.contains("allow: head, get, put, delete, options"), "{}", patched.head);
    assert_eq!(admin.asks("guest:wrong", "GET /overview", "", "").refusal().2, "Login failed");
    assert!(
        admin.raw(b"GET /api/overview HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").contains(" 401 ")
    );
    for head in ["GET /queues/%2F/%zz", "GET /%"] {
        assert_eq!(admin.asks("guest:guest", head, "", "").status, 400, "{head}");
    }
    let twice =
        "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?";
    let refused = admin.asks("guest:guest", "PUT /queues/%2F/q", "", "\"x\"");
    assert_eq!(refused.refusal(), (400, json!("bad_request"), json!(twice)));
    for body in ["{bad", "[1]", "5", &"[".repeat(100_000), "{\"a\":1e999}"] {
        let refused = admin.asks("guest:guest", "PUT /queues/%2F/q", "", body);
        assert_eq!(refused.refusal(), (400, json!("bad_request"), json!("not_json")), "{body:.20}");
    }
    let long = "x".repeat(300);
    for (head, body) in [
        (format!("PUT /queues/%2F/{long}"), json!({})),
        ("PUT /queues/%2F/q".to_owned(), json!({"durable": "yes"})),
        ("PUT /queues/%2F/q".to_owned(), json!({"arguments": {long.clone(): 1}})),
        ("PUT /queues/%2F/q".to_owned(), json!({"arguments": {"x-max-length": -5}})),
        ("PUT /exchanges/%2F/e".to_owned(), json!({"type": "nope"})),
        ("POST /exchanges/%2F/amq.topic/publish".to_owned(), json!({"payload": "x"})),
        ("PUT /permissions/%2F/guest".to_owned(), json!({"configure": "(", "write": "", "read": ""})),
        ("PUT /permissions/%2F/nobody".to_owned(), json!({"configure": "", "write": "", "read": ""})),
        ("PUT /users/x".to_owned(), json!({"password_hash": "zz", "tags": ""})),
        ("POST /definitions".to_owned(), json!({"queues": 5})),
        ("POST /definitions".to_owned(), json!({"exchanges": [{"name": "e", "vhost": "/", "type": "nope"}]})),
    ] {
        let answered = admin.does(&head, body);
        assert_eq!(answered.status, 400, "{head}: {}", answered.body);
        assert!(answered.json()["reason"] != Value::Null, "{head}: {}", answered.body);
    }
    assert_eq!(
        admin
            .does(
                "POST /queues/%2F/no/get",
                json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"})
            )
            .status,
        404
    );
    let large = admin.raw(
        format!("PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\ncontent-length: 4000000000\r\n\r\n", STANDARD.encode("guest:guest"))
            .as_bytes(),
    );
    assert!(large.contains("body size limit"), "{large}");
    for garbage in [&b"\0\0\0\0\r\n\r\n"[..], b"GET", b"GET / HTTP/9.9\r\n\r\n", &[0xff; 70_000]] {
        let _ = admin.raw(garbage);
    }
    // Half a request holds nobody up.
    let mut half = TcpStream::connect(&admin.address).unwrap();
    half.write_all(b"GET /api/over").unwrap();
    assert_eq!(admin.get("/overview").json()["object_totals"]["queues"], 0);
    assert_eq!(Client::ready(&admin.server).declare("q"), "q 0");
}

#[test]
fn rates_and_totals_move_with_what_happens() {
    let admin = admin("");
    let mut client = Client::ready(&admin.server);
    client.declare("q");
    client.consume("q", true);
    let rate = || {
        let overview = admin.get("/overview").json();
        let stats = &overview["message_stats"];
        (stats["publish_details"]["rate"].as_f64().unwrap_or(0.0), stats["publish"].as_u64().unwrap_or(0))
    };
    let mut sent = 0;
    until("the rate of publishing is above none", || {
        client.publish("q", b"x");
        sent += 1;
        assert!(client.next().starts_with("deliver"));
        let (rate, total) = rate();
        assert!(total <= sent, "{total} of {sent}");
        rate > 0.0
    });
    let queue = admin.get("/queues/%2F/q").json();
    assert_eq!(queue["message_stats"]["publish"], sent);
    assert_eq!(queue["message_stats"]["deliver_no_ack"], sent);
    assert_eq!(admin.get("/vhosts").json()[0]["message_stats"]["deliver_get"], sent);
    assert_eq!(client.ask(basic::Get { queue: "q", ..basic::Get::default() }), "empty");
    assert_eq!(admin.get("/channels").json()[0]["message_stats"]["get_empty"], 1);
    assert_eq!(admin.get("/nodes").json()[0]["running"], true);
}

#[test]
fn what_was_changed_is_there_after_kill_9() {
    let home = Home::new();
    let start = || {
        let words = format!("mq broker -l :0 --admin :0 --dir {}", home.path("data").display());
        of(bandy(&words).home(&home).starts())
    };
    let first = start();
    for (head, body) in [
        ("PUT /vhosts/shop", json!({"description": "d"})),
        ("PUT /vhosts/gone", json!({})),
        ("PUT /queues/gone/q", json!({"durable": true})),
        ("PUT /users/eve", json!({"password": "s3cret", "tags": "administrator"})),
        ("PUT /users/bob", json!({"password": "x", "tags": "management"})),
        ("PUT /permissions/shop/eve", json!({"configure": ".*", "write": ".*", "read": ".*"})),
        ("PUT /permissions/shop/bob", json!({"configure": "", "write": "", "read": ""})),
        ("PUT /topic-permissions/shop/eve", json!({"exchange": "amq.topic", "write": "^a", "read": ""})),
        ("PUT /policies/shop/p", json!({"pattern": "q", "definition": {"max-length": 3}})),
        ("PUT /policies/shop/old", json!({"pattern": "q", "definition": {"max-length": 3}})),
        ("PUT /operator-policies/shop/o", json!({"pattern": "q", "definition": {"expires": 60_000}})),
        ("PUT /vhost-limits/shop/max-queues", json!({"value": 1})),
        ("PUT /user-limits/eve/max-connections", json!({"value": 5})),
        ("PUT /global-parameters/mine", json!({"value": {"a": 1}})),
        ("PUT /queues/shop/q", json!({"durable": true})),
        ("DELETE /policies/shop/old", Value::Null),
        ("DELETE /users/bob", Value::Null),
        ("DELETE /vhosts/gone", Value::Null),
        ("PUT /vhosts/gone", json!({})),
    ] {
        let answered = first.does(head, body);
        assert!(matches!(answered.status, 201 | 204), "{head}: {} {}", answered.status, answered.body);
    }
    assert_eq!(first.asks("eve:s3cret", "DELETE /users/guest", "", "").status, 204);
    let as_eve = |admin: &Admin, path: &str| admin.asks("eve:s3cret", &format!("GET {path}"), "", "").json();
    let before = as_eve(&first, "/definitions");
    first.server.signal(rustix::process::Signal::KILL);
    drop(first);
    let second = start();
    let after = as_eve(&second, "/definitions");
    assert_eq!(after, before);
    assert_eq!(after["users"].as_array().unwrap().len(), 1);
    assert_eq!(second.get("/whoami").status, 401);
    let queue = as_eve(&second, "/queues/shop/q");
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("p"), &json!("o")));
    let more = second.asks("eve:s3cret", "PUT /queues/shop/more", "", "{}");
    assert_eq!(more.status, 400, "{}", more.body);
}

#[test]
fn definitions_at_the_start_leave_alone_what_was_changed() {
    let home = Home::new();
    let policy = |name: &str| json!({"vhost": "/", "name": name, "pattern": "x", "definition": {"max-length": 1}, "priority": 0, "apply-to": "all"});
    let file =
        json!({"policies": [policy("p"), policy("gone")], "global_parameters": [{"name": "g", "value": 1}]});
    let file = home.file("definitions.json", file.to_string());
    let start = || {
        let words = format!("mq broker -l :0 --admin :0 --definitions {}", file.display());
        of(bandy(&words).home(&home).starts())
    };
    let figures = |admin: &Admin| {
        let policy = admin.get("/policies/%2F/p").json();
        let global = admin.get("/global-parameters/g").json();
        (
            policy["definition"]["max-length"].clone(),
            global["value"].clone(),
            admin.get("/policies/%2F/gone").status,
        )
    };
    let first = start();
    assert_eq!(figures(&first), (json!(1), json!(1), 200));
    let changed = json!({"pattern": "x", "definition": {"max-length": 2}});
    assert_eq!(first.does("PUT /policies/%2F/p", changed).status, 204);
    assert_eq!(first.does("PUT /global-parameters/g", json!({"value": 2})).status, 204);
    assert_eq!(first.does("DELETE /policies/%2F/gone", Value::Null).status, 204);
    assert_eq!(figures(&first), (json!(2), json!(2), 404));
    first.server.signal(rustix::process::Signal::KILL);
    drop(first);
    assert_eq!(figures(&start()), (json!(2), json!(2), 200));
}

#[test]
fn the_disk_of_the_queues_is_what_is_looked_at() {
    let home = Home::new();
    let start = |flags: &str| of(bandy(&format!("mq broker -l :0 --admin :0 {flags}")).home(&home).starts());
    let admin = start("");
    let node = admin.get("/nodes").json()[0].clone();
    assert!(node["disk_free"].as_u64().unwrap() > 0, "{node}");
    assert_eq!((&node["disk_free_limit"], &node["disk_free_alarm"]), (&json!(52_428_800), &json!(false)));
    assert!(node["db_dir"].as_str().unwrap().starts_with(home.path("").to_str().unwrap()), "{node}");
    assert_eq!(admin.get("/health/checks/alarms").status, 200);
    drop(admin);
    let admin = start("--disk-free-min 1000TB");
    until("the disk is looked at", || admin.get("/health/checks/alarms").status == 503);
    assert_eq!(admin.get("/health/checks/local-alarms").json()["alarms"][0]["resource"], "disk");
    assert_eq!(admin.get("/nodes").json()[0]["disk_free_alarm"], true);
}
