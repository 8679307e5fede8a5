//! What a hostile guest costs its neighbours: how long events of a steady handler take, from the producer to a reader
//! of committed records, alone and beside each guest that gets one guilty event after another, by turns.
//!
//!     just hostile [RATE] [ROUNDS] [GUEST...]
//!     WASMILL_TEST_BROKERS=127.0.0.1:9092 just hostile
//!
//! Everything shares this machine: the broker, the host and this program. `echo` is no hostile guest; it shows what
//! any neighbour costs, and how exact the figures are. Each figure is the median of the rounds': a stall of the
//! broker in one of them says nothing of the guest.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wasmill::config::plan::{Brokers, KafkaPlan};
use wasmill::event::headers::{DIGEST, FAILURE_KIND, FAILURE_MESSAGE, SOURCE};
use wasmill::event::{Event, Record, header};
use wasmill::guest::ComponentFile;
use wasmill::log::Publish as _;
use wasmill::log::kafka::{Cluster, Publisher, Start, Tail};
use wasmill::process::Process;

#[allow(dead_code)]
#[path = "../tests/common/kafka.rs"]
mod kafka;
#[path = "../tests/common/wat.rs"]
mod wat;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PIPELINE: &str = r#"
name = "hostile"
kafka = { brokers = "embedded", partitions = 1 }
handlers.steady = { component = "steady.wasm", subscribe = ["RUN-in"], publish = ["RUN-out"] }

[handlers.hostile]
component = "hostile.wasm"
subscribe = ["RUN-guilty"]
publish = ["RUN-answers"]
dead_letter = "RUN-dead"
limits = { memory = "64 MiB", time = "100 ms" }
"#;

/// Guests and their payloads.
const GUESTS: [(&str, &str); 25] = [
    ("echo", ""),
    ("endless", ""),
    ("start-loop", ""),
    ("sleep", ""),
    ("block-copy", "1"),
    ("block-copy", "22"),
    ("memory-bomb", "bomb"),
    ("table-bomb", "bomb"),
    ("stack-overflow", ""),
    ("huge", "record"),
    ("huge", "reject"),
    ("overlap", ""),
    ("billions", "1"),
    ("flood", "100001"),
    ("chatty", "flood"),
    ("chatty", "long line"),
    ("greedy", "handles"),
    ("greedy", "endless lines"),
    ("greedy", "endless output"),
    ("greedy", "endless files"),
    ("greedy", "endless random bytes"),
    ("fate", "panic"),
    ("wrong-count", "forget"),
    ("topic-bytes", "bytes"),
    ("topic", "secrets"),
];

/// A broker that has just started is slower.
const WARM_UP: Duration = Duration::from_secs(20);
const ROUND: Duration = Duration::from_millis(2500);
/// Guilty events come one at a time, and no faster than this.
const GUILTY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate: u32 = arguments.next().map_or(Ok(500), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(8), |n| n.parse())?;
    let chosen: Vec<String> = arguments.collect();

    let run = format!("hostile-{}", uuid::Uuid::now_v7().simple());
    let brokers = kafka::broker();
    let mut bench = Bench::start(brokers, &run)?;
    let steady = bench.pace(rate)?;
    thread::sleep(WARM_UP);
    println!(
        "{rate} events/s, {rounds} rounds of {ROUND:?} alone and as many with each guest; times in ms, memory in MiB"
    );
    println!(
        "{:12} {:21} {:>6} {:>6} {:>6} {:>6} {:>5} {:>6} {:>6} {:>6} {:>7}  told",
        "guest", "payload", "p50", "with", "p99", "with", "ratio", "memory", "peak", "guilty", "fate"
    );
    for (guest, payload) in GUESTS {
        if chosen.is_empty() || chosen.iter().any(|name| name == guest) {
            bench.measure(guest, payload, rounds, &steady)?;
        }
    }
    Ok(())
}

struct Bench {
    run: String,
    folder: tempfile::TempDir,
    host: Host,
    cluster: Cluster,
    runtime: tokio::runtime::Runtime,
    publisher: Arc<Publisher>,
    /// What comes of guilty events.
    answers: Tail,
}

