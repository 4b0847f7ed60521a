//! Where an exec'ed process is put, and how: by clone3, by `cgroup.procs`, or by systemd. Made by `Cgroup::for_exec`, carried
//! out by `container`.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use nix::unistd::Pid;

use super::dir::Dir;
use super::systemd::Member;
use super::{is_permission, procs};

/// Where an exec'ed process is put.
#[derive(Debug)]
pub(crate) struct Place {
    dirs: Vec<Dir>,
    clone_into: bool,
    /// Asked where the kernel does not let this user do it.
    by: Option<Member>,
}

impl Place {
    /// Where the runtime itself is.
    pub(crate) fn nowhere() -> Self {
        Self::by_attach(Vec::new())
    }

    pub(super) fn by_attach(dirs: Vec<Dir>) -> Self {
        Self {
            dirs,
            clone_into: false,
            by: None,
        }
    }

    pub(super) fn by_clone(dir: Dir) -> Self {
        Self {
            dirs: vec![dir],
            clone_into: true,
            by: None,
        }
    }

    /// Not by clone3: whether the kernel lets this user do that depends on where the runtime itself is.
    pub(super) fn by_unit(self, member: Member) -> Self {
        Self {
            clone_into: false,
            by: Some(member),
            ..self
        }
    }

    /// For CLONE_INTO_CGROUP; `None` on v1.
    pub(crate) fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dirs
            .first()
            .filter(|_| self.clone_into)
            .map(AsFd::as_fd)
    }

    /// By `cgroup.procs`, in every hierarchy.
    pub(crate) fn attach(&self, pid: Pid) -> Result<()> {
        let attached = self.dirs.iter().try_for_each(|dir| procs::attach(dir, pid));
        match (&self.by, attached) {
            (Some(member), Err(error)) if is_permission(&error) => member.attach(pid),
            (_, attached) => attached,
        }
    }
}
