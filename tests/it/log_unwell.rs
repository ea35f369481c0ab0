//! What the log commands do when something is wrong: a damaged partition beside good ones, a broker that is away.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Cmd, DEADLINE, Home, Ran, Running, bandy, get_metrics, shell, until};

/// Waiting for a damaged partition took a minute; nothing of this takes that long.
const AT_ONCE: Duration = Duration::from_secs(20);

struct Broken {
    home: Home,
    server: Running,
}

/// Turns over a bit of the first record of a partition of a broker that is stopped.
fn damage(home: &Home, partition: &str) {
    let dump = bandy("log dump --json").home(home).runs().exits(0).out();
    let rows = dump.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let row = rows.into_iter().find(|row| row["name"] == partition).unwrap();
    let name = format!("state/log/default/logs/{}/00000000000000000000.log", row["log"].as_str().unwrap());
    let file = std::fs::File::options().read(true).write(true).open(home.path(&name)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 65).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 65).unwrap();
}

impl Broken {
    /// A broker whose topic has three partitions with `a b`, `c c2` and `d`, of which the second is damaged at `c`.
    fn starts(stopped_by: Signal) -> Self {
        Self::whole().breaks(stopped_by)
    }

    /// The same before anything is damaged.
    fn whole() -> Self {
        let home = Home::new();
        let server = bandy("log broker -l :0 --metrics 127.0.0.1:0").home(&home).starts();
        let whole = Self { home, server };
        whole.log("create t --partitions 3").runs().exits(0);
        whole.log("create other").runs().exits(0);
        for (partition, lines) in [(0, "a\nb\n"), (1, "c\n"), (1, "c2\n"), (2, "d\n")] {
            whole.log(&format!("produce t -p {partition}")).stdin(lines).runs().exits(0);
        }
        whole.log("consume t -g early").runs().exits(0);
        whole
    }

    fn breaks(self, stopped_by: Signal) -> Self {
        self.restarts(stopped_by, |home| damage(home, "t-1"))
    }

    /// As an operator repairs it.
    fn salvaged(self) -> Self {
        self.restarts(Signal::TERM, |home| drop(bandy("log salvage -y").home(home).runs().exits(0)))
    }

    /// At the same port, after something was done to its directory.
    fn restarts(self, stopped_by: Signal, between: impl Fn(&Home)) -> Self {
        let Self { home, server } = self;
        let port = server.url.rsplit_once(':').unwrap().1.to_owned();
        server.signal(stopped_by);
        let _ = server.ends();
        between(&home);
        let server = bandy(&format!("log broker -l :{port} --metrics 127.0.0.1:0")).home(&home).starts();
        Self { home, server }
    }

    fn log(&self, words: &str) -> Cmd {
        bandy(&format!("log {words}")).env("BANDY_LOG_URL", &self.server.url).home(&self.home)
    }

    #[track_caller]
    fn at_once(&self, words: &str, code: i32) -> Ran {
        let since = Instant::now();
        let ran = self.log(words).runs();
        assert!(since.elapsed() < AT_ONCE, "{words}: {:?}", since.elapsed());
        ran.exits(code).complains("topic 't' partition 1: the broker's disk failed (KAFKA_STORAGE_ERROR)")
    }

    fn metric(&self, name: &str) -> String {
        let page = get_metrics(&self.server);
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
    }
}

