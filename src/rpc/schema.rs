//! Message types: descriptors in, conversion between protobuf and JSON out.

pub mod compile;
mod conflict;
mod editions;
mod error;
mod example;
mod features;
pub mod functions;
mod items;
mod json;
mod merge;
mod print;
pub mod raw;
mod repair;
mod standard;

use std::path::PathBuf;
use std::sync::Arc;

use buffa_descriptor::generated::descriptor::method_options::IdempotencyLevel;
use buffa_descriptor::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use buffa_descriptor::{
    DescriptorPool, MessageDescriptor, MessageIndex, MethodDescriptor, ServiceDescriptor,
};
use bytes::Bytes;

use super::catalog::{Kind, Method, method_id};
use super::{Code, Format, Payload, Status};

pub use compile::Input;
pub use error::{Diagnostic, SchemaError};
pub use json::{ConvertError, JsonOptions};
pub use merge::RawFile;
pub use standard::{is_well_known_file, well_known_file};

/// A set of linked descriptors. Cheap to clone: clones share it.
#[derive(Clone, Default)]
pub struct Schema {
    pool: Arc<DescriptorPool>,
    /// The files of the pool as they came, by name, in order.
    files: Arc<[(String, Bytes)]>,
    conflicts: Arc<[String]>,
}

impl Schema {
    /// Links a serialized `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    /// Bytes that are not one, or references that lead nowhere.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, SchemaError> {
        Self::link_repaired(merge::split(&Bytes::copy_from_slice(bytes))?, &[])
    }

    /// One schema of several, the most trusted first: what an earlier one defines, it defines for all.
    /// Where a later one says something else, [`conflicts`](Self::conflicts) tells.
    ///
    /// # Errors
    /// References that lead nowhere after that.
    pub fn merge(sources: &[Self]) -> Result<Self, SchemaError> {
        let files: Vec<Vec<RawFile>> = sources.iter().map(Self::raw_files).collect();
        let mut conflicts: Vec<String> =
            sources.iter().flat_map(|source| source.conflicts.iter().cloned()).collect();
        conflicts.extend(conflict::conflicts(&files));
        let merged = Self::link(merge::merge(files));
        match (merged, conflicts.first()) {
            (Ok(schema), _) => Ok(Self { conflicts: conflicts.into(), ..schema }),
            (Err(error), Some(conflict)) => {
                Err(SchemaError::Conflict(format!("these schemas cannot be merged: {conflict} ({error})")))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What the sources of a merged schema say differently, each in a sentence.
    pub fn conflicts(&self) -> &[String] {
        &self.conflicts
    }

    /// Links files; if that fails, once more after repairing what is known to be wrong in the world.
    /// `absent` are files that could not be had, with the reason, for the error.
    ///
    /// # Errors
    /// The first failure to link, if the repair did not help.
    pub(super) fn link_repaired(
        files: Vec<RawFile>,
        absent: &[(String, String)],
    ) -> Result<Self, SchemaError> {
        let files = repair::add_well_known(files);
        let came: Vec<Bytes> = files.iter().map(|file| file.bytes.clone()).collect();
        Self::link(files).or_else(|error| {
            let files = came.into_iter().map(RawFile::decode).collect::<Result<Vec<_>, _>>()?;
            Self::link(repair::repair(files.clone())).map_err(|_| explained(error, &files, absent))
        })
    }

    fn link(files: Vec<RawFile>) -> Result<Self, SchemaError> {
        let came = files.iter().map(|file| (file.name().to_owned(), file.bytes.clone())).collect();
        let file = files.into_iter().map(|file| file.file).collect();
        let pool = DescriptorPool::new(FileDescriptorSet { file, ..FileDescriptorSet::default() })
            .map_err(|error| SchemaError::Link(error.to_string()))?;
        Ok(Self { pool: Arc::new(pool), files: came, conflicts: Arc::default() })
    }

    /// Its files as they were before they were linked.
    fn raw_files(&self) -> Vec<RawFile> {
        let raw = |(name, bytes): &(String, Bytes)| {
            let file = self.pool.file_by_name(name)?.clone();
            Some(RawFile { bytes: bytes.clone(), file })
        };
        self.files.iter().filter_map(raw).collect()
    }

    /// Compiles `.proto` files or directories of them.
    ///
    /// # Errors
    /// See [`compile::compile`].
    pub fn compile(files: &[PathBuf], include_paths: &[PathBuf]) -> Result<Self, SchemaError> {
        let inputs: Vec<Input> = files.iter().cloned().map(Input::Path).collect();
        Self::compile_inputs(&inputs, include_paths)
    }

    /// Compiles files, directories and texts.
    ///
    /// # Errors
    /// See [`compile::compile`].
    pub fn compile_inputs(inputs: &[Input], include_paths: &[PathBuf]) -> Result<Self, SchemaError> {
        Self::from_descriptor_set(&compile::compile(inputs, include_paths)?)
    }

    /// The linked descriptors.
    pub fn pool(&self) -> &Arc<DescriptorPool> {
        &self.pool
    }

    /// The descriptors as a serialized FileDescriptorSet, custom options included.
    pub fn descriptor_set(&self) -> Vec<u8> {
        merge::join(self.files.iter().map(|(_, bytes)| bytes))
    }

    /// The encoded FileDescriptorProto of the file with that name, as it came.
    pub fn file(&self, name: &str) -> Option<&Bytes> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes)
    }

    /// Name of the file that declares a fully qualified name: of a message, field, oneof, enum, enum value,
    /// service, method (also with a slash) or extension.
    pub fn file_of_symbol(&self, full_name: &str) -> Option<String> {
        self.file_declaring(full_name)?.name.clone()
    }

    fn file_declaring(&self, full_name: &str) -> Option<&FileDescriptorProto> {
        let name = full_name.strip_prefix('.').unwrap_or(full_name).replacen('/', ".", 1);
        // The pool knows enum values by their scope and name, also where the scope is the root: as `.NAME`.
        let in_root = |name: &str| self.pool.file_containing_symbol(&format!("..{name}"));
        self.pool.file_containing_symbol(&name).or_else(|| in_root(&name))
    }

    /// The message type with that full name.
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        let index = self.pool.message_index(full_name)?;
        Some(MessageType { pool: Arc::clone(&self.pool), index })
    }

    /// Full names of all services, in the order of their declaration.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.pool.services().iter().map(ServiceDescriptor::full_name)
    }

    /// All methods of all services, in the order of their declaration.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        self.pool
            .services()
            .iter()
            .flat_map(|service| service.methods().iter().map(|method| self.method(service, method)))
    }

    fn method(&self, service: &ServiceDescriptor, method: &MethodDescriptor) -> Method {
        let path = format!("{}/{}", service.full_name(), method.name());
        let message = |index| MessageType { pool: Arc::clone(&self.pool), index };
        let idempotency = method.options().and_then(|options| options.idempotency_level);
        Method {
            id: method_id(&path),
            path,
            kind: match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => Kind::Unary,
                (true, false) => Kind::ClientStream,
                (false, true) => Kind::ServerStream,
                (true, true) => Kind::Bidi,
            },
            no_side_effects: idempotency == Some(IdempotencyLevel::NO_SIDE_EFFECTS),
            input: message(method.input()),
            output: message(method.output()),
        }
    }
}

