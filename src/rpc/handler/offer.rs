//! Everything a server was told to answer, turned into routes: again whenever a file has changed.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message as _;

use super::contract::{Dialect, Host};
use super::directory::{self, Found, FoundKind};
use super::lines::Values;
use super::{Command, Echo, Faults, Fixed, Workers, demo};
use crate::exec::Program;
use crate::rpc::schema::functions::{self, Content, Function};
use crate::rpc::schema::{Input, SchemaError};
use crate::rpc::{Backend, Format, Method, Payload, Route, Schema};

/// A method or function and what answers it.
#[derive(Clone, Debug)]
pub struct Named {
    /// A unique end of a method's path, or the name of a function of its own.
    pub name: String,
    /// What answers it.
    pub answer: Answer,
}

/// What answers one method or function.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A command.
    Command(Program),
    /// Always the same: JSON.
    Fixed(String),
    /// What answers all the rest.
    Rest,
}

/// What answers the methods that nobody else does.
#[derive(Clone, Debug, Default)]
pub enum Rest {
    /// Nothing: UNIMPLEMENTED.
    #[default]
    Nobody,
    /// A command.
    Command(Program),
    /// Persistent processes.
    Workers(Workers),
    /// The request itself; an example of the reply where that is of another type.
    Echo,
}

/// What a server was told to answer. With nothing at all, the built-in services.
#[derive(Debug, Default)]
pub struct Offer {
    /// One by one.
    pub named: Vec<Named>,
    /// A directory of handlers.
    pub directory: Option<PathBuf>,
    /// Schemas to compile.
    pub protos: Vec<Input>,
    /// Where their imports are.
    pub include_paths: Vec<PathBuf>,
    /// Compiled schemas.
    pub descriptor_sets: Vec<PathBuf>,
    /// The methods that are left.
    pub rest: Rest,
    /// Faults in front of all of them.
    pub faults: Faults,
}

/// What came of it.
pub struct Offered {
    /// All types and methods, answered or not.
    pub schema: Arc<Schema>,
    /// What is answered.
    pub routes: Vec<Route>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
}

/// Why there is nothing to offer.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// A schema is wrong.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A name with a slash that no schema has.
    #[error("no schema has a method '{name}'")]
    UnknownMethod {
        /// The name.
        name: String,
        /// Those there are.
        methods: Vec<String>,
    },
    /// A name that more than one method ends with.
    #[error("'{name}' may be {candidates}", candidates = candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The methods.
        candidates: Vec<String>,
    },
    /// A static reply that is not one of its method.
    #[error("the reply for {name} is {error}")]
    Reply {
        /// The method.
        name: String,
        /// What is wrong.
        error: String,
    },
    /// A command for all methods, and none there.
    #[error("nothing says which methods the command after -- answers")]
    NoMethods,
}

