//! The cgroup of one container: by the cgroupfs driver v2, or v1 with or without a hybrid v2 hierarchy; by the systemd driver a
//! unit's on v2.
//!
//! Called by `container`: `plan`, then `make` before the clone, `place` (v1, systemd) right after it, `apply` while the child
//! waits; every later command goes by `open` of the record in state.json. Nothing here knows the OCI types.

mod apply;
mod by_record;
pub(crate) mod detect;
pub(crate) mod devices;
mod dir;
mod kill;
pub(crate) mod path;
mod place;
mod preview;
pub(crate) mod procs;
pub(crate) mod record;
#[cfg(test)]
mod root_tests;
pub(crate) mod stats;
pub(crate) mod systemd;
mod tree;
mod undo;
pub(crate) mod v1;
pub(crate) mod v2;
pub(crate) mod watch;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::plan::delegation::{Delegation, Payload};
use crate::plan::mounts::CgroupMounts;
use crate::plan::resources::Resources;
use detect::Layout;
pub(crate) use kill::LIMIT as KILL_LIMIT;
use path::{SubPaths, Wanted};
pub(crate) use place::Place;
use procs::Deadline;
use record::{Places, Record};
use stats::Stats;
use systemd::{Unit, manager::Which};
use undo::Undo;

const NO_FREEZER: &str = "the container has no cgroup that could be frozen";

/// A container's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    kind: Kind,
    /// Being refused by the kernel when it is made is no error.
    may_be_missing: bool,
    /// It is this container's: made, or opened by a record that says so.
    made: bool,
}

#[derive(Debug)]
enum Kind {
    /// No cgroup of its own.
    None,
    V2(v2::Unified),
    V1(v1::Legacy),
    Systemd(Unit),
}

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Driver<'a> {
    Cgroupfs,
    /// A unit, with what the container's annotations ask for.
    Systemd {
        annotations: &'a BTreeMap<String, String>,
    },
}

/// What becomes of a container whose cgroup the runtime may not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Fail,
    /// Rootless: it stays in the runtime's own cgroup, if neither a path nor a limit was asked for.
    GoWithout,
}

impl Cgroup {
    /// `plan` and `make` in one, for a container that has to have a cgroup.
    #[cfg(test)]
    pub(crate) fn create(
        layout: &Layout,
        cgroups_path: Option<&str>,
        id: &str,
        resources: &Resources,
    ) -> Result<Self> {
        let mut cgroup = Self::plan(layout, Driver::Cgroupfs, cgroups_path, id, Denied::Fail)?;
        cgroup.make(resources, &Delegation::default())?;
        Ok(cgroup)
    }

    /// Decides where the container's cgroup will be. Changes nothing, so its record can be written first (Z2).
    pub(crate) fn plan(
        layout: &Layout,
        driver: Driver<'_>,
        cgroups_path: Option<&str>,
        id: &str,
        denied: Denied,
    ) -> Result<Self> {
        let (kind, may_be_missing) = match driver {
            Driver::Systemd { annotations } => {
                let which = match denied {
                    Denied::Fail => Which::System,
                    Denied::GoWithout => Which::User,
                };
                let unit = Unit::plan(layout, cgroups_path, id, which, annotations)?;
                (Kind::Systemd(unit), false)
            }
            Driver::Cgroupfs => {
                let wanted = Wanted::new(cgroups_path, id)?;
                let kind = match layout {
                    Layout::Unified { mount } => Kind::V2(v2::Unified::plan(mount, &wanted)?),
                    Layout::Legacy { hierarchies } => {
                        Kind::V1(v1::Legacy::plan(hierarchies, &wanted)?)
                    }
                };
                let unnamed = cgroups_path.is_none_or(str::is_empty);
                (kind, denied == Denied::GoWithout && unnamed)
            }
        };
        Ok(Self {
            kind,
            may_be_missing,
            made: false,
        })
    }

    /// Makes it, with all that must be true before a process is in it. On failure nothing that it made is left. Where
    /// the container goes without one, the record changes to say so.
    pub(crate) fn make(&mut self, resources: &Resources, delegation: &Delegation) -> Result<()> {
        let result = match &mut self.kind {
            Kind::V2(c) => c.make(resources, delegation),
            Kind::None | Kind::V1(_) if delegation.payload == Payload::InLeaf => {
                bail!(
                    "annotations[\"org.rundlet.cgroup.delegate\"]: needs cgroup v2; on cgroup v1 a part of a hierarchy can not \
                     be given to a container safely"
                )
            }
            Kind::None => Ok(()),
            Kind::V1(c) => c.make(resources),
            Kind::Systemd(c) => c.make(resources, delegation),
        };
        let Err(error) = result else {
            // A unit is only made with a process in it: by `place`.
            self.made = !matches!(self.kind, Kind::Systemd(_));
            return Ok(());
        };
        // Rolled back already, or another container's: nothing here is to be killed or removed by this one.
        self.kind = Kind::None;
        if !self.may_be_missing || !is_permission(&error) {
            return Err(error);
        }
        if has_limits(resources) {
            return Err(error.context(
                "linux.resources: rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
            ));
        }
        Ok(())
    }

