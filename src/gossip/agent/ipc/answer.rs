//! What commands ask of a node, and what they get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::records;
use crate::gossip::agent::core::Answer;
use crate::gossip::agent::{Agent, Core, decode_key};
use crate::gossip::engine::{Input, KeyOperation, QueryOptions};
use crate::gossip::wire::ipc::{
    DataRow, KeysReply, MemberRow, Request, Stats, write_coordinate, write_data, write_members, write_number,
    write_stats,
};
use crate::gossip::wire::{Filter, KeyResponse, decode_tags};
use crate::transport;

/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Port of a seed that names none.
const SEED_PORT: u16 = 7946;

/// An error, and the body that goes with it if it is known.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: String,
    pub(super) body: Option<Vec<u8>>,
}

impl From<String> for Refused {
    fn from(error: String) -> Self {
        Self { error, body: None }
    }
}

/// The body of a refusal: Go's client waits for one wherever a success has one. Serf, `RPCClient.genericRPC`.
pub(super) fn empty_body(request: &Request) -> Vec<u8> {
    let mut body = Vec::new();
    match request {
        Request::Join { .. } => write_number(&mut body, "Num", 0),
        Request::Members | Request::MembersFiltered { .. } => write_members(&mut body, &[]),
        Request::InstallKey { .. }
        | Request::UseKey { .. }
        | Request::RemoveKey { .. }
        | Request::ListKeys => KeysReply::default().write(&mut body),
        Request::Stats => write_stats(&mut body, &Stats::default()),
        Request::Coordinate { .. } => write_coordinate(&mut body, None),
        _ => {}
    }
    body
}

