//! A long run: a host under a steady load, its component swapped again and again, some of its events broken. Memory,
//! threads, open files and latency must be in the end what they were in the beginning, and every event be accounted for.
//!
//!     just soak [MINUTES] [RATE]
//!
//! Prints a line a minute, and fails when something grows.

#[path = "measured/host.rs"]
mod host;

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::{Folder, Host};
use serde_json::Value;
use wasmill::event::Record;
use wasmill::log::Publish as _;
use wasmill::log::kafka::{Cluster, Start};
use wasmill_anchors::pace;

const EVERY: Duration = Duration::from_secs(10);
/// Of each [`EVERY`], latency is measured for so long: to read everything would cost more than the host.
const LISTEN: Duration = Duration::from_secs(2);
const SWAP_AFTER: Duration = Duration::from_secs(30);
/// Not counted: until as many versions have come and gone as are kept, and the allocator has its arenas, memory grows.
const WARM_UP: Duration = Duration::from_secs(600);
const BYTES: usize = 313;
/// A flat line's, in bytes: it is to hold for days.
const MOST_GROWTH_IN_TEN_MINUTES: f64 = 1e6;
/// How much more the last third's median may be than the first's.
const MOST_MORE: f64 = 1.5;

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
    let input = format!("{}-in", folder.name);

    let load = thread::spawn({
        let (brokers, input) = (brokers.clone(), input.clone());
        move || pace(&brokers, &input, 0, rate, duration, BYTES).map_err(|error| error.to_string())
    });
    let broken = thread::spawn({
        let cluster = Cluster::attach(brokers, false);
        move || publish_broken(&cluster, &input, duration).map_err(|error| error.to_string())
    });
    let (samples, swaps) =
        observe(&host, &folder, component.as_ref(), &Cluster::attach(brokers, false), duration)?;
    load.join().map_err(|_| "the load has broken down")??;
    let broken = broken.join().map_err(|_| "who publishes broken events has broken down")??;
    let placed = (duration.as_secs_f64() * f64::from(rate)) as u64;
    everything_came_out(&host, placed, broken)?;
    println!(
        "{placed} events and {broken} broken ones, {swaps} swaps: each has its output or its dead letter"
    );
    nothing_grows(&samples)
}

fn pipeline(run: &str) -> String {
    format!(
        "name = \"{run}\"\nkafka = {{ brokers = \"embedded\", partitions = 1 }}\n\
         [handlers.soak]\ncomponent = \"soak.wasm\"\nsubscribe = [\"{run}-in\"]\npublish = [\"{run}-out\"]\n"
    )
}

/// One a second; how many.
fn publish_broken(cluster: &Cluster, topic: &str, duration: Duration) -> Result<u64> {
    let publisher = cluster.publisher(Duration::from_secs(30))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < duration {
        let payload = Some(format!("no order, {count}").into());
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
    cluster: &Cluster,
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
        let (p50, p99) = latency(cluster, &format!("{}-out", folder.name))?;
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
        thread::sleep(EVERY.saturating_sub(began.elapsed()));
    }
    Ok((samples, swaps))
}

/// The digest of the version that runs.
fn running(host: &Host) -> Result<String> {
    let status: Value = serde_json::from_str(&host.get("/status")?)?;
    let digest = status["subscribers"][0]["digest"].as_str();
    Ok(digest.ok_or("no version runs")?.to_string())
}

/// The median and the 99th percentile, in milliseconds, of what comes out now.
fn latency(cluster: &Cluster, topic: &str) -> Result<(f64, f64)> {
    let mut tail = cluster.tail(&[topic.into()], &Start::End)?;
    let mut took = Vec::new();
    let until = Instant::now() + LISTEN;
    while Instant::now() < until {
        let events = tail.poll(10_000, Duration::from_millis(20))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as f64;
        for event in events {
            let order: Value = serde_json::from_slice(event.payload.as_deref().unwrap_or_default())?;
            took.extend(order["placed_at_us"].as_f64().map(|placed| (now - placed) / 1000.0));
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
    at(0.5).zip(at(0.99)).ok_or_else(|| format!("nothing comes out within {LISTEN:?}").into())
}

fn everything_came_out(host: &Host, placed: u64, broken: u64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let status: Value = serde_json::from_str(&host.get("/status")?)?;
        let of = &status["subscribers"][0];
        let (outputs, letters) = (of["outputs"].as_u64(), of["dead_letters"].as_u64());
        if outputs == Some(placed) && letters == Some(broken) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(
                format!("{outputs:?} outputs of {placed}, {letters:?} dead letters of {broken}").into()
            );
        }
        thread::sleep(Duration::from_millis(200));
    }
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
        let median = |of: &[&Sample]| {
            let mut figures: Vec<f64> = of.iter().map(|sample| figure(sample)).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let (first, last) = (median(&samples[..third]), median(&samples[samples.len() - third..]));
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
