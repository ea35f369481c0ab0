//! Descriptors that servers and tools get wrong, put right where there is one way to do it.
//!
//! Known cases: type names relative to their scope and synthetic files for the well-known types
//! (@grpc/reflection over @grpc/proto-loader), imports of files that do not exist, a missing `type` of a
//! field, proto2 enums in files that say proto3, sets without their imports.

use std::collections::{HashMap, HashSet};

use buffa_descriptor::generated::descriptor::feature_set::EnumType;
use buffa_descriptor::generated::descriptor::field_descriptor_proto::Type;
use buffa_descriptor::generated::descriptor::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};

use super::merge::{self, RawFile};
use super::standard::{embedded, well_known_file};

/// Nesting of messages over which nothing is repaired: names are limited to 512 bytes anyway.
const NESTING_MAX: usize = 256;

/// What a name stands for, and in which file.
#[derive(Clone)]
struct Symbol {
    is_enum: bool,
    file: String,
}

/// Adds the well-known files that others import and that are not there.
pub fn add_well_known(mut files: Vec<RawFile>) -> Vec<RawFile> {
    let mut names: HashSet<String> = files.iter().map(|file| file.name().to_owned()).collect();
    let mut added = Vec::new();
    let mut open: Vec<String> = files.iter().flat_map(|file| file.file.dependency.clone()).collect();
    while let Some(name) = open.pop() {
        if names.contains(&name) {
            continue;
        }
        if let Some(file) = well_known_file(&name) {
            names.insert(name);
            open.extend(file.file.dependency.iter().cloned());
            added.push(file);
        }
    }
    if added.is_empty() {
        return files;
    }
    added.append(&mut files);
    added
}

/// The files as their authors must have meant them.
pub fn repair(files: Vec<RawFile>) -> Vec<RawFile> {
    // Our own copies of google.protobuf are right; take all that any of these files could mean.
    let (theirs, ours): (Vec<RawFile>, Vec<RawFile>) =
        files.into_iter().partition(|raw| raw.file.package.as_deref() != Some("google.protobuf"));
    let mut google: Vec<RawFile> = embedded()
        .iter()
        .filter(|raw| raw.file.package.as_deref() == Some("google.protobuf"))
        .cloned()
        .collect();
    google.extend(well_known_file("google/protobuf/descriptor.proto"));
    // What they have in that package and we have not (an extension of theirs, say) stays.
    let merged = merge::merge(vec![google, ours]);
    let mut files = merge::merge(vec![merged, first_of_each(theirs)]);
    let symbols = symbols(&files);
    let declaring: HashSet<&str> = symbols.values().map(|symbol| symbol.file.as_str()).collect();
    for raw in &mut files {
        if raw.file.package.as_deref() != Some("google.protobuf") {
            raw.change(|file| {
                Repair { symbols: &symbols, declaring: &declaring, used: HashSet::new() }.file(file)
            });
        }
    }
    drop_unused(files)
}

/// Each definition once, even if two files of the source have it.
fn first_of_each(files: Vec<RawFile>) -> Vec<RawFile> {
    merge::merge(files.into_iter().map(|file| vec![file]).collect())
}

/// Without the well-known files that nothing imports.
fn drop_unused(files: Vec<RawFile>) -> Vec<RawFile> {
    let by_name: HashMap<&str, &RawFile> = files.iter().map(|file| (file.name(), file)).collect();
    let is_google = |raw: &RawFile| raw.file.package.as_deref() == Some("google.protobuf");
    let mut used: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = files.iter().filter(|raw| !is_google(raw)).map(RawFile::name).collect();
    while let Some(name) = open.pop() {
        if used.insert(name) {
            open.extend(
                by_name.get(name).into_iter().flat_map(|raw| raw.file.dependency.iter().map(String::as_str)),
            );
        }
    }
    let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
    files.into_iter().filter(|raw| used.contains(raw.name())).collect()
}

