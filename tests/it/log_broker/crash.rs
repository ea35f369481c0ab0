//! `kill -9` under load, again and again: what was acknowledged is there, at its offset, once.

use std::collections::BTreeMap;

use bandy::log::wire::ErrorCode;
use bandy::log::wire::api::init_producer_id::InitProducerIdRequest;
use bandy::log::wire::api::produce::ProduceRequest;
use bandy::storage::BatchBuilder;
use rustix::process::Signal;

use super::{Client, fetching, now_ms, producing, values};
use crate::support::{Home, bandy};

/// Starts and kills; more with `BANDY_KILLS`.
fn kills() -> usize {
    std::env::var("BANDY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50)
}

/// Requests that are under way at the same time: as many of a producer as are told apart when they come again.
const UNDER_WAY: usize = 5;

fn batch(producer_id: i64, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push_copied(now_ms(), None, Some(sequence.to_string().as_bytes()), &[]).unwrap();
    builder.set_producer(producer_id, 0, sequence);
    builder.to_vec(0, -1)
}

/// Every record of the topic.
fn all(client: &mut Client) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let part = client.fetch(&fetching("t", found.len() as i64));
        assert_eq!(part.error_code, ErrorCode::NONE);
        let more = values(&part.records.bytes());
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9_under_load() {
    let (home, kills) = (Home::new(), kills());
    let mut acknowledged: BTreeMap<i64, i32> = BTreeMap::new();
    let mut producer_id = None;
    // The first one that nobody has acknowledged: it is sent again after the kill, as clients do.
    let mut next = 0;
    for cycle in 0..kills {
        let server = bandy("log broker -l :0").home(&home).starts();
        let mut client = Client::new(&server);
        if producer_id.is_none() {
            client.create("t", &[]);
            let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            producer_id = Some(client.ask(4, &request).producer_id);
        }
        let found = all(&mut client);
        for (offset, sequence) in &acknowledged {
            assert_eq!(
                found.get(*offset as usize),
                Some(&sequence.to_string()),
                "cycle {cycle}, offset {offset}"
            );
        }
        let expected: Vec<String> = (0..found.len()).map(|n| n.to_string()).collect();
        assert_eq!(found, expected, "each once, in order, and nothing else");
        let wanted = next + 10 + (cycle * 7 % 40) as i32;
        let (mut sent, mut waiting) = (next, std::collections::VecDeque::new());
        while next < wanted {
            while waiting.len() < UNDER_WAY {
                let id = client.send(9, &producing("t", -1, &batch(producer_id.unwrap(), sent)));
                waiting.push_back(id);
                sent += 1;
            }
            let id = waiting.pop_front().unwrap();
            let answer = client.answer::<ProduceRequest>(9, id);
            let part = &answer.responses[0].partition_responses[0];
            assert_eq!(part.error_code, ErrorCode::NONE, "cycle {cycle}, sequence {next}");
            acknowledged.insert(part.base_offset, next);
            next += 1;
        }
        server.signal(Signal::KILL);
        server.ends();
    }
    assert!(acknowledged.len() > kills * 10);
}
