//! What the mail sink promises, against a real SMTP server and a real folder.

#[path = "common/smtp.rs"]
mod smtp;

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lettre::transport::smtp::client::Certificate;
use serde_json::{Value, json};
use smtp::SmtpServer;
use wasmill::config::plan::{MailPlan, RetryPlan, Secret, SinkPlan, SmtpEncryption, SmtpPlan, Trusted};
use wasmill::event::{Event, FailureKind, Handler, LONG_BATCH, Outcome, Position};
use wasmill::mail::{Delivery, Fate, MailError, MailSink};

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn a_mail_arrives_with_its_text_its_html_and_a_receipt() {
    let mut server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    let outputs = send(&mut sink, &event(3, "ada@example.com")).unwrap();

    let mail = server.mail();
    assert_eq!(mail["from"], "shop@example.com");
    assert_eq!(mail["to"], json!(["ada@example.com"]));
    let data = mail["data"].as_str().unwrap();
    for part in [
        "Message-ID: <emails.0.3.1790000000000@wasmill.shop.mail>\r\n",
        "Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n",
        "To: \"Ada Park\" <ada@example.com>\r\n",
        "Subject: Your order\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\nThank you!\r\n.\r\nBye",
        "Content-Type: text/html; charset=utf-8\r\n",
        "<p>Thank you!</p>",
    ] {
        assert!(data.contains(part), "{part:?} is not in {data}");
    }

    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].topic.as_deref(), Some("emails_sent"));
    assert_eq!(outputs[0].key.as_deref(), Some("o-1".as_bytes()));
    let receipt: Value = serde_json::from_slice(outputs[0].payload.as_ref().unwrap()).unwrap();
    assert_eq!(
        receipt,
        json!({
            "message_id": "emails.0.3.1790000000000@wasmill.shop.mail",
            "response": "250 2.0.0 queued",
        })
    );
}

#[test]
fn without_a_receipts_topic_nothing_is_published() {
    let server = SmtpServer::start(&[]);
    let mut sink = MailSink::new(&SinkPlan { receipts: None, ..plan(smtp_to(&server)) }, |_| ()).unwrap();
    assert_eq!(send(&mut sink, &event(0, "ada@example.com")), Ok(Vec::new()));
}

#[test]
fn an_event_that_comes_again_sends_the_same_bytes_again() {
    let mut server = SmtpServer::start(&[]);
    for _ in 0..2 {
        send(&mut sink(smtp_to(&server)), &event(3, "ada@example.com")).unwrap();
    }
    assert_eq!(server.mail(), server.mail());
}

#[test]
fn mails_go_in_order_over_one_connection() {
    let mut server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    let events: Vec<Event> = (0..5).map(|n| event(n, &format!("{n}@example.com"))).collect();
    let outcomes = sink.handle(&events[..3].iter().collect::<Vec<_>>(), &[1; 3]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let outcomes = sink.handle(&events[3..].iter().collect::<Vec<_>>(), &[1; 2]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");

    for n in 0..5 {
        assert_eq!(server.mail()["to"], json!([format!("{n}@example.com")]));
    }
    assert_eq!(server.connections, 1);
}

#[test]
fn each_try_is_told_with_its_fate_and_the_connections_that_it_took() {
    let server = SmtpServer::start(&[]);
    let told = Rc::new(RefCell::new(Vec::new()));
    let hears = told.clone();
    let mut sink = MailSink::new(&plan(smtp_to(&server)), move |delivery: &Delivery| {
        assert!(delivery.took > Duration::ZERO);
        hears.borrow_mut().push((delivery.fate, delivery.connections));
    })
    .unwrap();
    for recipient in
        ["ada@example.com", "once-450-a@example.com", "once-450-a@example.com", "reply-550@example.com"]
    {
        let _whatever_comes_of_it = send(&mut sink, &event(0, recipient));
    }
    server.stop();
    let _nobody_is_there = send(&mut sink, &event(0, "ada@example.com"));
    // After a failure there is a new connection.
    let expected =
        [(Fate::Sent, 1), (Fate::Deferred, 0), (Fate::Sent, 1), (Fate::Refused, 0), (Fate::Blocked, 0)];
    assert_eq!(*told.borrow(), expected);
}

#[test]
fn a_4xx_is_tried_again_and_then_delivered() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    for recipient in ["once-450-a@example.com", "once-421-b@example.com"] {
        let event = event(0, recipient);
        assert_fails(send(&mut sink, &event), FailureKind::Retry, &recipient[5..8]);
        send(&mut sink, &event).unwrap();
    }
    assert_fails(send(&mut sink, &event(0, "content-452@example.com")), FailureKind::Retry, "452");
    assert_eq!(server.stop().len(), 2);
}

#[test]
fn a_5xx_rejects_the_mail_and_the_next_one_goes_through() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    let events = [
        event(0, "reply-550@example.com"),
        event(1, "ada@example.com"),
        event(2, "content-554@example.com"),
        event(3, "ada@example.com"),
    ];
    let mut outcomes = sink.handle(&events.iter().collect::<Vec<_>>(), &[1; 4]).into_iter();
    assert_fails(outcomes.next().unwrap(), FailureKind::Reject, "550");
    outcomes.next().unwrap().unwrap();
    assert_fails(outcomes.next().unwrap(), FailureKind::Reject, "554");
    outcomes.next().unwrap().unwrap();
    assert_eq!(server.stop().len(), 2);
}

