//! What a user may have and do, by the management API at the broker's own port.

use std::io::{Read, Write};
use std::net::TcpStream;

use bandy::mq::wire::method::{basic, channel};
use bandy::mq::wire::{self, FRAME_SIZE_DEFAULT};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Client, GUEST, Login, broker, dial};
use crate::support::{DEADLINE, Running, until};

/// Asks the API at the port of AMQP; the status and what follows it.
fn asks(server: &Running, head: &str, body: &str) -> (u16, String) {
    let mut socket = dial(server);
    let credentials = STANDARD.encode("guest:guest");
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Basic {credentials}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (status.parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[track_caller]
fn does(server: &Running, head: &str, body: &str) {
    let (status, text) = asks(server, head, body);
    assert!(matches!(status, 201 | 204), "{head}: {status} {text}");
}

const EVE: Login = Login { response: b"\0eve\0secret", ..GUEST };

fn open(client: &mut Client, number: u16) -> String {
    client.say(number, channel::Open { out_of_band: "" });
    client.next()
}

#[test]
fn a_user_has_no_more_connections_and_channels_than_its_limits_allow() {
    let server = broker("--memory");
    does(&server, "PUT /api/users/eve", r#"{"password": "secret", "tags": ""}"#);
    for vhost in ["%2F", "shop"] {
        if vhost == "shop" {
            does(&server, "PUT /api/vhosts/shop", "{}");
        }
        let all = r#"{"configure": ".*", "write": ".*", "read": ".*"}"#;
        does(&server, &format!("PUT /api/permissions/{vhost}/eve"), all);
    }
    does(&server, "PUT /api/user-limits/eve/max-channels", r#"{"value": 3}"#);
    does(&server, "PUT /api/user-limits/eve/max-connections", r#"{"value": 2}"#);
    let come_in = |vhost| {
        let mut client = Client::to(&server);
        let answer = client.login(&Login { vhost, ..EVE });
        (client, answer)
    };
    // Over all virtual hosts.
    let (mut one, answer) = come_in("/");
    assert_eq!(answer, "connection.open-ok");
    let (mut two, answer) = come_in("shop");
    assert_eq!(answer, "connection.open-ok");
    let full = "connection.close NOT_ALLOWED - connection refused for user 'eve': user connection limit (2) is reached";
    assert_eq!(come_in("/").1, full);
    assert_eq!([open(&mut one, 1), open(&mut one, 2), open(&mut two, 1)], ["channel.open-ok"; 3]);
    let full = "connection.close NOT_ALLOWED - number of channels opened for user 'eve' has reached the maximum \
                allowed user limit of (3)";
    assert_eq!(open(&mut two, 2), full);
    drop(two);
    // Its channel is free again, as is one that is closed.
    assert_eq!(open(&mut one, 3), "channel.open-ok");
    one.say(3, channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 });
    assert_eq!(one.next(), "channel.close-ok");
    assert_eq!(open(&mut one, 3), "channel.open-ok");
    does(&server, "PUT /api/user-limits/eve/max-channels", r#"{"value": -1}"#);
    assert_eq!(open(&mut one, 4), "channel.open-ok");
    does(&server, "DELETE /api/user-limits/eve/max-connections", "");
    until("who left is gone", || {
        asks(&server, "GET /api/connections", "").1.matches("\"user\":\"eve\"").count() == 1
    });
    let (mut three, answer) = come_in("/");
    assert_eq!((answer.as_str(), open(&mut three, 1).as_str()), ("connection.open-ok", "channel.open-ok"));
    // Others are not concerned.
    let mut guest = Client::ready(&server);
    assert_eq!(open(&mut guest, 2), "channel.open-ok");
}

#[test]
fn the_api_is_at_the_port_of_amqp_unless_nobody_wants_it() {
    let server = broker("--memory");
    let (status, body) = asks(&server, "GET /api/whoami", "");
    assert_eq!((status, body.as_str()), (200, r#"{"name":"guest","tags":["administrator"]}"#));
    let server = broker("--memory --admin none");
    let mut socket = dial(&server);
    socket.write_all(b"GET /api/whoami HTTP/1.1\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, b"AMQP\0\0\x09\x01");
}

#[test]
fn prometheus_is_told_of_each_object_too() {
    let mut server = crate::support::bandy("mq broker -l :0 --memory --metrics 127.0.0.1:0").spawns();
    server.says("metrics at http://");
    let said = server.stderr();
    let at = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    server.url = server.line();
    let mut client = Client::ready(&server);
    client.declare("q\"1");
    client.publish("q\"1", b"hello");
    assert_eq!(client.declare("q\"1"), "q\"1 1");
    let mut stranger = Client::to(&server);
    assert!(stranger.login(&Login { response: b"\0guest\0wrong", ..GUEST }).contains("ACCESS_REFUSED"));
    let page = |path: &str| {
        let mut socket = TcpStream::connect(&at).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        page
    };
    let sums = page("/metrics");
    for line in [
        "rabbitmq_queue_messages_ready 1",
        "rabbitmq_queue_messages_bytes 5",
        "rabbitmq_channel_messages_published_total 1",
        "rabbitmq_connections_opened_total 1",
        "rabbitmq_auth_attempts_total{protocol=\"amqp091\"} 2",
        "rabbitmq_auth_attempts_failed_total{protocol=\"amqp091\"} 1",
        "# TYPE process_open_fds gauge",
    ] {
        assert!(sums.lines().any(|found| found == line), "{line}:\n{sums}");
    }
    let each = page("/metrics/per-object");
    assert!(each.contains("rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"q\\\"1\"} 1\n"), "{each}");
    assert!(each.contains("rabbitmq_channel_messages_published_total{channel=\"127.0.0.1:"), "{each}");
    assert!(page("/nothing").ends_with("here are /metrics, /metrics/per-object and /healthz\n"));
}

/// Publishes to `amq.topic` and asks something else, whose answer is the first if nothing is wrong.
fn publish_to_topic(client: &mut Client, key: &str) -> String {
    let publish =
        basic::Publish { exchange: "amq.topic", routing_key: key.as_bytes(), ..basic::Publish::default() };
    let mut bytes = Vec::new();
    wire::content(&mut bytes, 1, &publish.into(), &[0, 0], b"x", FRAME_SIZE_DEFAULT);
    client.socket.write_all(&bytes).unwrap();
    client.ask(basic::Qos::default())
}

#[test]
fn a_topic_permission_may_be_about_the_name_of_who_asks() {
    let server = broker("--memory");
    let own = r#"{"exchange": "amq.topic", "write": "^{username}\\.{1,2}[a-z]", "read": ".*"}"#;
    does(&server, "PUT /api/topic-permissions/%2F/guest", own);
    let (_, shown) = asks(&server, "GET /api/topic-permissions/%2F/guest", "");
    assert!(shown.contains(r#""write":"^{username}\\.{1,2}[a-z]""#), "{shown}");
    let mut client = Client::ready(&server);
    assert_eq!(publish_to_topic(&mut client, "guest.eu"), "basic.qos-ok");
    assert_eq!(publish_to_topic(&mut client, "guest..eu"), "basic.qos-ok");
    let refused = publish_to_topic(&mut client, "eve.eu");
    assert!(refused.starts_with("channel.close ACCESS_REFUSED"), "{refused}");
}

#[test]
fn a_policy_may_leave_out_what_begins_with_a_word() {
    let server = broker("--memory");
    let mut client = Client::ready(&server);
    for queue in ["jobs", "private.jobs"] {
        client.declare(queue);
    }
    let policy = r#"{"pattern": "^(?!private\\.)", "definition": {"max-length": 1}}"#;
    does(&server, "PUT /api/policies/%2F/p", policy);
    let policy_of = |queue: &str| {
        let (_, shown) = asks(&server, &format!("GET /api/queues/%2F/{queue}"), "");
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["policy"].clone()
    };
    assert_eq!((policy_of("jobs"), policy_of("private.jobs")), ("p".into(), serde_json::Value::Null));
    let (status, text) =
        asks(&server, "PUT /api/policies/%2F/w", r#"{"pattern": "a(?!b)", "definition": {}}"#);
    assert_eq!(status, 400, "{text}");
}
