//! `rundlet check`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::absolute;
use crate::container::check::{self, Finding, Level};
use crate::container::options::{Context, CreateOptions, Overlay};

#[derive(clap::Args)]
pub(super) struct CheckArgs {
    #[arg(hide = true, required = true)]
    bundle: PathBuf,
    /// name of the configuration file, below the bundle unless absolute (default: config.json)
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<PathBuf>,
    /// print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// fail on warnings, too
    #[arg(long)]
    strict: bool,
    /// as with create: write to a layer above the root file system
    #[arg(long)]
    overlay: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    bundle: PathBuf,
    /// Whether `create` is expected to succeed here.
    creatable: bool,
    findings: &'a [Finding],
}

pub(super) fn run(context: &Context, args: &CheckArgs) -> Result<i32> {
    let options = CreateOptions {
        // Any: it is used for nothing that stays.
        id: "check".to_owned(),
        bundle: absolute(&args.bundle)?,
        config: args.config.clone().unwrap_or_else(|| "config.json".into()),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        overlay: args.overlay.then_some(Overlay::Temporary),
    };
    let findings = check::check(context, &options)?;
    let count = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    if args.json {
        let told = Told {
            bundle: options.bundle,
            creatable: errors == 0,
            findings: &findings,
        };
        super::print(&format!("{}\n", serde_json::to_string_pretty(&told)?))?;
    } else {
        super::print(&lines(&findings))?;
    }
    match (errors, warnings) {
        (0, 0) => Ok(0),
        (0, _) if !args.strict => Ok(0),
        (0, _) => bail!("the bundle has {warnings} warnings, and --strict was given"),
        _ => {
            bail!("a container cannot be made of the bundle: {errors} errors, {warnings} warnings")
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        level,
        message,
        hint,
        ..
    } in findings
    {
        let hint = match hint {
            // An error of `create` has it in its message.
            Some(hint) if !message.contains(hint.as_str()) => format!(" (hint: {hint})"),
            _ => String::new(),
        };
        // To a String that cannot fail.
        let _ = writeln!(text, "{}: {message}{hint}", level.name());
    }
    if findings.is_empty() {
        text.push_str("no findings\n");
    }
    text
}
