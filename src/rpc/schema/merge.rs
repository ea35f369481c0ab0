//! Several sources, one schema: who comes first wins.
//!
//! The same file from two sources counts once. A later file under another name that defines what is there
//! already (reflection and local files often disagree on paths) gives only what is new in it.

use std::collections::HashSet;

use buffa::Message as _;
use buffa_descriptor::generated::descriptor::{FileDescriptorProto, SourceCodeInfo};
use bytes::Bytes;

use super::error::SchemaError;
use super::raw;

/// Decoded, real descriptors take about ten times their bytes. Many empty messages would take hundreds of
/// times theirs: what takes more than this is refused.
const DECODED_SIZE_FACTOR: usize = 32;
const DECODED_SIZE_FLOOR: usize = 64 << 10;
const DECODED_SIZE_MAX: usize = 512 << 20;

/// `source_code_info` of FileDescriptorProto: comments and places.
const COMMENTS: u32 = 9;

/// One file with the bytes it came in: they keep custom options that nobody here knows.
#[derive(Clone, Debug)]
pub struct RawFile {
    /// The encoded FileDescriptorProto.
    pub bytes: Bytes,
    /// The same, decoded, without comments and places: most of the bytes, and only who prints it wants them.
    pub file: FileDescriptorProto,
}

impl RawFile {
    /// Decodes a FileDescriptorProto.
    ///
    /// # Errors
    /// Bytes that are not one.
    pub fn decode(bytes: Bytes) -> Result<Self, SchemaError> {
        let file = match fields(&bytes, |number| number != COMMENTS) {
            Some(without) => decode(&without)?,
            None => decode(&bytes)?,
        };
        Ok(Self { bytes, file })
    }

    /// Encodes a file that was made here.
    pub fn encode(file: FileDescriptorProto) -> Self {
        Self { bytes: file.encode_to_vec().into(), file }
    }

    /// Encodes a changed file, whose comments are where they were.
    pub fn change(&mut self, change: impl FnOnce(&mut FileDescriptorProto)) {
        change(&mut self.file);
        let mut bytes = self.file.encode_to_vec();
        bytes.extend(fields(&self.bytes, |number| number == COMMENTS).unwrap_or_default());
        self.bytes = bytes.into();
    }

    /// The name by which it is imported.
    pub fn name(&self) -> &str {
        self.file.name.as_deref().unwrap_or("")
    }
}

/// Comments and places of an encoded FileDescriptorProto; none if they cannot be read.
pub fn comments(file: &[u8]) -> SourceCodeInfo {
    let theirs = fields(file, |number| number == COMMENTS).unwrap_or_default();
    let file = decode(&theirs).unwrap_or_default();
    file.source_code_info.into_option().unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Result<FileDescriptorProto, SchemaError> {
    let memory_max =
        (DECODED_SIZE_FLOOR + bytes.len().saturating_mul(DECODED_SIZE_FACTOR)).min(DECODED_SIZE_MAX);
    let options = buffa::DecodeOptions::new().with_element_memory_limit(memory_max);
    options.decode_from_slice(bytes).map_err(|error| SchemaError::NotADescriptorSet(error.to_string()))
}

/// The fields of a message that are wanted, encoded; `None` if it has only such, or is none.
fn fields(message: &[u8], wanted: impl Fn(u32) -> bool) -> Option<Vec<u8>> {
    let fields = raw::fields(message).ok()?;
    if fields.iter().all(|(number, _)| wanted(*number)) {
        return None;
    }
    Some(
        fields
            .into_iter()
            .filter(|(number, _)| wanted(*number))
            .flat_map(|(_, field)| field)
            .copied()
            .collect(),
    )
}

/// The files of an encoded FileDescriptorSet.
///
/// # Errors
/// Bytes that are not one.
pub fn split(set: &Bytes) -> Result<Vec<RawFile>, SchemaError> {
    // One after the other: what is broken is refused before what follows it takes memory.
    let mut files = Vec::new();
    pieces_of(set, |bytes| {
        files.push(RawFile::decode(bytes)?);
        Ok(())
    })?;
    Ok(files)
}

/// The encoded files of an encoded FileDescriptorSet.
///
/// # Errors
/// Bytes that are not one.
pub fn pieces(set: &Bytes) -> Result<Vec<Bytes>, SchemaError> {
    let mut files = Vec::new();
    pieces_of(set, |bytes| {
        files.push(bytes);
        Ok(())
    })?;
    Ok(files)
}

fn pieces_of(set: &Bytes, mut take: impl FnMut(Bytes) -> Result<(), SchemaError>) -> Result<(), SchemaError> {
    let broken = || SchemaError::NotADescriptorSet("truncated or not protobuf".to_owned());
    let mut rest = set.clone();
    while !rest.is_empty() {
        let (tag, length) = prost::encoding::decode_varint(&mut rest)
            .and_then(|tag| Ok((tag, prost::encoding::decode_varint(&mut rest)?)))
            .map_err(|_| broken())?;
        let length = usize::try_from(length).map_err(|_| broken())?;
        // A set consists of field 1, length-delimited; nothing else has ever been in it.
        if tag != 0x0a || length > rest.len() {
            return Err(broken());
        }
        take(rest.split_to(length))?;
    }
    Ok(())
}

/// The encoded FileDescriptorSet of these encoded files.
pub fn join<'a>(files: impl Iterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut set = Vec::new();
    for file in files {
        set.push(0x0a);
        prost::encoding::encode_varint(file.len() as u64, &mut set);
        set.extend_from_slice(file);
    }
    set
}

