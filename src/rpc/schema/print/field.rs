//! Fields, ranges, and the names of types as short as they can be.

use super::*;

impl<'a> Printer<'a> {
    pub(super) fn reserved(&mut self, message: &DescriptorProto) {
        let range = |start: i32, end: i32, max: i32| match () {
            () if end == start + 1 => start.to_string(),
            () if end > max => format!("{start} to max"),
            () => format!("{start} to {}", end - 1),
        };
        let ranges = message
            .reserved_range
            .iter()
            .map(|r| range(r.start.unwrap_or(0), r.end.unwrap_or(0), 0x1fff_ffff));
        let ranges: Vec<String> = ranges.collect();
        if !ranges.is_empty() {
            self.line(&format!("reserved {};", ranges.join(", ")));
        }
        self.reserved_names(&message.reserved_name);
        for extensions in &message.extension_range {
            let text = range(extensions.start.unwrap_or(0), extensions.end.unwrap_or(0), 0x1fff_ffff);
            let options = extensions.options.as_option().map(|options| options.encode_to_vec());
            let options = options
                .map(|options| options::texts(self.pool, "ExtensionRangeOptions", &options))
                .unwrap_or_default();
            self.line(&format!("extensions {text}{};", bracketed(&options)));
        }
    }

    pub(super) fn reserved_names(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let names: Vec<String> = match self.file.syntax.as_deref() {
            Some("editions") => names.to_vec(),
            _ => names.iter().map(|name| quoted(name.as_bytes())).collect(),
        };
        self.line(&format!("reserved {};", names.join(", ")));
    }

    pub(super) fn extensions(
        &mut self,
        extensions: &'a [FieldDescriptorProto],
        types: &'a [DescriptorProto],
        step: i32,
        first: usize,
    ) {
        for (position, extension) in extensions.iter().enumerate() {
            if self.indent == 0 && !self.out.is_empty() {
                self.line("");
            }
            self.block(&format!("extend {}", self.type_name(&extension.extendee)), |printer| {
                printer
                    .at([step, index(position + first)], |printer| printer.field(extension, types, false, 0));
            });
        }
    }

    pub(super) fn field(
        &mut self,
        field: &FieldDescriptorProto,
        types: &'a [DescriptorProto],
        in_oneof: bool,
        depth: usize,
    ) {
        let nested = types.iter().find(|nested| {
            field.type_name.as_deref().and_then(|name| name.rsplit('.').next()) == nested.name.as_deref()
        });
        let map = nested.filter(|nested| is_map_entry(nested) && field.r#type == Some(Type::TYPE_MESSAGE));
        let is_proto2 = !matches!(self.file.syntax.as_deref(), Some("proto3" | "editions"));
        let label = match field.label {
            _ if in_oneof || map.is_some() => "",
            Some(Label::LABEL_REPEATED) => "repeated ",
            Some(Label::LABEL_REQUIRED) => "required ",
            _ if is_proto2 || field.proto3_optional == Some(true) => "optional ",
            _ => "",
        };
        let number = field.number.unwrap_or(0);
        let options = bracketed(&self.field_options(field));
        if let (Some(Type::TYPE_GROUP), Some(group)) = (field.r#type, nested) {
            let head = format!("{label}group {} = {number}{options}", group.name.as_deref().unwrap_or(""));
            self.block(&head, |printer| printer.message_body(group, depth + 1));
            return;
        }
        let kind = match map.map(|entry| (entry.field.first(), entry.field.get(1))) {
            Some((Some(key), Some(value))) => format!("map<{}, {}>", self.kind(key), self.kind(value)),
            _ => self.kind(field),
        };
        self.line(&format!("{label}{kind} {} = {number}{options};", field.name.as_deref().unwrap_or("")));
    }

    pub(super) fn field_options(&self, field: &FieldDescriptorProto) -> Vec<String> {
        let mut options = Vec::new();
        if let Some(default) = &field.default_value {
            options.push(match field.r#type {
                Some(Type::TYPE_STRING) => format!("default = {}", quoted(default.as_bytes())),
                // Already escaped, as descriptors have it.
                Some(Type::TYPE_BYTES) => format!("default = \"{default}\""),
                _ => format!("default = {default}"),
            });
        }
        let name = field.name.as_deref().unwrap_or("");
        if let Some(json_name) =
            field.json_name.as_deref().filter(|json| *json != camel(name) && field.extendee.is_none())
        {
            options.push(format!("json_name = {}", quoted(json_name.as_bytes())));
        }
        if let Some(given) = field.options.as_option() {
            options.extend(options::texts(self.pool, "FieldOptions", &given.encode_to_vec()));
        }
        options
    }

