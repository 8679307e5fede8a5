//! HTTP while brokers die and stand still, hosts are killed, and clients misbehave.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::host::{Host, Pipeline, until};
use common::http::{self, Answer};
use common::kafka::{self, Broker, free_port};
use common::orders::cluster;
use common::wait_for;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmill::event::{Event, header, headers};
use wasmill::log::kafka::Start;

/// One at a time: each of these tests needs the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A resource, and nobody who reads its topic.
fn pipeline(name: &str, body_timeout: &str) -> Pipeline {
    Pipeline::written(&format!(
        r#"
name = "{name}"
[kafka]
partitions = 3
[http]
listen = "${{WASMILL_LISTEN:-127.0.0.1:0}}"
body_timeout = "{body_timeout}"
[http.resources.things]
topic = "{name}.things"
key = "id"
"#
    ))
}

fn post(host: &str, key: &str, body: &str) -> Option<Answer> {
    http::post(&format!("http://{host}/things"), body, &[("idempotency-key", key)])
}

/// `partition/offset` of a 201.
fn position(answer: &Answer) -> String {
    let answer = answer.json();
    format!("{}/{}", answer["partition"], answer["offset"])
}

/// All that the topic has.
fn read(brokers: &str, topic: &str) -> Vec<Event> {
    let mut tail = cluster(brokers).tail(&[topic.into()], &Start::Beginning).unwrap();
    let mut events = Vec::new();
    wait_for("end of the topic", || {
        events.extend(tail.poll(10_000, Duration::from_millis(100)).unwrap());
        tail.caught_up()
    });
    events
}

fn idempotency_key(event: &Event) -> String {
    let key = header(&event.headers, headers::IDEMPOTENCY_KEY).expect("a key");
    String::from_utf8(key.to_vec()).unwrap()
}

#[test]
fn whatever_becomes_of_the_broker_posts_are_answered_in_time_and_what_was_acknowledged_is_there_once() {
    /// `body_timeout` and two seconds; the rest is for a busy machine.
    const BOUND: Duration = Duration::from_secs(6 + 2 + 4);
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut broker = Broker::start_with(data.path(), port);
    let address = broker.address.clone();
    let pipeline = pipeline("faults", "6 s");
    let mut host = Host::start(&pipeline, &address, "one", &[]);
    host.ready();

    let (stop, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let acknowledged = Mutex::new(BTreeMap::new());
    let longest = Mutex::new(Duration::ZERO);
    let client = |client: usize| {
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (key, body) = (format!("{client}-{n}"), format!(r#"{{"id":"{client}-{n}"}}"#));
            // Until it is taken, as a client does to whom it matters.
            loop {
                let started = Instant::now();
                let answer = post(&host.address, &key, &body).expect("an answer");
                let mut longest = longest.lock().unwrap();
                *longest = started.elapsed().max(*longest);
                drop(longest);
                if answer.status == 201 {
                    acknowledged.lock().unwrap().insert(key, position(&answer));
                    break;
                }
                assert_eq!(answer.status, 503, "{}", answer.body);
                assert!(answer.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{}", answer.head);
                refused.fetch_add(1, Ordering::Relaxed);
                // Not what Retry-After asks for: the more there are under way when something breaks, the better.
                thread::sleep(Duration::from_millis(100));
            }
        }
    };
    let broker = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|number| scope.spawn(move || client(number))).collect();
        let count = || acknowledged.lock().unwrap().len();
        let more = |by: usize| {
            let before = count();
            until(Duration::from_secs(90), || count() >= before + by)
                .unwrap_or_else(|()| panic!("no more posts are taken\n{}", host.log()));
        };
        let refuses = || {
            let before = refused.load(Ordering::Relaxed);
            wait_for("refusals", || refused.load(Ordering::Relaxed) >= before + 30);
        };
        for _ in 0..2 {
            more(200);
            broker.kill();
            refuses();
            broker = Broker::start_with(data.path(), port);
            more(200);
            broker.signal("STOP");
            refuses();
            broker.signal("CONT");
        }
        more(200);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        broker
    });
    let longest = longest.into_inner().unwrap();
    let refused = refused.into_inner();
    println!("the longest answer took {longest:?}; {refused} refusals");
    assert!(longest < BOUND, "{longest:?}");

    let acknowledged = acknowledged.into_inner().unwrap();
    let mut there = BTreeMap::new();
    for event in read(&address, "faults.things") {
        let position = format!("{}/{}", event.position.partition, event.position.offset);
        let key = idempotency_key(&event);
        let before = there.insert(key.clone(), position);
        assert_eq!(before, None, "{key} is there twice");
    }
    assert_eq!(there, acknowledged);
    drop(broker);
}

