//! What a component sees of the world, and what the world sees of it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use wasmill::config::plan::HandlerPlan;

use crate::{failure, handle, handle_one, handler, handler_of, plan, secret, texts};

#[test]
fn a_component_sees_its_own_environment_and_no_files() {
    let env = BTreeMap::from([("GREETING".into(), secret("hello")), ("LIMIT".into(), secret("3"))]);
    let mut handler = handler_of("env", &HandlerPlan { env, ..plan() });
    assert_eq!(
        texts(&handle_one(&mut handler, "")),
        [
            "env GREETING=hello LIMIT=3",
            "args 0",
            "stdin true 0",
            "read false",
            "list false",
            "write false",
            "clock true",
            "slept true",
        ]
    );
}

#[test]
fn what_a_component_prints_becomes_log_lines_with_handler_digest_and_trace() {
    let log = logged(|| {
        handle_one(&mut handler("chatty"), "hello\u{1b}[31m").unwrap();
    });
    let digest = &wasmill::event::Handler::digest(&handler("chatty"))[..12];
    for (level, line) in [("INFO", "out: hello\u{fffd}[31m"), ("WARN", "err: hello\u{fffd}[31m")] {
        let found = log.lines().find(|logged| logged.contains(line)).unwrap_or_else(|| panic!("{log}"));
        for part in
            [level, "guest", "handler=\"tested\"", digest, "trace=\"4bf92f3577b34da6a3ce929d0e0e4736\""]
        {
            assert!(found.contains(part), "{part} is not in {found}");
        }
    }
}

#[test]
fn a_flood_of_lines_is_cut_and_counted() {
    let log = logged(|| {
        handle_one(&mut handler("chatty"), "flood").unwrap();
    });
    assert!(log.contains("line 199"));
    assert!(!log.contains("line 200"));
    assert!(log.contains("800 more lines are left out"), "{log}");
}

#[test]
fn a_batch_that_is_halved_logs_each_line_once() {
    let log = logged(|| {
        handle(&mut handler("chatty"), &["a", "b", "panic", "c"]);
    });
    for line in ["out: a", "out: b", "out: c", "about to panic"] {
        assert_eq!(log.matches(line).count(), 1, "{line} in {log}");
    }
}

#[test]
fn what_a_component_printed_before_its_trap_is_in_the_failure() {
    let trap = failure(&mut handler("chatty"), "panic");
    assert!(trap.message.contains("\nabout to panic"), "{}", trap.message);
    assert!(trap.message.contains("after printing"), "{}", trap.message);
}

/// The log of what `run` does on this thread.
pub(crate) fn logged(run: impl FnOnce()) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
