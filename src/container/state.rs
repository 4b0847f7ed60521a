//! `state`: the container's state as callers read it.

use anyhow::Result;

use super::options::Context;
use super::output::StateOutput;
use super::record::Brief;
use super::status::{self, Status};
use super::store::{Slot, Store};
use crate::timings;

pub(crate) fn state(context: &Context, id: &str) -> Result<StateOutput> {
    timings::phase("state");
    describe(&Store::new(context).slot(id)?)
}

/// pid is 0 where there is no process, as runc prints it.
pub(super) fn describe(slot: &Slot) -> Result<StateOutput> {
    let Brief {
        state,
        rootfs,
        created,
        creator,
        init,
        cgroup,
        ..
    } = slot.read_brief()?;
    let status = status::from(slot, creator, init, &cgroup)?;
    let pid = init
        .filter(|_| status != Status::Stopped)
        .map_or(0, |init| init.pid);
    Ok(StateOutput {
        oci_version: state.oci_version,
        id: state.id,
        pid,
        status: status.as_str().to_owned(),
        bundle: state.bundle.to_string_lossy().into_owned(),
        rootfs: rootfs.to_string_lossy().into_owned(),
        created,
        annotations: state.annotations,
        owner: String::new(),
    })
}