fn symbols(files: &[RawFile]) -> HashMap<String, Symbol> {
    let mut symbols = HashMap::new();
    for raw in files {
        let package = raw.file.package.as_deref().unwrap_or("");
        let add_enum = |symbols: &mut HashMap<String, Symbol>, scope: &str, item: &EnumDescriptorProto| {
            let name = join(scope, item.name.as_deref().unwrap_or(""));
            symbols.insert(name, Symbol { is_enum: true, file: raw.name().to_owned() });
        };
        raw.file.enum_type.iter().for_each(|item| add_enum(&mut symbols, package, item));
        let mut open: Vec<(String, &DescriptorProto, usize)> =
            raw.file.message_type.iter().map(|message| (package.to_owned(), message, 0)).collect();
        while let Some((scope, message, depth)) = open.pop() {
            let name = join(&scope, message.name.as_deref().unwrap_or(""));
            message.enum_type.iter().for_each(|item| add_enum(&mut symbols, &name, item));
            if depth < NESTING_MAX {
                open.extend(message.nested_type.iter().map(|nested| (name.clone(), nested, depth + 1)));
            }
            symbols.insert(name, Symbol { is_enum: false, file: raw.name().to_owned() });
        }
    }
    symbols
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

struct Repair<'a> {
    symbols: &'a HashMap<String, Symbol>,
    /// Files that declare any of them.
    declaring: &'a HashSet<&'a str>,
    /// Files whose types this one uses.
    used: HashSet<String>,
}

