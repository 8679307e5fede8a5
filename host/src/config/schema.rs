//! The JSON Schema of pipeline.toml, made from the raw types: committed for editors, and checked against.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::Pipeline;

/// Draft 7, which every TOML editor understands; without references,
/// so that a schema and its description stand at the path of the value they speak of.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Pipeline>().to_value();
    forget_null(&mut schema);
    schema
}

/// TOML has no null: an `Option` may be left out, that is all.
fn forget_null(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(forget_null),
        Value::Object(keywords) => {
            if keywords.get("default").is_some_and(Value::is_null) {
                keywords.shift_remove("default");
            }
            if let Some(Value::Array(types)) = keywords.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = &types[..] {
                    keywords["type"] = only.clone();
                }
            }
            if let Some(Value::Array(variants)) = keywords.get_mut("anyOf") {
                variants.retain(|v| v["type"] != "null");
                if let [Value::Object(only)] = &variants[..] {
                    let only = only.clone();
                    keywords.shift_remove("anyOf");
                    for (keyword, value) in only {
                        keywords.entry(keyword).or_insert(value);
                    }
                }
            }
            keywords.values_mut().for_each(forget_null);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
