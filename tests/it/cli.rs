//! The command line itself: help, errors, exit codes, pipes.

use rustix::process::Signal;

use crate::support::{Cmd, Home, bandy, shell};

#[test]
fn version_is_one_line() {
    bandy("--version").runs().prints(concat!("bandy ", env!("CARGO_PKG_VERSION"), "\n")).silently();
}

#[test]
fn an_unknown_format_is_bad_usage_with_the_nearest_word() {
    bandy("context ls -o jsno").runs().exits(2).complains("tip: did you mean 'json'?");
}

#[test]
fn contexts_are_added_used_shown_and_removed() {
    let home = Home::new();
    let run = |words: &str| bandy(words).home(&home).runs();
    run("context add prod --rpc grpcs://bob:secret@api.example.org --log kafka://k1,k2 --use")
        .prints("")
        .silently();
    run("context add dev --rpc :5000").prints("");
    run("context ls").prints(
        "dev\tfalse\t:5000\t\t\t\t\nprod\ttrue\tgrpcs://bob:***@api.example.org\t\tkafka://k1,k2\t\t\n",
    );
    run("context ls -o table").prints(
        "NAME  CURRENT  RPC                              MQ  LOG            GOSSIP  USER\n\
         dev            :5000\n\
         prod  *        grpcs://bob:***@api.example.org      kafka://k1,k2\n",
    );
    run("context use dev").prints("");
    run("context show").prints("rpc\t:5000\n");
    run("context use -").prints("");
    run("context show -o json")
        .prints("{\"rpc\":\"grpcs://bob:***@api.example.org\",\"log\":\"kafka://k1,k2\"}\n");
    run("context rm prod").prints("");
    run("context show").exits(5).complains("no context is the current one");
    run("context use pord").exits(5).complains("no context 'pord'");
    run("context show dve").exits(5).complains("tip: did you mean 'dev'?");
}

#[test]
fn a_context_without_a_usable_endpoint_is_refused() {
    bandy("context add x --rpc kafka://h").runs().exits(2).complains("kafka:// is a log endpoint");
    bandy("context add x").runs().exits(2).complains("tip: bandy context add x --rpc");
    bandy("context add local --rpc :1").runs().exits(2);
}

#[test]
fn help_is_short_or_long_and_no_words_is_bad_usage() {
    bandy("").runs().exits(2).complains("Usage: bandy");
    bandy("rpc").runs().exits(2).complains("Usage: bandy rpc");
    bandy("-h").runs().shows("call a function somewhere else").silently();
    bandy("--help").runs().shows("Topics: bandy help endpoints");
    bandy("help").runs().shows("Usage: bandy");
    bandy("help context use").runs().shows("Usage: bandy context use");
    for topic in
        ["endpoints", "output", "json", "templates", "exit-codes", "environment", "scripting", "signals"]
    {
        let page = bandy("help").arg(topic).runs().exits(0).silently();
        assert!(page.out().lines().count() > 15, "{topic}");
    }
    bandy("help exit-code").runs().exits(2).complains("tip: bandy help exit-codes");
}

#[test]
fn what_was_mistyped_is_guessed() {
    for (words, tip) in [
        ("rcp", "did you mean 'bandy rpc'?"),
        ("demo --quiett", "did you mean '--quiet'?"),
        ("context ad", "did you mean 'bandy context add'?"),
        ("context ls --color neve", "did you mean 'never'?"),
        ("completions bosh", "did you mean 'bash'?"),
        ("context lsit", "did you mean 'bandy context list'?"),
        ("ls", "did you mean 'bandy"),
    ] {
        bandy(words).runs().exits(2).complains(tip);
    }
}

