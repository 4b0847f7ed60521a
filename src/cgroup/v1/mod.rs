//! A container's cgroups on a v1 or hybrid host: one in each hierarchy, the named ones and on hybrid the v2 one
//! included. The child is put into all of them by its parent, one after the other, before it does anything.
mod cpuset;
mod freezer;
pub(crate) mod limits;
pub(crate) mod memory;
mod stats;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::Place;
use super::detect::Hierarchy;
use super::devices;
use super::dir::Dir;
use super::path::{self, SubPaths, Wanted};
use super::procs::{self, Deadline, FREEZE_LIMIT};
use super::record::{GroupRecord, Places};
use super::stats::Stats;
use super::tree::{self, Left, Made};
use super::undo::Undo;
use super::write::{Write, write_all};
use crate::plan::mounts::V1Hierarchy;
use crate::plan::resources::Resources;

/// For what was frozen to die.
const AFTER_THAW: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Legacy {
    groups: Vec<Group>,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug)]
struct Group {
    at: GroupRecord,
    /// `None` once it is gone.
    dir: Option<Dir>,
}

impl Group {
    fn has(&self, controller: &str) -> bool {
        self.at.controllers.iter().any(|c| c == controller)
    }

    fn live(&self) -> Result<&Dir> {
        self.dir
            .as_ref()
            .ok_or(Errno::ENOENT)
            .with_context(|| self.at.name())
    }
}

impl Legacy {
    pub(crate) fn plan(hierarchies: &[Hierarchy], wanted: &Wanted) -> Result<Self> {
        // Without it nothing keeps the container from the host's disks.
        ensure!(
            hierarchies
                .iter()
                .any(|h| h.controllers.iter().any(|c| c == "devices")),
            "linux.resources.devices: devices controller: not mounted on this cgroup v1 host"
        );
        let plan = |h: &Hierarchy| {
            let path = match wanted {
                Wanted::Absolute(path) => path.clone(),
                Wanted::Relative(path) => path::join(&h.own, path),
            };
            let at = GroupRecord {
                controllers: h.controllers.clone(),
                mount: h.mount.clone(),
                path,
                delegated: None,
            };
            Group { at, dir: None }
        };
        Ok(Self {
            groups: hierarchies.iter().map(plan).collect(),
        })
    }

    pub(crate) fn make(&mut self, r: &Resources) -> Result<()> {
        limits::refuse_v2_only(r)?;
        let roots: Vec<Dir> = self
            .groups
            .iter()
            .map(|g| Dir::mount(&g.at.mount))
            .collect::<Result<_>>()?;
        // If one fails, all roll back.
        let mut making: Vec<Made<'_>> = Vec::new();
        for (group, root) in self.groups.iter_mut().zip(&roots) {
            making.push(Made::new(root));
            let Some(made) = making.last_mut() else {
                continue;
            };
            group.dir = Some(make_one(group, made, root, r)?);
        }
        making.into_iter().for_each(Made::keep);
        Ok(())
    }

