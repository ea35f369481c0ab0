//! Groups of readers and commands per record through the binary, against our own broker.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::support::{Cmd, Home, Running, bandy, shell, until};

/// A broker, and commands that speak to it.
pub struct Log {
    pub server: Running,
}

impl Log {
    #[track_caller]
    pub fn starts() -> Self {
        Self { server: bandy("log broker --memory -l :0").starts() }
    }

    pub fn log(&self, words: &str) -> Cmd {
        bandy(&format!("log {words}")).env("BANDY_LOG_URL", &self.server.url).home(&self.server.home)
    }

    /// A shell script with the endpoint in the environment.
    pub fn sh(&self, script: &str) -> Cmd {
        shell("bash", script).env("BANDY_LOG_URL", &self.server.url).home(&self.server.home)
    }

    #[track_caller]
    pub fn produce(&self, topic: &str, lines: &str) {
        self.log(&format!("produce {topic}")).stdin(lines).runs().exits(0);
    }

    /// What is stored for each partition that has a member: `topic partition offset member`.
    fn stored(&self, group: &str) -> Vec<(i64, Option<i64>, String)> {
        let ran = self.log(&format!("info -g {group} --json")).runs();
        let rows = ran.out();
        let rows = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let row = |it: serde_json::Value| {
            let member = it["member"].as_str().unwrap_or_default().to_owned();
            (it["partition"].as_i64().unwrap(), it["current"].as_i64(), member)
        };
        rows.map(row).collect()
    }

    /// Members that have partitions.
    pub fn members(&self, group: &str) -> usize {
        let members: BTreeSet<String> = self.stored(group).into_iter().map(|(.., member)| member).collect();
        members.into_iter().filter(|member| !member.is_empty()).count()
    }
}

pub fn lines(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_group_goes_on_where_it_was() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    log.log("produce t -p 0").stdin("a\nb\n").runs().exits(0);
    log.log("produce t -p 1").stdin("c\n").runs().exits(0);
    let sorted = |ran: crate::support::Ran| {
        let mut lines: Vec<String> = ran.exits(0).out().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(sorted(log.log("consume t -g g --no-commit").runs()), "a b c");
    assert_eq!(sorted(log.log("consume t -g g --metadata here").runs()), "a b c");
    log.log("consume t -g g").runs().exits(0).prints("").silently();
    assert_eq!(log.log("consume t -g g -n 1").runs().exits(6).out(), "");
    log.log("produce t -p 1").stdin("d\n").runs().exits(0);
    log.log("consume t -g g -o '%p@%o %v'").runs().exits(0).prints("1@1 d\n");
    // Another group begins at the start, or where it is told to.
    log.log("consume t -g other --from -1 -o %v").runs().exits(0).shows("b\n").shows("d\n");
    log.log("consume t -g other").runs().exits(0).prints("");
    assert_eq!(log.stored("g").iter().map(|it| it.1).collect::<Vec<_>>(), [Some(2), Some(2)]);
    log.log("consume t --no-commit").runs().exits(2);
    log.log("consume t -g g -p 1").runs().exits(2);
    log.log("consume t --from stored").runs().exits(2).complains("-g GROUP");
}

#[test]
fn what_was_written_out_is_stored_and_no_more() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.produce("t", &lines(1..=1000));
    log.log("consume t -g n -n 4").runs().exits(0).prints(&lines(1..=4));
    log.log("consume t -g n -n 3").runs().exits(0).prints(&lines(5..=7));
    // A reader that leaves has taken what it printed.
    log.sh("bandy log consume t -g pipe | head -3").runs().exits(0).prints(&lines(1..=3));
    log.log("consume t -g pipe -n 2").runs().exits(0).prints(&lines(4..=5));
    log.sh("bandy log consume t -g pipe -f | head -2").runs().exits(0).prints(&lines(6..=7));
    log.log("consume t -g pipe --idle 0.2s -f").runs().exits(0).prints(&lines(8..=1000));
}

