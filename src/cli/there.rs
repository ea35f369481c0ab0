//! Tips that go to the server that the command spoke to: what is pasted must not mean another one, such as the local one.

use std::path::PathBuf;

use super::connect::{Connect, ConnectArgs, Source};
use super::endpoint::{Endpoint, mask};
use super::errors::word;
use crate::cli::app::App;

/// Stands in a tip where ` -e URL` belongs, until it is shown. No text that is shown has this character.
pub const THERE: char = '\u{1}';

/// The words that lead to the same server: ` -e URL` or ` --context NAME`, and who one is and what is trusted there, with a
/// space before them. None where an environment variable, the current context or nothing at all leads there. A password
/// is left out.
pub fn words(args: &ConnectArgs, connect: &Connect, app: &App) -> Option<String> {
    let place = place(args, connect, app);
    let words = place.into_iter().chain(flags(args)).collect::<String>();
    (!words.is_empty()).then_some(words)
}

/// The flags of the line that say who one is and what is trusted.
fn flags(args: &ConnectArgs) -> impl Iterator<Item = String> + '_ {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let user = args.user.as_ref().map(|user| user.split(':').next().unwrap_or_default().to_owned());
    let flags = [
        ("-u", user),
        ("--password-file", path(&args.password_file)),
        ("--token-file", path(&args.token_file)),
        ("--cacert", path(&args.cacert)),
        ("--cert", path(&args.cert)),
        ("--cert-key", path(&args.cert_key)),
        ("--server-name", args.server_name.clone()),
    ];
    let given = flags.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", word(&value?))));
    given.chain(args.insecure.then(|| " --insecure".to_owned()))
}

fn place(args: &ConnectArgs, connect: &Connect, app: &App) -> Option<String> {
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

/// A command with a name behind it, and the server that is meant. A name that begins with `-` stands behind everything else.
pub fn command(command: &str, name: &str) -> String {
    match name.starts_with('-') {
        true => format!("{command}{THERE} -- {}", word(name)),
        false => format!("{command} {}{THERE}", word(name)),
    }
}

/// A tip as it is shown.
pub fn filled(tip: &str, words: Option<&str>) -> String {
    pasteable(&tip.replace(THERE, words.unwrap_or_default()))
}

/// A shell takes what is said about a command for more of its words, unless it is a comment. Two blanks part them.
fn pasteable(tip: &str) -> String {
    let (mut quote, mut blanks) = (None, 0);
    for (at, letter) in tip.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, ' ') => {
                blanks += 1;
                continue;
            }
            (None, _) if blanks > 1 && at > blanks => {
                let mark = if letter == '#' { "" } else { "# " };
                return format!("{}{mark}{}", &tip[..at], &tip[at..]);
            }
            (None, '\'' | '"') => quote = Some(letter),
            (None, _) => {}
        }
        blanks = 0;
    }
    tip.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{Exit, Failure};

    #[test]
    fn who_one_is_and_what_is_trusted_is_repeated_without_the_password() {
        let args = ConnectArgs {
            user: Some("bob:secret".into()),
            cacert: Some("my ca.pem".into()),
            insecure: true,
            ..ConnectArgs::default()
        };
        assert_eq!(flags(&args).collect::<String>(), " -u bob --cacert 'my ca.pem' --insecure");
        assert_eq!(flags(&ConnectArgs::default()).count(), 0);
    }

    #[test]
    fn a_tip_names_the_server_where_its_command_ends() {
        let tips =
            Failure::new(Exit::NotFound, "").there("create it: a b").there_for("a rm", "removes it").tips;
        let shown = |words| tips.iter().map(|tip| filled(tip, words)).collect::<Vec<_>>();
        assert_eq!(shown(None), ["create it: a b", "a rm    # removes it"]);
        assert_eq!(shown(Some(" -e :1")), ["create it: a b -e :1", "a rm -e :1    # removes it"]);
        for (tip, shown) in [
            ("bandy up mq     start one", "bandy up mq     # start one"),
            ("bandy mq rm 'a  b'", "bandy mq rm 'a  b'"),
            ("bandy mq rm 'a  b'  it's gone", "bandy mq rm 'a  b'  # it's gone"),
            ("a  # b", "a  # b"),
        ] {
            assert_eq!(filled(tip, None), shown);
        }
    }
}
