//! Takes out of a file what has an error, so that the rest can still be looked at.

use serde_json::{Value, json};

use super::document::Document;
use super::plan::Plan;
use super::problem::Sound;

/// Tables that do without what is taken out of them. Of any other one, all is taken out that has an error
/// anywhere.
const TABLES: [&[&str]; 7] = [
    &["handlers"],
    &["http"],
    &["http", "resources"],
    &["kafka"],
    &["kafka", "properties"],
    &["sinks"],
    &["topics"],
];

pub(super) fn prune(document: &Document, values: &mut Value) {
    prune_table(document, &mut Vec::new(), values);
    // That it is missing now is not to be told again.
    if !document.is_sound(&["kafka"])
        && let Some(pipeline) = values.as_object_mut()
    {
        let kafka = pipeline.entry("kafka").or_insert_with(|| json!({}));
        if let Some(kafka) = kafka.as_object_mut() {
            kafka.entry("brokers").or_insert_with(|| "embedded".into());
        }
    }
}

fn prune_table(document: &Document, path: &mut Vec<String>, values: &mut Value) {
    let Some(table) = values.as_object_mut() else { return };
    table.retain(|key, value| {
        path.push(key.clone());
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        let kept = if document.is_sound(&steps) {
            true
        } else if value.is_object() && TABLES.contains(&steps.as_slice()) {
            prune_table(document, path, value);
            true
        } else {
            false
        };
        path.pop();
        kept
    });
}

/// What of a plan with stand-ins is as it should be.
pub(super) fn sound(document: &Document, plan: Plan) -> Sound {
    let handlers = plan.handlers.into_iter().filter(|h| document.is_sound(&["handlers", &h.name]));
    let properties = plan.kafka.properties.into_iter();
    let properties = properties.filter(|(name, _)| document.is_sound(&["kafka", "properties", name]));
    Sound { handlers: handlers.collect(), kafka_properties: properties.collect() }
}
