//! `.proto` text to descriptors: where imports are looked for, and errors that show the place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use buffa::Message as _;
use buffa_descriptor::generated::descriptor::FileDescriptorSet;
use protox::file::{File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::prost_types;
use protox::prost_reflect::prost_types::descriptor_proto::ExtensionRange;

use super::editions::{self, Rewritten};
use super::error::{Diagnostic, SchemaError};
use super::features;

/// A `.proto` file over this is refused.
const FILE_SIZE_MAX: u64 = 16 << 20;
/// A directory with more `.proto` files than this is refused.
const FILES_MAX: usize = 20_000;
/// How deep a directory is searched.
const DEPTH_MAX: usize = 32;
/// How many directories above a file are tried as its include path when none was named.
const PARENTS_MAX: usize = 8;

/// Something to compile.
#[derive(Clone, Debug)]
pub enum Input {
    /// A `.proto` file, or a directory of them.
    Path(PathBuf),
    /// Text that is no file, standard input say, with the name imports would use for it.
    Text {
        /// The name.
        name: String,
        /// The text.
        text: String,
    },
}

/// Compiles to an encoded FileDescriptorSet with all imports, comments and custom options.
///
/// Without include paths, the directory of each file is one, and if an import is missing there, the
/// directories above it are tried: `--proto api/v1/a.proto` that imports `v1/b.proto` just works.
///
/// # Errors
/// Files that cannot be read, are wrong, or import what is not there.
pub fn compile(inputs: &[Input], include_paths: &[PathBuf]) -> Result<Vec<u8>, SchemaError> {
    let inputs = expand(inputs)?;
    if !include_paths.is_empty() {
        return compile_once(&inputs, include_paths);
    }
    let mut first_error = None;
    let mut searched: Vec<PathBuf> = Vec::new();
    for level in 0..PARENTS_MAX {
        let Some(roots) = guessed_roots(&inputs, level) else { break };
        let new: Vec<PathBuf> = roots.iter().filter(|root| !searched.contains(root)).cloned().collect();
        searched.extend(new);
        match compile_once(&inputs, &roots) {
            Err(error @ SchemaError::ImportNotFound { .. }) => {
                first_error.get_or_insert(error);
            }
            other => return other,
        }
    }
    match first_error {
        Some(SchemaError::ImportNotFound { importer, import, .. }) => {
            Err(SchemaError::ImportNotFound { importer, import, searched })
        }
        Some(error) => Err(error),
        None => compile_once(&inputs, &[]),
    }
}

struct Expanded {
    input: Input,
    /// The directory that was named, if this file was found in one.
    root: Option<PathBuf>,
}

fn expand(inputs: &[Input]) -> Result<Vec<Expanded>, SchemaError> {
    let mut files = Vec::new();
    for input in inputs {
        match input {
            Input::Path(path) if path.is_dir() => {
                let before = files.len();
                walk(path, path, 0, &mut files)?;
                if files.len() == before {
                    return Err(SchemaError::EmptyDirectory(path.clone()));
                }
            }
            Input::Path(_) | Input::Text { .. } => files.push(Expanded { input: input.clone(), root: None }),
        }
    }
    Ok(files)
}

fn walk(root: &Path, directory: &Path, depth: usize, files: &mut Vec<Expanded>) -> Result<(), SchemaError> {
    let failed = |source| SchemaError::Read { path: directory.to_owned(), source };
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    entries.sort();
    for path in entries {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            if depth < DEPTH_MAX {
                walk(root, &path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(Expanded { input: Input::Path(path), root: Some(root.to_owned()) });
        }
        if files.len() > FILES_MAX {
            return Err(SchemaError::TooLarge {
                what: root.display().to_string(),
                size: files.len() as u64,
                unit: ".proto files",
                limit: FILES_MAX as u64,
            });
        }
    }
    Ok(())
}

/// The include paths to try at `level`: named directories as they are, the parents of files going up.
fn guessed_roots(inputs: &[Expanded], level: usize) -> Option<Vec<PathBuf>> {
    let mut roots: Vec<PathBuf> = Vec::new();
    let mut moved = level == 0;
    for file in inputs {
        let Input::Path(path) = &file.input else { continue };
        let base = match &file.root {
            Some(root) => root.clone(),
            None => path.parent().map_or_else(PathBuf::new, Path::to_owned),
        };
        // A relative path has no parents beyond its first part; the absolute one does.
        let absolute =
            std::path::absolute(if base.as_os_str().is_empty() { Path::new(".") } else { &base }).ok()?;
        let root = match absolute.ancestors().nth(level) {
            Some(above) if level > 0 => {
                moved = true;
                above.to_owned()
            }
            _ if base.as_os_str().is_empty() => PathBuf::from("."),
            _ => base,
        };
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    (moved && (level == 0 || !roots.is_empty())).then_some(roots)
}

fn compile_once(inputs: &[Expanded], include_paths: &[PathBuf]) -> Result<Vec<u8>, SchemaError> {
    let resolver = Resolver::default();
    let shared = Rc::clone(&resolver.shared);
    shared.borrow_mut().include_paths = include_paths.to_vec();
    let mut names = Vec::with_capacity(inputs.len());
    for file in inputs {
        names.push(match &file.input {
            Input::Text { name, text } => {
                shared.borrow_mut().texts.insert(name.clone(), text.clone());
                name.clone()
            }
            Input::Path(path) => {
                let name = import_name(path, include_paths);
                // An explicitly named file is that file, even if an earlier include path has its name.
                shared.borrow_mut().paths.insert(name.clone(), path.clone());
                name
            }
        });
    }
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    // Known inputs do not make the compiler panic, and a file must not take a server down if one does.
    let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        names.iter().try_for_each(|name| compiler.open_file(name).map(|_| ()))?;
        Ok(compiler.encode_file_descriptor_set())
    }));
    match compiled {
        Ok(Ok(bytes)) => Ok(shared.borrow().restore(bytes)),
        Ok(Err(error)) => Err(shared.borrow_mut().explain(&error)),
        Err(_) => Err(SchemaError::Link(
            "the .proto compiler gave up on these files: compile them with protoc or buf, and use --protoset"
                .to_owned(),
        )),
    }
}

