//! Whole numbers as JSON Schema sees them: 2, 2.0 and 2e0 are all the integer two.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Beyond it a float no longer says which integer it is.
const GREATEST_EXACT: f64 = 9_007_199_254_740_992.0;

pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Whole)
}

pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Number>::deserialize(from)?.map(|Number(number)| number))
}

struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        number(from).map(Self)
    }
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        value.try_into().map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        if value.fract() == 0.0 && (0.0..=GREATEST_EXACT).contains(&value) {
            Ok(value as u64)
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<u64, serde_json::Error> {
        number(&mut serde_json::Deserializer::from_str(json))
    }

    #[test]
    fn what_json_schema_calls_an_integer_is_one() {
        for (json, value) in
            [("2", 2), ("2.0", 2), ("1e2", 100), ("-0.0", 0), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(read(json).unwrap(), value, "{json}");
        }
    }

    #[test]
    fn fractions_negatives_and_what_is_beyond_exact_floats_are_refused() {
        for json in ["1.5", "-1", "1e300", "9007199254740994.0", "\"2\"", "null"] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