fn sorted(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> = ran.out().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn one_damaged_partition_does_not_hide_the_others() {
    let broken = Broken::starts(Signal::TERM);
    let why = "the broker's disk failed (KAFKA_STORAGE_ERROR)";
    let listed = broken.at_once("ls -o plain", 7);
    let out = listed.out();
    assert!(out.contains(&format!("\tpartition 1: {why}\n")) && out.contains("other\t1\t0\t"), "{out}");
    let row = broken.at_once("ls topics t --json", 7).object();
    assert_eq!((row["parts"].as_u64(), row["records"].as_i64()), (Some(3), Some(3)), "{row}");
    let rows = broken.at_once("info t --json", 7).out();
    let rows: Vec<serde_json::Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends = || rows.iter().map(|row| row["end"].as_i64());
    assert_eq!(ends().collect::<Vec<_>>(), [Some(2), None, Some(1)]);
    assert_eq!(rows[1]["error"].as_str(), Some(why), "{rows:?}");
    assert!(rows[0].get("error").is_none(), "{rows:?}");
    assert_eq!(sorted(&broken.at_once("consume t", 7)), ["a", "b", "d"]);
    assert_eq!(sorted(&broken.at_once("tail t --for 2s", 7)), ["a", "b", "d"]);
    assert_eq!(sorted(&broken.at_once("consume t -g g", 7)), ["a", "b", "d"]);
    assert_eq!(sorted(&broken.at_once("consume t -g f -f --for 3s", 7)), ["a", "b", "d"]);
    let rows = broken.at_once("info -g early --json", 7).out();
    assert_eq!(rows.matches(why).count(), 1, "{rows}");
    broken.at_once("info -g early --max-lag 5", 1);
    let heads = broken.at_once("info -g early", 7).out();
    assert!(heads.contains("ERROR") && heads.contains(why), "{heads}");
    assert_eq!(broken.at_once("consume t -p 1", 1).out(), "");
    let moved = broken.at_once("seek -g h t --to start -y -o plain", 7);
    assert_eq!(moved.out(), "t\t0\t\t0\nt\t2\t\t0\n");
    let trimmed = broken.at_once("trim t --to end -p 1,2 --dry-run -o plain", 7);
    assert_eq!(trimmed.out(), "t\t2\t0\t1\n");
    broken.log("consume other").runs().exits(0).silently();
    // The broker has said it once, with the partition's name.
    let said = broken.server.stderr();
    assert_eq!(said.matches("a partition cannot be opened").count(), 1, "{said}");
    assert!(said.contains("partition=1") && said.contains("checksum"), "{said}");
    assert_eq!(broken.metric("bandy_log_partitions_damaged"), "1");
    assert_eq!(broken.metric("bandy_log_partitions_offline"), "0");
    broken.log("rm t -y").runs().exits(0);
    assert_eq!(broken.metric("bandy_log_partitions_damaged"), "0");
}

#[test]
fn after_a_crash_damage_is_told_before_anybody_asks() {
    let broken = Broken::starts(Signal::KILL);
    broken.server.says("a partition cannot be opened");
    until("it is counted", || broken.metric("bandy_log_partitions_damaged") == "1");
    assert_eq!(sorted(&broken.at_once("consume t", 7)), ["a", "b", "d"]);
}

/// Nothing comes for a while: a partition that cannot be read was given up after a minute, and everything with it.
#[test]
fn a_partition_that_is_repaired_is_read_on_by_whoever_follows() {
    let broken = Broken::whole();
    let mut early = broken.log("consume t -f").spawns();
    let mut lines: Vec<_> = (0..5).map(|_| early.line()).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b", "c", "c2", "d"]);
    let broken = broken.breaks(Signal::KILL);
    let ill = "topic 't' partition 1: the broker's disk failed (KAFKA_STORAGE_ERROR); the others are read";
    early.says(ill);
    let mut group = broken.log("consume t -g g -f").spawns();
    let mut alone = broken.log("consume t -f").spawns();
    let mut commands = broken.log("consume t -g c -f -- xargs").spawns();
    let readers = [&mut group, &mut alone, &mut commands];
    for reader in readers {
        reader.says(ill);
        let mut lines: Vec<_> = (0..3).map(|_| reader.line()).collect();
        lines.sort();
        assert_eq!(lines, ["a", "b", "d"]);
    }
    broken.log("produce t -p 2 e").runs().exits(0);
    for reader in [&mut early, &mut group, &mut alone, &mut commands] {
        assert_eq!(reader.line(), "e");
    }
    let broken = broken.salvaged();
    for reader in [&mut group, &mut alone, &mut commands] {
        reader.says("topic 't' partition 1 can be read again, from 0 on");
        assert_eq!(reader.line(), "c2");
    }
    early.says("topic 't' partition 1 can be read again, from 2 on");
    broken.log("produce t -p 1 f").runs().exits(0);
    for reader in [early, group, alone, commands] {
        let mut reader = reader;
        assert_eq!(reader.line(), "f");
        reader.signal(Signal::INT);
    }
}

#[test]
fn a_reader_says_that_its_broker_is_away_and_that_it_is_back() {
    let home = Home::new();
    let starts = |port: &str| bandy(&format!("log broker -l {port}")).home(&home).starts();
    let server = starts(":0");
    let url = server.url.clone();
    let port = url.rsplit_once(':').unwrap().1.to_owned();
    let log = |words: &str| bandy(&format!("log {words}")).env("BANDY_LOG_URL", &url).home(&home);
    log("create t").runs().exits(0);
    log("produce t before").runs().exits(0);
    let mut reader = log("consume t -f").spawns();
    assert_eq!(reader.line(), "before");
    server.signal(Signal::KILL);
    let _ = server.ends();
    let since = Instant::now();
    reader.says("trying again");
    assert!(since.elapsed() < DEADLINE / 4, "{:?}", since.elapsed());
    let _server = starts(&format!(":{port}"));
    reader.says("it works again");
    log("produce t after").runs().exits(0);
    assert_eq!(reader.line(), "after");
    let said = reader.stderr();
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
}

/// A log command for a broker.
fn at(server: &Running, home: &Home, words: &str) -> Cmd {
    bandy(&format!("log {words}")).env("BANDY_LOG_URL", &server.url).home(home)
}

/// A broker with the empty topic `t`.
fn with_topic() -> (Home, Running) {
    let home = Home::new();
    let server = bandy("log broker -l :0").home(&home).starts();
    at(&server, &home, "create t").runs().exits(0);
    (home, server)
}

#[test]
fn a_broker_that_says_nothing_is_told_of_after_two_seconds() {
    let (home, server) = with_topic();
    let log = |words: &str| at(&server, &home, words);
    log("produce t before").runs().exits(0);
    let mut reader = log("consume t -f").spawns();
    assert_eq!(reader.line(), "before");
    server.signal(Signal::STOP);
    let since = Instant::now();
    let list = log("ls topics").spawns();
    let place = server.url.strip_prefix("kafka://").unwrap();
    list.says(&format!("{place}: no answer to ApiVersions for 2s; waiting"));
    reader.says(&format!("{place}: no answer to Fetch for 2.5s; waiting"));
    assert!(since.elapsed() < DEADLINE / 4, "{:?}", since.elapsed());
    server.signal(Signal::CONT);
    list.says(&format!("{place}: it works again"));
    list.ends().exits(0);
    reader.says(&format!("{place}: it works again"));
    log("produce t after").runs().exits(0);
    assert_eq!(reader.line(), "after");
    assert_eq!(reader.stderr().lines().count(), 2, "{}", reader.stderr());
}

/// A worker of a group whose broker was killed before it was told of the first record.
fn left_alone() -> (Home, Running) {
    let (home, server) = with_topic();
    let log = |words: &str| at(&server, &home, words);
    log("produce t").stdin("a\nb\nc\n").runs().exits(0);
    let mut worker = log("consume t -g g -f -- sh -c").arg("read v; echo $v").spawns();
    assert_eq!(worker.line(), "a");
    server.signal(Signal::KILL);
    let _ = server.ends();
    worker.says("trying again");
    (home, worker)
}

#[test]
fn a_worker_whose_broker_is_away_ends_when_it_is_asked_to() {
    let (_home, worker) = left_alone();
    worker.signal(Signal::INT);
    let since = Instant::now();
    let ran = worker.ends().dies_by(Signal::INT).complains("the group cannot be told of the last records");
    assert!(since.elapsed() < DEADLINE / 3, "{:?}: {}", since.elapsed(), ran.err());
}

/// There is nobody to say goodbye to.
#[test]
fn an_idle_reader_of_a_group_whose_broker_has_gone_ends_at_once() {
    let (home, server) = with_topic();
    let log = |words: &str| at(&server, &home, words);
    log("produce t a").runs().exits(0);
    let mut reader = log("consume t -g g -f").spawns();
    assert_eq!(reader.line(), "a");
    until("it is stored", || {
        log("ls groups g -o value").runs().out() == "g\n" && {
            log("info -g g --json").runs().out().contains("\"lag\":0")
        }
    });
    server.signal(Signal::KILL);
    let _ = server.ends();
    reader.says("trying again");
    let since = Instant::now();
    reader.signal(Signal::INT);
    reader.ends().dies_by(Signal::INT);
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
}

/// Asks until it ends, which is at once.
fn ends_at_the_second(reader: Running) {
    let since = Instant::now();
    let proc = format!("/proc/{}/stat", reader.id());
    until("it ends", || {
        reader.signal(Signal::INT);
        // It is this test's to be waited for, until it has ended.
        std::fs::read_to_string(&proc).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    reader.ends().dies_by(Signal::INT);
}

#[test]
fn who_is_asked_twice_ends_at_once() {
    let (_home, worker) = left_alone();
    ends_at_the_second(worker);
}

#[test]
fn who_is_asked_twice_does_not_wait_for_its_reader_either() {
    let (home, server) = with_topic();
    let log = |words: &str| at(&server, &home, words);
    log("produce t").stdin("0123456789\n".repeat(50_000)).runs().exits(0);
    // Its stdout is a pipe that nobody reads.
    let (reader, writer) = std::io::pipe().unwrap();
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    let full = format!("exec bandy log consume t -g g -f > {pipe}");
    let consumer = shell("sh", &full).env("BANDY_LOG_URL", &server.url).home(&home).spawns();
    until("something waits in the pipe", || rustix::io::ioctl_fionread(&reader).unwrap() > 0);
    server.signal(Signal::KILL);
    let _ = server.ends();
    ends_at_the_second(consumer);
}
