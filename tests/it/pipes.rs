//! Pipes from one pillar to the next: what goes in comes out, whole, and nothing is lost when a side of a pipe dies.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::support::{Cmd, Home, Running, bandy, shell, until};

/// Brokers of both kinds, and scripts that find them.
struct Servers {
    home: Home,
    mq: Running,
    log: Running,
}

impl Servers {
    #[track_caller]
    fn start() -> Self {
        let home = Home::new();
        let mq = bandy("mq broker --memory -l :0 -l local:").home(&home).starts();
        let log = bandy("log broker --memory -l :0 -l local:").home(&home).starts();
        Self { home, mq, log }
    }

    fn found_by(&self, command: Cmd) -> Cmd {
        command.home(&self.home).env("BANDY_MQ_URL", &self.mq.url).env("BANDY_LOG_URL", &self.log.url)
    }

    fn bandy(&self, words: &str) -> Cmd {
        self.found_by(bandy(words))
    }

    fn sh(&self, script: &str) -> Cmd {
        self.found_by(shell("bash", script)).folder(self.home.path("."))
    }

    /// Runs a script in bash and in dash, each with servers of its own.
    #[track_caller]
    fn each(script: &str, printed: &str) {
        for interpreter in ["bash", "dash"] {
            let servers = Self::start();
            let command = servers.found_by(shell(interpreter, script)).folder(servers.home.path("."));
            let ran = command.runs().exits(0);
            assert_eq!(ran.out(), printed, "in {interpreter}\nstderr: {}", ran.err());
        }
    }
}

#[test]
fn a_queue_into_a_log() {
    Servers::each(
        "bandy log create eu-orders -q
         bandy mq sub 'orders.' -g taps -n 3 --json | grep '\"region\":\"eu\"' | bandy log produce eu-orders --json &
         bandy mq wait taps --timeout 30s
         bandy mq pub orders.1 -H region=eu apple
         bandy mq pub orders.2 -H region=us pear
         bandy mq pub orders.3 -H region=eu fig
         wait
         bandy log consume eu-orders -o '%k %v %H{region}'",
        "orders.1 apple eu\norders.3 fig eu\n",
    );
}

#[test]
fn a_log_into_another_with_the_topic_from_the_record() {
    Servers::each(
        "other=$(bandy log broker --memory -l :0 --background --pidfile pid)
         trap 'kill $(cat pid)' EXIT
         for topic in a b; do bandy log create $topic -q; bandy log create $topic -q -e $other; done
         bandy log produce a -k x 1; bandy log produce b 2; bandy log produce a 3
         bandy log consume a b --json | bandy log produce --json -e $other
         bandy log consume a -e $other -o '%t %k %v'; bandy log consume b -e $other -o '%t %v'",
        "a x 1\na  3\nb 2\n",
    );
}

#[test]
fn members_of_a_cluster_into_a_log() {
    Servers::each(
        "bandy log create membership -q
         bandy gossip join --name n1 -l :0 --background --pidfile n1.pid >urls
         trap 'kill $(cat n1.pid)' EXIT
         bandy gossip watch -e local:n1 --replay --event join --event leave -n 2 --json |
             bandy log produce membership --json &
         bandy gossip join --name n2 -l :0 --background --pidfile n2.pid $(head -1 urls) >n2.urls
         bandy gossip wait -e local:n1 --members 2 --timeout 30s
         kill $(cat n2.pid)
         wait $!
         bandy log consume membership -o '%k %v %{event}'",
        "n2 alive \nn2 left \n",
    );
}

#[test]
fn who_follows_passes_on_each_record_at_once() {
    let servers = Servers::start();
    servers.sh("bandy log create t -q; seq 3 | bandy log produce t").runs().exits(0);
    for words in ["log consume t -f", "log tail t", "log tail t -K :", "log tail t --json"] {
        let mut following = servers.bandy(words).spawns();
        for _ in 0..3 {
            following.line();
        }
        // And what comes while it waits.
        servers.bandy("log produce t more").runs().exits(0);
        while !following.line().contains("more") {}
    }
    // What was read is written, whatever ends it.
    let some = servers.bandy("log tail t --timeout 300ms").runs().exits(124).out();
    assert!(some.lines().count() >= 6, "{some}");
    servers.sh("bandy log consume t -f | head -n 2").runs().prints("1\n2\n");
}

#[test]
fn keys_stand_before_values_for_other_tools() {
    Servers::each(
        r"bandy log create orders -q
          printf 'b\t2\na\t1\n' | bandy log produce orders -K '\t'
          bandy log consume orders -K '\t' | sort | cut -f2",
        "1\n2\n",
    );
}

#[test]
fn workers_share_what_was_sent() {
    Servers::each(
        "bandy mq create jobs -q
         seq 100 | bandy mq send jobs && bandy mq recv jobs -f -j4 --idle 1s -- sh -c 'read n; echo $n' | sort -n | tail -n 2
         seq 3 | bandy mq send jobs
         while job=$(bandy mq recv jobs --no-wait); do echo \"doing $job\"; done",
        "99\n100\ndoing 1\ndoing 2\ndoing 3\n",
    );
}

#[test]
fn a_function_is_called_for_each_record() {
    Servers::each(
        "url=$(bandy rpc serve -l :0 --background --pidfile rpc.pid)
         trap 'kill $(cat rpc.pid)' EXIT
         bandy log create sums -q; bandy log create results -q
         printf '{\"a\":%s,\"b\":1}\\n' 1 2 3 | bandy log produce sums
         bandy log consume sums | bandy rpc call -e $url Calc/Add --each --json | bandy log produce results --json
         bandy log consume results",
        "{\"value\":2}\n{\"value\":3}\n{\"value\":4}\n",
    );
}

