//! What a process holds, as /proc tells it.

use std::fmt;

use wasmill::process::Process;

pub(crate) struct Resources {
    /// In KiB.
    resident: u64,
    threads: u64,
    files: usize,
}

impl Resources {
    pub(crate) fn of(pid: u32) -> Self {
        let process = Process::new(pid);
        let resident = process.resident_bytes().unwrap() / 1024;
        Self { resident, threads: process.threads().unwrap(), files: process.files().unwrap() }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident, threads, files } = self;
        write!(f, "{resident} KiB resident, {threads} threads, {files} open files")
    }
}
