//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn create(
    _ctx: &super::options::Context,
    _options: &super::options::CreateOptions,
) -> Result<()> {
    bail!("not in this tree yet")
}