/// Merges sources, the most trusted first.
pub fn merge(sources: Vec<Vec<RawFile>>) -> Vec<RawFile> {
    let mut merged: Vec<RawFile> = Vec::new();
    let mut names = HashSet::new();
    let mut symbols = HashSet::new();
    for source in sources {
        // Within a source nothing is dropped silently: only earlier sources win.
        let mut new_symbols = HashSet::new();
        for file in source {
            if !names.insert(file.name().to_owned()) {
                continue;
            }
            let Some(file) = without(file, &symbols) else { continue };
            new_symbols.extend(top_level_symbols(&file.file));
            merged.push(file);
        }
        symbols.extend(new_symbols);
    }
    merged
}

fn qualified(package: Option<&str>, name: Option<&str>) -> String {
    match package {
        Some(package) if !package.is_empty() => format!("{package}.{}", name.unwrap_or("")),
        _ => name.unwrap_or("").to_owned(),
    }
}

fn top_level_symbols(file: &FileDescriptorProto) -> Vec<String> {
    let package = file.package.as_deref();
    let messages = file.message_type.iter().map(|item| &item.name);
    let enums = file.enum_type.iter().map(|item| &item.name);
    let services = file.service.iter().map(|item| &item.name);
    let extensions = file.extension.iter().map(|item| &item.name);
    messages
        .chain(enums)
        .chain(services)
        .chain(extensions)
        .map(|name| qualified(package, name.as_deref()))
        .collect()
}

/// The file without the symbols that are there already; `None` if nothing is left of it.
fn without(raw: RawFile, there: &HashSet<String>) -> Option<RawFile> {
    let symbols = top_level_symbols(&raw.file);
    let known = symbols.iter().filter(|symbol| there.contains(*symbol)).count();
    if known == 0 {
        return Some(raw);
    }
    if known == symbols.len() {
        return None;
    }
    let mut file = raw.file;
    let package = file.package.clone();
    let is_new = |name: &Option<String>| !there.contains(&qualified(package.as_deref(), name.as_deref()));
    file.message_type.retain(|item| is_new(&item.name));
    file.enum_type.retain(|item| is_new(&item.name));
    file.service.retain(|item| is_new(&item.name));
    file.extension.retain(|item| is_new(&item.name));
    // Its comments are left out: their paths are indexes into the lists that shrank.
    Some(RawFile::encode(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::schema::{Schema, SchemaError};
    use crate::rpc::{Format, Payload};

    /// Everything that is done with a schema someone sent.
    fn use_all_of_it(schema: &Schema) {
        for name in schema.pool().files().iter().filter_map(|file| file.name.clone()) {
            let _ = schema.print_file(&name);
        }
        let names: Vec<String> =
            schema.pool().messages().iter().map(|message| message.full_name().to_owned()).collect();
        for name in names {
            let message = schema.message(&name).unwrap();
            let _ = message.json_schema();
            let example = message.example().to_string();
            let _ = message.convert(&Payload::json(example), Format::Proto);
            let _ = message.convert(&Payload::proto(&b"\x0a\x01a\x10\x01"[..]), Format::Json);
            let _ = schema.print_symbol(&name);
        }
    }

    #[test]
    fn many_empty_messages_are_refused_before_they_fill_the_memory() {
        // 22 00: an empty message type, in two bytes.
        let file = [0x22, 0].repeat(1 << 20);
        assert!(matches!(RawFile::decode(file.into()), Err(SchemaError::NotADescriptorSet(_))));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Schema::from_descriptor_set(&bytes);
        }

        #[test]
        fn damaged_sets_never_panic(
            edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::num::u8::ANY), 1..6),
            cut in proptest::option::of(proptest::prelude::any::<proptest::sample::Index>()),
        ) {
            let mut bytes = Schema::standard().descriptor_set();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(schema) = Schema::from_descriptor_set(&bytes) {
                use_all_of_it(&schema);
                let _ = Schema::merge(&[schema, Schema::standard().clone()]);
            }
        }
    }
}
