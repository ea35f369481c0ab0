//! The services every server offers and the types every client knows: embedded, compiled beforehand.

use std::sync::OnceLock;

use bytes::Bytes;
use protox::prost_reflect::DescriptorPool;

use super::Schema;
use super::merge::{RawFile, split};

/// Health, reflection (both versions), statistics, status and error details, with the well-known types.
/// `src/rpc/proto` compiled; a test compares.
const COMPILED: &[u8] = include_bytes!("../proto/standard.binpb");

impl Schema {
    /// Health, reflection, statistics, google.rpc.Status and its details, and all well-known types.
    pub fn standard() -> &'static Self {
        static STANDARD: OnceLock<Schema> = OnceLock::new();
        STANDARD.get_or_init(|| Self::from_descriptor_set(COMPILED).expect("a test links these very bytes"))
    }
}

/// The descriptor of a `google/protobuf/….proto` file.
pub fn well_known_file(name: &str) -> Option<RawFile> {
    if !name.starts_with("google/protobuf/") {
        return None;
    }
    if let Some(file) = embedded().iter().find(|file| file.name() == name) {
        return Some(file.clone());
    }
    let file = DescriptorPool::global().get_file_by_name(name)?;
    RawFile::decode(file.encode_to_vec().into()).ok()
}

/// The embedded file that declares this message, enum or service.
pub fn embedded() -> &'static [RawFile] {
    static FILES: OnceLock<Vec<RawFile>> = OnceLock::new();
    FILES.get_or_init(|| split(&Bytes::from_static(COMPILED)).expect("a test splits these very bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::compile;
    use super::*;
    use std::path::{Path, PathBuf};

    #[test]
    fn embedded_bytes_are_the_compiled_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc/proto");
        let names = ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"];
        let imports: String =
            names.map(|name| format!("import \"google/protobuf/{name}.proto\";\n")).concat();
        let inputs = [
            compile::Input::Path(root.clone()),
            compile::Input::Text {
                name: "well-known".to_owned(),
                text: format!("syntax = \"proto3\";\n{imports}"),
            },
        ];
        let compiled = compile::compile(&inputs, std::slice::from_ref(&root)).unwrap();
        let mut files = split(&compiled.into()).unwrap();
        files.retain(|file| file.name() != "well-known");
        for file in &mut files {
            // Comments are for readers of the files; the binary is smaller without.
            file.file.source_code_info = buffa::MessageField::none();
            *file = RawFile::encode(std::mem::take(&mut file.file));
        }
        let fresh = super::super::merge::join(&files);
        let path: PathBuf = root.join("standard.binpb");
        if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
            std::fs::write(&path, &fresh).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == fresh, "run SNAPSHOTS=overwrite cargo test embedded_bytes");
        assert_eq!(Schema::standard().services().count(), 4);
    }
}