#[test]
fn a_hundred_posts_with_one_key_are_one_event_on_two_hosts_also_when_one_is_killed() {
    let _alone = alone();
    let brokers = kafka::broker();
    let name = format!("once-{}", std::process::id());
    let pipeline = pipeline(&name, "6 s");
    let mut hosts = ["one", "two"].map(|instance| Host::start(&pipeline, brokers, instance, &[]));
    hosts.iter_mut().for_each(Host::ready);

    const ROUNDS: usize = 8;
    for round in 0..ROUNDS {
        let addresses = Mutex::new([hosts[0].address.clone(), hosts[1].address.clone()]);
        let key = format!("key-{round}");
        let body = format!(r#"{{"round":{round}}}"#);
        let client = |number: usize| {
            for attempt in 0.. {
                // A repetition goes to whichever host it meets.
                let address = addresses.lock().unwrap()[(number + attempt) % 2].clone();
                match post(&address, &key, &body) {
                    Some(answer) if answer.status == 201 => return position(&answer),
                    Some(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                    // It was killed.
                    None => {}
                }
                thread::sleep(Duration::from_millis(200));
            }
            unreachable!("it goes on until it is taken")
        };
        let positions: BTreeSet<String> = thread::scope(|scope| {
            let clients: Vec<_> = (0..100).map(|number| scope.spawn(move || client(number))).collect();
            if round % 2 == 1 {
                // At another moment of their publication each time.
                thread::sleep(Duration::from_millis(3 * round as u64));
                let killed = round / 2 % 2;
                let instance = ["one", "two"][killed];
                let new = Host::start(&pipeline, brokers, instance, &[]);
                std::mem::replace(&mut hosts[killed], new).sigkill();
                addresses.lock().unwrap()[killed] = hosts[killed].address.clone();
            }
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(positions.len(), 1, "round {round}: {positions:?}");
        hosts.iter_mut().for_each(Host::ready);
        for host in &hosts {
            let answer = post(&host.address, &key, r#"{"another":"body"}"#).unwrap();
            assert_eq!(answer.status, 422, "{}", answer.body);
        }
    }
    let events = read(brokers, &format!("{name}.things"));
    let keys: BTreeSet<_> = events.iter().map(idempotency_key).collect();
    assert_eq!((events.len(), keys.len()), (ROUNDS, ROUNDS), "{keys:?}");
}

#[test]
fn clients_that_stall_keep_nobody_out_and_take_bounded_memory() {
    let _alone = alone();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let pipeline = pipeline("stalled", "30 s");
    let mut host = Host::start(&pipeline, "embedded", "one", &[]);
    host.ready();
    let healthy = |n: usize| post(&host.address, &format!("k-{n}"), r#"{"healthy":true}"#);
    assert_eq!(healthy(0).unwrap().status, 201);
    let before = resident(host.pid());

    let open = |text: &str| {
        let mut stream = TcpStream::connect(&host.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    const HEAD: &str = "POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    // More than there are places, for connections and for bodies.
    let stalled: Vec<_> = (0..1500).map(|_| open(&HEAD[..40])).collect();
    let mut slow: Vec<_> =
        (0..900).map(|_| open(&format!("{HEAD}content-length: 400000\r\n\r\n{{"))).collect();
    let oversized_header = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "x".repeat(20_000));
    let oversized_body = "x".repeat(600_000);

    for second in 0..6 {
        for n in 0..50 {
            let answer = healthy(1000 * second + n).expect("a healthy request is served");
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        for _ in 0..20 {
            let mut answer = String::new();
            // It may be closed before all is read.
            let _ = open(&oversized_header).read_to_string(&mut answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
            let answer = http::post(&host.url("/things"), &oversized_body, &[]).expect("an answer");
            assert_eq!(answer.status, 413, "{}", answer.body);
        }
        for stream in &mut slow {
            // Some are cut by now.
            let _ = stream.write_all(b" ");
        }
        thread::sleep(Duration::from_millis(500));
    }
    let after = resident(host.pid());
    println!("resident: {before} MiB before, {after} MiB after");
    assert!(after < before + 150, "{before} MiB before, {after} MiB after");
    drop((stalled, slow));
}

/// MiB of the process.
fn resident(pid: u32) -> u64 {
    wasmill::process::Process::new(pid).resident_bytes().unwrap() / (1024 * 1024)
}
