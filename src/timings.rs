//! Where the time of one command went: `--timings FILE` (or RUNDLET_TIMINGS). The phases of the runtime follow each other without
//! a gap, so they add up to the whole; the steps of the process that it clones stand beside them, by the names of the step tables.
//! Called by `cli`, which turns it on and writes the file at the end, and by all who begin a phase or run a step. Off, nothing is
//! called, and nothing is kept but the name of the present phase: it is the `step` of an error in the log.
//!
//! The spans lie in memory that is shared with the clone, which has no other way to leave them: it becomes the user's program.
//! With `create` the file is written when the container waits for its start, so it has the steps until then.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::sys::shared::words;
use crate::sys::time::now;

/// When the first of the two executions of one command began (`sealed`), in nanoseconds of the monotonic clock.
pub(crate) const BEGAN: &str = "RUNDLET_TIMINGS_BEGAN";

/// How the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `{"total_us", "spans": [{"process", "name", "begin_us", "duration_us"}]}`.
    Json,
    /// Trace events, as chrome://tracing and Perfetto read them.
    Chrome,
}

/// A process that the runtime (0) has cloned.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Stage = 1,
    Init = 2,
}

const WHO: [&str; 3] = ["runtime", "stage", "init"];

/// Longest name, in words.
const NAME: usize = 4;
/// Words of a span: whose, begin, end, name.
const SPAN: usize = 3 + NAME;
/// Spans that are kept.
const MOST: usize = 256;

struct Timings {
    path: PathBuf,
    format: Format,
    began: u64,
    /// The number of spans, then the spans.
    words: &'static [AtomicU64],
}

thread_local! {
    /// Where an error comes from. There is one thread; what is its own needs no lock.
    static STEP: Cell<&'static str> = const { Cell::new("command line") };
}

static ON: AtomicBool = AtomicBool::new(false);
static TIMINGS: OnceLock<Timings> = OnceLock::new();
/// Of this process.
static PHASE: Phase = Phase {
    who: AtomicU64::new(0),
    begin: AtomicU64::new(0),
    name: [const { AtomicU64::new(0) }; NAME],
};

/// The one that runs.
struct Phase {
    who: AtomicU64,
    begin: AtomicU64,
    name: [AtomicU64; NAME],
}

/// Turns them on. The first phase is what has been done up to now.
pub(crate) fn start(path: &Path, format: Format) -> Result<()> {
    if ON.load(Relaxed) {
        return Ok(());
    }
    // Now, so that a file that cannot be written fails before anything is made.
    make(path).with_context(|| format!("make `{}`", path.display()))?;
    let words = words(1 + MOST * SPAN).context("share memory")?;
    let now = now();
    let began = std::env::var(BEGAN).ok().and_then(|text| text.parse().ok());
    let began = began.filter(|began| *began <= now);
    let path =
        std::path::absolute(path).with_context(|| format!("make `{}` absolute", path.display()))?;
    let timings = TIMINGS.get_or_init(|| Timings {
        path,
        format,
        began: began.unwrap_or(now),
        words,
    });
    ON.store(true, Relaxed);
    begin(
        if began.is_some() { "protect" } else { "start" },
        timings.began,
    );
    phase("command line");
    Ok(())
}

/// Empty, and not what a link leads to.
fn make(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY;
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    options.custom_flags(flags).open(path)
}

/// The environment that the second execution of this command gets.
pub(crate) fn began() -> Option<String> {
    let timings = TIMINGS.get()?;
    Some(format!("{BEGAN}={}", timings.began))
}

/// Ends the phase before and begins the next.
pub(crate) fn phase(name: &'static str) {
    STEP.set(name);
    if !ON.load(Relaxed) {
        return;
    }
    let now = now();
    end(now);
    begin(name, now);
}

/// The present one.
pub(crate) fn step() -> &'static str {
    STEP.get()
}

