//! What can be wrong with a schema, said so that it can be fixed.

use std::path::PathBuf;

/// Why a schema could not be read, compiled or linked.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The operating system would not give us the file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or directory is larger than we are willing to take in.
    #[error("{what} has {size} {unit}, over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        size: u64,
        /// What is counted.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A `.proto` file that is wrong.
    #[error("{0}")]
    Source(Diagnostic),
    /// An imported file that is nowhere.
    #[error("{}import \"{import}\" not found; searched {}", importer.as_ref().map_or_else(String::new, |d| format!("{d}: ")), paths(searched))]
    ImportNotFound {
        /// File, line and column of the import.
        importer: Option<String>,
        /// The imported name.
        import: String,
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// Files that import each other.
    #[error("import cycle: {0}")]
    ImportCycle(String),
    /// A directory without a single `.proto` file.
    #[error("no .proto file under {}", .0.display())]
    EmptyDirectory(PathBuf),
    /// Bytes that are no descriptor set.
    #[error("not a FileDescriptorSet: {0}")]
    NotADescriptorSet(String),
    /// Descriptors that do not fit together.
    #[error("the schema does not link: {0}")]
    Link(String),
    /// Two sources that define the same thing differently.
    #[error("{0}")]
    Conflict(String),
}

/// A place in a `.proto` file and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the file as imports spell it.
    pub file: String,
    /// Line and column, counted from one, if known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// The line's text.
    pub text: Option<String>,
    /// True if the file declares an edition: other compilers may know more of it.
    pub edition: bool,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some((line, column)) => {
                write!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
                if let Some(text) = &self.text {
                    let text = text.replace('\t', " ");
                    write!(f, "\n  {text}\n  {:>column$}", '^')?;
                }
                Ok(())
            }
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

fn paths(searched: &[PathBuf]) -> String {
    if searched.is_empty() {
        return "nowhere: there is no include path".to_owned();
    }
    searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
