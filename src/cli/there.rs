//! Tips that go to the server that the command spoke to: what is pasted must not mean another one, such as the local one.

use super::connect::{Connect, ConnectArgs, Source};
use super::endpoint::{Endpoint, mask};
use super::errors::word;
use crate::cli::app::App;

/// Stands in a tip where ` -e URL` belongs, until it is shown. No text that is shown has this character.
pub const THERE: char = '\u{1}';

/// The words that lead to the same server: ` -e URL` or ` --context NAME`, with a space before them. None where an
/// environment variable, the current context or nothing at all leads there. A password is left out.
pub fn words(args: &ConnectArgs, connect: &Connect, app: &App) -> Option<String> {
    match &connect.source {
        Source::Flag => {
            let given = app.words.iter().take_while(|word| *word != "--").skip(1).any(|word| {
                let word = word.to_string_lossy();
                word.starts_with("-e") || word.starts_with("--endpoint") || word.contains("://")
            });
            let text = args.endpoint.as_deref().filter(|_| given)?;
            let bare = Endpoint { password: None, ..connect.endpoint.clone() };
            let url = if mask(text) == text { text.to_owned() } else { bare.to_string() };
            Some(format!(" -e {}", word(&url)))
        }
        Source::Context(name) => {
            let is_said = args.context.as_ref() == Some(name)
                && app.environment.get("BANDY_CONTEXT").as_ref() != Some(name);
            is_said.then(|| format!(" --context {}", word(name)))
        }
        Source::Environment | Source::Default => None,
    }
}

/// A tip as it is shown.
pub fn filled(tip: &str, words: Option<&str>) -> String {
    tip.replace(THERE, words.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{Exit, Failure};

    #[test]
    fn a_tip_names_the_server_where_its_command_ends() {
        let tips =
            Failure::new(Exit::NotFound, "").there("create it: a b").there_for("a rm", "removes it").tips;
        let shown = |words| tips.iter().map(|tip| filled(tip, words)).collect::<Vec<_>>();
        assert_eq!(shown(None), ["create it: a b", "a rm    removes it"]);
        assert_eq!(shown(Some(" -e :1")), ["create it: a b -e :1", "a rm -e :1    removes it"]);
    }
}
