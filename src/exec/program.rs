//! A command as its user wrote it: words run directly when they can be, through `sh -c` when they must.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::record::Verdict;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    argv: Vec<OsString>,
}

impl Program {
    /// The words of a command line, as they follow `--`.
    ///
    /// A single word with blanks in it is a shell command (`-- 'tr a-z A-Z | rev'`), as `watch` and
    /// `ssh` have it. `None` if there is no word.
    pub fn from_words(words: Vec<OsString>, search_path: Option<&OsStr>) -> Option<Self> {
        match words.as_slice() {
            [] => None,
            [only] => match only.to_str() {
                Some(text) if text.contains(char::is_whitespace) => Some(Self::from_text(text, search_path)),
                _ => Some(Self { argv: words }),
            },
            _ => Some(Self { argv: words }),
        }
    }

    /// A shell command. Plain words whose program is found in `search_path` are run without a shell,
    /// which saves half of the time that a short command takes.
    pub fn from_text(text: &str, search_path: Option<&OsStr>) -> Self {
        if is_plain(text)
            && let Ok(words) = shell_words::split(text)
            && let Some((program, arguments)) = words.split_first()
            && let Some(path) = find(program, search_path)
        {
            let argv = std::iter::once(path.into_os_string()).chain(arguments.iter().map(OsString::from));
            return Self { argv: argv.collect() };
        }
        Self { argv: vec!["/bin/sh".into(), "-c".into(), text.into()] }
    }

    /// An executable file without arguments.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        Self { argv: vec![path.into().into_os_string()] }
    }

    /// Why it cannot be run, whatever it is run for, as far as that shows without running it: a shell command
    /// may still name something that is not there.
    pub fn is_missing(&self, search_path: Option<&OsStr>) -> Option<Verdict> {
        let path = Path::new(self.argv.first()?);
        let places: Vec<PathBuf> = if path.components().count() > 1 {
            vec![path.to_owned()]
        } else {
            std::env::split_paths(search_path?).map(|folder| folder.join(path)).collect()
        };
        if places.iter().any(|place| is_executable(place)) {
            return None;
        }
        Some(if places.iter().any(|place| place.exists()) {
            Verdict::NotExecutable
        } else {
            Verdict::NotFound
        })
    }

    /// Program and arguments; never empty.
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.argv.as_slice() {
            [shell, flag, text] if shell == "/bin/sh" && flag == "-c" => write!(f, "{}", text.display()),
            argv => f.write_str(&shell_words::join(argv.iter().map(|word| word.to_string_lossy()))),
        }
    }
}

/// True if a shell would do nothing with `text` but split it into words.
fn is_plain(text: &str) -> bool {
    let mut quote = None;
    let mut first_word = true;
    for letter in text.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (Some('\''), _) => {}
            (_, '$' | '`' | '\\') => return false,
            (Some(_), _) => {}
            (None, ' ' | '\t') => first_word = false,
            // An assignment (`A=1 cmd`) is one only before the first word.
            (None, '=') if first_word => return false,
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | ']') => {
                return false;
            }
            (None, '!' | '~' | '#' | '\n' | '\r') => return false,
            (None, _) => {}
        }
    }
    quote.is_none()
}

/// The executable that a shell would find. Words with a slash are paths already.
fn find(program: &str, search_path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return is_executable(Path::new(program)).then(|| PathBuf::from(program));
    }
    std::env::split_paths(search_path?).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(text: &str) -> Vec<String> {
        let path = OsStr::new("/usr/bin:/bin");
        let program = Program::from_text(text, Some(path));
        program.argv().iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn plain_words_need_no_shell() {
        let words = argv("tr 'a-z' \"A-Z\"");
        assert!(words[0].ends_with("/tr"), "{words:?}");
        assert_eq!(words[1..], ["a-z", "A-Z"]);
    }

    #[test]
    fn what_is_not_there_is_known_before_it_is_run() {
        let path = Some(OsStr::new("/usr/bin:/bin"));
        let missing = |words: &[&str]| {
            Program::from_words(words.iter().map(OsString::from).collect(), path).unwrap().is_missing(path)
        };
        assert_eq!(missing(&["tr", "a"]), None);
        assert_eq!(missing(&["no-such-command"]), Some(Verdict::NotFound));
        assert_eq!(missing(&["/no/such"]), Some(Verdict::NotFound));
        assert_eq!(missing(&["/etc/passwd"]), Some(Verdict::NotExecutable));
        assert_eq!(missing(&["no-such | cat"]), None);
    }

    #[test]
    fn shell_syntax_and_builtins_go_to_the_shell() {
        for text in [
            "tr a-z A-Z | rev",
            "echo $HOME",
            "A=1 env",
            "exit 69",
            "ls *",
            "echo \"`id`\"",
            "cat <<< 'x",
            "~/x",
        ] {
            assert_eq!(argv(text), ["/bin/sh", "-c", text]);
        }
    }

    #[test]
    fn words_after_the_dashes_are_kept_and_one_with_blanks_is_a_shell_command() {
        let program = |words: &[&str]| {
            Program::from_words(words.iter().map(OsString::from).collect(), Some(OsStr::new("/usr/bin:/bin")))
        };
        assert_eq!(program(&[]), None);
        assert_eq!(program(&["jq", ". | length"]).unwrap().argv(), ["jq", ". | length"]);
        assert_eq!(program(&["cat | rev"]).unwrap().argv(), ["/bin/sh", "-c", "cat | rev"]);
        assert_eq!(program(&["./handler"]).unwrap().argv(), ["./handler"]);
    }

    #[test]
    fn display_is_what_was_written() {
        assert_eq!(Program::from_text("a | b", None).to_string(), "a | b");
        assert_eq!(Program::from_path("/x/my handler").to_string(), "'/x/my handler'");
    }
}
