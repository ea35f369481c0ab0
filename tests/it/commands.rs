//! Every command line that a help text or a page shows can be parsed.

use std::path::Path;

use bandy::cli::Cli;
use bandy::cli::help::TOPICS;
use clap::{Command, CommandFactory, Parser};

/// The command lines of `bandy` in a line of a shell: without what stands around them and without the
/// explanation, which two blanks or a `#` keep apart.
fn commands(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("bandy ") {
        let before = rest[..at].chars().next_back();
        // xargs adds the words that are missing.
        let is_whole = !rest[..at].rsplit('|').next().is_some_and(|before| before.contains("xargs"));
        let is_command = is_whole && before.is_none_or(|c| " (`'\"|".contains(c));
        rest = &rest[at..];
        let end = match before {
            Some(quote @ ('\'' | '"')) => rest.find(quote).unwrap_or(rest.len()),
            _ => end_of_command(rest),
        };
        if is_command {
            let mut command = rest[..end].trim();
            if rest[end..].starts_with('>') {
                // 2>/dev/null ends the words before its number.
                command = command.trim_end_matches(" 2");
            }
            found.push(command.to_owned());
        }
        // What a command runs may be one of ours: bandy with rpc -- bandy rpc ls.
        rest = &rest["bandy ".len()..];
    }
    found
}

/// Where the shell's words of one command end.
fn end_of_command(text: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | ';' | '&' | '<' | '>' | ')' | '`') => return at,
            (None, '#') if before == ' ' => return at,
            (None, ' ') if before == ' ' && at > 0 => return at,
            (None, _) => {}
        }
        before = letter;
    }
    text.len()
}

/// Parses the commands in `lines`; says how many there were.
fn parse<'a>(place: &str, lines: impl Iterator<Item = &'a str>, complaints: &mut Vec<String>) -> usize {
    let mut count = 0;
    for command in lines.flat_map(commands) {
        count += 1;
        let words = match shell_words::split(&command) {
            Ok(words) => words,
            Err(error) => {
                complaints.push(format!("{place}: {command}: {error}"));
                continue;
            }
        };
        match Cli::try_parse_from(words) {
            // --help and --version are errors of clap's which go to stdout.
            Err(error) if error.use_stderr() => {
                let reason = error.to_string();
                complaints.push(format!("{place}: {command}: {}", reason.lines().next().unwrap_or_default()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    count
}

fn examples(command: &Command, path: &str, complaints: &mut Vec<String>) -> usize {
    let after = command.get_after_long_help().or(command.get_after_help());
    let text = after.map(ToString::to_string).unwrap_or_default();
    let mut count = parse(path, text.lines().filter(|line| line.starts_with("  ")), complaints);
    for verb in command.get_subcommands() {
        count += examples(verb, &format!("{path} {}", verb.get_name()), complaints);
    }
    count
}

#[track_caller]
fn all_parse(complaints: Vec<String>, count: usize, at_least: usize) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    assert!(count >= at_least, "only {count} commands were found");
}

#[test]
fn the_commands_of_the_topics_parse() {
    let mut complaints = Vec::new();
    let mut count = 0;
    for topic in TOPICS {
        let lines = topic.text.lines().filter(|line| line.starts_with("  "));
        count += parse(topic.name, lines, &mut complaints);
    }
    all_parse(complaints, count, 10);
}

/// The man pages have the same examples.
#[test]
fn the_examples_of_the_help_parse() {
    let mut root = Cli::command();
    root.build();
    let mut complaints = Vec::new();
    let mut count = examples(&root, "bandy", &mut complaints);
    count +=
        parse("TOP", bandy::cli::help::TOP.lines().filter(|line| line.starts_with("  ")), &mut complaints);
    all_parse(complaints, count, 20);
}

/// Of the blocks that are not run: those of `docs.rs` are.
#[test]
fn the_commands_of_the_pages_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut complaints = Vec::new();
    let mut count = 0;
    for page in pages.chain([root.join("README.md")]) {
        // A line that goes on is one command.
        let text = std::fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        let mut inside = false;
        let code = text.lines().filter(|line| {
            if line.starts_with("```") {
                inside = !inside && line.starts_with("```sh");
                return false;
            }
            inside
        });
        count += parse(&page.display().to_string(), code, &mut complaints);
    }
    all_parse(complaints, count, 3);
}

#[test]
fn commands_are_found_where_they_stand() {
    for (line, expected) in [
        ("  bandy rpc ls   lists", vec!["bandy rpc ls"]),
        (
            "  url=$(bandy rpc serve -l :0 upper='tr a-z A-Z | rev')  # bash",
            vec!["bandy rpc serve -l :0 upper='tr a-z A-Z | rev'"],
        ),
        ("  seq 3 | bandy rpc call a | bandy rpc call b", vec!["bandy rpc call a", "bandy rpc call b"]),
        ("  bandy with rpc -- bandy rpc ls", vec!["bandy with rpc -- bandy rpc ls", "bandy rpc ls"]),
        ("  see 'bandy help output' for", vec!["bandy help output"]),
        ("  bandy rpc ls 2>/dev/null | xargs -n1 bandy rpc info", vec!["bandy rpc ls"]),
        ("  ~/.local/state/bandy/ and notbandy rpc", vec![]),
    ] {
        assert_eq!(commands(line), expected);
    }
}
