//! What is answered is on disk, and a broker that cannot keep that promise ends.

use bandy::mq::wire::Value;
use bandy::mq::wire::method::{basic, queue};
use rustix::process::Signal;

use super::{broker_at, confirms, count, declare, get, send};
use crate::mq_broker::Client;
use crate::support::Home;

#[test]
fn a_broker_that_cannot_keep_definitions_says_so_and_stops() {
    /// How the name of their log begins.
    const DEFINITIONS: &str = "62616e64-";
    let home = Home::new();
    let server = broker_at(&home, "");
    let (mut client, mut idle) = (Client::ready(&server), Client::ready(&server));
    assert_eq!(declare(&mut client, "kept", &[]), "kept 0");
    // The file that is open can be written; the next one cannot be made.
    let logs = std::fs::read_dir(home.path("state/mq/default/logs")).unwrap();
    let found =
        logs.map(|log| log.unwrap()).find(|log| log.file_name().to_str().unwrap().starts_with(DEFINITIONS));
    std::fs::remove_dir_all(found.unwrap().path()).unwrap();
    let filler = "x".repeat(100_000);
    let refused = (0..100).find_map(|number| {
        let name = format!("q{number}");
        let answer = declare(&mut client, &name, &[("x-filler", Value::text(&filler))]);
        (answer != format!("{name} 0")).then_some(answer)
    });
    let said = "connection.close INTERNAL_ERROR - definitions cannot be stored: the broker stops";
    assert_eq!(refused.as_deref(), Some(said));
    assert_eq!(idle.next(), said);
    server
        .ends()
        .exits(1)
        .complains("definitions cannot be stored: log 62616e64")
        .complains("start the broker anew");
}

#[test]
fn what_was_purged_or_deleted_does_not_come_back_after_a_kill() {
    let home = Home::new();
    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    for name in ["purged", "deleted"] {
        declare(&mut client, name, &[]);
        (0..100).for_each(|_| send(&mut client, name, true, "x"));
    }
    confirms(&mut client);
    send(&mut client, "purged", true, "last");
    assert_eq!(client.next(), "ack 1 false");
    let purge = queue::Purge { queue: "purged", ..queue::Purge::default() };
    assert_eq!(client.ask(purge), "queue.purge-ok");
    let delete = queue::Delete { queue: "deleted", ..queue::Delete::default() };
    assert_eq!(client.ask(delete), "queue.delete-ok");
    server.signal(Signal::KILL);
    server.ends().dies_by(Signal::KILL);

    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    assert_eq!(count(&mut client, "purged"), "purged 0");
    assert_eq!(get(&mut client, "purged"), "empty");
    assert_eq!(declare(&mut client, "deleted", &[]), "deleted 0");
    assert_eq!(client.ask(basic::Get { queue: "deleted", ..basic::Get::default() }), "empty");
}
