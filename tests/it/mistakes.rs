//! Commands of one pillar at a server of another, and words that fingers know from other tools.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{Home, Running, bandy, shell};

/// The first bytes of a client of AMQP 0-9-1.
const AMQP: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// A server, and its port.
fn server(words: &str) -> (Running, String) {
    let server = bandy(words).starts();
    let port = server.url.rsplit(':').next().expect("a URL ends with its port").to_owned();
    (server, port)
}

#[test]
fn a_server_of_another_pillar_is_told_by_what_it_speaks() {
    let (_mq, mq) = server("mq broker --memory -l 127.0.0.1:0");
    let (_log, log) = server("log broker --memory -l 127.0.0.1:0");
    let (_rpc, rpc) = server("rpc serve -l 127.0.0.1:0");
    let (_node, node) = server("gossip join -l 127.0.0.1:0 --alone");
    let tells = |words: String, exit: i32, tip: &str| {
        bandy(&words).runs().exits(exit).complains(&format!("tip: bandy {tip} "));
    };
    tells(format!("log ls -e :{mq}"), 3, &format!("mq ls -e amqp://127.0.0.1:{mq}"));
    tells(format!("rpc ls -e :{mq}"), 3, &format!("mq ls -e amqp://127.0.0.1:{mq}"));
    tells(format!("gossip ls -e serf://127.0.0.1:{mq}"), 3, &format!("mq ls -e amqp://127.0.0.1:{mq}"));
    tells(format!("mq ls -e :{log}"), 3, &format!("log ls -e kafka://127.0.0.1:{log}"));
    tells(format!("rpc ls -e :{log}"), 3, &format!("log ls -e kafka://127.0.0.1:{log}"));
    tells(format!("mq recv jobs -e :{rpc}"), 3, &format!("rpc ls -e grpc://127.0.0.1:{rpc}"));
    tells(format!("log consume t -e :{rpc}"), 3, &format!("rpc ls -e grpc://127.0.0.1:{rpc}"));
    tells(format!("log ls -e :{node}"), 3, &format!("gossip join 127.0.0.1:{node}"));
    tells(format!("mq ls -e :{node}"), 3, &format!("gossip join 127.0.0.1:{node}"));
    tells(format!("gossip ls -e serf://127.0.0.1:{node}"), 3, &format!("gossip join 127.0.0.1:{node}"));
}

#[test]
fn a_tip_goes_to_the_server_that_the_command_went_to() {
    let (_mq, mq) = server("mq broker --memory -l 127.0.0.1:0");
    let (_log, log) = server("log broker --memory -l 127.0.0.1:0");
    let (_rpc, rpc) = server("rpc serve -l 127.0.0.1:0");
    let home = Home::new();
    bandy(&format!("mq create -e :{mq} jobs")).runs().exits(0);
    bandy(&format!("log create -e :{log} t")).runs().exits(0);
    let tells = |words: String, tip: &str| {
        let ran = bandy(&words).home(&home).runs();
        assert!(ran.err().contains(tip), "{words}: {}", ran.err());
        assert!(!ran.err().contains("guest:guest@"), "{words}: {}", ran.err());
    };
    let removes = "# removes it, with what is in it";
    tells(format!("mq create -e :{mq} jobs --ttl 5s"), &format!("bandy mq rm jobs -e :{mq}    {removes}"));
    tells(
        format!("mq create jobs --ttl 5s --endpoint=amqp://guest:guest@127.0.0.1:{mq}"),
        &format!("bandy mq rm jobs -e amqp://guest@127.0.0.1:{mq}"),
    );
    tells(format!("mq ls queues nope -e :{mq}"), &format!("see all of them: bandy mq ls queues -e :{mq}\n"));
    tells(
        format!("log create -e :{log} t --partitions 3"),
        &format!("bandy log rm t -e :{log}    {removes}"),
    );
    tells(
        format!("log consume -e :{log} orders"),
        &format!("create it: bandy log create orders -e :{log}\n"),
    );
    tells(
        format!("log info -e :{log} -g nope"),
        &format!("see all of them: bandy log ls groups -e :{log}\n"),
    );
    tells(format!("rpc ls -e :{rpc} zzzzzz"), &format!("see all of them: bandy rpc ls -e :{rpc}\n"));
    // What leads there unasked needs no words.
    let there = || bandy("log consume orders").home(&home);
    let url = format!("kafka://127.0.0.1:{log}");
    there().env("BANDY_LOG_URL", &url).runs().exits(5).complains("tip: create it: bandy log create orders\n");
    bandy(&format!("context add work --log {url}")).home(&home).runs().exits(0);
    let named = "tip: create it: bandy log create orders --context work\n";
    there().with("--context work").runs().exits(5).complains(named);
    let silent = "tip: create it: bandy log create orders\n";
    there().env("BANDY_CONTEXT", "work").runs().exits(5).complains(silent);
}

