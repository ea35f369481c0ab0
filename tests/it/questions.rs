//! Questions before something is gone, on a real terminal.

use crate::support::{Home, bandy};
use crate::terminal::Terminal;

#[test]
fn no_is_no_and_yes_is_yes() {
    let home = Home::new();
    let broker = bandy("mq broker --memory -l :0 -l local:").home(&home).starts();
    bandy("mq send jobs hello").home(&home).runs().exits(0);
    let asks = |answer: &str| {
        let mut terminal = Terminal::run("mq purge jobs", &home, (80, 24), &[]);
        terminal.shows_text("? [y/N] ");
        terminal.types(answer);
        terminal.ends()
    };
    for answer in ["n\r", "\r", "nope\r"] {
        let (code, screen) = asks(answer);
        assert!(code == 1 && screen.contains("error: nothing was changed"), "{answer:?}: {code} {screen}");
    }
    bandy("mq peek jobs").home(&home).runs().exits(0).prints("hello\n");
    let (code, screen) = asks("\x04");
    assert!(code == 1 && screen.contains("? [y/N] \nerror: nothing was changed"), "{code} {screen}");
    assert_eq!(asks("\x03").0, 130);
    assert_eq!(asks("y\r").0, 0);
    bandy("mq peek jobs").home(&home).runs().exits(6);
    drop(broker);
}