/// The body of the answer, or the error that is told.
pub(super) async fn answer(agent: &Agent, request: Request) -> Result<Vec<u8>, Refused> {
    let mut body = Vec::new();
    match request {
        // No key is asked for.
        Request::Auth { .. } => {}
        Request::Event { name, payload, coalesce } => {
            input(agent, Input::Event { name: name.as_str().into(), payload, coalesce }).await?;
        }
        Request::ForceLeave { node, prune } => {
            input(agent, Input::ForceLeave { node: node.as_str().into(), prune }).await?;
        }
        Request::Join { existing, replay } => {
            let joined = join(agent, &existing, replay).await?;
            write_number(&mut body, "Num", joined as u64);
        }
        Request::Members => {
            let rows = members(agent).await?;
            write_members(&mut body, &rows);
        }
        Request::MembersFiltered { tags, status, name } => {
            let wanted = Wanted::new(&tags, &status, &name)?;
            let rows = members(agent).await?;
            let rows: Vec<_> = rows.into_iter().filter(|row| wanted.matches(row)).collect();
            write_members(&mut body, &rows);
        }
        Request::InstallKey { key } => keys_reply(agent, KeyOperation::Install, &key).await?.write(&mut body),
        Request::UseKey { key } => keys_reply(agent, KeyOperation::Use, &key).await?.write(&mut body),
        Request::RemoveKey { key } => keys_reply(agent, KeyOperation::Remove, &key).await?.write(&mut body),
        Request::ListKeys => keys_reply(agent, KeyOperation::List, "").await?.write(&mut body),
        Request::Tags { set, delete } => {
            with(agent, move |core| {
                let mut tags = decode_tags(&core.engine().me().meta);
                delete.iter().for_each(|name| drop(tags.remove(name)));
                tags.extend(set);
                core.input(Input::Tags(tags))
            })
            .await?
            .map_err(|refusal| refusal.to_string())?;
        }
        Request::Stats => write_stats(&mut body, &with(agent, stats).await?),
        Request::Coordinate { node } => {
            let coordinate = with(agent, move |core| core.engine().coordinate_of(&node).cloned()).await?;
            write_coordinate(&mut body, coordinate.as_ref());
        }
        Request::Ping { node } => {
            let waiting = with(agent, move |core| core.ping(node.as_str().into())).await?;
            let waiting = waiting.map_err(|refusal| refusal.to_string())?;
            let time = tokio::time::timeout(PING_TIMEOUT, waiting).await.ok().and_then(Result::ok).flatten();
            let time = time.ok_or_else(|| format!("no answer within {PING_TIMEOUT:?}"))?;
            write_number(&mut body, "RttUs", u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
        Request::Set { key, value } => {
            input(agent, Input::Set { key: key.as_str().into(), value }).await?;
        }
        Request::Get { key, prefix } => {
            let rows = with(agent, move |core| data(core, &key, prefix)).await?;
            write_data(&mut body, &rows);
        }
        // The session has dealt with these.
        Request::Handshake
        | Request::Stream { .. }
        | Request::Monitor { .. }
        | Request::Stop { .. }
        | Request::Leave
        | Request::Query { .. }
        | Request::Respond { .. } => return Err("Unsupported command".to_owned().into()),
    }
    Ok(body)
}

/// All members, as the node knows them.
///
/// # Errors
/// The node has ended.
pub async fn members(agent: &Agent) -> Result<Vec<MemberRow>, String> {
    with(agent, |core| {
        let engine = core.engine();
        engine.members().map(|member| records::known_row(engine, core.now(), member)).collect()
    })
    .await
}

async fn with<T: Send + 'static>(
    agent: &Agent,
    work: impl FnOnce(&mut Core) -> T + Send + 'static,
) -> Result<T, String> {
    agent.with(work).await.map_err(|ended| ended.to_string())
}

async fn input(agent: &Agent, input: Input) -> Result<(), String> {
    with(agent, move |core| core.input(input)).await?.map_err(|refusal| refusal.to_string())
}

/// Joins each of these; an error if none could be.
async fn join(agent: &Agent, seeds: &[String], replay: bool) -> Result<usize, String> {
    let mut failures = Vec::new();
    let mut joined = 0;
    for seed in seeds {
        let outcome = match resolve(seed).await {
            Ok(address) => agent.join(address, replay).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => joined += 1,
            Err(error) => failures.push(format!("{seed}: {error}")),
        }
    }
    if joined == 0 && !failures.is_empty() { Err(failures.join("; ")) } else { Ok(joined) }
}

/// The address of a seed: `HOST`, `HOST:PORT` or `NAME/HOST:PORT`, as Serf takes them.
///
/// # Errors
/// The name has none.
pub async fn resolve(seed: &str) -> Result<SocketAddr, String> {
    let seed = seed.rsplit_once('/').map_or(seed, |(_, seed)| seed);
    let (host, port) = match seed.parse::<transport::Address>() {
        Ok(transport::Address::Tcp { host, port }) => (host, port),
        _ => (seed.to_owned(), SEED_PORT),
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    let found = transport::addresses(&host, port).await.map_err(|error| error.to_string())?;
    // One of version 4 if there is one: agents listen there.
    let v4 = found.iter().find(|address| address.is_ipv4());
    v4.or(found.first()).copied().ok_or_else(|| "the name has no address".to_owned())
}

pub(super) fn query_options(request: Request) -> QueryOptions {
    let Request::Query { nodes, tags, acks, relay_factor, timeout, name, payload } = request else {
        unreachable!("the session has looked");
    };
    let mut filters = Vec::new();
    if !nodes.is_empty() {
        filters.push(Filter::Nodes(nodes.iter().map(|node| node.as_str().into()).collect()));
    }
    for (tag, expression) in &tags {
        filters.push(Filter::Tag { tag: tag.as_str().into(), expression: expression.as_str().into() });
    }
    let timeout = (!timeout.is_zero()).then_some(timeout);
    QueryOptions { name: name.as_str().into(), payload, filters, acks, relay_factor, timeout }
}

/// Which members are wanted: expressions that match all of a text, as Serf has it.
struct Wanted {
    tags: Vec<(String, regex_lite::Regex)>,
    status: Option<regex_lite::Regex>,
    name: Option<regex_lite::Regex>,
}

impl Wanted {
    fn new(tags: &BTreeMap<String, String>, status: &str, name: &str) -> Result<Self, String> {
        let whole = |text: &str| {
            regex_lite::Regex::new(&format!("^(?:{text})$"))
                .map_err(|error| format!("'{text}' is not a regular expression: {error}"))
        };
        let some = |text: &str| (!text.is_empty()).then(|| whole(text)).transpose();
        let tags = tags.iter().map(|(tag, text)| Ok((tag.clone(), whole(text)?)));
        Ok(Self { tags: tags.collect::<Result<_, String>>()?, status: some(status)?, name: some(name)? })
    }

    fn matches(&self, row: &crate::gossip::wire::ipc::MemberRow) -> bool {
        let fits = |wanted: &Option<regex_lite::Regex>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.is_match(text))
        };
        fits(&self.status, &row.status)
            && fits(&self.name, &row.name)
            && self
                .tags
                .iter()
                .all(|(tag, wanted)| row.tags.get(tag).is_some_and(|value| wanted.is_match(value)))
    }
}

