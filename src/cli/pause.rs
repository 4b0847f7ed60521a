//! `rundlet pause` and `rundlet resume`.

use anyhow::Result;

use crate::container;
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct PauseArgs {
    #[arg(hide = true)]
    id: String,
}

pub(super) fn pause(context: &Context, args: &PauseArgs) -> Result<i32> {
    container::pause::pause(context, &args.id)?;
    Ok(0)
}

pub(super) fn resume(context: &Context, args: &PauseArgs) -> Result<i32> {
    container::pause::resume(context, &args.id)?;
    Ok(0)
}
