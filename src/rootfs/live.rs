//! Mounts of a container that runs: sources opened on the host ([`open_sources`]), then, by a process of the runtime that has joined the
//! container's mount namespace, [`add`] and [`remove`]. Called by `container` and `init`.
//!
//! The same rules as for a new container: a mount has its attributes before it is attached (M1), and its place is a descriptor found
//! below the container's root (P1, P2), which may be hostile and changing all the time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::bases::Bases;
use super::mount_table::Table;
use super::target::{Known, Tree, target};
use super::{mount, sources};
use crate::fs::inroot::{self, Links};
use crate::fs::procfs::ProcHandle;
use crate::plan::live_mounts::Added;
use crate::plan::mounts::{MountKind, MountOp, Special};
use crate::plan::rootfs::RootfsPlan;
use crate::sys::mount::{
    Attr, Depth, attach, is_mount_root, is_same_place, mount_numbers, set_attr,
};

/// A detached copy for each bind of the plan; `user_namespace` is the container's.
pub(crate) fn open_sources(
    plan: &RootfsPlan,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Vec<Option<OwnedFd>>> {
    sources::open_all(plan, user_namespace)
}

/// Mounts that are attached. Dropped they stay; [`Attached::undo`] takes them away.
#[derive(Default)]
pub(crate) struct Attached(Vec<OwnedFd>);

impl Attached {
    pub(crate) fn numbers(&self) -> Result<Vec<(u64, u64)>> {
        let each = self.0.iter().map(|tree| mount_numbers(tree.as_fd()));
        each.collect::<nix::Result<_>>()
            .context("ask for the numbers of the mounts")
    }

    /// All of it, whatever fails: the last one first.
    pub(crate) fn undo(self, proc: &ProcHandle) {
        for tree in self.0.iter().rev() {
            let _ = proc.unmount(tree.as_fd());
        }
    }
}

/// Attaches all mounts of the plan below `root`, or none. The umask is 0: modes of files are meant as they stand.
pub(crate) fn add(
    plan: &RootfsPlan,
    trees: Vec<Option<OwnedFd>>,
    root: BorrowedFd<'_>,
    proc: &ProcHandle,
) -> Result<Attached> {
    let mut attached = Attached::default();
    let added = add_each(plan, trees, root, &mut attached);
    match added {
        Ok(()) => Ok(attached),
        Err(error) => {
            attached.undo(proc);
            Err(error)
        }
    }
}

fn add_each(
    plan: &RootfsPlan,
    trees: Vec<Option<OwnedFd>>,
    root: BorrowedFd<'_>,
    attached: &mut Attached,
) -> Result<()> {
    for (op, tree) in plan.mounts.iter().zip(trees) {
        let at = || format!("mounts[{}]: mount `{}`", op.index, op.destination.display());
        let tree = add_one(op, tree, root).with_context(at)?;
        attached.0.push(tree);
    }
    // As in a new container a tmpfs is writable until all is mounted in it.
    for (op, tree) in plan.mounts.iter().zip(&attached.0) {
        if matches!(op.kind, MountKind::Fs(_)) && op.top.set & libc::MOUNT_ATTR_RDONLY != 0 {
            let read_only = Attr {
                set: libc::MOUNT_ATTR_RDONLY,
                ..Attr::default()
            };
            set_attr(tree.as_fd(), Depth::Top, read_only)
                .with_context(|| format!("mounts[{}]: make it read-only", op.index))?;
        }
    }
    Ok(())
}

fn add_one(op: &MountOp, tree: Option<OwnedFd>, root: BorrowedFd<'_>) -> Result<OwnedFd> {
    match (&op.kind, tree) {
        (MountKind::Bind { .. }, Some(tree)) => {
            bind(op, root, tree.as_fd())?;
            Ok(tree)
        }
        (MountKind::Fs(fs), _) => {
            let Special::Tmpfs { copy_up } = fs.special else {
                bail!("only a tmpfs can be made");
            };
            // Made here if it is missing, and looked up once more below.
            let tree = whole(root);
            ensure_not_root(target(op, &tree, true)?.as_fd(), root)?;
            mount::tmpfs(op, fs, copy_up, &tree)
        }
        _ => bail!("the source was not opened"),
    }
}

fn bind(op: &MountOp, root: BorrowedFd<'_>, tree: BorrowedFd<'_>) -> Result<()> {
    let kind = inroot::file_type(tree).context("look at the source")?;
    let is_dir = kind == SFlag::S_IFDIR;
    let target = target(op, &whole(root), is_dir)?;
    ensure_not_root(target.as_fd(), root)?;
    let on_dir = inroot::file_type(target.as_fd()).context("look at the target")? == SFlag::S_IFDIR;
    ensure!(
        is_dir || !on_dir,
        "the target is a directory and the source is not"
    );
    attach(tree, target.as_fd()).context("attach")
}

/// Every lookup is one from the root: nothing in a running container stays as it was seen.
fn whole(root: BorrowedFd<'_>) -> Tree<'_> {
    Tree {
        root,
        bases: Bases::default(),
        known: Known::NotKept,
    }
}

/// What covers the root is where `exec` would begin.
fn ensure_not_root(target: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let same = is_same_place(target, root).context("look at the target")?;
    ensure!(!same, "the root file system leads the target to its root");
    Ok(())
}

/// Takes these mounts away, in this order, or none; one that the container has unmounted itself is gone already.
pub(crate) fn remove(added: &[&Added], root: BorrowedFd<'_>, proc: &ProcHandle) -> Result<()> {
    let mut found = Vec::new();
    for mount in added {
        let at = || format!("unmount `{}`", mount.destination.display());
        found.extend(find(mount, root, proc).with_context(at)?);
    }
    for fd in &found {
        // A mount below another one goes with it.
        match proc.unmount(fd.as_fd()) {
            Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::EINVAL) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The root of the mount, if it still is where it was put.
fn find(added: &Added, root: BorrowedFd<'_>, proc: &ProcHandle) -> Result<Option<OwnedFd>> {
    let there = inroot::open(root, &added.destination, OFlag::O_PATH, Links::Follow);
    if let Ok(fd) = &there
        && is_mount_root(fd.as_fd()).context("look at it")?
        && mount_numbers(fd.as_fd()).context("look at it")? == added.numbers
    {
        return Ok(there.ok());
    }
    let table = proc
        .own_dir()
        .and_then(|dir| proc.open_file(&dir.join("mountinfo"), OFlag::O_RDONLY))
        .and_then(Table::read)
        .context("read the mount table")?;
    match table.0.get(&added.numbers.0) {
        None => Ok(None),
        Some(line) if line.point == added.destination => {
            bail!("another mount lies over what was added")
        }
        Some(line) => bail!("what was added is now at `{}`", line.point.display()),
    }
}
