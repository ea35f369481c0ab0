//! `bandy help`: commands, and topics that belong to no command.

use clap::{Args, Command, CommandFactory};

use super::Cli;
use super::app::App;
use super::errors::near_miss;
use super::exit::{Exit, Failure};

/// A page about something that belongs to no single command; also a man page of section 7.
#[derive(Debug)]
pub struct Topic {
    /// The word on the command line.
    pub name: &'static str,
    /// Its first line is a title; capitals at the margin are headings; indented lines stay as they are.
    pub text: &'static str,
}

impl Topic {
    /// What it is about.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or("")
    }

    /// What follows the title.
    pub fn body(&self) -> &'static str {
        self.text.split_once('\n').map_or("", |(_, body)| body.trim_start_matches('\n'))
    }
}

/// Every topic.
pub const TOPICS: &[Topic] = &[
    Topic { name: "endpoints", text: include_str!("help/endpoints.txt") },
    Topic { name: "output", text: include_str!("help/output.txt") },
    Topic { name: "json", text: include_str!("help/json.txt") },
    Topic { name: "templates", text: include_str!("help/templates.txt") },
    Topic { name: "exit-codes", text: include_str!("help/exit-codes.txt") },
    Topic { name: "environment", text: include_str!("help/environment.txt") },
    Topic { name: "scripting", text: include_str!("help/scripting.txt") },
    Topic { name: "signals", text: include_str!("help/signals.txt") },
];

/// Arguments of `bandy help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A topic, or the words of a command
    #[arg(value_name = "TOPIC|COMMAND", add = super::completions::help_words())]
    pub words: Vec<String>,
}

/// Prints a topic, or the long help of a command.
///
/// # Errors
/// No such topic or command.
pub fn run(args: HelpArgs, app: &App) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    if let [name] = args.words.as_slice()
        && let Some(topic) = TOPICS.iter().find(|topic| topic.name == name)
    {
        app.printer.own(&page(topic, app))?;
        return Ok(Exit::Done);
    }
    let mut command = &mut root;
    for (number, word) in args.words.iter().enumerate() {
        if command.find_subcommand(word).is_none() {
            return Err(unknown(word, &args.words[..number], command).into());
        }
        command = command.find_subcommand_mut(word).expect("it was there a moment ago");
    }
    let text = command.render_long_help();
    let text = if app.printer.look().out.colour { text.ansi().to_string() } else { text.to_string() };
    app.printer.own(&text)?;
    Ok(Exit::Done)
}

/// There is nothing of that name below the command of the words `before` it.
fn unknown(word: &str, before: &[String], command: &Command) -> Failure {
    let failure = Failure::new(
        Exit::Usage,
        format!("no help on '{}'", [before, &[word.to_owned()]].concat().join(" ")),
    );
    let topics: Vec<_> = TOPICS.iter().map(|topic| topic.name).filter(|_| before.is_empty()).collect();
    let names = command.get_subcommands().map(Command::get_name).chain(topics.iter().copied());
    match near_miss(word, names) {
        Some(near) => {
            failure.tip([&["bandy help".to_owned()], before, &[near.to_owned()]].concat().join(" "))
        }
        None if before.is_empty() => failure.tip(format!("topics: {}", topics.join(" "))),
        None => failure.tip(format!("bandy help {}", before.join(" "))),
    }
}

/// A topic with its headings in bold.
fn page(topic: &Topic, app: &App) -> String {
    let bold =
        if app.printer.look().out.colour { anstyle::Style::new().bold() } else { anstyle::Style::new() };
    let lines = topic.text.lines().enumerate().map(|(n, line)| {
        if n == 0 || is_heading(line) { format!("{bold}{line}{bold:#}\n") } else { format!("{line}\n") }
    });
    lines.collect()
}

/// True for a line of capitals at the margin.
pub fn is_heading(line: &str) -> bool {
    !line.starts_with(' ') && line.chars().any(char::is_alphabetic) && !line.chars().any(char::is_lowercase)
}

/// The page that `bandy` and `bandy --help` show.
pub const TOP: &str = "\
{about}

{usage-heading} {usage}

Talk:      rpc          call a function somewhere else    serve, call, ls, bench
           mq           hand out messages                 broker, pub, sub, send, recv
           log          keep records in order             broker, produce, consume, tail
           gossip       spread news and see who is alive  join, ls, event, query, watch
Local:     up           start servers of your own in the background
           down         stop them
           status       show which run
           with         run a command with temporary servers
           wait         until an endpoint answers
           context      keep named sets of endpoints
Learn:     demo         a tour in two minutes, nothing to set up
           help         a topic or command
           completions  of your shell

  bandy mq sub news              # one terminal
  bandy mq pub news hello        # another
{after-help}";

/// What stands below the options of the long page.
pub const TOP_AFTER: &str = "\
Every command takes -o FORMAT, --json, -q, -v, --color WHEN and -h; --help has examples and exit codes.

Topics: bandy help endpoints, output, json, templates, exit-codes, environment, scripting, signals";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_mentions_every_command_and_topic_and_nothing_else() {
        let root = Cli::command();
        let visible = root.get_subcommands().filter(|command| !command.is_hide_set());
        let commands: Vec<_> = visible.map(Command::get_name).collect();
        let page: String =
            TOP.lines().skip_while(|line| !line.starts_with("Talk:")).collect::<Vec<_>>().join("\n");
        for command in &commands {
            let mentioned =
                page.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == *command);
            assert!(mentioned, "{command} is missing in TOP");
        }
        let rows = page.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.get(11..));
        for name in rows.filter_map(|row| row.split_whitespace().next()) {
            assert!(commands.contains(&name), "TOP mentions {name}, which does not exist");
        }
        for topic in TOPICS {
            assert!(TOP_AFTER.contains(topic.name), "{} is missing in TOP_AFTER", topic.name);
        }
    }

    #[test]
    fn topics_fit_a_narrow_terminal() {
        for topic in TOPICS {
            assert!(!topic.title().ends_with('.') && topic.text.ends_with('\n'), "{}", topic.name);
            for line in topic.text.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", topic.name);
            }
        }
    }

    #[test]
    fn the_table_of_exit_codes_is_that_of_the_code() {
        let topic = TOPICS.iter().find(|topic| topic.name == "exit-codes").unwrap();
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Denied,
            Exit::NotFound,
            Exit::Nothing,
            Exit::Partly,
            Exit::Timeout,
            Exit::SetUp,
        ];
        for exit in all {
            let row =
                topic.text.lines().find(|line| line.trim_start().starts_with(&format!("{} ", exit.number())));
            let row = row.unwrap_or_else(|| panic!("no row for {exit:?}"));
            assert!(row.contains(exit.word()), "{row}");
        }
        for code in crate::rpc::Code::ALL.iter().filter(|code| code.number() > 0) {
            let entry = format!("{} {}", Exit::Status(code.number()).number(), code.name());
            assert!(topic.text.contains(&entry), "{entry}");
        }
    }
}