/// Text, bytes, nothing at all; repeated headers, headers without a value and of bytes; keys of both kinds.
const RECORDS: &str = r#"{"key":"k","value":"v","headers":{"x":["1","2"],"y":null,"z":"q"},"timestamp":1700000000123}
{"value":null,"timestamp":1700000000124}
{"key":"k","value":null,"headers":{"why":"deleted"},"timestamp":1700000000125}
{"key_base64":"/wA=","value_base64":"AP8=","headers":{"b":{"base64":"/w=="}},"timestamp":1700000000126}
{"value":"","timestamp":1700000000127}
{"key":"","value":"two\nlines","headers":{"":"no name"},"timestamp":1700000000000}
"#;

#[test]
fn one_envelope_is_whole_through_log_and_queue_and_back() {
    let servers = Servers::start();
    servers.sh("for t in a b c; do bandy log create $t -q; done; bandy mq create q -q").runs().exits(0);
    servers.bandy("log produce a --json").stdin(RECORDS).runs().exits(0);
    servers
        .sh("bandy log consume a --json | bandy mq send q --json
             bandy mq recv q -n 6 --json | bandy log produce b --json
             bandy log consume b --json | bandy log produce c --json")
        .runs()
        .prints("");
    // Where it has been is not what it is.
    let bare = |topic: &str| {
        let out = servers.bandy(&format!("log consume {topic} --json")).runs().exits(0).out();
        let lines = out.lines().map(|line| {
            let mut record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            record.retain(|name, _| !["topic", "partition", "offset"].contains(&name.as_str()));
            serde_json::to_string(&record).unwrap() + "\n"
        });
        lines.collect::<String>()
    };
    for topic in ["a", "b", "c"] {
        assert_eq!(bare(topic), RECORDS, "{topic}");
    }
}

/// The numbers from 1 to `count`, each at least once.
#[track_caller]
fn all(count: usize, outputs: &[String]) {
    let seen: BTreeSet<usize> =
        outputs.iter().flat_map(|out| out.lines()).filter_map(|line| line.parse().ok()).collect();
    let missing: Vec<_> = (1..=count).filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty(), "{} of {count} are lost, such as {:?}", missing.len(), missing.first());
}

const MANY: usize = 30_000;

/// A reader that takes some and is killed: what it had not read is still there.
#[test]
fn nothing_is_lost_when_the_reader_of_a_pipe_is_killed() {
    let servers = Servers::start();
    servers.sh(&format!("bandy mq create q -q; bandy log create t -q; seq {MANY} >n; bandy mq send q <n; bandy log produce t <n")).runs().exits(0);
    for (take, rest) in
        [("mq recv q -f", "mq recv q -f --idle 500ms"), ("log consume t -g g -f", "log consume t -g g")]
    {
        // It takes 700 and no more, and the pipe is full when it dies.
        let script = format!(
            "bandy {take} | {{
                 echo $BASHPID >reader.pid; exec 3>got
                 while read -r n; do echo $n >&3; [ $n -lt 700 ] || exec sleep 600; done
             }}"
        );
        let running = servers.sh(&script).spawns();
        let got = servers.home.path("got");
        let lines = || std::fs::read_to_string(&got).unwrap_or_default();
        until("it has read some", || lines().lines().count() == 700);
        let pid = std::fs::read_to_string(servers.home.path("reader.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        running.ends();
        let some = lines();
        let rest = servers.bandy(rest).runs().exits(0).out();
        all(MANY, &[some, rest]);
        std::fs::remove_file(&got).unwrap();
    }
}

/// The command that takes is killed itself: what it had not passed on is still there.
#[test]
fn nothing_is_lost_when_the_writer_of_a_pipe_is_killed() {
    let servers = Servers::start();
    servers.sh(&format!("bandy mq create q -q; bandy log create t -q; seq {MANY} >n; bandy mq send q <n; bandy log produce t <n")).runs().exits(0);
    for (take, rest) in
        [("mq recv q -f", "mq recv q -f --idle 500ms"), ("log consume t -g g -f", "log consume t -g g")]
    {
        let script = format!(
            "bash -c 'echo $$ >taker.pid; exec bandy {take}' | {{ exec 3>got; while read -r n; do echo $n >&3; done; }}"
        );
        let running = servers.sh(&script).spawns();
        let got = servers.home.path("got");
        let lines = || std::fs::read_to_string(&got).unwrap_or_default();
        until("it has passed on some", || lines().lines().count() > 500);
        let pid = std::fs::read_to_string(servers.home.path("taker.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        running.ends();
        let rest = servers.bandy(rest).runs().exits(0).out();
        all(MANY, &[lines(), rest]);
        std::fs::remove_file(&got).unwrap();
    }
}

/// Who feeds a pipe is killed: every line that was finished has arrived.
#[test]
fn nothing_is_lost_when_the_source_of_a_pipe_is_killed() {
    let servers = Servers::start();
    servers.sh("bandy mq create q -q; bandy log create t -q").runs().exits(0);
    for (put, take) in [("mq send q", "mq recv q -f --idle 500ms"), ("log produce t", "log consume t")] {
        let script = format!(
            "bash -c 'echo $$ >source.pid; n=0; while :; do n=$((n + 1)); echo $n; echo $n >said; done' | bandy {put}"
        );
        let running = servers.sh(&script).spawns();
        let said = || -> usize {
            let text = std::fs::read_to_string(servers.home.path("said")).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        until("it has said some", || said() > 500);
        let pid = std::fs::read_to_string(servers.home.path("source.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        running.ends();
        let said = said();
        let taken = servers.bandy(take).runs().exits(0).out();
        all(said, &[taken]);
        std::fs::remove_file(servers.home.path("said")).unwrap();
    }
}