#[test]
fn readers_share_partitions_and_one_takes_over_when_the_other_is_killed() {
    let log = Log::starts();
    log.log("create t --partitions 4").runs().exits(0);
    let reads = || log.log("consume t -g g -f --session-timeout 1s -o '%p %v'").spawns();
    let mut first = reads();
    until("the first one has everything", || log.members("g") == 1);
    let mut second = reads();
    until("both have partitions", || log.members("g") == 2);
    let own = |reader: usize| {
        let members: BTreeSet<String> = log.stored("g").into_iter().map(|it| it.2).collect();
        let id = members.into_iter().nth(reader).unwrap();
        log.stored("g").into_iter().filter(|it| it.2 == id).map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!((own(0).len(), own(1).len()), (2, 2));
    for partition in 0..4 {
        log.log(&format!("produce t x{partition} -p {partition}")).runs().exits(0);
    }
    let mut seen = vec![first.line(), first.line(), second.line(), second.line()];
    seen.sort();
    assert_eq!(seen, ["0 x0", "1 x1", "2 x2", "3 x3"]);
    until("it is stored", || log.stored("g").iter().all(|it| it.1 == Some(1)));
    first.signal(Signal::KILL);
    first.ends().dies_by(Signal::KILL);
    for partition in 0..4 {
        log.log(&format!("produce t y{partition} -p {partition}")).runs().exits(0);
    }
    let mut seen = [second.line(), second.line(), second.line(), second.line()];
    seen.sort();
    assert_eq!(seen, ["0 y0", "1 y1", "2 y2", "3 y3"]);
    // Who is told to stop stores what it has written, and leaves.
    second.signal(Signal::INT);
    second.ends().dies_by(Signal::INT);
    assert_eq!(log.members("g"), 0);
    log.log("consume t -g g").runs().exits(0).prints("");
}

#[test]
fn a_reader_goes_on_when_its_broker_was_killed_and_is_there_again() {
    let home = Home::new();
    let start = |listen: &str| bandy(&format!("log broker -l {listen}")).home(&home).starts();
    let server = start(":0");
    let url = server.url.clone();
    let log = |words: &str| bandy(&format!("log {words}")).home(&home).env("BANDY_LOG_URL", &url);
    log("create t").runs().exits(0);
    let mut reader = log("consume t -g g -f").spawns();
    log("produce t a").runs().exits(0);
    assert_eq!(reader.line(), "a");
    until("it is stored", || log("info -g g --json").runs().out().contains("\"current\":1,"));
    server.signal(Signal::KILL);
    server.ends().dies_by(Signal::KILL);
    let _server = start(url.strip_prefix("kafka://").unwrap());
    log("produce t b").runs().exits(0);
    assert_eq!(reader.line(), "b");
    reader.signal(Signal::INT);
    reader.ends().dies_by(Signal::INT);
    log("consume t -g g").runs().exits(0).prints("");
}

#[test]
fn every_way_of_dividing_works_and_those_without_one_in_common_do_not_mix() {
    let log = Log::starts();
    log.log("create t --partitions 3").runs().exits(0);
    for assignor in ["range", "roundrobin", "cooperative-sticky"] {
        let reads =
            || log.log(&format!("consume t -g {assignor} --assignor {assignor} -f -o '%p %v'")).spawns();
        let mut readers = [reads(), reads(), reads()];
        until("each has a partition", || log.members(assignor) == 3);
        log.log("produce t x -p 0").runs().exits(0);
        log.log("produce t x -p 1").runs().exits(0);
        log.log("produce t x -p 2").runs().exits(0);
        let mut seen: Vec<String> = readers.iter_mut().map(Running::line).collect();
        seen.sort();
        let seen: Vec<&str> = seen.iter().map(|line| &line[2..]).collect();
        assert_eq!(seen, ["x", "x", "x"], "{assignor}");
        let other = if assignor == "range" { "roundrobin" } else { "range" };
        let ran = log.log(&format!("consume t -g {assignor} --assignor {other}")).runs();
        ran.exits(1).complains("INCONSISTENT_GROUP_PROTOCOL").complains("--assignor");
        for reader in readers {
            reader.signal(Signal::TERM);
            reader.ends().dies_by(Signal::TERM);
        }
    }
}

#[test]
fn who_comes_back_under_its_lasting_name_has_its_partitions_again() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    let reads = |name: &str| log.log(&format!("consume t -g g -f --instance {name} -o '%p %v'")).spawns();
    let (first, mut second) = (reads("a"), reads("b"));
    until("both have partitions", || log.members("g") == 2);
    let places = || log.stored("g").into_iter().map(|(at, _, member)| (at, member)).collect::<Vec<_>>();
    let before = places();
    first.signal(Signal::TERM);
    first.ends().dies_by(Signal::TERM);
    assert_eq!(places(), before, "it is waited for");
    let mut first = reads("a");
    until("it is back", || log.members("g") == 2 && places() != before);
    log.log("produce t x -p 0").runs().exits(0);
    log.log("produce t x -p 1").runs().exits(0);
    let mut seen = [first.line(), second.line()];
    seen.sort();
    assert_eq!(seen, ["0 x", "1 x"]);
    // Who takes the name takes the place.
    let _third = reads("b");
    second.ends().exits(1).complains("FENCED_INSTANCE_ID");
}