/// Does something to the keys of all nodes. Serf, keymanager.
async fn keys_reply(agent: &Agent, operation: KeyOperation, key: &str) -> Result<KeysReply, Refused> {
    let key = match operation {
        KeyOperation::List => Vec::new(),
        _ => decode_key(key)?,
    };
    let options = Core::key_query(operation, &key).map_err(|error| error.to_string())?;
    let nodes = with(agent, |core| core.engine().living()).await?;
    let mut answers = agent.query(options).await?.answers;
    let mut reply = KeysReply { nodes: nodes as u64, ..KeysReply::default() };
    while let Some(answer) = answers.recv().await {
        let (from, payload) = match answer {
            Answer::Response(from, payload) => (from, payload),
            Answer::Ack(_) => continue,
            Answer::Over(_) => break,
        };
        reply.responses += 1;
        match KeyResponse::decode(&payload) {
            Ok(response) => {
                if !response.result {
                    reply.errors += 1;
                }
                if !response.message.is_empty() {
                    reply.messages.insert(from.to_string(), response.message);
                }
                for key in response.keys {
                    *reply.keys.entry(key).or_default() += 1;
                }
                if !response.primary.is_empty() {
                    *reply.primaries.entry(response.primary).or_default() += 1;
                }
            }
            Err(fault) => {
                reply.errors += 1;
                reply.messages.insert(from.to_string(), format!("its answer is malformed: {fault}"));
            }
        }
        if reply.responses >= reply.nodes {
            break;
        }
    }
    if reply.errors > 0 {
        let of = format!("{}/{} nodes reported failure", reply.errors, reply.nodes);
        return Err(with_reply(of, &reply));
    }
    if reply.responses < reply.nodes {
        return Err(with_reply(
            format!("{}/{} nodes reported success", reply.responses, reply.nodes),
            &reply,
        ));
    }
    Ok(reply)
}

/// Who failed stands in the reply.
fn with_reply(error: String, reply: &KeysReply) -> Refused {
    let mut body = Vec::new();
    reply.write(&mut body);
    Refused { error, body: Some(body) }
}

fn stats(core: &mut Core) -> Stats {
    let engine = core.engine();
    let me = engine.me();
    let [member_time, event_time, query_time] = engine.clocks();
    let [news, intents, events, queries] = engine.queued();
    let count = |status| engine.members().filter(|member| member.status == status).count();
    let group = |figures: &[(&str, String)]| {
        figures.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let keys = engine.store().values();
    let config = engine.config();
    Stats::from([
        ("agent".to_owned(), group(&[("name", me.name.to_string())])),
        (
            "bandy".to_owned(),
            group(&[
                ("address", me.address.to_string()),
                ("cluster", core.label()),
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("incarnation", me.incarnation.to_string()),
                ("keys", keys.to_string()),
                ("mode", config.data.mode.as_str().to_owned()),
                ("probe_interval_ms", config.probe_interval.as_millis().to_string()),
            ]),
        ),
        ("tags".to_owned(), decode_tags(&me.meta)),
        (
            "serf".to_owned(),
            group(&[
                ("members", engine.members().count().to_string()),
                ("failed", count(crate::gossip::engine::Status::Failed).to_string()),
                ("left", count(crate::gossip::engine::Status::Left).to_string()),
                ("health_score", engine.awareness().to_string()),
                ("member_time", member_time.to_string()),
                ("event_time", event_time.to_string()),
                ("query_time", query_time.to_string()),
                ("intent_queue", intents.to_string()),
                ("event_queue", events.to_string()),
                ("query_queue", queries.to_string()),
                ("member_queue", news.to_string()),
                ("encrypted", core.is_encrypted().to_string()),
            ]),
        ),
    ])
}

fn data(core: &mut Core, key: &str, prefix: bool) -> Vec<DataRow> {
    let wanted = |name: &str| if prefix { name.starts_with(key) } else { name == key };
    let store = core.engine().store();
    let found = store.iter().filter(|(name, _)| wanted(name));
    let row = |(name, stored): (&std::sync::Arc<str>, &crate::gossip::engine::Stored)| {
        Some(DataRow {
            key: name.to_string(),
            value: stored.value.clone()?,
            version: stored.version.counter,
            writer: stored.version.writer.to_string(),
        })
    };
    found.filter_map(row).collect()
}
