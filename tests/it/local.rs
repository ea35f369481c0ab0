//! This user's own servers: started by the first command that needs one, by `up`, and stopped by `down` or idleness.

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::support::{Cmd, Home, bandy, shell, until};

/// A user whose servers end with the test.
struct User(Home);

impl User {
    fn new() -> Self {
        Self(Home::new())
    }

    fn bandy(&self, words: &str) -> Cmd {
        bandy(words).home(&self.0).env("BANDY_AUTOSTART", "1")
    }

    /// What runs.
    #[track_caller]
    fn status(&self) -> Vec<Value> {
        let ran = self.bandy("status --json -q").runs().exits(0);
        ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The only server's process.
    #[track_caller]
    fn pid(&self) -> Pid {
        let status = self.status();
        assert_eq!(status.len(), 1, "{status:?}");
        Pid::from_raw(i32::try_from(status[0]["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let ran = self.bandy("down --all").runs();
        assert!(std::thread::panicking() || ran.code() == 0, "{}", ran.err());
    }
}

#[test]
fn the_first_command_starts_a_broker_and_the_next_ones_find_it() {
    let user = User::new();
    let first = user.bandy("mq send jobs hello").runs().exits(0);
    let pid = user.pid();
    let said =
        format!("started a local broker (pid {pid}); it stops when idle — 'bandy status', 'bandy down'\n");
    assert_eq!(first.err(), said + "created the queue jobs\n");
    user.bandy("mq recv jobs").runs().prints("hello\n").silently();
    user.bandy("log create t").runs().exits(0).complains("started a local broker");
    user.bandy("log produce t a").runs().prints("").silently();
    user.bandy("log consume t").runs().prints("a\n");
    let status = user.status();
    assert_eq!(status.iter().map(|row| &row["service"]).collect::<Vec<_>>(), ["mq", "log"]);
    assert!(status.iter().all(|row| row["mode"] == "idle" && row["url"] == "local:" && row["clients"] == 0));
    // Stopped in order, nothing is lost.
    user.bandy("mq send jobs kept").runs().exits(0);
    user.bandy("down")
        .runs()
        .prints("")
        .complains("stopped mq local: (pid ")
        .complains("stopped log local: (pid ");
    user.bandy("status").runs().prints("").complains("no server of yours is running");
    user.bandy("mq recv jobs").runs().exits(0).prints("kept\n").complains("started a local broker");
    user.bandy("log consume t").runs().exits(0).prints("a\n");
    // Nor by a crash.
    user.bandy("down log").runs().exits(0);
    user.bandy("mq send jobs again").runs().exits(0);
    user.signal(Signal::KILL);
    until("it is gone", || user.status().is_empty());
    user.bandy("mq recv jobs -q").runs().exits(0).prints("again\n").silently();
}

#[test]
fn who_says_where_or_only_asks_starts_nothing() {
    let user = User::new();
    for words in
        ["mq send q x -e local:", "mq ping -n 1", "log ping -n 1", "log ls -e local:", "mq ls -e local:"]
    {
        user.bandy(words).runs().exits(3).complains("nothing listens at local:");
    }
    user.bandy("mq send q x").env("BANDY_MQ_URL", "local:").runs().exits(3);
    user.bandy("mq send q x").env("BANDY_AUTOSTART", "0").runs().exits(3).complains("bandy up mq ");
    user.bandy("mq wait --timeout 100ms").runs().exits(124);
    user.bandy("wait mq --timeout 100ms").runs().exits(124);
    user.bandy("rpc ls").runs().exits(3);
    user.bandy("gossip ls").runs().exits(3);
    let completion =
        user.bandy("-- bandy mq recv ''").env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3");
    completion.runs().exits(0).silently();
    assert_eq!(user.status(), Vec::<Value>::new());
}

#[test]
fn a_broker_that_does_not_start_is_an_error_with_its_reason() {
    let user = User::new();
    user.0.file("state", "not a directory");
    let ran = user.bandy("mq send q x").runs().exits(3);
    ran.complains("cannot use ").complains("error: cannot start a local broker: it did not listen at local:");
    assert_eq!(user.status(), Vec::<Value>::new());
}

#[test]
fn many_that_need_it_at_once_start_one() {
    let user = User::new();
    let running: Vec<_> = (0..12).map(|n| user.bandy(&format!("mq send jobs {n}")).spawns()).collect();
    let ran: Vec<_> = running.into_iter().map(|one| one.ends().exits(0)).collect();
    assert_eq!(ran.iter().filter(|ran| ran.err().contains("started a local broker")).count(), 1);
    user.pid();
    let got = user.bandy("mq recv jobs -n 12").runs().exits(0).out();
    let mut got: Vec<u32> = got.lines().map(|line| line.parse().unwrap()).collect();
    got.sort();
    assert_eq!(got, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_nobody_needs_stops_unless_something_would_be_lost() {
    let user = User::new();
    let bandy = |words: &str| user.bandy(words).env("BANDY_IDLE_EXIT", "100ms");
    bandy("mq send jobs kept").runs().exits(0);
    until("it has stopped", || user.status().is_empty());
    bandy("mq recv jobs -q").runs().prints("kept\n").silently();
    // In memory only: it stays until that is taken.
    bandy("mq send jobs --transient brief").runs().exits(0);
    let pid = user.pid();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(user.pid(), pid);
    bandy("mq recv jobs").runs().prints("brief\n").silently();
    until("it has stopped", || user.status().is_empty());
}

/// A broker ends whenever it likes, between any two commands: none of them meets one that is about to end.
#[test]
fn a_command_never_meets_a_broker_that_is_about_to_stop() {
    let user = User::new();
    let script = "for n in $(seq 60); do bandy mq send -q jobs $n || exit 1; sleep 0.0$((n % 10)); done";
    let send = |mark: &str| {
        let script = script.replace("$n ||", &format!("{mark}$n ||"));
        shell("bash", &script)
            .home(&user.0)
            .env("BANDY_AUTOSTART", "1")
            .env("BANDY_IDLE_EXIT", "30ms")
            .spawns()
    };
    let senders = [send("a"), send("b")];
    senders.into_iter().for_each(|sender| drop(sender.ends().exits(0).silently()));
    let got = user.bandy("mq recv jobs -q -n 120").runs().exits(0).out();
    let mut got: Vec<&str> = got.lines().collect();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 120);
}

#[test]
fn up_starts_what_it_is_told_and_tells_others_where() {
    let user = User::new();
    let up = user.bandy("up --json --memory").runs().exits(0).out();
    let rows: Vec<Value> = up.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let services: Vec<_> = rows.iter().map(|row| row["service"].as_str().unwrap()).collect();
    assert_eq!(services, ["rpc", "mq", "log", "gossip"]);
    let url = |row: usize| rows[row]["url"].as_str().unwrap();
    for (row, scheme) in ["grpc", "amqp", "kafka", "serf"].iter().enumerate() {
        assert!(url(row).starts_with(&format!("{scheme}://127.0.0.1:")), "{}", url(row));
    }
    // What runs stays.
    let again = user.bandy("up mq --json").runs().exits(0).object();
    assert_eq!((&again["pid"], &again["mode"]), (&rows[1]["pid"], &"background".into()));
    for interpreter in ["bash", "dash"] {
        let script = r#"eval "$(bandy up mq log rpc gossip --export)" &&
            printf '%s\n' "$BANDY_MQ_URL" "$AMQP_URL" "$KAFKA_BROKERS" "$BANDY_RPC_URL" "$BANDY_GOSSIP_URL" &&
            bandy mq send jobs $0 && bandy mq recv jobs && bandy rpc call Greeter/Hello name=Ada -o value"#;
        let kafka = url(2).trim_start_matches("kafka://");
        let wanted = format!("{1}\n{1}\n{kafka}\n{0}\n{2}\n", url(0), url(1), url(3));
        let ran = shell(interpreter, script).home(&user.0).runs().exits(0);
        let out = ran.out();
        let rest = out.strip_prefix(&wanted).unwrap_or_else(|| panic!("{out}\nwanted {wanted}"));
        assert!(rest.ends_with("{\"message\":\"Hello, Ada!\"}\n"), "{rest}");
    }
    // Without any address.
    user.bandy("rpc call Greeter/Hello name=Bob").runs().shows("Hello, Bob!");
    user.bandy("gossip ls --json").runs().shows("\"status\":\"alive\"");
    user.bandy("down rpc gossip").runs().exits(0);
    assert_eq!(user.status().len(), 2);
    user.bandy("up mqq").runs().exits(2).complains("'mqq' is not a server").complains("did you mean 'mq'?");
}

#[test]
fn up_takes_the_place_of_a_broker_that_would_stop_by_itself() {
    let user = User::new();
    user.bandy("mq send jobs kept").runs().exits(0);
    let before = user.pid();
    let up = user.bandy("up mq --json").runs().exits(0).object();
    assert_eq!(up["mode"], "background");
    assert_ne!(user.pid(), before);
    user.bandy("mq recv jobs").runs().prints("kept\n").silently();
}

#[test]
fn status_counts_clients_and_down_leaves_a_terminal_alone() {
    let user = User::new();
    let server = user.bandy("mq broker -l local: -l :0 --memory").starts();
    user.bandy("mq create jobs -e local:").runs().exits(0);
    let waiting = user.bandy("mq recv jobs -e local:").spawns();
    until("it is counted", || user.status()[0]["clients"] == 1);
    // What `up` asks of one that would stop when idle is nothing to one in a terminal.
    user.signal(Signal::USR2);
    assert_eq!(user.status()[0]["mode"], "foreground");
    user.bandy("status mq -o '%{mode}'").runs().shows("foreground");
    user.bandy("status log").runs().exits(6).complains("bandy up log");
    user.bandy("down").runs().exits(0).complains("--all stops those in terminals, too");
    assert_eq!(user.status().len(), 1);
    user.bandy("down --all").runs().exits(0).complains("stopped mq local: (pid ");
    server.ends().exits(0);
    waiting.ends().exits(3);
    user.bandy("down").runs().exits(0).complains("nothing of yours is running");
}

#[test]
fn a_server_that_was_stopped_by_a_key_is_stopped_for_good() {
    let user = User::new();
    user.bandy("up rpc").runs().exits(0);
    user.signal(Signal::STOP);
    user.bandy("down").runs().exits(0).complains("stopped rpc local:");
    assert_eq!(user.status(), Vec::<Value>::new());
}

#[test]
fn up_leaves_a_broker_whose_end_would_lose_something() {
    let user = User::new();
    user.bandy("mq send jobs --transient brief").runs().exits(0);
    let before = user.pid();
    let up =
        user.bandy("up mq --json").runs().exits(0).complains("or what is not on disk, so it stays").object();
    assert_eq!((user.pid(), &up["mode"]), (before, &"background".into()));
    user.bandy("mq recv jobs").runs().prints("brief\n").silently();
}

#[test]
fn a_server_in_the_background_holds_nothing_of_its_callers() {
    let user = User::new();
    for start in ["bandy mq send -q jobs x", "bandy up -q log", "bandy rpc serve -q -b"] {
        let script = format!("(flock 9; {start} >/dev/null) 9>lock; flock -n lock true");
        let locked = shell("bash", &script).home(&user.0).env("BANDY_AUTOSTART", "1").folder(user.0.path(""));
        locked.runs().exits(0);
    }
    assert_eq!(user.status().len(), 3);
}

/// A broker with the data that belong at `local:` is found there, wherever else it listens, and does not say so twice.
#[test]
fn a_broker_at_a_port_with_its_own_users_data_is_that_users() {
    let user = User::new();
    let url = user.bandy("mq broker -l :0 -b").runs().exits(0).out();
    assert_eq!(url.lines().count(), 1, "{url}");
    user.bandy("mq send jobs x --create").runs().exits(0).silently();
    user.bandy(&format!("mq recv jobs -e {}", url.trim())).runs().prints("x\n");
    assert_eq!(user.status()[0]["urls"][0], url.trim());
    user.bandy("down").runs().exits(0).complains("stopped mq local:");
}

/// What listens at no `local:` is found by its process, until that ends.
#[test]
fn a_server_in_the_background_at_a_place_of_its_own_is_found() {
    let user = User::new();
    let mut urls = Vec::new();
    for server in ["mq broker --memory", "log broker --memory", "rpc serve"] {
        urls.push(user.bandy(&format!("{server} -l 127.0.0.1:0 -b")).runs().exits(0).out().trim().to_owned());
    }
    let shown: Vec<_> = user.status().iter().map(|server| server["url"].clone()).collect();
    assert_eq!(shown, [&urls[2], &urls[0], &urls[1]].map(|url| Value::from(url.as_str())));
    // It is not at local:, so commands do not go there.
    user.bandy("mq ls -e local:").runs().exits(3);
    user.bandy("down log").runs().exits(0).complains(&format!("stopped log {} (pid ", urls[1]));
    user.bandy("down rpc").runs().exits(0).complains(&format!("stopped rpc {} (pid ", urls[2]));
    user.signal(Signal::KILL);
    until("nothing is left of it", || user.status().is_empty());
    user.bandy("down").runs().exits(0).complains("nothing of yours is running");
}

#[test]
fn a_server_whose_socket_file_is_gone_is_named_when_it_is_in_the_way() {
    let user = User::new();
    user.bandy("up mq").runs().exits(0);
    let pid = user.pid();
    std::fs::remove_dir_all(user.0.path("run")).unwrap();
    user.bandy("status").runs().complains("no server of yours is running");
    user.bandy("up mq").runs().exits(1).complains(&format!("kill {pid}"));
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    // The one that starts waits for the end of the one before.
    user.bandy("up mq").runs().exits(0);
}

#[test]
fn what_others_could_have_put_there_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let user = User::new();
    user.bandy("up rpc").runs().exits(0);
    let run = user.0.path("run");
    let allow = |mode| std::fs::set_permissions(&run, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o777);
    for words in ["rpc call Greeter/Hello name=Ada", "mq send jobs secret", "log ls -e local:", "gossip ls"] {
        user.bandy(words).runs().exits(4).complains("others may write into").complains("chmod go-w ");
    }
    allow(0o700);
    user.bandy("rpc call Greeter/Hello name=Ada").runs().exits(0);
}

#[test]
fn bandy_wait_finds_the_newest_node() {
    let user = User::new();
    let waiting = user.bandy("wait gossip --timeout 30s").spawns();
    user.bandy("up gossip").runs().exits(0);
    waiting.ends().exits(0);
}

#[test]
fn mistakes_of_the_surroundings_are_named() {
    let user = User::new();
    user.bandy("mq send q x").env("BANDY_IDLE_EXIT", "foo").runs().exits(2).complains("BANDY_IDLE_EXIT: ");
    let long = user.0.path(&"x".repeat(100));
    let far = || user.bandy("mq send q x").env("BANDY_HOME", long.display().to_string());
    far().runs().exits(3).complains("is too long for a socket").complains("export BANDY_HOME=");
    user.bandy("up mq")
        .env("BANDY_HOME", long.display().to_string())
        .runs()
        .exits(1)
        .complains("is too long for a socket");
    // After a crash nothing listens, and that is what is said.
    user.bandy("up mq").runs().exits(0);
    user.signal(Signal::KILL);
    until("it is gone", || user.status().is_empty());
    user.bandy("mq ls -e local:").runs().exits(3).complains("nothing listens at local:");
    user.bandy("mq wait --timeout 200ms").runs().exits(124).complains("nothing listens at local:");
    user.bandy("status --watch -i 0").runs().exits(2).complains("at least");
    user.bandy("with mq mq -- true").runs().exits(125).complains("mq is there twice");
}

/// What a command starts in the home of `with` ends with it.
#[test]
fn with_stops_what_its_command_left_in_the_background() {
    let user = User::new();
    let ran = user
        .bandy("with rpc -- sh -c 'bandy up -q log >/dev/null; bandy status log -o %{pid}'")
        .in_path(bin());
    let pid: i32 = ran.runs().exits(0).out().trim().parse().unwrap();
    // One that has ended and that nobody has asked for has no program any more.
    assert!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err());
}

/// Where the program under test is.
fn bin() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_BIN_EXE_bandy")).parent().unwrap()
}

#[test]
fn a_server_that_calls_find_is_waited_for_and_shown() {
    let user = User::new();
    user.bandy("wait rpc --timeout 10ms").runs().exits(124);
    let server = user.bandy("rpc serve -l 127.0.0.1:0 upper='tr a-z A-Z'").starts();
    user.bandy("wait rpc").runs().exits(0).silently();
    user.bandy("rpc call upper hi").runs().prints("HI\n");
    let status = user.status();
    assert_eq!(status.len(), 1, "{status:?}");
    assert_eq!((&status[0]["url"], &status[0]["mode"]), (&Value::from(&*server.url), &"foreground".into()));
    user.bandy("status rpc").runs().exits(0);
    user.bandy("down").runs().complains("--all stops those in terminals, too");
    user.bandy("down --all").runs().complains(&format!("stopped rpc {} (pid ", server.url));
    server.ends().exits(0);
    assert_eq!(user.status(), Vec::<Value>::new());
}