/// The name by which other files would import this one.
fn import_name(path: &Path, include_paths: &[PathBuf]) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let whole = clean(&absolute(path));
    include_paths
        .iter()
        .find_map(|include| whole.strip_prefix(clean(&absolute(include))).ok().map(slashes))
        .or_else(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "input.proto".to_owned())
}

fn slashes(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Without `.` and, as far as the text tells, `..`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => cleaned.push(part),
        }
    }
    cleaned
}

/// Finds files for the compiler and keeps what is needed to explain its errors.
#[derive(Default)]
struct Resolver {
    shared: Rc<RefCell<Files>>,
}

#[derive(Default)]
struct Files {
    include_paths: Vec<PathBuf>,
    texts: HashMap<String, String>,
    paths: HashMap<String, PathBuf>,
    /// Original text and rewriting by name, of every file that was opened.
    opened: HashMap<String, (String, Rewritten)>,
    /// The first error of ours, in place of what the compiler makes of it.
    failed: Option<SchemaError>,
}

impl FileResolver for Resolver {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let mut files = self.shared.borrow_mut();
        let text = match files.find(name) {
            Ok(Some(text)) => text,
            Ok(None) => return well_known(name),
            Err(error) => return Err(files.fail(error)),
        };
        match editions::rewrite(name, &text) {
            Ok(rewritten) => {
                let parsed = File::from_source(name, &rewritten.text);
                files.opened.insert(name.to_owned(), (text, rewritten));
                parsed
            }
            Err(diagnostic) => Err(files.fail(SchemaError::Source(diagnostic))),
        }
    }
}

/// The built-in descriptor.proto is older than some features: opens the range they extend, and gives
/// `utf8_validation = NONE` the number it was released with.
fn well_known(name: &str) -> Result<File, protox::Error> {
    let file = GoogleFileResolver::new().open_file(name)?;
    if name != editions::DESCRIPTOR {
        return Ok(file);
    }
    let mut file = prost_types::FileDescriptorProto::from(file);
    if let Some(features) = file.message_type.iter_mut().find(|message| message.name() == "FeatureSet") {
        // In place of single numbers: ranges must not overlap, and Go's linker looks.
        features.extension_range.retain(|range| range.start() >= 9990);
        features.extension_range.push(ExtensionRange { start: Some(1000), end: Some(9990), options: None });
        let validation = features.enum_type.iter_mut().find(|item| item.name() == "Utf8Validation");
        for value in validation.into_iter().flat_map(|item| &mut item.value) {
            if value.name() == "NONE" {
                value.number = Some(3);
            }
        }
    }
    Ok(file.into())
}

