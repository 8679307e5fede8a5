//! What handlers cost that have nothing to do: memory, threads, files and processor time of a host with 1, 10 and 100 of
//! them, and how long it takes to start, with and without the cache of compiled code.
//!
//!     just scale [HANDLERS…]

#[path = "measured/host.rs"]
mod host;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use host::{Folder, Host};

/// Idle for so long before it is measured, and while it is.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, component, counts @ ..] = arguments.as_slice() else {
        return Err("usage: scale BROKERS COMPONENT [HANDLERS…]".into());
    };
    let counts: Vec<u32> = match counts {
        [] => vec![1, 10, 100],
        some => some.iter().map(|count| count.parse()).collect::<Result<_, _>>()?,
    };
    println!("handlers  cold start s  from cache s   RSS MB  threads  files  cpu % idle");
    for count in counts {
        let folder = Folder::new("scale")?;
        let pipeline = pipeline(&folder, count, component.as_ref())?;
        let start = || -> Result<(Host, f64), Box<dyn Error>> {
            let started = Instant::now();
            let host = Host::start(&folder, &pipeline, brokers)?;
            Ok((host, started.elapsed().as_secs_f64()))
        };
        let (first, cold) = start()?;
        drop(first);
        // The groups' members of a killed host are replaced at once by those of the same name.
        let (host, warm) = start()?;
        thread::sleep(SETTLE);
        let process = host.process();
        let before = process.processor_seconds()?;
        thread::sleep(IDLE);
        let share = (process.processor_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
        println!(
            "{count:8}  {cold:12.2}  {warm:12.2}  {:7.1}  {:7}  {:5}  {share:10.2}",
            process.resident_bytes()? as f64 / 1e6,
            process.threads()?,
            process.files()?,
        );
    }
    Ok(())
}

/// Each handler is a component of its own.
fn pipeline(folder: &Folder, count: u32, component: &Path) -> Result<String, Box<dyn Error>> {
    let Folder { name: run, .. } = folder;
    let mut text = format!("name = \"{run}\"\nkafka = {{ brokers = \"embedded\", partitions = 1 }}\n");
    for number in 0..count {
        let name = format!("n{number:04}");
        folder.put(&format!("{name}.wasm"), component, number)?;
        write!(
            text,
            "[handlers.{name}]\ncomponent = \"{name}.wasm\"\n\
             subscribe = [\"{run}-{name}-in\"]\npublish = [\"{run}-{name}-out\"]\n"
        )?;
    }
    Ok(text)
}
