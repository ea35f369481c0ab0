//! Descriptors back to `.proto` text: whole files, or any one symbol with its comments.

mod field;
mod options;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use buffa::Message as _;
use buffa_descriptor::DescriptorPool;
use buffa_descriptor::generated::descriptor::field_descriptor_proto::{Label, Type};
use buffa_descriptor::generated::descriptor::source_code_info::Location;
use buffa_descriptor::generated::descriptor::{
    DescriptorProto, Edition, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MethodDescriptorProto, ServiceDescriptorProto, SymbolVisibility,
};

use super::{Schema, merge};
use options::quoted;

/// Nesting over which text is cut off; names cannot nest deeper than they are long.
const NESTING_MAX: usize = 256;

impl Schema {
    /// The text of a file.
    pub fn print_file(&self, name: &str) -> Option<String> {
        let file = self.pool().file_by_name(name)?;
        let mut printer = Printer::new(self, file);
        printer.file();
        Some(printer.out)
    }

    /// The text that declares a symbol: a message, field, enum, enum value, service, method or extension,
    /// by full name, methods also with a slash. Of a field or value it is the type that has it.
    pub fn print_symbol(&self, full_name: &str) -> Option<String> {
        let name = full_name.strip_prefix('.').unwrap_or(full_name).replacen('/', ".", 1);
        let file = self.file_declaring(&name)?;
        let package = file.package.as_deref().unwrap_or("");
        let local = match package {
            "" => name.as_str(),
            _ => name.strip_prefix(package)?.strip_prefix('.')?,
        };
        let mut printer = Printer::new(self, file);
        printer.symbol(local).then_some(printer.out)
    }
}

/// Packages of the file and of those it sees: its imports, and what these import publicly.
fn visible_packages(pool: &DescriptorPool, file: &FileDescriptorProto) -> HashSet<String> {
    let mut packages = HashSet::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open = vec![(file, true)];
    while let Some((file, all)) = open.pop() {
        let package = file.package.as_deref().unwrap_or("");
        packages.extend(package.match_indices('.').map(|(at, _)| package[..at].to_owned()));
        packages.insert(package.to_owned());
        for (position, import) in file.dependency.iter().enumerate() {
            let visible = all || file.public_dependency.contains(&index(position));
            if visible && seen.insert(import) {
                open.extend(pool.file_by_name(import).map(|file| (file, false)));
            }
        }
    }
    packages
}

struct Printer<'a> {
    pool: &'a DescriptorPool,
    file: &'a FileDescriptorProto,
    comments: HashMap<Vec<i32>, Location>,
    /// Packages that names in this file can lead into, and those around them.
    packages: HashSet<String>,
    path: Vec<i32>,
    indent: usize,
    out: String,
}

fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

impl<'a> Printer<'a> {
    fn new(schema: &'a Schema, file: &'a FileDescriptorProto) -> Self {
        let info = schema.file(file.name.as_deref().unwrap_or("")).map(|file| merge::comments(file));
        let locations = info.into_iter().flat_map(|info| info.location);
        let comments = locations.map(|mut location| (std::mem::take(&mut location.path), location)).collect();
        let pool = schema.pool();
        let packages = visible_packages(pool, file);
        Self { pool, file, comments, packages, path: Vec::new(), indent: 0, out: String::new() }
    }