/// Killed when it is let go.
struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When events of the steady handler were sent and how long they took, in microseconds.
#[derive(Clone, Default)]
struct Latencies(Arc<Mutex<Vec<(u64, u64)>>>);

impl Bench {
    fn start(brokers: &str, run: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let formatter = root().join("components/order-formatter.wasm");
        fs::copy(&formatter, folder.path().join("steady.wasm"))
            .map_err(|error| format!("{}: {error}", formatter.display()))?;
        fs::copy(guest_file("echo"), folder.path().join("hostile.wasm"))?;
        fs::write(folder.path().join("pipeline.toml"), PIPELINE.replace("RUN", run))?;
        // Beside the folder of the examples.
        let program = std::env::current_exe()?.ancestors().nth(2).ok_or("no folder")?.join("wasmill");
        let log = fs::File::create(folder.path().join("log"))?;
        let host = Command::new(&program)
            .args(["run", "--brokers", brokers, "--instance", run])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let plan = KafkaPlan {
            brokers: Brokers::Addresses(brokers.into()),
            properties: BTreeMap::new(),
            instance: run.into(),
        };
        let cluster = Cluster::connect(&plan, run)?;
        let topics = ["dead", "answers"].map(|side| format!("{run}-{side}").into());
        let answers = patiently(|| cluster.tail(&topics, &Start::Beginning).ok())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let publisher = Arc::new(cluster.publisher(Duration::from_secs(30))?);
        Ok(Self { run: run.into(), folder, host: Host(host), cluster, runtime, publisher, answers })
    }

