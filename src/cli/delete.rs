//! `rundlet delete`.

use std::time::Duration;

use anyhow::{Result, bail};

use super::duration;
use crate::container;
use crate::container::options::{Context, DeleteOptions};

#[derive(clap::Args)]
pub(super) struct DeleteArgs {
    #[arg(hide = true)]
    id: String,
    /// kill the container first if it runs (SIGKILL)
    #[arg(long, short)]
    force: bool,
    /// longest that all its waits last together, like 500ms or 1m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<i64>,
}

pub(super) fn run(context: &Context, args: &DeleteArgs) -> Result<i32> {
    let timeout = match args.timeout.map(u64::try_from) {
        None => None,
        Some(Ok(nanos)) if nanos > 0 => Some(Duration::from_nanos(nanos)),
        Some(_) => bail!("--timeout: must be greater than 0"),
    };
    let options = DeleteOptions {
        id: args.id.clone(),
        force: args.force,
        timeout,
    };
    container::delete::delete(context, &options)?;
    Ok(0)
}
