//! The message commands of `bandy mq` through the binary, against our own broker.

use rustix::process::Signal;

use crate::support::{Cmd, Home, Running, bandy, shell, until};

/// A broker, and commands that speak to it.
struct Mq {
    server: Running,
}

impl Mq {
    #[track_caller]
    fn starts() -> Self {
        Self { server: bandy("mq broker --memory -l :0 -l local:").starts() }
    }

    fn mq(&self, words: &str) -> Cmd {
        bandy(&format!("mq {words}")).env("BANDY_MQ_URL", &self.server.url).home(&self.server.home)
    }

    /// A shell script with the endpoint in the environment.
    fn sh(&self, script: &str) -> Cmd {
        shell("bash", script).env("BANDY_MQ_URL", &self.server.url).home(&self.server.home)
    }

    /// Starts to subscribe, and waits until it has.
    fn subscribed(&self, words: &str, group: &str) -> Running {
        let running = self.mq(&format!("sub -g {group} {words}")).spawns();
        until("there is a consumer", || self.mq(&format!("wait {group}")).runs().code() == 0);
        running
    }
}

#[test]
fn what_is_sent_is_received_in_order() {
    let mq = Mq::starts();
    let made = mq.mq("send jobs hello").runs().exits(0).prints("");
    assert_eq!(made.err(), "created the queue jobs\n");
    mq.mq("send jobs").stdin("one\ntwo\n\nthree").runs().exits(0).prints("").silently();
    mq.mq("recv jobs").runs().exits(0).prints("hello\n").silently();
    mq.mq("recv jobs -n 4").runs().exits(0).prints("one\ntwo\n\nthree\n");
    mq.mq("recv jobs --no-wait").runs().exits(6).silently();
    mq.mq("recv jobs --idle 0.1s").runs().exits(0).prints("");
    mq.mq("recv jobs -n 2 --idle 0.1s").runs().exits(6);
    mq.mq("recv jobs --for 0.1s -f").runs().exits(0).prints("");
    mq.mq("recv jobs --timeout 0.1s").runs().exits(124).complains("not finished within 100ms");
}

#[test]
fn binary_bodies_go_through_as_they_are() {
    let mq = Mq::starts();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    mq.mq("send blobs --whole").stdin(&bytes).runs().exits(0);
    let ran = mq.mq("recv blobs -o '%v\\c'").runs().exits(0);
    assert!(ran.stdout == bytes, "{} bytes came back", ran.stdout.len());
    mq.mq("send blobs -0").stdin("a\nb\0c\0").runs().exits(0);
    mq.mq("recv blobs -n 2 -0").runs().exits(0).prints("a\nb\0c\0");
}

#[test]
fn keys_are_the_applications_own_and_come_back() {
    let mq = Mq::starts();
    mq.mq("send jobs -k ada hello").runs().exits(0);
    mq.mq("send jobs -K :").stdin("bob:1\nnone\n").runs().exits(0);
    mq.mq("recv jobs -n 3 -K =").runs().prints("ada=hello\nbob=1\n=none\n");
}

#[test]
fn every_format_has_the_message() {
    let mq = Mq::starts();
    let send = || mq.mq("send jobs -k ada -H n:=3 -H t=x --priority 4 hi").runs().exits(0);
    send();
    mq.mq("recv jobs --json").runs().prints(
        "{\"key\":\"ada\",\"value\":\"hi\",\"headers\":{\"n\":\"3\",\"t\":\"x\"},\"queue\":\"jobs\",\"exchange\":\"\",\
         \"routing_key\":\"jobs\",\"delivery_tag\":1,\"redelivered\":false,\"properties\":{\"delivery_mode\":2,\
         \"priority\":4,\"header_types\":{\"n\":\"int64\"}}}\n",
    );
    send();
    mq.mq("recv jobs -o csv").runs().prints(
        "queue,exchange,routing_key,delivery_tag,redelivered,properties,timestamp,key,headers,value\r\n\
         jobs,,jobs,1,false,\"{\"\"delivery_mode\"\":2,\"\"priority\"\":4,\"\"header_types\"\":{\"\"n\"\":\"\"int64\"\"}}\",\
         ,ada,\"{\"\"n\"\":\"\"3\"\",\"\"t\"\":\"\"x\"\"}\",hi\r\n",
    );
    send();
    mq.mq("recv jobs -o '%t %k %v %H{t} %{properties.priority}'").runs().prints("jobs ada hi x 4\n");
    send();
    mq.mq("recv jobs -o value").runs().prints("hi\n");
}

