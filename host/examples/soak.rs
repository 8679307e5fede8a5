//! A long run: a host under a steady load, its component swapped again and again, some of its events broken. Memory,
//! threads, open files and latency must be in the end what they were in the beginning, and every event be accounted for.
//!
//!     just soak [MINUTES] [RATE]
//!
//! Prints a line a minute, and fails when something grows.
//!
//! Accounted for: all outputs and dead letters are read while they come, since the broker of a long run soon drops them. By
//! the number that each of them bears, every order must have one output, every broken event one dead letter, and nothing else
//! be there. What an output says of its order is not looked at: `wasmill bench` does that. If this program ever fell behind
//! by all that the broker keeps, it would take for lost what it has not read.

#[path = "measured/host.rs"]
mod host;
#[path = "measured/numbers.rs"]
mod numbers;

use std::error::Error;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use host::{Folder, Host};
use numbers::Numbers;
use serde_json::Value;
use wasmill::event::{Event, Record};
use wasmill::histogram::{median, percentile};
use wasmill::log::kafka::{Cluster, Start, Tail};
use wasmill::log::{LogError, Publish as _};
use wasmill_anchors::{micros, number, pace, placed_at_us};

const EVERY: Duration = Duration::from_secs(10);
const SWAP_AFTER: Duration = Duration::from_secs(30);
/// Not counted: until as many versions have come and gone as are kept, and the allocator has its arenas, memory grows.
const WARM_UP: Duration = Duration::from_secs(600);
const BYTES: usize = 313;
/// A flat line's, in bytes: it is to hold for days.
const MOST_GROWTH_IN_TEN_MINUTES: f64 = 1e6;
/// How much more the last third's median may be than the first's.
const MOST_MORE: f64 = 1.5;
/// For the last events to come out.
const PATIENCE: Duration = Duration::from_secs(60);
/// What no order begins with. Its number follows.
const BROKEN: &str = "no order, ";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Sample {
    at: Duration,
    resident: f64,
    threads: f64,
    files: f64,
    p50: f64,
    p99: f64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, component, minutes, rate] = arguments.as_slice() else {
        return Err("usage: soak BROKERS COMPONENT MINUTES RATE".into());
    };
    let duration = Duration::from_secs(60 * minutes.parse::<u64>()?);
    if duration <= 2 * WARM_UP {
        return Err(format!("a soak takes more than {:?}", 2 * WARM_UP).into());
    }
    let rate: u32 = rate.parse()?;
    let folder = Folder::new("soak")?;
    folder.put("soak.wasm", component.as_ref(), 0)?;
    let host = Host::start(&folder, &pipeline(&folder.name), brokers)?;
    let [input, output, dead] = ["in", "out", "dead"].map(|end| format!("{}-{end}", folder.name));
    let cluster = Cluster::attach(brokers, false);
    let tail = cluster.tail(&[output.as_str().into(), dead.into()], &Start::Beginning)?;

    let (stop, came) = (AtomicBool::new(false), Mutex::new(Came::default()));
    thread::scope(|scope| {
        let _however_it_ends = Over(&stop);
        scope.spawn(|| read(tail, &output, &came, &stop));
        let load = scope.spawn(|| pace(brokers, &input, 0, rate, duration, BYTES, &stop));
        let broken = scope.spawn(|| {
            let cluster = Cluster::attach(brokers, false);
            publish_broken(&cluster, &input, duration, &stop).map_err(|error| error.to_string())
        });
        let (samples, swaps) = observe(&host, &folder, component.as_ref(), &came, duration)?;
        load.join().map_err(|_| "the load has broken down")??;
        let broken = broken.join().map_err(|_| "who publishes broken events has broken down")??;
        let placed = (duration.as_secs_f64() * f64::from(rate)) as u64;
        everything_came_out(&host, &came, placed, broken)?;
        println!(
            "{placed} events and {broken} broken ones, {swaps} swaps: each has its one output or dead letter"
        );
        nothing_grows(&samples)
    })
}

