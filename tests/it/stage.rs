//! Demos on a real screen: every one of them is drawn, takes keys, and gives the terminal back however it ends.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Home;
use crate::terminal::Terminal;

/// Every demo, and what stands in its title.
const DEMOS: &[(&str, &str)] = &[
    ("rpc demo call", "rpc · call"),
    ("rpc demo lost-reply", "rpc · lost"),
    ("rpc demo deadline", "rpc · deadline"),
    ("rpc demo streams", "rpc · streams"),
    ("mq demo work", "mq · work"),
    ("mq demo topics", "mq · topics"),
    ("mq demo dead-letter", "mq · dead"),
    ("log demo partitions", "log · partitions"),
    ("log demo replay", "log · replay"),
    ("gossip demo spread", "gossip · spread"),
    ("gossip demo failure", "gossip · failure"),
    ("gossip demo split", "gossip · split"),
    ("gossip simulate -N 40 --live", "gossip · simulate"),
];

const SMALL: (u16, u16) = (80, 24);

fn plays(words: &str, home: &Home) -> Terminal {
    Terminal::run(words, home, SMALL, &[])
}

#[test]
fn every_demo_is_drawn_at_the_smallest_size_and_left_by_q() {
    let home = Home::new();
    for (words, title) in DEMOS {
        let mut terminal = plays(words, &home);
        terminal.shows_text(title);
        terminal.shows_text("q quit");
        terminal.types("q");
        assert_eq!(terminal.ends().0, 0, "{words}");
    }
}

#[test]
fn a_terminal_that_is_too_small_has_a_tip_that_can_be_pasted() {
    let home = Home::new();
    let (code, screen) = Terminal::run("mq demo work --seed 3", &home, (79, 24), &[]).ends();
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("this terminal has 79x24 cells; the demo needs 80x24\n"), "{screen}");
    assert!(screen.contains("tip: bandy mq demo work --seed 3 | cat    # tells the story"), "{screen}");
}

#[test]
fn a_demo_gives_the_terminal_back_when_it_is_killed_or_interrupted() {
    let home = Home::new();
    for words in ["mq demo work", "mq demo work --inline"] {
        let terminal = plays(words, &home);
        terminal.shows_text("w1");
        let id = i32::try_from(terminal.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        assert_eq!(terminal.ends().0, 143, "{words}");
        let mut terminal = plays(words, &home);
        terminal.shows_text("w1");
        terminal.types("\x03");
        assert_eq!(terminal.ends().0, 130, "{words}");
    }
}

#[test]
fn a_screen_that_becomes_too_small_is_told_so_and_goes_on_when_it_is_large_again() {
    let home = Home::new();
    let mut terminal = plays("rpc demo streams", &home);
    terminal.shows_text("q quit");
    terminal.resizes((40, 10));
    terminal.shows_text("this terminal has 40x10 cells; 80x24 are");
    terminal.resizes((100, 30));
    terminal.shows_text("q quit");
    terminal.types("q");
    assert_eq!(terminal.ends().0, 0);
}

#[test]
fn all_keys_are_told_and_a_speed_that_is_not_usual() {
    let home = Home::new();
    let mut terminal = plays("mq demo work", &home);
    terminal.shows_text("? help");
    terminal.types("?");
    let help = terminal.shows_text("restart");
    for key in ["faster, slower", "to the next thing that happens", "pause, and go on"] {
        assert!(help.contains(key), "{key}:\n{help}");
    }
    // Esc closes the help, and not the demo.
    terminal.types("\x1b");
    terminal.shows("no help", |screen| !screen.contains("faster, slower"));
    terminal.types("+");
    terminal.shows_text("[1.5x]");
    terminal.types(" ");
    terminal.shows_text("[paused]");
    terminal.types("q");
    assert_eq!(terminal.ends().0, 0);
}

#[test]
fn an_inline_picture_stays_without_its_keys() {
    let home = Home::new();
    let terminal = Terminal::run("rpc demo call --inline --speed 100x", &home, (100, 32), &[]);
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0);
    assert!(screen.contains("rpc · call") && !screen.contains("q quit"), "{screen}");
}

#[test]
fn a_story_with_an_end_of_its_own_ends_there() {
    let home = Home::new();
    assert_eq!(plays("mq demo topics --for 200ms", &home).ends().0, 0);
}

#[test]
fn colours_are_left_out_when_they_are_not_wanted_and_pictures_where_there_can_be_none() {
    let home = Home::new();
    for (words, variables) in [("--color never", [("X", "1")]), ("", [("NO_COLOR", "1")])] {
        let words = format!("mq demo work --for 200ms {words}");
        let terminal = Terminal::run(&words, &home, SMALL, &variables);
        terminal.shows_text("w1");
        let written = terminal.written();
        assert!(!written.contains("\x1b[38;"), "{words}: {written:?}");
        terminal.ends();
    }
    let terminal = Terminal::run("mq demo work --for 1s", &home, SMALL, &[("TERM", "dumb")]);
    let (code, screen) = terminal.ends();
    assert!(code == 0 && screen.contains(" ms  "), "{screen}");
}
