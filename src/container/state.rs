//! `state`: the container's state as callers read it.

use anyhow::Result;

use super::Container;
use super::options::Context;
use super::output::StateOutput;
use super::status::Status;

pub(crate) fn state(context: &Context, id: &str) -> Result<StateOutput> {
    Ok(describe(&Container::open(context, id)?))
}

/// pid is 0 where there is no process, as runc prints it.
pub(super) fn describe(container: &Container) -> StateOutput {
    let Container { record, status, .. } = container;
    let pid = record
        .init
        .filter(|_| *status != Status::Stopped)
        .map_or(0, |init| init.pid);
    StateOutput {
        oci_version: record.state.oci_version.clone(),
        id: record.state.id.clone(),
        pid,
        status: status.as_str().to_owned(),
        bundle: record.state.bundle.to_string_lossy().into_owned(),
        rootfs: record.rootfs.to_string_lossy().into_owned(),
        created: record.created.clone(),
        annotations: record.state.annotations.clone(),
        owner: String::new(),
    }
}
