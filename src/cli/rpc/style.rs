//! Flags that say how the JSON of a message is written where the canonical form is not what is wanted.

use crate::rpc::schema::JsonOptions;

/// Deviations from protobuf's canonical JSON.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "JSON")]
pub struct JsonStyle {
    /// Also print fields that have their default value
    #[arg(hide_short_help = true, long)]
    pub emit_defaults: bool,
    /// Names of fields: json (fieldName) or proto (field_name)
    #[arg(hide_short_help = true, long, value_name = "STYLE", default_value = "json")]
    pub names: Names,
    /// 64-bit integers: string, as protobuf's JSON has it, or number
    #[arg(long, value_name = "STYLE", default_value = "string")]
    pub int64: Int64,
    /// Values of enums: name or number
    #[arg(hide_short_help = true, long, value_name = "STYLE", default_value = "name")]
    pub enums: Enums,
}

/// Names of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Names {
    /// `fieldName`
    #[value(help = "fieldName")]
    #[default]
    Json,
    /// `field_name`
    #[value(help = "field_name")]
    Proto,
}

/// 64-bit integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Int64 {
    /// Safe everywhere
    #[default]
    String,
    /// Not safe in JavaScript
    Number,
}

/// Values of enums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Enums {
    /// As declared
    #[default]
    Name,
    /// As on the wire
    Number,
}

impl JsonStyle {
    /// The same as the schema's options.
    pub fn options(&self) -> JsonOptions {
        JsonOptions {
            emit_defaults: self.emit_defaults,
            proto_names: self.names == Names::Proto,
            int64_numbers: self.int64 == Int64::Number,
            enum_numbers: self.enums == Enums::Number,
            ignore_unknown: false,
        }
    }
}
