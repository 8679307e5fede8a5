//! How long a shard is between two of its commits: as a rule, and where it takes a new version up. Read from the log
//! of a host, in JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use wasmill::histogram::percentile;

#[derive(Default)]
pub(crate) struct Pauses {
    usual: Vec<Duration>,
    /// A version was compiled or loaded meanwhile, on another thread.
    beside: Vec<Duration>,
    /// A version was taken up that had been compiled just now.
    compiled: Vec<Duration>,
    /// A version was taken up whose code was in the cache.
    cached: Vec<Duration>,
}

struct Gap {
    from: SystemTime,
    to: SystemTime,
    /// The version that was taken up in it.
    took_up: Option<String>,
}

struct Made {
    from: SystemTime,
    to: SystemTime,
}

impl Pauses {
    pub(crate) fn of(log: &str) -> Self {
        let (mut gaps, mut made, mut cached) = (Vec::<Gap>::new(), Vec::new(), BTreeMap::new());
        let (mut last, mut runs) = (None, None);
        for line in log.lines() {
            // A kill may have cut one short.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let (Some(at), Some(message)) = (line["timestamp"].as_str(), line["message"].as_str()) else {
                continue;
            };
            let at = humantime::parse_rfc3339(at).unwrap();
            let text = |field: &str| line[field].as_str().unwrap().to_string();
            if message.starts_with("compiling ") {
                // Another process.
                (last, runs) = (None, None);
            } else if message == "committed" {
                gaps.extend(last.map(|from| Gap { from, to: at, took_up: None }));
                last = Some(at);
            } else if message.starts_with("runs from ") {
                let digest = text("digest");
                if runs.as_ref().is_some_and(|before| *before != digest) {
                    gaps.last_mut().unwrap().took_up = Some(digest.clone());
                }
                runs = Some(digest);
            } else if let Some(how) = message.strip_prefix("swapped: ") {
                let ms = how.split(' ').rev().nth(1).unwrap().parse::<f64>().unwrap();
                made.push(Made { from: at - Duration::from_secs_f64(ms / 1000.0), to: at });
                cached.insert(text("new"), how.starts_with("loaded from the cache"));
            }
        }
        let mut pauses = Self::default();
        let mut ahead = made.as_slice();
        for Gap { from, to, took_up } in gaps {
            while ahead.first().is_some_and(|made| made.to < from) {
                ahead = &ahead[1..];
            }
            let kind = match took_up {
                Some(digest) if cached[&digest] => &mut pauses.cached,
                Some(_) => &mut pauses.compiled,
                None if ahead.first().is_some_and(|made| made.from < to) => &mut pauses.beside,
                None => &mut pauses.usual,
            };
            kind.push(to.duration_since(from).unwrap_or_default());
        }
        pauses
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "between two commits, in ms:              p50     p99     max   count")?;
        let rows = [
            ("as a rule", &self.usual),
            ("while a version is made ready", &self.beside),
            ("a swap to one just compiled", &self.compiled),
            ("a swap to one from the cache", &self.cached),
        ];
        for (name, gaps) in rows {
            let mut gaps = gaps.clone();
            gaps.sort();
            write!(f, "  {name:34}")?;
            for percent in [50.0, 99.0, 100.0] {
                match percentile(&gaps, percent) {
                    Some(gap) => write!(f, " {:7.2}", gap.as_secs_f64() * 1000.0)?,
                    None => write!(f, "       -")?,
                }
            }
            writeln!(f, " {:7}", gaps.len())?;
        }
        Ok(())
    }
}