#[test]
fn with_json_an_error_is_one_object_on_stderr() {
    let ran = bandy("context use prod --json").runs().exits(5);
    let error: serde_json::Value = serde_json::from_slice(&ran.stderr).unwrap();
    assert_eq!((&error["error"], &error["exit"]), (&"not_found".into(), &5.into()));
    assert!(error["message"].as_str().unwrap().contains("no context 'prod'"));
    let ran = bandy("context ls --json --bogus").runs().exits(2);
    let error: serde_json::Value = serde_json::from_slice(&ran.stderr).unwrap();
    assert_eq!((&error["error"], &error["exit"]), (&"usage".into(), &2.into()));
    let ran = bandy("context use prod").env("BANDY_OUTPUT", "json").runs().exits(5);
    assert!(ran.err().starts_with('{') && ran.err().lines().count() == 1, "{}", ran.err());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for words in ["--help", "help json", "completions bash", "context ls"] {
        let script = format!("{{ bandy {words}; echo \"exit $?\" >&2; }} | true");
        shell("bash", &script).runs().exits(0).complains("exit 0");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let ran = shell("bash", "bandy help json > /dev/full").runs().exits(1);
    ran.complains("error: cannot write the output");
}

#[test]
fn closed_streams_do_no_harm() {
    shell("bash", "bandy help json >&-").runs().exits(0);
    shell("bash", "bandy context use x 2>&-").runs().exits(5).silently();
}

#[test]
fn a_terminal_gets_a_table_and_colour() {
    let home = Home::new();
    bandy("context add a --rpc :1").home(&home).runs().exits(0);
    let forced = bandy("context ls").home(&home).env("BANDY_FORCE_TTY", "80");
    forced
        .clone()
        .env("NO_COLOR", "1")
        .runs()
        .prints("NAME  CURRENT  RPC  MQ  LOG  GOSSIP  USER\na              :1\n");
    forced.runs().shows("\x1b[1m");
    bandy("context ls -o '%n %{name}=%{rpc}'").home(&home).runs().prints("1 a=:1\n");
    bandy("context ls -o '%q'")
        .home(&home)
        .runs()
        .exits(2)
        .complains("unknown %q")
        .complains("tip: bandy help templates");
    bandy("context ls")
        .home(&home)
        .env("BANDY_OUTPUT", "csv")
        .runs()
        .prints("name,current,rpc,mq,log,gossip,user\r\na,false,:1,,,,\r\n");
}

#[test]
fn a_broken_configuration_is_named_with_its_line() {
    let home = Home::new();
    home.file("config.toml", "[context.a]\nrcp = \"x\"\n");
    bandy("context ls").home(&home).runs().exits(2).complains("config.toml, line 2");
}

#[test]
fn completion_answers_the_shell() {
    let ask = |line: &str, index: &str| {
        let cmd = bandy("--").env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        let cmd = cmd.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n");
        line.split(' ').fold(cmd, Cmd::arg).runs().exits(0).out()
    };
    assert!(ask("bandy con", "1").starts_with("context"), "{}", ask("bandy con", "1"));
    assert!(ask("bandy help exit", "2").contains("exit-codes"));
    assert!(ask("bandy completions f", "2").contains("fish"));
}

#[test]
fn a_grpcurl_line_is_answered_with_ours() {
    let ran = bandy("rpc call -plaintext -d {} localhost:50051 a.B/C").runs().exits(2);
    ran.complains("unexpected argument '-plaintext'")
        .complains("tip: bandy rpc call -d")
        .complains("-e localhost:50051 a.B/C");
}

#[test]
fn an_interrupted_client_dies_by_the_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        // Accepts and never says a word.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let client = bandy(&format!("rpc call -e grpc://127.0.0.1:{port} a.B/C {{}}")).spawns();
        let _connection = silent.accept().unwrap();
        client.signal(signal);
        client.ends().dies_by(signal);
    }
}

#[test]
fn the_tour_runs_real_commands_to_its_end() {
    let told = bandy("demo").runs().exits(0).out();
    for part in [
        "HELLO",
        "Hello, Ada!",
        "exit 67",
        "packed for ada",
        "order 3",
        "billing",
        "\n42\n",
        "BANDY_GOSSIP_URL=",
        "That was it.",
    ] {
        assert!(told.contains(part), "{part:?} is missing: {told}");
    }
}

/// The commands below one, as its help lists them.
fn commands_of(path: &[String]) -> Vec<Vec<String>> {
    let help = bandy(&path.join(" ")).arg("--help").runs().exits(0).out();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && !name.starts_with('-') && *name != "help")
        .map(|name| [path, &[name.to_owned()]].concat())
        .collect()
}

#[test]
fn short_help_is_one_screen_and_long_help_has_the_rest() {
    let mut paths: Vec<Vec<String>> = [
        "rpc",
        "mq",
        "log",
        "gossip",
        "with",
        "wait",
        "up",
        "down",
        "status",
        "context",
        "demo",
        "completions",
    ]
    .map(|name| vec![name.to_owned()])
    .into();
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        paths.extend(commands_of(&path));
        seen += 1;
        let help = |flag: &str| bandy(&path.join(" ")).arg(flag).env("COLUMNS", "100").runs().exits(0).out();
        let (short, long) = (help("-h"), help("--help"));
        assert!(short.lines().count() <= 40, "{path:?}: {} lines\n{short}", short.lines().count());
        // What is hidden in the one is in the other.
        let flags = |text: &str| {
            let words = text.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
            words
                .map(|line| line.trim_start().split("  ").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let long_flags = flags(&long);
        let missing = flags(&short).into_iter().find(|flag| {
            let name = flag.split(' ').find(|word| word.starts_with("--"));
            !name.is_some_and(|name| long_flags.iter().any(|flag| flag.contains(name)))
        });
        assert_eq!(missing, None, "{path:?}");
    }
    assert!(seen > 80, "{seen} commands");
    bandy("log consume -h").runs().shows("--follow").shows("see more with '--help'");
    bandy("log consume --help").runs().shows("--cacert").shows("Examples:").shows("Exit:");
}
