//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn exec(
    _ctx: &super::options::Context,
    _options: &super::options::ExecOptions,
) -> Result<i32> {
    bail!("not in this tree yet")
}
