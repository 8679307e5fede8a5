//! Promises about any pipeline.toml whatever: the loader never panics, and its structure check is as strict
//! as the schema that editors use.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{SHIPPED, parse_with};
use super::*;

/// `structure` reads these keywords; another one would be in the editors' schema and not be checked.
#[test]
fn the_schema_says_nothing_that_the_loader_would_not_check() {
    fn keywords(schema: &Value, found: &mut Vec<String>) {
        for (keyword, value) in schema.as_object().expect("a schema is a table") {
            found.push(keyword.clone());
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(|s| keywords(s, found)),
                "additionalProperties" if value.is_object() => keywords(value, found),
                "items" => keywords(value, found),
                "anyOf" => value.as_array().unwrap().iter().for_each(|s| keywords(s, found)),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    keywords(&schema(), &mut found);
    found.sort_unstable();
    found.dedup();
    let checked = ["additionalProperties", "anyOf", "enum", "items", "maximum", "minItems", "minimum"];
    let told = ["$schema", "default", "description", "format", "properties", "required", "title", "type"];
    let unknown: Vec<&String> =
        found.iter().filter(|f| ![&checked[..], &told[..]].concat().contains(&f.as_str())).collect();
    assert!(unknown.is_empty(), "teach `structure` about {unknown:?}");
}

/// A validator's verdict on the same schema.
fn satisfies_schema(value: &Value) -> bool {
    static COMPILED: LazyLock<(boon::Schemas, boon::SchemaIndex)> = LazyLock::new(|| {
        let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
        compiler.add_resource("file:///pipeline", schema()).expect("a schema");
        let index = compiler.compile("file:///pipeline", &mut schemas).expect("a sound schema");
        (schemas, index)
    });
    COMPILED.0.validate(value, COMPILED.1).is_ok()
}

/// Some value, mostly of a kind that pipeline.toml has somewhere.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0), Just(1), Just(256), Just(257), any::<i64>()].prop_map(Value::from),
        Just(json!(1.5)),
        "[a-z]{0,5}".prop_map(Value::from),
        Just(json!("forever")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("attempts|batch|backoff|[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.into());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, v)| self::places(v, &format!("{at}/{key}"), places)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| self::places(v, &format!("{at}/{i}"), places));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shipped_values() -> Value {
    let source = Arc::new(Text::new("pipeline.toml".into(), SHIPPED.into()));
    Document::parse(&source).values(&Surroundings { env: &|_| None, root: Path::new("/") })
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC*") {
        let _ = parse_with(&text, &[]);
    }

    #[test]
    fn no_change_to_a_sound_file_makes_the_loader_panic(
        at in any::<prop::sample::Index>(),
        cut in 0..40_usize,
        insert in "[\\[\\]{}\"'=,.#$\\\\\na-z0-9é -]{0,6}",
    ) {
        let chars: Vec<char> = SHIPPED.chars().collect();
        let at = at.index(chars.len());
        let after = chars.iter().skip(at + cut);
        let text: String = chars[..at].iter().copied().chain(insert.chars()).chain(after.copied()).collect();
        match parse_with(&text, &[]) {
            Ok(_) => {}
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                for error in errors.errors {
                    prop_assert!(error.span.is_none() || error.line_and_column().is_some(), "{error:?}");
                    let shown = format!("{:?}", miette::Report::new(error));
                    prop_assert!(!shown.is_empty());
                }
            }
        }
    }

    /// `structure` is as strict as the schema, and what it passes has the types' form.
    #[test]
    fn the_structure_check_and_a_validator_agree(at in any::<prop::sample::Index>(), value in any_value()) {
        let mut values = shipped_values();
        let mut all = Vec::new();
        places(&values, "", &mut all);
        *values.pointer_mut(at.get(&all[..]).as_str()).expect("a place of the value") = value;

        let source = Arc::new(Text::new("pipeline.toml".into(), String::new()));
        let mut document = Document::parse(&source);
        structure::check(&mut document, &values, &schema());
        prop_assert_eq!(!document.has_errors(), satisfies_schema(&values), "{:?}", document.problems);
        if !document.has_errors() {
            let read: Result<raw::Pipeline, _> = serde_json::from_value(values);
            prop_assert!(read.is_ok(), "{:?}", read.err());
        }
    }
}
