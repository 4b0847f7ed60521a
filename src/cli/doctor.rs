//! `rundlet doctor`.

use anyhow::{Result, bail};

use crate::container::doctor::{self, Found, Verdict};
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct DoctorArgs {
    /// print one JSON array instead of lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &DoctorArgs) -> Result<i32> {
    let found = doctor::examine(context);
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    } else {
        super::print(&lines(&found))?;
    }
    let broken: Vec<&str> = found
        .iter()
        .filter(|found| found.verdict == Verdict::Broken)
        .map(|found| found.what)
        .collect();
    if !broken.is_empty() {
        bail!(
            "containers will not work for this caller: {}",
            broken.join(", ")
        );
    }
    Ok(0)
}

fn lines(found: &[Found]) -> String {
    let lines = found.iter().map(|found| {
        let fix = found
            .fix
            .as_ref()
            .map_or_else(String::new, |fix| format!("\n{:26}fix: {fix}", ""));
        format!(
            "{:8} {:16} {}{fix}\n",
            found.verdict.name(),
            found.what,
            found.seen
        )
    });
    lines.collect::<Vec<_>>().concat()
}
