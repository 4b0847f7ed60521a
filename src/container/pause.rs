//! `pause` and `resume`: the freezer of the container's cgroup.

use anyhow::{Result, bail};

use super::Container;
use super::options::Context;
use super::status::Status;
use crate::timings;

pub(crate) fn pause(context: &Context, id: &str) -> Result<()> {
    let container = Container::open(context, id)?;
    timings::phase("freezer");
    match container.status {
        Status::Running | Status::Created => container.live()?.container.cgroup()?.freeze(),
        other => bail!("container not running: `{id}` is {other} and cannot be paused"),
    }
}

pub(crate) fn resume(context: &Context, id: &str) -> Result<()> {
    let container = Container::open(context, id)?;
    timings::phase("freezer");
    match container.status {
        Status::Paused => container.live()?.container.cgroup()?.thaw(),
        other => bail!("container not paused: `{id}` is {other}"),
    }
}
