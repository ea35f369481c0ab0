//! Words and names that look like others: with line ends, hyphens, colons and slashes, or in another order.

use crate::support::{bandy, shell};

/// RabbitMQ takes them out where a queue is declared, and not where one is published to.
#[test]
fn a_name_with_a_lines_end_is_refused_before_anything_happens() {
    let broker = bandy("mq broker --memory -l :0").starts();
    for words in [
        "mq send 'c\nd' x",
        "mq create 'c\nd'",
        "mq rm 'c\rd' -y",
        "mq bind x 'c\nd'",
        "mq pub -x 'c\nd' t x",
    ] {
        let ran =
            bandy(words).endpoint(&broker).runs().exits(2).complains("brokers take line ends out of names");
        assert_eq!(ran.err().lines().count(), 2, "{}", ran.err());
    }
    bandy("mq ls -o value").endpoint(&broker).runs().prints("");
    // They may stand in a routing key, and other control characters anywhere.
    bandy("mq create 'c\td'").endpoint(&broker).runs().exits(0);
    bandy("mq bind amq.topic 'c\td' -k 'k\nk'").endpoint(&broker).runs().exits(0);
    bandy("mq pub 'k\nk' x --require-route").endpoint(&broker).runs().exits(0);
    bandy("mq recv 'c\td'").endpoint(&broker).runs().prints("x\n");
}

#[test]
fn the_code_in_an_error_is_that_of_the_commands_end() {
    let (mq, log) = (bandy("mq broker --memory -l :0").starts(), bandy("log broker --memory -l :0").starts());
    bandy("mq create jobs").endpoint(&mq).runs().exits(0);
    bandy("log create t").endpoint(&log).runs().exits(0);
    let ends = |words: &str, broker, input: &str, code: i32, lines: usize| {
        let ran = bandy(words).endpoint(broker).stdin(input).runs().exits(code);
        assert_eq!(ran.err().lines().count(), lines, "{}", ran.err());
        for line in ran.err().lines() {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(said["exit"], code, "{words}: {line}");
        }
    };
    let (bad, good) = ("{\n", "{\"value\": \"x\"}\n");
    for (words, broker) in [("mq send jobs --json", &mq), ("log produce t --json", &log)] {
        ends(words, broker, bad, 2, 1);
        ends(words, broker, &[bad, good].concat(), 7, 1);
        ends(words, broker, &[good, bad].concat(), 7, 1);
        ends(words, broker, &[bad, bad, good].concat(), 7, 2);
    }
    // Nothing of it counts.
    ends("log produce t --json --transaction one", &log, &[good, bad].concat(), 1, 2);
}

#[test]
fn a_name_may_begin_with_a_hyphen() {
    let broker = bandy("mq broker --memory -l :0").starts();
    let mq = |words: &str| bandy(words).env("BANDY_MQ_URL", &broker.url).runs();
    mq("mq send jobs x").exits(0);
    mq("mq send -- -jobs hello").exits(0);
    mq("mq recv -f -n 1 -- -jobs -- tr a-z A-Z").prints("HELLO");
    mq("mq send -- -jobs again").exits(0);
    mq("mq recv -- -jobs").prints("again\n");
    mq("mq recv -- -nosuch").exits(5).complains("create it: bandy mq create -- -nosuch\n");
    mq("mq recv jobs -- -x").exits(127).complains("cannot run -x: ");
    mq("mq send -jobs hello").exits(2).complains("tip: bandy mq send -- -jobs hello    # if it is a name\n");
    mq("mq recv -jobs").exits(2).complains("tip: bandy mq recv -- -jobs    # if it is a name\n");
    let log = bandy("log broker --memory -l :0").starts();
    let log = |words: &str| bandy(words).env("BANDY_LOG_URL", &log.url).runs();
    log("log create -- -t").exits(0);
    log("log produce -- -t a").exits(0);
    log("log consume -- -t").prints("a\n");
    log("log consume -- -t -- tr a-z A-Z").prints("A");
    log("log info -g -foo").exits(2).complains("tip: bandy log info -g=-foo    # if it is a name\n");
}

#[test]
fn flags_before_the_verb_and_addresses_for_names_are_put_where_they_belong() {
    for (words, tip) in [
        ("-e amqp://h mq ls", "bandy mq ls -e amqp://h\n"),
        ("mq -e amqp://h ls", "bandy mq ls -e amqp://h\n"),
        ("--context x log consume t", "bandy log consume --context x t\n"),
        ("log -C -b h -t orders", "bandy log consume -e h orders\n"),
        ("rpc -plaintext h list", "bandy rpc list -e h\n"),
        ("rpc h:1 describe a.B", "bandy rpc describe -e h:1 a.B\n"),
        ("rpc ls h:1", "bandy rpc ls -e h:1\n"),
        ("mq ls amqp://h", "bandy mq ls -e amqp://h\n"),
        ("log ping h:1", "bandy log ping -e h:1\n"),
    ] {
        bandy(words).runs().exits(2).complains(&format!("tip: {tip}"));
    }
}

#[test]
fn what_cannot_be_the_name_of_a_topic_is_refused_before_a_server_is_asked() {
    for words in [
        "create a/b",
        "produce a/b x",
        "consume 'a b'",
        "tail ..",
        "info a/b",
        "rm a/b -y",
        "trim a/b --to end",
        "config a/b",
    ] {
        bandy(&format!("log {words} -e :1")).runs().exits(2).complains("a topic's name ");
    }
    let broker = bandy("log broker --memory -l :0").starts();
    let record = "{\"topic\": \"a/b\", \"value\": \"x\"}\n";
    bandy("log produce -I json")
        .stdin(record)
        .endpoint(&broker)
        .runs()
        .exits(2)
        .complains("line 1: a topic's name ");
}

#[test]
fn a_file_that_cannot_be_written_is_named_as_it_was_given() {
    let broker = bandy("mq broker --memory -l :0").starts();
    let ran = bandy("mq export /nodir/x").endpoint(&broker).runs().exits(1);
    assert_eq!(ran.err(), "error: cannot write /nodir/x: No such file or directory\n");
    let ran = bandy("mq broker --memory -l :0 --url-file /nodir/x").runs().exits(1);
    assert_eq!(ran.err(), "error: cannot write /nodir/x: No such file or directory\n");
    for words in ["mq demo work", "rpc demo call", "help json"] {
        let ran = shell("bash", &format!("bandy {words} > /dev/full")).runs().exits(1);
        assert_eq!(ran.err(), "error: cannot write the output: No space left on device\n", "{words}");
    }
}
