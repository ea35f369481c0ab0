//! Puts back into the descriptor what was taken out of the text.

use super::*;

impl Rewritten {
    /// Gives the compiled descriptor its edition back.
    pub fn restore(&self, file: &mut FileDescriptorProto) {
        for location in file.source_code_info.as_option_mut().into_iter().flat_map(|info| &mut info.location)
        {
            self.restore_span(&mut location.span);
        }
        let Some(edition) = self.edition else { return };
        file.syntax = Some("editions".to_owned());
        file.edition = Some(edition);
        if self.added_import {
            // It is the last one; nothing else counts from it.
            let last = i32::try_from(file.dependency.len()).unwrap_or(i32::MAX) - 1;
            file.dependency.pop();
            if let Some(info) = file.source_code_info.as_option_mut() {
                info.location.retain(|location| location.path != [3, last]);
                let whole = info.location.iter_mut().find(|location| location.path.is_empty());
                whole.into_iter().for_each(|location| location.span.splice(2.., self.end).for_each(drop));
            }
        }
        self.restore_option_imports(file);
        for message in &mut file.message_type {
            self.restore_message("", message);
        }
        for item in &mut file.enum_type {
            self.restore_enum("", item);
        }
    }

    fn restore_option_imports(&self, file: &mut FileDescriptorProto) {
        if self.option_imports.is_empty() {
            return;
        }
        let before = std::mem::take(&mut file.dependency);
        // public and weak dependencies are indexes into the list that shrinks.
        let mut new_index = Vec::with_capacity(before.len());
        for name in before {
            if self.option_imports.contains(&name) {
                new_index.push(None);
                file.option_dependency.push(name);
            } else {
                new_index.push(i32::try_from(file.dependency.len()).ok());
                file.dependency.push(name);
            }
        }
        let renumber =
            |index: &i32| usize::try_from(*index).ok().and_then(|i| new_index.get(i).copied().flatten());
        file.public_dependency = file.public_dependency.iter().filter_map(renumber).collect();
        file.weak_dependency = file.weak_dependency.iter().filter_map(renumber).collect();
    }

    fn restore_message(&self, scope: &str, message: &mut DescriptorProto) {
        let name = join(scope, message.name.as_deref().unwrap_or(""));
        if let Some(visibility) = self.visibility.get(&name) {
            message.visibility = Some(*visibility);
        }
        for nested in &mut message.nested_type {
            self.restore_message(&name, nested);
        }
        for nested in &mut message.enum_type {
            self.restore_enum(&name, nested);
        }
    }

    fn restore_enum(&self, scope: &str, item: &mut EnumDescriptorProto) {
        let name = join(scope, item.name.as_deref().unwrap_or(""));
        if let Some(visibility) = self.visibility.get(&name) {
            item.visibility = Some(*visibility);
        }
    }

    /// A span is [line, column, end column] or [line, column, end line, end column].
    fn restore_span(&self, span: &mut [i32]) {
        let fix = |line: i32, column: &mut i32| {
            let (Ok(line), Ok(at)) = (usize::try_from(line), usize::try_from(*column)) else { return };
            *column = i32::try_from(self.original_column(line, at)).unwrap_or(*column);
        };
        match span {
            [line, start, end] => {
                fix(*line, start);
                fix(*line, end);
            }
            [line, start, end_line, end] => {
                fix(*line, start);
                fix(*end_line, end);
            }
            _ => {}
        }
    }
}
