//! Bodies: parsed strictly for checking, and kept as text for publishing.
//!
//! Two forms of one body, because a parsed number may lose digits (2^64 and 0.1 + 14 more digits become
//! floats): the schema judges the parsed form, consumers get the client's own digits. Duplicate property
//! names are refused, or the two forms could disagree about what was said (RFC 8259, section 4).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses UTF-8 JSON of bounded depth (serde_json's 128). Errors name line and column.
pub(super) fn parse(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(body).map(|strict| strict.0)
}

/// Valid JSON without the whitespace between its tokens, otherwise byte for byte the same.
pub(super) fn compact(json: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        compact.push(byte);
    }
    compact
}

/// `object`, compact, with one more property in front.
pub(super) fn insert_first(object: &[u8], name: &str, value: &str) -> Vec<u8> {
    let rest = &object[1..];
    let mut with = format!("{{{}:{}", Value::from(name), Value::from(value)).into_bytes();
    if rest != b"}" {
        with.push(b',');
    }
    with.extend_from_slice(rest);
    with
}

/// A [`Value`] whose objects have no property twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrictVisitor;
        impl<'de> Visitor<'de> for StrictVisitor {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
                let mut values = Vec::new();
                while let Some(Strict(value)) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Strict(Value::Array(values)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut object = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    if object.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("property {name:?} stands here twice")));
                    }
                    let Strict(value) = map.next_value()?;
                    object.insert(name, value);
                }
                Ok(Strict(Value::Object(object)))
            }
        }
        deserializer.deserialize_any(StrictVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_survive_compaction() {
        let body =
            br#" { "n" : 9223372036854775808999 , "s" : "a \" b \\" , "f" : 0.10000000000000000000001 } "#;
        let compact = compact(body);
        assert_eq!(
            String::from_utf8(compact).unwrap(),
            r#"{"n":9223372036854775808999,"s":"a \" b \\","f":0.10000000000000000000001}"#
        );
    }

    #[test]
    fn a_property_given_twice_is_refused_with_its_place() {
        let error = parse(b"{\"a\":{\"id\":1,\n\"id\":2}}").err().unwrap();
        assert!(error.to_string().contains("\"id\" stands here twice"), "{error}");
        assert_eq!(error.line(), 2);
    }

    #[test]
    fn insertion_quotes_names_and_values() {
        assert_eq!(insert_first(b"{}", "i\"d", "x\ny"), br#"{"i\"d":"x\ny"}"#);
        assert_eq!(insert_first(br#"{"a":1}"#, "id", "x"), br#"{"id":"x","a":1}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compaction_changes_no_value(value in any_json()) {
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(parse(&pretty).unwrap(), value.clone());
            prop_assert_eq!(compact(&pretty), serde_json::to_vec(&value).unwrap());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
