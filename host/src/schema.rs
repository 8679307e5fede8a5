//! JSON Schema: what a body must look like, and every way in which one doesn't.
//!
//! Configuration compiles a schema once; the plan holds it, and the ingress asks it.

use std::collections::HashMap;
use std::fmt;

use boon::{
    CompileError, Compiler, ErrorKind, InstanceLocation, InstanceToken, SchemaIndex, Schemas, ValidationError,
};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use thiserror::Error;

use crate::text::cut;

/// Bytes of a fault's detail. It quotes the body: a megabyte of it need not travel back.
const DETAIL: usize = 300;

/// A compiled schema. `format` is asserted, not only noted: whoever writes `"format": "email"` means it.
pub struct Schema {
    source: Value,
    schemas: Schemas,
    root: SchemaIndex,
}

/// One thing wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901, into the body.
    pub pointer: String,
    pub detail: String,
}

/// What found a fault, as far as that matters.
#[derive(Clone, Copy)]
enum Keyword {
    Format,
    Pattern,
    Other,
}

#[derive(Debug, Error)]
pub enum BadSchema {
    #[error("it refers to `{0}`, and nothing beyond the schema itself is read")]
    Elsewhere(String),
    /// Names each place in the schema and what is wrong there.
    #[error("{0}")]
    Unfit(String),
}

impl BadSchema {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Elsewhere(_) => {
                "copy what it refers to into the `$defs` of this file, and refer to it as `#/$defs/…`"
            }
            Self::Unfit(_) => "correct the schema at the places named",
        }
    }
}

impl Schema {
    /// Draft 2020-12 unless the schema's `$schema` says otherwise. It must be one document: references to
    /// other files or addresses are errors, nothing is fetched.
    pub fn compile(source: Value) -> Result<Self, BadSchema> {
        const URL: &str = "schema:/root";
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.use_loader(Box::new(boon::SchemeUrlLoader::new()));
        let mut schemas = Schemas::new();
        let bad = |error| match error {
            // A relative reference was resolved against the schema's own address.
            CompileError::LoadUrlError { url, .. } | CompileError::UnsupportedUrlScheme { url } => {
                BadSchema::Elsewhere(url.strip_prefix("schema:/").unwrap_or(&url).into())
            }
            // The alternate form names the places.
            error => BadSchema::Unfit(format!("{error:#}")),
        };
        compiler.add_resource(URL, source.clone()).map_err(bad)?;
        let root = compiler.compile(URL, &mut schemas).map_err(bad)?;
        Ok(Self { source, schemas, root })
    }

    /// As it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Every fault, one for each place in the body that has some, in the body's order as far as the schema's allows; empty for a valid body.
    pub fn faults(&self, body: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(error) = self.schemas.validate(body, self.root) {
            self.collect(&error, &mut faults);
        }
        one_a_pointer(faults)
    }

    fn collect(&self, error: &ValidationError<'_, '_>, faults: &mut Vec<(Fault, Keyword)>) {
        let other = |pointer, detail| (Fault { pointer, detail }, Keyword::Other);
        let at = |property: Option<&str>| pointer(&error.instance_location, property);
        match &error.kind {
            // One fault each, at the property itself.
            ErrorKind::Required { want } => {
                faults.extend(want.iter().map(|name| other(at(Some(name)), "is required".into())))
            }
            ErrorKind::AdditionalProperties { got } => faults.extend(
                got.iter().map(|name| other(at(Some(name)), "is not a property of this object".into())),
            ),
            ErrorKind::FalseSchema => {
                faults.push(other(at(None), "is not allowed here".into()));
            }
            // The faults of alternatives are no faults of the body each: only that all of them failed is.
            ErrorKind::AnyOf | ErrorKind::OneOf(None) if !error.causes.is_empty() => {
                let mut alternatives = Vec::new();
                for cause in &error.causes {
                    self.collect(cause, &mut alternatives);
                }
                let mut alternatives = one_a_pointer(alternatives);
                alternatives.truncate(8);
                let detail = alternatives
                    .iter()
                    .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                    .collect::<Vec<_>>()
                    .join("; or: ");
                faults.push(other(at(None), format!("fits none of the alternatives: {detail}")));
            }
            ErrorKind::Pattern { want, .. } => {
                let pattern = self.pattern(error.schema_url).unwrap_or(want);
                let detail = cut(&format!("does not match the pattern {pattern}"), DETAIL);
                faults.push((Fault { pointer: at(None), detail }, Keyword::Pattern));
            }
            kind if error.causes.is_empty() => {
                let keyword =
                    if matches!(kind, ErrorKind::Format { .. }) { Keyword::Format } else { Keyword::Other };
                faults.push((Fault { pointer: at(None), detail: cut(&kind.to_string(), DETAIL) }, keyword));
            }
            // A wrapper, such as `$ref` or `allOf`: its causes say it better.
            _wrapper => error.causes.iter().for_each(|cause| self.collect(cause, faults)),
        }
    }

