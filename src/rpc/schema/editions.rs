//! Editions 2023 and 2024 for a compiler that knows only proto2 and proto3.
//!
//! The text is rewritten to proto2, which accepts everything an edition may say (defaults, closed enums,
//! extension ranges) once each field has a label; after compilation the descriptor is told its edition
//! again. Features need nothing: they are ordinary options. Every edit stays within its line, so that
//! columns can be mapped back for error messages and source information.

mod restore;
mod token;

use std::collections::HashMap;

use buffa_descriptor::generated::descriptor::{
    DescriptorProto, Edition, EnumDescriptorProto, FileDescriptorProto, SymbolVisibility,
};

use super::error::Diagnostic;
use token::{Kind, Token, tokenize};

/// The file that declares the features.
pub const DESCRIPTOR: &str = "google/protobuf/descriptor.proto";

/// Nesting of brackets in a `.proto` file over which we refuse it: the compiler recurses.
const NESTING_MAX: usize = 64;

/// A rewritten file and how to undo the rewriting.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// The text to compile.
    pub text: String,
    /// The edition the text declared.
    edition: Option<Edition>,
    /// Per insertion: line (from zero), column in the original, how many bytes longer from there.
    shifts: Vec<(usize, usize, isize)>,
    /// Symbols marked `export` or `local`, by name within the package.
    visibility: HashMap<String, SymbolVisibility>,
    /// Files imported with `import option`.
    option_imports: Vec<String>,
    /// Line and column where the last token of the original ends.
    end: [i32; 2],
    /// True if descriptor.proto is imported for its newer features, and the text does not say so.
    added_import: bool,
}

impl Rewritten {
    /// True if the file declared an edition.
    pub fn is_edition(&self) -> bool {
        self.edition.is_some()
    }

    /// True if the descriptor differs from that of the original text.
    pub fn is_changed(&self) -> bool {
        self.is_edition() || !self.shifts.is_empty()
    }

    /// The original column of a column (both from zero) in the rewritten text.
    pub fn original_column(&self, line: usize, column: usize) -> usize {
        let mut shifted = 0isize;
        for &(_, at, by) in self.shifts.iter().filter(|shift| shift.0 == line) {
            let at = at.cast_signed();
            let now = column.cast_signed();
            if now < at + shifted {
                break;
            }
            // Within inserted text, the place it was inserted at is the best answer.
            if by > 0 && now < at + shifted + by {
                return at.cast_unsigned();
            }
            shifted += by;
        }
        (column.cast_signed() - shifted).max(0).cast_unsigned()
    }
}

/// Rewrites the text of a file if it declares an edition; leaves proto2 and proto3 alone.
///
/// # Errors
/// Brackets nested too deeply, an edition nobody knows, or what no edition allows.
pub fn rewrite(file: &str, text: &str) -> Result<Rewritten, Diagnostic> {
    let tokens = tokenize(text);
    let mut rewriter =
        Rewriter { file, text, tokens, at: 0, edits: Vec::new(), result: Rewritten::default() };
    rewriter.check_nesting()?;
    if rewriter.declaration()? {
        rewriter.body()?;
        rewriter.source_only();
    } else {
        rewriter.all_ranges();
    }
    Ok(rewriter.finish())
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// What a pair of braces contains.
#[derive(Clone, Debug)]
enum Scope {
    /// The file, or a message with this name within the package.
    Message(String),
    Enum,
    Oneof,
    Extend,
    Service,
}

struct Rewriter<'a> {
    file: &'a str,
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Replacements: start, end, new text. None touches another.
    edits: Vec<(usize, usize, String)>,
    result: Rewritten,
}