#[test]
fn headers_of_every_type_go_through_a_pipe() {
    let mq = Mq::starts();
    let types = "-H a=text -H b:=true -H c:int8=-1 -H d:uint8=255 -H e:int16=-2 -H f:uint16=3 -H g:int32=4 \
                 -H h:uint32=5 -H i:=6 -H j:int64L=7 -H k:float=0.5 -H l:=2.5 -H m:decimal=1.25 -H n:bytes=raw \
                 -H o:timestamp=1763884814 -H p:void= -H 'q:=[1,{\"a\":null,\"b\":\"c\"}]' -H 'r:={\"x\":{\"y\":[]}}'";
    let properties = "-p content_type=text/plain -p content_encoding=gzip -p correlation_id=c1 -p reply_to=r \
                      -p expiration=60000 -p message_id=m -p timestamp=7 -p type=t -p user_id=guest -p app_id=app \
                      -p priority=3 -p delivery_mode=2 -p cluster_id=x";
    mq.mq(&format!("send a {types} {properties} body")).runs().exits(0);
    mq.sh("bandy mq recv a --json --requeue | bandy mq send b --json").runs().exits(0);
    let envelope = |queue: &str| {
        let out = mq.mq(&format!("recv {queue} --json")).runs().exits(0).out();
        out.replace(&format!("\"queue\":\"{queue}\""), "")
            .replace(&format!("\"routing_key\":\"{queue}\""), "")
            .replace("\"redelivered\":true", "\"redelivered\":false")
    };
    let (first, second) = (envelope("a"), envelope("b"));
    assert!(first.contains("\"m\":\"decimal\"") && first.contains("\"timestamp\":7000"), "{first}");
    assert_eq!(first, second);
}

#[test]
fn everybody_who_subscribes_gets_a_copy() {
    let mq = Mq::starts();
    let (mut first, mut second) = (mq.subscribed("orders.", "a"), mq.subscribed("+.eu", "b"));
    mq.mq("pub orders.eu hello").runs().exits(0).prints("").silently();
    mq.mq("pub orders.us there").runs().exits(0);
    mq.mq("pub news.eu news").runs().exits(0);
    assert_eq!((first.line(), first.line()), ("hello".into(), "there".into()));
    assert_eq!((second.line(), second.line()), ("hello".into(), "news".into()));
    first.signal(Signal::INT);
    first.ends().dies_by(Signal::INT);
    second.signal(Signal::TERM);
    second.ends().dies_by(Signal::TERM);
}

#[test]
fn a_topic_that_nobody_wants_is_told_and_can_be_an_error() {
    let mq = Mq::starts();
    mq.mq("pub news").stdin("a\nb\nc\n").runs().exits(0).complains("nobody is subscribed to 'news'");
    mq.mq("pub news hello --require-route")
        .runs()
        .exits(6)
        .complains("nobody is subscribed to 'news' at amqp://");
    mq.mq("create q").runs().exits(0);
    mq.mq("bind amq.topic q -k a").runs().exits(0);
    mq.mq("pub --json --require-route")
        .stdin("{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\",\"value\":2}\n")
        .runs()
        .exits(7);
    mq.mq("pub a --json").stdin("{\"key\":\"b\",\"value\":3}\n").runs().exits(0);
    mq.mq("recv q -n 2 -o '%k|%v'").runs().prints("|1\nb|3\n");
    mq.mq("pub").runs().exits(2).complains("which topic?");
    mq.mq("pub -x nope a b").runs().exits(5).complains("no exchange 'nope'");
}

