//! What a server of JSON-RPC says about itself in `rpc.discover`: an OpenRPC document, looked up and shown.

use serde_json::{Map, Value, json};

use super::remote::Remote;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::Code;
use crate::rpc::client::resolve::MethodName;
use crate::rpc::jsonrpc::client as jsonrpc;

/// Types within types that an example shows.
const NESTING_MAX: usize = 6;

/// The document of one server.
pub struct Document {
    url: String,
    document: Value,
}

/// What a name means there.
pub enum Symbol<'a> {
    /// A method: its object.
    Method(&'a str, &'a Value),
    /// A type: its JSON Schema.
    Schema(&'a str, &'a Value),
}

impl Document {
    /// Asks the server.
    ///
    /// # Errors
    /// The server's, or what it says is no OpenRPC document.
    pub async fn fetch(client: &jsonrpc::Client, remote: &Remote) -> Result<Self, Failure> {
        let options = super::lookup::reflect_options(&remote.options);
        let reply = client.call("rpc.discover", None, &options).await;
        let Some(text) = reply.message else {
            if reply.ending.status.code == Code::Unimplemented {
                let message = format!("{} does not describe itself — it offers no rpc.discover", remote.url);
                return Err(Failure::new(Exit::NotFound, message)
                    .tip("name the schema: --proto FILE or --protoset FILE"));
            }
            return Err(remote.explain(None, "rpc.discover", &reply.ending).await);
        };
        let document: Value = serde_json::from_slice(&text).unwrap_or_default();
        if !document["methods"].is_array() {
            let message = format!("{}: rpc.discover answered no OpenRPC document", remote.url);
            return Err(Failure::new(Exit::Failed, message));
        }
        Ok(Self { url: remote.url.clone(), document })
    }

    /// The objects of all methods.
    pub fn methods(&self) -> impl Iterator<Item = (&str, &Value)> {
        let methods = self.document["methods"].as_array().into_iter().flatten();
        methods.filter_map(|method| Some((method["name"].as_str()?, method)))
    }

    fn schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        let schemas = self.document["components"]["schemas"].as_object().into_iter().flatten();
        schemas.map(|(name, schema)| (name.as_str(), schema))
    }

    /// The method or type of that name, or of which these are the last words.
    ///
    /// # Errors
    /// Not found: none, or several.
    pub fn find(&self, name: &str) -> Result<Symbol<'_>, Failure> {
        let wanted = MethodName::parse(name);
        let methods = self.methods().map(|(name, method)| Symbol::Method(name, method));
        let all: Vec<Symbol<'_>> =
            methods.chain(self.schemas().map(|(name, schema)| Symbol::Schema(name, schema))).collect();
        let fits = |symbol: &&Symbol<'_>| {
            let full = symbol.name();
            let ends = full.strip_suffix(name).is_some_and(|before| before.ends_with(['.', '/']));
            full == name || ends || matches!(symbol, Symbol::Method(..)) && wanted.fits(full)
        };
        let exact = all.iter().find(|symbol| symbol.name() == name);
        let found: Vec<&Symbol<'_>> = all.iter().filter(fits).collect();
        match (exact, &found[..]) {
            (Some(symbol), _) => Ok(symbol.same()),
            (None, [symbol]) => Ok(symbol.same()),
            (None, []) => {
                let message = format!("no symbol '{name}' at {}", self.url);
                let failure = Failure::new(Exit::NotFound, message);
                let last =
                    |name: &'_ str, signs: &[char]| name.rsplit(signs).next().unwrap_or_default().to_owned();
                let forms = |symbol: &Symbol<'_>| {
                    let name = symbol.name();
                    [name.to_owned(), last(name, &['.']), last(name, &['.', '/'])]
                };
                let words: Vec<String> = all.iter().flat_map(forms).collect();
                Err(match near_miss(name, words.iter().map(String::as_str)) {
                    Some(near) => failure.tip(format!("did you mean '{near}'?")),
                    None => failure.there("see its methods: bandy rpc ls"),
                })
            }
            (None, [first, ..]) => {
                let names: Vec<&str> = found.iter().map(|symbol| symbol.name()).collect();
                let message = format!("'{name}' is {} symbols: {}", names.len(), names.join(", "));
                Err(Failure::new(Exit::NotFound, message)
                    .there(format!("say which: bandy rpc info {}", first.name())))
            }
        }
    }

    /// A JSON Schema of the type, or of the parameters of a method, with the types that it refers to.
    pub fn json_schema(&self, symbol: &Symbol<'_>) -> Value {
        let mut schema = match symbol {
            Symbol::Schema(_, schema) => (*schema).clone(),
            Symbol::Method(_, method) => {
                let params = parameters(method);
                let properties: Map<String, Value> =
                    params.map(|(name, schema)| (name.to_owned(), schema.clone())).collect();
                json!({"type": "object", "properties": properties})
            }
        };
        if let (Some(object), Some(schemas)) =
            (schema.as_object_mut(), self.document["components"].get("schemas"))
        {
            object.insert("components".to_owned(), json!({ "schemas": schemas }));
        }
        schema
    }

    /// A value to fill in: of a method, its parameters.
    pub fn example(&self, symbol: &Symbol<'_>) -> Value {
        match symbol {
            Symbol::Schema(_, schema) => self.example_of(schema, 0),
            Symbol::Method(_, method) => parameters(method)
                .map(|(name, schema)| (name.to_owned(), self.example_of(schema, 0)))
                .collect(),
        }
    }

    fn example_of(&self, schema: &Value, nesting: usize) -> Value {
        if nesting > NESTING_MAX {
            return Value::Null;
        }
        if let Some(name) =
            schema["$ref"].as_str().and_then(|text| text.strip_prefix("#/components/schemas/"))
        {
            return self.example_of(&self.document["components"]["schemas"][name], nesting + 1);
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
            kind => kind.as_str().unwrap_or_default(),
        };
        match kind {
            "object" => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                properties
                    .map(|(name, schema)| (name.clone(), self.example_of(schema, nesting + 1)))
                    .collect()
            }
            "array" => json!([self.example_of(&schema["items"], nesting + 1)]),
            "integer" | "number" => json!(0),
            "boolean" => json!(false),
            "string" => json!(""),
            _ => Value::Null,
        }
    }
}

