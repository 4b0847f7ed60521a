//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn pause(_ctx: &super::options::Context, _id: &str) -> Result<()> {
    bail!("not in this tree yet")
}

pub(crate) fn resume(_ctx: &super::options::Context, _id: &str) -> Result<()> {
    bail!("not in this tree yet")
}
