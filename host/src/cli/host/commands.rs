//! Commanding the running host, by its admin API.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, StatusCode};
use miette::{IntoDiagnostic, WrapErr, miette};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::{Host, client};
use crate::cli::pipeline::Pipeline;
use crate::http::{Admin, TOKEN_VARIABLE};
use crate::text::{one_line, readable};

/// For an answer: the host itself gives up after a minute, and says so.
const TIMEOUT: Duration = Duration::from_secs(65);

/// Has the host carry out one command; see [`Host::to_command`] and [`Host::command`].
pub(in crate::cli) fn command(
    url: Option<&str>,
    pipeline: &Pipeline,
    method: Method,
    path: &str,
    body: &Value,
) -> miette::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    runtime.block_on(async { Host::to_command(url, pipeline).await?.command(method, path, body).await })
}

/// A refusal, as the host words it (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: Option<String>,
    help: Option<String>,
}

impl Host {
    /// The one at `url`, whatever it runs: so a host can be commanded whose pipeline.toml is elsewhere, or broken by
    /// now. Without `url` it is where the pipeline says, and runs that.
    async fn to_command(url: Option<&str>, pipeline: &Pipeline) -> miette::Result<Self> {
        let token = Admin::token_from_env()?;
        if let Some(url) = url {
            return Ok(Self { url: url.into(), client: client(), token });
        }
        let loaded = pipeline.load_without_broker()?;
        let host = Self { token, ..Self::new(None, &loaded.plan)? };
        host.running(&loaded.plan).await?;
        Ok(host)
    }

    /// Null is no body. A refusal is an error in the host's own words.
    async fn command(&self, method: Method, path: &str, body: &Value) -> miette::Result<Value> {
        let mut request = self.request(method, path);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
                miette!(
                    help = "it must be the host's token, in visible ASCII characters",
                    "what {TOKEN_VARIABLE} holds can't be sent"
                )
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.send(request, body, TIMEOUT).await;
        let (status, body) = answer.map_err(|reason| self.no_answer(&reason))?;
        let strange = || self.not_a_host(status);
        if status.is_success() {
            return serde_json::from_slice(&body).into_diagnostic().wrap_err_with(strange);
        }
        let Problem { title, detail, help } =
            serde_json::from_slice(&body).into_diagnostic().wrap_err_with(strange)?;
        let message = readable(&detail.unwrap_or_else(|| title.clone()));
        match (status, help) {
            (_, Some(help)) => Err(miette!(help = readable(&help), "{message}")),
            (StatusCode::UNAUTHORIZED, None) => Err(miette!(
                help = format!("set {TOKEN_VARIABLE} here to what the host was started with"),
                "the host at {} obeys only with its token",
                self.url
            )),
            (_, None) => Err(miette!(help = message, "{}", one_line(&title))),
        }
    }
}

/// The path of what the admin API has on one handler.
pub(in crate::cli) fn of_handler(handler: &str, what: &str) -> String {
    format!("admin/handlers/{}/{what}", utf8_percent_encode(handler, NON_ALPHANUMERIC))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::config::plan::{HttpPlan, Secret};
    use crate::event::Record;
    use crate::http::{App, Asked, Claims, Command, Refused, RefusedKind, serve};
    use crate::log::{Publish, Publishing};
    use crate::status::Status;
    use crate::telemetry::HandlerLogs;

    struct Nowhere;

    impl Publish for Nowhere {
        fn publish(&self, _record: Record, _timeout: Duration) -> Publishing<'_> {
            Box::pin(std::future::pending())
        }
    }

    /// What a host with this token answers to a client with that one, and what it was asked for.
    async fn answered(
        tokens: [Option<&str>; 2],
        path: &str,
    ) -> (Result<Value, miette::Report>, Option<Command>) {
        let claims = Claims::new("claims".into(), Duration::ZERO);
        let plan = HttpPlan {
            claims: claims.topic(),
            listen: ([127, 0, 0, 1], 0).into(),
            body_limit: 1,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(5),
            resources: Vec::new(),
        };
        let [of_host, of_client] = tokens.map(|token| token.map(Secret::new));
        let (admin, commands) = Admin::new(of_host, HandlerLogs::default());
        let (app, _view) =
            App::new(&plan, Status::new("test", "memory", false), Arc::new(Nowhere), claims, Some(admin));
        let listener = tokio::net::TcpListener::bind(plan.listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let end = Arc::<AtomicBool>::default();
        let ended = end.clone();
        let answering = std::thread::spawn(move || {
            let Asked { command, answer } = loop {
                match commands.next(Duration::from_millis(20)) {
                    Some(asked) => break asked,
                    None if ended.load(Ordering::Relaxed) => return None,
                    None => {}
                }
            };
            let refused = || Refused {
                kind: RefusedKind::NotFound,
                message: "there is no handler `a/b`".into(),
                help: "it has sender".into(),
            };
            let _ = answer.send(match &command {
                Command::Rollback { .. } => Err(refused()),
                Command::Settings { .. }
                | Command::Versions { .. }
                | Command::Parked
                | Command::DeadLetters(_)
                | Command::Reload
                | Command::Diff { .. } => Ok(json!({ "done": true })),
            });
            Some(command)
        });
        let host = Host { url, client: client(), token: of_client };
        let body = json!({});
        let ask = host.command(Method::POST, path, &body);
        let serving = serve(listener, watch::channel(Arc::new(app)).1, std::future::pending());
        let answer = tokio::select! {
            answer = ask => answer,
            () = serving => panic!("the server ended"),
        };
        end.store(true, Ordering::Relaxed);
        (answer, answering.join().unwrap())
    }

    #[tokio::test]
    async fn a_command_is_carried_out_and_its_answer_comes_back() {
        for tokens in [[None, None], [Some("s3cret"), Some("s3cret")], [None, Some("s3cret")]] {
            let (answer, command) = answered(tokens, "admin/reload").await;
            assert_eq!((answer.unwrap(), command), (json!({ "done": true }), Some(Command::Reload)));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_hosts_words() {
        let (answer, command) = answered([None, None], &of_handler("a/b", "rollback")).await;
        let report = answer.unwrap_err();
        assert_eq!(report.to_string(), "there is no handler `a/b`");
        assert_eq!(report.help().unwrap().to_string(), "it has sender");
        assert_eq!(command, Some(Command::Rollback { handler: "a/b".into(), to: None }));
    }

    #[tokio::test]
    async fn without_the_hosts_token_it_says_which_variable_to_set() {
        for token in [None, Some("other")] {
            let (answer, command) = answered([Some("s3cret"), token], "admin/reload").await;
            let report = answer.unwrap_err();
            assert!(report.to_string().ends_with("obeys only with its token"), "{report}");
            assert!(report.help().unwrap().to_string().starts_with("set WASMILL_ADMIN_TOKEN here"));
            assert_eq!(command, None);
        }
        let (answer, _) = answered([None, Some("two\nlines")], "admin/reload").await;
        assert_eq!(answer.unwrap_err().to_string(), "what WASMILL_ADMIN_TOKEN holds can't be sent");
    }
}
