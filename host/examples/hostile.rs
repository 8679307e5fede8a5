//! What a hostile guest costs its neighbours: how long events of a steady handler take, from the producer to a reader
//! of committed records, alone and beside each guest that gets one guilty event after another, by turns.
//!
//!     just hostile [RATE] [ROUNDS] [GUEST...]
//!     WASMILL_TEST_BROKERS=127.0.0.1:9092 just hostile
//!
//! Everything shares this machine: the broker, the host and this program. `echo` is no hostile guest; it shows what
//! any neighbour costs, and how exact the figures are. Each figure is the median of the rounds': a stall of the
//! broker in one of them says nothing of the guest.
//!
//! An event of the steady handler takes from when it was due, counts for the round in which it was due, and is waited for: it
//! ends the run when one is lost or comes out twice.

use std::error::Error;
use std::fs;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use host::{Folder, Host};
use numbers::Numbers;
use wasmill::event::headers::{DIGEST, FAILURE_KIND, FAILURE_MESSAGE, SOURCE};
use wasmill::event::{Event, Record, header};
use wasmill::guest::ComponentFile;
use wasmill::histogram::{median, percentile};
use wasmill::log::kafka::{Cluster, Publisher, Start, Tail};
use wasmill::log::{LogError, Publish as _};
use wasmill_anchors::{micros, number, pace, placed_at_us};

#[path = "measured/host.rs"]
mod host;
#[allow(dead_code)]
#[path = "../tests/common/kafka.rs"]
mod kafka;
#[path = "measured/numbers.rs"]
mod numbers;
#[path = "../tests/common/wat.rs"]
mod wat;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PIPELINE: &str = r#"
name = "RUN"
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
/// What a guest has left behind is no round's.
const BETWEEN: Duration = Duration::from_millis(500);
/// Guilty events come one at a time, and no faster than this.
const GUILTY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate: u32 = arguments.next().map_or(Ok(500), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(8), |n| n.parse())?;
    let chosen: Vec<String> = arguments.collect();

    let brokers = kafka::broker();
    let mut bench = Bench::start(brokers)?;
    let steady = bench.pace(brokers, rate)?;
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
    host: Host,
    folder: Folder,
    cluster: Cluster,
    runtime: tokio::runtime::Runtime,
    publisher: Arc<Publisher>,
    /// What comes of guilty events.
    answers: Tail,
}

/// What has come of the steady handler.
#[derive(Clone, Default)]
struct Steady(Arc<Mutex<Came>>);

#[derive(Default)]
struct Came {
    numbers: Numbers,
    /// Of no round yet.
    outputs: Vec<Output>,
    /// Why nothing more comes.
    failed: Option<String>,
}

/// When its event was due, since the Unix epoch, and how long it took from then on, in microseconds.
struct Output {
    due: u64,
    took: u64,
}

impl Bench {
    fn start(brokers: &str) -> Result<Self> {
        let folder = Folder::new("hostile")?;
        let formatter = root().join(wasmill_anchors::COMPONENT);
        folder
            .put("steady.wasm", &formatter, 0)
            .map_err(|error| format!("{}: {error}", formatter.display()))?;
        folder.put("hostile.wasm", &guest_file("echo"), 0)?;
        let host = Host::start(&folder, &PIPELINE.replace("RUN", &folder.name), brokers)?;
        let cluster = Cluster::attach(brokers, false);
        let topics = ["dead", "answers"].map(|side| format!("{}-{side}", folder.name).into());
        let answers = patiently(|| cluster.tail(&topics, &Start::Beginning).ok())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let publisher = Arc::new(cluster.publisher(Duration::from_secs(30))?);
        Ok(Self { host, folder, cluster, runtime, publisher, answers })
    }

    /// Sends events to the steady handler, and notes what comes out, until this process ends.
    fn pace(&self, brokers: &str, rate: u32) -> Result<Steady> {
        let steady = Steady::default();
        let tail = self.cluster.tail(&[format!("{}-out", self.folder.name).into()], &Start::Beginning)?;
        let reading = steady.clone();
        thread::spawn(move || {
            if let Err(reason) = reading.read(tail) {
                reading.lock().failed = Some(reason);
            }
        });
        let (brokers, input) = (brokers.to_string(), format!("{}-in", self.folder.name));
        let pacing = steady.clone();
        thread::spawn(move || {
            let ended = pace(&brokers, &input, 0, rate, Duration::MAX, 0, &AtomicBool::new(false));
            pacing.lock().failed = Some(format!("the load has ended: {ended:?}"));
        });
        patiently(|| {
            let came = steady.lock();
            (came.outputs.len() > rate as usize || came.failed.is_some()).then_some(())
        })?;
        Ok(steady)
    }

