//! Headers as they are written on the command line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::Environment;
use crate::rpc::wire::metadata;

/// Adds headers: `NAME=VALUE`, `NAME: VALUE`, or `@FILE` with one of these per line. `${VAR}` becomes the
/// variable's value. The value of a `-bin` name is base64 already, or `@FILE` whose bytes are sent.
///
/// # Errors
/// Anything else.
pub fn add(metadata: &mut HeaderMap, texts: &[String], environment: &Environment) -> Result<(), Failure> {
    for text in texts {
        match text.strip_prefix('@') {
            Some(path) => {
                let content = std::fs::read_to_string(path).map_err(|error| Failure::unread(path, &error))?;
                for line in
                    content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
                {
                    add_one(metadata, line, environment)?;
                }
            }
            None => add_one(metadata, text, environment)?,
        }
    }
    Ok(())
}

fn add_one(map: &mut HeaderMap, text: &str, environment: &Environment) -> Result<(), Failure> {
    let usage = |why: &str| {
        Failure::new(Exit::Usage, format!("{text:?} is not a header: {why}"))
            .tip("write NAME=VALUE or 'NAME: VALUE'")
    };
    let at = text.find([':', '=']).ok_or_else(|| usage("no = and no :"))?;
    let name = HeaderName::try_from(text[..at].trim())
        .map_err(|_| usage("the name has characters that no header has"))?;
    if metadata::is_reserved(&name) {
        return Err(usage("it belongs to the protocol, which sets it itself"));
    }
    let value = expand(text[at + 1..].trim(), environment)?;
    let value = match value.strip_prefix('@') {
        Some(path) if metadata::is_binary(&name) => std::fs::read(path)
            .map(|bytes| STANDARD_NO_PAD.encode(bytes))
            .map_err(|error| Failure::unread(path, &error))?,
        _ => value,
    };
    if metadata::is_binary(&name) && metadata::decode_binary(value.as_bytes()).is_none() {
        return Err(usage("values of -bin headers are base64, or @FILE"));
    }
    let value =
        HeaderValue::try_from(value).map_err(|_| usage("the value has characters that no header has"))?;
    map.try_append(name, value).map_err(|_| usage("there are too many"))?;
    Ok(())
}

/// Fills in `${VAR}`.
fn expand(text: &str, environment: &Environment) -> Result<String, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        let value = environment
            .get(name)
            .ok_or_else(|| Failure::new(Exit::Usage, format!("the environment has no variable {name}")))?;
        out.push_str(&rest[..start]);
        out.push_str(&value);
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::Fixed(std::collections::BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]))
    }

    fn added(text: &str) -> Result<(String, String), Failure> {
        let mut map = HeaderMap::new();
        add(&mut map, &[text.to_owned()], &environment())?;
        let (name, value) = map.iter().next().unwrap();
        Ok((name.to_string(), value.to_str().unwrap().to_owned()))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn both_spellings_and_variables_are_understood() {
        assert_eq!(added("a=b=c").unwrap(), pair("a", "b=c"));
        assert_eq!(added("A: b: c").unwrap(), pair("a", "b: c"));
        assert_eq!(added("authorization: Bearer ${TOKEN}").unwrap(), pair("authorization", "Bearer s3cret"));
        assert_eq!(added("x-bin=AAE").unwrap(), pair("x-bin", "AAE"));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for text in ["a", "=b", "a b=c", "grpc-timeout=1S", "x-bin=***", "x=${NOT_THERE}", "@/no/such/file"] {
            assert!(added(text).is_err(), "{text}");
        }
    }
}