impl Repair<'_> {
    fn file(&mut self, file: &mut FileDescriptorProto) {
        let package = file.package.clone().unwrap_or_default();
        for message in &mut file.message_type {
            self.message(&package, message, 0);
        }
        file.enum_type.iter_mut().for_each(Self::enumeration);
        for extension in &mut file.extension {
            self.field(&package, extension);
        }
        for service in &mut file.service {
            let scope = join(&package, service.name.as_deref().unwrap_or(""));
            for method in &mut service.method {
                self.name(&scope, &mut method.input_type);
                self.name(&scope, &mut method.output_type);
            }
        }
        let own = file.name.clone().unwrap_or_default();
        let imported: HashSet<&str> = file.dependency.iter().map(String::as_str).collect();
        let all_there = imported.iter().all(|import| self.declaring.contains(import));
        let nothing_lacks = self.used.iter().all(|used| *used == own || imported.contains(used.as_str()));
        if !(all_there && nothing_lacks) {
            let mut imports: Vec<String> = self.used.drain().filter(|used| *used != own).collect();
            imports.sort();
            file.dependency = imports;
            // Indexes into a list that is new.
            file.public_dependency.clear();
            file.weak_dependency.clear();
        }
    }

    fn message(&mut self, scope: &str, message: &mut DescriptorProto, depth: usize) {
        let scope = join(scope, message.name.as_deref().unwrap_or(""));
        for field in message.field.iter_mut().chain(&mut message.extension) {
            self.field(&scope, field);
        }
        message.enum_type.iter_mut().for_each(Self::enumeration);
        if depth < NESTING_MAX {
            for nested in &mut message.nested_type {
                self.message(&scope, nested, depth + 1);
            }
        }
    }

    fn field(&mut self, scope: &str, field: &mut FieldDescriptorProto) {
        self.name(scope, &mut field.extendee);
        let Some(symbol) = self.name(scope, &mut field.type_name) else { return };
        let fits = match field.r#type {
            Some(Type::TYPE_ENUM) => symbol.is_enum,
            Some(Type::TYPE_MESSAGE | Type::TYPE_GROUP) => !symbol.is_enum,
            _ => false,
        };
        if !fits {
            field.r#type = Some(if symbol.is_enum { Type::TYPE_ENUM } else { Type::TYPE_MESSAGE });
        }
    }

    /// An open enum must begin with zero. One that does not was a proto2 enum, and is closed.
    fn enumeration(item: &mut EnumDescriptorProto) {
        let starts_at_zero = item.value.first().is_none_or(|value| value.number.unwrap_or(0) == 0);
        if starts_at_zero {
            return;
        }
        let features = item.options.get_or_insert_default().features.get_or_insert_default();
        features.enum_type = Some(EnumType::CLOSED);
    }

    /// Resolves a name as the language does: in the innermost scope that has it.
    fn name(&mut self, scope: &str, name: &mut Option<String>) -> Option<Symbol> {
        let given = name.as_deref().filter(|name| !name.is_empty())?;
        let full = match given.strip_prefix('.') {
            Some(full) => full.to_owned(),
            None => {
                let mut scopes = std::iter::successors(Some(scope), |scope| match scope.rfind('.') {
                    Some(dot) => Some(&scope[..dot]),
                    None if scope.is_empty() => None,
                    None => Some(""),
                });
                scopes.find_map(|scope| {
                    let candidate = join(scope, given);
                    self.symbols.contains_key(&candidate).then_some(candidate)
                })?
            }
        };
        let symbol = self.symbols.get(&full)?.clone();
        self.used.insert(symbol.file.clone());
        *name = Some(format!(".{full}"));
        Some(symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::schema::Schema;
    use buffa_descriptor::generated::descriptor::{
        EnumValueDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
    };

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn relative_names_wrong_imports_and_closed_enums_are_repaired() {
        let color = EnumDescriptorProto {
            name: text("Color"),
            value: vec![EnumValueDescriptorProto {
                name: text("RED"),
                number: Some(1),
                ..Default::default()
            }],
            ..Default::default()
        };
        let field = |name: &str, number, kind, type_name: &str| FieldDescriptorProto {
            name: text(name),
            number: Some(number),
            r#type: kind,
            type_name: text(type_name),
            ..Default::default()
        };
        let file = FileDescriptorProto {
            name: text("demo_v1.proto"),
            package: text("demo.v1"),
            syntax: text("proto3"),
            dependency: vec!["google_protobuf.proto".to_owned()],
            message_type: vec![DescriptorProto {
                name: text("A"),
                field: vec![
                    field("color", 1, Some(Type::TYPE_ENUM), "Color"),
                    field("when", 2, None, "google.protobuf.Timestamp"),
                    field("self", 3, Some(Type::TYPE_MESSAGE), "v1.A"),
                ],
                enum_type: vec![color],
                ..Default::default()
            }],
            service: vec![ServiceDescriptorProto {
                name: text("S"),
                method: vec![MethodDescriptorProto {
                    name: text("M"),
                    input_type: text("A"),
                    output_type: text("google.protobuf.Empty"),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let google = FileDescriptorProto {
            name: text("google_protobuf.proto"),
            package: text("google.protobuf"),
            syntax: text("proto3"),
            message_type: vec![DescriptorProto { name: text("Timestamp"), ..Default::default() }],
            ..Default::default()
        };
        let files = vec![RawFile::encode(file), RawFile::encode(google)];
        let schema = Schema::link_repaired(files, &[]).unwrap();
        let names: Vec<&str> = schema.pool().files().iter().filter_map(|file| file.name.as_deref()).collect();
        assert_eq!(
            names,
            ["google/protobuf/empty.proto", "google/protobuf/timestamp.proto", "demo_v1.proto"]
        );
        let message = schema.message("demo.v1.A").unwrap();
        let json = r#"{"color":"RED","when":"2024-01-01T00:00:00Z","self":{}}"#;
        let proto = message.convert(&crate::rpc::Payload::json(json), crate::rpc::Format::Proto).unwrap();
        let back = message.convert(&crate::rpc::Payload::proto(proto), crate::rpc::Format::Json).unwrap();
        assert_eq!(back, json);
        assert_eq!(schema.file("demo_v1.proto").map(|_| ()), Some(()));
    }
}
