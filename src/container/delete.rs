//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn delete(
    _ctx: &super::options::Context,
    _options: &super::options::DeleteOptions,
) -> Result<()> {
    bail!("not in this tree yet")
}
