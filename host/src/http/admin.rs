//! The admin API: which versions a handler has, going back to one, dead letters, what it logged, reading pipeline.toml again.
//!
//! The HTTP side knows nothing of versions and plans. It lets in who may (`access`), makes a [`Command`] of a request
//! (`routes`), and passes it on to whoever runs the host. That is a plain thread, so the channel is std's; each
//! command carries the way for its one answer.

mod access;
mod dead_letters;
mod routes;

use std::env;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::oneshot;

use super::problem::Problem;
use crate::config::plan::Secret;
use crate::dead_letters::Ask;
use crate::telemetry::HandlerLogs;

pub(super) use routes::routes;

/// The environment variable that holds the token.
pub const TOKEN_VARIABLE: &str = "WASMILL_ADMIN_TOKEN";

/// Commands that wait to be begun, at most; more get 503 at once.
const WAITING: usize = 16;
/// For an answer: a component may have to be compiled, and shards to finish their batches.
const PATIENCE: Duration = Duration::from_secs(60);

/// The asking end; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    commands: SyncSender<Asked>,
    token: Option<Secret>,
    denials: Arc<access::Denials>,
    logs: HandlerLogs,
    pub(super) patience: Duration,
}

/// The environment has a token that nobody could give. Without one the host would obey more than was meant to.
#[derive(Debug, Error, Diagnostic)]
#[error("{TOKEN_VARIABLE} {fault}")]
#[diagnostic(help(
    "set it to the token, visible ASCII characters without spaces, such as `openssl rand -hex 32` makes; or unset it: \
     then whoever sits at the host's machine may command it, and nobody else"
))]
pub struct BadToken {
    fault: &'static str,
}

/// The answering end.
pub struct Commands {
    asked: Receiver<Asked>,
    /// Keeps the channel open: waiting takes its time also when nobody can ask.
    _open: SyncSender<Asked>,
}

/// A command and the way for its answer. Dropped without one, it is answered by 503.
#[derive(Debug)]
pub struct Asked {
    pub command: Command,
    /// Fails when nobody waits for the answer any more, which is no reason to complain.
    pub answer: oneshot::Sender<Result<Value, Refused>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Which versions of a handler are at hand.
    Versions { handler: String },
    /// What the plan says of a handler or a sink.
    Settings { handler: String },
    /// To the version whose digest begins so (1 to 64 hex digits, in lower case), or to the one before.
    Rollback { handler: String, to: Option<String> },
    /// Which keys wait for the next try of an event.
    Parked,
    /// Dead letters: which there are, one of them, to put some back or let them go.
    DeadLetters(Ask),
    /// Reads pipeline.toml again.
    Reload,
    /// What would change if pipeline.toml were this.
    Diff { toml: String },
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub kind: RefusedKind,
    /// What happened, for people.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// There is no such handler or version.
    NotFound,
    /// Not in the state that things are in.
    Conflict,
    /// What was given can't be used.
    Invalid,
    /// Not now; later perhaps.
    Unavailable,
}

impl Admin {
    /// What [`TOKEN_VARIABLE`] holds; none when it is not set.
    pub fn token_from_env() -> Result<Option<Secret>, BadToken> {
        env::var_os(TOKEN_VARIABLE).map(token).transpose()
    }

    /// Without a token only clients on this machine may ask; with an empty one nobody may.
    pub fn new(token: Option<Secret>, logs: HandlerLogs) -> (Self, Commands) {
        let (commands, asked) = sync_channel(WAITING);
        let denials = Arc::default();
        let admin = Self { commands: commands.clone(), token, denials, logs, patience: PATIENCE };
        (admin, Commands { asked, _open: commands })
    }

    async fn ask(&self, command: Command) -> Result<Value, Problem> {
        let unavailable = |kind, title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, title);
        let (answer, answered) = oneshot::channel();
        self.commands.try_send(Asked { command, answer }).map_err(|error| match error {
            TrySendError::Full(_) => {
                unavailable("overloaded", "Too many commands wait").detail("Nothing was done.").retry_after(5)
            }
            TrySendError::Disconnected(_) => stopping(),
        })?;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(refused))) => Err(refused.into()),
            Ok(Err(_dropped)) => Err(stopping()),
            Err(_elapsed) => Err(unavailable("unanswered", "The host did not answer in time")
                .detail(format!(
                    "The command may have been carried out or not, {} s after it came. GET \
                     /admin/handlers/NAME/versions and /status tell.",
                    self.patience.as_secs()
                ))
                .retry_after(5)),
        }
    }
}

impl Commands {
    /// The next command, or none within `wait`. One that nobody waits for any more is left out: who was told that it
    /// may not have been carried out shall not be surprised later.
    pub fn next(&self, wait: Duration) -> Option<Asked> {
        let until = Instant::now() + wait;
        loop {
            let asked = self.asked.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            if !asked.answer.is_closed() {
                return Some(asked);
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(Refused { kind, message, help }: Refused) -> Self {
        let (status, kind, title) = match kind {
            RefusedKind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            RefusedKind::Conflict => (StatusCode::CONFLICT, "conflict", "This can't be done as things are"),
            RefusedKind::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "What was given can't be used")
            }
            RefusedKind::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "This can't be done now")
            }
        };
        let problem = Self::new(status, kind, title).detail(message).with("help", help);
        if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(5) } else { problem }
    }
}

fn token(value: OsString) -> Result<Secret, BadToken> {
    let fault = match value.into_string() {
        Ok(token) if token.is_empty() => "is set and empty",
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => return Ok(Secret::new(token)),
        Ok(_) | Err(_) => "holds what no request can carry as a token",
    };
    Err(BadToken { fault })
}

fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The host is about to end")
        .detail("The command was not carried out.")
        .retry_after(5)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_token_that_nobody_could_give_is_an_error_and_never_as_good_as_none() {
        assert_eq!(token("s3cret".into()).unwrap().expose(), "s3cret");
        for (value, fault) in [
            (OsString::new(), "is set and empty"),
            ("s3cret\n".into(), "no request can carry"),
            ("two words".into(), "no request can carry"),
            ("sécret".into(), "no request can carry"),
            (OsString::from_vec(vec![b's', 0xff]), "no request can carry"),
        ] {
            let error = token(value).unwrap_err();
            assert!(error.to_string().contains(fault) && !error.to_string().contains("s3cret"), "{error}");
            assert!(error.help().unwrap().to_string().contains("unset it"));
        }
    }
}
