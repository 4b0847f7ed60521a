//! Where a mount goes: the directory or file below the container's root that it is attached to, found or made (M7, P5). Called by
//! `mount.rs` and `cgroup.rs`.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::bases::Bases;
use super::{DIR_MODE, FILE_MODE};
use crate::fs::inroot::{self, Links};
use crate::fs::procfs;
use crate::plan::mount_options::TargetLink;
use crate::plan::mounts::{MountKind, MountOp, Special};

/// The root that mounts are made in.
pub(super) struct Tree<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) bases: Bases,
    /// Of a file system that a target lay on and that is no proc. Asked for where there are many targets: fstat(2) takes half the time
    /// of fstatfs(2), and is one call more for the first.
    pub(super) known: Known,
}

/// See [`Tree::known`].
pub(super) enum Known {
    NotKept,
    Device(Cell<Option<libc::dev_t>>),
}

impl Known {
    /// For that many mounts.
    pub(super) fn of(mounts: usize) -> Known {
        if mounts < 32 {
            Known::NotKept
        } else {
            Known::Device(Cell::new(None))
        }
    }

    fn is_proc(&self, target: BorrowedFd<'_>) -> nix::Result<bool> {
        let Known::Device(known) = self else {
            return procfs::is_proc(target);
        };
        let device = fstat(target)?.st_dev;
        if known.get() == Some(device) {
            return Ok(false);
        }
        let is = procfs::is_proc(target)?;
        if !is {
            known.set(Some(device));
        }
        Ok(is)
    }
}

/// /proc and /sys, what is below /proc, and every proc and sysfs must not be reached through a link (P5). Nor may a
/// link of the image choose the mount that a remount takes an attribute from.
pub(super) fn links(op: &MountOp) -> Links {
    let strict = match &op.kind {
        MountKind::Fs(fs) => matches!(fs.special, Special::Proc | Special::Sysfs),
        MountKind::Remount => true,
        MountKind::Bind { .. } | MountKind::Cgroup => false,
    };
    if strict || op.destination.starts_with("/proc") || op.destination == Path::new("/sys") {
        Links::Refuse
    } else {
        Links::Follow
    }
}

/// The place to mount on, made where it is missing. Never inside of a read-only mount: those are so from the moment
/// they are attached, the kernel refuses (M7).
pub(super) fn target(op: &MountOp, tree: &Tree<'_>, is_dir: bool) -> Result<OwnedFd> {
    if is_dir && let Some(target) = target_in_base(op, tree) {
        return Ok(target);
    }
    let (root, links) = (tree.root, links(op));
    if op.links.target == TargetLink::Itself && links == Links::Follow {
        let (dir, name) = inroot::parent(root, &op.destination, DIR_MODE)
            .map_err(|errno| target_error(op, errno))?;
        match inroot::entry(dir.as_fd(), name) {
            // Made below, as any other.
            Err(Errno::ENOENT) => {}
            found => return found.map_err(|errno| target_error(op, errno)),
        }
    }
    let found = if is_dir {
        inroot::mkdir_all(root, &op.destination, DIR_MODE, links)
    } else {
        inroot::ensure_file(root, &op.destination, FILE_MODE, links)
    };
    checked(op, tree, found.map_err(|errno| target_error(op, errno))?)
}

/// A directory of a file system that the container has been given just now: nothing leads from there into `/proc`. None also
/// where something else has to be said about it.
pub(super) fn target_in_base(op: &MountOp, tree: &Tree<'_>) -> Option<OwnedFd> {
    let (base, name) = tree.bases.parent_of(&op.destination)?;
    inroot::mkdir(base, name, DIR_MODE).ok()
}

pub(super) fn checked(op: &MountOp, tree: &Tree<'_>, target: OwnedFd) -> Result<OwnedFd> {
    if !op.destination.starts_with("/proc")
        && tree
            .known
            .is_proc(target.as_fd())
            .context("look at the target")?
    {
        bail!("the root file system leads the target into `/proc`");
    }
    Ok(target)
}

pub(super) fn target_error(op: &MountOp, errno: Errno) -> Error {
    let text = match (errno, links(op)) {
        (Errno::ELOOP, Links::Refuse) => "the target must not be reached through a symbolic link",
        (Errno::ENOTDIR, Links::Refuse) => "the target must be a directory",
        (Errno::ENOTDIR, Links::Follow) => {
            "a directory is to be mounted there, and the target is none"
        }
        (Errno::EROFS, _) => "the target does not exist and cannot be made",
        _ => "open the target",
    };
    Error::new(errno).context(text)
}

pub(super) fn existing(op: &MountOp, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match inroot::open(root, &op.destination, flags, links(op)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(target_error(op, errno)),
    }
}
