//! `ps`: the pids in a container's cgroup, as the host sees them.

use anyhow::Result;

use super::Container;
use super::options::Context;

pub(crate) fn pids(context: &Context, id: &str) -> Result<Vec<i32>> {
    Container::open(context, id)?.cgroup()?.pids()
}
