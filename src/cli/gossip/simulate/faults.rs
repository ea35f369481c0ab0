//! What a simulation does to its nodes, and when.

use std::time::Duration;

use crate::units::{parse_count, parse_duration, parse_percent};

/// So many nodes, at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several {
    /// How many.
    pub nodes: u64,
    /// When.
    pub at: Duration,
}

/// A share of the nodes, from a time to another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Which share, from 0 to 1.
    pub share: f64,
    /// When it begins.
    pub from: Duration,
    /// When it ends.
    pub to: Duration,
}

/// Parses `3@2s`.
///
/// # Errors
/// Anything else.
pub fn parse_some(text: &str) -> Result<Several, String> {
    let parsed = text.split_once('@').and_then(|(nodes, at)| {
        Some(Several { nodes: parse_count(nodes).ok()?, at: parse_duration(at).ok()? })
    });
    parsed.ok_or_else(|| format!("{text:?} is not a number of nodes and a time: expected 3@2s"))
}

/// Parses `50%@2s..30s`.
///
/// # Errors
/// Anything else.
pub fn parse_cut(text: &str) -> Result<Cut, String> {
    let parsed = text.split_once('@').and_then(|(share, times)| {
        let (from, to) = times.split_once("..")?;
        Some(Cut {
            share: parse_percent(share).ok()?,
            from: parse_duration(from).ok()?,
            to: parse_duration(to).ok()?,
        })
    });
    parsed
        .filter(|cut| cut.from < cut.to)
        .ok_or_else(|| format!("{text:?} is not a share and two times: expected 50%@2s..30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed_or_explained() {
        let second = Duration::from_secs(1);
        assert_eq!(parse_some("3@2s"), Ok(Several { nodes: 3, at: second * 2 }));
        assert_eq!(parse_cut("50%@1s..1m"), Ok(Cut { share: 0.5, from: second, to: second * 60 }));
        for text in ["", "3", "@", "3@", "x@1s", "0@1s"] {
            assert!(parse_some(text).is_err(), "{text:?}");
        }
        for text in ["", "50%", "50%@1s", "50%@2s..1s", "150%@1s..2s"] {
            assert!(parse_cut(text).is_err(), "{text:?}");
        }
    }
}
