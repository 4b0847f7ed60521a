//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn start(_ctx: &super::options::Context, _id: &str) -> Result<()> {
    bail!("not in this tree yet")
}