impl Rewriter<'_> {
    fn word(&self, ahead: usize) -> &str {
        self.word_at(self.at + ahead)
    }

    fn word_at(&self, token: usize) -> &str {
        self.tokens.get(token).map_or("", |token| self.text.get(token.start..token.end).unwrap_or(""))
    }

    fn wrong(&self, token: usize, message: impl Into<String>) -> Diagnostic {
        let start = self.tokens.get(token).map_or(self.text.len(), |token| token.start);
        let before = self.text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Diagnostic {
            file: self.file.to_owned(),
            at: Some((before.matches('\n').count() + 1, start - line_start + 1)),
            message: message.into(),
            text: self.text[line_start..].lines().next().map(str::to_owned),
            edition: self.word_at(0) == "edition",
        }
    }

    fn check_nesting(&self) -> Result<(), Diagnostic> {
        let mut depth = 0usize;
        for (index, token) in self.tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Mark) {
            match self.text.as_bytes()[token.start] {
                b'{' | b'[' | b'(' | b'<' => depth += 1,
                b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > NESTING_MAX {
                return Err(self.wrong(index, format!("nested deeper than {NESTING_MAX} levels")));
            }
        }
        Ok(())
    }

    /// `edition = "2023";` at the start: true, and it becomes proto2.
    fn declaration(&mut self) -> Result<bool, Diagnostic> {
        if self.word(0) != "edition" || self.word(1) != "=" {
            return Ok(false);
        }
        let edition = self.word(2).trim_matches(['"', '\'']).to_owned();
        self.result.added_import = true;
        self.result.edition = Some(match edition.as_str() {
            "2023" => Edition::EDITION_2023,
            "2024" => Edition::EDITION_2024,
            _ => {
                let message = format!("edition \"{edition}\" is not known here; 2023 and 2024 are");
                return Err(self.wrong(self.at + 2, message));
            }
        });
        let (keyword, value) = (self.tokens[self.at], self.tokens[self.at + 2]);
        self.edits.push((keyword.start, keyword.end, "syntax".to_owned()));
        self.edits.push((value.start, value.end, "\"proto2\"".to_owned()));
        self.skip_statement();
        Ok(true)
    }

    fn body(&mut self) -> Result<(), Diagnostic> {
        let mut scopes = vec![Scope::Message(String::new())];
        while self.at < self.tokens.len() {
            if self.word(0) == "}" {
                self.at += 1;
                scopes.pop();
            } else if self.word(0) == ";" {
                self.at += 1;
            } else if let Some(inner) = self.statement(scopes.last().cloned())? {
                scopes.push(inner);
            }
            // More closed than opened: the compiler will say so.
            if scopes.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Passes one statement, or the head of a block, whose scope it returns.
    fn statement(&mut self, scope: Option<Scope>) -> Result<Option<Scope>, Diagnostic> {
        let top = matches!(&scope, Some(Scope::Message(name)) if name.is_empty());
        let name = match &scope {
            Some(Scope::Message(name)) => name.clone(),
            _ => String::new(),
        };
        if self.word(0) == "option" {
            self.skip_statement();
            return Ok(None);
        }
        if self.word(0) == "reserved" && matches!(scope, Some(Scope::Message(_) | Scope::Enum)) {
            self.reserved();
            return Ok(None);
        }
        match scope {
            Some(Scope::Message(_)) => self.visibility(&name),
            Some(Scope::Oneof) => {
                self.no_labels()?;
                self.skip_statement();
                return Ok(None);
            }
            Some(Scope::Extend) => {
                self.field()?;
                return Ok(None);
            }
            Some(Scope::Enum | Scope::Service) | None => {
                self.skip_statement();
                return Ok(None);
            }
        }
        Ok(match self.word(0) {
            "message" => {
                let inner = join(&name, self.word(1));
                self.open_block().then_some(Scope::Message(inner))
            }
            "enum" => self.open_block().then_some(Scope::Enum),
            "extend" => self.open_block().then_some(Scope::Extend),
            "oneof" => self.open_block().then_some(Scope::Oneof),
            "service" if top => self.open_block().then_some(Scope::Service),
            "import" if top => {
                self.import();
                None
            }
            "package" if top => {
                self.skip_statement();
                None
            }
            "extensions" => {
                self.range();
                self.skip_statement();
                None
            }
            _ if top => {
                self.skip_statement();
                None
            }
            _ => {
                self.field()?;
                None
            }
        })
    }

    /// Past the next `{`; false if the statement ends without one.
    fn open_block(&mut self) -> bool {
        while self.at < self.tokens.len() {
            self.at += 1;
            match self.tokens.get(self.at - 1).map(|token| self.text.as_bytes()[token.start]) {
                Some(b'{') => return true,
                Some(b';' | b'}') => return false,
                _ => {}
            }
        }
        false
    }

    /// Past the `;` that ends the statement, or the `}` of its block.
    fn skip_statement(&mut self) {
        let mut depth = 0usize;
        let mut block = false;
        while let Some(token) = self.tokens.get(self.at) {
            let mark = if token.kind == Kind::Mark { self.text.as_bytes()[token.start] } else { 0 };
            match mark {
                b'{' => {
                    // A block, unless it is a value: `option x = {…};` and `[x = {…}]`.
                    let previous = self.at.checked_sub(1).map(|i| self.text.as_bytes()[self.tokens[i].start]);
                    block |= depth == 0 && !matches!(previous, Some(b'=' | b':'));
                    depth += 1;
                }
                b'[' | b'(' => depth += 1,
                b'}' if depth == 0 => return,
                b'}' | b']' | b')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && block {
                        self.at += 1;
                        return;
                    }
                }
                b';' if depth == 0 => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Takes out the features of source retention, wherever they are set: protoc drops them from
    /// descriptors, and the compiler has not heard of them.
    fn source_only(&mut self) {
        for at in 0..self.tokens.len() {
            if !matches!(self.word_at(at), "enforce_naming_style" | "default_symbol_visibility") {
                continue;
            }
            let before = |back: usize| at.checked_sub(back).map_or("", |at| self.word_at(at));
            let (first, is_option) = match self.word_at(at + 1) {
                // option features.NAME = VALUE; and [features.NAME = VALUE]
                "=" if before(1) == "." && before(2) == "features" => (at - 2, before(3) == "option"),
                // features = { NAME: VALUE }
                ":" => (at, false),
                _ => continue,
            };
            let last = at + 2;
            let (previous, next) =
                (first.checked_sub(1).map_or("", |at| self.word_at(at)), self.word_at(last + 1));
            let (first, last) = match (previous, next) {
                _ if is_option => (first - 1, last + 1),
                (_, "," | ";") => (first, last + 1),
                (",", _) | ("[", "]") => (first - 1, if previous == "[" { last + 1 } else { last }),
                _ => (first, last),
            };
            for index in first..=last.min(self.tokens.len() - 1) {
                self.blank(index);
            }
        }
    }

    fn blank(&mut self, index: usize) {
        let token = self.tokens[index];
        self.edits.push((token.start, token.end, " ".repeat(token.end - token.start)));
    }

    /// Editions name reserved fields without quotes, proto2 with.
    fn reserved(&mut self) {
        self.at += 1;
        while !matches!(self.word(0), "" | ";" | "}") {
            let token = self.tokens[self.at];
            let name = self.word(0).to_owned();
            let is_name = token.kind == Kind::Word && !name.starts_with(|c: char| c.is_ascii_digit());
            if is_name && !matches!(name.as_str(), "to" | "max") {
                self.edits.push((token.start, token.end, format!("\"{name}\"")));
            }
            self.at += 1;
        }
    }

    /// `extensions 5 [options];`: the compiler wants `5 to 5` in front of options.
    fn range(&mut self) {
        let list = self.tokens[self.at..].iter().take_while(|token| !self.is_mark(token, b";[}"));
        let end = self.at + list.count();
        let last = end.saturating_sub(1);
        let opens = self.tokens.get(end).is_some_and(|token| self.is_mark(token, b"["));
        if opens && !matches!(self.word_at(last.saturating_sub(1)), "to") {
            let number = self.word_at(last).to_owned();
            let at = self.tokens[last].end;
            self.edits.push((at, at, format!(" to {number}")));
        }
    }

    fn is_mark(&self, token: &Token, marks: &[u8]) -> bool {
        token.kind == Kind::Mark && marks.contains(&self.text.as_bytes()[token.start])
    }

    /// The same in files of no edition, which need no other change.
    fn all_ranges(&mut self) {
        for at in 0..self.tokens.len() {
            let is_number = self.word_at(at + 1).starts_with(|c: char| c.is_ascii_digit());
            if self.word_at(at) == "extensions" && is_number {
                self.at = at;
                self.range();
            }
        }
    }

    fn import(&mut self) {
        let imports_it = |ahead: usize| self.word(ahead).trim_matches(['"', '\'']) == DESCRIPTOR;
        if imports_it(1) || imports_it(2) {
            self.result.added_import = false;
        }
        if self.word(1) == "option" {
            let name = self.word(2).trim_matches(['"', '\'']).to_owned();
            self.result.option_imports.push(name);
            self.blank(self.at + 1);
        }
        self.skip_statement();
    }

    /// `export message`, `local enum`.
    fn visibility(&mut self, scope: &str) {
        if !matches!(self.word(1), "message" | "enum") {
            return;
        }
        let visibility = match self.word(0) {
            "export" => SymbolVisibility::VISIBILITY_EXPORT,
            "local" => SymbolVisibility::VISIBILITY_LOCAL,
            _ => return,
        };
        let name = join(scope, self.word(2));
        self.result.visibility.insert(name, visibility);
        self.blank(self.at);
        self.at += 1;
    }

    fn no_labels(&self) -> Result<(), Diagnostic> {
        match self.word(0) {
            "optional" => {
                Err(self.wrong(self.at, "editions have no 'optional': explicit presence is the default"))
            }
            "required" => Err(self.wrong(
                self.at,
                "editions have no 'required': use features.field_presence = LEGACY_REQUIRED",
            )),
            "group" => {
                Err(self.wrong(self.at, "editions have no groups: use features.message_encoding = DELIMITED"))
            }
            _ => Ok(()),
        }
    }

    fn field(&mut self) -> Result<(), Diagnostic> {
        self.no_labels()?;
        let is_map = self.word(0) == "map" && self.word(1) == "<";
        if self.word(0) != "repeated" && !is_map {
            let start = self.tokens[self.at].start;
            self.edits.push((start, start, "optional ".to_owned()));
        }
        self.skip_statement();
        Ok(())
    }

    fn finish(mut self) -> Rewritten {
        let mut text = String::with_capacity(self.text.len() + self.edits.len() * 9);
        let mut from = 0;
        let (mut line, mut line_start) = (0, 0);
        self.edits.sort_by_key(|(start, _, _)| *start);
        for (start, end, new) in &self.edits {
            let before = &self.text[from..*start];
            text.push_str(before);
            text.push_str(new);
            line += before.matches('\n').count();
            line_start = before.rfind('\n').map_or(line_start, |n| from + n + 1);
            let longer = new.len().cast_signed() - (end - start).cast_signed();
            if longer != 0 {
                let at = if start == end { *start } else { *end };
                self.result.shifts.push((line, at - line_start, longer));
            }
            from = *end;
        }
        text.push_str(&self.text[from..]);
        if self.result.added_import {
            let end = self.tokens.last().map_or(0, |token| token.end);
            let before = self.text.get(..end).unwrap_or("");
            let line_start = before.rfind('\n').map_or(0, |n| n + 1);
            self.result.end = [before.matches('\n').count(), end - line_start]
                .map(|n| i32::try_from(n).unwrap_or(i32::MAX));
            text.push_str("\nimport \"google/protobuf/descriptor.proto\";\n");
        }
        self.result.text = text;
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Rewritten {
        let mut result = rewrite("a.proto", text).unwrap();
        if let Some(text) = result.text.strip_suffix("\nimport \"google/protobuf/descriptor.proto\";\n") {
            result.text = text.to_owned();
        }
        result
    }

    #[test]
    fn other_syntaxes_are_left_alone() {
        let text = "syntax = \"proto3\"; message A { int32 a = 1; }";
        assert_eq!(rewritten(text).text, text);
        assert!(!rewritten(text).is_edition());
    }

    #[test]
    fn fields_get_a_label_where_proto2_wants_one() {
        let result = rewritten(
            "edition = \"2023\"; // c\nmessage A { int32 a = 1 [default = 3]; repeated B b = 2;\n map<string, A> m = 3; oneof o { A x = 4; } reserved foo, 5 to max; enum E { reserved bar; X = 0; } extensions 9; }\nextend A { int32 e = 9; }",
        );
        assert_eq!(
            result.text,
            "syntax = \"proto2\"; // c\nmessage A { optional int32 a = 1 [default = 3]; repeated B b = 2;\n map<string, A> m = 3; oneof o { A x = 4; } reserved \"foo\", 5 to max; enum E { reserved \"bar\"; X = 0; } extensions 9; }\nextend A { optional int32 e = 9; }"
        );
    }

    #[test]
    fn columns_map_back() {
        let text = "edition = \"2023\";\nmessage A { int32 a = 1; int32 b = 2; }";
        let result = rewritten(text);
        let new_line = result.text.lines().nth(1).unwrap();
        let old_line = text.lines().nth(1).unwrap();
        for needle in ["message", "a = 1", "b = 2", "}"] {
            let (new, old) = (new_line.find(needle).unwrap(), old_line.find(needle).unwrap());
            assert_eq!(result.original_column(1, new), old, "{needle}");
        }
        assert_eq!(result.original_column(0, result.text.find(';').unwrap()), text.find(';').unwrap());
    }

    #[test]
    fn edition_2024_words_are_taken_out_and_remembered() {
        let result = rewritten(
            "edition = \"2024\";\nimport option \"o.proto\";\noption features.enforce_naming_style = STYLE_LEGACY;\nexport message A { local enum E { X = 0; } local int32 = 1; }",
        );
        assert!(result.text.contains("import        \"o.proto\";"));
        assert!(!result.text.contains("enforce"));
        assert!(!result.text.contains("export"));
        assert_eq!(result.option_imports, ["o.proto"]);
        assert_eq!(result.visibility["A"], SymbolVisibility::VISIBILITY_EXPORT);
        assert_eq!(result.visibility["A.E"], SymbolVisibility::VISIBILITY_LOCAL);
    }

    #[test]
    fn features_of_source_retention_are_taken_out_wherever_they_are() {
        let fields = "A a = 1 [features.enforce_naming_style = X]; A b = 2 [features.enforce_naming_style = X, deprecated = true];
            A c = 3 [deprecated = true, features.enforce_naming_style = X]; A d = 4 [features = { enforce_naming_style: X }];
            A e = 5 [features = { field_presence: IMPLICIT, enforce_naming_style: X }]; extensions 6 [deprecated = true];";
        let result = rewritten(&format!("edition = \"2024\"; message A {{ {fields} }}"));
        let words: Vec<&str> = result.text.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "syntax = \"proto2\"; message A { optional A a = 1 ; optional A b = 2 [ deprecated = true]; \
             optional A c = 3 [deprecated = true ]; optional A d = 4 [features = { }]; \
             optional A e = 5 [features = { field_presence: IMPLICIT }]; extensions 6 to 6 [deprecated = true]; }"
        );
    }

    #[test]
    fn what_no_edition_allows_is_named_with_its_place() {
        let error =
            rewrite("a.proto", "edition = \"2023\";\nmessage A {\n  optional int32 a = 1;\n}").unwrap_err();
        assert_eq!(error.at, Some((3, 3)));
        assert_eq!(error.text.as_deref(), Some("  optional int32 a = 1;"));
        let error = rewrite("a.proto", "edition = \"2099\";").unwrap_err();
        assert_eq!(error.message, "edition \"2099\" is not known here; 2023 and 2024 are");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("message A {{ {} }}", "message B { ".repeat(100_000));
        assert_eq!(rewrite("a.proto", &text).unwrap_err().message, "nested deeper than 64 levels");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "(edition = \"2023\";)?[ a-z{}\\[\\]();=\"'/*\\\\<>.,0-9é\n]{0,200}") {
            if let Ok(result) = rewrite("a.proto", &text) {
                for (line, content) in result.text.lines().enumerate().take(text.lines().count()) {
                    for column in 0..content.len() {
                        proptest::prop_assert!(result.original_column(line, column) <= text.len());
                    }
                }
            }
        }
    }
}