#[test]
fn a_queue_that_is_not_there() {
    let mq = Mq::starts();
    mq.mq("recv nope")
        .runs()
        .exits(5)
        .complains("no queue 'nope' at amqp://")
        .complains("bandy mq create nope");
    mq.mq("peek nope").runs().exits(5);
    mq.mq("recv nope --no-wait").runs().exits(5);
    mq.mq("request nope x").runs().exits(5);
    mq.mq("purge nope -y").runs().exits(5);
    mq.mq("rm nope -y").runs().exits(5);
    mq.mq("rm -x nope -y").runs().exits(5);
    mq.mq("bind nope also-nope").runs().exits(5);
    mq.mq("recv made --create --idle 0.1s").runs().exits(0);
    mq.mq("peek made").runs().exits(6);
}

#[test]
fn peeking_changes_nothing_but_the_mark() {
    let mq = Mq::starts();
    mq.mq("send jobs").stdin("1\n2\n3\n").runs().exits(0);
    mq.mq("peek jobs").runs().exits(0).prints("1\n2\n3\n");
    mq.mq("peek jobs -n 2").runs().exits(0).prints("1\n2\n");
    mq.mq("recv jobs -n 2 --requeue").runs().exits(0).prints("1\n2\n");
    mq.mq("recv jobs -n 3 -o '%v %{redelivered}'").runs().prints("1 true\n2 true\n3 true\n");
}

#[test]
fn a_reader_that_leaves_has_taken_what_it_read() {
    let mq = Mq::starts();
    mq.sh("seq 100 | bandy mq send jobs").runs().exits(0);
    for round in 0..5 {
        let out = mq.sh("set -o pipefail; bandy mq recv jobs -f | head -3").runs().exits(0).out();
        let first = round * 3 + 1;
        assert_eq!(out, format!("{first}\n{}\n{}\n", first + 1, first + 2));
    }
    mq.mq("recv jobs -n 85").runs().exits(0);
    mq.mq("recv jobs --no-wait").runs().exits(6);
}

#[test]
fn commands_are_acknowledged_when_they_end_well() {
    let mq = Mq::starts();
    mq.mq("send jobs -k ada -H a-b=c hello").runs().exits(0);
    mq.mq("recv jobs -- sh -c 'cat; echo \" $BANDY_KEY $BANDY_QUEUE $BANDY_HEADER_A_B\"'")
        .runs()
        .exits(0)
        .prints("hello ada jobs c\n");
    mq.mq("send jobs").stdin("1\n2\n3\n").runs().exits(0);
    mq.mq("recv jobs -f -j2 --idle 0.3s -- cat").runs().exits(0);
    mq.mq("peek jobs").runs().exits(6);
}

#[test]
fn a_command_that_fails_is_tried_again_and_then_dead_lettered() {
    let mq = Mq::starts();
    let home = mq.server.home.clone();
    mq.mq("create dead").runs().exits(0);
    mq.mq("send jobs -k ada bad").runs().exits(0);
    let script = home.script("fail", "#!/bin/sh\ncat >/dev/null\necho x >> \"$HOME/tries\"\nexit 3\n");
    let words = format!("recv jobs --retries 1 --dead-letter dead -- {}", script.display());
    mq.mq(&words).runs().exits(1).complains("exit code 3, 2 times").complains("it is in dead now");
    assert_eq!(std::fs::read_to_string(home.path("tries")).unwrap(), "x\nx\n");
    mq.mq("recv dead -o '%k %v %H{x-first-death-queue} %H{bandy-failure}'")
        .runs()
        .prints("ada bad jobs exit code 3\n");
    mq.mq("send jobs worse").runs().exits(0);
    mq.mq("recv jobs --retries 0 -- false").runs().exits(1).complains("refused");
    mq.mq("peek jobs").runs().exits(6);
}