/// Tells the threads to end, so that the scope can.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pipeline(run: &str) -> String {
    format!(
        "name = \"{run}\"\nkafka = {{ brokers = \"embedded\", partitions = 1 }}\n\
         [handlers.soak]\ncomponent = \"soak.wasm\"\nsubscribe = [\"{run}-in\"]\npublish = [\"{run}-out\"]\n\
         dead_letter = \"{run}-dead\"\n"
    )
}

/// What has come out of the host.
#[derive(Default)]
struct Came {
    orders: Numbers,
    broken: Numbers,
    /// How long orders took, in microseconds, of those that have come since the last sample.
    took: Vec<u64>,
    /// Why the reader has ended.
    failed: Option<String>,
}

impl Came {
    /// An output, which was read at this time, or a dead letter.
    fn note(&mut self, event: &Event, output: &str, now: u64) -> std::result::Result<(), String> {
        let payload = event.payload.as_deref().unwrap_or_default();
        if &*event.position.topic != output {
            let number = number_of_broken(payload);
            let number = number.ok_or_else(|| format!("dead letter {} is of an order", event.position))?;
            return self.broken.note(number);
        }
        let order = event.key.as_deref().and_then(number).zip(placed_at_us(payload));
        let (number, placed) = order.ok_or_else(|| format!("output {} is of no order", event.position))?;
        self.took.push(now.saturating_sub(placed));
        self.orders.note(number)
    }