    pub(crate) fn open(records: &[GroupRecord]) -> Result<Self> {
        let open = |record: &GroupRecord| record.open().map(|(at, dir)| Group { at, dir });
        Ok(Self {
            groups: records.iter().map(open).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn places(&self) -> Places {
        Places::V1(self.groups.iter().map(|g| g.at.clone()).collect())
    }

    /// The group of a controller, if it is mounted and still there.
    pub(crate) fn of(&self, controller: &str) -> Option<&Dir> {
        self.groups.iter().find(|g| g.has(controller))?.dir.as_ref()
    }

    fn freezer(&self) -> Result<&Dir> {
        self.of("freezer")
            .context("freezer controller: the container has no freezer cgroup")
    }

    /// Where to look for the container's processes: any hierarchy has all of them.
    pub(crate) fn dir(&self) -> Option<&Dir> {
        self.of("devices")
            .or_else(|| self.groups.iter().find_map(|g| g.dir.as_ref()))
    }

    /// Back to back: the first write waits for an RCU grace period, the others ride on it.
    pub(crate) fn place(&self, pid: Pid) -> Result<()> {
        self.groups
            .iter()
            .try_for_each(|group| procs::attach(group.live()?, pid))
    }

    pub(crate) fn apply_limits(&self, r: &Resources) -> Result<()> {
        limits::refuse_v2_only(r)?;
        for controller in limits::ORDER {
            let list = limits::writes(controller, r);
            let field = match controller {
                "memory" => memory::asked(&r.memory),
                _ => list.first().map(|w| &*w.field),
            };
            let Some(field) = field else { continue };
            let dir = self
                .of(controller)
                .with_context(|| missing(controller, field))?;
            if controller == "memory" {
                memory::apply(dir, &r.memory)?;
            } else {
                write_all(dir, &list)?;
            }
            if controller == "cpu" && list.iter().any(|w| w.file == "cpu.shares") {
                check_shares(dir, r.cpu.shares)?;
            }
        }
        Ok(())
    }

    /// Notes what `apply_limits` will change.
    pub(crate) fn save<'a>(&'a self, r: &Resources, undo: &mut Undo<'a>) {
        for controller in limits::ORDER {
            if let Some(dir) = self.of(controller) {
                undo.save(dir, &writes_of(controller, r));
            }
        }
    }

    /// Sets other device rules for processes that run. v1 has no one step for it: where the way to the new rules denies or
    /// allows everything for a moment, the container stands still meanwhile.
    pub(crate) fn change_devices(&self, r: &Resources) -> Result<()> {
        let dir = self
            .of("devices")
            .with_context(|| missing("devices", "devices"))?;
        let stop = devices::resets_v1(dir, r)? && !self.is_frozen()?;
        let Some(freezer) = self.of("freezer").filter(|_| stop) else {
            return devices::set_v1(dir, r);
        };
        freezer::freeze(freezer, FREEZE_LIMIT)?;
        let result = devices::set_v1(dir, r);
        result.and(freezer::thaw(freezer))
    }

    pub(crate) fn apply_devices(&self, r: &Resources) -> Result<()> {
        let dir = self
            .of("devices")
            .with_context(|| missing("devices", "devices"))?;
        devices::set_v1(dir, r)
    }

    pub(crate) fn for_exec(&self, sub: &SubPaths) -> Result<Place> {
        let sub_of = |group: &Group| match sub {
            SubPaths::Own => "",
            SubPaths::All(sub) => sub.as_str(),
            SubPaths::Each(each) => each
                .iter()
                .find(|(c, _)| group.has(c))
                .map_or("", |(_, sub)| sub),
        };
        if let SubPaths::Each(each) = sub {
            for (controller, _) in each {
                let known = self.groups.iter().any(|g| g.has(controller));
                ensure!(known, "exec --cgroup: unknown controller {controller}");
            }
        }
        let mut dirs = Vec::new();
        for group in &self.groups {
            let path = path::sub(&group.at.path, sub_of(group))?;
            let root = Dir::mount(&group.at.mount)?;
            let doing = || format!("error adding pid to {root}/{path}/cgroup.procs");
            dirs.push(root.below(&path).with_context(doing)?);
        }
        Ok(Place::by_attach(dirs))
    }

    pub(crate) fn freeze(&self, limit: Duration) -> Result<()> {
        freezer::freeze(self.freezer()?, limit)
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        freezer::thaw(self.freezer()?)
    }

    /// Thaws what the container has frozen below its cgroup, too: SIGKILL does not reach a frozen process here.
    pub(crate) fn thaw_all(&self) -> Result<()> {
        self.of("freezer").map_or(Ok(()), freezer::thaw_all)
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        self.of("freezer").map_or(Ok(false), freezer::is_frozen)
    }

    /// Removes every one of them, then tells the first failure.
    pub(crate) fn remove(&self, left: Left, time: Duration) -> Result<()> {
        let result = self.remove_groups(left, Deadline::after(time));
        if result.is_ok() || matches!(left, Left::Keep) {
            return result;
        }
        // A runtime that was killed half-way may have put a process into some groups only, the frozen one among them: the
        // container's processes were counted in another group, and frozen none dies.
        self.thaw_all()?;
        self.remove_groups(left, Deadline::after(time.min(AFTER_THAW)))
    }

    fn remove_groups(&self, left: Left, until: Deadline) -> Result<()> {
        let mut result = Ok(());
        for group in &self.groups {
            let one = Dir::mount(&group.at.mount)
                .and_then(|root| tree::remove(&root, &group.at.path, left, until));
            result = result.and(one);
        }
        result
    }

    pub(crate) fn oom_kill_count(&self) -> Result<u64> {
        self.of("memory").map_or(Ok(0), memory::oom_kill_count)
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    pub(crate) fn mounts(&self) -> Vec<V1Hierarchy> {
        let mount = |group: &Group| {
            let options = group.at.controllers.join(",");
            let name = group.at.mount.file_name()?.to_string_lossy().into_owned();
            let path = group.at.mount.join(&group.at.path);
            let mountpoint = group.at.mount.clone();
            Some(V1Hierarchy {
                options,
                name,
                path,
                mountpoint,
            })
        };
        // The v2 hierarchy of a hybrid host is not for the container, as with runc.
        let named = self
            .groups
            .iter()
            .filter(|group| !group.at.controllers.iter().all(String::is_empty));
        named.filter_map(mount).collect()
    }
}

fn make_one(group: &Group, made: &mut Made<'_>, root: &Dir, r: &Resources) -> Result<Dir> {
    let path = &group.at.path;
    let dir = made.make(path)?;
    if !made.is_new(path) {
        check_unused(&dir)?;
    }
    if group.has("freezer") {
        ensure!(
            !freezer::would_stop(&dir)?,
            "container's cgroup `{dir}` unexpectedly frozen"
        );
    }
    if group.has("cpuset") {
        cpuset::fill(root, path, &r.cpu)?;
    }
    if group.has("cpu") {
        // A realtime process can not enter a group without realtime time.
        write_all(&dir, &limits::realtime(&r.cpu))?;
    }
    Ok(dir)
}

fn missing(controller: &str, field: &str) -> String {
    format!(
        "linux.resources.{field}: cannot set {controller} limit: the {controller} controller is not available in \
         cgroup v1 on this host, or the container's cgroup is gone"
    )
}

fn check_unused(dir: &Dir) -> Result<()> {
    let count = procs::pids(dir)?.len();
    ensure!(
        count == 0,
        "container's cgroup `{dir}` is not empty: {count} process(es) found"
    );
    Ok(())
}

/// The kernel moves shares that are out of its range silently into it.
fn check_shares(dir: &Dir, shares: Option<u64>) -> Result<()> {
    let now: Option<u64> = dir.read_named("cpu.shares")?.trim().parse().ok();
    if let (Some(shares), Some(now)) = (shares, now)
        && shares != now
    {
        let bound = if shares > now { "maximum" } else { "minimum" };
        bail!(
            "linux.resources.cpu.shares: cpu controller: the {bound} allowed cpu-shares is {now} (`{dir}/cpu.shares`)"
        );
    }
    Ok(())
}

fn writes_of(controller: &str, r: &Resources) -> Vec<Write> {
    match controller {
        "memory" => memory::writes(&r.memory),
        _ => limits::writes(controller, r),
    }
}

/// Every write in its order.
pub(super) fn preview(r: &Resources) -> Result<Vec<Write>> {
    limits::refuse_v2_only(r)?;
    Ok(limits::ORDER
        .iter()
        .flat_map(|controller| writes_of(controller, r))
        .collect())
}
