//! `update`: other limits, device rules and resctrl schemas for a container that exists.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::Container;
use super::options::{Context, UpdateOptions};
use super::store::Store;
use crate::error::errno_of;
use crate::plan::rdt::Rdt;
use crate::plan::update::{self, Change, Devices};
use crate::{log, rdt, spec, timings};

pub(crate) fn update(context: &Context, options: &UpdateOptions) -> Result<()> {
    timings::phase("state");
    let slot = Store::new(context).slot(&options.id)?;
    // Of two at once the second starts from what the first has left.
    let _lock = slot.lock()?;
    let mut live = Container::load(slot)?.live()?;
    timings::phase("resources");
    let asked = spec::load_resources(&options.resources)?;
    let change = update::change(&asked)?;
    for field in &change.ignored {
        log::warn(format_args!(
            "linux.resources.{field}: ignored: the kernel has no such limit any more"
        ));
    }
    let container = &mut live.container;
    timings::phase("limits");
    let schemata = change_schemata(container, &options.schemata)
        .context("--l3-cache-schema, --mem-bw-schema: Intel RDT")?;
    let updated = change_limits(container, &change)
        .with_context(|| format!("update container `{}`", options.id));
    if let (Err(_), Some(schemata)) = (&updated, schemata) {
        schemata.set_back();
    }
    updated
}

fn change_limits(container: &mut Container, change: &Change) -> Result<()> {
    let old = container.record.resources.get("resources")?.into_owned();
    let outcome = update::merge(&old, change)?;
    let new = outcome.stored;
    container.record.resources = new.clone().into();
    let devices = match outcome.devices {
        Devices::Keep => None,
        Devices::Replace => Some((&old, &new)),
    };
    container.cgroup()?.update(&outcome.write, devices, || {
        container.slot.write(&container.record)
    })
}

/// What was there before, for the case that something else is refused.
struct OldSchemata {
    group: rdt::Group,
    /// None for a group that was only made now.
    lines: Option<Vec<String>>,
}

impl OldSchemata {
    fn set_back(mut self) {
        match &self.lines {
            None => self.group.undo(),
            Some(lines) => {
                if let Err(error) = self.group.apply(lines) {
                    log::warn(format_args!(
                        "set the resctrl schemata back: {}",
                        crate::error::chain(&error)
                    ));
                }
            }
        }
    }
}

/// Changes the container's resctrl group; one that has none gets its own, with all its processes.
fn change_schemata(container: &mut Container, schemata: &[String]) -> Result<Option<OldSchemata>> {
    if schemata.is_empty() {
        return Ok(None);
    }
    if let Some(record) = &container.record.rdt {
        let group = rdt::Group::open(record);
        let lines = Some(group.change(schemata)?);
        return Ok(Some(OldSchemata { group, lines }));
    }
    let plan = Rdt {
        schemata: schemata.to_owned(),
        ..Rdt::default()
    };
    let mut group = rdt::Group::make(&rdt::mount_point()?, &container.slot.id, &plan)?;
    if let Err(error) = place_all(&group, &container.cgroup()?.pids()?) {
        group.undo();
        return Err(error);
    }
    container.record.rdt = Some(group.record().clone());
    Ok(Some(OldSchemata { group, lines: None }))
}

/// resctrl takes threads; who is gone meanwhile needs no place.
fn place_all(group: &rdt::Group, pids: &[i32]) -> Result<()> {
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = thread.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match group.place(Pid::from_raw(id)) {
                Err(error) if error.chain().find_map(errno_of) == Some(Errno::ESRCH) => {}
                other => other?,
            }
        }
    }
    Ok(())
}