#[test]
fn a_command_per_record_keeps_the_order_and_stops_where_it_fails() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.produce("t", &lines(0..=4));
    let command =
        "-- sh -c 'read v; echo \"$BANDY_TOPIC $BANDY_PARTITION $BANDY_OFFSET $v\"; [ \"$v\" != 2 ]'";
    let ran = log.log(&format!("consume t -g g {command}")).runs().exits(7);
    assert_eq!(ran.out(), "t 0 0 0\nt 0 1 1\nt 0 2 2\n");
    ran.complains("t p0 @2: the command failed (exit code 1)");
    log.log("consume t -g g -n 1").runs().exits(0).prints("2\n");
    // It goes on after what it printed.
    log.log(&format!("consume t -g g {command}")).runs().exits(0).prints("t 0 3 3\nt 0 4 4\n");
    let ran = log.log(&format!("consume t -g skips --skip-failed {command}")).runs().exits(7);
    assert!(ran.out().ends_with("t 0 4 4\n"));
    ran.complains("failed for 1 of 5 records");
    log.log("consume t -g skips").runs().exits(0).prints("");
    // Without a group there is nothing to be stored, and it works all the same.
    log.log("consume t -n 2 -- cat").runs().exits(0).prints("01");
    log.log("consume t --from 4 --json -- cat").runs().exits(0).shows("\"offset\":4}\n");
    log.log("consume t -g g -- no-such-command").runs().exits(127).complains("no record was read");
    log.log("consume t -j 2").runs().exits(2);
}

#[test]
fn commands_run_at_once_for_several_partitions_and_in_turn_for_each() {
    let log = Log::starts();
    log.log("create t --partitions 3").runs().exits(0);
    for partition in 0..3 {
        log.log(&format!("produce t -p {partition}")).stdin(lines(1..=8)).runs().exits(0);
    }
    // Each tells when it begins and ends: of one partition they do not overlap, of all together they do.
    let command =
        "read v; echo \"$BANDY_PARTITION $v begins\"; sleep 0.05; echo \"$BANDY_PARTITION $v ends\"";
    let ran = log.log("consume t -g g -j 3 --").with("sh -c").arg(command).runs().exits(0);
    let out = ran.out();
    for partition in 0..3 {
        let own: Vec<&str> = out.lines().filter(|line| line.starts_with(&partition.to_string())).collect();
        let expected: Vec<String> = (1..=8)
            .flat_map(|n| [format!("{partition} {n} begins"), format!("{partition} {n} ends")])
            .collect();
        assert_eq!(own, expected);
    }
    let first_end = out.lines().position(|line| line.ends_with("ends")).unwrap();
    assert!(first_end >= 2, "several began before the first had ended:\n{out}");
    log.log("consume t -g g").runs().exits(0).prints("");
}

