//! `rundlet state`.

use anyhow::Result;

use crate::container;
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct StateArgs {
    #[arg(hide = true)]
    id: String,
}

pub(super) fn run(context: &Context, args: &StateArgs) -> Result<i32> {
    let state = container::state::state(context, &args.id)?;
    // No newline at the end, as runc has it.
    super::print(&serde_json::to_string_pretty(&state)?)?;
    Ok(0)
}
