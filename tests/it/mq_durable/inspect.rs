//! A data directory without its broker: `mq dump`, `mq salvage`, and what a broker does with damage.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value as Json;

use super::{broker_at, confirms, count, declare, get, send, stop};
use crate::mq_broker::Client;
use crate::support::{Home, bandy};

/// A broker's directory with 50 messages in a queue, each in a batch of its own, of which the first ten are acknowledged.
fn filled(home: &Home, ends: impl Fn(crate::support::Running)) {
    let server = broker_at(home, "");
    let mut client = Client::ready(&server);
    declare(&mut client, "jobs", &[]);
    declare(&mut client, "other", &[]);
    confirms(&mut client);
    for number in 1..=50 {
        send(&mut client, "jobs", true, &format!("job {number}"));
        assert!(client.next().starts_with("ack"));
    }
    for number in 1..=10 {
        assert_eq!(get(&mut client, "jobs"), format!("basic.get-ok: job {number}"));
    }
    send(&mut client, "other", true, "here");
    assert!(client.next().starts_with("ack"));
    ends(server);
}

fn lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The row of a queue in what `mq dump` shows, and its file.
fn row(home: &Home, queue: &str, code: i32) -> (Json, PathBuf) {
    let shown = bandy("mq dump --json").home(home).runs().exits(code);
    let row = lines(&shown.out()).into_iter().find(|row| row["name"] == queue).unwrap();
    let log = row["log"].as_str().unwrap();
    let file = home.path(&format!("state/mq/default/logs/{log}/00000000000000000000.log"));
    (row, file)
}

fn flip(file: &PathBuf, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], position).unwrap();
}

fn jobs(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("job {number}")).collect()
}