    /// A pattern of the schema as it was written: a validator's own words have its translation.
    fn pattern(&self, schema_url: &str) -> Option<&str> {
        let (_document, pointer) = schema_url.split_once('#')?;
        let pointer = percent_decode_str(pointer).decode_utf8().ok()?;
        self.source.pointer(&pointer)?.get("pattern")?.as_str()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Fault {
    /// In a property of the body itself.
    pub fn of_property(name: &str, detail: impl Into<String>) -> Self {
        Self { pointer: format!("/{}", escaped(name)), detail: detail.into() }
    }
}

/// Joins what is wrong at one and the same place. Of a format and a pattern there, the format says it better.
fn one_a_pointer(faults: Vec<(Fault, Keyword)>) -> Vec<Fault> {
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut joined: Vec<(Fault, Keyword)> = Vec::new();
    for (fault, keyword) in faults {
        let Some(known) = at.get(&fault.pointer).map(|known| &mut joined[*known]) else {
            at.insert(fault.pointer.clone(), joined.len());
            joined.push((fault, keyword));
            continue;
        };
        match (known.1, keyword) {
            (Keyword::Format, Keyword::Pattern) => {}
            (Keyword::Pattern, Keyword::Format) => *known = (fault, keyword),
            (_, _) if known.0.detail.len() > DETAIL => {}
            (_, _) => known.0.detail = format!("{}; {}", known.0.detail, fault.detail),
        }
    }
    joined.into_iter().map(|(fault, _)| fault).collect()
}

fn pointer(location: &InstanceLocation<'_>, property: Option<&str>) -> String {
    let mut pointer = String::new();
    let mut push = |token: &str| {
        pointer.push('/');
        pointer.push_str(&escaped(token));
    };
    for token in &location.tokens {
        match token {
            InstanceToken::Prop(name) => push(name),
            InstanceToken::Item(index) => push(&index.to_string()),
        }
    }
    if let Some(name) = property {
        push(name);
    }
    pointer
}

/// A step of a pointer (RFC 6901, section 3).
fn escaped(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(schema: Value, body: Value) -> Vec<String> {
        let schema = Schema::compile(schema).unwrap();
        let mut pointers: Vec<_> = schema.faults(&body).into_iter().map(|f| f.pointer).collect();
        pointers.sort();
        pointers
    }

    #[test]
    fn every_fault_is_named_by_its_pointer() {
        let schema = json!({
            "$id": "https://example.com/thing.json",
            "type": "object",
            "required": ["id", "items"],
            "additionalProperties": false,
            "properties": {
                "id": { "type": "string" },
                "mail": { "type": "string", "format": "email" },
                "items": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/item" } },
            },
            "$defs": { "item": {
                "type": "object",
                "required": ["n"],
                "properties": { "n": { "type": "integer", "minimum": 1, "maximum": 100 } },
            } },
        });
        let body = json!({ "mail": "nobody", "items": [{ "n": 0 }, { "n": 9223372036854775808_u64 }, {}, 5], "a/b": 1 });
        assert_eq!(
            pointers(schema.clone(), body),
            ["/a~1b", "/id", "/items/0/n", "/items/1/n", "/items/2/n", "/items/3", "/mail"]
        );
        assert!(pointers(schema, json!({ "id": "x", "items": [{ "n": 1 }] })).is_empty());
    }

    #[test]
    fn a_place_has_one_fault_and_a_pattern_is_shown_as_it_was_written() {
        let schema = json!({
            "$id": "https://example.com/thing.json",
            "properties": {
                "mail": { "format": "email", "pattern": "^[^@]+@[^@]+$" },
                "c/%d": { "$ref": "#/$defs/code" },
                "n": { "minimum": 5, "multipleOf": 2 },
            },
            "$defs": { "code": { "type": "string", "pattern": "^\\d{3}$" } },
        });
        let schema = Schema::compile(schema).unwrap();
        let faults = schema.faults(&json!({ "mail": "nobody", "c/%d": "x", "n": 3 }));
        let detail = |pointer: &str| {
            let mut at = faults.iter().filter(|fault| fault.pointer == pointer);
            (at.next().map_or("", |fault| &fault.detail), at.count())
        };
        assert_eq!(detail("/c~1%d"), ("does not match the pattern ^\\d{3}$", 0));
        assert!(detail("/mail").0.contains("email") && detail("/mail").1 == 0, "{faults:?}");
        assert!(detail("/n").0.contains("; ") && detail("/n").1 == 0, "{faults:?}");
    }

    #[test]
    fn alternatives_that_all_fail_are_one_fault() {
        let schema = json!({ "anyOf": [{ "type": "string" }, { "required": ["a"], "type": "object" }] });
        assert_eq!(pointers(schema, json!(1)), [""]);
    }

    #[test]
    fn a_schema_that_is_none_is_refused_and_nothing_is_fetched() {
        assert!(Schema::compile(json!({ "type": "strnig" })).is_err());
        for place in ["https://example.com/schema.json", "file:///etc/hosts", "next-door.json"] {
            let refused = Schema::compile(json!({ "$ref": place })).err();
            assert!(matches!(&refused, Some(BadSchema::Elsewhere(to)) if to == place), "{refused:?}");
        }
    }
}
