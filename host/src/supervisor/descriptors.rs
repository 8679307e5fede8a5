//! File descriptors: each connection is one, and so is each of a Kafka client's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What the connections of HTTP and a pipeline of some size take.
const ENOUGH: u64 = 4096;

/// Lets the process have as many as it may: systems set the limit low for programs that wait by select(2), which nothing
/// here does.
pub(super) fn raise_the_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| limit.maximum.is_some_and(|maximum| current >= maximum)) {
        tell(limit.current);
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => tell(limit.maximum),
        Err(error) => {
            debug!("can't raise the limit of open files: {error}");
            tell(limit.current);
        }
    }
}

fn tell(limit: Option<u64>) {
    if let Some(limit) = limit.filter(|limit| *limit < ENOUGH) {
        warn!(
            "the process may open only {limit} files (`ulimit -n`): with more connections, the idle ones are closed"
        );
    }
}
