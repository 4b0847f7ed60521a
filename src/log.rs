//! The log of one invocation: `--log FILE`, `--log-format text|json`, `--debug`.
//! Armed once by `cli` before any verb runs; every layer above may call `debug` and `warn`, only `main`'s
//! path calls `fatal`. Works in the child after the clone too: the descriptor is inherited (it is
//! close-on-exec) and a line is one `write`.
//!
//! Engines read the file by machine: containerd takes the last JSON object whose level is `error`, podman
//! decodes the whole file as one object. So without `--debug` a JSON log gets at most one line, and only on
//! failure. Where a line goes:
//!
//! | level | no `--log` | `--log`, text | `--log`, json |
//! |---|---|---|---|
//! | debug (only with `--debug`) | stderr | file | file |
//! | warning | stderr | file | file with `--debug`, else dropped |
//! | error | stderr | file, and the bare message on stderr | the same |

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::error::Report;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Warning,
    Error,
}

struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Before `init`, and in unit tests: errors and warnings to stderr as text.
static UNARMED: Log = Log {
    file: None,
    format: Format::Text,
    debug: false,
};

/// Opens the log file and fixes format and level for the rest of the process. A second call changes nothing.
pub(crate) fn init(path: Option<&Path>, format: Format, debug: bool) -> anyhow::Result<()> {
    let file = match path {
        Some(path) => Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .with_context(|| format!("open log file `{}`", path.display()))?,
        ),
        None => None,
    };
    // A second `init` is only possible in tests; the first one holds.
    let _ = LOG.set(Log {
        file,
        format,
        debug,
    });
    Ok(())
}

/// A line for people who look for a fault; nothing is formatted unless `--debug` was given.
pub(crate) fn debug(message: fmt::Arguments<'_>) {
    let log = log();
    if log.debug {
        log.write(Level::Debug, &message.to_string());
    }
}

/// Something odd that does not stop the command.
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    let log = log();
    if log.file.is_none() || log.format == Format::Text || log.debug {
        log.write(Level::Warning, &message.to_string());
    }
}

/// Why the command failed: the one error record, and the bare message on stderr for callers that read that.
pub(crate) fn fatal(report: &Report) {
    let message = one_line(&report.message);
    let log = log();
    log.record(Level::Error, &message, Some(report));
    if log.file.is_some() {
        to_stderr(&format!("{message}\n"));
    }
}

/// Seconds resolution is too coarse to order records of one start: RFC 3339 in UTC with nanoseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second_of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Days since 1970-01-01 as (year, month, day) of the Gregorian calendar. Years are counted from March so that
/// the leap day is the last day of a year, in eras of 400 years.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn log() -> &'static Log {
    LOG.get().unwrap_or(&UNARMED)
}

impl Log {
    fn write(&self, level: Level, message: &str) {
        self.record(level, message, None);
    }

    fn record(&self, level: Level, message: &str, report: Option<&Report>) {
        let line = match (&self.file, self.format) {
            (None, Format::Text) if std::io::stderr().is_terminal() => {
                terminal_line(level, message)
            }
            (_, Format::Text) => text_line(level, message, SystemTime::now()),
            (_, Format::Json) => json_line(level, message, SystemTime::now(), report),
        };
        match &self.file {
            // A full disk must not turn a container's failure into another one: stderr still has the message.
            Some(file) => drop((&mut &*file).write_all(line.as_bytes())),
            None => to_stderr(&line),
        }
    }
}

fn to_stderr(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

/// The keys that engines read, and of an error those of its parts that it has.
fn json_line(level: Level, message: &str, time: SystemTime, report: Option<&Report>) -> String {
    let level = level_name(level);
    let time = rfc3339(time);
    let message = json_text(message);
    let mut line = format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"");
    if let Some(report) = report {
        for (key, value) in [
            ("step", &report.step),
            ("field", &report.field),
            ("errno", &report.errno),
            ("hint", &report.hint),
        ] {
            if let Some(value) = value {
                line.extend([",\"", key, "\":", &json_text(value)]);
            }
        }
    }
    line.push_str("}\n");
    line
}

fn json_text(text: &str) -> String {
    // Serialising a `&str` can not fail; the fallback keeps the record valid JSON.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

fn text_line(level: Level, message: &str, time: SystemTime) -> String {
    let level = level_name(level);
    let time = rfc3339(time);
    let message = quoted(message);
    format!("time=\"{time}\" level={level} msg={message}\n")
}

fn terminal_line(level: Level, message: &str) -> String {
    let tag = match level {
        Level::Debug => "DEBU",
        Level::Warning => "WARN",
        Level::Error => "ERRO",
    };
    format!("{tag}[0000] {}\n", one_line(message))
}

/// The value of a `key=value` pair as logrus writes it: bare when it is one plain word, else quoted and escaped.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Control characters of a hostile config must not reach a terminal.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Engines show the last line they find: a message is never more than one, and carries no terminal escapes.
fn one_line(message: &str) -> String {
    message
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn dates_of_known_seconds() {
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            rfc3339(at(951_782_400, 1)),
            "2000-02-29T00:00:00.000000001Z"
        );
        assert_eq!(
            rfc3339(at(951_868_799, 0)),
            "2000-02-29T23:59:59.000000000Z"
        );
        assert_eq!(
            rfc3339(at(1_709_251_199, 999_999_999)),
            "2024-02-29T23:59:59.999999999Z"
        );
        assert_eq!(
            rfc3339(at(4_107_542_400, 0)),
            "2100-03-01T00:00:00.000000000Z"
        );
    }

    #[test]
    fn a_json_record_is_one_valid_object_with_the_three_keys() {
        let line = json_line(Level::Error, "no \"such\"\nfile\u{1b}", at(1, 0), None);
        assert!(line.ends_with("}\n"));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "no \"such\"\nfile\u{1b}");
        assert_eq!(value["time"], "1970-01-01T00:00:01.000000000Z");
        assert_eq!(value.as_object().unwrap().len(), 3);
    }

    #[test]
    fn an_error_record_has_the_parts_that_are_known() {
        let report = Report {
            field: Some("linux.resources.unified[\"a\"]".into()),
            errno: Some("EINVAL".into()),
            ..Report::default()
        };
        let line = json_line(Level::Error, "no", at(1, 0), Some(&report));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["field"], "linux.resources.unified[\"a\"]");
        assert_eq!(value["errno"], "EINVAL");
        assert_eq!(value.as_object().unwrap().len(), 5);
    }

    #[test]
    fn text_values_are_quoted_only_where_needed() {
        assert_eq!(quoted("plain/word-1.2"), "plain/word-1.2");
        assert_eq!(quoted("two words"), "\"two words\"");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("a\"b\\\n\u{1b}[2J"), "\"a\\\"b\\\\\\n\\u001b[2J\"");
    }

    #[test]
    fn a_message_is_one_line_without_escapes() {
        assert_eq!(one_line("a\nb\u{1b}[1m\n"), "a b [1m");
    }
}
