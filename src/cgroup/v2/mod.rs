//! A container's cgroup on a pure cgroup v2 host: made before the clone, so that clone3 can put the child straight
//! into it; limits and the device program are set while the child works.
mod controllers;
pub(crate) mod convert;
mod delegate;
pub(crate) mod freeze;
pub(crate) mod resources;
pub(crate) mod stats;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::detect::{self, own_unified};
use super::devices::{self, Group};
use super::dir::{Dir, is_gone, keyed};
use super::path::{self, SubPaths, Wanted};
use super::procs::Deadline;
use super::record::{GroupRecord, Places};
use super::stats::Stats;
use super::tree::{self, Left, Made};
use super::undo::Undo;
use super::write::write_all;
use super::{Place, procs};
use crate::plan::delegation::{Delegation, Payload};
use crate::plan::resources::{Memory, Resources};
use controllers::{enable, enable_all, pass_on_all};

#[derive(Debug)]
pub(crate) struct Unified {
    at: GroupRecord,
    /// `None` before it is made and once it is gone.
    dir: Option<Dir>,
    /// What the container manages itself; `None` also once it is gone.
    delegated: Option<Dir>,
    group: Group,
}

impl Unified {
    pub(crate) fn plan(mount: &Path, wanted: &Wanted) -> Result<Self> {
        let path = match wanted {
            Wanted::Absolute(path) => path.clone(),
            // The runtime's own cgroup has processes, so its children could get no controllers: a sibling then.
            Wanted::Relative(path) => path::join(path::split(&own_unified()?).0, path),
        };
        Ok(Self::at_path(mount, path))
    }

    /// A cgroup that somebody else makes: systemd.
    pub(crate) fn at_path(mount: &Path, path: String) -> Self {
        let at = GroupRecord {
            controllers: vec![String::new()],
            mount: mount.to_owned(),
            path,
            delegated: None,
        };
        Self {
            at,
            dir: None,
            delegated: None,
            group: Group::Found,
        }
    }

    /// Opens what somebody else has made.
    pub(crate) fn adopt(&mut self) -> Result<()> {
        self.dir = self.at.open()?.1;
        self.live().map(drop)
    }

    /// The container is to get a part of what somebody else will make.
    pub(crate) fn plan_division(&mut self) {
        self.at.delegated = Some(delegate::CHILD.to_owned());
    }

    /// Makes that part and moves into it the only process there is.
    pub(crate) fn divide(&mut self, pid: Pid) -> Result<()> {
        let dir = self.live()?;
        let child = dir.make_below(delegate::CHILD, &mut Vec::new())?;
        procs::attach(&child, pid)?;
        pass_on_all(dir)?;
        self.delegated = Some(child);
        Ok(())
    }

    pub(crate) fn at(&self) -> &GroupRecord {
        &self.at
    }

    pub(crate) fn make(&mut self, r: &Resources, delegation: &Delegation) -> Result<()> {
        resources::refuse_v1_only(r)?;
        let root = Dir::mount(&self.at.mount)?;
        let path = &self.at.path;
        let mut made = Made::new(&root);
        let dir = made.make(path)?;
        check_usable(&dir)?;
        let needed = resources::controllers(r);
        let kind = check_type(&root, &dir, path, &needed)?;
        enable(&root, path, &needed)?;
        let is_new = made.is_new(path);
        match delegation.payload {
            Payload::InLeaf => {
                ensure!(
                    kind == Type::Domain,
                    "annotations[\"org.rundlet.cgroup.delegate\"]: `{dir}/cgroup.type` is threaded, and such a cgroup can not be divided further"
                );
                let below = path::join(path, delegate::CHILD);
                let child = made.make(&below)?;
                delegate::prepare(&child)?;
                self.delegated = Some(child);
                enable_all(&root, &below)?;
                self.at.delegated = Some(delegate::CHILD.to_owned());
            }
            Payload::InGroup if is_new => {}
            Payload::InGroup => check_divided(&dir)?,
        }
        if is_new {
            self.group = Group::Fresh;
        }
        made.keep();
        self.dir = Some(dir);
        Ok(())
    }

    /// Gives the container what it was promised of its cgroup. The init is in it by now and has not gone on yet.
    pub(crate) fn delegate(&self, init: Pid, delegation: &Delegation) -> Result<()> {
        match delegation.payload {
            Payload::InLeaf => delegate::hand_over(self.birthplace()?, init, delegation.owner),
            Payload::InGroup => delegate::give(self.live()?, delegation.owner),
        }
    }

    pub(crate) fn open(record: &GroupRecord) -> Result<Self> {
        let (at, dir) = record.open()?;
        let delegated = match (&dir, &at.delegated) {
            (Some(dir), Some(name)) => dir.below(name).ok(),
            _ => None,
        };
        Ok(Self {
            at,
            dir,
            delegated,
            group: Group::Found,
        })
    }