    /// Sends events to the steady handler, and notes what comes out, until this process ends.
    fn pace(&self, rate: u32) -> Result<Latencies> {
        let latencies = Latencies::default();
        let mut tail = self.cluster.tail(&[format!("{}-out", self.run).into()], &Start::End)?;
        let (input, publisher) = (format!("{}-in", self.run), self.publisher.clone());
        let noted = latencies.clone();
        thread::spawn(move || {
            loop {
                let events = tail.poll(1000, Duration::from_millis(100)).unwrap_or_default();
                let now = micros();
                let mut latencies = noted.lock();
                latencies.extend(events.iter().filter_map(|event| {
                    let sent = std::str::from_utf8(event.key.as_deref()?).ok()?.parse().ok()?;
                    Some((sent, now.saturating_sub(sent)))
                }));
            }
        });
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            loop {
                ticks.tick().await;
                let (publisher, record) = (publisher.clone(), order(&input, &micros().to_string()));
                tokio::spawn(async move { publisher.publish(record, PATIENCE).await });
            }
        });
        patiently(|| (latencies.lock().len() > 1000).then_some(()))?;
        Ok(latencies)
    }

    fn measure(&mut self, guest: &str, payload: &str, rounds: usize, steady: &Latencies) -> Result<()> {
        let digest = self.swap(guest)?;
        let mut told = None;
        // The guest before may still get some, and may have nothing to say to them.
        while told.as_ref().and_then(|told: &Event| header(&told.headers, DIGEST)) != Some(digest.as_bytes())
        {
            told = self.answer(payload, Duration::from_secs(2))?;
        }
        let mut told = told.ok_or("no answer")?;
        // Makes the peak start anew: proc_pid_clear_refs(5).
        let memory = self.process().resident_bytes()? / (1024 * 1024);
        fs::write(format!("/proc/{}/clear_refs", self.host.0.id()), "5")?;
        let (mut alone, mut with, mut fates) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..2 * rounds {
            // Alone, with, with, alone: so that drift of the machine is everybody's.
            let guilty = round % 4 == 1 || round % 4 == 2;
            let started = micros();
            let end = Instant::now() + ROUND;
            while guilty && Instant::now() < end {
                let sent = Instant::now();
                told = self.answer(payload, PATIENCE)?.ok_or("no answer")?;
                fates.push(sent.elapsed().as_micros() as u64);
                thread::sleep(GUILTY.saturating_sub(sent.elapsed()));
            }
            thread::sleep(end.saturating_duration_since(Instant::now()));
            let ended = micros();
            // What is under way belongs to the round as well.
            thread::sleep(Duration::from_millis(500));
            let mut latencies = steady.lock();
            let of_round = latencies.drain(..).filter(|(sent, _)| (started..ended).contains(sent));
            let of_round: Vec<u64> = of_round.map(|(_, took)| took).collect();
            if guilty { with.push(of_round) } else { alone.push(of_round) }
        }
        let peak = self.process().peak_bytes()? / (1024 * 1024);
        let of = |name| header(&told.headers, name).map(String::from_utf8_lossy).unwrap_or_default();
        let (kind, message) = (of(FAILURE_KIND), of(FAILURE_MESSAGE));
        let message: String = message.lines().next().unwrap_or_default().chars().take(60).collect();
        let guilty = fates.len();
        let (p99, beside) = (of_rounds(&mut alone, 99), of_rounds(&mut with, 99));
        println!(
            "{guest:12} {payload:21} {:>6.1} {:>6.1} {p99:>6.1} {beside:>6.1} {:>5.2} {memory:>6} {peak:>6} {guilty:>6} {:>7.1}  {kind}: {message}",
            of_rounds(&mut alone, 50),
            of_rounds(&mut with, 50),
            beside / p99,
            percentile(&mut fates, 50),
        );
        Ok(())
    }

    /// Puts the guest in the place of the one before, and gives its digest.
    fn swap(&self, guest: &str) -> Result<String> {
        let file = guest_file(guest);
        let new = self.folder.path().join(".new");
        fs::copy(&file, &new)?;
        fs::rename(new, self.folder.path().join("hostile.wasm"))?;
        Ok(ComponentFile::read(file)?.digest.to_string())
    }

    /// Sends a guilty event and waits for the first record that comes of it.
    fn answer(&mut self, payload: &str, patience: Duration) -> Result<Option<Event>> {
        if let Some(status) = self.host.0.try_wait()? {
            return Err(format!("the host is gone: {status}").into());
        }
        let payload = Some(payload.to_string().into());
        let topic = format!("{}-guilty", self.run).into();
        let record = Record { topic, key: Some("k".into()), payload, headers: Vec::new() };
        let source = self.runtime.block_on(self.publisher.publish(record, PATIENCE))?.to_string();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let mut came = self.answers.poll(1000, Duration::from_millis(100))?.into_iter();
            if let Some(event) = came.find(|event| header(&event.headers, SOURCE) == Some(source.as_bytes()))
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Of the host.
    fn process(&self) -> Process {
        Process::new(self.host.0.id())
    }
}

impl Latencies {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn patiently<T>(mut there: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(there) = there() {
            return Ok(there);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(format!("nothing came within {PATIENCE:?}").into())
}

/// The median of the rounds' percentiles.
fn of_rounds(rounds: &mut [Vec<u64>], percent: usize) -> f64 {
    let mut each: Vec<f64> = rounds.iter_mut().map(|round| percentile(round, percent)).collect();
    each.sort_by(f64::total_cmp);
    each[each.len() / 2]
}

/// In milliseconds, of microseconds.
fn percentile(of: &mut [u64], percent: usize) -> f64 {
    of.sort_unstable();
    of.get(of.len() * percent / 100).map_or(f64::NAN, |us| *us as f64 / 1000.0)
}

/// Since the first call.
fn micros() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn guest_file(name: &str) -> PathBuf {
    let built = root().join("target/guests/wasm32-wasip2/release/examples");
    wat::written_guest(name).unwrap_or_else(|| built.join(name.replace('-', "_")).with_extension("wasm"))
}

fn order(topic: &str, id: &str) -> Record {
    let body = format!(
        r#"{{"order_id":"{id}","customer":{{"id":"c-00042","name":"Ada Park","email":"c42@example.com"}},"items":[{{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price_cents":1150}}],"currency":"EUR","placed_at_us":1790000000000000}}"#
    );
    Record {
        topic: topic.into(),
        key: Some(id.to_string().into()),
        payload: Some(body.into()),
        headers: Vec::new(),
    }
}
