//! Stderr: the log of a node, and the final message of every command.
//!
//! Writing to the log never blocks. Its lines go to a bounded buffer, and a separate thread writes
//! them, so a full pipe blocks only that thread. A line is lost and counted if it finds no room or
//! cannot be written, because the reader has gone, the disk is full or the terminal has gone. Once
//! the log can be written again, it reports the number of lost lines.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

use crate::Failure;

/// The filter without RUST_LOG. The log here reports each change, so it leaves out the election's
/// lines for each ring, and the id of the one node that this process runs.
const DEFAULT: &str = "info,quorate_election=warn,quorate::span=off";

/// The size of the buffer, in bytes.
const ROOM: usize = 1 << 20;

/// The time until a failed write is retried if nothing new is logged.
const AGAIN: Duration = Duration::from_secs(1);

/// The time until a full non-blocking pipe is tried again.
const FULL: Duration = Duration::from_millis(50);

/// The time that an ending process waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log of this process.
static LOG: Log = Log::new();

/// Starts the log, filtered by RUST_LOG.
pub(crate) fn start() -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter)
            .map_err(|error| Failure::new(format!("invalid RUST_LOG: {error}; try `debug`")))?,
        Err(_) => EnvFilter::new(DEFAULT),
    };
    let thread = thread::Builder::new().name("quorate-log".into());
    thread.spawn(|| LOG.write_to(io::stderr())).map_err(|error| {
        Failure::new(format!("cannot start a thread for the log: {error}; raise the limit on threads"))
    })?;
    LOG.lock().started = true;

    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Line)
        // A macro that panics on failure would print them.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    if has_times() {
        log.init();
    } else {
        log.without_time().init();
    }
    Ok(())
}

/// Returns `true` if lines need a time. The journal adds its own.
fn has_times() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_none()
}

/// Returns the number of log lines lost since the process started.
pub(crate) fn lost() -> u64 {
    LOG.lock().lost
}

/// Writes a line to stderr, after the logged ones. An unread line is lost, where the macros of std
/// would panic.
pub(crate) fn say(line: impl fmt::Display) {
    show(format_args!("{line}\n"));
}

/// Writes text like [`say`], without a newline, for progress in place.
pub(crate) fn show(text: impl fmt::Display) {
    let text = text.to_string();
    if LOG.lock().started {
        LOG.push(text.as_bytes());
    } else {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Waits until everything is written, for a limited time, because that may never happen.
pub(crate) fn flush() {
    LOG.flush(LAST_WORDS);
}

/// The writer of one log line.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    started: bool,
    /// Lines to be written.
    waiting: Vec<u8>,
    /// The number of lines that found no room behind `waiting`.
    dropped: u64,
    /// Whether the thread has taken lines and not written them yet.
    writing: bool,
    /// The number of all lost lines.
    lost: u64,
}

impl Log {
    const fn new() -> Self {
        let state = State { started: false, waiting: Vec::new(), dropped: 0, writing: false, lost: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, including its newline, if there is room. Never blocks.
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        // Once a line is dropped, the next ones are dropped too, so that the gap is in one place.
        if state.dropped > 0 || state.waiting.len() + line.len() > ROOM {
            state.dropped += 1;
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
        }
        self.changed.notify_all();
    }

    /// Takes the waiting lines, and the number of lines dropped behind them. Waits for lines for up
    /// to `at_most`.
    fn take(&self, at_most: Option<Duration>) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        state.writing = false;
        self.changed.notify_all();
        let until = at_most.map(|length| Instant::now() + length);
        while state.waiting.is_empty() && state.dropped == 0 {
            let wait = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                break;
            }
            state = match self.changed.wait_timeout(state, wait) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        state.writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped))
    }

    fn flush(&self, at_most: Duration) {
        let unwritten = |state: &mut State| state.started && (state.writing || !state.waiting.is_empty());
        let _ = self.changed.wait_timeout_while(self.lock(), at_most, unwritten);
    }

    /// Writes logged lines, forever.
    fn write_to(&self, mut out: impl Write) {
        let mut gap = Gap::default();
        loop {
            let (lines, dropped) = self.take((gap.lines > 0).then_some(AGAIN));
            gap.close(&mut out);
            let lost = gap.write(&mut out, &lines);
            self.lock().lost += lost;
            if dropped > 0 {
                gap.lines += dropped;
                gap.why = "they were logged faster than they were read".into();
            }
        }
    }
}

/// Lost lines that the log has not reported yet.
#[derive(Default)]
struct Gap {
    lines: u64,
    why: String,
    /// Whether the last line was written only in part.
    torn: bool,
}

impl Gap {
    /// Reports the number of lost lines, if that is possible now.
    fn close(&mut self, out: &mut impl Write) {
        if self.lines == 0 {
            return;
        }
        let now = if has_times() { format!("{:.6} ", jiff::Timestamp::now()) } else { String::new() };
        let lines = if self.lines == 1 { "line" } else { "lines" };
        let notice = format!("{now} WARN {} log {lines} lost: {}\n", self.lines, self.why);
        let before = (self.lines, std::mem::take(&mut self.why));
        self.lines = 0;
        if self.write(out, notice.as_bytes()) > 0 {
            (self.lines, self.why) = before;
        }
    }