    fn line(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = write!(self.out, "{:1$}", "", self.indent * 2);
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Runs `print` for the element at `steps` below this one, its comments before it.
    fn at(&mut self, steps: [i32; 2], print: impl FnOnce(&mut Self)) {
        self.path.extend(steps);
        let location = self.comments.remove(&self.path);
        if let Some(location) = &location {
            for comment in &location.leading_detached_comments {
                self.comment(comment);
                self.line("");
            }
            self.comment(location.leading_comments.as_deref().unwrap_or(""));
        }
        print(self);
        if let Some(trailing) = location.and_then(|location| location.trailing_comments) {
            self.trailing(&trailing);
        }
        self.path.truncate(self.path.len() - 2);
    }

    fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(format!("//{line}").trim_end());
        }
    }

    fn trailing(&mut self, text: &str) {
        // One line fits behind a statement; behind a block, or longer, it would read as what it is not.
        let one_line = text.trim_end().lines().count() == 1;
        if one_line && self.out.ends_with(";\n") {
            self.out.pop();
            let _ = writeln!(self.out, " //{}", text.trim_end());
        }
    }

    fn file(&mut self) {
        let file = self.file;
        let syntax = match file.syntax.as_deref() {
            Some("editions") => format!("edition = \"{}\";", edition(file.edition)),
            Some(syntax) => format!("syntax = \"{syntax}\";"),
            None => "syntax = \"proto2\";".to_owned(),
        };
        self.line(&syntax);
        if let Some(package) = &file.package {
            self.line("");
            self.at_file(2, |printer| printer.line(&format!("package {package};")));
        }
        if !file.dependency.is_empty() || !file.option_dependency.is_empty() {
            self.line("");
        }
        for (position, import) in file.dependency.iter().enumerate() {
            let position = index(position);
            let kind = match () {
                () if file.public_dependency.contains(&position) => "public ",
                () if file.weak_dependency.contains(&position) => "weak ",
                () => "",
            };
            self.line(&format!("import {kind}{};", quoted(import.as_bytes())));
        }
        for import in &file.option_dependency {
            self.line(&format!("import option {};", quoted(import.as_bytes())));
        }
        if let Some(options) = file.options.as_option() {
            let options = options::texts(self.pool, "FileOptions", &options.encode_to_vec());
            if !options.is_empty() {
                self.line("");
            }
            self.option_lines(&options);
        }
        for (position, service) in file.service.iter().enumerate() {
            self.line("");
            self.at([6, index(position)], |printer| printer.service(service));
        }
        for (position, message) in file.message_type.iter().enumerate() {
            self.line("");
            self.at([4, index(position)], |printer| printer.message(message, 0));
        }
        for (position, item) in file.enum_type.iter().enumerate() {
            self.line("");
            self.at([5, index(position)], |printer| printer.enumeration(item));
        }
        self.extensions(&file.extension, &file.message_type, 7, 0);
    }

    fn at_file(&mut self, step: i32, print: impl FnOnce(&mut Self)) {
        let comment = self.comments.get(&[step][..]).and_then(|location| location.leading_comments.clone());
        self.comment(comment.as_deref().unwrap_or(""));
        print(self);
    }

    /// Prints the element with this name within the package; false if there is none.
    fn symbol(&mut self, name: &str) -> bool {
        let file = self.file;
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let named = |other: &Option<String>| other.as_deref() == Some(first);
        if let Some(position) = file.service.iter().position(|service| named(&service.name)) {
            let service = &file.service[position];
            let method =
                rest.and_then(|rest| service.method.iter().position(|m| m.name.as_deref() == Some(rest)));
            match method {
                Some(method) => {
                    self.path.extend([6, index(position)]);
                    self.at([2, index(method)], |printer| printer.method(&service.method[method]));
                }
                None => self.at([6, index(position)], |printer| printer.service(service)),
            }
            return true;
        }
        if let Some(position) = file.message_type.iter().position(|message| named(&message.name)) {
            self.path.extend([4, index(position)]);
            self.nested_symbol(&file.message_type[position], rest);
            return true;
        }
        if let Some(extension) = file.extension.iter().position(|extension| named(&extension.name)) {
            let one = std::slice::from_ref(&file.extension[extension]);
            self.extensions(one, &file.message_type, 7, extension);
            return true;
        }
        let enum_with =
            |item: &EnumDescriptorProto| named(&item.name) || item.value.iter().any(|v| named(&v.name));
        if let Some(position) = file.enum_type.iter().position(enum_with) {
            self.at([5, index(position)], |printer| printer.enumeration(&file.enum_type[position]));
            return true;
        }
        false
    }

    /// `message`, whose path is the current one, or what it contains.
    fn nested_symbol(&mut self, message: &'a DescriptorProto, rest: Option<&str>) {
        let (first, more) = match rest.map(|rest| rest.split_once('.').unwrap_or((rest, ""))) {
            Some((first, more)) => (first, more),
            None => ("", ""),
        };
        let named = |name: &Option<String>| !first.is_empty() && name.as_deref() == Some(first);
        let is_nested = |nested: &DescriptorProto| named(&nested.name) && !is_map_entry(nested);
        if let Some(position) = message.nested_type.iter().position(is_nested) {
            self.path.extend([3, index(position)]);
            self.nested_symbol(&message.nested_type[position], Some(more).filter(|more| !more.is_empty()));
            return;
        }
        let enum_with = |item: &EnumDescriptorProto| {
            named(&item.name) || item.value.iter().any(|value| named(&value.name))
        };
        if let Some(position) = message.enum_type.iter().position(enum_with) {
            self.at([4, index(position)], |printer| printer.enumeration(&message.enum_type[position]));
            return;
        }
        // The path already leads here: step back so that at() finds the comments.
        if let [.., a, b] = self.path[..] {
            self.path.truncate(self.path.len() - 2);
            self.at([a, b], |printer| printer.message(message, 0));
        }
    }

    fn block(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        let start = self.out.len();
        self.indent += 1;
        body(self);
        self.indent -= 1;
        if self.out.len() == start {
            self.out.truncate(start - 2);
            self.out.push_str("{}\n");
        } else {
            self.line("}");
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        self.block(&format!("service {}", service.name.as_deref().unwrap_or("")), |printer| {
            if let Some(options) = service.options.as_option() {
                let options = options::texts(printer.pool, "ServiceOptions", &options.encode_to_vec());
                printer.option_lines(&options);
            }
            for (position, method) in service.method.iter().enumerate() {
                printer.at([2, index(position)], |printer| printer.method(method));
            }
        });
    }

    fn method(&mut self, method: &MethodDescriptorProto) {
        let side = |streams: Option<bool>, name: &Option<String>| {
            let stream = if streams == Some(true) { "stream " } else { "" };
            format!("{stream}{}", self.type_name(name))
        };
        let head = format!(
            "rpc {}({}) returns ({})",
            method.name.as_deref().unwrap_or(""),
            side(method.client_streaming, &method.input_type),
            side(method.server_streaming, &method.output_type)
        );
        let options = method.options.as_option().map(|options| options.encode_to_vec());
        let options =
            options.map(|options| options::texts(self.pool, "MethodOptions", &options)).unwrap_or_default();
        if options.is_empty() {
            self.line(&format!("{head};"));
        } else {
            self.block(&head, |printer| printer.option_lines(&options));
        }
    }

    fn message(&mut self, message: &'a DescriptorProto, depth: usize) {
        let visibility = visibility(message.visibility);
        let head = format!("{visibility}message {}", message.name.as_deref().unwrap_or(""));
        self.block(&head, |printer| printer.message_body(message, depth));
    }

    fn message_body(&mut self, message: &'a DescriptorProto, depth: usize) {
        if depth >= NESTING_MAX {
            return;
        }
        if let Some(options) = message.options.as_option() {
            let options = options::texts(self.pool, "MessageOptions", &options.encode_to_vec());
            self.option_lines(&options);
        }
        self.reserved(message);
        let is_group = |name: &Option<String>| {
            let group = |field: &FieldDescriptorProto| {
                let type_name = field.type_name.as_deref().unwrap_or("");
                field.r#type == Some(Type::TYPE_GROUP) && type_name.rsplit('.').next() == name.as_deref()
            };
            message.field.iter().chain(&message.extension).any(group)
        };
        for (position, nested) in message.nested_type.iter().enumerate() {
            if !is_map_entry(nested) && !is_group(&nested.name) {
                self.at([3, index(position)], |printer| printer.message(nested, depth + 1));
            }
        }
        for (position, item) in message.enum_type.iter().enumerate() {
            self.at([4, index(position)], |printer| printer.enumeration(item));
        }
        let mut oneofs_done = Vec::new();
        for (position, field) in message.field.iter().enumerate() {
            let real_oneof = field.oneof_index.filter(|_| field.proto3_optional != Some(true));
            match real_oneof {
                None => self.at([2, index(position)], |printer| {
                    printer.field(field, &message.nested_type, false, depth)
                }),
                Some(oneof) if !oneofs_done.contains(&oneof) => {
                    oneofs_done.push(oneof);
                    self.oneof(message, oneof, depth);
                }
                Some(_) => {}
            }
        }
        self.extensions(&message.extension, &message.nested_type, 6, 0);
    }

    fn oneof(&mut self, message: &'a DescriptorProto, oneof: i32, depth: usize) {
        let declaration = usize::try_from(oneof).ok().and_then(|oneof| message.oneof_decl.get(oneof));
        let name = declaration.and_then(|declaration| declaration.name.as_deref()).unwrap_or("");
        // Members are fields of the message: their path is not below the oneof's.
        let comment = [&self.path[..], &[8, oneof]].concat();
        let comment =
            self.comments.get(comment.as_slice()).and_then(|location| location.leading_comments.clone());
        self.comment(comment.as_deref().unwrap_or(""));
        self.block(&format!("oneof {name}"), |printer| {
            if let Some(options) = declaration.and_then(|declaration| declaration.options.as_option()) {
                let options = options::texts(printer.pool, "OneofOptions", &options.encode_to_vec());
                printer.option_lines(&options);
            }
            for (position, field) in
                message.field.iter().enumerate().filter(|(_, f)| f.oneof_index == Some(oneof))
            {
                printer.at([2, index(position)], |printer| {
                    printer.field(field, &message.nested_type, true, depth)
                });
            }
        });
    }

    fn enumeration(&mut self, item: &EnumDescriptorProto) {
        let head = format!("{}enum {}", visibility(item.visibility), item.name.as_deref().unwrap_or(""));
        self.block(&head, |printer| {
            if let Some(options) = item.options.as_option() {
                let options = options::texts(printer.pool, "EnumOptions", &options.encode_to_vec());
                printer.option_lines(&options);
            }
            let ranges = item.reserved_range.iter().map(|range| {
                match (range.start.unwrap_or(0), range.end.unwrap_or(0)) {
                    (start, end) if start == end => start.to_string(),
                    (start, i32::MAX) => format!("{start} to max"),
                    (start, end) => format!("{start} to {end}"),
                }
            });
            let ranges: Vec<String> = ranges.collect();
            if !ranges.is_empty() {
                printer.line(&format!("reserved {};", ranges.join(", ")));
            }
            printer.reserved_names(&item.reserved_name);
            for (position, value) in item.value.iter().enumerate() {
                let options = value.options.as_option().map(|options| options.encode_to_vec());
                let options =
                    options.map(|o| options::texts(printer.pool, "EnumValueOptions", &o)).unwrap_or_default();
                let (name, number) = (value.name.as_deref().unwrap_or(""), value.number.unwrap_or(0));
                let text = format!("{name} = {number}{};", bracketed(&options));
                printer.at([2, index(position)], |printer| printer.line(&text));
            }
        });
    }

    fn option_lines(&mut self, options: &[String]) {
        for option in options {
            self.line(&format!("option {option};"));
        }
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_option().and_then(|options| options.map_entry) == Some(true)
}

fn bracketed(options: &[String]) -> String {
    if options.is_empty() { String::new() } else { format!(" [{}]", options.join(", ")) }
}

fn visibility(visibility: Option<SymbolVisibility>) -> &'static str {
    match visibility {
        Some(SymbolVisibility::VISIBILITY_EXPORT) => "export ",
        Some(SymbolVisibility::VISIBILITY_LOCAL) => "local ",
        Some(SymbolVisibility::VISIBILITY_UNSET) | None => "",
    }
}