#[test]
fn a_command_that_is_not_there_takes_nothing() {
    let mq = Mq::starts();
    mq.mq("send jobs hello").runs().exits(0);
    mq.mq("recv jobs -- no-such-command").runs().exits(127).complains("no message was taken");
    mq.mq("recv jobs -- /etc/passwd").runs().exits(126);
    mq.mq("recv jobs -o '%v %{redelivered}'").runs().prints("hello false\n");
}

#[test]
fn an_interrupted_worker_gives_its_message_back() {
    let mq = Mq::starts();
    mq.mq("send jobs hello").runs().exits(0);
    let mut worker = mq.mq("recv jobs -f -- sh -c 'echo started; sleep 60'").spawns();
    assert_eq!(worker.line(), "started");
    worker.signal(Signal::INT);
    worker.ends().dies_by(Signal::INT);
    mq.mq("recv jobs -o '%v %{redelivered}'").runs().prints("hello true\n");
}

#[test]
fn requests_are_answered() {
    let mq = Mq::starts();
    mq.mq("create upper").runs().exits(0);
    let worker = mq.mq("recv upper -f --reply --retries 0 -- tr a-z A-Z").spawns();
    mq.mq("request upper hello").runs().exits(0).prints("HELLO\n");
    mq.mq("request upper").stdin("a\nb\n").runs().exits(0).prints("A\nB\n\n");
    worker.signal(Signal::INT);
    worker.ends().dies_by(Signal::INT);
    mq.mq("request upper late --timeout 0.2s").runs().exits(124).complains("no answer from upper");
    mq.mq("purge upper -y").runs().exits(0);
    let worker = mq.mq("recv upper -f --reply --retries 0 -- false").spawns();
    mq.mq("request upper x").runs().exits(1).complains("its command ended with 1");
    worker.signal(Signal::INT);
    worker.ends();
}

#[test]
fn what_is_created_is_there_with_its_settings() {
    let mq = Mq::starts();
    mq.mq("create jobs --ttl 1h --max-length 10 --dead-letter dead").runs().exits(0).silently();
    mq.mq("create jobs --ttl 1h --max-length 10 --dead-letter dead").runs().exits(0);
    mq.mq("create jobs --ttl 2h --max-length 10 --dead-letter dead")
        .runs()
        .exits(1)
        .complains("with other settings: its x-message-ttl is 3600000, not 7200000")
        .complains("bandy mq rm jobs");
    mq.mq("create -x orders").runs().exits(0);
    mq.mq("create -x orders --type fanout").runs().exits(1).complains("its type is topic, not fanout");
    mq.mq("create -x orders --ttl 1s").runs().exits(2).complains("--ttl is for queues");
    mq.mq("bind orders jobs -k 'a.*'").runs().exits(0);
    mq.mq("pub -x orders a.b hello").runs().exits(0).silently();
    mq.mq("recv jobs").runs().prints("hello\n");
    mq.mq("unbind orders jobs -k 'a.*'").runs().exits(0);
    mq.mq("pub -x orders a.b hello").runs().exits(0).complains("nobody");
}

#[test]
fn what_goes_is_asked_for() {
    let mq = Mq::starts();
    mq.mq("send jobs").stdin("1\n2\n").runs().exits(0);
    mq.mq("purge jobs").runs().exits(2).complains("drop 2 messages from jobs").complains("add -y");
    mq.mq("purge jobs --dry-run").runs().exits(0).complains("would drop 2 messages");
    mq.mq("rm jobs --if-empty -y").runs().exits(1).complains("not empty");
    mq.mq("purge jobs -y").runs().exits(0).complains("dropped 2 messages from jobs");
    mq.mq("rm jobs -y").runs().exits(0).complains("removed the queue jobs with 0 messages");
    mq.mq("rm jobs -y").runs().exits(5);
    mq.mq("create -x orders").runs().exits(0);
    mq.mq("rm -x orders -y").runs().exits(0);
}

