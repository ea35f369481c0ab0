//! The services every server offers and the types every client knows: embedded, compiled beforehand.

use std::sync::OnceLock;

use bytes::Bytes;
use protox::prost_reflect::DescriptorPool;

use super::Schema;
use super::merge::{self, RawFile, split};

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

/// True if there is a [`well_known_file`] of that name. Nothing is decoded for it: every client asks.
pub fn is_well_known_file(name: &str) -> bool {
    name.starts_with("google/protobuf/")
        && (encoded(name).is_some() || DescriptorPool::global().get_file_by_name(name).is_some())
}

/// The descriptor of a `google/protobuf/….proto` file.
pub fn well_known_file(name: &str) -> Option<RawFile> {
    if !name.starts_with("google/protobuf/") {
        return None;
    }
    let bytes = match encoded(name) {
        Some(bytes) => bytes.clone(),
        None => DescriptorPool::global().get_file_by_name(name)?.encode_to_vec().into(),
    };
    RawFile::decode(bytes).ok()
}

/// The embedded file of that name, as it is.
fn encoded(name: &str) -> Option<&'static Bytes> {
    static FILES: OnceLock<Vec<Bytes>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        merge::pieces(&Bytes::from_static(COMPILED)).expect("a test splits these very bytes")
    });
    // The name is the first field: its tag and its length come before it.
    files.iter().find(|file| {
        file.get(2..2 + name.len()) == Some(name.as_bytes()) && usize::from(file[1]) == name.len()
    })
}

/// All embedded files.
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
    fn every_embedded_file_is_found_by_its_name() {
        let names: Vec<&str> = embedded().iter().map(RawFile::name).collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(encoded(name).is_some(), "{name}");
            let well_known = name.starts_with("google/protobuf/");
            assert_eq!(is_well_known_file(name), well_known, "{name}");
            assert_eq!(well_known_file(name).as_ref().map(RawFile::name), well_known.then_some(name));
        }
        assert!(is_well_known_file("google/protobuf/descriptor.proto"));
        assert!(!is_well_known_file("google/protobuf/any.prot") && !is_well_known_file("google/protobuf/"));
    }

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
            *file = RawFile::encode(std::mem::take(&mut file.file));
        }
        let fresh = super::super::merge::join(files.iter().map(|file| &file.bytes));
        let path: PathBuf = root.join("standard.binpb");
        if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
            std::fs::write(&path, &fresh).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == fresh, "run SNAPSHOTS=overwrite cargo test embedded_bytes");
        assert_eq!(Schema::standard().services().count(), 4);
    }
}
