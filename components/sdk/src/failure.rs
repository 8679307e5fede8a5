//! Saying why an event was not handled. The text reaches logs and the dead letter: keep secrets out of it.

use crate::{EnvError, Failure};

impl Failure {
    /// Not now: the host tries the event again, as often as pipeline.toml allows.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(reason.into())
    }

    /// Never: the event becomes a dead letter at once.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }
}

/// A wrong setting is no fault of the event, and someone may mend it: it is worth another try. By
/// reference, because a configuration is kept in a `static`: `CONFIG.as_ref()?`.
impl From<&EnvError> for Failure {
    fn from(error: &EnvError) -> Self {
        Self::retry(error.to_string())
    }
}
