//! The root mount: propagation before it (M2), attaching it, making it `/` (M3). Called by `mod.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::mask;
use crate::fs::mountinfo;
use crate::plan::mounts::Propagation;
use crate::plan::rootfs::RootfsPlan;
use crate::sys::fd::{Later, done};
use crate::sys::mount::{
    Attr, Depth, attach, clone_tree, is_mount_root, is_own_root, is_same_place, set_attr,
};

const OWN_NAMESPACE: &str = "/proc/self/ns/mnt";

/// How the prepared root becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootChange {
    Pivot,
    /// `--no-pivot`: for hosts whose root is a ramdisk, which cannot be pivoted away. Weaker.
    Move,
}

pub(super) fn propagate(kind: u64) -> Attr {
    Attr {
        propagation: kind,
        ..Attr::default()
    }
}

/// A directory of the host by its path, as an O_PATH descriptor.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty())
        .with_context(|| format!("open `{}`", path.display()))
}

fn is_shared(propagation: Option<Propagation>) -> bool {
    propagation.is_some_and(|propagation| propagation.kind == libc::MS_SHARED)
}

/// The root directory of this mount namespace, which is that of this process unless it was called in a chroot: who joins the
/// namespace comes out there.
pub(super) struct Outer {
    pub(super) fd: OwnedFd,
    /// This process's root is another directory.
    pub(super) chrooted: bool,
}

impl Outer {
    /// Where there can be no chroot.
    pub(super) fn own() -> Result<Outer> {
        let fd = open_directory(Path::new("/"))?;
        let chrooted = false;
        Ok(Outer { fd, chrooted })
    }

    /// Joining the namespace that this process is in is the only way to learn of a chroot.
    pub(super) fn find() -> Result<Outer> {
        let Outer { fd: root, .. } = Outer::own()?;
        let here = Later::new(open_directory(Path::new("."))?);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let this = openat(AT_FDCWD, OWN_NAMESPACE, flags, Mode::empty())
            .with_context(|| format!("open `{OWN_NAMESPACE}`"))?;
        setns(&this, CloneFlags::CLONE_NEWNS).context("go to the root of the mount namespace")?;
        done(this);
        let outer = if is_own_root(root.as_fd()).context("compare the roots")? {
            let chrooted = false;
            Outer { fd: root, chrooted }
        } else {
            let Outer { fd, .. } = Outer::own()?;
            enter(root.as_fd()).context("come back")?;
            done(root);
            let chrooted = true;
            Outer { fd, chrooted }
        };
        fchdir(&here).context("come back to the working directory")?;
        Ok(outer)
    }
}

/// Cuts the new namespace's mounts off from the host's, as far as the config lets it: before anything is mounted.
pub(super) fn set_propagation(outer: &Outer, wanted: Option<Propagation>) -> Result<()> {
    let (depth, kind) = namespace_propagation(wanted);
    set_attr(outer.fd.as_fd(), depth, propagate(kind))
        .context("set the propagation of the host's `/`")
}

/// What [`set_propagation`] sets, and on what.
pub(super) fn namespace_propagation(wanted: Option<Propagation>) -> (Depth, u64) {
    match wanted {
        Some(Propagation {
            kind: libc::MS_SHARED,
            recursive: false,
        }) => (Depth::Top, libc::MS_SHARED),
        Some(Propagation {
            kind: libc::MS_SHARED,
            recursive: true,
        }) => (Depth::Recursive, libc::MS_SHARED),
        Some(Propagation {
            kind: libc::MS_PRIVATE,
            recursive: true,
        }) => (Depth::Recursive, libc::MS_PRIVATE),
        // The others are for the root alone, or would keep it from being bound: they are set after the pivot.
        _ => (Depth::Recursive, libc::MS_SLAVE),
    }
}

/// `linux.rootfsPropagation` for the container's own `/`. Its submounts have what their own options said.
pub(super) fn set_root_propagation(root: BorrowedFd<'_>, wanted: Propagation) -> Result<()> {
    let depth = match wanted {
        Propagation {
            kind: libc::MS_UNBINDABLE,
            recursive: true,
        } => Depth::Recursive,
        _ => Depth::Top,
    };
    set_attr(root, depth, propagate(wanted.kind)).context("linux.rootfsPropagation: set it on `/`")
}

/// Makes the root directory a mount of its own, on itself.
pub(super) fn attach_root(plan: &RootfsPlan) -> Result<OwnedFd> {
    let root = Later::new(open_directory(&plan.root)?);
    isolate_parent(plan, root.as_fd())?;
    let tree = clone_tree(root.as_fd(), Path::new(""), Depth::Recursive).context("bind it")?;
    // A copy of a slave is a slave too: what the host mounts below the root later would show up in the container (M2).
    set_attr(tree.as_fd(), Depth::Top, propagate(libc::MS_PRIVATE)).context("make it private")?;
    attach(tree.as_fd(), root.as_fd()).context("attach it")?;
    Ok(tree)
}

