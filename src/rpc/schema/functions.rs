//! A schema for functions that have none: text in, text out, so that any gRPC client can call them.

use std::collections::HashSet;

use buffa_descriptor::generated::descriptor::{
    FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};

use super::merge::RawFile;
use super::standard::well_known_file;
use super::{Schema, SchemaError};

/// The service that functions without a schema belong to.
pub const SERVICE: &str = "bandy.Functions";

const WRAPPERS: &str = "google/protobuf/wrappers.proto";

/// What goes in and comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// UTF-8 text, as `google.protobuf.StringValue`.
    Text,
    /// Any bytes, as `google.protobuf.BytesValue`.
    Bytes,
}

/// A function to describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, any text.
    pub name: String,
    /// What goes in and comes out.
    pub content: Content,
}

/// Describes functions as the methods of [`SERVICE`]. The second value has the method path of each
/// function, in their order: where a name is no identifier, other characters become `_`, and a number
/// is appended to what would be the same.
///
/// # Errors
/// None that the names could cause; linking is checked all the same.
pub fn describe(functions: &[Function]) -> Result<(Schema, Vec<String>), SchemaError> {
    let mut taken = HashSet::new();
    // A name that is fine as it is keeps it, whoever comes first.
    let exact: HashSet<String> =
        functions.iter().map(|f| f.name.clone()).filter(|name| identifier(name) == *name).collect();
    let mut paths = Vec::with_capacity(functions.len());
    let mut methods = Vec::with_capacity(functions.len());
    for function in functions {
        let base = identifier(&function.name);
        let is_free = |name: &String, taken: &HashSet<String>| {
            !taken.contains(name) && (*name == function.name || !exact.contains(name))
        };
        let numbered = (2u32..).map(|n| format!("{base}_{n}"));
        let method = std::iter::once(base.clone())
            .chain(numbered)
            .find(|name| is_free(name, &taken))
            .expect("there are more numbers than functions");
        taken.insert(method.clone());
        paths.push(format!("{SERVICE}/{method}"));
        let message = match function.content {
            Content::Text => ".google.protobuf.StringValue",
            Content::Bytes => ".google.protobuf.BytesValue",
        };
        methods.push(MethodDescriptorProto {
            name: Some(method),
            input_type: Some(message.to_owned()),
            output_type: Some(message.to_owned()),
            ..MethodDescriptorProto::default()
        });
    }
    let (package, service) = SERVICE.split_once('.').expect("the constant has a package");
    let file = FileDescriptorProto {
        name: Some("bandy/functions.proto".to_owned()),
        package: Some(package.to_owned()),
        dependency: vec![WRAPPERS.to_owned()],
        syntax: Some("proto3".to_owned()),
        service: vec![ServiceDescriptorProto {
            name: Some(service.to_owned()),
            method: methods,
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    let wrappers = well_known_file(WRAPPERS).expect("it is embedded");
    Ok((Schema::link(vec![wrappers, RawFile::encode(file)])?, paths))
}

/// The name as an identifier of the language.
fn identifier(name: &str) -> String {
    let mut identifier: String =
        name.chars().take(200).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !identifier.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        identifier.insert(0, '_');
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> Function {
        Function { name: name.to_owned(), content: Content::Text }
    }

    #[test]
    fn functions_become_methods_of_text() {
        let (schema, paths) =
            describe(&[text("upper"), text("to-upper"), text("to_upper"), text("2x")]).unwrap();
        let expected = [
            "bandy.Functions/upper",
            "bandy.Functions/to_upper_2",
            "bandy.Functions/to_upper",
            "bandy.Functions/_2x",
        ];
        assert_eq!(paths, expected);
        let methods: Vec<_> = schema.methods().collect();
        assert_eq!(methods.iter().map(|method| method.path.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(methods[0].input.full_name(), "google.protobuf.StringValue");
    }

    proptest::proptest! {
        #[test]
        fn any_names_link(names in proptest::collection::vec(".{0,300}", 0..8)) {
            let functions: Vec<Function> = names.iter().map(|name| text(name)).collect();
            let (_, paths) = describe(&functions).unwrap();
            let different: HashSet<&String> = paths.iter().collect();
            proptest::prop_assert_eq!(different.len(), names.len());
        }
    }
}