fn edition(edition: Option<Edition>) -> &'static str {
    if edition == Some(Edition::EDITION_2024) { "2024" } else { "2023" }
}

/// The default JSON name.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            _ => {
                camel.push(if upper { c.to_ascii_uppercase() } else { c });
                upper = false;
            }
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::schema::Input;

    const PROTO2: &str = r#"syntax = "proto2";
package p.q;
import "google/protobuf/descriptor.proto";
option java_package = "x";
extend google.protobuf.MethodOptions { optional Rule rule = 50001; }
extend google.protobuf.FieldOptions { repeated int32 marks = 50002; }
message Rule { optional string get = 1; repeated Rule more = 2; map<string, int32> m = 3; extensions 100 to 199, 300 to max; }
// The service.
service S {
  // The method.
  rpc M(stream A) returns (A) { option (rule) = { get: "/a\n" more { get: "é" } m { key: "k" value: 1 } }; option deprecated = true; }
}
message A {
  option deprecated = true;
  reserved 5, 10 to 12;
  reserved "old";
  // A field.
  required int32 a = 1 [default = -3, (marks) = 1, (marks) = 2]; // behind
  optional string s = 2 [default = "q\"\\", json_name = "Sss"];
  optional bytes b = 3 [default = "\001\377"];
  optional group G = 4 { optional int32 x = 1; }
  oneof o { A c = 6; E e = 7; }
  repeated double d = 8 [packed = true];
  map<int64, A> m = 9;
  enum E { option allow_alias = true; X = 1; Y = 1 [deprecated = true]; reserved 5 to 7, 9, 20 to max; reserved "Z"; }
  optional double inf = 13 [default = inf];
  extend Rule { optional A in_rule = 150; }
}
"#;
    const EDITION: &str = r#"edition = "2024";
