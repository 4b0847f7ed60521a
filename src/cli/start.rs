//! `rundlet start`.

use anyhow::Result;

use crate::container;
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct StartArgs {
    #[arg(hide = true)]
    id: String,
}

pub(super) fn run(context: &Context, args: &StartArgs) -> Result<i32> {
    container::start::start(context, &args.id)?;
    Ok(0)
}