impl Files {
    fn fail(&mut self, error: SchemaError) -> protox::Error {
        let shown = error.to_string();
        self.failed.get_or_insert(error);
        protox::Error::new(shown)
    }

    fn find(&self, name: &str) -> Result<Option<String>, SchemaError> {
        if let Some(text) = self.texts.get(name) {
            return Ok(Some(text.clone()));
        }
        if let Some(path) = self.paths.get(name) {
            return read(path).map(Some);
        }
        // The parser refuses `..` in imports; a name that is absolute must not leave the include path either.
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(None);
        }
        for include in &self.include_paths {
            let path = include.join(name);
            match read(&path) {
                Ok(text) => return Ok(Some(text)),
                Err(SchemaError::Read { source, .. }) if is_absent(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(features::text(name).map(str::to_owned))
    }

    /// Gives files of an edition their edition back.
    fn restore(&self, bytes: Vec<u8>) -> Vec<u8> {
        if !self.opened.values().any(|(_, rewritten)| rewritten.is_changed()) {
            return bytes;
        }
        let options = buffa::DecodeOptions::new().with_element_memory_limit(usize::MAX);
        let Ok(mut set) = options.decode_from_slice::<FileDescriptorSet>(&bytes) else { return bytes };
        for file in &mut set.file {
            if let Some((_, rewritten)) = file.name.as_ref().and_then(|name| self.opened.get(name)) {
                rewritten.restore(file);
            }
        }
        // It was read for what it declares; who does not import it has no use for it.
        let is_used = |name: &String| {
            self.paths.contains_key(name)
                || set
                    .file
                    .iter()
                    .any(|file| file.dependency.contains(name) || file.option_dependency.contains(name))
        };
        if !is_used(&editions::DESCRIPTOR.to_owned()) {
            set.file.retain(|file| file.name.as_deref() != Some(editions::DESCRIPTOR));
        }
        set.encode_to_vec()
    }

    fn explain(&mut self, error: &protox::Error) -> SchemaError {
        if let Some(failed) = self.failed.take() {
            return failed;
        }
        // The compiler tells places only in its Debug output: `file:line:column: message`.
        let (shown, message) = (format!("{error:?}"), error.to_string());
        let file = error.file().unwrap_or_default().to_owned();
        let at = shown.strip_prefix(&file).and_then(|rest| place(rest.strip_prefix(':')?));
        let diagnostic = self.diagnostic(file, at, message.clone());
        if let Some(import) =
            message.strip_prefix("import '").and_then(|rest| rest.strip_suffix("' not found"))
        {
            let importer = match diagnostic.at {
                Some((line, column)) => format!("{}:{line}:{column}", diagnostic.file),
                None => diagnostic.file,
            };
            return SchemaError::ImportNotFound {
                importer: Some(importer),
                import: import.to_owned(),
                searched: self.include_paths.clone(),
            };
        }
        if let Some(cycle) = message.strip_prefix("import cycle detected: ") {
            return SchemaError::ImportCycle(cycle.to_owned());
        }
        SchemaError::Source(diagnostic)
    }

    fn diagnostic(&self, file: String, at: Option<(usize, usize)>, message: String) -> Diagnostic {
        let Some((text, rewritten)) = self.opened.get(&file) else {
            return Diagnostic { file, at, message, text: None, edition: false };
        };
        let at = at.map(|(line, column)| {
            (line, rewritten.original_column(line.saturating_sub(1), column.saturating_sub(1)) + 1)
        });
        let text = at.and_then(|(line, _)| text.lines().nth(line.saturating_sub(1))).map(str::to_owned);
        Diagnostic { file, at, message, text, edition: rewritten.is_edition() }
    }
}

/// `line:column: …`
fn place(rest: &str) -> Option<(usize, usize)> {
    let mut parts = rest.splitn(3, ':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> Result<String, SchemaError> {
    let failed = |source| SchemaError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    // One byte over the limit tells that there is more, also for what has no size of its own.
    std::fs::File::open(path)
        .map_err(failed)?
        .take(FILE_SIZE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_SIZE_MAX {
        let what = path.display().to_string();
        return Err(SchemaError::TooLarge {
            what,
            size: text.len() as u64,
            unit: "bytes",
            limit: FILE_SIZE_MAX,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> Input {
        Input::Text { name: name.to_owned(), text: text.to_owned() }
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode_from_slice(bytes).unwrap();
        set.file.into_iter().filter_map(|file| file.name).collect()
    }

    #[test]
    fn an_error_shows_file_line_column_and_text() {
        let error =
            compile(&[text("a.proto", "syntax = \"proto3\";\nmessage A {\n  Bar bar = 1;\n}\n")], &[]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "a.proto:3:3: name 'Bar' is not defined\n    Bar bar = 1;\n    ^"
        );
    }

    #[test]
    fn an_error_in_an_edition_file_shows_the_place_in_the_original() {
        let source = "edition = \"2023\";\nmessage A { int32 a = 1; int32 b = 1; }\n";
        let error = compile(&[text("a.proto", source)], &[]).unwrap_err().to_string();
        let column = source.lines().nth(1).unwrap().rfind("b = 1").unwrap() + 5;
        assert!(error.starts_with(&format!("a.proto:2:{column}:")), "{error}");
    }

    #[test]
    fn a_missing_import_names_the_importer_and_what_was_searched() {
        let tree = tree(&[("a.proto", "syntax = \"proto3\";\nimport \"x/b.proto\";\n")]);
        let error =
            compile(&[Input::Path(tree.path().join("a.proto"))], &[tree.path().to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a.proto:2:1: import \"x/b.proto\" not found; searched {}", tree.path().display())
        );
    }

    #[test]
    fn directories_above_a_file_are_tried_for_its_imports() {
        let tree = tree(&[
            ("api/v1/a.proto", "syntax = \"proto3\";\nimport \"api/v1/b.proto\";\nmessage A { B b = 1; }"),
            ("api/v1/b.proto", "syntax = \"proto3\";\nmessage B {}"),
        ]);
        let bytes = compile(&[Input::Path(tree.path().join("api/v1/a.proto"))], &[]).unwrap();
        assert_eq!(names(&bytes), ["api/v1/b.proto", "api/v1/a.proto"]);
        let both = compile(&[Input::Path(tree.path().join("api"))], &[]).unwrap();
        assert_eq!(names(&both), ["api/v1/b.proto", "api/v1/a.proto"]);
    }

    #[test]
    fn a_cycle_is_named() {
        let tree = tree(&[
            ("a.proto", "syntax = \"proto3\"; import \"b.proto\";"),
            ("b.proto", "syntax = \"proto3\"; import \"a.proto\";"),
        ]);
        let error = compile(&[Input::Path(tree.path().to_owned())], &[]).unwrap_err();
        assert_eq!(error.to_string(), "import cycle: a.proto -> b.proto -> a.proto");
    }

    #[test]
    fn an_empty_directory_and_an_absent_file_are_errors() {
        let tree = tree(&[]);
        let error = compile(&[Input::Path(tree.path().to_owned())], &[]).unwrap_err();
        assert!(matches!(error, SchemaError::EmptyDirectory(_)), "{error}");
        let error = compile(&[Input::Path(tree.path().join("no.proto"))], &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("no.proto: "), "{error}");
    }

    #[test]
    fn well_known_and_feature_files_are_built_in() {
        let source = "edition = \"2023\";\nimport \"google/protobuf/timestamp.proto\";\nimport \"google/protobuf/go_features.proto\";\noption features.(pb.go).api_level = API_OPEN;\nmessage A { google.protobuf.Timestamp t = 1; }";
        let bytes = compile(&[text("a.proto", source)], &[]).unwrap();
        assert_eq!(
            names(&bytes),
            [
                "google/protobuf/timestamp.proto",
                "google/protobuf/descriptor.proto",
                "google/protobuf/go_features.proto",
                "a.proto"
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_compiler_panic(
            words in proptest::collection::vec(proptest::sample::select(&[
                "syntax", "=", "\"proto3\"", "edition", "\"2023\"", ";", "message", "A", "{", "}", "int32", "a",
                "1", "[", "]", "default", "option", "(", ")", "enum", "extend", "oneof", "map", "<", ">", ",",
                "reserved", "extensions", "to", "max", "-1", "service", "rpc", "returns", "stream", "import", "group",
                "repeated", ".", "1e400", "99999999999999999999", "\n", "package", "required", "é", "inf", "'",
            ][..]), 0..40),
        ) {
            let _ = compile(&[text("a.proto", &words.join(" "))], &[]);
        }
    }
}
