//! A whole host on Apache Kafka whose mail server fails in every way, and is away for a while: every e-mail arrives, none
//! twice but where the server's last word was lost, and nobody's mail waits for somebody else's.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use common::DEADLINE;
use common::host::{Host, Pipeline, until};
use common::kafka::{Broker, free_port};
use common::orders::{publish, read, text};
use common::smtp::SmtpServer;
use serde_json::{Value, json};
use wasmill::event::headers::{FAILURE_KIND, FAILURE_MESSAGE};

const PIPELINE: &str = r#"
name = "mail-faults"
kafka = { brokers = "embedded", partitions = 2 }
http = { listen = "${WASMILL_LISTEN:-127.0.0.1:0}" }

[sinks.mail]
subscribe = ["mails"]
smtp = "${SMTP_URL}"
receipts = "receipts"
timeout = "1 s"
retry = { backoff = "100ms..1s" }
"#;

/// Their first try fails.
const TRANSIENT: [&str; 4] = ["once-450", "once-421", "once-cut", "once-hang"];
/// How the server makes a mail come twice: it takes it, and its last word is lost.
const LOST: &str = "once-lost";
const ROUNDS: usize = 6;

#[test]
fn whatever_the_mail_server_does_every_mail_arrives_and_none_twice_but_where_its_last_word_is_lost() {
    let kafka = Broker::start_empty();
    let port = free_port();
    let server = || SmtpServer::start(&["--port", &port.to_string()]);
    let first = server();
    let pipeline = Pipeline::written(PIPELINE);
    let url = format!("smtp://127.0.0.1:{port}");
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[("SMTP_URL", &url)]);
    host.ready();

    // Each customer's mails are numbered, and each behaviour meets both partitions.
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let send = |round: usize, sent: &mut BTreeMap<String, Vec<String>>| {
        let behaviours = TRANSIENT.iter().copied().chain([LOST, "fine", "reply-550"]);
        let records = behaviours.map(|behaviour| {
            let (to, key) =
                (format!("{behaviour}-{round}@example.com"), format!("{behaviour}-{}", round % 2));
            if behaviour != "reply-550" {
                sent.entry(key.clone()).or_default().push(to.clone());
            }
            (key, mail(&to))
        });
        publish(&kafka.address, "mails", records.collect::<Vec<_>>());
    };
    (0..ROUNDS / 2).for_each(|round| send(round, &mut sent));
    // These never work, and are never given up either: 4xx for ever, and silence.
    publish(&kafka.address, "mails", [("stuck".into(), mail("reply-451@example.com"))]);
    publish(&kafka.address, "mails", [("silent".into(), mail("hang@example.com"))]);
    let receipts = || read(&kafka.address, "receipts").len();
    let half = sent_to(&sent);
    until(2 * DEADLINE, || receipts() == half)
        .unwrap_or_else(|()| panic!("{} of {half}\n{}", receipts(), host.log()));

    // Away, while more comes.
    let mut mails = first.stop();
    (ROUNDS / 2..ROUNDS).for_each(|round| send(round, &mut sent));
    let all = sent_to(&sent);
    let outage = std::env::var("WASMILL_OUTAGE").map_or(5, |s| s.parse().expect("WASMILL_OUTAGE is seconds"));
    thread::sleep(Duration::from_secs(outage));
    assert_eq!(receipts(), half, "nobody took them");
    let second = server();
    until(2 * DEADLINE, || receipts() == all)
        .unwrap_or_else(|()| panic!("{} of {all}\n{}", receipts(), host.log()));
    let (status, took) = host.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");
    mails.extend(second.stop());

    let mut arrived: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for mail in &mails {
        arrived.entry(mail["to"][0].as_str().unwrap().into()).or_default().push(mail);
    }
    for to in sent.values().flatten() {
        let copies = &arrived[to];
        // Byte by byte, its Message-ID included.
        assert!(copies.iter().all(|copy| copy["data"] == copies[0]["data"]), "{copies:?}");
        assert_eq!(copies.len(), if to.starts_with(LOST) { 2 } else { 1 }, "{to}");
    }
    assert_eq!(arrived.len(), all);
    let order: Vec<&str> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    for (key, of_key) in &sent {
        let mut seen: Vec<&str> =
            order.iter().copied().filter(|to| of_key.iter().any(|of| of == to)).collect();
        seen.dedup();
        assert_eq!(seen, *of_key, "{key}");
    }
    let letters = read(&kafka.address, "mail.dlq");
    assert_eq!(letters.len(), ROUNDS);
    for letter in &letters {
        assert_eq!(text(letter, FAILURE_KIND), "reject");
        assert!(text(letter, FAILURE_MESSAGE).contains("550"), "{letter:?}");
    }
}

fn sent_to(sent: &BTreeMap<String, Vec<String>>) -> usize {
    sent.values().map(Vec::len).sum()
}

fn mail(to: &str) -> String {
    let mail = json!({ "to": to, "from": "mill@example.com", "subject": "A word", "text": "Good day." });
    mail.to_string()
}