/// The error with what may be behind it.
fn explained(error: SchemaError, files: &[RawFile], absent: &[(String, String)]) -> SchemaError {
    let SchemaError::Link(message) = error else { return error };
    let known = |name: &String| files.iter().any(|file| file.name() == name);
    let lacking = files.iter().find_map(|file| {
        let import = file.file.dependency.iter().find(|import| !known(import))?;
        Some((file.name(), import))
    });
    let Some((importer, import)) = lacking else { return SchemaError::Link(message) };
    let why = absent
        .iter()
        .find(|(name, _)| name == import)
        .map_or_else(String::new, |(_, why)| format!(" ({why})"));
    SchemaError::Link(format!("{message}; {importer} imports {import}, which is missing{why}"))
}

/// One message type; knows how to convert its messages.
#[derive(Clone)]
pub struct MessageType {
    pool: Arc<DescriptorPool>,
    index: MessageIndex,
}

impl std::fmt::Debug for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.full_name())
    }
}

impl MessageType {
    /// Full name, such as `demo.HelloRequest`.
    pub fn full_name(&self) -> &str {
        self.pool.message(self.index).full_name()
    }

    /// The linked descriptors around it.
    pub fn pool(&self) -> &Arc<DescriptorPool> {
        &self.pool
    }

    /// The linked descriptor.
    pub fn descriptor(&self) -> &MessageDescriptor {
        self.pool.message(self.index)
    }

    /// The payload in the wanted format; no copy if it already is.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the bytes are not such a message.
    pub fn convert(&self, payload: &Payload, to: Format) -> Result<Bytes, Status> {
        self.convert_with(payload, to, &JsonOptions::default())
    }

    /// The same with choices about the JSON side.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the bytes are not such a message.
    pub fn convert_with(
        &self,
        payload: &Payload,
        to: Format,
        options: &JsonOptions,
    ) -> Result<Bytes, Status> {
        let converted = match (payload.format, to) {
            (Format::Proto, Format::Proto) | (Format::Json, Format::Json) => {
                return Ok(payload.bytes.clone());
            }
            (Format::Proto, Format::Json) => json::to_json(&self.pool, self.index, &payload.bytes, options),
            (Format::Json, Format::Proto) => json::from_json(&self.pool, self.index, &payload.bytes, options),
        };
        converted.map(Bytes::from).map_err(|error| {
            Status::new(Code::InvalidArgument, format!("not a {}: {error}", self.full_name()))
        })
    }
}
