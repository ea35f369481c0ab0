//! The API on a disk that fails: what cannot be kept is no success.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Facts, Management};
use crate::mq::durable::{self, Durable};
use crate::mq::engine::{Compat, Config};
use crate::mq::server::{Broker, Limits, Users};
use crate::shutdown::Shutdown;
use crate::storage::disk::sim::{Faults, SimDisk};
use crate::storage::{self, Durability, Store};
use crate::transport::{Address, Listener, Stream};

/// A broker with its API, on a disk of the test's.
async fn broker_on(disk: &SimDisk, shutdown: &Shutdown) -> (Arc<Durable>, Listener, Arc<Management>) {
    let options = storage::Options { durability: Durability::Group, ..storage::Options::default() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/data"), options).unwrap();
    let options = durable::Options { dir: "/data".into(), durability: Durability::Group, disk_free_min: 0 };
    let durable = Arc::new(Durable::on(store, options).unwrap());
    let limits = Limits::like(Compat::V3);
    let broker = Broker::new(
        Users::default(),
        limits,
        &Config::default(),
        Some(Arc::clone(&durable)),
        shutdown.clone(),
    );
    durable.start().unwrap();
    let facts = Facts { listeners: Vec::new(), memory: Box::new(|| 0), certificate_expires: None };
    let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
    (durable, listener, Management::new(broker, facts))
}

async fn answer(address: &Address, head: &str, body: &str) -> (String, String) {
    let mut stream = Stream::connect(address).await.unwrap();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_stored_is_answered_with_500() {
    let (disk, shutdown) = (SimDisk::default(), Shutdown::new());
    let (_durable, listener, management) = broker_on(&disk, &shutdown).await;
    let address = listener.address().unwrap();
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                stream = listener.accept() => management.serve(stream.unwrap()).await,
                () = stop.draining() => return,
            }
        }
    });
    let policy = r#"{"pattern": "x", "definition": {"max-length": 1}}"#;
    assert_eq!(answer(&address, "PUT /api/vhosts/before", "{}").await.0, "201");
    assert_eq!(answer(&address, "PUT /api/policies/%2F/p", policy).await.0, "201");
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    let (status, body) = answer(&address, "PUT /api/vhosts/after", "{}").await;
    assert_eq!(status, "500", "{body}");
    assert!(body.contains("it could not be written to disk"), "{body}");
    // Nothing is kept any more after that: docs/storage.md.
    for (head, body) in [
        ("PUT /api/users/eve", r#"{"password": "x", "tags": ""}"#),
        ("PUT /api/policies/%2F/p", policy),
        ("DELETE /api/policies/%2F/p", ""),
        ("PUT /api/global-parameters/x", r#"{"value": 1}"#),
        ("PUT /api/permissions/before/guest", r#"{"configure": "", "write": "", "read": ""}"#),
        ("PUT /api/vhost-limits/before/max-queues", r#"{"value": 1}"#),
        ("PUT /api/user-limits/guest/max-channels", r#"{"value": 1}"#),
        ("POST /api/definitions", r#"{"vhosts": [{"name": "imported"}]}"#),
        ("DELETE /api/vhosts/before", ""),
    ] {
        let (status, text) = answer(&address, head, body).await;
        assert_eq!(status, "500", "{head}: {text}");
    }
    shutdown.drain();
}
