//! Where two JSON values differ, by JSON pointers.

use serde_json::Value;

/// Tells every place where the two differ, and what stands there in each.
pub(super) fn differences<'a>(
    before: &'a Value,
    now: &'a Value,
    tell: &mut impl FnMut(&str, Option<&'a Value>, Option<&'a Value>),
) {
    walk(&mut String::new(), before, now, tell);
}

fn walk<'a>(
    at: &mut String,
    before: &'a Value,
    now: &'a Value,
    tell: &mut impl FnMut(&str, Option<&'a Value>, Option<&'a Value>),
) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (name, value) in before {
                step(at, &name.replace('~', "~0").replace('/', "~1"), Some(value), now.get(name), tell);
            }
            for (name, value) in now.iter().filter(|(name, _)| !before.contains_key(*name)) {
                step(at, &name.replace('~', "~0").replace('/', "~1"), None, Some(value), tell);
            }
        }
        (Value::Array(before), Value::Array(now)) => {
            for index in 0..before.len().max(now.len()) {
                step(at, &index.to_string(), before.get(index), now.get(index), tell);
            }
        }
        (before, now) if before != now => tell(at, Some(before), Some(now)),
        _equal => {}
    }
}

fn step<'a>(
    at: &mut String,
    name: &str,
    before: Option<&'a Value>,
    now: Option<&'a Value>,
    tell: &mut impl FnMut(&str, Option<&'a Value>, Option<&'a Value>),
) {
    let length = at.len();
    at.push('/');
    at.push_str(name);
    match (before, now) {
        (Some(before), Some(now)) => walk(at, before, now, tell),
        (before, now) => tell(at, before, now),
    }
    at.truncate(length);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(before: &Value, now: &Value) -> Vec<String> {
        let mut told = Vec::new();
        differences(before, now, &mut |at, before, now| {
            let text = |value: Option<&Value>| value.map_or_else(|| "none".into(), Value::to_string);
            told.push(format!("{at}: {} -> {}", text(before), text(now)));
        });
        told
    }

    #[test]
    fn each_place_is_told_with_what_stands_there() {
        let before = json!({"same": [1, {"x": null}], "a/b~": {"c": 1}, "gone": true, "list": [1, 2, 3]});
        let now = json!({"same": [1, {"x": null}], "a/b~": {"c": "1"}, "list": [1, 4], "new": {}});
        assert_eq!(
            told(&before, &now),
            [
                "/a~1b~0/c: 1 -> \"1\"",
                "/gone: true -> none",
                "/list/1: 2 -> 4",
                "/list/2: 3 -> none",
                "/new: none -> {}"
            ]
        );
        assert_eq!(told(&json!(1), &json!([1])), [": 1 -> [1]"]);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0..3_i8).prop_map(Value::from),
            "[a~/]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab~/]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_place_that_is_told_can_be_found_and_nothing_is_told_of_equal_values(before in value(), now in value()) {
            let mut any = false;
            differences(&before, &now, &mut |at, old, new| {
                any = true;
                assert_eq!((before.pointer(at), now.pointer(at)), (old, new));
                assert_ne!(old, new);
            });
            prop_assert_eq!(any, before != now);
        }
    }
}
