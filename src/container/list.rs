//! Placeholder until the container side is written.

use anyhow::Result;

#[allow(clippy::unnecessary_wraps)]
pub(crate) fn list(_ctx: &super::options::Context) -> Result<Vec<super::output::StateOutput>> {
    Ok(Vec::new())
}