/// The named parameters of a method and their schemas.
fn parameters(method: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let params = method["params"].as_array().into_iter().flatten();
    params.filter_map(|param| Some((param["name"].as_str()?, &param["schema"])))
}

impl<'a> Symbol<'a> {
    /// Its full name.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Method(name, _) | Self::Schema(name, _) => name,
        }
    }

    /// Its definition.
    pub fn definition(&self) -> &'a Value {
        match self {
            Self::Method(_, value) | Self::Schema(_, value) => value,
        }
    }

    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Method(..) => "method",
            Self::Schema(..) => "message",
        }
    }

    fn same(&self) -> Self {
        match self {
            Self::Method(name, value) => Self::Method(name, value),
            Self::Schema(name, value) => Self::Schema(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let document = json!({
            "methods": [
                {"name": "a.S/Get", "params": [{"name": "who", "schema": {"$ref": "#/components/schemas/a.Who"}},
                                               {"name": "n", "schema": {"type": ["number", "string"]}}]},
                {"name": "b.S/Get", "params": []},
                {"name": "subtract", "params": []},
            ],
            "components": {"schemas": {"a.Who": {"type": "object", "properties": {
                "name": {"type": "string"}, "friend": {"$ref": "#/components/schemas/a.Who"},
                "mood": {"enum": ["GOOD", "BAD"]}}}}},
        });
        Document { url: "jsonrpc+tcp://h:1".to_owned(), document }
    }

    #[test]
    fn symbols_are_found_by_their_last_words() {
        let document = document();
        assert_eq!(document.find("subtract").unwrap().name(), "subtract");
        assert_eq!(document.find("Who").unwrap().kind(), "message");
        assert_eq!(document.find("a.S/Get").unwrap().name(), "a.S/Get");
        assert_eq!(document.find("a.S.Get").unwrap().name(), "a.S/Get");
        let error = document.find("Get").err().unwrap();
        assert!(error.message.contains("2 symbols"), "{error}");
        let error = document.find("substract").err().unwrap();
        assert_eq!((error.exit, error.tips), (Exit::NotFound, vec!["did you mean 'subtract'?".to_owned()]));
    }

    #[test]
    fn an_example_ends_where_types_contain_themselves() {
        let document = document();
        let example = document.example(&document.find("a.S/Get").unwrap());
        assert_eq!((&example["who"]["mood"], &example["n"]), (&json!("GOOD"), &json!(0)));
        let schema = document.json_schema(&document.find("a.S/Get").unwrap());
        assert_eq!(schema["components"]["schemas"]["a.Who"]["type"], "object");
    }
}
