//! The root of a container that has no mount namespace of its own: a copy that is attached nowhere, so that neither the host's
//! nor a joined namespace's mounts change (M5). Called by `mod.rs`; what the kernel lacks for it is found before anything is made.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::mount;
use super::pivot::{open_directory, propagate};
use crate::plan::rootfs::RootfsPlan;
use crate::sys::mount::{Depth, FsContext, attach, clone_tree, set_attr};

/// A copy of the root, to be mounted on and entered by chroot(2): nobody else's mount changes, `..` ends at its top as behind
/// a pivot, and it goes with the container's last process. Private as a whole before anything is mounted on it, or a shared
/// mount would pass that on to its peers.
pub(super) fn detached_root(plan: &RootfsPlan) -> Result<OwnedFd> {
    let root = open_directory(&plan.root)?;
    ask_for_detached_mounts(root.as_fd())?;
    let tree = clone_tree(root.as_fd(), Path::new(""), Depth::Recursive).context("copy it")?;
    let private = propagate(libc::MS_PRIVATE);
    set_attr(tree.as_fd(), Depth::Recursive, private).context("make it private")?;
    Ok(tree)
}

/// Linux 6.15 is the first to mount on what is attached nowhere; Linux 7 (seen with 7.3, not with 6.18) takes such mounts away
/// again as soon as nobody has the first one's descriptor, which a container's program must not be given. Both are tried.
fn ask_for_detached_mounts(root: BorrowedFd<'_>) -> Result<()> {
    let private_copy = || {
        let copy = clone_tree(root, Path::new(""), Depth::Top).context("copy it")?;
        set_attr(copy.as_fd(), Depth::Top, propagate(libc::MS_PRIVATE))
            .context("make it private")?;
        Ok::<_, anyhow::Error>(copy)
    };
    attach(private_copy()?.as_fd(), private_copy()?.as_fd()).context(
        "mount on a copy of it (without a mount namespace of its own a container needs Linux 6.15)",
    )?;
    if !mounts_outlive_their_descriptor().context("try detached mounts")? {
        bail!(
            "this kernel takes detached mounts away while they are used (Linux 7 does), so a container needs a mount namespace \
             of its own here: add {{\"type\": \"mount\"}} to linux.namespaces"
        );
    }
    Ok(())
}

fn mounts_outlive_their_descriptor() -> Result<bool> {
    let (below, above) = (empty_tmpfs()?, empty_tmpfs()?);
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |at: &OwnedFd, name: &str| openat(at, name, directory, Mode::empty());
    mkdirat(&below, "on", Mode::S_IRWXU).context("mkdir")?;
    attach(above.as_fd(), open(&below, "on").context("open")?.as_fd()).context("attach")?;
    let device = fstat(&above).context("stat")?.st_dev;
    // Only the first one's own descriptor takes it away when it is closed, one that was opened through it does not.
    let inside = open(&below, ".").context("open")?;
    drop((below, above));
    let found = open(&inside, "on").context("open")?;
    Ok(fstat(&found).context("stat")?.st_dev == device)
}

fn empty_tmpfs() -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs").context("file system type `tmpfs`")?;
    mount::set(&context, "source", Some(OsStr::new("tmpfs")))?;
    mount::created(&context, 0)
}
