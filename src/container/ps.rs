//! `ps`: the pids in a container's cgroup, as the host sees them.

use anyhow::{Result, ensure};

use super::Container;
use super::options::Context;
use crate::timings;

pub(crate) fn pids(context: &Context, id: &str) -> Result<Vec<i32>> {
    let container = Container::open(context, id)?;
    timings::phase("processes");
    let cgroup = container.cgroup()?;
    ensure!(
        cgroup.exists(),
        "the container has no cgroup to tell its processes from others: `{id}`"
    );
    cgroup.pids()
}
