//! The admin API, against a thread that answers commands as the host does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::config::plan::Secret;
use crate::dead_letters::{Act, Ask, Wanted};
use crate::event::Position;

const JSON: (&str, &str) = ("content-type", "application/json");

struct Commanded {
    server: Server,
    /// What was asked for, in order.
    commands: Arc<Mutex<Vec<Command>>>,
    ended: Arc<AtomicBool>,
    answering: Option<thread::JoinHandle<()>>,
}

impl Commanded {
    async fn new(token: Option<&str>, answer: fn(&Command) -> Result<Value, Refused>) -> Self {
        let (admin, asked) = Admin::new(token.map(Secret::new), HandlerLogs::default());
        let server = commanded(plan(), Broker::new(), Some(admin)).await;
        let (commands, ended) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(false)));
        let (known, end) = (commands.clone(), ended.clone());
        let answering = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if let Some(Asked { command, answer: way }) = asked.next(Duration::from_millis(20)) {
                    known.lock().unwrap().push(command.clone());
                    let _ = way.send(answer(&command));
                }
            }
        });
        Self { server, commands, ended, answering: Some(answering) }
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.get(path).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.server.send(Method::POST, path, &[JSON], body).await
    }

    fn commands(&self) -> Vec<Command> {
        self.commands.lock().unwrap().clone()
    }
}

impl Drop for Commanded {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.answering.take().map(thread::JoinHandle::join);
    }
}

fn done(_command: &Command) -> Result<Value, Refused> {
    Ok(json!({ "done": true }))
}

#[tokio::test]
async fn each_route_is_a_command_and_its_answer_comes_back() {
    let host = Commanded::new(None, done).await;
    let answer = host.get("/admin/handlers/sender/versions").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "done": true })));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(host.get("/admin/parked").await.json(), json!({ "done": true }));
    for path in [
        "/admin/dead-letters",
        "/admin/dead-letters?handler=sender&cause=trap",
        "/admin/dead-letters/s.dlq/0/3",
    ] {
        assert_eq!(host.get(path).await.json(), json!({ "done": true }), "{path}");
    }
    for (path, body) in [
        ("/admin/handlers/a%20b/rollback", "{}"),
        ("/admin/handlers/sender/rollback", r#"{"to":"A1b2"}"#),
        ("/admin/handlers/sender/rollback", ""),
        ("/admin/reload", "{}"),
        ("/admin/diff", r#"{"toml":"name = 'x'\n"}"#),
        ("/admin/dead-letters/redrive", r#"{"handler":"sender","at":["s.dlq/0/3"],"dry_run":true}"#),
        ("/admin/dead-letters/discard", r#"{"handler":"sender","cause":"trap","limit":2,"reason":"no"}"#),
    ] {
        let answer = host.post(path, body).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "done": true })), "{path}");
    }
    let sender = || "sender".to_string();
    let position = Position { topic: "s.dlq".into(), partition: 0, offset: 3 };
    assert_eq!(
        host.commands(),
        [
            Command::Versions { handler: sender() },
            Command::Parked,
            Command::DeadLetters(Ask::List { of: None, cause: None }),
            Command::DeadLetters(Ask::List { of: Some(sender()), cause: Some("trap".into()) }),
            Command::DeadLetters(Ask::Show { at: position.clone() }),
            Command::Rollback { handler: "a b".into(), to: None },
            Command::Rollback { handler: sender(), to: Some("a1b2".into()) },
            Command::Rollback { handler: sender(), to: None },
            Command::Reload,
            Command::Diff { toml: "name = 'x'\n".into() },
            Command::DeadLetters(Ask::Settle {
                of: sender(),
                wanted: Wanted { at: vec![position.clone()], dry_run: true, ..Wanted::default() },
                act: Act::Redrive { max: 3 },
            }),
            Command::DeadLetters(Ask::Settle {
                of: sender(),
                wanted: Wanted { cause: Some("trap".into()), limit: Some(2), ..Wanted::default() },
                act: Act::Discard { reason: "no".into() },
            }),
        ]
    );
}

#[tokio::test]
async fn a_refused_command_says_what_happened_and_what_to_do() {
    fn refuse(command: &Command) -> Result<Value, Refused> {
        let Command::Versions { handler } = command else { panic!("{command:?}") };
        let kind = match &**handler {
            "not-found" => RefusedKind::NotFound,
            "conflict" => RefusedKind::Conflict,
            "invalid" => RefusedKind::Invalid,
            _ => RefusedKind::Unavailable,
        };
        Err(Refused { kind, message: format!("no {handler}"), help: "ask for another".into() })
    }
    let host = Commanded::new(None, refuse).await;
    for (kind, status) in [("not-found", 404), ("conflict", 409), ("invalid", 422), ("unavailable", 503)] {
        let answer = host.get(&format!("/admin/handlers/{kind}/versions")).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, kind));
        let problem = answer.json();
        assert_eq!(
            (&problem["detail"], &problem["help"]),
            (&json!(format!("no {kind}")), &json!("ask for another"))
        );
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
}

#[tokio::test]
async fn who_may_not_command_the_host_is_told_what_to_do() {
    let host = Commanded::new(None, done).await;
    for header in [
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
        ("x-forwarded-for", "192.168.1.7"),
        ("forwarded", "for=192.168.1.7"),
    ] {
        let answer = host.server.send(Method::POST, "/admin/reload", &[JSON, header], "{}").await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::FORBIDDEN, "admin"), "{header:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("start it with WASMILL_ADMIN_TOKEN set"));
        let answer = host.server.send(Method::GET, "/admin/handlers/h/versions", &[header], "").await;
        assert_eq!(answer.problem(), "admin");
    }
    for content_type in [None, Some(("content-type", "text/plain"))] {
        let headers: Vec<_> = content_type.into_iter().collect();
        let answer = host.server.send(Method::POST, "/admin/reload", &headers, "{}").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (415, "media-type"));
    }
    assert_eq!(host.commands(), []);
}

