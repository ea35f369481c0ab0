//! Inputs at made-up instants, and the whole lists of what comes out.

use super::*;

struct World {
    engine: Transactions,
    now: Now,
    next_id: i64,
    out: Vec<Output>,
}

fn world() -> World {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    World { engine: Transactions::new(Config::default()), now, next_id: 100, out: Vec::new() }
}

fn place(partition: i32) -> Place {
    Place { topic: "t".to_owned(), partition }
}

fn by(answer: Answer) -> Writer {
    Writer { id: "tx".to_owned(), producer_id: answer.producer_id, epoch: answer.epoch }
}

fn good(producer_id: i64, epoch: i16) -> Answer {
    Answer { error: ErrorCode::NONE, producer_id, epoch }
}

impl World {
    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn init_as(&mut self, ticket: Ticket, known: Option<(i64, i16)>) {
        let init = Init { id: "tx".to_owned(), timeout_ms: 1000, known };
        let next = &mut self.next_id;
        let mut new_id = || {
            *next += 1;
            Ok(*next)
        };
        self.engine.init(self.now, ticket, init, &mut new_id, &mut self.out);
    }

    #[track_caller]
    fn init(&mut self) -> Answer {
        self.init_as(1, None);
        self.answer(1)
    }

    fn end_as(&mut self, ticket: Ticket, writer: &Writer, commits: bool, bumps: bool) {
        let next = &mut self.next_id;
        let mut new_id = || {
            *next += 1;
            Ok(*next)
        };
        self.engine.end(self.now, ticket, (writer, commits, bumps), &mut new_id, &mut self.out);
    }

    fn marked(&mut self) {
        let next = &mut self.next_id;
        let mut new_id = || {
            *next += 1;
            Ok(*next)
        };
        self.engine.marked(self.now, "tx", &mut new_id, &mut self.out);
    }

    fn add(&mut self, writer: &Writer, partition: i32) -> Result<(), ErrorCode> {
        self.engine.add(self.now, writer, &[place(partition)], &mut self.out)
    }

