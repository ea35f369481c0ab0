//! Lists: rows of named columns, in every format.

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, presets,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::terminal::escape;
use super::{Format, Printer, WriteError};

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A column: the key of the row's JSON object that it shows. Its title is the key in capitals.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The key.
    pub key: &'static str,
    /// The side.
    pub align: Align,
    /// How a person reads the value, where that differs from the value.
    pub show: Option<fn(&Value) -> String>,
}

impl Column {
    /// A column of text.
    pub const fn left(key: &'static str) -> Self {
        Self { key, align: Align::Left, show: None }
    }

    /// A column of numbers.
    pub const fn right(key: &'static str) -> Self {
        Self { key, align: Align::Right, show: None }
    }

    /// The column with its own way to show a value in a table; the other formats keep the value.
    #[must_use]
    pub const fn shown(self, show: fn(&Value) -> String) -> Self {
        Self { show: Some(show), ..self }
    }
}

/// A list being written. JSON, CSV and plain rows go out as they come; a table waits for the last.
#[must_use = "a table is written by finish"]
pub struct List<'a> {
    printer: &'a Printer,
    columns: &'a [Column],
    rows: Vec<Vec<String>>,
    number: u64,
}

impl<'a> List<'a> {
    pub(super) fn new(printer: &'a Printer, columns: &'a [Column]) -> Self {
        Self { printer, columns, rows: Vec::new(), number: 0 }
    }

    fn format(&self) -> Format {
        match &self.printer.look.format {
            Format::Auto if self.printer.is_terminal() => Format::Table,
            Format::Auto => Format::Plain,
            format => format.clone(),
        }
    }

