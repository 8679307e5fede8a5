//! JSON Schema: what a body must look like, and every way in which one doesn't.
//!
//! Configuration compiles a schema once; the plan holds it, and the ingress asks it.

use std::fmt;

use boon::{
    CompileError, Compiler, ErrorKind, InstanceLocation, InstanceToken, SchemaIndex, Schemas, ValidationError,
};
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

#[derive(Debug, Error)]
pub enum BadSchema {
    #[error("it refers to `{0}`, and nothing beyond the schema itself is read")]
    Elsewhere(String),
    /// Names each place in the schema and what is wrong there.
    #[error("{0}")]
    Unfit(String),
}

impl BadSchema {
    /// What to do about it, where there is more to say than to correct it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Elsewhere(_) => {
                Some("copy what it refers to into the `$defs` of this file, and refer to it as `#/$defs/…`")
            }
            Self::Unfit(_) => None,
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

    /// Every fault, in the body's order as far as the schema's allows; empty for a valid body.
    pub fn faults(&self, body: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(error) = self.schemas.validate(body, self.root) {
            collect(&error, &mut faults);
        }
        faults
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

fn collect(error: &ValidationError<'_, '_>, faults: &mut Vec<Fault>) {
    let at = |property: Option<&str>| pointer(&error.instance_location, property);
    match &error.kind {
        // One fault each, at the property itself.
        ErrorKind::Required { want } => faults
            .extend(want.iter().map(|name| Fault { pointer: at(Some(name)), detail: "is required".into() })),
        ErrorKind::AdditionalProperties { got } => faults.extend(got.iter().map(|name| Fault {
            pointer: at(Some(name)),
            detail: "is not a property of this object".into(),
        })),
        ErrorKind::FalseSchema => {
            faults.push(Fault { pointer: at(None), detail: "is not allowed here".into() });
        }
        // The faults of alternatives are no faults of the body each: only that all of them failed is.
        ErrorKind::AnyOf | ErrorKind::OneOf(None) if !error.causes.is_empty() => {
            let mut alternatives = Vec::new();
            for cause in &error.causes {
                collect(cause, &mut alternatives);
            }
            alternatives.truncate(8);
            let detail = alternatives
                .iter()
                .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                .collect::<Vec<_>>()
                .join("; or: ");
            faults.push(Fault {
                pointer: at(None),
                detail: format!("fits none of the alternatives: {detail}"),
            });
        }
        kind if error.causes.is_empty() => {
            faults.push(Fault { pointer: at(None), detail: cut(&kind.to_string(), DETAIL) });
        }
        // A wrapper, such as `$ref` or `allOf`: its causes say it better.
        _wrapper => error.causes.iter().for_each(|cause| collect(cause, faults)),
    }
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
