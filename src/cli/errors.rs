//! The words of errors and their tips: clap's and ours look alike.

use super::exit::{Exit, Failure};

/// Reports a failure that comes before there is a printer, such as an unknown output format.
pub fn early(failure: &Failure) -> Exit {
    use std::io::Write;
    let mut text = format!("error: {failure}\n");
    for tip in &failure.tips {
        text.push_str(&format!("  tip: {tip}\n"));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    failure.exit
}

/// An error in one line: its own words, and those of its causes that it does not quote itself.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The candidate that `given` was probably meant to be: one edit away, or two from five letters on.
pub fn near_miss<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if given.chars().count() >= 5 { 2 } else { 1 };
    candidates
        .into_iter()
        .filter(|candidate| *candidate != given)
        .map(|candidate| (strsim::osa_distance(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{near_miss, one_line};

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::Error::from(std::io::Error::other("refused")).context("cannot reach h: refused");
        assert_eq!(one_line(&error), "cannot reach h: refused");
        let error = anyhow::Error::from(std::io::Error::other("refused")).context("cannot reach h");
        assert_eq!(one_line(&error), "cannot reach h: refused");
    }

    #[test]
    fn near_is_one_edit_or_two_from_five_letters_on() {
        let verbs = ["pub", "sub", "serve", "call", "ls"];
        assert_eq!(near_miss("pbu", verbs), Some("pub"));
        assert_eq!(near_miss("srvee", verbs), Some("serve"));
        assert_eq!(near_miss("srv", verbs), None);
        assert_eq!(near_miss("call", ["call"]), None);
    }
}
