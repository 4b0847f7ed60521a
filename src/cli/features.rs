//! `rundlet features`. Nothing may go to stderr: CRI-O reads both streams as one.

use anyhow::Result;

use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct FeaturesArgs {}

pub(super) fn run(_: &Context, _: &FeaturesArgs) -> Result<i32> {
    super::print(&crate::features::document()?)?;
    Ok(0)
}
