//! `top` of a server that has gone, in every pillar, on a real screen.

use rustix::process::Signal;

use crate::support::{Home, bandy};
use crate::terminal::Terminal;

#[test]
fn a_server_that_is_killed_or_stopped_is_not_shown_as_if_it_were_there() {
    for (server, pillar, drawn) in [
        ("rpc serve -l :0", "rpc", "METHOD"),
        ("mq broker --memory -l :0", "mq", "QUEUE"),
        ("log broker --memory -l :0", "log", "TOPIC"),
        ("gossip join -l :0 --rpc none --alone", "gossip", "NODE"),
    ] {
        for signal in [Signal::KILL, Signal::STOP] {
            let home = Home::new();
            let mut running = bandy(server).home(&home).starts();
            let place = if pillar == "gossip" { running.line() } else { running.url.clone() };
            let words = format!("{pillar} top -e {place}");
            let mut terminal = Terminal::run(&words, &home, (80, 24), &[]);
            terminal.shows_text(drawn);
            running.signal(signal);
            let screen = terminal.shows_text("[no answer for ");
            // What was known stays.
            assert!(screen.contains(drawn), "{words}: {screen}");
            terminal.types("q");
            assert_eq!(terminal.ends().0, 0, "{words}");
        }
    }
}
