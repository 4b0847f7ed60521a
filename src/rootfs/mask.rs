//! Masked and read-only paths (K1-K4). Called by `Root::finish` after everything else was mounted, so that
//! nothing is mounted over a mask; the null device is taken by `prepare`, while the host's /dev is in reach.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{SFlag, fstat, makedev};

use super::mount;
use crate::fs::inroot::{self, Links};
use crate::sys::fd::Later;
use crate::sys::mount::{Attr, Depth, FsContext, attach, clone_tree, set_attr};

/// The HOST's null device as a detached mount, verified (K1): never one of the container.
pub(super) fn null_device() -> Result<OwnedFd> {
    let tree =
        clone_tree(AT_FDCWD, Path::new("/dev/null"), Depth::Top).context("open `/dev/null`")?;
    let stat = fstat(&tree).context("look at `/dev/null`")?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        bail!("`/dev/null` of the host is not the null device");
    }
    let private = Attr {
        propagation: libc::MS_PRIVATE,
        ..Attr::default()
    };
    set_attr(tree.as_fd(), Depth::Top, private).context("detach `/dev/null` from the host")?;
    Ok(tree)
}

/// An empty directory that cannot be filled, as a detached mount (K4).
pub(super) fn empty_directory(label: Option<&str>) -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs").context("file system type `tmpfs`")?;
    mount::set(&context, "source", Some(OsStr::new("tmpfs")))?;
    for (key, value) in [("nr_blocks", "1"), ("nr_inodes", "1"), ("mode", "755")] {
        mount::set(&context, key, Some(OsStr::new(value)))?;
    }
    mount::set_label(&context, label)?;
    mount::set(&context, "ro", None)?;
    mount::created(&context, libc::MOUNT_ATTR_RDONLY).context("make an empty directory")
}

/// A mount that goes to several places: the first gets it, the others copies of it. (Older kernels copy a mount only
/// once it is attached.)
enum Stamp<'a> {
    New(BorrowedFd<'a>),
    Used(BorrowedFd<'a>),
}

impl Stamp<'_> {
    fn put(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        match *self {
            Self::New(tree) => {
                attach(tree, target).context("attach the mask")?;
                *self = Self::Used(tree);
            }
            Self::Used(tree) => {
                let copy = clone_tree(tree, Path::new(""), Depth::Top).context("copy the mask")?;
                let copy = Later::new(copy);
                attach(copy.as_fd(), target).context("attach the mask")?;
            }
        }
        Ok(())
    }
}

pub(super) struct Masks<'a> {
    null: Option<Stamp<'a>>,
    directory: Option<Later>,
    /// SELinux's, of that directory.
    label: Option<&'a str>,
}

impl<'a> Masks<'a> {
    pub(super) fn new(null: Option<BorrowedFd<'a>>, label: Option<&'a str>) -> Self {
        Self {
            label,
            null: null.map(Stamp::New),
            directory: None,
        }
    }

    /// Covers `path`. Only that it does not exist, which the lookup of the target says, is no error (K2).
    pub(super) fn mask(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let Some(target) = existing(root, path)? else {
            return Ok(());
        };
        if inroot::file_type(target.as_fd()).context("look at it")? != SFlag::S_IFDIR {
            let Some(null) = &mut self.null else {
                bail!("there is no null device to mask it with");
            };
            return null.put(target.as_fd());
        }
        if let Some(directory) = &self.directory {
            return Stamp::Used(directory.as_fd()).put(target.as_fd());
        }
        let directory = Later::new(empty_directory(self.label)?);
        Stamp::New(directory.as_fd()).put(target.as_fd())?;
        self.directory = Some(directory);
        Ok(())
    }
}

/// Makes `path` read-only by a bind of it on itself, with what is mounted below. By descriptors: the container's /proc has no part
/// in it (K3, CVE-2026-115521).
pub(super) fn make_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let Some(target) = existing(root, path)? else {
        return Ok(());
    };
    cover_read_only(target.as_fd())
}

/// The same for what was looked up. Also for a mount in a detached root: there the kernel changes no attributes below the top.
pub(super) fn cover_read_only(target: BorrowedFd<'_>) -> Result<()> {
    let tree = clone_tree(target, Path::new(""), Depth::Recursive).context("bind it")?;
    let tree = Later::new(tree);
    let attr = Attr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attr::default()
    };
    set_attr(tree.as_fd(), Depth::Top, attr).context("make it read-only")?;
    attach(tree.as_fd(), target).context("attach it")
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<Later>> {
    match inroot::open(root, path, OFlag::O_PATH, Links::Follow) {
        Ok(target) => Ok(Some(Later::new(target))),
        // A name below a file exists as little as one in an empty directory.
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno).context("open it"),
    }
}