/// Somebody at a free port who reads eight bytes of each connection and does with them what `answer` says, with how many
/// came before; the port, and what was read.
fn somebody(answer: impl Fn(TcpStream, &[u8; 8], usize) + Send + 'static) -> (u16, Arc<Mutex<Vec<[u8; 8]>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 8]);
            if stream.read_exact(&mut head).is_ok() {
                let mut heard = ears.lock().unwrap();
                answer(stream, &head, heard.len());
                heard.push(head);
            }
        }
    });
    (port, heard)
}

/// A broker that breaks off is asked for nothing but its own protocol afterwards.
#[test]
fn who_speaks_what_was_expected_hears_no_other_protocol() {
    // The head of connection.start, and no more.
    let (port, heard) = somebody(|mut stream, _, _| {
        let _ = stream.write_all(&[1, 0, 0, 0, 0, 1, 0, 0, 10, 0, 10]);
    });
    bandy(&format!("mq info jobs -e amqp://127.0.0.1:{port}")).runs().exits(3);
    let heard = heard.lock().unwrap();
    assert!(heard.len() >= 2 && heard.iter().all(|head| head == AMQP), "{heard:?}");
}

/// Who waits for the rest of what he does not understand is asked in other languages.
#[test]
fn who_is_silent_is_asked_in_other_protocols_in_time() {
    let waiting = Mutex::new(Vec::new());
    let (port, _) = somebody(move |mut stream, head, before| {
        if head.starts_with(b"PRI *") {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        } else if before > 0 {
            waiting.lock().unwrap().push(stream);
        }
    });
    bandy(&format!("mq info jobs -e amqp://127.0.0.1:{port}"))
        .runs()
        .exits(3)
        .complains(&format!("tip: bandy rpc ls -e grpc://127.0.0.1:{port} "));
}

#[test]
fn a_broker_that_speaks_tls_is_told_by_it() {
    let (_log, log) = server("log broker --memory -l 127.0.0.1:0 --tls-self-signed");
    bandy(&format!("log ls -e kafka://127.0.0.1:{log}"))
        .runs()
        .exits(3)
        .complains(&format!("tip: bandy log ls -e kafkas://127.0.0.1:{log}    # it speaks TLS"));
}

#[test]
fn of_several_brokers_what_one_says_that_is_there_is_told() {
    let (_log, log) = server("log broker --memory -l 127.0.0.1:0 --tls-self-signed");
    for brokers in [format!("127.0.0.1:{log},127.0.0.1:1"), format!("127.0.0.1:1,127.0.0.1:{log}")] {
        bandy(&format!("log ls -e kafkas://{brokers}")).runs().exits(3).complains("certificate");
    }
}

#[test]
fn what_kcat_writes_behind_o_is_where_to_begin() {
    for place in ["-10", "beginning", "end", "42"] {
        bandy(&format!("log consume t -o {place}"))
            .runs()
            .exits(2)
            .complains(&format!("tip: --from {place}    # of 'log consume' is where to begin"));
    }
    bandy("log produce t -f lines").runs().exits(2).complains("tip: bandy log produce t --input lines");
    bandy("mq send jobs -f lines").runs().exits(2).complains("tip: --input FILE sends its lines");
}

#[test]
fn too_few_open_files_are_an_error_and_no_panic() {
    let home = Home::new();
    for words in ["log ls -e :1", "log consume t -e :1", "mq broker --memory -l 127.0.0.1:0"] {
        shell("bash", &format!("ulimit -n 8; bandy {words}"))
            .home(&home)
            .runs()
            .exits(1)
            .complains("error: no more than 8 files may be open at once\n  tip: ulimit -n 1024");
    }
}

