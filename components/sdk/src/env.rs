//! A handler's configuration: the environment that pipeline.toml gives it (`env = { NAME = "value" }`).
//!
//! Nothing of the host's own environment is in it. Read it once per instance:
//!
//! ```
//! use std::sync::LazyLock;
//! use wasmill_sdk::{Env, EnvError};
//!
//! static LIMIT: LazyLock<Result<u64, EnvError>> = LazyLock::new(|| limit(&Env::of_process()));
//!
//! fn limit(env: &Env) -> Result<u64, EnvError> {
//!     Ok(env.get("LIMIT")?.unwrap_or(100))
//! }
//!
//! assert_eq!(limit(&Env::from_iter([("LIMIT", "5")])), Ok(5));
//! ```
//!
//! In the handler, `LIMIT.as_ref()?` ends it with a `retry` when the setting is wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Environment variables: those of the process, or a test's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

/// A variable that can't be read. It shows the value: don't parse credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} is {value:?}: {reason}")]
pub struct EnvError {
    pub name: String,
    pub value: String,
    pub reason: String,
}

impl Env {
    pub fn of_process() -> Self {
        // WASI's environment is UTF-8 by contract, so `vars` has nothing to panic about.
        std::env::vars().collect()
    }

    /// The variable `name` as a `T`. An empty one counts as not set: `${NAME:-}` in pipeline.toml is empty.
    ///
    /// # Errors
    ///
    /// Names the variable, its value and what `T` says is wrong with it.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, EnvError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        value.parse().map(Some).map_err(|reason: T::Err| EnvError {
            name: name.into(),
            value: value.clone(),
            reason: reason.to_string(),
        })
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn a_variable_is_parsed_and_an_absent_or_empty_one_is_none() {
        let env = Env::from_iter([("LIMIT", "5"), ("EMPTY", "")]);
        assert_eq!(env.get("LIMIT"), Ok(Some(5)));
        assert_eq!(env.get::<u64>("EMPTY"), Ok(None));
        assert_eq!(env.get::<u64>("ABSENT"), Ok(None));
    }

    #[test]
    fn an_error_names_the_variable_and_its_value_and_is_worth_a_retry() {
        let error = Env::from_iter([("LIMIT", "5 EUR")]).get::<u64>("LIMIT").unwrap_err();
        let text = r#"environment variable LIMIT is "5 EUR": invalid digit found in string"#;
        assert_eq!(error.to_string(), text);
        assert_eq!(Failure::from(&error), Failure::retry(text));
    }
}
