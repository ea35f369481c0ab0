//! Every example of every help page can be pasted: it is read as a shell reads it, and our commands in it parse.

use bandy::cli::Cli;
use bandy::cli::help::{TOP, TOPICS};
use clap::{Command, CommandFactory, Parser};

/// What sh does not understand.
const OTHER_SHELLS: &[&str] = &["  eval (bandy completions elvish | slurp)  # in ~/.config/elvish/rc.elv"];

/// A command line in pieces: simple commands in the order in which they begin.
#[derive(Debug, Default)]
struct Lexed {
    commands: Vec<Vec<String>>,
    /// Why no shell would read it so.
    wrong: Option<String>,
}

/// Reads lines of a shell: quotes, comments, substitutions, pipes, lists, redirections. POSIX, Shell Command Language 2.2,
/// 2.3 and 2.6.3; `<(…)` is bash's.
struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    lexed: Lexed,
    words: Vec<String>,
    /// The next word is a file.
    redirected: bool,
}

fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        lexed: Lexed::default(),
        words: Vec::new(),
        redirected: false,
    };
    lexer.list(None);
    lexer.lexed
}

impl Lexer<'_> {
    /// Commands up to the end, or up to the parenthesis that closes a substitution.
    fn list(&mut self, close: Option<char>) {
        let mut blanks = 0;
        while let Some(letter) = self.rest.next() {
            match letter {
                ' ' => {
                    blanks += 1;
                    continue;
                }
                '#' if blanks > 0 || self.words.is_empty() => {
                    self.rest.by_ref().for_each(drop);
                    break;
                }
                _ if blanks > 1 && !self.words.is_empty() => {
                    self.lexed.wrong = Some("words stand apart, and no # before them".to_owned());
                }
                _ => {}
            }
            blanks = 0;
            match letter {
                letter if Some(letter) == close => {
                    self.end();
                    return;
                }
                '|' | ';' | '&' | '\n' => self.end(),
                '<' if self.rest.next_if_eq(&'(').is_some() => self.substitution(),
                '<' | '>' => {
                    while self.rest.next_if(|next| matches!(next, '>' | '&')).is_some() {}
                    self.redirected = true;
                }
                '(' | ')' | '`' => self.lexed.wrong = Some(format!("an unquoted {letter}")),
                letter => self.word(letter),
            }
        }
        if close.is_some() {
            self.lexed.wrong = Some("a parenthesis is open".to_owned());
        }
        self.end();
    }

    /// A simple command is complete.
    fn end(&mut self) {
        let words = std::mem::take(&mut self.words);
        if std::mem::take(&mut self.redirected) {
            self.lexed.wrong = Some("a redirection to nothing".to_owned());
        }
        // What stands before a command: keywords and assignments.
        let before = |word: &String| {
            matches!(word.as_str(), "while" | "do" | "if" | "then" | "!")
                || word
                    .split_once('=')
                    .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        };
        let words: Vec<String> = words.into_iter().skip_while(before).collect();
        if !words.is_empty() {
            self.lexed.commands.push(words);
        }
    }

    /// What is behind `$(` or `<(`, which stands for some word.
    fn substitution(&mut self) {
        let (words, redirected) = (std::mem::take(&mut self.words), std::mem::take(&mut self.redirected));
        self.list(Some(')'));
        (self.words, self.redirected) = (words, redirected);
        if !std::mem::take(&mut self.redirected) {
            self.words.push("substituted".to_owned());
        }
    }

    fn word(&mut self, first: char) {
        let mut word = String::new();
        let mut next = Some(first);
        while let Some(letter) = next {
            match letter {
                '\'' => self.quoted(&mut word),
                '"' => self.double_quoted(&mut word),
                '\\' => word.extend(self.rest.next()),
                '$' if self.rest.next_if_eq(&'(').is_some() => self.inside(&mut word),
                letter => word.push(letter),
            }
            next = self.rest.next_if(|next| !" \n|;&<>()`".contains(*next));
        }
        // The 2 of 2>/dev/null.
        let is_descriptor = word.chars().all(|letter| letter.is_ascii_digit());
        if is_descriptor && self.rest.peek().is_some_and(|next| matches!(next, '<' | '>')) {
            return;
        }
        if !std::mem::take(&mut self.redirected) {
            self.words.push(word);
        }
    }

    /// `$(…)` in a word.
    fn inside(&mut self, word: &mut String) {
        self.substitution();
        word.extend(self.words.pop());
    }

    fn quoted(&mut self, word: &mut String) {
        loop {
            match self.rest.next() {
                Some('\'') => return,
                Some(letter) => word.push(letter),
                None => return self.lexed.wrong = Some("a quote is open".to_owned()),
            }
        }
    }

    fn double_quoted(&mut self, word: &mut String) {
        loop {
            match self.rest.next() {
                Some('"') => return,
                Some('\\') => word.extend(self.rest.next()),
                Some('$') if self.rest.next_if_eq(&'(').is_some() => self.inside(word),
                Some(letter) => word.push(letter),
                None => return self.lexed.wrong = Some("a quote is open".to_owned()),
            }
        }
    }
}