#[test]
fn a_reply_that_is_no_utf_8_counts_by_its_digits_and_under_tls_never_sends_a_mail_twice() {
    let server = SmtpServer::start(&[]);
    let mut sink_in_clear = sink(smtp_to(&server));
    send(&mut sink_in_clear, &event(0, "latin-250@example.com")).unwrap();
    let refused = send(&mut sink_in_clear, &event(1, "latin-554@example.com"));
    assert_fails(refused, FailureKind::Reject, "554");
    let put_off = send(&mut sink_in_clear, &event(2, "latin-451@example.com"));
    assert_fails(put_off, FailureKind::Retry, "451");
    assert_eq!(server.stop().len(), 1);

    for (option, encryption) in [("implicit", SmtpEncryption::Tls), ("starttls", SmtpEncryption::StartTls)] {
        let server = SmtpServer::start(&["--tls", option]);
        let mut sink = sink(SmtpPlan { encryption, ca: ca_of(&server), ..smtp_to(&server) });
        let unread = send(&mut sink, &event(0, "latin-250@example.com"));
        assert_fails(unread, FailureKind::Reject, "nobody knows whether it has taken the mail");
        assert_eq!(server.stop().len(), 1);
    }
}

#[test]
fn a_server_that_falls_silent_costs_one_timeout_and_is_tried_again() {
    let server = SmtpServer::start(&[]);
    let timeout = Duration::from_millis(500);
    let mut sink = MailSink::new(&SinkPlan { timeout, ..plan(smtp_to(&server)) }, |_| ()).unwrap();
    let events = [event(0, "hang@example.com"), event(1, "hang@example.com"), event(2, "ada@example.com")];

    let start = Instant::now();
    let outcomes = sink.handle(&events.iter().collect::<Vec<_>>(), &[1; 3]);
    assert!(start.elapsed() >= timeout && start.elapsed() < 4 * timeout, "{:?}", start.elapsed());
    for outcome in outcomes {
        assert_fails(outcome, FailureKind::Retry, "did not answer within 500ms");
    }
    send(&mut sink, &events[2]).unwrap();
    assert_eq!(server.stop().len(), 1);
}

#[test]
fn a_slow_server_gets_part_of_a_batch_so_that_what_is_sent_is_committed_in_time() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    let events: Vec<Event> = (0..20).map(|n| event(n, "slow-2@example.com")).collect();
    let start = Instant::now();
    let outcomes = sink.handle(&events.iter().collect::<Vec<_>>(), &[1; 20]);
    assert!(start.elapsed() < LONG_BATCH + TIMEOUT, "{:?}", start.elapsed());
    assert!(!outcomes.is_empty() && outcomes.len() <= 3, "{} outcomes", outcomes.len());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(server.stop().len(), outcomes.len());
}

