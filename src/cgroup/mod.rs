//! The cgroup of one container, by the cgroupfs driver: v2, or v1 with or without a hybrid v2 hierarchy.
//!
//! Called by `container`: `create` before the clone, `place` (v1) right after it, `apply` while the child works; every
//! later command goes by `open` of the record in state.json. Nothing here knows the OCI types.
pub(crate) mod detect;
pub(crate) mod devices;
mod dir;
mod kill;
mod path;
mod procs;
pub(crate) mod record;
#[cfg(test)]
mod root_tests;
mod tree;
mod v1;
mod v2;
mod write;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::Pid;

use crate::plan::mounts::CgroupMounts;
use crate::plan::resources::Resources;
use detect::Layout;
use dir::Dir;
use path::{SubPaths, Wanted};
use procs::Deadline;
use record::Record;

/// A container's cgroup. The systemd driver will be one more kind.
#[derive(Debug)]
pub(crate) struct Cgroup(Kind);

#[derive(Debug)]
enum Kind {
    V2(v2::Unified),
    V1(v1::Legacy),
}

impl Cgroup {
    /// Makes the container's cgroup, with all that must be true before a process is in it. On failure nothing that it
    /// made is left.
    pub(crate) fn create(
        layout: &Layout,
        cgroups_path: Option<&str>,
        id: &str,
        resources: &Resources,
    ) -> Result<Self> {
        let wanted = Wanted::new(cgroups_path, id)?;
        Ok(Self(match layout {
            Layout::Unified { mount } => Kind::V2(v2::Unified::create(mount, &wanted, resources)?),
            Layout::Legacy { hierarchies } => {
                Kind::V1(v1::Legacy::create(hierarchies, &wanted, resources)?)
            }
        }))
    }

    /// The cgroup of a record; also when some or all of it is gone.
    pub(crate) fn open(record: &Record) -> Result<Self> {
        Ok(Self(match record {
            Record::V2(group) => Kind::V2(v2::Unified::open(group)?),
            Record::V1(groups) => Kind::V1(v1::Legacy::open(groups)?),
        }))
    }

    pub(crate) fn to_record(&self) -> Record {
        match &self.0 {
            Kind::V2(c) => c.to_record(),
            Kind::V1(c) => c.to_record(),
        }
    }

    /// For CLONE_INTO_CGROUP; v1 has no such thing, there `place` is the way.
    pub(crate) fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Kind::V2(c) => c.dir().map(AsFd::as_fd),
            Kind::V1(_) => None,
        }
    }

    /// Puts a process into the cgroup by `cgroup.procs`: the only way on v1, slow and avoidable on v2.
    pub(crate) fn place(&self, pid: Pid) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.place(pid),
            Kind::V1(c) => c.place(pid),
        }
    }

    /// Sets the device rules and all limits.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<()> {
        self.apply_devices(resources)?;
        self.apply_limits(resources)
    }

    /// Sets all limits but the device rules: what an update does.
    pub(crate) fn apply_limits(&self, resources: &Resources) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.apply_limits(resources),
            Kind::V1(c) => c.apply_limits(resources),
        }
    }

    /// Sets the device rules, in place of those that were set before.
    pub(crate) fn apply_devices(&self, resources: &Resources) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.apply_devices(resources),
            Kind::V1(c) => c.apply_devices(resources),
        }
    }

    /// Where an exec'ed process goes. `sub` are the arguments of `exec --cgroup`, `[CONTROLLER[,...]:]PATH` each.
    pub(crate) fn for_exec(&self, sub: &[String]) -> Result<Place> {
        let sub = SubPaths::parse(sub)?;
        match &self.0 {
            Kind::V2(c) => c.for_exec(&sub),
            Kind::V1(c) => c.for_exec(&sub),
        }
    }

    /// Where init is now. For an exec without sub-cgroup whose clone or `attach` failed with EBUSY.
    pub(crate) fn for_exec_beside(&self, init: Pid) -> Result<Place> {
        match &self.0 {
            Kind::V2(c) => c.beside_init(init),
            Kind::V1(_) => {
                bail!("cgroup v1: no other place than the container's cgroup for process {init}")
            }
        }
    }

    /// Stops all processes; waits at most 10 s and thaws again when that is not enough.
    pub(crate) fn freeze(&self) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.freeze(),
            Kind::V1(c) => c.freeze(),
        }
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.thaw(),
            Kind::V1(c) => c.thaw(),
        }
    }

    /// Whether `freeze` was asked for; false when the cgroup is gone.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match &self.0 {
            Kind::V2(c) => c.is_frozen(),
            Kind::V1(c) => c.is_frozen(),
        }
    }

    /// All processes, sub-cgroups included, in ascending order; none when the cgroup is gone.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let dir = match &self.0 {
            Kind::V2(c) => c.dir(),
            Kind::V1(c) => c.dir(),
        };
        dir.map_or_else(|| Ok(Vec::new()), procs::pids)
    }

    /// Removes the container's cgroup and all below it, not what lies above, even if it was made for it: others may be
    /// using that by now. Processes still inside are killed. What is left after `time` is an error that names it.
    pub(crate) fn remove(&self, time: Duration) -> Result<()> {
        match &self.0 {
            Kind::V2(c) => c.remove(Deadline::after(time)),
            Kind::V1(c) => c.remove(Deadline::after(time)),
        }
    }

    /// How many processes the kernel has killed here for want of memory; 0 without a memory controller.
    pub(crate) fn oom_kill_count(&self) -> Result<u64> {
        match &self.0 {
            Kind::V2(c) => c.oom_kill_count(),
            Kind::V1(c) => c.oom_kill_count(),
        }
    }

    /// What the container's /sys/fs/cgroup is made of.
    pub(crate) fn mount_info(&self) -> CgroupMounts {
        match &self.0 {
            Kind::V2(c) => match c.dir() {
                Some(dir) => CgroupMounts::V2 { path: dir.path().to_owned() },
                None => CgroupMounts::Unavailable,
            },
            Kind::V1(c) => CgroupMounts::V1 { hierarchies: c.mounts() },
        }
    }
}

/// Where an exec'ed process is put.
#[derive(Debug)]
pub(crate) struct Place {
    dirs: Vec<Dir>,
    clone_into: bool,
}

impl Place {
    fn by_attach(dirs: Vec<Dir>) -> Self {
        Self {
            dirs,
            clone_into: false,
        }
    }

    fn by_clone(dir: Dir) -> Self {
        Self {
            dirs: vec![dir],
            clone_into: true,
        }
    }

    /// For CLONE_INTO_CGROUP; `None` on v1.
    pub(crate) fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dirs
            .first()
            .filter(|_| self.clone_into)
            .map(AsFd::as_fd)
    }

    /// By `cgroup.procs`, in every hierarchy.
    pub(crate) fn attach(&self, pid: Pid) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| procs::attach(dir, pid))
    }
}