    /// The cgroup of a record; also when some or all of it is gone.
    pub(crate) fn open(record: &Record) -> Result<Self> {
        let kind = match &record.places {
            Places::None => Kind::None,
            Places::V2(group) => Kind::V2(v2::Unified::open(group)?),
            Places::V1(groups) => Kind::V1(v1::Legacy::open(groups)?),
            Places::Systemd(unit) => Kind::Systemd(Unit::open(unit)?),
        };
        Ok(Self {
            kind,
            may_be_missing: false,
            made: record.made,
        })
    }

    /// False where the container goes without one (`Denied::GoWithout`).
    pub(crate) fn exists(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// Before `make` it says that nothing is known to be there; it has to be stored again afterwards.
    pub(crate) fn to_record(&self) -> Record {
        let places = match &self.kind {
            Kind::None => Places::None,
            Kind::V2(c) => c.places(),
            Kind::V1(c) => c.places(),
            Kind::Systemd(c) => c.places(),
        };
        Record {
            places,
            made: self.made,
        }
    }

    /// For CLONE_INTO_CGROUP. v1 has no such thing, and a unit is not there yet: there `place` is the way.
    pub(crate) fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Kind::V2(c) => c.birthplace().ok().map(AsFd::as_fd),
            Kind::V1(_) | Kind::Systemd(_) | Kind::None => None,
        }
    }

    /// Puts a cloned process into the cgroups of v1, or makes the unit with it; the record changes by the latter. On v2
    /// there is nothing to do: it was born in its own by `clone_into_fd`, and a write to `cgroup.procs` would wait for an
    /// RCU grace period.
    pub(crate) fn place(&mut self, pid: Pid) -> Result<()> {
        match &mut self.kind {
            Kind::None | Kind::V2(_) => Ok(()),
            Kind::V1(c) => c.place(pid),
            Kind::Systemd(c) => c.start(pid, &mut self.made),
        }
    }

    /// Whether `delegate` has to come after the init has made its cgroup namespace: it was not born at the root of that.
    pub(crate) fn delegates_late(&self, delegation: &Delegation) -> bool {
        matches!(self.kind, Kind::Systemd(_)) && delegation.payload == Payload::InLeaf
    }

    /// Gives the container what it may manage of its own cgroup; on v1 nothing ever is, as the runtime-spec asks.
    pub(crate) fn delegate(&self, init: Pid, delegation: &Delegation) -> Result<()> {
        match &self.kind {
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.delegate(init, delegation),
            Kind::None | Kind::V1(_) => Ok(()),
        }
    }

    /// Changes limits, and with `devices` (old, new) the device rules. On failure everything is as before, and so it is when
    /// `keep`, which comes last, fails.
    pub(crate) fn update(
        &self,
        limits: &Resources,
        devices: Option<(&Resources, &Resources)>,
        keep: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut undo = Undo::default();
        let mut of_unit = None;
        match &self.kind {
            Kind::None => ensure!(
                devices.is_none(),
                "linux.resources.devices: the container has no cgroup of its own"
            ),
            Kind::V2(c) => c.save(limits, &mut undo)?,
            Kind::Systemd(c) => {
                c.group.save(limits, &mut undo)?;
                of_unit = Some((c, c.saved_properties(limits)?));
            }
            Kind::V1(c) => c.save(limits, &mut undo),
        }
        let change = || {
            self.apply_limits(limits)?;
            let Some((old, new)) = devices else {
                return keep();
            };
            let result = match &self.kind {
                Kind::V1(c) => c.change_devices(new),
                _ => self.apply_devices(new),
            };
            result.and_then(|()| keep()).inspect_err(|_| {
                // v1 may have got half way. What can not be set back is as closed as the old or the new rules.
                let _ = self.apply_devices(old);
            })
        };
        change().map_err(|error| {
            // systemd writes files, so it comes first.
            let unit = of_unit.map_or(Ok(()), |(c, saved)| c.restore_properties(saved));
            undo::taken_back(error, unit.and(undo.restore()))
        })
    }

    /// Sets all limits but the device rules.
    pub(crate) fn apply_limits(&self, resources: &Resources) -> Result<()> {
        match &self.kind {
            Kind::None if !has_limits(resources) => Ok(()),
            Kind::None => bail!("linux.resources: the container has no cgroup to limit it"),
            Kind::V2(c) => c.apply_limits(resources),
            Kind::V1(c) => c.apply_limits(resources),
            Kind::Systemd(c) => c.update_limits(resources),
        }
    }

    /// Sets the device rules, in place of those that were set before.
    pub(crate) fn apply_devices(&self, resources: &Resources) -> Result<()> {
        match &self.kind {
            Kind::None => Ok(()),
            Kind::V2(c) => c.apply_devices(resources),
            Kind::V1(c) => c.apply_devices(resources),
            Kind::Systemd(c) => c.update_devices(resources),
        }
    }

    /// Where an exec'ed process goes. `sub` are the arguments of `exec --cgroup`, `[CONTROLLER[,...]:]PATH` each.
    pub(crate) fn for_exec(&self, sub: &[String]) -> Result<Place> {
        let sub = SubPaths::parse(sub)?;
        match &self.kind {
            Kind::None => Ok(Place::nowhere()),
            Kind::V2(c) => c.for_exec(&sub),
            Kind::V1(c) => c.for_exec(&sub),
            Kind::Systemd(c) => c.for_exec(&sub),
        }
    }

    /// Where init is now. For an exec without sub-cgroup whose clone or `attach` failed with EBUSY.
    pub(crate) fn for_exec_beside(&self, init: Pid) -> Result<Place> {
        match &self.kind {
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.beside_init(init),
            Kind::None | Kind::V1(_) => {
                bail!("no other place than the container's cgroup for process {init}")
            }
        }
    }

    /// Stops all processes; waits at most 10 s and thaws again when that is not enough.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.freeze_within(procs::FREEZE_LIMIT)
    }

    fn freeze_within(&self, limit: Duration) -> Result<()> {
        match &self.kind {
            Kind::None => bail!(NO_FREEZER),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.freeze(limit),
            Kind::V1(c) => c.freeze(limit),
        }
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        match &self.kind {
            Kind::None => bail!(NO_FREEZER),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.thaw(),
            Kind::V1(c) => c.thaw(),
        }
    }

    /// Lets processes die that were sent SIGKILL, whoever has frozen them. On v2 they do so anyway.
    pub(crate) fn let_die(&self) -> Result<()> {
        match &self.kind {
            Kind::V1(c) => c.thaw_all(),
            Kind::V2(_) | Kind::Systemd(_) | Kind::None => Ok(()),
        }
    }

    /// The directory whose freezer stops all processes.
    pub(crate) fn freezer(&self) -> Option<PathBuf> {
        match self.mount_info() {
            CgroupMounts::Unavailable => None,
            CgroupMounts::V2 { path } => Some(path),
            CgroupMounts::V1 { hierarchies } => hierarchies
                .into_iter()
                .find(|at| at.options.split(',').any(|option| option == "freezer"))
                .map(|at| at.path),
        }
    }

    /// Whether `freeze` was asked for; false when the cgroup is gone.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match &self.kind {
            Kind::None => Ok(false),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.is_frozen(),
            Kind::V1(c) => c.is_frozen(),
        }
    }

    /// Removes the container's cgroup and all below it, not what lies above, even if it was made for it: others may be using that
    /// by now. Processes still inside are killed, unless it was only planned. What is left after `time` is an error that names
    /// it.
    pub(crate) fn remove(&self, time: Duration) -> Result<()> {
        let left = by_record::left(self.made);
        match &self.kind {
            Kind::None => Ok(()),
            Kind::V2(c) => c.remove(left, Deadline::after(time)),
            Kind::V1(c) => c.remove(left, time),
            Kind::Systemd(c) => c.remove(left, time),
        }
    }

    /// What it has used, and the limits that this is to be compared with.
    pub(crate) fn stats(&self) -> Result<Stats> {
        match &self.kind {
            Kind::None => bail!("the container has no cgroup that could be measured"),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.stats(),
            Kind::V1(c) => c.stats(),
        }
    }

    /// How many processes the kernel has killed here for want of memory; 0 without a memory controller.
    pub(crate) fn oom_kill_count(&self) -> Result<u64> {
        match &self.kind {
            Kind::None => Ok(0),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.oom_kill_count(),
            Kind::V1(c) => c.oom_kill_count(),
        }
    }

    /// What the container's own mount of cgroups is made of (G3).
    pub(crate) fn mount_info(&self) -> CgroupMounts {
        match &self.kind {
            Kind::None => CgroupMounts::Unavailable,
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => {
                CgroupMounts::V2 { path: c.view() }
            }
            Kind::V1(c) => CgroupMounts::V1 {
                hierarchies: c.mounts(),
            },
        }
    }
}

/// Device rules are no limit here: without a cgroup a container has no more rights on devices than its runtime.
fn has_limits(resources: &Resources) -> bool {
    let limits = Resources {
        devices: Vec::new(),
        ..resources.clone()
    };
    limits != Resources::default()
}

/// In the sense in which a rootless runtime meets it.
pub(crate) fn is_permission(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
    )
}