fn values(text: &str) -> Vec<String> {
    lines(text).iter().map(|line| line["value"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_waits_in_a_directory_is_shown_and_can_be_sent_again() {
    let home = Home::new();
    filled(&home, stop);
    let (row, _) = row(&home, "jobs", 0);
    assert_eq!(
        (&row["kind"], &row["state"], &row["flushed"]),
        (&"queue".into(), &"whole".into(), &row["end"])
    );
    bandy("mq dump nowhere")
        .home(&home)
        .runs()
        .exits(5)
        .complains("no log of \"nowhere\" is in this directory");
    let all = bandy("mq dump jobs").home(&home).runs().exits(0);
    let first = &lines(&all.out())[0];
    assert_eq!(
        (&first["op"], &first["offset"], &first["value"]),
        (&"enqueue".into(), &0.into(), &"job 1".into())
    );
    let acked = |line: &&Json| line["op"] == "ack" && line["reason"] == "acknowledged";
    assert!(lines(&all.out()).iter().any(|line| acked(&line)), "{}", all.out());
    let defined = bandy("mq dump definitions").home(&home).runs().exits(0);
    assert!(lines(&defined.out()).iter().any(|line| line["names"][1] == "other"), "{}", defined.out());
    let waiting = bandy("mq dump jobs --waiting").home(&home).runs().exits(0).out();
    assert_eq!(values(&waiting), jobs(11..51));
    let server = broker_at(&home, "");
    bandy("mq create saved").home(&home).endpoint(&server).runs().exits(0);
    bandy("mq send saved --json").home(&home).endpoint(&server).stdin(&waiting).runs().exits(0);
    assert_eq!(count(&mut Client::ready(&server), "saved"), "saved 40");
    bandy("mq salvage -y").home(&home).runs().exits(0).complains("nothing is damaged");
    stop(server);
    bandy("mq dump --dir /").home(&home).runs().exits(1).complains("/ is no data directory");
}

#[test]
fn a_flipped_bit_is_refused_told_and_salvaged() {
    let home = Home::new();
    filled(&home, stop);
    let (_, file) = row(&home, "jobs", 0);
    let server = broker_at(&home, "");
    // A start reads everything; this goes wrong before anybody wants it.
    let size = std::fs::metadata(&file).unwrap().len();
    flip(&file, size / 2);
    let mut client = Client::ready(&server);
    let mut got = Vec::new();
    let refused = loop {
        match get(&mut client, "jobs") {
            answer if answer.starts_with("basic.get-ok") => got.push(answer),
            answer => break answer,
        }
    };
    // What stands before is good; then it is told, and never as if the queue were empty.
    let said = "channel.close NOT_FOUND - queue 'jobs' in vhost '/' has crashed and failed to restart";
    assert_eq!(refused, said);
    let read = u32::try_from(got.len()).unwrap();
    assert!((1..39).contains(&read), "{read} of 40");
    let mut client = Client::ready(&server);
    assert_eq!(get(&mut client, "other"), "basic.get-ok: here", "the others are served");
    server.signal(Signal::KILL);
    server.ends().dies_by(Signal::KILL);
    let server = broker_at(&home, "");
    server.says("a queue is not served");
    assert_eq!(get(&mut Client::ready(&server), "jobs"), said, "refused from the start");
    stop(server);

    let (damaged, _) = row(&home, "jobs", 7);
    assert_eq!(damaged["state"], "damaged");
    let place = &damaged["places"][0];
    let lost = place["next"].as_i64().unwrap() - place["offset"].as_i64().unwrap();
    assert_eq!(lost, 1, "{place}");
    let planned = bandy("mq salvage --dry-run --json").home(&home).runs().exits(0).out();
    assert_eq!(lines(&planned)[0]["lost"][0][0], place["offset"]);
    bandy("mq salvage").home(&home).runs().exits(2).complains("nobody is here to be asked");
    let done = bandy("mq salvage -y --json").home(&home).runs().exits(0).out();
    assert_eq!(lines(&done)[0]["lost"], lines(&planned)[0]["lost"]);
    row(&home, "jobs", 0);

    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    let mut left = Vec::new();
    while let Some(body) = get(&mut client, "jobs").strip_prefix("basic.get-ok: ") {
        left.push(body.to_owned());
    }
    // All that was not taken but for the one that is lost, and perhaps of what was taken the last few.
    let missing: Vec<String> = jobs(11 + read..51).into_iter().filter(|job| !left.contains(job)).collect();
    assert_eq!(missing.len(), 1, "{missing:?} of {left:?}");
    stop(server);
}

#[test]
fn a_torn_tail_is_cut_and_nothing_else_is_lost() {
    let home = Home::new();
    filled(&home, |server| {
        server.signal(Signal::KILL);
        server.ends().dies_by(Signal::KILL);
    });
    let (_, file) = row(&home, "jobs", 0);
    // The next batch, as far as it came: a header and a little.
    let bytes = std::fs::read(&file).unwrap();
    let (row_before, _) = row(&home, "jobs", 0);
    let mut torn = bytes[..80].to_vec();
    torn[..8].copy_from_slice(&row_before["end"].as_i64().unwrap().to_be_bytes());
    std::fs::write(&file, [&bytes[..], &torn].concat()).unwrap();
    let (torn, _) = row(&home, "jobs", 0);
    assert_eq!((&torn["state"], &torn["end"]), (&"torn".into(), &row_before["end"]));
    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    // The last acknowledgements may not have been written when it was killed: those messages come again.
    let first = get(&mut client, "jobs");
    let first = first.strip_prefix("basic.get-ok: job ").unwrap().parse::<u32>().unwrap();
    assert!(first <= 11, "{first}");
    for number in first + 1..=50 {
        assert_eq!(get(&mut client, "jobs"), format!("basic.get-ok: job {number}"));
    }
    assert_eq!(get(&mut client, "jobs"), "empty");
    confirms(&mut client);
    send(&mut client, "jobs", true, "goes on");
    assert_eq!(client.next(), "ack 1 false");
    server.says("torn");
    stop(server);
}