    pub(crate) fn places(&self) -> Places {
        Places::V2(self.at.clone())
    }

    pub(crate) fn dir(&self) -> Option<&Dir> {
        self.dir.as_ref()
    }

    /// The cgroup that the init is born in, and which is the root of a cgroup namespace made with it.
    pub(crate) fn birthplace(&self) -> Result<&Dir> {
        self.delegated.as_ref().map_or_else(|| self.live(), Ok)
    }

    /// Of that cgroup: what the container is to see.
    pub(crate) fn view(&self) -> PathBuf {
        self.at.mount.join(self.visible())
    }

    /// The same below the mount.
    fn visible(&self) -> String {
        path::join(
            &self.at.path,
            self.at.delegated.as_deref().unwrap_or_default(),
        )
    }

    fn live(&self) -> Result<&Dir> {
        self.dir
            .as_ref()
            .ok_or(Errno::ENOENT)
            .with_context(|| self.at.name())
    }

    pub(crate) fn apply_limits(&self, r: &Resources) -> Result<()> {
        let dir = self.live()?;
        let list = resources::writes(r)?;
        let unified = resources::unified(r);
        if list.is_empty() && unified.is_empty() {
            return Ok(());
        }
        // After an update more controllers may be needed than at create.
        if self.group == Group::Found {
            enable(
                &Dir::mount(&self.at.mount)?,
                &self.visible(),
                &resources::controllers(r),
            )?;
        }
        check_memory_usage(dir, &r.memory)?;
        // The delegated one gets the same values: for the container to see, and because protection (memory.low) has to be
        // given at each level. What the container makes of them changes nothing above.
        std::iter::once(dir)
            .chain(&self.delegated)
            .try_for_each(|dir| write_all(dir, &list).and_then(|()| write_all(dir, &unified)))
    }

    /// Notes what `apply_limits` will change, and enables what it will need.
    pub(crate) fn save<'a>(&'a self, r: &Resources, undo: &mut Undo<'a>) -> Result<()> {
        let dir = self.live()?;
        let list = resources::writes(r)?;
        let needed = resources::controllers(r);
        enable(&Dir::mount(&self.at.mount)?, &self.visible(), &needed)?;
        for dir in std::iter::once(dir).chain(&self.delegated) {
            undo.save(dir, &list);
            undo.save(dir, &resources::unified(r));
        }
        Ok(())
    }

    pub(crate) fn apply_devices(&self, r: &Resources) -> Result<()> {
        devices::set_v2(self.live()?, r, self.group)
    }

    pub(crate) fn for_exec(&self, sub_paths: &SubPaths) -> Result<Place> {
        let sub = match sub_paths {
            SubPaths::Own => "",
            SubPaths::All(sub) => sub,
            SubPaths::Each(_) => bail!(
                "exec --cgroup: cgroup v2 has one hierarchy, so no CONTROLLER: before the path"
            ),
        };
        let path = path::sub(&self.visible(), sub)?;
        if let SubPaths::Own = sub_paths {
            let own = self.leaf().or_else(|| self.birthplace().ok().cloned());
            if let Some(own) = own {
                return Ok(Place::by_clone(own));
            }
        }
        let root = Dir::mount(&self.at.mount)?;
        let dir = root
            .below(&path)
            .with_context(|| format!("error adding pid to {root}/{path}/cgroup.procs"))?;
        Ok(Place::by_clone(dir))
    }

    /// The leaf that the init of a container with a cgroup of its own was put into.
    fn leaf(&self) -> Option<Dir> {
        self.delegated.as_ref()?.below(delegate::LEAF).ok()
    }

    /// The same place as that of `for_exec`, below the container's cgroup.
    pub(crate) fn below(&self, sub_paths: &SubPaths) -> String {
        let delegated = self.at.delegated.as_deref().unwrap_or_default();
        match sub_paths {
            SubPaths::All(sub) => path::join(delegated, &path::clean(sub)),
            _ if self.leaf().is_some() => path::join(delegated, delegate::LEAF),
            _ => delegated.to_owned(),
        }
    }

    /// Where init is now: a container that made sub-cgroups and enabled controllers for them has no place for
    /// processes in its own cgroup (EBUSY), and init has moved down.
    pub(crate) fn beside_init(&self, init: Pid) -> Result<Place> {
        let path = detect::unified_path(&format!("/proc/{init}/cgroup"))?;
        let root = Dir::mount(&self.at.mount)?;
        let dir = root
            .below(&path)
            .with_context(|| format!("open cgroup `{root}/{path}` of process {init}"))?;
        Ok(Place::by_clone(dir))
    }

    pub(crate) fn freeze(&self, limit: Duration) -> Result<()> {
        freeze::freeze(self.live()?, limit)
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        freeze::thaw(self.live()?)
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        self.dir.as_ref().map_or(Ok(false), freeze::is_frozen)
    }

    /// SIGKILL to all. True: done by the kernel at once, frozen or not. False: the caller has to do it one by one.
    pub(crate) fn kill(&self) -> Result<bool> {
        let Some(dir) = &self.dir else {
            return Ok(true);
        };
        match dir.write("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            // Before 5.14 there is no such file, and a threaded cgroup does not take it.
            Err(Errno::EOPNOTSUPP) => Ok(false),
            Err(Errno::ENOENT) if dir.has("cgroup.procs") => Ok(false),
            Err(errno) if is_gone(errno) => Ok(true),
            Err(errno) => Err(errno).with_context(|| format!("write `1` to `{dir}/cgroup.kill`")),
        }
    }

    pub(crate) fn remove(&self, left: Left, until: Deadline) -> Result<()> {
        remove_at(&self.at, left, until)
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        stats::read(self.live()?)
    }

    pub(crate) fn oom_kill_count(&self) -> Result<u64> {
        let Some(dir) = &self.dir else { return Ok(0) };
        match dir.read("memory.events") {
            Ok(text) => Ok(keyed(&text, "oom_kill").unwrap_or(0)),
            Err(errno) if is_gone(errno) => Ok(0),
            Err(errno) => Err(errno).with_context(|| format!("read `{dir}/memory.events`")),
        }
    }
}

