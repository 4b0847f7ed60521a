//! A proc that shows a pid namespace which this process is not in: the container joins it, and its init enters it only when it
//! has the container's root (X3). Called by `mount.rs`.
//!
//! Since Linux 6.17 the namespace is an option of the file system. Before, a proc shows the namespace of the process that makes
//! it, so one is born there for it: with an empty root and no descriptor but the socket that it answers over.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chroot, fchdir};

use super::mount;
use crate::error;
use crate::fs::culprit;
use crate::plan::mounts::FsMount;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::fd::close_all_but;
use crate::sys::mount::FsContext;
use crate::sys::process::exit_now;
use crate::sys::{pidfd, scm};

/// A detached proc of `namespace`.
pub(super) fn make(fs: &FsMount, attrs: u64, namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let context = mount::open(fs)?;
    match context.set_fd("pidns", namespace) {
        Ok(()) => mount::configure(&context, fs, attrs),
        Err(Errno::EINVAL) => from_inside(fs, attrs, namespace),
        Err(errno) => Err(errno).context("option `pidns`"),
    }
}

/// The same on older kernels.
fn from_inside(fs: &FsMount, attrs: u64, namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .context("make a socket pair")?;
    let process = in_child(|| {
        leave_host(&[theirs.as_raw_fd(), namespace.as_raw_fd()])?;
        setns(namespace, CloneFlags::CLONE_NEWPID).context("join pid namespace")?;
        wait(in_child(|| {
            let tree = mount::make(fs, attrs)?;
            scm::send_fds(theirs.as_fd(), &[tree]).context("send the mount")
        })?)
    })?;
    wait(process).context("make it in the pid namespace")?;
    let received = scm::recv_fds(ours.as_fd()).context("receive the mount")?;
    received.into_iter().next().context("no mount was received")
}

/// A root without anything in it, and no descriptors but these.
fn leave_host(keep: &[i32]) -> Result<()> {
    enter_empty_root().context("enter an empty root")?;
    close_all_but(0, keep).context("close descriptors")
}

fn enter_empty_root() -> nix::Result<()> {
    let context = FsContext::open("tmpfs")?;
    context.create()?;
    let root = context.mount(libc::MOUNT_ATTR_RDONLY)?;
    fchdir(&root)?;
    chroot(".")
}

/// A process that does this and ends; its exit code is the errno of its failure.
fn in_child(work: impl FnOnce() -> Result<()>) -> Result<(Pid, OwnedFd)> {
    let request = CloneRequest {
        flags: CloneFlags::empty(),
        cgroup: None,
    };
    match clone3(&request).context("clone a process for it")? {
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Cloned::Child => {
            let errno = |error: anyhow::Error| {
                let errno = error.chain().find_map(error::errno_of);
                errno.unwrap_or(Errno::EIO) as i32
            };
            exit_now(work().err().map_or(0, errno))
        }
    }
}

/// How long a process that only makes something in the kernel may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Reaps a helper that ends by itself, at most after [`LIMIT`].
pub(super) fn reap(pid: Pid, pidfd: BorrowedFd<'_>) -> Result<WaitStatus> {
    if !pidfd::await_end(pidfd, LIMIT)? {
        let _ = pidfd::send_signal(pidfd, libc::SIGKILL);
        bail!(
            "it did not end within {} s: {}",
            LIMIT.as_secs(),
            culprit::process_in_cgroup(pid.as_raw())
        );
    }
    Ok(waitpid(pid, None)?)
}

fn wait((process, pidfd): (Pid, OwnedFd)) -> Result<()> {
    match reap(process, pidfd.as_fd()).context("wait for it")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(Errno::from_raw(code).into()),
        other => bail!("it ended by {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::procfs::is_proc_root;
    use crate::plan::mounts::Special;
    use crate::sys::testing::{in_child, is_root};

    #[test]
    fn a_proc_is_made_by_a_process_inside() {
        if !is_root("a_proc_is_made_by_a_process_inside") {
            return;
        }
        let got = in_child(CloneFlags::CLONE_NEWNS, || {
            let fs = FsMount {
                fstype: "proc".to_owned(),
                source: None,
                data: vec![("subset".to_owned(), Some("pid".to_owned()))],
                special: Special::Proc,
                root_label: None,
            };
            let own = std::fs::File::open("/proc/self/ns/pid")?;
            let tree = from_inside(&fs, libc::MOUNT_ATTR_RDONLY, own.as_fd())?;
            assert!(is_proc_root(tree.as_fd())?);
            fchdir(&tree)?;
            assert!(std::path::Path::new("self/stat").exists());
            assert!(!std::path::Path::new("sys").exists(), "subset");
            let wrong = FsMount {
                data: vec![("no-such-option".to_owned(), None)],
                ..fs
            };
            let error = from_inside(&wrong, 0, own.as_fd()).unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Errno::EINVAL), "{error:#}");
            Ok(String::new())
        });
        assert_eq!(got.as_deref(), Ok(""));
    }
}
