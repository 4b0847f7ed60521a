//! A container's cgroups on a v1 or hybrid host: one in each hierarchy, the named ones and on hybrid the v2 one
//! included. The child is put into all of them by its parent, one after the other, before it does anything.
mod cpuset;
mod freezer;
mod limits;
mod memory;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::detect::Hierarchy;
use super::devices;
use super::dir::{Dir, is_gone};
use super::path::{self, SubPaths, Wanted};
use super::procs::{self, Deadline};
use super::record::{GroupRecord, Record};
use super::tree::{self, Made};
use super::write::write_all;
use super::Place;
use crate::plan::mounts::V1Hierarchy;
use crate::plan::resources::Resources;

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

    fn open(record: &GroupRecord) -> Result<Self> {
        let at = GroupRecord {
            path: path::clean(&record.path),
            ..record.clone()
        };
        let dir = match Dir::mount(&at.mount)?.below(&at.path) {
            Ok(dir) => Some(dir),
            Err(errno) if is_gone(errno) => None,
            Err(errno) => return Err(errno).with_context(|| format!("open {}", at.name())),
        };
        Ok(Self { at, dir })
    }

    fn live(&self) -> Result<&Dir> {
        self.dir
            .as_ref()
            .ok_or(Errno::ENOENT)
            .with_context(|| self.at.name())
    }
}

impl Legacy {
    pub(crate) fn create(
        hierarchies: &[Hierarchy],
        wanted: &Wanted,
        r: &Resources,
    ) -> Result<Self> {
        limits::refuse_v2_only(r)?;
        // Without it nothing keeps the container from the host's disks.
        ensure!(
            hierarchies
                .iter()
                .any(|h| h.controllers.iter().any(|c| c == "devices")),
            "linux.resources.devices: devices controller: not mounted on this cgroup v1 host"
        );
        let roots: Vec<Dir> = hierarchies
            .iter()
            .map(|h| Dir::mount(&h.mount))
            .collect::<Result<_>>()?;
        // If one fails, all roll back.
        let mut making: Vec<Made<'_>> = Vec::new();
        let mut groups = Vec::new();
        for (h, root) in hierarchies.iter().zip(&roots) {
            let path = match wanted {
                Wanted::Absolute(path) => path.clone(),
                Wanted::Relative(path) => path::join(&h.own, path),
            };
            let mut made = Made::new(root);
            let dir = made.make(&path)?;
            let is_new = made.is_new(&path);
            making.push(made);
            if !is_new {
                check_unused(&dir)?;
            }
            let has = |controller: &str| h.controllers.iter().any(|c| c == controller);
            if has("freezer") {
                ensure!(
                    !freezer::would_stop(&dir)?,
                    "container's cgroup `{dir}` unexpectedly frozen"
                );
            }
            if has("cpuset") {
                cpuset::fill(root, &path, &r.cpu)?;
            }
            if has("cpu") {
                // A realtime process can not enter a group without realtime time.
                write_all(&dir, &limits::realtime(&r.cpu))?;
            }
            let (controllers, mount) = (h.controllers.clone(), h.mount.clone());
            let at = GroupRecord {
                controllers,
                mount,
                path,
                made: Vec::new(),
            };
            groups.push(Group { at, dir: Some(dir) });
        }
        for (group, made) in groups.iter_mut().zip(making) {
            group.at.made = made.keep();
        }
        Ok(Self { groups })
    }

    pub(crate) fn open(records: &[GroupRecord]) -> Result<Self> {
        Ok(Self {
            groups: records.iter().map(Group::open).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn to_record(&self) -> Record {
        Record::V1(self.groups.iter().map(|g| g.at.clone()).collect())
    }

    /// The group of a controller, if it is mounted and still there.
    fn of(&self, controller: &str) -> Option<&Dir> {
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

    pub(crate) fn freeze(&self) -> Result<()> {
        freezer::freeze(self.freezer()?)
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        freezer::thaw(self.freezer()?)
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        self.of("freezer").map_or(Ok(false), freezer::is_frozen)
    }

    /// Removes every one of them, then tells the first failure.
    pub(crate) fn remove(&self, until: Deadline) -> Result<()> {
        let mut result = Ok(());
        for group in &self.groups {
            let one = Dir::mount(&group.at.mount)
                .and_then(|root| tree::remove(&root, &group.at.path, until));
            result = result.and(one);
        }
        result
    }

    pub(crate) fn oom_kill_count(&self) -> Result<u64> {
        self.of("memory").map_or(Ok(0), memory::oom_kill_count)
    }

    pub(crate) fn mounts(&self) -> Vec<V1Hierarchy> {
        let mount = |group: &Group| {
            let name = group.at.mount.file_name()?.to_string_lossy().into_owned();
            Some(V1Hierarchy {
                options: group.at.controllers.join(","),
                name,
                path: group.at.mount.join(&group.at.path),
                mountpoint: group.at.mount.clone(),
            })
        };
        self.groups.iter().filter_map(mount).collect()
    }
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