    #[track_caller]
    fn answer(&mut self, ticket: Ticket) -> Answer {
        let out = self.take();
        let found = out.iter().find_map(|output| match output {
            Output::Answer(to, answer) if *to == ticket => Some(*answer),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no answer in {out:?}"))
    }

    #[track_caller]
    fn the_mark(&mut self) -> Mark {
        match self.take().pop() {
            Some(Output::Mark(mark)) => mark,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> State {
        self.engine.get("tx").unwrap().state
    }
}

#[test]
fn a_transaction_is_prepared_marked_and_complete() {
    let mut world = world();
    world.init_as(1, None);
    let out = world.take();
    assert!(
        matches!(&out[..], [Output::Store(id, Some(value)), Output::Answer(1, answer)]
        if id == "tx" && value.state == State::Empty && *answer == good(101, 0)),
        "{out:?}"
    );
    let me = by(good(101, 0));
    assert_eq!(world.engine.verify(&me, &place(0)), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(world.add(&me, 0), Ok(()));
    assert_eq!(world.add(&me, 1), Ok(()));
    assert_eq!(world.take().len(), 2, "each is written down");
    assert_eq!(world.add(&me, 1), Ok(()));
    assert_eq!(world.take(), [], "what is known is not");
    assert_eq!(world.engine.verify(&me, &place(0)), Ok(()));
    assert_eq!(world.engine.verify(&me, &place(2)), Err(ErrorCode::INVALID_TXN_STATE));
    world.end_as(2, &me, true, false);
    let out = world.take();
    let mark = Mark {
        id: "tx".to_owned(),
        producer_id: 101,
        epoch: 0,
        commits: true,
        partitions: [place(0), place(1)].into(),
    };
    assert!(matches!(&out[0], Output::Store(_, Some(value)) if value.state == State::PrepareCommit));
    assert_eq!(out[1..], [Output::Mark(mark)], "nobody is answered yet");
    assert_eq!(world.add(&me, 0), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    world.marked();
    assert_eq!(world.answer(2), good(101, 0));
    assert_eq!(world.state(), State::CompleteCommit);
    // An end that is asked for again has happened; the other one has not.
    world.end_as(3, &me, true, false);
    assert_eq!(world.answer(3).error, ErrorCode::NONE);
    world.end_as(4, &me, false, false);
    assert_eq!(world.answer(4).error, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(world.add(&me, 0), Ok(()), "the next one begins");
}

#[test]
fn in_version_2_each_transaction_has_an_epoch_of_its_own() {
    let mut world = world();
    let me = by(world.init());
    world.add(&me, 0).unwrap();
    world.end_as(2, &me, true, true);
    assert_eq!(world.the_mark().epoch, 1, "what comes late under the old epoch is fenced");
    world.marked();
    assert_eq!(world.answer(2), good(101, 1));
    world.end_as(3, &me, true, true);
    assert_eq!(world.answer(3), good(101, 1), "asked again, because the answer was lost");
    world.end_as(4, &me, false, true);
    assert_eq!(world.answer(4).error, ErrorCode::PRODUCER_FENCED);
    assert_eq!(world.add(&me, 0), Err(ErrorCode::PRODUCER_FENCED));
    // Nothing was written: giving that up is an epoch, too.
    let me = by(good(101, 1));
    world.end_as(5, &me, true, true);
    assert_eq!(world.answer(5).error, ErrorCode::INVALID_TXN_STATE);
    world.end_as(6, &me, false, true);
    assert_eq!(world.answer(6), good(101, 2));
}

#[test]
fn who_takes_over_fences_and_what_was_open_is_given_up() {
    let mut world = world();
    let old = by(world.init());
    world.add(&old, 0).unwrap();
    world.take();
    world.init_as(2, None);
    let mark = world.the_mark();
    assert_eq!((mark.commits, mark.epoch), (false, 1));
    assert_eq!(world.add(&old, 1), Err(ErrorCode::PRODUCER_FENCED));
    world.marked();
    assert_eq!(world.answer(2), good(101, 2));
    world.end_as(3, &old, true, false);
    assert_eq!(world.answer(3).error, ErrorCode::PRODUCER_FENCED);
}

#[test]
fn a_transaction_that_takes_too_long_is_given_up() {
    let mut world = world();
    let me = by(world.init());
    world.add(&me, 0).unwrap();
    world.take();
    assert_eq!(world.engine.deadline(), Some(world.now.instant + Duration::from_secs(1)));
    world.now.instant += Duration::from_secs(1);
    world.engine.tick(world.now, &mut world.out);
    assert!(!world.the_mark().commits);
    world.marked();
    world.take();
    assert_eq!((world.state(), world.engine.deadline()), (State::CompleteAbort, None));
    world.end_as(2, &me, true, false);
    assert_eq!(world.answer(2).error, ErrorCode::PRODUCER_FENCED);
}

#[test]
fn a_transaction_that_ended_in_time_does_not_run_out() {
    let mut world = world();
    let me = by(world.init());
    for _ in 0..3 {
        world.add(&me, 0).unwrap();
        world.end_as(2, &me, true, false);
        world.marked();
        assert_eq!(world.engine.deadline(), None);
    }
}

#[test]
fn a_producer_that_knows_its_epoch_gets_the_next_one() {
    let mut world = world();
    world.init();
    world.init_as(2, Some((101, 0)));
    assert_eq!(world.answer(2), good(101, 1));
    world.init_as(3, Some((101, 0)));
    assert_eq!(world.answer(3), good(101, 1), "asked again");
    world.init_as(4, Some((101, 9)));
    assert_eq!(world.answer(4).error, ErrorCode::PRODUCER_FENCED);
}

#[test]
fn after_the_last_epoch_comes_another_producer() {
    let mut world = world();
    world.init();
    for ticket in 0..i64::from(EPOCH_MAX) {
        world.init_as(ticket as Ticket + 2, None);
        world.take();
    }
    assert_eq!(world.engine.get("tx").unwrap().epoch, EPOCH_MAX);
    assert_eq!(world.init(), good(102, 0));
}

#[test]
fn timeouts_have_a_limit_and_ids_have_names() {
    let mut world = world();
    let mut refused = |id: &str, timeout_ms| {
        let init = Init { id: id.to_owned(), timeout_ms, known: None };
        world.engine.init(world.now, 1, init, &mut || Ok(1), &mut world.out);
        match world.out.pop() {
            Some(Output::Answer(1, answer)) => answer.error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("tx", 0), ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    assert_eq!(refused("tx", 900_001), ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    assert_eq!(refused("", 1000), ErrorCode::INVALID_REQUEST);
}

#[test]
fn what_was_decided_is_carried_out_after_a_start() {
    let mut first = world();
    let me = by(first.init());
    first.add(&me, 3).unwrap();
    first.end_as(2, &me, true, true);
    let (mut other, mut stored) = (world(), Vec::new());
    for output in first.take() {
        if let Output::Store(id, value) = output {
            let bytes = value.as_ref().map(Value::encode);
            let read = decode(&key(&id), bytes.as_deref()).unwrap();
            assert_eq!(read, (id.clone(), value.clone()));
            stored.push((id, value));
        }
    }
    for (id, value) in stored {
        other.engine.restore(&id, value);
    }
    other.engine.restored(other.now, &mut other.out);
    let mark = other.the_mark();
    assert_eq!((mark.commits, mark.epoch, mark.partitions), (true, 1, [place(3)].into()));
    other.marked();
    assert_eq!(other.state(), State::CompleteCommit);
}

#[test]
fn ids_that_nobody_uses_are_forgotten_and_those_with_something_open_are_not() {
    let mut world = world();
    let me = by(world.init());
    world.add(&me, 0).unwrap();
    world.take();
    world.now.unix_ms += 8 * 24 * 3_600_000;
    world.engine.expire(world.now, &mut world.out);
    assert_eq!(world.take(), []);
    world.end_as(2, &me, false, false);
    world.marked();
    world.take();
    world.now.unix_ms += 8 * 24 * 3_600_000;
    world.engine.expire(world.now, &mut world.out);
    assert_eq!(world.take(), [Output::Store("tx".to_owned(), None)]);
}

#[test]
fn damaged_records_are_refused() {
    let mut world = world();
    let me = by(world.init());
    world.add(&me, 0).unwrap();
    let value = world.engine.get("tx").unwrap().encode();
    for cut in 0..value.len() {
        assert!(decode(&key("tx"), Some(&value[..cut])).is_err(), "cut at {cut}");
    }
    assert!(decode(&[0, 1], None).is_err());
}
