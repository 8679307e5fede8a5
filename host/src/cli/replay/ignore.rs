//! What of a JSON payload may differ, as `--ignore` names it by JSON pointers (RFC 6901).

use serde_json::Value;

/// Pointers into payloads.
pub(super) struct Ignored(pub(super) Vec<String>);

impl Ignored {
    /// The payload as it is compared: a JSON object or array without what is ignored, its members sorted. None for all
    /// else, which is compared byte by byte. Numbers that are no 64-bit integers are compared as 64-bit floats.
    pub(super) fn json(&self, payload: &[u8]) -> Option<Value> {
        if !matches!(payload.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return None;
        }
        let mut value: Value = serde_json::from_slice(payload).ok()?;
        self.0.iter().for_each(|pointer| leave_out(&mut value, pointer));
        value.sort_all_objects();
        Some(value)
    }
}

/// An element of an array becomes null, so that the others keep their places.
fn leave_out(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.remove(&last.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(elements)) => {
            if let Some(element) = last.parse().ok().and_then(|at: usize| elements.get_mut(at)) {
                *element = Value::Null;
            }
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {}
    }
}

/// For `--ignore`.
pub(super) fn pointer(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        Err(format!("a JSON pointer begins with /: /{text}"))
    } else if text.replace("~0", "").replace("~1", "").contains('~') {
        Err("in a JSON pointer ~ is written ~0, and / within a name ~1".into())
    } else {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_ignored_is_left_out_wherever_it_is() {
        let ignored = Ignored(vec!["/id".into(), "/a/b~1c".into(), "/list/1/at".into(), "/list/2".into()]);
        let payload = br#" {"z": 1, "id": 7, "a": {"b/c": 2, "d": 3}, "list": [0, {"at": 1}, 9]}"#;
        assert_eq!(
            ignored.json(payload).unwrap().to_string(),
            json!({"a": {"d": 3}, "list": [0, {}, null], "z": 1}).to_string()
        );
        assert_eq!(ignored.json(b"text"), None);
        assert_eq!(ignored.json(b"{broken"), None);
    }

    #[test]
    fn a_pointer_begins_with_a_slash() {
        assert_eq!(pointer("/a/b"), Ok("/a/b".into()));
        assert_eq!(pointer("id"), Err("a JSON pointer begins with /: /id".into()));
    }
}
