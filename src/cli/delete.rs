//! `rundlet delete`.

use anyhow::Result;

use crate::container;
use crate::container::options::{Context, DeleteOptions};

#[derive(clap::Args)]
pub(super) struct DeleteArgs {
    #[arg(hide = true)]
    id: String,
    /// kill the container first if it runs (SIGKILL)
    #[arg(long, short)]
    force: bool,
}

pub(super) fn run(context: &Context, args: &DeleteArgs) -> Result<i32> {
    let options = DeleteOptions {
        id: args.id.clone(),
        force: args.force,
    };
    container::delete::delete(context, &options)?;
    Ok(0)
}
