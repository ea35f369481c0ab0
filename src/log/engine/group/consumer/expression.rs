//! Regular expressions that find topics by their names. Peers make them, so both they and what they are compiled to are small.

use regex_lite::{Regex, RegexBuilder};

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Most bytes of what it is compiled to: a look at a name takes time for each of its states.
const PROGRAM_BYTES_MAX: usize = 32 << 10;

/// An expression that has to fit a whole name.
#[derive(Debug)]
pub struct Expression(Regex);

impl Expression {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, or that it is too large.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("it has {} bytes, and up to {TEXT_BYTES_MAX} are taken", text.len()));
        }
        let compiled = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(PROGRAM_BYTES_MAX).build();
        compiled.map(Self).map_err(|error| error.to_string())
    }

    /// Whether it fits a name.
    pub fn fits(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_to_fit_the_whole_name() {
        let logs = Expression::compile("logs|.*-a").unwrap();
        assert!(logs.fits("logs") && logs.fits("my-a"));
        assert!(!logs.fits("logs-b") && !logs.fits("my-ab"));
    }

    #[test]
    fn what_is_large_or_becomes_so_is_refused() {
        let names = vec!["a-topic"; 96].join("|");
        assert!(Expression::compile(&names).unwrap().fits("a-topic"));
        for large in ["a".repeat(1025).as_str(), "(?:a{40}){40}", "(?:(?:){999}){999}", "["] {
            assert!(Expression::compile(large).is_err(), "{large}");
        }
    }
}
