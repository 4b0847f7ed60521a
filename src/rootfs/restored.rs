//! The root of a container that is restored: places for its mounts where no container has been yet ([`make_points`]), and
//! `root.readonly` ([`make_root_read_only`]). Called by `container`; what an image made of it is looked at by `restored_check`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, umask};

use super::{DIR_MODE, FILE_MODE, pivot};
use crate::fs::inroot::{self, Links};
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::rootfs::RootfsPlan;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::mount::{Attr, Depth, attach, clone_tree, set_attr};
use crate::sys::process::exit_now;
use crate::sys::wait::{Exit, wait_pidfd};

/// Modes given to mkdir, mknod and open are meant as they stand while one of these lives.
struct ZeroUmask(Mode);

impl ZeroUmask {
    fn new() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for ZeroUmask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// In a mount namespace made for it: the root at `place` as a mount of its own, with a place for every mount of the config. CRIU
/// makes mounts and not what they are mounted on. What is below a file system of the container comes with that one.
pub(crate) fn make_points(plan: &RootfsPlan, place: &Path) -> Result<()> {
    let _umask = ZeroUmask::new();
    let top = pivot::open_directory(Path::new("/"))?;
    set_attr(
        top.as_fd(),
        Depth::Recursive,
        pivot::propagate(libc::MS_SLAVE),
    )
    .context("cut the mounts for criu off from the host's")?;
    let attach_root = || -> Result<OwnedFd> {
        let root = pivot::open_directory(&plan.root)?;
        let tree = clone_tree(root.as_fd(), Path::new(""), Depth::Recursive).context("bind it")?;
        set_attr(tree.as_fd(), Depth::Top, pivot::propagate(libc::MS_PRIVATE))
            .context("make it private")?;
        attach(tree.as_fd(), pivot::open_directory(place)?.as_fd()).context("attach it")?;
        Ok(tree)
    };
    let at = || format!("root.path: prepare root `{}`", plan.root.display());
    // Once to make the places in, with binds that hold places of others; then all of these go at once.
    let root = attach_root().with_context(at)?;
    for (index, op) in plan.mounts.iter().enumerate() {
        make_point(plan, index, op, root.as_fd()).with_context(|| {
            let path = op.destination.display();
            format!(
                "mounts[{}].destination: make a place for `{path}`",
                op.index
            )
        })?;
    }
    drop(root);
    umount2(place, MntFlags::MNT_DETACH).with_context(at)?;
    attach_root().with_context(at).map(drop)
}

/// `root.readonly`, which CRIU neither restores nor could start with, for it makes directories there. By a process in the mount
/// namespace, as attributes are changed from within only; none of the container's runs yet.
pub(crate) fn make_root_read_only(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = std::fs::File::open(&path).with_context(|| format!("open `{path}`"))?;
    let change = || -> Result<()> {
        setns(&namespace, CloneFlags::CLONE_NEWNS)?;
        let root = pivot::open_directory(Path::new("/"))?;
        let attr = Attr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attr::default()
        };
        Ok(set_attr(root.as_fd(), Depth::Top, attr)?)
    };
    let request = CloneRequest {
        flags: CloneFlags::empty(),
        cgroup: None,
    };
    match clone3(&request).context("clone a process for the mount namespace")? {
        Cloned::Child => exit_now(change().map_or_else(|error| errno_of(&error), |()| 0)),
        Cloned::Parent { pidfd, .. } => {
            let exit = wait_pidfd(pidfd.as_fd()).context("wait for the root to be read-only")?;
            let what = "root.readonly: make the restored root read-only";
            match exit {
                Exit::Code(0) => Ok(()),
                Exit::Code(errno) => Err(Errno::from_raw(errno)).context(what),
                signal @ Exit::Signal(_) => bail!("{what}: {signal}"),
            }
        }
    }
}

fn errno_of(error: &anyhow::Error) -> i32 {
    error
        .downcast_ref::<Errno>()
        .map_or(libc::EIO, |errno| *errno as i32)
}

fn make_point(plan: &RootfsPlan, index: usize, op: &MountOp, root: BorrowedFd<'_>) -> Result<()> {
    let on_own = plan.mounts[..index].iter().any(|earlier| {
        !matches!(earlier.kind, MountKind::Bind { .. } | MountKind::Remount)
            && op.destination.starts_with(&earlier.destination)
    });
    if on_own {
        return Ok(());
    }
    match &op.kind {
        MountKind::Remount => Ok(()),
        MountKind::Cgroup | MountKind::Fs(_) => {
            inroot::mkdir_all(root, &op.destination, DIR_MODE, Links::Follow)?;
            Ok(())
        }
        MountKind::Bind { source, .. } => {
            let tree = clone_tree(AT_FDCWD, source, Depth::Top)
                .with_context(|| format!("open source `{}`", source.display()))?;
            let is_dir = inroot::file_type(tree.as_fd())? == SFlag::S_IFDIR;
            let target = if is_dir {
                inroot::mkdir_all(root, &op.destination, DIR_MODE, Links::Follow)?
            } else {
                inroot::ensure_file(root, &op.destination, FILE_MODE, Links::Follow)?
            };
            set_attr(tree.as_fd(), Depth::Top, pivot::propagate(libc::MS_PRIVATE))?;
            attach(tree.as_fd(), target.as_fd()).context("attach")
        }
    }
}