#[test]
fn a_server_that_accepts_connections_and_says_nothing_costs_one_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_millis(300);
    for encryption in [SmtpEncryption::Opportunistic, SmtpEncryption::StartTls, SmtpEncryption::Tls] {
        let smtp = SmtpPlan { encryption, ..smtp(silent.local_addr().unwrap().port()) };
        let mut sink = MailSink::new(&SinkPlan { timeout, ..plan(smtp) }, |_| ()).unwrap();
        let start = Instant::now();
        let outcome = send(&mut sink, &event(0, "ada@example.com"));
        assert_fails(outcome, FailureKind::Retry, "did not answer within 300ms");
        assert!(start.elapsed() < 4 * timeout, "{:?}", start.elapsed());
    }
}

#[test]
fn a_cut_connection_is_tried_again_on_a_new_one() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    assert_fails(send(&mut sink, &event(0, "drop@example.com")), FailureKind::Retry, "connection");
    send(&mut sink, &event(1, "ada@example.com")).unwrap();
    assert_eq!(server.stop().len(), 1);
}

#[test]
fn a_server_that_was_down_gets_the_mail_when_it_is_back() {
    let server = SmtpServer::start(&[]);
    let (port, smtp) = (server.port.to_string(), smtp_to(&server));
    let mut sink = sink(smtp);
    send(&mut sink, &event(0, "ada@example.com")).unwrap();
    server.stop();
    let events = [event(1, "ada@example.com"), event(2, "ada@example.com")];
    for outcome in sink.handle(&events.iter().collect::<Vec<_>>(), &[1; 2]) {
        assert_fails(outcome, FailureKind::Retry, "no connection to the mail server localhost:");
    }
    let server = SmtpServer::start(&["--port", &port]);
    for event in &events {
        send(&mut sink, event).unwrap();
    }
    assert_eq!(server.stop().len(), 2);
}

#[test]
fn a_host_that_does_not_resolve_is_tried_again() {
    let mut sink = sink(SmtpPlan { host: "mail.invalid".into(), ..smtp(25) });
    let outcome = send(&mut sink, &event(0, "ada@example.com"));
    assert_fails(outcome, FailureKind::Retry, "no connection to the mail server mail.invalid:25");
}

#[test]
fn tls_is_used_from_the_first_byte_or_by_starttls() {
    for (option, encryption) in [
        ("implicit", SmtpEncryption::Tls),
        ("starttls", SmtpEncryption::StartTls),
        ("starttls", SmtpEncryption::Opportunistic),
    ] {
        let mut server = SmtpServer::start(&["--tls", option]);
        let mut sink = sink(SmtpPlan { encryption, ca: ca_of(&server), ..smtp_to(&server) });
        send(&mut sink, &event(0, "ada@example.com")).unwrap();
        assert_eq!(server.mail()["tls"], true, "{encryption:?}");
    }
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused_wherever_tls_is_promised() {
    for (option, encryption) in [("implicit", SmtpEncryption::Tls), ("starttls", SmtpEncryption::StartTls)] {
        let server = SmtpServer::start(&["--tls", option]);
        let mut sink = sink(SmtpPlan { encryption, ..smtp_to(&server) });
        let outcome = send(&mut sink, &event(0, "ada@example.com"));
        assert_fails(outcome, FailureKind::Retry, "name that in `ca_file`");
        assert!(server.stop().is_empty());
    }
}

#[test]
fn opportunistic_tls_takes_any_certificate_unless_there_are_credentials_to_protect() {
    let mut server = SmtpServer::start(&["--tls", "starttls"]);
    send(&mut sink(smtp_to(&server)), &event(0, "ada@example.com")).unwrap();
    assert_eq!(server.mail()["tls"], true);

    let credentials = Some(("ada".into(), Secret::new("right")));
    let mut sink = sink(SmtpPlan { credentials, ..smtp_to(&server) });
    assert_fails(
        send(&mut sink, &event(0, "ada@example.com")),
        FailureKind::Retry,
        "certificate verify failed",
    );
}

#[test]
fn required_starttls_that_is_not_offered_sends_nothing() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(SmtpPlan { encryption: SmtpEncryption::StartTls, ..smtp_to(&server) });
    assert_fails(send(&mut sink, &event(0, "ada@example.com")), FailureKind::Retry, "offers no STARTTLS");
    assert!(server.stop().is_empty());
}