package e;
option features.field_presence = IMPLICIT;
export message A {
  local enum E { option features.enum_type = CLOSED; ONE = 1; }
  int32 a = 1; string s = 2 [features.field_presence = EXPLICIT]; A d = 3 [features.message_encoding = DELIMITED];
  reserved foo, bar;
}
"#;

    /// Without places, which a printer may change.
    fn bare(schema: &Schema, name: &str) -> FileDescriptorProto {
        let mut file = schema.pool().file_by_name(name).unwrap().clone();
        file.source_code_info = buffa::MessageField::none();
        file
    }

    #[track_caller]
    fn reparses(text: &str) {
        let compile = |text: &str| {
            let input = Input::Text { name: "f.proto".to_owned(), text: text.to_owned() };
            Schema::compile_inputs(&[input], &[]).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        let schema = compile(text);
        let printed = schema.print_file("f.proto").unwrap();
        let again = compile(&printed);
        assert_eq!(
            bare(&schema, "f.proto").encode_to_vec(),
            bare(&again, "f.proto").encode_to_vec(),
            "{printed}"
        );
        assert_eq!(again.print_file("f.proto").unwrap(), printed, "printing settles");
    }

    #[test]
    fn printed_files_compile_to_the_same_descriptor() {
        reparses(PROTO2);
        reparses(EDITION);
        for name in
            ["grpc/health/v1/health.proto", "google/rpc/error_details.proto", "google/protobuf/struct.proto"]
        {
            reparses(&Schema::standard().print_file(name).unwrap());
        }
    }

    #[test]
    fn names_that_something_nearer_shadows_are_written_in_full() {
        reparses(
            "syntax = \"proto3\"; package a.b; message C { message a { C c = 1; } a x = 1; .a.b.D y = 2; E e = 3; enum E { Z = 0; } }
             message D { .a.b.C.a a = 1; .a.b.C.E e = 2; message C { int32 n = 1; } .a.b.C far = 3; C near = 4; }
             message google { google self = 1; }",
        );
        reparses(
            "syntax = \"proto3\"; package x.google; import \"google/protobuf/any.proto\"; message A { .google.protobuf.Any any = 1; }",
        );
    }

    #[test]
    fn values_of_enums_are_found_in_any_scope() {
        for package in ["", "package p.q;"] {
            let text = format!(
                "syntax = \"proto3\"; {package} enum E {{ ZERO = 0; }} message M {{ enum F {{ NULL = 0; }} }}"
            );
            let input = Input::Text { name: "f.proto".to_owned(), text };
            let schema = Schema::compile_inputs(&[input], &[]).unwrap();
            let prefix = if package.is_empty() { "" } else { "p.q." };
            assert!(schema.print_symbol(&format!("{prefix}ZERO")).unwrap().starts_with("enum E {"));
            assert!(schema.print_symbol(&format!("{prefix}M.NULL")).unwrap().starts_with("enum F {"));
            assert_eq!(schema.print_symbol("NOUGHT"), None);
        }
    }

    #[test]
    fn symbols_are_printed_with_their_comments() {
        let input = Input::Text { name: "f.proto".to_owned(), text: PROTO2.to_owned() };
        let schema = Schema::compile_inputs(&[input], &[]).unwrap();
        let print = |name: &str| schema.print_symbol(name).unwrap();
        assert!(
            print("p.q.S/M").starts_with("// The method.\nrpc M(stream A) returns (A) {\n"),
            "{}",
            print("p.q.S/M")
        );
        assert!(print(".p.q.S").starts_with("// The service.\nservice S {\n  // The method.\n"));
        assert!(print("p.q.A.E").starts_with("enum E {\n  option allow_alias = true;"));
        assert!(print("p.q.A").contains("  // A field.\n  required int32 a = 1 [default = -3, (p.q.marks) = 1, (p.q.marks) = 2]; // behind\n"));
        assert_eq!(
            print("p.q.rule"),
            "extend google.protobuf.MethodOptions {\n  optional Rule rule = 50001;\n}\n"
        );
        assert_eq!(print("p.q.A.a"), print("p.q.A"));
        assert_eq!(schema.print_symbol("p.q.Nobody"), None);
    }
}
