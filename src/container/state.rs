//! Placeholder until the container side is written.

use anyhow::{Result, bail};

pub(crate) fn state(
    _ctx: &super::options::Context,
    id: &str,
) -> Result<super::output::StateOutput> {
    bail!(crate::error::NotExist(id.to_owned()))
}
