//! What the documentation says is run: every console block of the README and docs, every example.
//!
//! In a block, a line that begins with `$ ` is a command (continued by a backslash at its end), what
//! follows is its output, stdout and stderr together. `[..]` stands for any text within a line, a line
//! of `...` for any lines. The blocks of a file share a home and a shell; what they start in the
//! background is killed at the end of the file.

use std::path::{Path, PathBuf};

use crate::support::{Home, bandy, shell};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Stands behind the output of each command.
const END: &str = "\u{1}end of output\u{1}";

struct Step {
    /// Line of the file that the command stands in.
    line: usize,
    command: String,
    expected: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut continued = false;
    for (n, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        if fence {
            inside = !inside && line.trim() == "```console";
            continued = false;
        } else if inside && continued {
            let step = steps.last_mut().expect("a command is continued");
            step.command.push('\n');
            step.command.push_str(line.trim_start());
            continued = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step { line: n + 1, command: command.to_owned(), expected: Vec::new() });
            continued = line.ends_with('\\');
        } else if inside && let Some(step) = steps.last_mut() {
            step.expected.push(line.to_owned());
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(String::is_empty) {
            step.expected.pop();
        }
    }
    steps
}

/// True if `line` is `pattern` with any text for each `[..]`.
fn line_fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    for (n, part) in parts.iter().enumerate() {
        if n + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

fn fits(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((dots, later)) if dots == "..." => (0..=lines.len()).any(|skip| fits(later, &lines[skip..])),
        Some((first, later)) => {
            lines.split_first().is_some_and(|(line, rest)| line_fits(first, line) && fits(later, rest))
        }
    }
}

/// Runs the console blocks of a file.
#[track_caller]
fn holds(file: &Path) {
    let steps = steps(&std::fs::read_to_string(file).unwrap());
    if steps.is_empty() {
        return;
    }
    let script: String =
        steps.iter().map(|step| format!("{{ {}\n}} 2>&1\nprintf '{END}'\n", step.command)).collect();
    // As a reader has it: what is needed starts by itself. What was started has no other end.
    let home = Home::new();
    let output = shell("bash", &script).home(&home).env("BANDY_AUTOSTART", "1").runs().out();
    bandy("down --all").home(&home).runs().exits(0);
    let mut outputs = output.split(END);
    let mut complaints = Vec::new();
    for step in &steps {
        let output = outputs.next().unwrap_or("(the shell ended)");
        let lines: Vec<_> = output.trim_end_matches('\n').lines().collect();
        if !fits(&step.expected, &lines) {
            let place = format!("{}:{}", file.display(), step.line);
            complaints.push(format!(
                "{place}: $ {}\nexpected:\n{}\nprinted:\n{output}",
                step.command,
                step.expected.join("\n")
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n\n"));
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(Path::new(ROOT).join(folder)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[test]
fn the_readme_holds() {
    holds(&Path::new(ROOT).join("README.md"));
}

#[test]
fn the_documentation_holds() {
    let pages = files("docs", "md");
    assert!(!pages.is_empty());
    pages.iter().for_each(|page| holds(page));
}

/// An example says in its first lines what it is about, and after `#> ` what it prints.
#[test]
fn examples_print_what_they_say_in_bash_and_dash() {
    let examples = files("examples", "sh");
    assert!(examples.len() >= 12);
    for example in examples {
        let script = std::fs::read_to_string(&example).unwrap();
        assert!(script.starts_with("# "), "{} does not say what it is about", example.display());
        let expected: String = script
            .lines()
            .filter_map(|line| line.strip_prefix("#> "))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(!expected.is_empty(), "{} does not say what it prints", example.display());
        for interpreter in ["bash", "dash"] {
            let home = Home::new();
            eprintln!("{} in {interpreter}", example.display());
            shell(interpreter, &script).home(&home).folder(home.path(".")).runs().prints(&expected);
        }
    }
}

#[test]
fn wildcards_stand_for_what_they_say() {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(fits(&owned(&["a [..] c", "...", "z"]), &["a b c", "x", "y", "z"]));
    assert!(fits(&owned(&["...", "z"]), &["z"]));
    assert!(!fits(&owned(&["a [..] c"]), &["a b d"]));
    assert!(!fits(&owned(&["a"]), &["a", "b"]));
    assert!(!fits(&owned(&["a"]), &[]));
    assert!(line_fits("[..]x[..]y", "1x2x3y") && !line_fits("[..]x", "y"));
}
