//! What a SIGHUP means: a reload, or that the terminal is gone that this process ran in.

use std::fs;

/// As it was when the process started, and before it listened to signals.
#[derive(Clone, Copy)]
pub(super) struct Terminal {
    /// It ran in the foreground of a terminal and didn't ignore its end, as under nohup(1).
    ends_with_it: bool,
}

impl Terminal {
    pub(super) fn at_start() -> Self {
        Self {
            ends_with_it: is_there()
                && in_foreground().unwrap_or(false)
                && !ignores_hangup().unwrap_or(false),
        }
    }

    /// Whether the terminal has been closed, which is to end the process.
    pub(super) fn took_its_leave(self) -> bool {
        self.ends_with_it && !is_there()
    }
}

fn is_there() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// Whether its process group is the terminal's (proc_pid_stat(5), fields 5 and 8).
fn in_foreground() -> Option<bool> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let group = fields.nth(2)?;
    let of_terminal = fields.nth(2)?;
    Some(group == of_terminal)
}

/// Whether SIGHUP, signal 1, is ignored (proc_pid_status(5)).
fn ignores_hangup() -> Option<bool> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(ignored.trim(), 16).ok()? & 1 == 1)
}