pub(crate) fn remove_at(at: &GroupRecord, left: Left, until: Deadline) -> Result<()> {
    tree::remove(&Dir::mount(&at.mount)?, &path::clean(&at.path), left, until)
}

/// A cgroup that is in use or frozen would share its limits or hang the child.
fn check_usable(dir: &Dir) -> Result<()> {
    let events = dir.read_named("cgroup.events")?;
    // Shows an ancestor's freezing too.
    ensure!(
        keyed(&events, "frozen") != Some(1),
        "container's cgroup `{dir}` unexpectedly frozen"
    );
    if keyed(&events, "populated") == Some(1) {
        let count = procs::pids(dir)?.len();
        bail!("container's cgroup `{dir}` is not empty: {count} process(es) found");
    }
    Ok(())
}

/// A cgroup that was there before and is divided further holds no processes.
fn check_divided(dir: &Dir) -> Result<()> {
    let passed = dir.read_named("cgroup.subtree_control")?;
    let passed = passed.trim();
    if let Some(controller) = passed
        .split(' ')
        .find(|c| !c.is_empty() && resources::is_domain_only(c))
    {
        bail!(
            "container's cgroup `{dir}` can hold no process: it passes controllers on to cgroups below it \
             (`cgroup.subtree_control` is `{passed}`; {controller} is not for that)"
        );
    }
    Ok(())
}

/// What a cgroup's `cgroup.type` means for a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Domain,
    Threaded,
}

/// Below a cgroup with processes a new one is `domain invalid`: nothing can be put in until it is made threaded, and
/// then only some controllers work.
fn check_type(root: &Dir, dir: &Dir, path: &str, needed: &[(String, String)]) -> Result<Type> {
    let kind = dir.read_named("cgroup.type")?;
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(Type::Domain);
    }
    if let Some((controller, field)) = needed.iter().find(|(c, _)| resources::is_domain_only(c)) {
        bail!(
            "{field}: {controller} controller: can not limit cgroup `{dir}`, which is in {kind} mode (`{dir}/cgroup.type`): \
             a cgroup above it has processes or threaded cgroups of its own"
        );
    }
    if kind == "domain invalid" {
        for ancestor in path::ancestors(path).chain([path]) {
            let dir = root
                .below(ancestor)
                .with_context(|| format!("open cgroup `{root}/{ancestor}`"))?;
            if dir.read_named("cgroup.type")?.trim() == "domain invalid" {
                dir.write_named("cgroup.type", "threaded")?;
            }
        }
    }
    Ok(Type::Threaded)
}

/// memory.max below what is in use would start the OOM killer instead of failing; who asks to be told, is.
fn check_memory_usage(dir: &Dir, memory: &Memory) -> Result<()> {
    if memory.check_before_update != Some(true) {
        return Ok(());
    }
    let Some(usage) = dir
        .read("memory.current")
        .ok()
        .and_then(|t| t.trim().parse::<i64>().ok())
    else {
        return Ok(());
    };
    for (name, field, limit) in [
        ("memory+swap limit", "swap", memory.swap),
        ("memory limit", "limit", memory.limit),
    ] {
        if let Some(limit) = limit.filter(|&l| l > 0 && l <= usage) {
            bail!("linux.resources.memory.{field}: rejecting {name} {limit} <= usage {usage}");
        }
    }
    Ok(())
}