/// What answers one method, once its name is known.
enum Source<'a> {
    Named(&'a Answer),
    Found(&'a Found),
}

impl Offer {
    /// True if nothing was said: the built-in services are offered.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
            && self.directory.is_none()
            && self.protos.is_empty()
            && self.descriptor_sets.is_empty()
            && matches!(self.rest, Rest::Nobody)
    }

    /// Files and directories on which the offer depends.
    pub fn paths(&self) -> Vec<PathBuf> {
        let protos = self.protos.iter().filter_map(|input| match input {
            Input::Path(path) => Some(path),
            Input::Text { .. } => None,
        });
        protos
            .chain(&self.descriptor_sets)
            .chain(&self.include_paths)
            .chain(&self.directory)
            .cloned()
            .collect()
    }

    /// The schemas alone, as one.
    ///
    /// # Errors
    /// Anything wrong in them.
    pub fn schema(&self) -> Result<Schema, OfferError> {
        if self.is_empty() {
            return Ok(demo::schema()?);
        }
        let listing = self.listing()?;
        Ok(Schema::merge(&self.schemas(&listing)?)?)
    }

    fn listing(&self) -> Result<directory::Listing, OfferError> {
        match &self.directory {
            Some(path) => {
                directory::list(path).map_err(|error| OfferError::Read { path: path.clone(), error })
            }
            None => Ok(directory::Listing::default()),
        }
    }

    fn schemas(&self, listing: &directory::Listing) -> Result<Vec<Schema>, OfferError> {
        let mut schemas = Vec::new();
        for path in &self.descriptor_sets {
            let bytes =
                std::fs::read(path).map_err(|error| OfferError::Read { path: path.clone(), error })?;
            schemas.push(Schema::from_descriptor_set(&bytes)?);
        }
        let listed = listing.protos.iter().cloned().map(Input::Path);
        let protos: Vec<Input> = self.protos.iter().cloned().chain(listed).collect();
        if !protos.is_empty() {
            schemas.push(Schema::compile_inputs(&protos, &self.include_paths)?);
        }
        Ok(schemas)
    }

    /// Reads all files and makes the routes.
    ///
    /// # Errors
    /// Anything wrong in them; nothing is offered by halves.
    pub fn build(&self, host: &Arc<Host>) -> Result<Offered, OfferError> {
        if self.is_empty() {
            let schema = Arc::new(demo::schema()?);
            let routes = self.faults.inject(demo::routes(&schema));
            return Ok(Offered { schema, routes, notes: Vec::new() });
        }
        let listing = self.listing()?;
        let mut schemas = self.schemas(&listing)?;
        if schemas.is_empty() && self.named.is_empty() && self.directory.is_none() {
            match self.rest {
                Rest::Echo => schemas.push(demo::schema()?),
                Rest::Nobody | Rest::Command(_) | Rest::Workers(_) => return Err(OfferError::NoMethods),
            }
        }
        self.route(schemas, &listing, host)
    }

    fn route(
        &self,
        mut schemas: Vec<Schema>,
        listing: &directory::Listing,
        host: &Arc<Host>,
    ) -> Result<Offered, OfferError> {
        let declared: Vec<String> =
            schemas.iter().flat_map(|schema| schema.methods().map(|method| method.path)).collect();
        let mut notes: Vec<String> = Vec::new();
        let mut answers: Vec<(String, Source<'_>)> = Vec::new();
        let mut functions: Vec<(Function, Source<'_>)> = Vec::new();
        let text = |name: &str| Function { name: name.to_owned(), content: Content::Text };
        for found in &listing.handlers {
            match find_first(&declared, &found.names)? {
                Some(path) => answers.push((path, Source::Found(found))),
                None => match found.names.iter().find(|name| !name.contains('/')) {
                    Some(name) => functions.push((text(name), Source::Found(found))),
                    None => notes.push(format!("{} names no method of a schema", found.path.display())),
                },
            }
        }
        for (path, reason) in &listing.skipped {
            notes.push(format!("{} is not used: {reason}", path.display()));
        }
        // The command line comes last: it wins over the directory.
        for named in &self.named {
            match find(&declared, &named.name)? {
                Some(path) => answers.push((path, Source::Named(&named.answer))),
                None if named.name.contains('/') => {
                    return Err(OfferError::UnknownMethod { name: named.name.clone(), methods: declared });
                }
                None => functions.push((text(&named.name), Source::Named(&named.answer))),
            }
        }
        if !functions.is_empty() {
            let (descriptions, sources): (Vec<_>, Vec<_>) = functions.into_iter().unzip();
            let (schema, paths) = functions::describe(&descriptions)?;
            schemas.push(schema);
            answers.extend(paths.into_iter().zip(sources));
        }
        let schema = Arc::new(match schemas.len() {
            1 => schemas.remove(0),
            _ => Schema::merge(&schemas)?,
        });
        notes.extend(schema.conflicts().iter().map(|conflict| format!("{conflict}; the first is used")));
        let mut routes = Vec::new();
        let mut unanswered = Vec::new();
        for method in schema.methods() {
            let source =
                answers.iter().rev().find(|(path, _)| *path == method.path).map(|(_, source)| source);
            match self.backend(&method, source, &schema, host)? {
                Some(backend) => routes.push(Route { method: Arc::new(method), backend }),
                None => unanswered.push(method.path),
            }
        }
        match unanswered.as_slice() {
            [] => {}
            [one] => notes.push(format!("nothing answers {one}")),
            [first, others @ ..] => notes.push(format!("nothing answers {first} and {} more", others.len())),
        }
        Ok(Offered { schema, routes: self.faults.inject(routes), notes })
    }

    fn backend(
        &self,
        method: &Method,
        source: Option<&Source<'_>>,
        schema: &Arc<Schema>,
        host: &Arc<Host>,
    ) -> Result<Option<Arc<dyn Backend>>, OfferError> {
        let dialect = if method.service() == functions::SERVICE { Dialect::Text } else { Dialect::Json };
        let command = |program: Program| -> Arc<dyn Backend> {
            Arc::new(Command::new(program, dialect, Arc::clone(schema), Arc::clone(host)))
        };
        Ok(match source {
            Some(Source::Named(Answer::Command(program))) => Some(command(program.clone())),
            Some(Source::Named(Answer::Fixed(json))) => Some(Arc::new(fixed(method, dialect, json)?)),
            Some(Source::Found(Found { path, kind: FoundKind::Executable, .. })) => {
                Some(command(Program::from_path(path)))
            }
            Some(Source::Found(Found { path, kind: FoundKind::Json, .. })) => {
                let json = std::fs::read_to_string(path)
                    .map_err(|error| OfferError::Read { path: path.clone(), error })?;
                Some(Arc::new(fixed(method, dialect, &json)?))
            }
            None | Some(Source::Named(Answer::Rest)) => match &self.rest {
                Rest::Nobody => None,
                Rest::Command(program) => Some(command(program.clone())),
                Rest::Workers(workers) => Some(workers.backend(schema)),
                Rest::Echo if method.input.full_name() == method.output.full_name() => Some(Arc::new(Echo)),
                // A reply of another type cannot be the request: a filled-in one says what it looks like.
                Rest::Echo => {
                    let example = fixed(method, dialect, &method.output.example().to_string());
                    example.ok().map(|reply| -> Arc<dyn Backend> { Arc::new(reply) })
                }
            },
        })
    }
}

/// The method that one of the names means, the first first.
fn find_first(methods: &[String], names: &[String]) -> Result<Option<String>, OfferError> {
    for name in names {
        if let Some(path) = find(methods, name)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The method whose path is `name`, or is the only one that ends with it.
fn find(methods: &[String], name: &str) -> Result<Option<String>, OfferError> {
    let name = name.trim_start_matches('/');
    if methods.iter().any(|path| path == name) {
        return Ok(Some(name.to_owned()));
    }
    let is_end = |path: &&String| {
        path.strip_suffix(name)
            .is_some_and(|rest| rest.ends_with('/') || (name.contains('/') && rest.ends_with('.')))
    };
    let mut candidates: Vec<String> = methods.iter().filter(is_end).cloned().collect();
    match candidates.len() {
        0 => Ok(None),
        1 => Ok(candidates.pop()),
        _ => Err(OfferError::Ambiguous { name: name.to_owned(), candidates }),
    }
}

/// The replies in `json`: one, or as many as there are if the method streams.
fn fixed(method: &Method, dialect: Dialect, json: &str) -> Result<Fixed, OfferError> {
    let wrong = |error: String| OfferError::Reply { name: method.path.clone(), error };
    if dialect == Dialect::Text {
        let text =
            serde_json::from_str::<String>(json).unwrap_or_else(|_| json.trim_end_matches('\n').to_owned());
        return Ok(Fixed::new(vec![Payload::proto(text.encode_to_vec())]));
    }
    let mut values = Values::new(usize::MAX);
    values.buffer().extend_from_slice(json.as_bytes());
    let mut messages = Vec::new();
    while let Some(value) = values.rest().map_err(|error| wrong(error.to_string()))? {
        let message = method.output.convert(&Payload::json(value), Format::Proto);
        messages.push(Payload::proto(message.map_err(|status| wrong(status.message))?));
    }
    if !method.kind.server_streams() && messages.len() != 1 {
        return Err(wrong(format!("{} messages; the method has one", messages.len())));
    }
    Ok(Fixed::new(messages))
}
