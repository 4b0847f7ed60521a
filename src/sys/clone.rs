//! clone3(2) as the one way rundlet makes processes that enter a container. Called by `container/create.rs`,
//! `container/exec.rs` (through `init`) and `init/stage.rs`. The caller must be single-threaded: the child goes on with a
//! copy of this thread alone, so a lock held by another thread would stay locked for ever.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::{Result, check};

/// linux/sched.h; missing from `libc` on musl.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a clone is to have; everything else is shared or copied as fork(2) does.
pub(crate) struct CloneRequest<'a> {
    /// Namespaces to make, and `CLONE_PARENT` where the child is to be the caller's sibling.
    pub(crate) flags: CloneFlags,
    /// cgroup v2 directory the child is born in (`CLONE_INTO_CGROUP`).
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Both sides of a clone.
pub(crate) enum Cloned {
    /// In the caller: the child's pid in the caller's pid namespace, and its pidfd (close-on-exec).
    Parent { pid: Pid, pidfd: OwnedFd },
    /// In the child.
    Child,
}

/// Clones the calling process. A sibling (`CLONE_PARENT`) inherits the caller's exit signal, any other child sends SIGCHLD.
///
/// The child runs on a copy of the caller's memory and must leave by `execve` or [`super::process::exit_now`]; the cached
/// thread id of libc is the parent's in it, so nothing there may signal "itself" by thread.
pub(crate) fn clone3(request: &CloneRequest<'_>) -> Result<Cloned> {
    debug_assert!(
        super::process::is_single_threaded(),
        "clone3 from a threaded process"
    );
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all-zero is the documented "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    // Flags are bits of a c_int; the kernel takes them zero-extended.
    args.flags = u64::from(request.flags.bits().cast_unsigned()) | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    if !request.flags.contains(CloneFlags::CLONE_PARENT) {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = request.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let size = std::mem::size_of::<libc::clone_args>();
    // SAFETY: `args` is a complete clone_args of `size` bytes that outlives the call, its pidfd pointer is valid, and without
    // CLONE_VM and without a stack the child continues on its own copy of this stack as after fork.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    let pid = check(ret)?;
    if pid == 0 {
        super::protect::release();
        return Ok(Cloned::Child);
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(libc::pid_t::try_from(pid).map_err(|_| nix::errno::Errno::EOVERFLOW)?);
    Ok(Cloned::Parent { pid, pidfd })
}