#[test]
fn waiting_for_a_queue() {
    let mq = Mq::starts();
    mq.mq("wait").runs().exits(0);
    mq.mq("wait jobs --timeout 0.2s").runs().exits(124).complains("no queue 'jobs'");
    let waiting = mq.mq("wait jobs --count 2").spawns();
    mq.mq("send jobs").stdin("1\n2\n").runs().exits(0);
    waiting.ends().exits(0);
    mq.mq("wait jobs --empty --timeout 0.2s").runs().exits(124).complains("2 messages in jobs");
    mq.mq("purge jobs -y").runs().exits(0);
    mq.mq("wait jobs --empty").runs().exits(0);
}

#[test]
fn a_delayed_message_comes_later() {
    let mq = Mq::starts();
    mq.mq("send jobs later --delay 0.7s").runs().exits(0);
    mq.mq("recv jobs --no-wait").runs().exits(6);
    mq.mq("recv jobs").runs().exits(0).prints("later\n");
}

#[test]
fn pinging_a_broker() {
    let mq = Mq::starts();
    let ran = mq.mq("ping -n 2 -i 0.01s").runs().exits(0).complains("2 sent, 2 answered, 0 % lost");
    assert_eq!(ran.out().lines().filter(|line| line.starts_with("OK from amqp://")).count(), 2);
    bandy("mq ping -n 1 -e :1").runs().exits(3).complains("connection refused");
}

#[test]
fn nobody_listens() {
    bandy("mq send jobs x").runs().exits(3).complains(
        "error: nothing listens at local: (mq)\n  \
         tip: bandy up mq               # start one in the background\n       \
         bandy mq broker           # …or in this terminal\n       \
         bandy with mq -- CMD      # …or only for one command\n",
    );
    bandy("mq recv jobs -e amqp://127.0.0.1:1")
        .runs()
        .exits(3)
        .complains("cannot reach the broker at amqp://127.0.0.1:1");
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let mq = Mq::starts();
    let wrong = mq.server.url.replace("amqp://", "amqp://guest:secret@");
    let ran = bandy("mq recv jobs -e").arg(&wrong).runs().exits(4).complains("does not let guest in");
    assert!(!ran.err().contains("secret"), "{}", ran.err());
    let nowhere = format!("{}/%2Fnope", mq.server.url.trim_end_matches('/'));
    bandy("mq recv jobs -e")
        .arg(nowhere)
        .runs()
        .exits(5)
        .complains("vhost /nope not found")
        .complains("%2F for a slash");
}

#[test]
fn bad_records_are_named_and_the_rest_goes_on() {
    let mq = Mq::starts();
    let text = "{\"value\":1}\n{}\n\n{\"value\":2,\"headers\":{\"a\":\"x\"},\"properties\":{\"header_types\":{\"a\":\"int8\"}}}\n{\"value\":3}\n";
    mq.mq("send jobs --json")
        .stdin(text)
        .runs()
        .exits(7)
        .complains("line 2 of stdin is not an envelope")
        .complains("2 records were not taken, the first at line 2");
    mq.mq("recv jobs -n 2").runs().prints("1\n3\n");
    mq.mq("create tiny --max-length 1 --overflow reject-publish").runs().exits(0);
    mq.mq("send tiny")
        .stdin("1\n2\n")
        .runs()
        .exits(7)
        .complains("line 2: the broker did not take the message");
    mq.mq("purge tiny -y").runs().exits(0);
    let files = ["one", "two"].map(|name| mq.server.home.file(name, name));
    let inputs = files.map(|file| format!("--input {}", file.display())).join(" ");
    mq.mq(&format!("send tiny --whole {inputs}"))
        .runs()
        .exits(7)
        .complains("/two: the broker did not take the message");
}

#[test]
fn what_was_taken_can_be_printed() {
    let mq = Mq::starts();
    mq.mq("send jobs --tee").stdin("1\n2\n").runs().exits(0).prints("1\n2\n");
    mq.mq("send jobs -T -n 3 -o '%n %v' 'job {{n}}'").runs().exits(0).prints("1 job 1\n2 job 2\n3 job 3\n");
}

