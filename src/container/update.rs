//! `update`: other limits and device rules for a container that exists.

use anyhow::{Context as _, Result};

use super::Container;
use super::options::{Context, UpdateOptions};
use super::store::Store;
use crate::plan::update::{self, Devices};
use crate::{log, spec};

pub(crate) fn update(context: &Context, options: &UpdateOptions) -> Result<()> {
    let slot = Store::new(context).slot(&options.id)?;
    // Of two at once the second starts from what the first has left.
    let _lock = slot.lock()?;
    let mut live = Container::load(slot)?.live()?;
    let asked = spec::load_resources(&options.resources)?;
    let change = update::change(&asked)?;
    for field in &change.ignored {
        log::warn(format_args!(
            "linux.resources.{field}: ignored: the kernel has no such limit any more"
        ));
    }
    let container = &mut live.container;
    let outcome = update::merge(&container.record.resources, &change)?;
    let old = std::mem::replace(&mut container.record.resources, outcome.stored);
    let new = &container.record.resources;
    let devices = match outcome.devices {
        Devices::Keep => None,
        Devices::Replace => Some((&old, new)),
    };
    container
        .cgroup()?
        .update(&outcome.write, devices, || {
            container.slot.write(&container.record)
        })
        .with_context(|| format!("update container `{}`", options.id))
}
