//! Where two sources define the same thing differently: what a reader of their messages would notice.
//!
//! Names of files, comments, options and the order of declarations may differ; numbers, types and kinds
//! of fields, values of enums and the types of methods may not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use buffa_descriptor::generated::descriptor::field_descriptor_proto::{Label, Type};
use buffa_descriptor::generated::descriptor::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto,
    ServiceDescriptorProto,
};

use super::merge::RawFile;

/// Nesting of messages over which nothing is compared.
const NESTING_MAX: usize = 100;

/// One definition of a file.
#[derive(Clone, Copy)]
enum Definition<'a> {
    Message(&'a DescriptorProto),
    Enum(&'a EnumDescriptorProto),
    Service(&'a ServiceDescriptorProto),
    Extension(&'a FieldDescriptorProto),
}

/// The definitions at the top of a file, by full name.
fn definitions(file: &FileDescriptorProto) -> impl Iterator<Item = (String, Definition<'_>)> {
    let package = file.package.as_deref().filter(|package| !package.is_empty());
    let full = move |name: &Option<String>| {
        let name = name.as_deref().unwrap_or("");
        package.map_or_else(|| name.to_owned(), |package| format!("{package}.{name}"))
    };
    let messages = file.message_type.iter().map(move |item| (full(&item.name), Definition::Message(item)));
    let enums = file.enum_type.iter().map(move |item| (full(&item.name), Definition::Enum(item)));
    let services = file.service.iter().map(move |item| (full(&item.name), Definition::Service(item)));
    let extensions = file.extension.iter().map(move |item| (full(&item.name), Definition::Extension(item)));
    messages.chain(enums).chain(services).chain(extensions)
}

/// What sources, the most trusted first, say differently about the same name.
pub fn conflicts(sources: &[Vec<RawFile>]) -> Vec<String> {
    let mut known: HashMap<String, (usize, Definition<'_>)> = HashMap::new();
    let mut conflicts = Vec::new();
    for (source, files) in sources.iter().enumerate() {
        for (name, definition) in files.iter().flat_map(|raw| definitions(&raw.file)) {
            match known.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert((source, definition));
                }
                Entry::Occupied(entry) if entry.get().0 < source => {
                    conflicts.extend(difference(entry.key(), entry.get().1, definition));
                }
                // Twice in one source: linking says so.
                Entry::Occupied(_) => {}
            }
        }
    }
    conflicts
}

/// The first difference between two definitions of `name`, in a sentence; `None` if they agree.
fn difference(name: &str, first: Definition<'_>, later: Definition<'_>) -> Option<String> {
    match (first, later) {
        (Definition::Message(first), Definition::Message(later)) => messages(name, first, later, 0),
        (Definition::Enum(first), Definition::Enum(later)) => enums(name, first, later),
        (Definition::Service(first), Definition::Service(later)) => services(name, first, later),
        (Definition::Extension(first), Definition::Extension(later)) => {
            let whole = |item: &FieldDescriptorProto| {
                format!(
                    "{} with number {} of {}",
                    field(item),
                    item.number.unwrap_or(0),
                    bare(&item.extendee)
                )
            };
            differ(name, &whole(first), &whole(later))
        }
        (first, later) => differ(name, word(first), word(later)),
    }
}

fn word(definition: Definition<'_>) -> &'static str {
    match definition {
        Definition::Message(_) => "a message",
        Definition::Enum(_) => "an enum",
        Definition::Service(_) => "a service",
        Definition::Extension(_) => "an extension",
    }
}

fn differ(what: &str, first: &str, later: &str) -> Option<String> {
    (first != later).then(|| format!("{what} is {first} in the first schema and {later} in a later one"))
}

fn messages(name: &str, first: &DescriptorProto, later: &DescriptorProto, depth: usize) -> Option<String> {
    let by_number: HashMap<_, _> = later.field.iter().map(|item| (item.number, item)).collect();
    let by_name: HashMap<_, _> = later.field.iter().map(|item| (&item.name, item)).collect();
    // What only one of them has is no contradiction: one is newer than the other.
    let contradicts = |item: &FieldDescriptorProto| {
        let number = item.number.unwrap_or(0);
        if let Some(other) = by_number.get(&item.number) {
            return differ(&format!("field {number} of {name}"), &field(item), &field(other));
        }
        let other = by_name.get(&item.name)?.number.unwrap_or(0);
        let what = format!("the number of {}", within(name, &item.name));
        differ(&what, &number.to_string(), &other.to_string())
    };
    let found = first.field.iter().find_map(contradicts);
    if found.is_some() || depth >= NESTING_MAX {
        return found;
    }
    let nested: HashMap<_, _> = later.nested_type.iter().map(|item| (&item.name, item)).collect();
    let enumerations: HashMap<_, _> = later.enum_type.iter().map(|item| (&item.name, item)).collect();
    let in_message = |item: &DescriptorProto| {
        messages(&within(name, &item.name), item, nested.get(&item.name)?, depth + 1)
    };
    let in_enum =
        |item: &EnumDescriptorProto| enums(&within(name, &item.name), item, enumerations.get(&item.name)?);
    first.nested_type.iter().find_map(in_message).or_else(|| first.enum_type.iter().find_map(in_enum))
}

fn within(scope: &str, name: &Option<String>) -> String {
    format!("{scope}.{}", name.as_deref().unwrap_or(""))
}

fn bare(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("").trim_start_matches('.')
}

fn field(field: &FieldDescriptorProto) -> String {
    let repeated = if field.label == Some(Label::LABEL_REPEATED) { "repeated " } else { "" };
    let name = field.name.as_deref().unwrap_or("");
    match field.r#type {
        // Groups are messages; how they are delimited is the features' to say.
        Some(Type::TYPE_MESSAGE | Type::TYPE_GROUP | Type::TYPE_ENUM) | None => {
            format!("'{repeated}{} {name}'", bare(&field.type_name))
        }
        Some(scalar) => {
            let scalar = format!("{scalar:?}").trim_start_matches("TYPE_").to_lowercase();
            format!("'{repeated}{scalar} {name}'")
        }
    }
}

fn enums(name: &str, first: &EnumDescriptorProto, later: &EnumDescriptorProto) -> Option<String> {
    let numbers: HashMap<_, _> = later.value.iter().map(|value| (&value.name, value.number)).collect();
    first.value.iter().find_map(|value| {
        let (ours, theirs) = (value.number.unwrap_or(0), numbers.get(&value.name)?.unwrap_or(0));
        let what = format!("{} of {name}", value.name.as_deref().unwrap_or(""));
        differ(&what, &ours.to_string(), &theirs.to_string())
    })
}

fn services(name: &str, first: &ServiceDescriptorProto, later: &ServiceDescriptorProto) -> Option<String> {
    let methods: HashMap<_, _> = later.method.iter().map(|method| (&method.name, method)).collect();
    first.method.iter().find_map(|method| {
        let what = format!("{name}/{}", method.name.as_deref().unwrap_or(""));
        differ(&what, &signature(method), &signature(methods.get(&method.name)?))
    })
}

fn signature(method: &MethodDescriptorProto) -> String {
    let side = |streams: Option<bool>, kind: &Option<String>| {
        let stream = if streams == Some(true) { "stream " } else { "" };
        format!("{stream}{}", bare(kind))
    };
    let request = side(method.client_streaming, &method.input_type);
    let reply = side(method.server_streaming, &method.output_type);
    format!("({request}) returns ({reply})")
}

#[cfg(test)]
mod tests {
    use crate::rpc::schema::{Input, Schema, SchemaError};

    fn schema(text: &str) -> Schema {
        let input = Input::Text { name: "a.proto".to_owned(), text: format!("syntax = \"proto3\"; {text}") };
        Schema::compile_inputs(&[input], &[]).unwrap()
    }

    fn conflict(first: &str, later: &str) -> Option<String> {
        let merged = Schema::merge(&[schema(first), schema(later)]).unwrap();
        merged.conflicts().first().cloned()
    }

    #[test]
    fn contradictions_are_named() {
        let cases = [
            (
                "message A { int32 x = 1; }",
                "message A { string x = 1; }",
                "field 1 of A is 'int32 x' in the first schema and 'string x' in a later one",
            ),
            (
                "message A { int32 x = 1; }",
                "message A { int32 x = 2; }",
                "the number of A.x is 1 in the first schema and 2 in a later one",
            ),
            (
                "message A { message B { A b = 1; } }",
                "message A { message B { repeated A b = 1; } }",
                "field 1 of A.B is 'A b' in the first schema and 'repeated A b' in a later one",
            ),
            (
                "enum E { Z = 0; X = 1; }",
                "enum E { Z = 0; X = 2; }",
                "X of E is 1 in the first schema and 2 in a later one",
            ),
            (
                "enum E { Z = 0; }",
                "message E {}",
                "E is an enum in the first schema and a message in a later one",
            ),
            (
                "message A {} service S { rpc M(A) returns (A); }",
                "message A {} service S { rpc M(A) returns (stream A); }",
                "S/M is (A) returns (A) in the first schema and (A) returns (stream A) in a later one",
            ),
        ];
        for (first, later, expected) in cases {
            assert_eq!(conflict(first, later).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_newer_version_is_no_conflict() {
        let old = "message A { int32 x = 1; } enum E { Z = 0; }";
        let new = "enum E { Z = 0; Y = 1; } /* moved */ message A { int32 y = 2; int32 x = 1 [deprecated = true]; }";
        assert_eq!(conflict(old, new), None);
        assert_eq!(conflict(new, old), None);
    }

    #[test]
    fn the_first_definition_counts() {
        let merged =
            Schema::merge(&[schema("message A { int32 x = 1; }"), schema("message A { string x = 1; }")]);
        assert!(merged.unwrap().print_symbol("A").unwrap().contains("int32 x = 1;"));
    }

    #[test]
    fn what_cannot_be_merged_is_a_conflict() {
        let with = |name: &str, text: &str| {
            let text = format!("syntax = \"proto3\"; {text}");
            Schema::compile_inputs(&[Input::Text { name: name.to_owned(), text }], &[]).unwrap()
        };
        let first = with("a.proto", "message A { int32 x = 1; }");
        let later = with("b.proto", "message A { string x = 1; message In {} } message B { A.In in = 1; }");
        match Schema::merge(&[first, later]).map(|_| ()) {
            Err(SchemaError::Conflict(text)) => {
                assert!(text.contains("field 1 of A is 'int32 x'"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
