//! Where message types come from: the flags that every rpc command shares.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::schema::{Diagnostic, Input, Schema, SchemaError};

/// A descriptor set over this is refused.
const PROTOSET_SIZE_MAX: u64 = 256 << 20;

/// Flags that name local schemas.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Schema")]
pub struct SchemaArgs {
    /// Read a .proto file, or a directory of them; - is standard input
    #[arg(long, value_name = "FILE")]
    pub proto: Vec<PathBuf>,
    /// Look for imports in this directory
    #[arg(hide_short_help = true, long, value_name = "DIR")]
    pub proto_path: Vec<PathBuf>,
    /// Read a compiled descriptor set (protoc --include_imports -o, buf build -o)
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub protoset: Vec<PathBuf>,
}

impl SchemaArgs {
    /// True if any local schema is named.
    pub fn is_given(&self) -> bool {
        !self.proto.is_empty() || !self.protoset.is_empty()
    }

    /// The files and directories named, for those who want to know when they change.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.proto.iter().chain(&self.protoset).map(PathBuf::as_path).filter(|path| *path != Path::new("-"))
    }

    /// Reads and merges all of it; `None` if nothing is named. `.proto` files win over descriptor sets,
    /// earlier descriptor sets over later ones.
    ///
    /// # Errors
    /// Usage: files that are wrong. Failed: files that cannot be read.
    pub fn load(&self) -> anyhow::Result<Option<Schema>> {
        if !self.is_given() {
            return Ok(None);
        }
        let mut sources = Vec::new();
        if !self.proto.is_empty() {
            let inputs = self.proto.iter().map(|path| input(path)).collect::<anyhow::Result<Vec<_>>>()?;
            sources.push(Schema::compile_inputs(&inputs, &self.proto_path).map_err(failure)?);
        }
        for path in &self.protoset {
            let bytes = read_protoset(path)?;
            let schema = Schema::from_descriptor_set(&bytes)
                .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
            sources.push(schema);
        }
        match <[Schema; 1]>::try_from(sources) {
            Ok([only]) => Ok(Some(only)),
            Err(sources) => Ok(Some(Schema::merge(&sources).map_err(failure)?)),
        }
    }
}

fn input(path: &Path) -> anyhow::Result<Input> {
    if path != Path::new("-") {
        return Ok(Input::Path(path.to_owned()));
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(Input::Text { name: "stdin.proto".to_owned(), text })
}

fn read_protoset(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut read = || -> std::io::Result<()> {
        if path == Path::new("-") {
            std::io::stdin().lock().take(PROTOSET_SIZE_MAX + 1).read_to_end(&mut bytes)?;
        } else {
            std::fs::File::open(path)?.take(PROTOSET_SIZE_MAX + 1).read_to_end(&mut bytes)?;
        }
        Ok(())
    };
    read().with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > PROTOSET_SIZE_MAX {
        let message = format!("{} is over the limit of {PROTOSET_SIZE_MAX} bytes", path.display());
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(bytes)
}

/// The error of a schema, with its exit code and what to do about it.
pub fn failure(error: SchemaError) -> Failure {
    let exit = match &error {
        // What is no text can be read: it is another kind of file.
        SchemaError::Read { source, .. } if source.kind() != ErrorKind::InvalidData => Exit::Failed,
        _ => Exit::Usage,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        SchemaError::ImportNotFound { .. } => {
            failure.tip("name the directory that the import starts from: --proto-path DIR")
        }
        SchemaError::Source(Diagnostic { edition: true, .. }) => failure.tip(
            "if protoc or buf takes it: protoc --include_imports -o set.binpb FILE, then --protoset set.binpb",
        ),
        SchemaError::Read { source, path } if source.kind() == ErrorKind::InvalidData => {
            failure.tip(format!("if it is a compiled descriptor set: --protoset {}", path.display()))
        }
        SchemaError::Conflict(_) => failure.tip("leave out --proto or --protoset to use the server's own schema"),
        SchemaError::Source(_)
        | SchemaError::Read { .. }
        | SchemaError::TooLarge { .. }
        | SchemaError::ImportCycle(_)
        | SchemaError::EmptyDirectory(_)
        | SchemaError::NotADescriptorSet(_)
        | SchemaError::Link(_) => failure,
    }
}

/// Schemas as one, the most trusted first; says so if they contradict each other.
///
/// # Errors
/// Usage: they do not fit together.
pub fn merge(sources: &[Schema], app: &App) -> Result<Schema, Failure> {
    let merged = Schema::merge(sources).map_err(failure)?;
    warn_of_conflicts(&merged, app);
    Ok(merged)
}

/// Says what its sources contradict each other in, if they do.
pub fn warn_of_conflicts(schema: &Schema, app: &App) {
    match schema.conflicts() {
        [] => {}
        [one] => app.printer.warn(&format!("{one}; the first is used")),
        [first, others @ ..] => {
            app.printer.warn(&format!("{first}; the first is used (and {} more such)", others.len()));
        }
    }
}