/// The same in a process that has just been cloned: what its parent was doing is no phase of it.
pub(crate) fn process(who: Who) {
    if ON.load(Relaxed) {
        PHASE.who.store(who as u64, Relaxed);
        begin("birth", now());
    }
}

fn begin(name: &str, now: u64) {
    PHASE.begin.store(now, Relaxed);
    let mut bytes = name.bytes();
    for word in &PHASE.name {
        let mut packed = [0; 8];
        packed.fill_with(|| bytes.next().unwrap_or(0));
        word.store(u64::from_le_bytes(packed), Relaxed);
    }
}

fn end(now: u64) {
    let Some(timings) = TIMINGS.get() else { return };
    let [count, spans @ ..] = timings.words else {
        return;
    };
    let index = usize::try_from(count.fetch_add(1, Relaxed)).unwrap_or(MOST);
    let Some(span) = spans.chunks_exact(SPAN).nth(index) else {
        return;
    };
    let phase = [&PHASE.who, &PHASE.begin].map(|word| word.load(Relaxed));
    let name = PHASE.name.iter().map(|word| word.load(Relaxed));
    let values = [phase[0], phase[1], now].into_iter().chain(name);
    for (word, value) in span.iter().zip(values) {
        word.store(value, Relaxed);
    }
}

/// Ends the last phase and writes the file.
pub(crate) fn finish(command: &str) -> Result<()> {
    let Some(timings) = TIMINGS.get().filter(|_| ON.swap(false, Relaxed)) else {
        return Ok(());
    };
    let now = now();
    end(now);
    let text = timings.text(command, now);
    make(&timings.path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write `{}`", timings.path.display()))
}

struct Span {
    who: &'static str,
    name: String,
    begin: u64,
    end: u64,
}

impl Timings {
    fn spans(&self) -> Vec<Span> {
        let (count, spans) = self.words.split_first().unwrap_or((&EMPTY, &[]));
        let count = usize::try_from(count.load(Relaxed)).unwrap_or(MOST);
        spans
            .chunks_exact(SPAN)
            .take(count)
            .map(|span| {
                let values: Vec<u64> = span.iter().map(|word| word.load(Relaxed)).collect();
                let name: Vec<u8> = values[3..]
                    .iter()
                    .flat_map(|word| word.to_le_bytes())
                    .take_while(|byte| *byte != 0)
                    .collect();
                Span {
                    who: usize::try_from(values[0])
                        .ok()
                        .and_then(|who| WHO.get(who).copied())
                        .unwrap_or_default(),
                    name: String::from_utf8_lossy(&name).into_owned(),
                    begin: values[1],
                    end: values[2],
                }
            })
            .collect()
    }

    fn text(&self, command: &str, now: u64) -> String {
        let micros = |nanos| json!(Duration::from_nanos(nanos).as_secs_f64() * 1e6);
        let since = |at: u64| micros(at.saturating_sub(self.began));
        let took = |span: &Span| micros(span.end.saturating_sub(span.begin));
        // W3C's trace context: the caller's, for whoever puts this file into a trace.
        let parent = std::env::var("TRACEPARENT").ok();
        let spans = self.spans();
        let value: Value = match self.format {
            Format::Json => json!({
                "command": command,
                "traceparent": parent,
                "total_us": since(now),
                "spans": spans.iter().map(|span| json!({
                    "process": span.who,
                    "name": span.name,
                    "begin_us": since(span.begin),
                    "duration_us": took(span),
                })).collect::<Vec<_>>(),
            }),
            Format::Chrome => json!({
                "displayTimeUnit": "ns",
                "otherData": {"command": command, "traceparent": parent},
                "traceEvents": spans.iter().map(|span| json!({
                    "name": span.name,
                    "cat": span.who,
                    "ph": "X",
                    "pid": 1,
                    "tid": span.who,
                    "ts": since(span.begin),
                    "dur": took(span),
                })).collect::<Vec<_>>(),
            }),
        };
        format!("{value}\n")
    }
}

static EMPTY: AtomicU64 = AtomicU64::new(0);
