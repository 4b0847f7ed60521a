//! `rundlet events`: one JSON object a line, of one container or of all.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{duration, print};
use crate::container::events::{stats, watch};
use crate::container::follow;
use crate::container::options::Context;
use crate::container::output::EventOutput;

#[derive(clap::Args)]
pub(super) struct EventsArgs {
    /// None with --follow-all alone.
    #[arg(hide = true)]
    id: Option<String>,
    /// time between two lines of statistics, like 1m30s or 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    interval: i64,
    /// print the statistics once and exit
    #[arg(long)]
    stats: bool,
    /// of all containers of the state root, with those that come and what becomes of them
    #[arg(long)]
    follow_all: bool,
}

pub(super) fn run(context: &Context, args: &EventsArgs) -> Result<i32> {
    let interval = match u64::try_from(args.interval) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => bail!("duration interval must be greater than 0"),
    };
    let line = |event: &EventOutput| print(&format!("{}\n", serde_json::to_string(event)?));
    match (&args.id, args.stats) {
        (Some(id), true) => line(&stats(context, id)?)?,
        (Some(id), false) => watch(context, id, interval, line)?,
        (None, true) => follow::stats(context, line)?,
        (None, false) => follow::follow(context, interval, line)?,
    }
    Ok(0)
}