/// What is wrong with an example; how many of our commands are in it.
fn check(line: &str) -> Result<usize, String> {
    let lexed = lex(line);
    if let Some(wrong) = lexed.wrong {
        return Err(wrong);
    }
    let mut count = 0;
    for words in &lexed.commands {
        let ours = words.iter().enumerate().filter(|(at, word)| {
            // bandy with rpc -- bandy rpc ls: both are.
            *word == "bandy" && (*at == 0 || words[at - 1] == "--")
        });
        for (at, _) in ours {
            count += 1;
            match Cli::try_parse_from(&words[at..]) {
                // --help and --version are errors of clap's which go to stdout.
                Err(error) if error.use_stderr() => {
                    return Err(error.to_string().lines().next().unwrap_or_default().to_owned());
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(count)
}

/// The lines below `Examples:`, up to the next line at the margin.
fn examples(help: &str) -> Vec<&str> {
    let below = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    below
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// Where the explanations of lines that stand together begin.
fn comment_columns(help: &str) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new()];
    for line in help.lines() {
        match line.find("  # ") {
            Some(at) if line.starts_with("  ") => {
                groups.last_mut().expect("there is one").push(line[..at].chars().count());
            }
            _ if line.starts_with("  ") => {}
            _ => groups.push(Vec::new()),
        }
    }
    groups
}

fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            leaves(verb, &path, found);
        } else {
            found.push((path, verb));
        }
    }
}

fn help_of(command: &Command) -> String {
    command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn every_example_of_every_command_can_be_pasted() {
    let root = Cli::command();
    let (mut commands, mut wrong, mut count) = (Vec::new(), Vec::new(), 0);
    leaves(&root, "bandy", &mut commands);
    for (path, command) in &commands {
        let help = help_of(command);
        let lines = examples(&help);
        if lines.is_empty() {
            wrong.push(format!("{path} --help has no examples"));
        }
        for line in lines.into_iter().filter(|line| !OTHER_SHELLS.contains(line)) {
            match check(line) {
                // The others are what it works with: other programs, other shells.
                Ok(found) => count += found,
                Err(why) => wrong.push(format!("{path}: {line}: {why}")),
            }
        }
        for columns in comment_columns(&help) {
            if columns.windows(2).any(|pair| pair[0] != pair[1]) {
                wrong.push(format!("{path}: explanations are not below each other"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(count > 300, "only {count} commands were found in {} pages", commands.len());
}

#[test]
fn every_command_line_of_the_topics_can_be_pasted() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for topic in TOPICS {
        // Rows of a table only speak of a command.
        let is_command = |line: &&str| {
            line.starts_with("  ") && lex(line).commands.iter().any(|words| words[0] == "bandy")
        };
        for line in topic.text.lines().filter(is_command) {
            match check(line) {
                Ok(found) => count += found,
                Err(why) => wrong.push(format!("{}: {line}: {why}", topic.name)),
            }
        }
    }
    for line in TOP.lines().filter(|line| line.starts_with("  bandy")) {
        assert_eq!(check(line), Ok(1), "{line}");
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn help_prints_no_marks_of_documentation() {
    fn look(command: &Command, wrong: &mut Vec<String>) {
        if command.clone().render_long_help().to_string().contains('`') {
            wrong.push(command.get_name().to_owned());
        }
        command.get_subcommands().for_each(|command| look(command, wrong));
    }
    let mut wrong = Vec::new();
    look(&Cli::command(), &mut wrong);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    let words = |line: &str| lex(line).commands.iter().map(|words| words.join("_")).collect::<Vec<_>>();
    assert_eq!(words("a 'b  c' \"d # e\" f#g  # h"), ["a_b  c_d # e_f#g"]);
    assert_eq!(words("x=$(a b); while y=$(a c); do b \"$y\"; done"), ["a_b", "a_c", "b_$y", "done"]);
    assert_eq!(
        words("source <(a b) && a 2>/dev/null < f | b >> g & c"),
        ["a_b", "source_substituted", "a", "b", "c"]
    );
    assert_eq!(words("eval \"$(a b --c)\""), ["a_b_--c", "eval_substituted"]);
    for wrong in ["a  b", "a 'b", "a (b)", "a <", "x=$(a"] {
        assert!(lex(wrong).wrong.is_some(), "{wrong}");
    }
    assert!(check("bandy rpc ls   of all").is_err() && check("bandy rpc lss").is_err());
    assert_eq!(check("seq 3 | bandy with mq -- bandy mq ls  # both"), Ok(2));
}
