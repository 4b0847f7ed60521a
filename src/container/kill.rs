//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn kill(
    _ctx: &super::options::Context,
    _options: &super::options::KillOptions,
) -> Result<()> {
    bail!("not in this tree yet")
}
