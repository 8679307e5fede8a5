//! The dashboard's files, and the stream that it lives on.

use hyper::body::Incoming;

use super::*;
use crate::config::plan::Secret;
use crate::event::FailureKind;
use crate::status::SubscriberStatus;

async fn watched(token: Option<&str>) -> Server {
    let (admin, _commands) = Admin::new(token.map(Secret::new), HandlerLogs::default());
    let server = commanded(plan(), Broker::new(), Some(admin)).await;
    server.view.caught_up();
    server
}

/// What `src` and `href` of a page and `from` of a script name.
fn named(text: &str) -> Vec<String> {
    let quoted = |mark: &str, quote: char| {
        let parts = text.split(mark).skip(1).filter_map(|rest| Some(rest.split_once(quote)?.0.to_string()));
        parts.collect::<Vec<_>>()
    };
    [quoted("src=\"", '"'), quoted("href=\"", '"'), quoted(" from '", '\'')].concat()
}

#[tokio::test]
async fn the_page_has_all_its_files_and_nothing_from_elsewhere() {
    let server = watched(None).await;
    let mut waiting = vec!["/".to_string()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        for inline in ["<style", "style=\"", "onclick=", "javascript:", "eval(", "https://"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
        for name in named(&text).iter().filter(|name| !name.starts_with('#')) {
            let file = name.trim_start_matches("./").trim_start_matches("dashboard/");
            assert!(!file.contains("//"), "{path} names {name}");
            let next = format!("/dashboard/{file}");
            if !seen.contains(&next) {
                seen.push(next.clone());
                waiting.push(next);
            }
        }
        seen.push(path);
    }
    assert!(seen.len() > 10, "{seen:?}");
}

async fn stream(server: &Server) -> hyper::Response<Incoming> {
    let uri = format!("http://{}/admin/live", server.address);
    server.client.request(Request::builder().uri(uri).body(Full::default()).unwrap()).await.unwrap()
}

/// The next event of a stream; none when it has ended.
async fn next(body: &mut (impl http_body_util::BodyExt<Data = Bytes> + Unpin)) -> Option<Value> {
    let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("in time")?;
    let data = frame.ok()?.into_data().ok()?;
    let text = std::str::from_utf8(&data).unwrap().strip_prefix("data: ").expect("an event");
    Some(serde_json::from_str(text.strip_suffix("\n\n").expect("its end")).unwrap())
}

#[tokio::test]
async fn the_stream_tells_what_runs_and_what_went_on_a_moment_ago() {
    let server = watched(None).await;
    let sender =
        SubscriberStatus { name: "sender".into(), publish: vec!["sent".into()], ..Default::default() };
    server.status.add_subscriber(sender);
    let response = stream(&server).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = next(&mut body).await.unwrap();
    assert_eq!(first["resources"][0]["name"], "parcels");
    assert_eq!(first["resources"][0]["view"], json!(["parcels", "parcels_sent", "sender.dlq"]));
    assert_eq!(first["subscribers"][0]["publish"], json!(["sent"]));
    assert_eq!(first["recent"]["sender"]["events_per_s"], 0.0);
    server.status.update("sender", |status| {
        status.events += 1000;
        status.figures.commit_us.record(7000);
        status.figures.failures.insert(FailureKind::Trap, 10);
    });
    let second = next(&mut body).await.unwrap();
    let recent = &second["recent"]["sender"];
    let ms = |event: &Value| event["at_ms"].as_f64().unwrap();
    let events = recent["events_per_s"].as_f64().unwrap() * (ms(&second) - ms(&first)) / 1000.0;
    assert!((900.0..=1100.0).contains(&events), "{recent}");
    assert!(recent["failures_per_s"].as_f64().unwrap() > 0.0, "{recent}");
    assert!((5.0..=10.0).contains(&recent["commit_p99_ms"].as_f64().unwrap()), "{recent}");
}

#[tokio::test]
async fn streams_end_with_the_host_and_with_their_plan() {
    let mut server = watched(None).await;
    let mut of_old_plan = stream(&server).await.into_body();
    assert!(next(&mut of_old_plan).await.is_some());
    let mut changed = plan();
    changed.resources[0].name = "letters".into();
    server.reload(&changed);
    while next(&mut of_old_plan).await.is_some() {}
    let mut body = stream(&server).await.into_body();
    assert_eq!(next(&mut body).await.unwrap()["resources"][0]["name"], "letters");
    server.stop.send(()).unwrap();
    while next(&mut body).await.is_some() {}
    tokio::time::timeout(Duration::from_secs(2), server.serving).await.expect("ends at once").unwrap();
}

#[tokio::test]
async fn so_many_may_watch_and_no_more() {
    let server = watched(None).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        let response = stream(&server).await;
        assert_eq!(response.status(), StatusCode::OK);
        streams.push(response);
    }
    assert_eq!(stream(&server).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    streams.pop();
    // The host notices when it has something to say to that one.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while stream(&server).await.status() != StatusCode::OK {
        assert!(tokio::time::Instant::now() < deadline, "a place is never given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn without_the_token_there_is_the_page_and_no_word_of_the_pipeline() {
    let server = watched(Some("s3cret")).await;
    assert_eq!(server.get("/").await.status, StatusCode::OK);
    let denied = server.get("/admin/live").await;
    assert_eq!((denied.status, denied.problem().as_str()), (StatusCode::UNAUTHORIZED, "token"));
}