    /// Adds a row: an object that has at least the columns' keys. JSON shows all of its keys.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn row<T: Serialize>(&mut self, row: &T) -> Result<(), WriteError> {
        self.number += 1;
        let format = self.format();
        if format == Format::Json {
            return self.printer.json(row);
        }
        let Value::Object(row) = serde_json::to_value(row).map_err(WriteError::Json)? else {
            unreachable!("a row is a struct with named fields")
        };
        match format {
            Format::Table | Format::Auto => {
                self.rows.push(self.columns.iter().map(|column| shown(column, &row)).collect());
                Ok(())
            }
            Format::Plain => self.fields(&row, b'\t', plain_cell),
            Format::Csv => {
                if self.number == 1 {
                    let titles: Vec<_> = self.columns.iter().map(|column| column.key).collect();
                    self.printer.data(|buffer| {
                        buffer.extend_from_slice(titles.join(",").as_bytes());
                        buffer.extend_from_slice(b"\r\n");
                        Ok(())
                    })?;
                }
                self.fields(&row, b',', csv_cell)
            }
            Format::Template(template) => {
                // The rows of a list have the same keys.
                if self.number == 1
                    && let Some(lacking) = template.lacking(&row)
                {
                    self.printer.note(&lacking);
                }
                self.printer.data(|buffer| {
                    template.row(&row, self.number, self.printer.foreign(), buffer);
                    Ok(())
                })
            }
            Format::Value | Format::Json => {
                let first = self.columns.first().map_or(String::new(), |column| text(row.get(column.key)));
                self.printer.line(&first)
            }
        }
    }

    fn fields(
        &self,
        row: &Map<String, Value>,
        separator: u8,
        cell: fn(&str, &mut Vec<u8>),
    ) -> Result<(), WriteError> {
        let mut line = Vec::new();
        for (n, column) in self.columns.iter().enumerate() {
            if n > 0 {
                line.push(separator);
            }
            cell(&text(row.get(column.key)), &mut line);
        }
        line.extend_from_slice(if separator == b',' { b"\r\n" } else { b"\n" });
        self.printer.bytes(&line)
    }

    /// Ends the list.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn finish(self) -> Result<(), WriteError> {
        if self.format() != Format::Table {
            return Ok(());
        }
        let width = self.printer.look.out.width;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = width {
            // Only a terminal has an edge: a pipe gets every column whole.
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if self.printer.look.out.colour {
            table.enforce_styling();
        }
        let header = self.columns.iter().map(|column| {
            // A value that is shown in another way has a unit of its own.
            let key = column.key.strip_suffix("_ms").filter(|_| column.show.is_some()).unwrap_or(column.key);
            let cell = aligned(column, key.to_uppercase());
            if self.printer.look.out.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        table.set_header(one_line(header));
        for row in self.rows {
            table.add_row(one_line(
                row.into_iter().zip(self.columns).map(|(text, column)| aligned(column, text)),
            ));
        }
        for (column, known) in table.column_iter_mut().zip(self.columns) {
            // Two spaces between columns, none before the first.
            column.set_padding((0, 2));
            // Part of a number is another number: text gives way.
            if known.align == Align::Right {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        for line in table.lines() {
            let line = line.trim_end();
            self.printer.data(|buffer| {
                // Cells are escaped already; what is left in colour is ours.
                buffer.extend_from_slice(line.as_bytes());
                buffer.push(b'\n');
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Keys and values of one object. A list of one row where that is what the format wants.
pub(super) fn object<T: Serialize>(printer: &Printer, value: &T) -> Result<(), WriteError> {
    if printer.look.format == Format::Json {
        return printer.json(value);
    }
    let Value::Object(object) = serde_json::to_value(value).map_err(WriteError::Json)? else {
        unreachable!("an object is a struct with named fields")
    };
    let mut list = List::new(printer, OBJECT);
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        list.row(&KeyValue { key, value: text(Some(value)) })?;
    }
    list.finish()
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'a str,
    value: String,
}

const OBJECT: &[Column] = &[Column::left("key"), Column::left("value")];

fn one_line(cells: impl Iterator<Item = Cell>) -> Row {
    let mut row = Row::from(cells.collect::<Vec<_>>());
    row.max_height(1);
    row
}

fn aligned(column: &Column, text: String) -> Cell {
    Cell::new(text).set_alignment(match column.align {
        Align::Left => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    })
}

fn shown(column: &Column, row: &Map<String, Value>) -> String {
    let text = match (column.show, row.get(column.key)) {
        (Some(show), Some(value)) => show(value),
        (_, value) => text(value),
    };
    let mut cell = Vec::new();
    escape(text.as_bytes(), &mut cell);
    String::from_utf8_lossy(&cell).replace('\n', "\\n").replace('\t', "\\t")
}

/// What stands in a cell: strings bare, nothing for null, lists with commas, objects as `a=b` pairs.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| text(Some(item))).collect::<Vec<_>>().join(","),
        Some(Value::Object(map)) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}={}", text(Some(value))));
            pairs.collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// A tab or newline in a cell must not make another cell or line.
pub(super) fn plain_cell(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.push(byte),
        }
    }
}

/// RFC 4180: a cell with a comma, quote or line break stands in quotes.
pub(super) fn csv_cell(text: &str, out: &mut Vec<u8>) {
    if !text.contains([',', '"', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::tests::printer;
    use super::*;

    #[derive(Serialize)]
    struct View {
        name: &'static str,
        id: u32,
        tags: Vec<&'static str>,
    }

    const COLUMNS: &[Column] = &[Column::left("name"), Column::right("id"), Column::left("tags")];

    fn list(format: Format, width: Option<u16>) -> String {
        let (printer, out, _) = printer(format, width);
        let mut list = printer.list(COLUMNS);
        list.row(&View { name: "a,\"b\"\n", id: 7, tags: vec!["x", "y"] }).unwrap();
        list.row(&View { name: "long name", id: 1234, tags: vec![] }).unwrap();
        list.finish().unwrap();
        printer.flush().unwrap();
        out.text()
    }

    #[test]
    fn a_list_in_every_format() {
        let template = crate::output::Template::parse("%n %{name}", || jiff::tz::TimeZone::UTC).unwrap();
        assert_eq!(list(Format::Template(template.into()), None), "1 a,\"b\"\n\n2 long name\n");
        assert_eq!(list(Format::Auto, None), "a,\"b\"\\n\t7\tx,y\nlong name\t1234\t\n");
        assert_eq!(list(Format::Auto, Some(80)), list(Format::Table, None));
        assert_eq!(
            list(Format::Table, None),
            "NAME         ID  TAGS\na,\"b\"\\n       7  x,y\nlong name  1234\n"
        );
        assert_eq!(
            list(Format::Csv, None),
            "name,id,tags\r\n\"a,\"\"b\"\"\n\",7,\"x,y\"\r\nlong name,1234,\r\n"
        );
        assert_eq!(list(Format::Value, None), "a,\"b\"\n\nlong name\n");
        assert_eq!(
            list(Format::Json, None),
            "{\"name\":\"a,\\\"b\\\"\\n\",\"id\":7,\"tags\":[\"x\",\"y\"]}\n{\"name\":\"long name\",\"id\":1234,\"tags\":[]}\n"
        );
    }

    #[test]
    fn a_misspelt_field_of_a_template_is_told_once() {
        let said = |text: &str| {
            let template = crate::output::Template::parse(text, || jiff::tz::TimeZone::UTC).unwrap();
            let (printer, _, err) = printer(Format::Template(template.into()), None);
            let mut list = printer.list(COLUMNS);
            list.row(&View { name: "a", id: 7, tags: vec![] }).unwrap();
            list.row(&View { name: "b", id: 8, tags: vec![] }).unwrap();
            list.finish().unwrap();
            err.text()
        };
        assert_eq!(said("%{nam}"), "no field 'nam' in these rows; did you mean %{name}?\n");
        assert_eq!(said("%{name}"), "");
        for (letter, told) in
            [("%k", "%k"), ("%s", "%v (%s)"), ("%t", "%t"), ("%p", "%p"), ("%o", "%o"), ("%e", "%e")]
        {
            assert_eq!(
                said(letter),
                format!("these rows have no {told}; they have %{{name}} %{{id}} %{{tags}}\n")
            );
        }
        // Some fields are there only at times.
        assert_eq!(said("%{error}"), "");
    }

    #[test]
    fn text_is_cut_before_numbers() {
        let (printer, out, _) = printer(Format::Auto, Some(20));
        let mut list = printer.list(COLUMNS);
        list.row(&View { name: "a name that is long", id: 1_234_567_890, tags: vec!["more", "text"] })
            .unwrap();
        list.finish().unwrap();
        printer.flush().unwrap();
        let table = out.text();
        assert!(table.contains("1234567890") && table.contains('…'), "{table}");
        assert_eq!(table.lines().count(), 2, "{table}");
    }

    #[test]
    fn only_a_terminal_cuts_columns() {
        let narrow = list(Format::Auto, Some(16));
        assert!(narrow.lines().all(|line| line.chars().count() <= 16), "{narrow}");
        assert!(narrow.contains('…'), "{narrow}");
        assert_eq!(narrow.lines().count(), 3);
    }
}
