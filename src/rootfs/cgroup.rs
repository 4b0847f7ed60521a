//! The mount of type cgroup: the container's view of its own cgroups, nothing above them (G3).
//! Called by `mount.rs`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::mkdirat;

use super::target::{Tree, target};
use super::{DIR_MODE, mask, mount};
use crate::fs::inroot;
use crate::plan::mounts::{CgroupMounts, Change, MountOp, V1Hierarchy};
use crate::plan::rootfs::{MountNamespace, RootfsPlan};
use crate::sys::fd::Later;
use crate::sys::mount::{Attr, Depth, FsContext, attach, clone_tree, set_attr};

pub(super) fn mount(
    op: &MountOp,
    plan: &RootfsPlan,
    tree: &Tree<'_>,
    cgroups: Option<&CgroupMounts>,
) -> Result<()> {
    let Some(cgroups) = cgroups else {
        bail!("the container has no cgroup to show");
    };
    let target = Later::new(target(op, tree, true)?);
    match cgroups {
        CgroupMounts::Unavailable => {
            let empty = mask::empty_directory(plan.mount_label.as_deref())?;
            attach(empty.as_fd(), target.as_fd()).context("attach an empty directory")
        }
        CgroupMounts::V2 { path } => {
            let fresh = || fresh("cgroup2", "", op.top.set);
            let tree = Later::new(view(plan, path, op.top.set, fresh)?);
            mount::apply(tree.as_fd(), op, Change::default())?;
            attach(tree.as_fd(), target.as_fd()).context("attach")
        }
        CgroupMounts::V1 { hierarchies } => v1(op, plan, hierarchies, target.as_fd()),
    }
}

/// In a cgroup namespace the hierarchy mounted inside of it, whose root is the container's cgroup; elsewhere a bind of
/// that cgroup. Mounting cgroup2 outside of a cgroup namespace would also reset the options of the host's.
fn view(
    plan: &RootfsPlan,
    path: &Path,
    attrs: u64,
    fresh: impl FnOnce() -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    if plan.namespaces.cgroup
        && let Ok(tree) = fresh()
    {
        return Ok(tree);
    }
    let tree = clone_tree(AT_FDCWD, path, Depth::Top)
        .with_context(|| format!("open cgroup `{}`", path.display()))?;
    let attr = Attr {
        set: attrs,
        propagation: libc::MS_PRIVATE,
        ..Attr::default()
    };
    set_attr(tree.as_fd(), Depth::Top, attr).context("set attributes of the cgroup mount")?;
    Ok(tree)
}

fn fresh(fstype: &str, options: &str, attrs: u64) -> Result<OwnedFd> {
    let context =
        FsContext::open(fstype).with_context(|| format!("file system type `{fstype}`"))?;
    // The names that runc gives and that systemd in a container looks for.
    let source = if options == "name=systemd" {
        "systemd"
    } else {
        "cgroup"
    };
    mount::set(&context, "source", Some(OsStr::new(source)))?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => mount::set(&context, key, Some(OsStr::new(value)))?,
            None => mount::set(&context, option, None)?,
        }
    }
    mount::created(&context, attrs)
}

/// A tmpfs with a directory for each hierarchy, and links for the controllers that share one.
fn v1(
    op: &MountOp,
    plan: &RootfsPlan,
    hierarchies: &[V1Hierarchy],
    target: BorrowedFd<'_>,
) -> Result<()> {
    let context = FsContext::open("tmpfs").context("file system type `tmpfs`")?;
    mount::set(&context, "source", Some(OsStr::new("tmpfs")))?;
    mount::set(&context, "mode", Some(OsStr::new("755")))?;
    mount::set_label(&context, plan.mount_label.as_deref())?;
    let base = mount::created(&context, op.top.set & !libc::MOUNT_ATTR_RDONLY)?;
    // In a detached root last, for there the kernel changes no attributes below the top; elsewhere first, for older kernels
    // mount on nothing that is not attached.
    let last = plan.namespaces.mount == MountNamespace::Detached;
    if !last {
        attach(base.as_fd(), target).context("attach")?;
    }
    for hierarchy in hierarchies {
        add(op, plan, hierarchy, base.as_fd())
            .with_context(|| format!("cgroup hierarchy `{}`", hierarchy.name))?;
    }
    mount::apply(base.as_fd(), op, Change::default())?;
    if op.top.set & libc::MOUNT_ATTR_RDONLY != 0 {
        let attr = Attr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attr::default()
        };
        set_attr(base.as_fd(), Depth::Top, attr).context("make it read-only")?;
    }
    if last {
        attach(base.as_fd(), target).context("attach")?;
    }
    Ok(())
}

fn add(
    op: &MountOp,
    plan: &RootfsPlan,
    hierarchy: &V1Hierarchy,
    base: BorrowedFd<'_>,
) -> Result<()> {
    let name = OsStr::new(&hierarchy.name);
    let attrs = op.top.set;
    let fresh = || fresh("cgroup", &hierarchy.options, attrs);
    let tree = Later::new(view(plan, &hierarchy.path, attrs, fresh)?);
    mkdirat(base, name, DIR_MODE).context("mkdir")?;
    let directory = Later::new(inroot::entry(base, name).context("open the directory")?);
    attach(tree.as_fd(), directory.as_fd()).context("attach")?;
    for controller in links(hierarchy) {
        inroot::symlink(base, OsStr::new(controller), &hierarchy.name)
            .with_context(|| format!("link `{controller}`"))?;
    }
    Ok(())
}

/// The controllers of a hierarchy that are not also its directory: `cpu` and `cpuacct` of `cpu,cpuacct`.
fn links(hierarchy: &V1Hierarchy) -> impl Iterator<Item = &str> {
    hierarchy
        .options
        .split(',')
        .filter(|option| !option.is_empty() && !option.contains('=') && *option != hierarchy.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_for_controllers_that_share_a_hierarchy() {
        let of = |options: &str, name: &str| V1Hierarchy {
            options: options.to_owned(),
            name: name.to_owned(),
            path: "/".into(),
            mountpoint: "/".into(),
        };
        let shared = of("cpu,cpuacct", "cpu,cpuacct");
        assert_eq!(links(&shared).collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(links(&of("memory", "memory")).count(), 0);
        assert_eq!(links(&of("name=systemd", "systemd")).count(), 0);
    }
}