    fn measure(&mut self, guest: &str, payload: &str, rounds: usize, steady: &Steady) -> Result<()> {
        let digest = self.swap(guest)?;
        let mut told = None;
        // The guest before may still get some, and may have nothing to say to them.
        while told.as_ref().and_then(|told: &Event| header(&told.headers, DIGEST)) != Some(digest.as_bytes())
        {
            told = self.answer(payload, Duration::from_secs(2))?;
        }
        let mut told = told.ok_or("no answer")?;
        // Makes the peak start anew: proc_pid_clear_refs(5).
        let memory = self.host.process().resident_bytes()? / (1024 * 1024);
        fs::write(format!("/proc/{}/clear_refs", self.host.id()), "5")?;
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
            let took = steady.took(started..micros())?;
            let of_its_kind = if guilty { &mut with } else { &mut alone };
            of_its_kind.push(took);
            thread::sleep(BETWEEN);
        }
        let peak = self.host.process().peak_bytes()? / (1024 * 1024);
        let of = |name| header(&told.headers, name).map(String::from_utf8_lossy).unwrap_or_default();
        let (kind, message) = (of(FAILURE_KIND), of(FAILURE_MESSAGE));
        let message: String = message.lines().next().unwrap_or_default().chars().take(60).collect();
        let guilty = fates.len();
        fates.sort_unstable();
        let (p99, beside) = (of_rounds(&alone, 99.0), of_rounds(&with, 99.0));
        println!(
            "{guest:12} {payload:21} {:>6.1} {:>6.1} {p99:>6.1} {beside:>6.1} {:>5.2} {memory:>6} {peak:>6} {guilty:>6} {:>7.1}  {kind}: {message}",
            of_rounds(&alone, 50.0),
            of_rounds(&with, 50.0),
            beside / p99,
            ms(percentile(&fates, 50.0)),
        );
        Ok(())
    }

    /// Puts the guest in the place of the one before, and gives its digest.
    fn swap(&self, guest: &str) -> Result<String> {
        self.folder.put("hostile.wasm", &guest_file(guest), 0)?;
        Ok(ComponentFile::read(self.folder.path("hostile.wasm"))?.digest.to_string())
    }

    /// Sends a guilty event and waits for the first record that comes of it.
    fn answer(&mut self, payload: &str, patience: Duration) -> Result<Option<Event>> {
        self.host.check()?;
        let payload = Some(payload.to_string().into());
        let topic = format!("{}-guilty", self.folder.name).into();
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
}

impl Steady {
    fn lock(&self) -> MutexGuard<'_, Came> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends only when it can't go on.
    fn read(&self, mut tail: Tail) -> std::result::Result<(), String> {
        loop {
            let events = match tail.poll(1000, Duration::from_millis(100)) {
                Ok(events) => events,
                Err(LogError::Unavailable(_)) => Vec::new(),
                Err(error @ LogError::Fatal(_)) => return Err(error.to_string()),
            };
            let now = micros();
            let mut came = self.lock();
            for event in events {
                let number = event.key.as_deref().and_then(number);
                let due = event.payload.as_deref().and_then(placed_at_us);
                let (number, due) =
                    number.zip(due).ok_or_else(|| format!("output {} is of no order", event.position))?;
                came.numbers.note(number)?;
                came.outputs.push(Output { due, took: now.saturating_sub(due) });
            }
        }
    }

    /// How long those took that were due in the round, in microseconds, sorted. Waits for the last of them.
    fn took(&self, round: Range<u64>) -> Result<Vec<u64>> {
        let came = patiently(|| {
            let mut came = self.lock();
            if let Some(reason) = came.failed.take() {
                return Some(Err(reason));
            }
            // One that is tried again comes out after others that were due later: then it is missing until it has come.
            let is_over = came.outputs.iter().any(|output| output.due >= round.end);
            if !is_over || came.numbers.faults().is_some() {
                return None;
            }
            let outputs = mem::take(&mut came.outputs);
            let (later, outputs): (Vec<Output>, Vec<Output>) =
                outputs.into_iter().partition(|output| output.due >= round.end);
            came.outputs = later;
            Some(Ok(outputs))
        });
        let came = came.map_err(|error| match self.lock().numbers.faults() {
            None => error,
            Some(faults) => format!("events of the steady handler: {faults}").into(),
        })??;
        let of_round = came.into_iter().filter(|output| output.due >= round.start);
        let mut took: Vec<u64> = of_round.map(|output| output.took).collect();
        took.sort_unstable();
        Ok(took)
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

/// The median of the rounds' percentiles, in milliseconds.
fn of_rounds(rounds: &[Vec<u64>], percent: f64) -> f64 {
    let mut each: Vec<f64> = rounds.iter().map(|round| ms(percentile(round, percent))).collect();
    each.sort_by(f64::total_cmp);
    median(&each).unwrap_or(f64::NAN)
}

/// Of microseconds.
fn ms(us: Option<u64>) -> f64 {
    us.map_or(f64::NAN, |us| us as f64 / 1000.0)
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn guest_file(name: &str) -> PathBuf {
    let built = root().join("target/guests/wasm32-wasip2/release/examples");
    wat::written_guest(name).unwrap_or_else(|| built.join(name.replace('-', "_")).with_extension("wasm"))
}
