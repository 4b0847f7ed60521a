//! `rundlet kill`, and how a signal is written.

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::container;
use crate::container::options::{Context, KillOptions};

#[derive(clap::Args)]
pub(super) struct KillArgs {
    #[arg(hide = true)]
    id: String,
    #[arg(hide = true, default_value = "SIGTERM")]
    signal: String,
    /// obsolete: do not fail when the container is not running
    #[arg(long, short)]
    all: bool,
}

pub(super) fn run(context: &Context, args: &KillArgs) -> Result<i32> {
    let signal = signal_number(&args.signal)?;
    let options = KillOptions {
        id: args.id.clone(),
        signal,
        all: args.all,
    };
    container::kill::kill(context, &options)?;
    Ok(0)
}

/// The kernel's first and last real-time signal as programs know them (the C library keeps 32 and 33).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A number, or a name in any case with or without `SIG`; real-time signals as `RTMIN+n` and `RTMAX-n`.
pub(crate) fn signal_number(text: &str) -> Result<i32> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number <= RTMAX => Ok(number),
            _ => bail!("unknown signal \"{text}\""),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match name {
        "IOT" => Some(libc::SIGABRT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => format!("SIG{name}")
            .parse::<Signal>()
            .ok()
            .map(|signal| signal as i32),
    };
    known
        .or_else(|| real_time(name))
        .ok_or_else(|| anyhow::anyhow!("unknown signal \"{text}\""))
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .parse::<i32>()
            .ok()
            .filter(|offset| plain && *offset <= RTMAX - RTMIN)
    };
    if let Some(digits) = name.strip_prefix("RTMIN+") {
        return offset(digits).map(|offset| RTMIN + offset);
    }
    name.strip_prefix("RTMAX-")
        .and_then(offset)
        .map(|offset| RTMAX - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("15", 15),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("kill", 9),
            ("SIGKILL", 9),
            ("SigHup", 1),
            ("sigusr1", 10),
            ("CLD", 17),
            ("POLL", 29),
            ("STKFLT", 16),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("rtmax-1", 63),
            ("WINCH", 28),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal() {
        for text in [
            "",
            "65",
            "-1",
            "+9",
            "SIG",
            "SIGSIGKILL",
            "FOO",
            "9 ",
            "RTMIN+31",
            "RTMIN++1",
            "99999999999",
        ] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
