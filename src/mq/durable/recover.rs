//! The start: definitions and messages of a virtual host from the disk to its engine.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value as Json;

use super::definition;
use super::keeper::Chore;
use super::metadata::Metadata;
use super::reader::Past;
use super::replay::{Replayed, replay};
use super::writer::{Kept, Writer};
use super::{Durable, Link};
use crate::mq::engine::{Definitions, Engine, Millis, Outputs, QueueId};
use crate::storage::{Error, Log, LogConfig, LogId};

/// What the definitions of a virtual host say, and which log belongs to what.
#[derive(Default)]
struct Found {
    definitions: Definitions,
    queues: Vec<(String, LogId)>,
    exchanges: Vec<(String, LogId)>,
}

fn log_of(value: &Json) -> Option<LogId> {
    value["log"].as_str()?.parse().ok()
}

impl Found {
    fn on(metadata: &Metadata, vhost: &str) -> Self {
        let mut found = Self::default();
        let here = |names: &[String]| names.first().is_some_and(|first| first == vhost);
        for (names, value) in metadata.of_kind("queue").filter(|(names, _)| here(names)) {
            let Some(definition) = definition::queue(value, &names) else { continue };
            found.queues.extend(log_of(value).map(|log| (definition.name.clone(), log)));
            found.definitions.queues.push(definition);
        }
        for (names, value) in metadata.of_kind("exchange").filter(|(names, _)| here(names)) {
            let Some(definition) = definition::exchange(value, &names) else { continue };
            found.exchanges.extend(log_of(value).map(|log| (definition.name.clone(), log)));
            found.definitions.exchanges.push(definition);
        }
        for (names, value) in metadata.of_kind("binding").filter(|(names, _)| here(names)) {
            found.definitions.bindings.extend(definition::binding(value, &names));
        }
        found
    }
}

/// Gives an engine definitions, but for those that make no sense.
fn define(engine: &mut Engine, now: Millis, definitions: &Definitions, out: &mut Outputs) {
    let mut leave = |error| {
        tracing::error!(%error, "a definition is left alone");
        Ok(())
    };
    if let Err(error) = engine.define_unless(now, definitions, out, &mut leave) {
        tracing::error!(%error, "definitions are left alone");
    }
}

impl Durable {
    /// Fills the engine of a virtual host with what is on the disk. A queue whose log is damaged is refused, and the
    /// others are served.
    pub fn recover(&self, link: &Link, engine: &mut Engine, now: Millis, out: &mut Outputs) {
        let mut writer = self.shared.lock(&self.writer);
        let Some(writer) = writer.as_mut() else { return };
        let vhost = self.shared.lock(&self.shared.hosts).get(link.host).map(|host| host.name.clone());
        let Some(vhost) = vhost else { return };
        let found = Found::on(writer.metadata(), &vhost);
        define(engine, now, &found.definitions, out);
        // They come from where they would go to.
        out.changes.clear();
        for (name, log) in &found.queues {
            let Some(id) = engine.queue_id(name) else { continue };
            match self.open_log(*log, name) {
                Ok((log, replayed)) => {
                    engine.recover_queue(now, id, replayed.messages(), replayed.end, out);
                    self.take_in(writer, link.host, id, log, replayed);
                }
                Err(error) => {
                    let dir = self.shared.options.dir.display();
                    if error.is_short_of_files() {
                        tracing::error!(
                            queue = name, vhost, %error,
                            "a queue is not served: start the broker again with more open files (ulimit -n)"
                        );
                    } else {
                        tracing::error!(
                            queue = name, vhost, %error, %dir,
                            "a queue is not served: restore its log from a copy, or delete the queue"
                        );
                    }
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    engine.refuse_queue(now, id, out);
                }
            }
        }
        for (name, log) in &found.exchanges {
            let Some(id) = engine.delay_queue(name) else { continue };
            let opened = self.open_log(*log, name).and_then(|(log, replayed)| {
                let messages = replayed.load_all(&log)?;
                Ok((log, replayed, messages))
            });
            match opened {
                Ok((log, replayed, messages)) => {
                    engine.recover_delayed(id, messages, replayed.end);
                    self.take_in(writer, link.host, id, log, replayed);
                }
                Err(error) => {
                    tracing::error!(exchange = name, vhost, %error, "what an exchange held back is not served");
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    engine.store_failed(now, id, out);
                }
            }
        }
    }

    fn open_log(&self, id: LogId, of: &str) -> Result<(Log, Replayed), Error> {
        let log = self.shared.with_store(|store| store.log(id, LogConfig::default()))?;
        log.recovery().warn_of_cut(of);
        let replayed = replay(&log)?;
        Ok((log, replayed))
    }

    fn take_in(&self, writer: &mut Writer, host: usize, id: QueueId, log: Log, replayed: Replayed) {
        // After a crash nobody knows what went out since the last DLV.
        let clean = self.shared.with_store(|store| Ok(store.start().is_some_and(|start| start.clean)));
        let delivered = if clean.unwrap_or(false) { replayed.delivered } else { Some(u64::MAX) };
        let past = Past { end: replayed.end, delivered, returns: std::sync::Mutex::new(replayed.returns) };
        writer.take_in(host, id, Kept::new(log, Arc::new(past), replayed.live, replayed.read));
    }

    /// Puts aside logs that no definition knows.
    pub(super) fn discard_unknown(&self, metadata: &Metadata) {
        let kinds = ["queue", "exchange"];
        let known: HashSet<LogId> = kinds
            .iter()
            .flat_map(|kind| metadata.of_kind(kind))
            .filter_map(|(_, value)| log_of(value))
            .collect();
        let all = self.shared.with_store(|store| store.list()).unwrap_or_default();
        let unknown = all.into_iter().filter(|log| !known.contains(log) && !Metadata::is_own(*log));
        unknown.for_each(|log| self.shared.chores.push(Chore::Discard(log)));
    }
}