    /// Writes these lines. Returns the number of lost ones.
    fn write(&mut self, out: &mut impl Write, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let end_of_torn: &[u8] = if self.torn { b"\n" } else { b"" };
        let Err((written, error)) = put(out, end_of_torn).and_then(|()| put(out, lines)) else {
            self.torn = false;
            return 0;
        };
        self.torn = match written {
            0 => self.torn,
            written => lines[written - 1] != b'\n',
        };
        let newlines = lines[written..].iter().filter(|byte| **byte == b'\n').count();
        let lost = u64::try_from(newlines).unwrap_or(u64::MAX);
        self.lines += lost;
        self.why = error.to_string();
        lost
    }
}

/// Writes all bytes, however long that takes. An error includes the number of bytes written.
fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The bytes that a reader received, and the results of the next writes: an error, or the most
    /// bytes accepted.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<(Vec<u8>, Answers)>>);

    type Answers = Vec<Result<usize, ErrorKind>>;

    impl Pipe {
        fn then(&self, next: &[Result<usize, ErrorKind>]) {
            self.0.lock().unwrap().1 = next.iter().rev().copied().collect();
        }

        fn read(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap().0)).unwrap()
        }

        /// Waits until the reader has received `words`.
        fn wait_for(&self, words: &str) -> String {
            let mut all = String::new();
            let start = Instant::now();
            while !all.contains(words) {
                assert!(start.elapsed() < Duration::from_secs(60), "{words} is not in:\n{all}");
                thread::sleep(Duration::from_millis(5));
                all += &self.read();
            }
            all
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut pipe = self.0.lock().unwrap();
            let length = pipe.1.pop().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            pipe.0.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log_to(pipe: &Pipe) -> &'static Log {
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        let pipe = pipe.clone();
        thread::spawn(move || log.write_to(pipe));
        log
    }

    #[test]
    fn lines_are_written_in_order() {
        let pipe = Pipe::default();
        let log = log_to(&pipe);
        for line in 0..1000 {
            log.push(format!("{line}\n").as_bytes());
        }
        log.push(b"end\n");
        let expected: String = (0..1000).map(|line| format!("{line}\n")).collect();
        assert_eq!(pipe.wait_for("end\n"), expected + "end\n");
        assert_eq!(log.lock().lost, 0);
    }

    #[test]
    fn lines_without_room_are_counted_and_reported_last() {
        let pipe = Pipe::default();
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..1024 + 7 {
            log.push(&line);
        }
        let lost = log.lock().lost;
        assert_eq!((lost, log.lock().waiting.len()), (7, ROOM));
        let reader = pipe.clone();
        thread::spawn(move || log.write_to(reader));
        let read = pipe.wait_for("WARN");
        let (before, after) = read.split_at(ROOM);
        assert!(before.lines().all(|line| line.starts_with('x')));
        assert!(
            after.ends_with(" WARN 7 log lines lost: they were logged faster than they were read\n"),
            "{after}"
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_later() {
        for error in [ErrorKind::BrokenPipe, ErrorKind::StorageFull, ErrorKind::PermissionDenied] {
            let pipe = Pipe::default();
            pipe.then(&[Err(error)]);
            let log = log_to(&pipe);
            log.push(b"one\n");
            // Nothing more is logged, and the write is still retried.
            let read = pipe.wait_for("\n");
            let why = io::Error::from(error);
            assert!(read.ends_with(&format!(" WARN 1 log line lost: {why}\n")), "{read}");
            log.push(b"two\n");
            assert_eq!(pipe.wait_for("\n"), "two\n");
            assert_eq!(log.lock().lost, 1);
        }
    }

    #[test]
    fn a_pipe_that_is_full_and_does_not_block_loses_nothing() {
        let pipe = Pipe::default();
        pipe.then(&[Ok(2), Err(ErrorKind::WouldBlock), Ok(1), Err(ErrorKind::WouldBlock)]);
        let log = log_to(&pipe);
        log.push(b"line\n");
        assert_eq!(pipe.wait_for("\n"), "line\n");
        assert_eq!(log.lock().lost, 0);
    }

    #[test]
    fn a_partial_line_does_not_run_into_the_next() {
        let mut gap = Gap::default();
        let mut pipe = Pipe::default();
        pipe.then(&[Ok(6), Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)]);
        assert_eq!(gap.write(&mut pipe, b"one\ntwo\nthree\n"), 2);
        assert_eq!(gap.write(&mut pipe, b"four\n"), 1);
        gap.close(&mut pipe);
        assert_eq!(gap.write(&mut pipe, b"five\n"), 0);
        let read = pipe.read();
        let lines: Vec<&str> = read.lines().collect();
        assert_eq!((lines[0], lines[1], lines[3]), ("one", "tw", "five"));
        assert!(lines[2].contains(" WARN 3 log lines lost: "), "{read}");
    }

    #[test]
    fn a_stuck_write_blocks_neither_lines_nor_the_end() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        log.lock().started = true;
        thread::spawn(|| log.write_to(Stuck));
        for _ in 0..3 * ROOM / 10 {
            log.push(b"123456789\n");
        }
        assert!(log.lock().lost > 0);
        assert!(log.lock().waiting.len() <= ROOM);
        let start = Instant::now();
        log.flush(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
