//! What clients that misbehave cost those that don't, and what an idempotency key costs: how long POSTs take at a
//! steady rate, by turns without keys, with keys, and with keys beside 1,000 stalled connections, slow bodies and
//! oversized requests.
//!
//!     just http-load [RATE] [ROUNDS]
//!     WASMILL_TEST_BROKERS=127.0.0.1:9092 just http-load
//!
//! Everything shares this machine: the broker, the host and this program, the misbehaving clients included. Each
//! figure is the median of the rounds'.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::{Folder, Host};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmill::histogram::{median, percentile};

#[path = "measured/host.rs"]
mod host;
#[allow(dead_code)]
#[path = "../tests/common/kafka.rs"]
mod kafka;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONNECTIONS: u32 = 8;
const WARM_UP: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(2);
const STALLED: usize = 1000;
const SLOW: usize = 200;
/// Between two bytes of a slow body, and between two oversized requests.
const SLOWLY: Duration = Duration::from_secs(1);
const OVERSIZED: Duration = Duration::from_millis(50);

const HEAD: &str = "POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    WithoutKeys,
    WithKeys,
    BesideBadClients,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate: u32 = arguments.next().map_or(Ok(200), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(25), |n| n.parse())?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;

    let folder = Folder::new("load")?;
    let host = Host::start(&folder, &pipeline(&folder.name), kafka::broker())?;
    let address = host.address();
    measure(&address, rate, WARM_UP, Kind::WithKeys)?;
    println!("{rate} requests/s, {rounds} rounds of {ROUND:?} of each; times in ms");
    let kinds = [
        ("without keys", Kind::WithoutKeys),
        ("with keys", Kind::WithKeys),
        ("beside bad clients", Kind::BesideBadClients),
    ];
    let mut figures = kinds.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..rounds {
        for ((_, kind), (p50, p99)) in kinds.iter().zip(&mut figures) {
            let bad = (*kind == Kind::BesideBadClients).then(|| BadClients::start(&address));
            let mut times = measure(&address, rate, ROUND, *kind)?;
            if let Some(bad) = bad {
                bad.stop();
            }
            times.sort_unstable();
            p50.push(ms(percentile(&times, 50.0)));
            p99.push(ms(percentile(&times, 99.0)));
        }
    }
    println!("{:20} {:>7} {:>7} {:>24}", "", "p50", "p99", "half of the rounds' p99");
    for ((name, _), (p50, p99)) in kinds.iter().zip(&mut figures) {
        p50.sort_by(f64::total_cmp);
        p99.sort_by(f64::total_cmp);
        let figures = [median(p50), median(p99), percentile(p99, 25.0), percentile(p99, 75.0)];
        let [p50, p99, from, to] = figures.map(|figure| figure.unwrap_or(f64::NAN));
        println!("{name:20} {p50:7.2} {p99:7.2} {from:15.2}…{to:.2}");
    }
    Ok(())
}

fn pipeline(run: &str) -> String {
    format!(
        "name = \"{run}\"\nkafka = {{ brokers = \"embedded\", partitions = 3 }}\n\
         http.resources.things = {{ topic = \"{run}.things\", key = \"id\" }}\n"
    )
}

fn ms(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// How long each of these requests took from the moment that it was due: one that waits behind a slow one counts.
fn measure(address: &str, rate: u32, time: Duration, kind: Kind) -> Result<Vec<Duration>> {
    let run = uuid::Uuid::now_v7();
    let step = Duration::from_secs(1) * CONNECTIONS / rate;
    let started = Instant::now();
    let times = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|client| {
                scope.spawn(move || -> std::io::Result<Vec<Duration>> {
                    let mut stream = TcpStream::connect(address)?;
                    stream.set_nodelay(true)?;
                    let mut times = Vec::new();
                    let mut due = started + step * client / CONNECTIONS;
                    for n in 0.. {
                        due += step;
                        if due - started > time {
                            break;
                        }
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let key = match kind {
                            Kind::WithoutKeys => String::new(),
                            Kind::WithKeys | Kind::BesideBadClients => {
                                format!("idempotency-key: {run}-{client}-{n}\r\n")
                            }
                        };
                        let body = r#"{"text":"a body of the usual size, which is not much"}"#;
                        let length = body.len();
                        stream.write_all(
                            format!("{HEAD}{key}content-length: {length}\r\n\r\n{body}").as_bytes(),
                        )?;
                        let answer = answer(&mut stream)?;
                        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
                        times.push(due.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("no panic"))
            .collect::<std::io::Result<Vec<_>>>()
    });
    Ok(times?.concat())
}

/// One answer whose length is announced.
fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            length.is_some_and(|length| length.parse() == Ok(body.len()))
        });
        if whole || read == 0 {
            return Ok(text.into_owned());
        }
    }
}

/// Until it is stopped.
struct BadClients {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl BadClients {
    fn start(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let go_on = move || !stopped.load(Ordering::Relaxed);
        let open = {
            let address = address.to_string();
            move |text: &str| {
                let mut stream = TcpStream::connect(&address).ok()?;
                stream.write_all(text.as_bytes()).ok()?;
                Some(stream)
            }
        };
        let body = format!("{HEAD}content-length: 400000\r\n\r\n{{");
        let sockets: Vec<_> =
            (0..STALLED).map(|_| open(&HEAD[..40])).chain((0..SLOW).map(|_| open(&body))).collect();
        let slow_go_on = go_on.clone();
        let slow = thread::spawn(move || {
            let mut sockets = sockets;
            while slow_go_on() {
                for stream in sockets[STALLED..].iter_mut().flatten() {
                    // Those that were cut off are cut off.
                    let _ = stream.write_all(b" ");
                }
                thread::sleep(SLOWLY);
            }
        });
        let oversized = thread::spawn(move || {
            let header = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "x".repeat(20_000));
            let length = 600_000;
            let body = format!("{HEAD}content-length: {length}\r\n\r\n{}", "x".repeat(length));
            while go_on() {
                for text in [&header, &body] {
                    if let Some(mut stream) = open(text) {
                        let _ = stream.read(&mut [0; 512]);
                    }
                    thread::sleep(OVERSIZED);
                }
            }
        });
        Self { stop, threads: vec![slow, oversized] }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
    }
}
