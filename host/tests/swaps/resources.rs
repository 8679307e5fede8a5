//! What a process holds, as /proc tells it.

use std::fmt;
use std::fs;

pub(crate) struct Resources {
    /// In KiB.
    resident: u64,
    threads: u64,
    files: usize,
}

impl Resources {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident: field("VmRSS:"), threads: field("Threads:"), files }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident, threads, files } = self;
        write!(f, "{resident} KiB resident, {threads} threads, {files} open files")
    }
}
