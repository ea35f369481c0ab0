//! `--top` of servers: they draw their own view in their own terminal, and end in order with it.

use crate::support::{Home, bandy};
use crate::terminal::Terminal;

/// The end of a row, without the frame.
fn row<'a>(screen: &'a str, name: &str) -> Option<&'a str> {
    let row = screen.lines().find(|line| line.trim_start_matches(['│', ' ']).starts_with(name));
    row.map(|line| line.trim_end_matches(['│', ' ']))
}

/// Words of a row from its name on.
fn words<'a>(screen: &'a str, name: &str) -> Vec<&'a str> {
    row(screen, name)
        .map(|row| row.trim_start_matches(['│', ' ']).split_whitespace().collect())
        .unwrap_or_default()
}

/// Starts a server in a terminal; its first URL, once the picture is there.
fn opened(home: &Home, words: &str, shown: &str) -> (Terminal, String) {
    let url_file = home.path("url");
    let words = format!("{words} --top --url-file {}", url_file.display());
    let terminal = Terminal::run(&words, home, (100, 24), &[]);
    terminal.shows_text(shown);
    let urls = std::fs::read_to_string(url_file).unwrap();
    let url = urls.lines().next().unwrap().to_owned();
    // The ready line came before the picture.
    let written = terminal.written();
    assert!(written.find(&url).unwrap() < written.find("\u{1b}[?1049h").unwrap(), "{written:?}");
    (terminal, url)
}

#[test]
fn a_broker_of_queues_shows_them() {
    let home = Home::new();
    // Without an API for others, and a virtual host that only this process may look into.
    let (mut terminal, url) = opened(&home, "mq broker -l :0 --memory --admin none", "q stop the server");
    assert!(terminal.shows_text("all virtual hosts").contains("bandy"), "the product");
    let at = |words: &str| bandy(words).home(&home).arg("-e").arg(url.clone());
    at("mq send jobs one --create").runs().exits(0);
    at("mq send jobs two").runs().exits(0);
    terminal.shows("two messages that wait", |screen| words(screen, "jobs").get(2) == Some(&"2"));
    at("mq recv jobs").runs().prints("one\n");
    terminal.shows("one of them", |screen| words(screen, "jobs").get(2) == Some(&"1"));
    terminal.types("q");
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(&url), "{screen}");
}

#[test]
fn a_broker_of_logs_shows_topics_and_groups() {
    let home = Home::new();
    let (mut terminal, url) = opened(&home, "log broker -l :0 --memory", "q stop the server");
    let at = |words: &str| bandy(words).home(&home).arg("-e").arg(url.clone());
    at("log produce orders --create -n 5 x").runs().exits(0);
    at("log consume orders -g billing -n 3").runs().exits(0);
    let shown = terminal.shows("the group and what it has not read", |screen| {
        let words = words(screen, "orders");
        words.contains(&"billing") && words.contains(&"2")
    });
    assert!(shown.contains("1 topic  1 group "), "{shown}");
    // As it is shown to others.
    let told = at("log top --once -o %{topic}:%{group}:%{records}:%{lag}").runs();
    told.prints("orders:billing:5:2\n");
    terminal.types("\u{3}");
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    at("log ls").runs().exits(3);
}

#[test]
fn a_node_shows_its_members_and_leaves_with_its_view() {
    let home = Home::new();
    let mut other =
        bandy("gossip join -l 127.0.0.1:0 --profile local --rpc none --name other").home(&home).starts();
    other.line();
    let words = "gossip join -l 127.0.0.1:0 --profile local --rpc none --name shown --tag role=web";
    let (mut terminal, _) = opened(&home, words, "q leave");
    terminal.shows("both", |screen| {
        screen.contains("alive 2") && row(screen, "other").is_some() && row(screen, "shown").is_some()
    });
    bandy("gossip event deploy v1").home(&home).runs().exits(0);
    while !other.line().starts_with("event\tdeploy") {}
    terminal.types("q");
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    // What happened was shown and not printed.
    assert!(!screen.contains("deploy") && !screen.contains("join\t"), "{screen}");
    while !other.line().starts_with("leave\tshown") {}
}

#[test]
fn without_a_terminal_they_say_what_to_do_instead() {
    for (words, tip) in [
        ("mq broker -l :0 --memory --top", "bandy mq top --once"),
        ("log broker -l :0 --memory --top", "bandy log top --once"),
        ("gossip join -l :0 --top", "bandy gossip top --once"),
    ] {
        bandy(words).runs().exits(2).complains("--top needs a terminal").complains(tip);
        bandy(&format!("{words} -b")).runs().exits(2).complains("cannot be used with");
    }
}
