//! `log tail`: the last records, and what comes.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::log_groups::{Log, lines};

#[test]
fn f_is_what_it_does_anyway() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.produce("t", &lines(1..=12));
    for words in ["tail t -f", "tail -f t", "tail t"] {
        let mut tail = log.log(words).spawns();
        for number in 3..=12 {
            assert_eq!(tail.line(), number.to_string(), "{words}");
        }
        tail.signal(Signal::INT);
        tail.ends().dies_by(Signal::INT);
    }
    let mut tail = log.log("tail t -n 1 -f").spawns();
    assert_eq!(tail.line(), "12");
    log.produce("t", "13\n");
    assert_eq!(tail.line(), "13");
}

#[test]
fn none_of_the_last_is_only_what_comes() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.produce("t", "old\n");
    let mut tail = log.log("tail t -n 0 -f").spawns();
    let (done, again) = (AtomicBool::new(false), log.log("produce t").stdin("new\n"));
    let first = std::thread::scope(|scope| {
        // When it has begun, nobody tells: until then, what is new for it is old.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                again.clone().runs().exits(0);
            }
        });
        let first = tail.line();
        done.store(true, Ordering::SeqCst);
        first
    });
    assert_eq!(first, "new");
    log.log("tail t -n 0 --idle 100ms").runs().exits(0).prints("");
}