#[test]
fn a_login_works_and_a_wrong_password_never_costs_a_mail() {
    let mut server = SmtpServer::start(&["--tls", "implicit", "--login", "ada:right"]);
    let with = |password| {
        let credentials = Some(("ada".into(), Secret::new(password)));
        SmtpPlan { encryption: SmtpEncryption::Tls, ca: ca_of(&server), credentials, ..smtp_to(&server) }
    };
    let (right, wrong) = (with("right"), with("wr0ng"));
    let none = SmtpPlan { credentials: None, ..right.clone() };

    let outcome = send(&mut sink(wrong), &event(0, "ada@example.com"));
    let message = assert_fails(outcome, FailureKind::Retry, "check the user name and password");
    assert!(!message.contains("wr0ng"), "{message}");
    let outcome = send(&mut sink(none), &event(0, "ada@example.com"));
    assert_fails(outcome, FailureKind::Retry, "wants a login");
    send(&mut sink(right), &event(0, "ada@example.com")).unwrap();
    assert_eq!(server.mail()["user"], "ada");
}

#[test]
fn credentials_are_sent_in_clear_text_to_loopback_at_most() {
    let mut server = SmtpServer::start(&["--login", "ada:right"]);
    let credentials = Some(("ada".into(), Secret::new("right")));
    let plain = SmtpPlan { credentials, ..smtp_to(&server) };
    send(&mut sink(plain.clone()), &event(0, "ada@example.com")).unwrap();
    assert_eq!(server.mail()["user"], "ada");

    // The same server by a name that resolvers understand and that is not known to be loopback.
    let other_name = SmtpPlan { host: "127.1".into(), ..plain };
    let outcome = send(&mut sink(other_name), &event(0, "ada@example.com"));
    assert_fails(outcome, FailureKind::Retry, "credentials are not sent in clear text");
}

#[test]
fn a_server_without_a_login_is_named_as_such_and_not_the_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 sink.test\r\n").unwrap();
        let mut hello = [0; 512];
        let _hello = stream.read(&mut hello).unwrap();
        stream.write_all(b"250-sink.test\r\n250 8BITMIME\r\n").unwrap();
    });
    let credentials = Some(("ada".into(), Secret::new("right")));
    let outcome = send(&mut sink(SmtpPlan { credentials, ..smtp(port) }), &event(0, "ada@example.com"));
    let message = assert_fails(outcome, FailureKind::Retry, "offers no login without TLS");
    assert!(!message.contains("check the user name"), "{message}");
    server.join().unwrap();
}

#[test]
fn a_reply_without_an_end_is_given_up_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let endless = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = 0_usize;
        stream.write_all(b"250 ").unwrap();
        // It ends when the sink hangs up.
        while sent < 1 << 30 && stream.write_all(&[b'x'; 4096]).is_ok() {
            sent += 4096;
        }
        sent
    });
    let outcome = send(&mut sink(smtp(port)), &event(0, "ada@example.com"));
    assert_fails(outcome, FailureKind::Retry, "does not end within");
    let sent = endless.join().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes");
}

#[test]
fn an_injected_header_is_rejected_before_anything_is_sent() {
    let server = SmtpServer::start(&[]);
    let mut sink = sink(smtp_to(&server));
    let mut event = event(0, "ada@example.com");
    event.payload = Some(mail("ada@example.com\r\nBcc: all@example.com").to_string().into());
    assert_fails(send(&mut sink, &event), FailureKind::Reject, "field \"to\" holds a line break");
    assert!(server.stop().is_empty());
}

#[test]
fn an_address_that_the_server_can_not_carry_is_rejected() {
    let server = SmtpServer::start(&[]);
    let outcome = send(&mut sink(smtp_to(&server)), &event(0, "ädä@example.com"));
    assert_fails(outcome, FailureKind::Reject, "SMTPUTF8");
}