/// Where mounts stay shared, the one that the root is attached to must not be: the kernel pivots into no root whose
/// parent is shared, and attaching it would show it to the host.
pub(super) fn isolate_parent(plan: &RootfsPlan, root: BorrowedFd<'_>) -> Result<()> {
    if !is_shared(plan.propagation) {
        return Ok(());
    }
    let mut at = root.try_clone_to_owned().context("dup")?;
    while !is_mount_root(at.as_fd()).context("find the mount of the root")? {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let above =
            openat(&at, "..", flags, Mode::empty()).context("find the mount of the root")?;
        if is_same_place(at.as_fd(), above.as_fd()).context("find the mount of the root")? {
            bail!("linux.rootfsPropagation: the runtime was called in a chroot that is no mount");
        }
        at = above;
    }
    set_attr(at.as_fd(), Depth::Top, propagate(libc::MS_PRIVATE)).context("make its parent private")
}

/// The whole of the namespace is left behind, `outer`, not only a chroot that the runtime was called in.
pub(super) fn change_root(
    root: BorrowedFd<'_>,
    outer: Option<&Outer>,
    plan: &RootfsPlan,
    change: RootChange,
) -> Result<()> {
    let Some(outer) = outer else {
        return enter(root);
    };
    if outer.chrooted {
        enter(outer.fd.as_fd()).context("leave the chroot that the runtime was called in")?;
    }
    match change {
        RootChange::Pivot => pivot(root, outer.fd.as_fd(), plan),
        RootChange::Move => move_root(root),
    }
}

/// Makes the directory `/` by chroot(2).
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).context("fchdir to the root")?;
    chroot(".").context("chroot")?;
    chdir("/").context("chdir `/`")
}

fn pivot(root: BorrowedFd<'_>, old: BorrowedFd<'_>, plan: &RootfsPlan) -> Result<()> {
    fchdir(root).context("fchdir to the root")?;
    // The old root is put on top of the new one, so no directory is made for it.
    pivot_root(".", ".").context("pivot_root (a ramdisk as root needs `--no-pivot`)")?;
    fchdir(old).context("fchdir to the old root")?;
    if is_shared(plan.propagation) {
        // Or the host would lose the mounts that go away here.
        set_attr(old, Depth::Recursive, propagate(libc::MS_SLAVE))
            .context("make the old root a slave")?;
    }
    detach_here().context("umount the old root")?;
    chdir("/").context("chdir `/`")
}

/// Detaches the mount of the working directory. What lies on top of it goes first, one a call: with the host's `/` as
/// `root.path` that is what was mounted there for the container, and the host's root must not stay below.
fn detach_here() -> nix::Result<()> {
    umount2(".", MntFlags::MNT_DETACH)?;
    loop {
        match umount2(".", MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // It is no mount of this namespace any more.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// The old root stays below the new one. What would be worth going back for goes first: the host's proc and sysfs.
fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    let table = mountinfo::read_own()?;
    // The name that the table has for our own root, to leave its proc and sysfs alone; nothing is opened by it.
    let name = format!("/proc/self/fd/{}", root.as_raw_fd());
    let own = nix::fcntl::readlink(name.as_str()).with_context(|| format!("read link `{name}`"))?;
    for path in kernel_mounts(&table, Path::new(&own)).iter().rev() {
        hide(path).with_context(|| format!("hide the host's `{}`", path.display()))?;
    }
    let slash = open_directory(Path::new("/"))?;
    fchdir(root).context("fchdir to the root")?;
    attach(root, slash.as_fd()).context("move the root to `/`")?;
    chroot(".").context("chroot")?;
    chdir("/").context("chdir `/`")
}

fn hide(path: &Path) -> Result<()> {
    let mount = match open_directory(path) {
        Ok(mount) => mount,
        // It went with the one that it was below of.
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_mount_root(mount.as_fd()).context("look at it")? {
        return Ok(());
    }
    set_attr(mount.as_fd(), Depth::Recursive, propagate(libc::MS_PRIVATE))
        .context("make it private")?;
    match umount2(path, MntFlags::MNT_DETACH) {
        // Locked in a user namespace: it can only be covered.
        Err(Errno::EINVAL | Errno::EPERM) => {
            let empty = mask::empty_directory(None)?;
            attach(empty.as_fd(), mount.as_fd()).context("cover it")
        }
        other => other.context("umount"),
    }
}

/// Where whole proc and sysfs file systems are mounted, other than below the container's root.
pub(crate) fn kernel_mounts(table: &[u8], root: &Path) -> Vec<PathBuf> {
    mountinfo::lines(table)
        .filter(|mount| matches!(mount.kind, b"proc" | b"sysfs") && mount.root() == Path::new("/"))
        .map(|mount| mount.point())
        .filter(|point| !point.starts_with(root))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_whole_proc_and_sysfs_of_the_host() {
        let table = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            23 27 0:22 / /sys rw shared:3 - sysfs sysfs rw\n\
            24 27 0:22 /fs /mnt rw - sysfs sysfs rw\n\
            25 27 0:21 / /c/rootfs/proc rw - proc proc rw\n\
            26 27 0:21 / /odd\\040name\\134 rw - proc proc rw\n\
            27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            nonsense\n";
        let got = kernel_mounts(table, Path::new("/c/rootfs"));
        assert_eq!(got, ["/proc", "/sys", "/odd name\\"].map(PathBuf::from));
    }
}
