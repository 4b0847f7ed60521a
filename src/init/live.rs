//! The process that changes the mounts of a running container for the runtime: it joins the container's mount namespace, and its user
//! namespace where it has one, and no other, so that no process of the container sees it (X1, X3). Called by `container` right
//! after the clone; leaves by `_exit`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid};

use super::failure;
use crate::fs::procfs::{ProcHandle, Scope};
use crate::plan::live_mounts::Added;
use crate::plan::rootfs::RootfsPlan;
use crate::proto::{FromInit, InitEnd, RuntimeGone, ToInit};
use crate::rootfs::live;
use crate::sys;
use crate::sys::identity::{setgroups, setresgid, setresuid};
use crate::sys::process::{exit_now, set_name};

pub(crate) enum MountChange<'a> {
    /// With the opened source of each bind.
    Add(&'a RootfsPlan, Vec<Option<OwnedFd>>),
    Remove(&'a [&'a Added]),
}

/// Which namespaces are joined, through the container's init.
#[derive(Clone, Copy)]
pub(crate) enum Joined {
    Mount,
    UserAndMount,
}

pub(crate) fn change_mounts(
    change: MountChange<'_>,
    joined: Joined,
    init: BorrowedFd<'_>,
    end: &InitEnd,
) -> ! {
    set_name(c"rundlet:[mounts]");
    match carry_out(change, joined, init, end) {
        Ok(()) => exit_now(0),
        Err(error) => {
            if !error.is::<RuntimeGone>() {
                // Without a reader there is nobody left to tell.
                drop(end.send(&FromInit::Failed(failure("mounts", &error))));
            }
            exit_now(1)
        }
    }
}

fn carry_out(
    change: MountChange<'_>,
    joined: Joined,
    init: BorrowedFd<'_>,
    end: &InitEnd,
) -> Result<()> {
    // While the host's is still the one that is made.
    let proc = ProcHandle::open(Scope::Processes)?;
    let mut keep = vec![
        init.as_raw_fd(),
        end.as_fd().as_raw_fd(),
        proc.as_fd().as_raw_fd(),
    ];
    if let MountChange::Add(_, trees) = &change {
        keep.extend(trees.iter().flatten().map(AsRawFd::as_raw_fd));
    }
    sys::fd::close_all_but(3, &keep).context("close descriptors of the runtime")?;
    let root = enter(joined, init)?;
    match change {
        MountChange::Add(plan, trees) => {
            umask(Mode::empty());
            let attached = live::add(plan, trees, root.as_fd(), &proc)?;
            let told = attached
                .numbers()
                .and_then(|numbers| end.send(&FromInit::Mounted(numbers)))
                .and_then(|()| end.expect(ToInit::Committed));
            if told.is_err() {
                attached.undo(&proc);
            }
            told
        }
        MountChange::Remove(added) => {
            live::remove(added, root.as_fd(), &proc)?;
            end.send(&FromInit::Ready)
        }
    }
}

/// Comes out at the root of the container's mount namespace.
fn enter(joined: Joined, init: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = match joined {
        Joined::Mount => CloneFlags::CLONE_NEWNS,
        Joined::UserAndMount => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER,
    };
    setns(init, flags).context("join the mount namespace of the container's init")?;
    if matches!(joined, Joined::UserAndMount) {
        // What is made for a mount point belongs to the container's root (U4).
        match setgroups(&[]) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno).context("drop the runtime's supplementary groups"),
        }
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(gid, gid, gid).context("become gid 0 of the user namespace")?;
        setresuid(uid, uid, uid).context("become uid 0 of the user namespace")?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/", flags, Mode::empty()).context("open the root of the container")
}