#[test]
fn a_folder_gets_one_whole_file_for_each_mail_however_often_it_is_sent() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("out/box");
    let mut sink = folder_sink(&folder);
    for _ in 0..2 {
        let outputs = send(&mut sink, &event(3, "ada@example.com")).unwrap();
        let receipt: Value = serde_json::from_slice(outputs[0].payload.as_ref().unwrap()).unwrap();
        let name = "emails.0.3.1790000000000@wasmill.shop.mail.eml";
        assert_eq!(receipt["response"], format!("written to {name}"));
        assert_eq!(files(&folder), [folder.join(name)]);
    }
    send(&mut sink, &event(4, "ada@example.com")).unwrap();
    assert_eq!(files(&folder).len(), 2);
    let eml = fs::read_to_string(&files(&folder)[0]).unwrap();
    assert!(eml.contains("Subject: Your order\r\n") && eml.ends_with("--\r\n"), "{eml}");
}

#[test]
fn a_folder_that_can_not_be_written_is_tried_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("outbox");
    let mut sink = folder_sink(&folder);
    // A file in the folder's place stops even root, whom permissions don't.
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    assert_fails(send(&mut sink, &event(0, "ada@example.com")), FailureKind::Retry, "can't be written");
    assert!(matches!(MailSink::new(&folder_plan(&folder), |_| ()), Err(MailError::Folder { .. })));
    fs::remove_file(&folder).unwrap();
    send(&mut sink, &event(0, "ada@example.com")).unwrap();
    assert_eq!(files(&folder).len(), 1);
}

fn event(offset: i64, to: &str) -> Event {
    Event {
        position: Position { topic: "emails".into(), partition: 0, offset },
        timestamp_ms: Some(1_790_000_000_000),
        key: Some("o-1".into()),
        payload: Some(mail(&format!("Ada Park <{to}>")).to_string().into()),
        headers: Vec::new(),
    }
}

fn mail(to: &str) -> Value {
    json!({
        "to": to,
        "from": "shop@example.com",
        "subject": "Your order",
        "text": "Thank you!\n.\nBye",
        "html": "<p>Thank you!</p>",
    })
}

fn send(sink: &mut MailSink, event: &Event) -> Outcome {
    let mut outcomes = sink.handle(&[event], &[1]);
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn assert_fails(outcome: Outcome, kind: FailureKind, with: &str) -> String {
    let failure = outcome.expect_err("the mail fails");
    assert_eq!(failure.kind, kind, "{}", failure.message);
    assert!(failure.message.contains(with), "{with:?} is not in {:?}", failure.message);
    failure.message
}

fn sink(smtp: SmtpPlan) -> MailSink {
    MailSink::new(&plan(smtp), |_| ()).unwrap()
}

fn folder_sink(folder: &Path) -> MailSink {
    MailSink::new(&folder_plan(folder), |_| ()).unwrap()
}

fn folder_plan(folder: &Path) -> SinkPlan {
    SinkPlan { mail: MailPlan::Folder(folder.into()), ..plan(smtp(25)) }
}

fn ca_of(server: &SmtpServer) -> Trusted {
    let pem = fs::read_to_string(server.ca_file()).unwrap();
    let certificates = vec![Certificate::from_pem(pem.as_bytes()).unwrap()];
    Trusted { pem, certificates }
}

fn smtp_to(server: &SmtpServer) -> SmtpPlan {
    smtp(server.port)
}

fn smtp(port: u16) -> SmtpPlan {
    SmtpPlan {
        host: "localhost".into(),
        port,
        encryption: SmtpEncryption::Opportunistic,
        credentials: None,
        ca: Trusted::default(),
    }
}

fn plan(smtp: SmtpPlan) -> SinkPlan {
    SinkPlan {
        name: "mail".into(),
        group: "wasmill.shop.mail".into(),
        subscribe: vec!["emails".into()],
        receipts: Some("emails_sent".into()),
        dead_letter: "mail.dlq".into(),
        mail: MailPlan::Smtp(smtp),
        retry: RetryPlan {
            attempts: None,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
        },
        batch: 1,
        shards: 1,
        timeout: TIMEOUT,
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
