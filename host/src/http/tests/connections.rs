//! Slow clients, large headers, the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;

/// Sends `text`, keeps the connection open, and reads until the server closes it.
async fn talk(server: &Server, text: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("closed by the server").unwrap();
    String::from_utf8(answer).unwrap()
}

async fn impatient_server() -> Server {
    let mut plan = plan();
    plan.header_timeout = Duration::from_millis(200);
    plan.body_timeout = Duration::from_millis(200);
    server_with(plan).await
}

const HEAD: &str = "POST /parcels HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn slow_headers_and_idle_connections_are_closed() {
    let server = impatient_server().await;
    assert_eq!(talk(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nslow").await, "");
    assert_eq!(talk(&server, "").await, "");
    let idle_afterwards = talk(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(idle_afterwards.starts_with("HTTP/1.1 200"), "{idle_afterwards}");
}

#[tokio::test]
async fn a_slow_body_gets_408() {
    let server = impatient_server().await;
    let answer = talk(&server, &format!("{HEAD}content-length: 100\r\n\r\n{{")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow-body"), "{answer}");
    assert!(server.broker.events().is_empty());
}

#[tokio::test]
async fn a_body_without_an_announced_length_is_limited_all_the_same() {
    let server = impatient_server().await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let answer =
        talk(&server, &format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_body_announced_too_large_is_not_even_asked_for() {
    let server = impatient_server().await;
    let answer = talk(&server, &format!("{HEAD}content-length: 5000\r\nexpect: 100-continue\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn headers_are_limited() {
    let server = impatient_server().await;
    let answer =
        talk(&server, &format!("GET /healthz HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "x".repeat(20_000)))
            .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = (0..200).map(|n| format!("h{n}: x\r\n")).collect::<String>();
    let answer = talk(&server, &format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn garbage_gets_400() {
    let server = impatient_server().await;
    let answer = talk(&server, "\x16\x03\x01 hello\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_shutdown_answers_what_is_under_way_and_takes_nothing_new() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Hold);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{HEAD}content-length: 11\r\n\r\n{{\"grams\":1}}").as_bytes()).await.unwrap();
    // Held by the broker once its mode has a receiver.
    until(|| server.broker.mode.receiver_count() == 1).await;

    server.stop.send(()).unwrap();
    let address = server.address;
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("the listener closes");
    assert!(!server.serving.is_finished());

    server.broker.mode.send_replace(Mode::Acknowledge);
    assert!(read_to_end(stream).await.starts_with("HTTP/1.1 201"));
    server.serving.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_waits_for_records_whose_clients_have_gone() {
    let server = server().await;
    hang_up(&server, server.post(r#"{"grams":1}"#)).await;
    shuts_down_once_its_record_is_there(server).await;
}

#[tokio::test]
async fn a_shutdown_ends_within_its_deadline_whatever_clients_and_brokers_do() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Hold);
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    stuck.write_all(format!("{HEAD}content-length: 11\r\n\r\n{{\"grams\":1}}").as_bytes()).await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(HEAD.as_bytes()).await.unwrap();
    until(|| server.broker.mode.receiver_count() == 1).await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(8), server.serving).await.expect("in time").unwrap();
}

/// With an app that the test adjusts; `serving` ends when it is aborted.
async fn adjusted(adjust: impl FnOnce(&mut App)) -> (SocketAddr, JoinHandle<()>) {
    let claims = Claims::new(CLAIMS.into(), Duration::ZERO);
    let status = Status::new("test", "memory", false);
    let (mut app, _view) = App::new(&plan(), status, Arc::new(Broker::new()), claims, None);
    adjust(&mut app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, watch::channel(Arc::new(app)).1, std::future::pending())))
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_cut_off() {
    let (address, serving) = adjusted(|app| app.write_timeout = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let asking = async {
        let request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
        while stream.write_all(request).await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("the server hangs up");
    serving.abort();
}

#[tokio::test]
async fn connections_are_capped_and_the_next_one_gets_its_turn() {
    let (address, serving) = adjusted(|app| app.max_connections = 1).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(request).await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();

    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(request).await.unwrap();
    let answered = second.read_exact(&mut byte);
    tokio::pin!(answered);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answered).await.is_err());
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), answered).await.expect("its turn").unwrap();
    serving.abort();
}

#[tokio::test]
async fn slow_bodies_take_bounded_room_and_the_probes_answer_meanwhile() {
    // Room for one body, and of any number of bodies for 120 bytes.
    for (slots, bytes) in [(1, usize::MAX), (usize::MAX, 120)] {
        let (address, serving) = adjusted(|app| {
            app.max_connections = 3;
            let excess = |semaphore: &Semaphore, left| semaphore.available_permits().saturating_sub(left);
            app.bodies.slots.forget_permits(excess(&app.bodies.slots, slots));
            app.bodies.bytes.forget_permits(excess(&app.bodies.bytes, bytes));
        })
        .await;
        let body = format!("{{\"grams\":1,\"note\":\"{}\"}}", "x".repeat(80));
        let head = format!("{HEAD}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let ask = async |mut stream: TcpStream, text: String| {
            stream.write_all(text.as_bytes()).await.unwrap();
            read_to_end(stream).await
        };
        let mut slow = connect().await;
        slow.write_all(&format!("{head}{body}").as_bytes()[..head.len() + 60]).await.unwrap();
        let whole = format!("{head}{body}");
        let refused = async {
            loop {
                // The first ones may come before the slow one's bytes.
                let answer = ask(connect().await, whole.clone()).await;
                if !answer.starts_with("HTTP/1.1 201") {
                    break answer;
                }
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(4), refused).await.expect("no room");
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"), "{refused}");
        let probe = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let probe = ask(connect().await, probe.into()).await;
        assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");

        slow.write_all(&body.as_bytes()[60..]).await.unwrap();
        let answer = read_to_end(slow).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        assert!(ask(connect().await, whole.clone()).await.starts_with("HTTP/1.1 201"), "room again");
        serving.abort();
    }
}

#[tokio::test]
async fn a_slow_body_for_which_there_is_no_room_counts_until_it_ends() {
    let mut slots = None;
    let (address, serving) = adjusted(|app| {
        app.bodies.slots.forget_permits(app.bodies.slots.available_permits() - 1);
        app.bodies.bytes.forget_permits(app.bodies.bytes.available_permits() - 10);
        slots = Some(app.bodies.slots.clone());
    })
    .await;
    let slots = slots.unwrap();
    let part = format!("{HEAD}content-length: 100\r\n\r\n{}", "x".repeat(60));
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(part.as_bytes()).await.unwrap();
    until(|| slots.available_permits() == 0).await;

    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(part.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(4), read_to_end(second)).await.expect("at once");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    first.write_all("x".repeat(40).as_bytes()).await.unwrap();
    let answer = read_to_end(first).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    until(|| slots.available_permits() == 1).await;
    serving.abort();
}

#[tokio::test]
async fn connections_that_stall_give_way_to_those_that_come() {
    let (address, serving) = adjusted(|app| app.max_connections = 3).await;
    let mut stalled = Vec::new();
    for text in ["", "GET /healthz HTTP/1.1\r\nhost", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    for _ in 0..3 {
        let mut healthy = TcpStream::connect(address).await.unwrap();
        healthy.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        // Long before the stalled ones' five seconds are over.
        let answer =
            tokio::time::timeout(Duration::from_secs(4), read_to_end(healthy)).await.expect("its turn");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    serving.abort();
}

#[tokio::test]
async fn slow_bodies_give_way_to_those_that_come() {
    // Of the places for bodies, and of the room that they take together.
    for (slots, bytes) in [(1, usize::MAX), (usize::MAX, 120)] {
        let (address, serving) = adjusted(|app| {
            let excess = |semaphore: &Semaphore, left| semaphore.available_permits().saturating_sub(left);
            app.bodies.slots.forget_permits(excess(&app.bodies.slots, slots));
            app.bodies.bytes.forget_permits(excess(&app.bodies.bytes, bytes));
        })
        .await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        let part = format!("{HEAD}content-length: 100\r\n\r\n{}", "x".repeat(60));
        slow.write_all(part.as_bytes()).await.unwrap();
        let whole = format!("{{\"grams\":1,\"note\":\"{}\"}}", "x".repeat(80));
        let whole = format!("{HEAD}connection: close\r\ncontent-length: {}\r\n\r\n{whole}", whole.len());
        let taken = async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(whole.as_bytes()).await.unwrap();
                if read_to_end(stream).await.starts_with("HTTP/1.1 201") {
                    break;
                }
            }
        };
        // The slow one has its chance first.
        tokio::time::timeout(Duration::from_secs(4), taken).await.expect("taken");
        let answer = read_to_end(slow).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow-body"), "{answer}");
        serving.abort();
    }
}