    pub(super) fn kind(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type {
            Some(Type::TYPE_DOUBLE) => "double",
            Some(Type::TYPE_FLOAT) => "float",
            Some(Type::TYPE_INT64) => "int64",
            Some(Type::TYPE_UINT64) => "uint64",
            Some(Type::TYPE_INT32) => "int32",
            Some(Type::TYPE_FIXED64) => "fixed64",
            Some(Type::TYPE_FIXED32) => "fixed32",
            Some(Type::TYPE_BOOL) => "bool",
            Some(Type::TYPE_STRING) => "string",
            Some(Type::TYPE_BYTES) => "bytes",
            Some(Type::TYPE_UINT32) => "uint32",
            Some(Type::TYPE_SFIXED32) => "sfixed32",
            Some(Type::TYPE_SFIXED64) => "sfixed64",
            Some(Type::TYPE_SINT32) => "sint32",
            Some(Type::TYPE_SINT64) => "sint64",
            Some(Type::TYPE_GROUP | Type::TYPE_MESSAGE | Type::TYPE_ENUM) | None => {
                return self.type_name(&field.type_name);
            }
        }
        .to_owned()
    }

    /// As short as it can be written here: without the package if it is this file's, and with a leading dot
    /// only if something nearer has the name of its first part.
    pub(super) fn type_name(&self, name: &Option<String>) -> String {
        let full = name.as_deref().unwrap_or("").trim_start_matches('.');
        let package = self.file.package.as_deref().filter(|package| !package.is_empty());
        let local = package.and_then(|package| full.strip_prefix(package)?.strip_prefix('.'));
        let scope = self.scope();
        let means_it = |text: &&str| self.resolve(text, &scope).is_none_or(|found| found == full);
        let text = local.into_iter().chain([full]).find(means_it);
        text.map_or_else(|| format!(".{full}"), str::to_owned)
    }

    /// Full name of the innermost message around what is being printed, or the package.
    pub(super) fn scope(&self) -> String {
        let mut scope = self.file.package.clone().unwrap_or_default();
        let mut messages = &self.file.message_type;
        for step in self.path.chunks(2) {
            let &[4 | 3, position] = step else { break };
            let Some(message) = usize::try_from(position).ok().and_then(|at| messages.get(at)) else { break };
            let name = message.name.as_deref().unwrap_or("");
            scope = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
            messages = &message.nested_type;
        }
        scope
    }

    /// What a relative name stands for in `scope`, by the rules of the language: the innermost scope that
    /// knows its first part decides.
    pub(super) fn resolve(&self, name: &str, scope: &str) -> Option<String> {
        let (first, rest) = name.split_once('.').map_or((name, ""), |(first, rest)| (first, rest));
        let mut scope = Some(scope);
        while let Some(current) = scope {
            let candidate = if current.is_empty() { first.to_owned() } else { format!("{current}.{first}") };
            let is_type =
                self.pool.message_index(&candidate).is_some() || self.pool.enum_index(&candidate).is_some();
            if is_type || (!rest.is_empty() && self.packages.contains(&candidate)) {
                return Some(if rest.is_empty() { candidate } else { format!("{candidate}.{rest}") });
            }
            scope = match current.rsplit_once('.') {
                Some((outer, _)) => Some(outer),
                None if current.is_empty() => None,
                None => Some(""),
            };
        }
        None
    }
}
