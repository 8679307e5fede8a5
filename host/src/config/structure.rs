//! Checks the file's structure against the JSON Schema of `raw`: unknown keys, missing keys, wrong types,
//! numbers out of range, all at once and each with the key's own description as help.
//!
//! Small and its own, where a validator would do: the schema holds few keywords (a test lists them and
//! another compares the verdicts with a validator's), and here a fault becomes words for a person.

use serde_json::{Map, Value};

use super::document::Document;

pub(super) fn check(document: &mut Document, value: &Value, schema: &Value) {
    Walk { document, path: Vec::new() }.check(value, schema);
}

struct Walk<'a, 't> {
    document: &'a mut Document<'t>,
    path: Vec<String>,
}

impl Walk<'_, '_> {
    fn check(&mut self, value: &Value, schema: &Value) {
        if value.is_null() {
            return; // TOML has none: it stands for a value that is reported already.
        }
        if !has_type_of(value, schema) {
            let message = format!("expected {}, found {}", expected(schema), found(value));
            return self.fault_in_value(message, schema);
        }
        match value {
            Value::Object(table) => self.check_table(table, schema),
            Value::Array(items) => {
                if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
                    self.fault_in_value("the list is empty".into(), schema);
                }
                for (index, item) in items.iter().enumerate() {
                    self.inside(&index.to_string(), |walk| walk.check(item, &schema["items"]));
                }
            }
            Value::Number(_) | Value::String(_) => {
                if !is_in_range(value, schema) {
                    self.fault_in_value(format!("expected {}", expected(schema)), schema);
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn check_table(&mut self, table: &Map<String, Value>, schema: &Value) {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        for (key, value) in table {
            self.inside(key, |walk| match (known.get(key), &schema["additionalProperties"]) {
                (Some(schema), _) => walk.check(value, schema),
                (None, named @ Value::Object(_)) => walk.check(value, named),
                (None, _) => walk.unknown_key(key, known),
            });
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(key) {
                let help = known[key]["description"].as_str().map(one_line);
                let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
                self.document.error_at_key(&path, format!("`{key}` is missing"), help);
            }
        }
    }

    fn unknown_key(&mut self, key: &str, known: &Map<String, Value>) {
        let names = || known.keys().map(String::as_str);
        let help = match nearest(key, names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
        };
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        self.document.error_at_key(&path, format!("unknown key `{key}`"), Some(help));
    }

    fn fault_in_value(&mut self, message: String, schema: &Value) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let description = schema["description"].as_str().map(one_line);
        let help = description.unwrap_or_else(|| format!("write {} here", expected(schema)));
        self.document.error_at_value(&path, message, Some(help));
    }

    fn inside(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        self.path.push(step.into());
        check(self);
        self.path.pop();
    }
}

/// The known name that the user most likely meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn has_type_of(value: &Value, schema: &Value) -> bool {
    if let Some(variants) = schema["anyOf"].as_array() {
        return variants.iter().any(|variant| has_type_of(value, variant) && is_in_range(value, variant));
    }
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(_) | None => false,
    }
}

fn is_in_range(value: &Value, schema: &Value) -> bool {
    let word = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let least = value.as_f64().zip(schema["minimum"].as_f64()).is_none_or(|(value, least)| value >= least);
    let most = value.as_f64().zip(schema["maximum"].as_f64()).is_none_or(|(value, most)| value <= most);
    word && least && most
}

fn expected(schema: &Value) -> String {
    let or = |words: Vec<String>| words.join(" or ");
    if let Some(variants) = schema["anyOf"].as_array() {
        return or(variants.iter().map(expected).collect());
    }
    if let Some(words) = schema["enum"].as_array() {
        return or(words.iter().map(Value::to_string).collect());
    }
    match (schema["type"].as_str(), schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some("string"), _, _) => "a string".into(),
        (Some("integer"), Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
        (Some("integer"), _, _) => "a whole number".into(),
        (Some("boolean"), _, _) => "true or false".into(),
        (Some("array"), _, _) => "a list".into(),
        (Some("object"), _, _) => "a table".into(),
        (Some(_) | None, _, _) => "something else".into(),
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn one_line(description: &str) -> String {
    description.replace('\n', " ")
}
