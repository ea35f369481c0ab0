//! `man/` and `completions/` are what the definitions say. `SNAPSHOTS=overwrite cargo test generated`
//! writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bandy::cli::Cli;
use bandy::cli::completions::Shell;
use bandy::cli::help::{TOPICS, Topic, is_heading};
use clap::{Command, CommandFactory, ValueEnum};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Compares a folder with what it should hold, or writes it.
#[track_caller]
fn folder_is(folder: &str, files: &BTreeMap<String, String>) {
    let folder = Path::new(ROOT).join(folder);
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let remedy = "run: SNAPSHOTS=overwrite cargo test generated";
    let mut found = BTreeMap::new();
    for entry in
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}; {remedy}", folder.display()))
    {
        let entry = entry.unwrap();
        found
            .insert(entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap());
    }
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(files), "files of {}; {remedy}", folder.display());
    for (name, text) in files {
        assert!(found[name] == *text, "{} differs; {remedy}", folder.join(name).display());
    }
}

#[test]
fn completions_are_generated() {
    let stub = |shell: &Shell| (shell.file().to_owned(), shell.stub().to_owned());
    folder_is("completions", &Shell::value_variants().iter().map(stub).collect());
}

#[test]
fn man_pages_are_generated() {
    let mut root = Cli::command();
    root.build();
    let mut pages = BTreeMap::new();
    add_command(&root, &["bandy"], &mut pages);
    for topic in TOPICS {
        pages.insert(format!("bandy-{}.7", topic.name), topic_page(topic));
    }
    folder_is("man", &pages);
}

fn add_command(command: &Command, path: &[&str], pages: &mut BTreeMap<String, String>) {
    pages.insert(format!("{}.1", path.join("-")), command_page(command, path));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        add_command(verb, &[path, &[verb.get_name()]].concat(), pages);
    }
}

fn command_page(command: &Command, path: &[&str]) -> String {
    let name = path.join("-");
    // clap's own after_help would become a section EXTRA: it is split into proper ones below.
    let after = command
        .get_after_long_help()
        .or(command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let bare = command.clone().after_long_help(None::<&str>).after_help(None::<&str>).help_template("");
    let bare = bare.display_name(&name).bin_name(path.join(" "));
    let man = clap_mangen::Man::new(bare)
        .title(name.to_uppercase())
        .section("1")
        .date("")
        .source("bandy")
        .manual("bandy");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut page = String::from_utf8(page).unwrap();
    if command.has_subcommands() {
        page.push_str(".SH COMMANDS\n");
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let reference = if verb.get_name() == "help" {
                "bandy".to_owned()
            } else {
                format!("{name}-{}", verb.get_name())
            };
            writeln!(page, ".TP\n\\fB{}\\fR(1)\n{}", escape(&reference), escape(&about)).unwrap();
        }
    }
    let (examples, exits) = split_after(&after);
    if !examples.is_empty() {
        writeln!(page, ".SH EXAMPLES\n.nf\n{}\n.fi", preformatted(&examples)).unwrap();
    }
    page.push_str(".SH EXIT STATUS\n");
    if !exits.is_empty() {
        writeln!(page, "{}\n.PP", escape(&exits)).unwrap();
    }
    page.push_str("0 done, 1 failed, 2 bad usage; all codes are in \\fBbandy\\-exit\\-codes\\fR(7).\n");
    page.push_str(".SH ENVIRONMENT\nSee \\fBbandy\\-environment\\fR(7).\n");
    page.push_str(
        ".SH FILES\n.TP\n\\fI~/.config/bandy/config.toml\\fR\nContexts; see \\fBbandy\\-context\\fR(1).\n",
    );
    let topics: Vec<_> =
        TOPICS.iter().map(|topic| format!("\\fBbandy\\-{}\\fR(7)", escape(topic.name))).collect();
    let parent = path.split_last().map(|(_, parent)| parent.join("-")).filter(|parent| !parent.is_empty());
    let parent = parent.map(|parent| format!("\\fB{}\\fR(1),\n", escape(&parent))).unwrap_or_default();
    writeln!(page, ".SH SEE ALSO\n{parent}{}", topics.join(",\n")).unwrap();
    page
}

/// The examples, and the line that begins with `Exit:`.
fn split_after(after: &str) -> (String, String) {
    let mut examples = Vec::new();
    let mut exits = Vec::new();
    let mut in_exits = false;
    for line in after.lines().filter(|line| !line.starts_with("Examples:")) {
        if let Some(rest) = line.strip_prefix("Exit:") {
            in_exits = true;
            exits.push(rest.trim());
        } else if in_exits {
            exits.push(line.trim());
        } else {
            examples.push(line);
        }
    }
    (examples.join("\n").trim_matches('\n').to_owned(), exits.join(" ").trim().to_owned())
}

fn topic_page(topic: &Topic) -> String {
    let name = format!("bandy-{}", topic.name);
    let mut page = format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {} 7 \"\" bandy bandy\n",
        escape(&name.to_uppercase())
    );
    writeln!(page, ".SH NAME\n{} \\- {}\n.SH DESCRIPTION", escape(&name), escape(topic.title())).unwrap();
    for paragraph in topic.body().split("\n\n") {
        page.push_str(".PP\n");
        for line in paragraph.lines() {
            if is_heading(line) {
                writeln!(page, ".SH {}", escape(line)).unwrap();
            } else if line.starts_with(' ') {
                writeln!(page, ".nf\n{}\n.fi", preformatted(line)).unwrap();
            } else {
                writeln!(page, "{}", escape(line)).unwrap();
            }
        }
    }
    let page = page.replace(".fi\n.nf\n", "").replace(".PP\n.SH", ".SH");
    format!("{page}.SH SEE ALSO\n\\fBbandy\\fR(1)\n")
}

fn preformatted(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// A backslash, a dash and a quote mean something to roff, and so does a dot at the beginning of a line.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