#[test]
fn messages_that_wait_survive_a_broker_that_went_away_for_a_moment() {
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = || bandy(&format!("mq broker --memory -l :{port}")).home(&home).starts();
    let first = broker();
    let mut sub = bandy(&format!("mq sub -g g a -e :{port}")).spawns();
    until("it has subscribed", || bandy(&format!("mq wait g -e :{port} --timeout 1s")).runs().code() == 0);
    first.signal(Signal::KILL);
    first.ends();
    sub.says("connecting again");
    let _second = broker();
    sub.says("is back");
    bandy(&format!("mq pub a hello -e :{port} --require-route")).runs().exits(0);
    assert_eq!(sub.line(), "hello");
    sub.signal(Signal::INT);
    sub.ends().dies_by(Signal::INT);
}

#[test]
fn a_broker_that_is_killed_twice_loses_no_message() {
    const COUNT: u32 = 6000;
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = || bandy(&format!("mq broker -l :{port}")).home(&home).starts();
    let at = |words: &str| bandy(&format!("mq {words} -e :{port}"));
    let ready = |count: u32| at(&format!("wait jobs --count {count}")).runs().exits(0);
    let first = broker();
    at("create jobs").runs().exits(0);
    let lines: String = (1..=COUNT).map(|n| format!("{n}\n")).collect();
    let mut send = at("send jobs --rate 4000").stdin(lines).spawns();
    send.stdin = None;
    ready(1000);
    first.signal(Signal::KILL);
    first.ends();
    let second = broker();
    send.ends().exits(0).complains("connecting again");
    ready(COUNT);
    let mut recv = at("recv jobs -f --prefetch 10").spawns();
    let mut taken = std::collections::BTreeSet::new();
    let mut take = |count: usize| {
        while taken.len() < count {
            taken.insert(recv.line().parse::<u32>().unwrap());
        }
    };
    take(500);
    second.signal(Signal::KILL);
    second.ends();
    let _third = broker();
    // Each of them has come, some twice.
    take(COUNT as usize);
    assert!(taken.iter().copied().eq(1..=COUNT));
    recv.says("is back");
    recv.signal(Signal::INT);
    recv.ends().dies_by(Signal::INT);
}

#[test]
fn flags_of_other_tools_are_said_in_ours() {
    for (theirs, ours) in [
        ("mq sub -t orders", "bandy mq sub orders"),
        ("mq pub -t orders -m hello", "bandy mq pub orders hello"),
        ("mq recv --url amqp://h -c 3 jobs", "bandy mq recv -e amqp://h -n 3 jobs"),
        ("mq send -J jobs", "bandy mq send --json jobs"),
        ("mq sub -b h -t orders", "a broker is -e amqp://HOST"),
        ("mq recv jobs --vhost x", "%2F for a slash"),
        ("mq recv jobs -A", "--requeue puts them back"),
        ("mq send jobs --password x y", "--password-file FILE"),
        ("mq sub orders -W 3", "bandy mq sub orders --timeout 3"),
    ] {
        bandy(theirs).runs().exits(2).complains(ours);
    }
    bandy("mq pbu news x").runs().exits(2).complains("did you mean 'bandy mq pub'?");
}

#[test]
fn a_command_can_have_a_broker_of_its_own() {
    bandy("with mq -- sh -c 'bandy mq send jobs x && bandy mq recv jobs && test \"$AMQP_URL\" = \"$BANDY_MQ_URL\"'")
        .in_path(std::path::Path::new(env!("CARGO_BIN_EXE_bandy")).parent().unwrap())
        .runs()
        .exits(0)
        .prints("x\n");
    let mq = Mq::starts();
    bandy("wait").arg(&mq.server.url).runs().exits(0);
    bandy("wait mq").home(&mq.server.home).runs().exits(0);
    bandy("wait amqp://127.0.0.1:1 --timeout 0.1s").runs().exits(124);
}
