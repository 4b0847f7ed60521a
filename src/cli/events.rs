//! `rundlet events`: one JSON object a line.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{duration, print};
use crate::container;
use crate::container::options::Context;
use crate::container::output::EventOutput;

#[derive(clap::Args)]
pub(super) struct EventsArgs {
    #[arg(hide = true)]
    id: String,
    /// time between two lines of statistics, like 1m30s or 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    interval: i64,
    /// print the statistics once and exit
    #[arg(long)]
    stats: bool,
}

pub(super) fn run(context: &Context, args: &EventsArgs) -> Result<i32> {
    let interval = match u64::try_from(args.interval) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => bail!("duration interval must be greater than 0"),
    };
    let line = |event: &EventOutput| print(&format!("{}\n", serde_json::to_string(event)?));
    if args.stats {
        line(&container::events::stats(context, &args.id)?)?;
    } else {
        container::events::watch(context, &args.id, interval, line)?;
    }
    Ok(0)
}
