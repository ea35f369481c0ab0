//! What is to be written: the command line's record, or those of stdin and files, with blanks filled in.

use std::collections::VecDeque;
use std::fmt::Display;

use fastrand::Rng;
use jiff::Timestamp;

use super::app::App;
use super::exit::{Exit, Failure};
use super::feed::{Feed, Item};
use super::payload::Payload;
use super::records::{InputArgs, Places};
use crate::record::Record;

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// Where records come from.
#[derive(Debug)]
pub enum Source {
    /// The command line.
    Given {
        /// It.
        record: Record,
        /// Its value, with blanks.
        template: Option<Payload>,
        /// Copies to be made.
        left: u64,
    },
    /// stdin or files.
    Feed {
        /// Them.
        feed: Feed,
        /// Where they stand.
        places: Places,
        /// Values have blanks.
        template: bool,
        /// Records to be taken still.
        left: Option<u64>,
    },
}

/// Copies that are made at once.
const COPIES_MAX: u64 = 512;

impl Source {
    /// The command line's `body`, so many copies of it, or the records of stdin and files, so many at most; with blanks filled
    /// in if they are templates.
    ///
    /// # Errors
    /// Usage: two places at once, or a template that is none.
    pub fn open(
        body: Option<&str>,
        input: &InputArgs,
        (count, is_template): (Option<u64>, bool),
        app: &App,
    ) -> Result<Self, Failure> {
        let given = body.filter(|body| *body != "-");
        let template = |text: &str| {
            Payload::parse(text.as_bytes())
                .map_err(|error| usage(error.to_string()).tip("without -T text is sent as it is"))
        };
        if let Some(body) = given {
            if !input.input.is_empty() {
                return Err(usage("a body and --input: one of them is enough"));
            }
            let left = count.unwrap_or(1);
            if app.global.json {
                let record = Record::from_json(body.as_bytes()).map_err(|error| {
                    usage(format!("BODY is not an envelope: {error}"))
                        .tip("without --json it is sent as it is")
                })?;
                return Ok(Self::Given { record, template: None, left });
            }
            let template = is_template.then(|| template(body)).transpose()?;
            return Ok(Self::Given { record: Record::of(body.to_owned()), template, left });
        }
        if input.input.is_empty() {
            greet(app);
        }
        let inputs = input.records(app.global.json);
        let places = inputs.places().clone();
        Ok(Self::Feed { feed: Feed::start(inputs), places, template: is_template, left: count })
    }

    /// The lines that records are named by, if they have any.
    pub fn places(&self) -> Option<Places> {
        match self {
            Self::Given { .. } => None,
            Self::Feed { places, .. } => Some(places.clone()),
        }
    }

    /// The next records, numbered from `number` on; `None` after the last. May be dropped: nothing is lost.
    pub async fn next(&mut self, number: u64, rng: &mut Rng) -> Option<Vec<Item>> {
        match self {
            Self::Given { record, template, left } => {
                let copies = (*left).min(COPIES_MAX);
                *left -= copies;
                let item = |at| {
                    let mut record = record.clone();
                    if let Some(template) = template {
                        record.value = Some(template.fill(number + at + 1, Timestamp::now(), rng).into());
                    }
                    Item { line: number + at + 1, record: Ok(record) }
                };
                (copies > 0).then(|| (0..copies).map(item).collect())
            }
            Self::Feed { left: Some(0), .. } => None,
            Self::Feed { feed, places, template, left } => {
                let mut batch = feed.next().await?;
                if let Some(left) = left {
                    batch.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= batch.len() as u64;
                }
                if *template {
                    for (at, item) in batch.iter_mut().enumerate() {
                        fill(item, places, number + at as u64 + 1, rng);
                    }
                }
                Some(batch)
            }
        }
    }
}

/// Tells whoever types how it ends.
pub fn greet(app: &App) {
    if app.asks && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        app.printer.status("one record per line, Ctrl-D ends");
    }
}

fn fill(item: &mut Item, places: &Places, number: u64, rng: &mut Rng) {
    let Ok(record) = &mut item.record else { return };
    match Payload::parse(record.value.as_deref().unwrap_or_default()) {
        Ok(payload) => record.value = Some(payload.fill(number, Timestamp::now(), rng).into()),
        Err(error) => item.record = Err(usage(format!("{}: {error}", places.of(item.line)))),
    }
}

/// Which line a message came from: they differ only where lines were empty or refused.
#[derive(Debug, Default)]
pub struct Lines {
    /// What lines are called, if there are any.
    pub places: Option<Places>,
    sent: u64,
    /// From this message on, the line is so much larger than its number.
    steps: VecDeque<(u64, u64)>,
}

impl Lines {
    /// What is said of a line.
    pub fn at(&self, line: u64, text: impl Display) -> String {
        match &self.places {
            Some(places) => format!("{}: {text}", places.of(line)),
            None => text.to_string(),
        }
    }

    /// Which of several it was.
    pub fn which(&self, line: u64) -> String {
        match &self.places {
            Some(places) => format!("at {}", places.of(line)),
            None => format!("was number {line}"),
        }
    }

    /// A record was sent, and got this number.
    pub fn note(&mut self, id: u64, line: u64) {
        self.sent = id + 1;
        let ahead = line.saturating_sub(id);
        if self.steps.back().is_none_or(|(_, last)| *last != ahead) {
            self.steps.push_back((id, ahead));
        }
    }

    /// The line of a record.
    pub fn of(&self, id: u64) -> u64 {
        let step = self.steps.iter().rev().find(|(from, _)| *from <= id);
        id + step.map_or(1, |(_, ahead)| *ahead)
    }

    /// Records sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Records below are of no interest any more.
    pub fn forget(&mut self, settled: u64) {
        while self.steps.get(1).is_some_and(|(from, _)| *from <= settled) {
            self.steps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_again_over_gaps() {
        let mut lines = Lines::default();
        for (id, line) in [(0, 1), (1, 2), (2, 4), (3, 5), (4, 9)] {
            lines.note(id, line);
        }
        assert_eq!([0, 1, 2, 3, 4].map(|id| lines.of(id)), [1, 2, 4, 5, 9]);
        assert_eq!(lines.steps.len(), 3);
        lines.forget(3);
        assert_eq!([3, 4].map(|id| lines.of(id)), [5, 9]);
        assert_eq!(lines.steps.len(), 2);
    }
}