#[test]
fn a_command_that_runs_is_finished_before_its_partition_goes_to_another_reader() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    let go = log.server.home.path("go");
    let command = format!("echo \"$BANDY_PARTITION\"; while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let slow = log.log("consume t -g g -f -j2 --").with("sh -c").arg(&command);
    let mut first = slow.spawns();
    until("it is in", || log.members("g") == 1);
    log.log("produce t x -p 0").runs().exits(0);
    log.log("produce t x -p 1").runs().exits(0);
    let mut begun = [first.line(), first.line()];
    begun.sort();
    assert_eq!(begun, ["0", "1"]);
    let second = log.log("consume t -g g -f -v -o '%p %v'").spawns();
    // The second one waits for its partition as long as the command runs.
    second.says("0 of 2 partitions");
    assert_eq!(log.members("g"), 1);
    std::fs::write(&go, "").unwrap();
    until("both have partitions", || log.members("g") == 2);
    until("what was done is stored", || log.stored("g").iter().all(|it| it.1 == Some(1)));
    second.signal(Signal::TERM);
    let ran = second.ends().dies_by(Signal::TERM);
    assert_eq!(ran.out(), "");
    first.signal(Signal::TERM);
    first.ends().dies_by(Signal::TERM);
}

#[test]
fn an_end_within_a_batch_is_where_the_group_goes_on() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    // One request: one batch.
    log.produce("t", &lines(0..=9));
    log.log("consume t -g g --to 4").runs().exits(0).prints(&lines(0..=3));
    assert_eq!(log.stored("g")[0].1, Some(4));
    log.log("consume t -g g --to 6 -- cat").runs().exits(0).prints(&lines(4..=5).replace('\n', ""));
    log.log("consume t -g g").runs().exits(0).prints(&lines(6..=9));
}

#[test]
fn what_waits_when_its_partition_goes_to_another_is_for_the_other() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    let go = log.server.home.path("go");
    // A line is one write: two commands have the same output.
    let command =
        format!("value=$(cat); echo \"$value\"; while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let slow = log.log("consume t -g g -f -v -j2 --grep yes --assignor range --").with("sh -c").arg(&command);
    let mut first = slow.spawns();
    until("it is in", || log.members("g") == 1);
    for partition in [0, 1] {
        log.log(&format!("produce t -p {partition}")).stdin("yes-1\nyes-2\nyes-3\n").runs().exits(0);
    }
    assert_eq!([first.line(), first.line()], ["yes-1", "yes-1"]);
    let second = log.log("consume t -g g -f -v --grep yes --assignor range").spawns();
    until("the first one knows", || first.stderr().contains("2 partitions given up"));
    // Nothing of this is wanted, and it must not pass for what was done.
    for partition in [0, 1] {
        log.log(&format!("produce t -p {partition}")).stdin("no\nno\nno\n").runs().exits(0);
    }
    std::fs::write(&go, "").unwrap();
    until("both have partitions", || log.members("g") == 2);
    until("everything is read", || log.stored("g").iter().all(|it| it.1 == Some(6)));
    second.signal(Signal::TERM);
    let theirs = second.ends().dies_by(Signal::TERM).out();
    first.signal(Signal::TERM);
    let ours = first.ends().dies_by(Signal::TERM).out();
    let mut all: Vec<&str> = theirs.lines().chain(ours.lines()).collect();
    all.sort_unstable();
    assert_eq!(all, ["yes-2", "yes-2", "yes-3", "yes-3"], "ours {ours}, theirs {theirs}");
}