    /// What is missing, or was there twice, where so many have been sent.
    fn faults(&self, placed: u64, broken: u64) -> Option<String> {
        let orders = self.orders.faults_of(placed).map(|faults| format!("orders: {faults}"));
        let broken = self.broken.faults_of(broken).map(|faults| format!("broken events: {faults}"));
        let all: Vec<String> = [self.failed.clone(), orders, broken].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

fn number_of_broken(payload: &[u8]) -> Option<u64> {
    str::from_utf8(payload).ok()?.strip_prefix(BROKEN)?.parse().ok()
}

fn lock(came: &Mutex<Came>) -> MutexGuard<'_, Came> {
    came.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes all that comes, until it is stopped. Of each record little is looked at: to parse all would cost more than the host.
fn read(mut tail: Tail, output: &str, came: &Mutex<Came>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let events = match tail.poll(10_000, Duration::from_millis(20)) {
            Ok(events) => events,
            // In a run of hours that happens, and is latency.
            Err(LogError::Unavailable(_)) => Vec::new(),
            Err(error @ LogError::Fatal(_)) => {
                lock(came).failed = Some(error.to_string());
                return;
            }
        };
        let now = micros();
        let mut came = lock(came);
        if let Err(reason) = events.iter().try_for_each(|event| came.note(event, output, now)) {
            came.failed = Some(reason);
            return;
        }
    }
}

/// One a second; how many.
fn publish_broken(cluster: &Cluster, topic: &str, duration: Duration, stop: &AtomicBool) -> Result<u64> {
    let publisher = cluster.publisher(Duration::from_secs(30))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < duration && !stop.load(Ordering::Relaxed) {
        let payload = Some(format!("{BROKEN}{count}").into());
        let record = Record { topic: topic.into(), key: Some("broken".into()), payload, headers: vec![] };
        runtime.block_on(publisher.publish(record, Duration::from_secs(30)))?;
        count += 1;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(count)
}

/// Swaps the component meanwhile; how often.
fn observe(
    host: &Host,
    folder: &Folder,
    component: &Path,
    came: &Mutex<Came>,
    duration: Duration,
) -> Result<(Vec<Sample>, u32)> {
    let process = host.process();
    let (started, mut swaps, mut samples) = (Instant::now(), 0, Vec::<Sample>::new());
    let mut version = running(host)?;
    println!("minute   RSS MB  threads  files  p50 ms  p99 ms");
    while started.elapsed() + EVERY < duration {
        let began = Instant::now();
        if started.elapsed() > SWAP_AFTER * (swaps + 1) {
            let now = running(host)?;
            if swaps > 0 && now == version {
                return Err(format!("swap {swaps} has not taken effect in {SWAP_AFTER:?}").into());
            }
            version = now;
            swaps += 1;
            folder.put("soak.wasm", component, swaps)?;
        }
        thread::sleep(EVERY.saturating_sub(began.elapsed()));
        let (p50, p99) = latency(came)?;
        let sample = Sample {
            at: started.elapsed(),
            resident: process.resident_bytes()? as f64,
            threads: process.threads()? as f64,
            files: process.files()? as f64,
            p50,
            p99,
        };
        let Sample { at, resident, threads, files, .. } = sample;
        if samples.last().is_none_or(|last| last.at.as_secs() / 60 != at.as_secs() / 60) {
            let minute = at.as_secs() / 60;
            println!("{minute:6}  {:7.1}  {threads:7}  {files:5}  {p50:6.1}  {p99:6.1}", resident / 1e6);
        }
        samples.push(sample);
    }
    Ok((samples, swaps))
}

/// The digest of the version that runs.
fn running(host: &Host) -> Result<String> {
    let status: Value = serde_json::from_str(&host.get("/status")?)?;
    let digest = status["subscribers"][0]["digest"].as_str();
    Ok(digest.ok_or("no version runs")?.to_string())
}

/// The median and the 99th percentile, in milliseconds, of what has come out since the last time.
fn latency(came: &Mutex<Came>) -> Result<(f64, f64)> {
    let (mut took, failed) = {
        let mut came = lock(came);
        (mem::take(&mut came.took), came.failed.clone())
    };
    if let Some(reason) = failed {
        return Err(reason.into());
    }
    took.sort_unstable();
    let ms = |percent| percentile(&took, percent).map(|us| us as f64 / 1000.0);
    ms(50.0).zip(ms(99.0)).ok_or_else(|| format!("nothing comes out within {EVERY:?}").into())
}

/// Once, by what was read and by what the host says.
fn everything_came_out(host: &Host, came: &Mutex<Came>, placed: u64, broken: u64) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while lock(came).faults(placed, broken).is_some() && Instant::now() < until {
        thread::sleep(Duration::from_millis(200));
    }
    // What comes twice comes later.
    thread::sleep(EVERY);
    if let Some(faults) = lock(came).faults(placed, broken) {
        return Err(faults.into());
    }
    let status: Value = serde_json::from_str(&host.get("/status")?)?;
    let of = &status["subscribers"][0];
    let (outputs, letters) = (of["outputs"].as_u64(), of["dead_letters"].as_u64());
    if outputs != Some(placed) || letters != Some(broken) {
        return Err(format!(
            "the host tells of {outputs:?} outputs and {letters:?} dead letters, and has made {placed} and {broken}"
        )
        .into());
    }
    Ok(())
}

fn nothing_grows(samples: &[Sample]) -> Result<()> {
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.at > WARM_UP).collect();
    let growth = 600.0 * slope(samples.iter().map(|sample| (sample.at.as_secs_f64(), sample.resident)));
    println!("memory grows by {:.2} MB in 10 minutes", growth / 1e6);
    let mut faults = Vec::new();
    if growth > MOST_GROWTH_IN_TEN_MINUTES {
        faults.push("memory grows".to_string());
    }
    let third = samples.len() / 3;
    type Figure = (&'static str, f64, fn(&Sample) -> f64);
    let figures: [Figure; 4] = [
        ("threads", 1.0, |sample| sample.threads),
        ("files", 1.0, |sample| sample.files),
        ("p50 ms", MOST_MORE, |sample| sample.p50),
        ("p99 ms", MOST_MORE, |sample| sample.p99),
    ];
    for (name, most, figure) in figures {
        let median_of = |of: &[&Sample]| {
            let mut figures: Vec<f64> = of.iter().map(|sample| figure(sample)).collect();
            figures.sort_by(f64::total_cmp);
            median(&figures).unwrap_or(f64::NAN)
        };
        let (first, last) = (median_of(&samples[..third]), median_of(&samples[samples.len() - third..]));
        println!("{name}: {first:.1} in the first third, {last:.1} in the last");
        if last > first * most {
            faults.push(format!("{name} grows"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join(", ").into()) }
}

/// Of the line that fits best: least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let (x, y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (over, under) = points.fold((0.0, 0.0), |(over, under), point| {
        (over + (point.0 - x) * (point.1 - y), under + (point.0 - x) * (point.0 - x))
    });
    over / under
}