#[tokio::test]
async fn with_a_token_every_admin_request_needs_it_and_no_other_request_does() {
    let host = Commanded::new(Some("s3cret"), done).await;
    for headers in [&[JSON][..], &[JSON, ("authorization", "Bearer other")]] {
        let answer = host.server.send(Method::POST, "/admin/reload", headers, "{}").await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::UNAUTHORIZED, "token"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("s3cret"));
    }
    assert_eq!(host.commands(), []);
    let with_token = [JSON, ("authorization", "Bearer s3cret"), ("host", "host.example")];
    let answer = host.server.send(Method::POST, "/admin/reload", &with_token, "{}").await;
    assert_eq!((answer.status, host.commands()), (StatusCode::OK, vec![Command::Reload]));
    assert_eq!(host.get("/parcels").await.status, StatusCode::OK);
}

#[tokio::test]
async fn with_an_empty_token_nobody_may() {
    let host = Commanded::new(Some(""), done).await;
    for headers in [&[JSON][..], &[JSON, ("authorization", "Bearer ")]] {
        let answer = host.server.send(Method::POST, "/admin/reload", headers, "{}").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn bodies_that_are_no_command_are_refused() {
    let host = Commanded::new(None, done).await;
    for (path, body, kind) in [
        ("/admin/handlers/h/rollback", "{", "not-json"),
        ("/admin/handlers/h/rollback", r#"{"to":"xyz"}"#, "invalid-body"),
        ("/admin/handlers/h/rollback", r#"{"to":""}"#, "invalid-body"),
        ("/admin/handlers/h/rollback", r#"{"too":"ab"}"#, "invalid-body"),
        ("/admin/handlers/h/rollback", "[null]", "invalid-body"),
        ("/admin/reload", r#"{"now":true}"#, "invalid-body"),
        ("/admin/diff", "{}", "invalid-body"),
        ("/admin/diff", r#"{"toml":1}"#, "invalid-body"),
        ("/admin/diff", &format!(r#"{{"toml":"{}"}}"#, "x".repeat(1 << 20)), "too-large"),
        ("/admin/handlers/%ff/rollback", "{}", "handler"),
        ("/admin/nothing", "{}", "no-such-path"),
        ("/admin/handlers/h/versions", "{}", "method"),
    ] {
        assert_eq!(host.post(path, body).await.problem(), kind, "{path}");
    }
    assert_eq!(host.commands(), []);
    let largest = format!(r#"{{"toml":"{}"}}"#, "x".repeat((1 << 20) - 11));
    assert_eq!(host.post("/admin/diff", &largest).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_command_that_is_not_answered_in_time_gets_503_and_is_not_begun_later() {
    let (mut admin, asked) = Admin::new(None, HandlerLogs::default());
    admin.patience = Duration::from_millis(50);
    let server = commanded(plan(), Broker::new(), Some(admin)).await;
    let answer = server.send(Method::POST, "/admin/reload", &[JSON], "{}").await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unanswered"));
    assert!(answer.header("retry-after").is_some());
    assert!(asked.next(Duration::ZERO).is_none());
}

#[tokio::test]
async fn commands_wait_in_a_queue_that_ends() {
    let (admin, asked) = Admin::new(None, HandlerLogs::default());
    let server = Arc::new(commanded(plan(), Broker::new(), Some(admin)).await);
    let ask = |server: Arc<Server>| async move {
        server.send(Method::POST, "/admin/reload", &[JSON], "{}").await.status.as_u16()
    };
    let mut all = tokio::task::JoinSet::new();
    (0..17).for_each(|_| drop(all.spawn(ask(server.clone()))));
    assert_eq!(all.join_next().await.unwrap().unwrap(), 503, "one too many");
    drop(asked);
    assert!(all.join_all().await.iter().all(|status| *status == 503), "the host ends");
}

#[tokio::test]
async fn a_reload_takes_the_admin_api_along_and_a_host_without_one_has_none() {
    let mut host = Commanded::new(None, done).await;
    host.server.reload(&plan());
    assert_eq!(host.post("/admin/reload", "{}").await.status, StatusCode::OK);
    assert!(host.get("/openapi.json").await.json()["paths"]["/admin/reload"].is_object());

    let without = server().await;
    assert_eq!(without.get("/admin/handlers/h/versions").await.problem(), "no-such-path");
    assert!(without.get("/openapi.json").await.json()["paths"]["/admin/reload"].is_null());
}

#[tokio::test]
async fn the_log_of_a_handler_is_for_those_who_may_command_and_needs_nobody_to_answer() {
    let logs = HandlerLogs::default();
    logs.follow([("sender", None)]);
    let server = async |token: Option<&str>| {
        let (admin, _asked) = Admin::new(token.map(Secret::new), logs.clone());
        commanded(plan(), Broker::new(), Some(admin)).await
    };
    let open = server(None).await;
    let answer = open.get("/admin/handlers/sender/logs").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "lines": [], "traces": {} })));
    assert_eq!(open.get("/admin/handlers/nobody/logs").await.problem(), "not-found");
    let closed = server(Some("s3cret")).await;
    assert_eq!(closed.get("/admin/handlers/sender/logs").await.problem(), "token");
}
