//! `rundlet run`.

use anyhow::Result;

use super::create::CreateArgs;
use crate::container;
use crate::container::options::{Context, RunOptions};

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct RunArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// return when the process has started
    #[arg(long, short)]
    detach: bool,
    /// keep the container when it has stopped
    #[arg(long)]
    keep: bool,
    /// do not adopt processes whose parent in the container has ended
    #[arg(long)]
    no_subreaper: bool,
}

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<i32> {
    let options = RunOptions {
        create: args.create.options()?,
        detach: args.detach,
        keep: args.keep,
        no_subreaper: args.no_subreaper,
    };
    container::run::run(context, &options)
}
