//! What Linux says of a process, in /proc (proc(5)).

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Processor time is told in these, a second (`CLK_TCK`, on every Linux of today).
const TICKS: f64 = 100.0;

/// One that runs. All of it fails once it has ended, and where there is no /proc.
#[derive(Clone, Debug)]
pub struct Process(PathBuf);

impl Process {
    pub fn new(id: u32) -> Self {
        Self(Path::new("/proc").join(id.to_string()))
    }

    /// User and system, of all its threads so far, in seconds; in steps of 10 ms.
    pub fn processor_seconds(&self) -> io::Result<f64> {
        let stat = self.read("stat")?;
        // After the name, which may hold anything, and its parenthesis: utime and stime are the 12th and 13th.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        match ticks.as_slice() {
            [user, system] => Ok((user + system) / TICKS),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}/stat tells no times", self.0.display()),
            )),
        }
    }

    /// What it has in memory, in bytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        Ok(self.status("VmRSS:")? * 1024)
    }

    /// The most that it had in memory, in bytes.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        Ok(self.status("VmHWM:")? * 1024)
    }

    /// How many it has.
    pub fn threads(&self) -> io::Result<u64> {
        self.status("Threads:")
    }

    /// Files and sockets that it holds open.
    pub fn files(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.0.join("fd"))?.count())
    }

    fn status(&self, name: &str) -> io::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let path = self.0.display();
        number.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path}/status tells no {name}"))
        })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = self.0.join(file);
        fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_of_as_long_as_it_runs() {
        let this = Process::new(std::process::id());
        assert!(this.resident_bytes().unwrap() > 1_000_000);
        assert!(this.peak_bytes().unwrap() >= this.resident_bytes().unwrap());
        assert!(this.threads().unwrap() >= 1 && this.files().unwrap() >= 3);
        let began = this.processor_seconds().unwrap();
        while this.processor_seconds().unwrap() <= began {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
        let error = Process::new(u32::MAX).threads().unwrap_err();
        assert!(error.to_string().starts_with("/proc/4294967295/status: "), "{error}");
    }
}