#[test]
fn a_management_api_is_told_from_other_http() {
    let (port, _) = somebody(|mut stream, head, _| {
        let answer = if head.starts_with(b"GET /api") {
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"RabbitMQ Management\"\r\n\r\n"
        } else {
            "HTTP/1.1 400 Bad Request\r\n\r\n"
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let tip = format!("tip: bandy mq ls -e http://127.0.0.1:{port}    # it is a management API; ");
    bandy(&format!("mq recv jobs -e amqp://127.0.0.1:{port}")).runs().exits(3).complains(&tip);
    bandy(&format!("log ls -e kafka://127.0.0.1:{port}")).runs().exits(3).complains(&tip);
}

#[test]
fn a_tip_repeats_who_one_is_and_what_is_trusted_but_no_password() {
    let (_log, log) = server("log broker --memory -l 127.0.0.1:0 --tls-self-signed");
    let ran = bandy(&format!("log consume orders -e kafkas://127.0.0.1:{log} --insecure")).runs().exits(5);
    ran.complains(&format!(
        "tip: create it: bandy log create orders -e kafkas://127.0.0.1:{log} --insecure\n"
    ));
    let (_mq, mq) = server("mq broker --memory -l 127.0.0.1:0");
    let ran = bandy(&format!("mq recv jobs -e :{mq} -u guest:guest")).runs().exits(5);
    ran.complains(&format!("bandy mq create jobs -e :{mq} -u guest\n"));
}

#[test]
fn what_the_system_says_comes_without_its_numbers() {
    let home = Home::new();
    for (words, exit, said) in [
        ("mq apply /nosuch", 1, "/nosuch"),
        ("mq ls -e unix:/nosuch", 3, "there is no such socket"),
        ("log ls -e unix:/nosuch", 3, "there is no such socket"),
        ("gossip ls -e unix:/nosuch", 3, "there is no such socket"),
        ("log dump --dir /nosuch", 1, "/nosuch"),
        ("mq salvage --dir /nosuch", 1, "/nosuch"),
        ("log consume t -e dir:/nosuch", 1, "/nosuch"),
        ("gossip join --alone --key-file /nosuch", 1, "cannot read /nosuch: "),
    ] {
        let ran = bandy(words).home(&home).runs().exits(exit).complains(said);
        assert!(!ran.err().contains("os error"), "{words}: {}", ran.err());
    }
    for (words, tip) in [
        ("mq ls -e unix:/nosuch", "bandy mq broker -l unix:/nosuch    # starts one there"),
        ("log ls -e unix:/nosuch", "bandy log broker -l unix:/nosuch    # starts one there"),
        ("log ls -e :1", "bandy log broker -l kafka://127.0.0.1:1    # starts one there"),
        ("mq ls -e 127.0.0.1:1", "bandy mq broker -l amqp://127.0.0.1:1    # starts one there"),
    ] {
        bandy(words).home(&home).runs().exits(3).complains(&format!("tip: {tip}\n"));
    }
    let folder = home.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let ran = bandy("log dump").arg("--dir").arg(&folder).home(&home).runs();
    let said = "is no data directory that this version reads: it has no node.json\n";
    ran.complains(&format!("{} {said}", folder.display()));
}

#[test]
fn what_cannot_be_meant_is_said_in_one_line() {
    let home = Home::new();
    for (words, said) in [
        ("wait amqp://", "amqp://"),
        ("rpc serve x=", "'x=' has no command behind the =\n  tip: bandy rpc serve x='tr a-z A-Z'\n"),
        ("log consume t -n -1", "tip: no number, size or duration is less than 0 here\n"),
        ("mq pub --url=amqp://h -r jobs -b body", "tip: bandy mq pub -e amqp://h jobs body\n"),
        ("mq ls -e kafka://h", "tip: bandy log ls -e kafka://h"),
    ] {
        let ran = bandy(words).home(&home).runs().exits(2).complains(said);
        assert!(!ran.err().contains("not one of rpc"), "{words}: {}", ran.err());
        assert_eq!(ran.err().matches("error:").count(), 1, "{words}: {}", ran.err());
    }
    let file = home.file("file", "");
    let place = file.display().to_string();
    bandy("with mq --dir").arg(&file).with("-- true").home(&home).runs().complains(&place);
}

#[test]
fn a_server_of_ones_own_that_is_not_there_is_started_under_its_name() {
    let home = Home::new();
    for (pillar, server) in [("rpc", "rpc serve"), ("mq", "mq broker"), ("log", "log broker")] {
        bandy(&format!("{pillar} ls -e local:foo")).home(&home).runs().exits(3).complains(&format!(
            "error: nothing listens at local:foo ({pillar})\n  \
             tip: bandy {server} --name foo     # start one in this terminal\n       \
             bandy {server} --name foo -b  # …or in the background\n"
        ));
    }
}

#[test]
fn a_queue_without_a_name_is_none_and_one_that_is_made_unasked_is_told() {
    let broker = bandy("mq broker --memory -l :0").starts();
    for words in ["mq send '' x", "mq recv '' --create", "mq create ''", "mq peek ''"] {
        bandy(words).endpoint(&broker).runs().exits(2).complains("a queue has a name");
    }
    bandy("mq ls -o value").endpoint(&broker).runs().exits(0).prints("");
    let ran = bandy("mq send jbos x").endpoint(&broker).runs().exits(0);
    assert_eq!(ran.err(), "created the queue jbos\n");
    let ran = bandy("mq send asked x --create").endpoint(&broker).runs().exits(0);
    assert_eq!(ran.err(), "");
}

#[test]
fn who_logs_in_where_nobody_does_is_told_to_leave_it() {
    let broker = bandy("log broker --memory -l :0").starts();
    bandy("log ls -u bob:secret")
        .endpoint(&broker)
        .runs()
        .exits(4)
        .complains("has no users: it lets everybody in, and nobody log in")
        .complains("tip: leave the user out");
}

#[test]
fn a_misspelt_group_is_told() {
    let broker = bandy("log broker --memory -l :0").starts();
    bandy("log create t").endpoint(&broker).runs().exits(0);
    bandy("log produce t x").endpoint(&broker).runs().exits(0);
    bandy("log consume t -g billing").endpoint(&broker).runs().exits(0);
    let near = "did you mean 'billing'?";
    bandy("log seek -g biling t --to start --dry-run").endpoint(&broker).runs().exits(0).complains(near);
    bandy("log seek -g biling --to start -y").endpoint(&broker).runs().exits(5).complains(near);
    bandy("log info -g biling").endpoint(&broker).runs().exits(5).complains(near);
    bandy("log ls groups biling").endpoint(&broker).runs().exits(5).complains(near);
    let ran = bandy("log seek -g billing t --to start -y").endpoint(&broker).runs().exits(0);
    assert!(!ran.err().contains("did you mean"), "{}", ran.err());
}

#[test]
fn a_quote_that_is_not_closed_is_an_error() {
    let broker = bandy("mq broker --memory -l :0").starts();
    bandy("mq send jobs -I csv")
        .stdin("value\na\n\"b\nc\n")
        .endpoint(&broker)
        .runs()
        .exits(7)
        .complains("row 3 of stdin has a quote that is not closed");
}

#[test]
fn help_on_a_mistyped_verb_names_the_whole_command() {
    bandy("help mq snd").runs().exits(2).complains("no help on 'mq snd'\n  tip: bandy help mq send");
    bandy("help mq send x").runs().exits(2).complains("tip: bandy help mq send");
}

#[test]
fn who_waits_no_time_is_told_so() {
    bandy("wait kafka://127.0.0.1:1 --timeout 0").runs().exits(124).complains("is not ready at once: ");
    let server = bandy("rpc serve -l 127.0.0.1:0 upper='tr a-z A-Z'").starts();
    for words in
        ["rpc call upper hi", "rpc ls", "rpc ping", "mq send jobs x", "log consume t -f", "gossip ls"]
    {
        let ran = bandy(words).with("--timeout 0").home(&server.home).runs().exits(124);
        ran.complains("error: not finished at once\n  tip: --timeout 0 leaves no time; ");
    }
    let ran =
        bandy("rpc wait --timeout 0").home(&server.home).runs().exits(124).complains("not ready at once — ");
    assert!(!ran.err().contains("0ns"), "{}", ran.err());
}
