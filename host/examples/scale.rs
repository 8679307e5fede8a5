//! What handlers cost that have nothing to do: memory, threads, files and processor time of a host with 1, 10 and 100 of
//! them, and how long it takes to start, with and without the cache of compiled code.
//!
//!     kafka/start &
//!     cargo run --release --example scale -- 127.0.0.1:9092 components/order-formatter.wasm [HANDLERS…]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Idle for so long before it is measured, and while it is.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);
/// Of the processor time in /proc, a second.
const TICKS: f64 = 100.0;

/// Killed when it is dropped.
struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, component, counts @ ..] = arguments.as_slice() else {
        return Err("usage: scale BROKERS COMPONENT [HANDLERS…]".into());
    };
    let counts: Vec<usize> = match counts {
        [] => vec![1, 10, 100],
        some => some.iter().map(|count| count.parse()).collect::<Result<_, _>>()?,
    };
    let component = fs::canonicalize(component)?;
    println!("handlers  cold start s  from cache s   RSS MB  threads  files  cpu % idle");
    for count in counts {
        let folder = std::env::temp_dir().join(format!("wasmill-scale-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(&folder)?;
        let port = 20_000 + (std::process::id() as usize + count) % 20_000;
        fs::write(folder.join("pipeline.toml"), pipeline(&folder, count, port, &component)?)?;
        let (first, cold) = start(&folder, brokers, port)?;
        drop(first);
        // The group's members of a killed host are replaced by those of the same name at once.
        let (host, warm) = start(&folder, brokers, port)?;
        thread::sleep(SETTLE);
        let before = processor_seconds(&host)?;
        thread::sleep(IDLE);
        let share = (processor_seconds(&host)? - before) / IDLE.as_secs_f64() * 100.0;
        let status = proc(&host, "status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let files = fs::read_dir(format!("/proc/{}/fd", host.0.id()))?.count();
        println!(
            "{count:8}  {cold:12.2}  {warm:12.2}  {:7.1}  {:7}  {files:5}  {share:10.2}",
            field("VmRSS:") * 1024.0 / 1e6,
            field("Threads:"),
        );
        drop(host);
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Each handler is a component of its own: the same code, in a file with a number in it.
fn pipeline(folder: &Path, count: usize, port: usize, component: &Path) -> Result<String, Box<dyn Error>> {
    let code = fs::read(component)?;
    let mut text = format!(
        "name = \"{}\"\nkafka = {{ brokers = \"embedded\", partitions = 1 }}\nhttp = {{ listen = \"127.0.0.1:{port}\" }}\n",
        folder.file_name().and_then(|name| name.to_str()).unwrap_or("scale")
    );
    for number in 0..count {
        let name = format!("n{number:04}");
        // A custom section, which nobody reads: its id, its size, the length of its name, its name.
        let mut file = File::create(folder.join(format!("{name}.wasm")))?;
        file.write_all(&code)?;
        file.write_all(&[0, name.len() as u8 + 1, name.len() as u8])?;
        file.write_all(name.as_bytes())?;
        write!(
            text,
            "[handlers.{name}]\ncomponent = \"{name}.wasm\"\nsubscribe = [\"{0}-{name}-in\"]\npublish = [\"{0}-{name}-out\"]\n",
            folder.file_name().and_then(|name| name.to_str()).unwrap_or("scale")
        )?;
    }
    Ok(text)
}

/// Until it is ready; how many seconds that took.
fn start(folder: &Path, brokers: &str, port: usize) -> Result<(Host, f64), Box<dyn Error>> {
    let started = Instant::now();
    let program = std::env::current_exe()?.with_file_name("../wasmill");
    let child = Command::new(program)
        .args(["run", "--config"])
        .arg(folder.join("pipeline.toml"))
        .args(["--brokers", brokers, "--instance", "scale"])
        .env("WASMILL_STATE", folder.join("state"))
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("log"))?)
        .spawn()?;
    let mut host = Host(child);
    while !is_ready(port) {
        if started.elapsed() > PATIENCE || host.0.try_wait()?.is_some() {
            return Err(fs::read_to_string(folder.join("log"))?.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok((host, started.elapsed().as_secs_f64()))
}

fn is_ready(port: usize) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port as u16))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn processor_seconds(host: &Host) -> Result<f64, Box<dyn Error>> {
    let stat = proc(host, "stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
}

fn proc(host: &Host, file: &str) -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string(format!("/proc/{}/{file}", host.0.id()))?)
}
