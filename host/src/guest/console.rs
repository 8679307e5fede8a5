//! A guest's stdout and stderr: kept while a call runs, logged line by line when its result counts.
//!
//! The lines of a call that is repeated for its halves are thrown away, because the halves print them again:
//! the log shows each event's lines once. All is bounded: a line's length, the lines of a call, and the end
//! of stderr that explains a trap.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::event::FAILURE_TEXT;
use crate::text::readable;

/// Bytes of a line; the rest of it is cut off.
const LINE: usize = 4 * 1024;
/// Lines of one call; how many more there were is logged.
const LINES: usize = 200;
/// Bytes of stderr that a failure's message can show, besides the reason.
const TAIL: usize = FAILURE_TEXT - 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Shared by the guest's store, which writes, and the handler, which reads when the call has ended.
#[derive(Clone, Default)]
pub(super) struct Console(Arc<Mutex<Printed>>);

#[derive(Default)]
struct Printed {
    lines: Vec<(Stream, String)>,
    dropped: usize,
    open_stdout: Vec<u8>,
    open_stderr: Vec<u8>,
    tail: Vec<u8>,
}

impl Console {
    pub(super) fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { console: self.clone(), stream }
    }

    /// Logs what the call printed, and is empty for the next one; `trace` is the id of the one trace that it handled.
    pub(super) fn log(&self, handler: &str, digest: &str, trace: Option<&str>) {
        let mut printed = mem::take(&mut *self.lock());
        printed.close_line(Stream::Stdout);
        printed.close_line(Stream::Stderr);
        let digest = digest.get(..12).unwrap_or(digest);
        for (stream, line) in &printed.lines {
            match stream {
                Stream::Stdout => tracing::info!(target: "guest", handler, digest, trace, "{line}"),
                Stream::Stderr => tracing::warn!(target: "guest", handler, digest, trace, "{line}"),
            }
        }
        if printed.dropped > 0 {
            let left_out = printed.dropped as u64;
            tracing::warn!(target: "guest", handler, digest, trace, left_out, "{left_out} more lines are left out");
        }
    }

    /// The end of what the call printed on stderr.
    pub(super) fn stderr_tail(&self) -> String {
        let printed = self.lock();
        let tail = &printed.tail[printed.tail.len().saturating_sub(TAIL)..];
        readable(&String::from_utf8_lossy(tail)).trim().to_string()
    }

    fn lock(&self) -> MutexGuard<'_, Printed> {
        // Lines are plain data: a panic in between leaves nothing half-done that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Printed {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stderr {
            self.tail.extend_from_slice(bytes);
            if self.tail.len() > 2 * TAIL {
                self.tail.drain(..self.tail.len() - TAIL);
            }
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let open = self.open_line(stream);
            // One byte more than a line, so that closing it sees that it was cut.
            let room = (LINE + 1).saturating_sub(open.len());
            open.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.close_line(stream);
            }
        }
    }

    fn open_line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.open_stdout,
            Stream::Stderr => &mut self.open_stderr,
        }
    }

    fn close_line(&mut self, stream: Stream) {
        let line = mem::take(self.open_line(stream));
        if line.is_empty() {
            return;
        }
        if self.lines.len() == LINES {
            self.dropped += 1;
            return;
        }
        let mut text = readable(&String::from_utf8_lossy(&line[..line.len().min(LINE)]));
        if line.len() > LINE {
            text.push('…');
        }
        self.lines.push((stream, text));
    }
}

/// What the guest's `wasi:cli/stdout` and `stderr` write to.
pub(super) struct GuestStream {
    console: Console,
    stream: Stream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.console.stream(self.stream))
    }

    // WASI 0.3 alone asks for this, which the linker doesn't offer.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.console.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    /// Also the most zeroes that `write-zeroes` can make the host allocate.
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&str]) -> Printed {
        let mut printed = Printed::default();
        for piece in pieces {
            printed.write(Stream::Stderr, piece.as_bytes());
        }
        printed.close_line(Stream::Stderr);
        printed
    }

    fn lines(printed: &Printed) -> Vec<&str> {
        printed.lines.iter().map(|(_, line)| line.as_str()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_are_written() {
        assert_eq!(lines(&printed(&["a", "b\nc", "\n\nd"])), ["ab", "c", "d"]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let long = "x".repeat(LINE + 5);
        let printed = printed(&[&long[..LINE], &long[LINE..], "\nnext"]);
        assert_eq!(lines(&printed), [format!("{}…", "x".repeat(LINE)).as_str(), "next"]);
    }

    #[test]
    fn lines_past_the_most_of_a_call_are_counted() {
        let printed = printed(&["line\n".repeat(LINES + 3).as_str()]);
        assert_eq!((printed.lines.len(), printed.dropped), (LINES, 3));
    }

    #[test]
    fn the_end_of_stderr_is_kept_and_bounded() {
        let console = Console::default();
        for i in 0..10_000 {
            console.lock().write(Stream::Stderr, format!("line {i}\n").as_bytes());
        }
        assert!(console.lock().tail.len() <= 2 * TAIL);
        assert!(console.stderr_tail().ends_with("line 9998\nline 9999"));
        assert!(console.stderr_tail().len() <= TAIL);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(lines(&printed(&["\u{1b}[2Jgone\ttab\r"])), ["\u{fffd}[2Jgone\ttab\u{fffd}"]);
    }
}
