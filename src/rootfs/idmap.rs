//! User namespaces that say what an id-mapped mount shows, and the mapping of one mount (mount_setattr(2)). Called by
//! `sources.rs` in the parent, which has the rights of the initial user namespace that the kernel asks for; the mount must
//! still be detached.
//!
//! A user namespace is made by a process, and that need not live: one that has ended and was not yet waited for keeps its
//! /proc entries. So the child ends at once, and no step that fails can leave it behind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::unistd::Pid;

use super::joined_proc::reap;
use crate::fs::{mountinfo, procfs};
use crate::plan::id_mounts::{IdMapped, Mapping};
use crate::plan::namespaces::{IdMap, map_text};
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::mount::{Depth, id_map};
use crate::sys::process::exit_now;

/// One user namespace for each mapping of the plan, made when it is first needed.
pub(super) struct UserNamespaces<'a> {
    joined: Option<BorrowedFd<'a>>,
    made: Vec<(&'a [IdMap], &'a [IdMap], OwnedFd)>,
}

impl<'a> UserNamespaces<'a> {
    /// `joined` is the one that the container joins by path.
    pub(super) fn new(joined: Option<BorrowedFd<'a>>) -> Self {
        Self {
            joined,
            made: Vec::new(),
        }
    }

    /// Maps the ids of the detached mount `tree`.
    pub(super) fn apply(&mut self, tree: BorrowedFd<'_>, idmap: &'a IdMapped) -> Result<()> {
        let depth = if idmap.recursive {
            Depth::Recursive
        } else {
            Depth::Top
        };
        let namespace = self.get(&idmap.mapping)?;
        id_map(tree, namespace, depth).map_err(|errno| refused(errno, tree, depth))
    }

    fn get(&mut self, mapping: &'a Mapping) -> Result<BorrowedFd<'_>> {
        let (uids, gids) = match mapping {
            Mapping::Joined => return self.joined.context("no user namespace is joined"),
            Mapping::Listed { uids, gids } => (uids.as_slice(), gids.as_slice()),
        };
        let known = self
            .made
            .iter()
            .position(|(known_uids, known_gids, _)| (*known_uids, *known_gids) == (uids, gids));
        let index = if let Some(index) = known {
            index
        } else {
            self.made.push((uids, gids, make(uids, gids)?));
            self.made.len() - 1
        };
        Ok(self.made[index].2.as_fd())
    }
}

/// The namespace lives on in its descriptor, without a process in it.
fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    let request = CloneRequest {
        flags: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
    };
    match clone3(&request).context("make a user namespace for the mapping")? {
        Cloned::Child => exit_now(0),
        Cloned::Parent { pid, pidfd } => {
            let made = map_and_open(pid, uids, gids);
            let waited = reap(pid, pidfd.as_fd()).context("wait for the maker of a user namespace");
            made.and_then(|namespace| waited.map(|_| namespace))
        }
    }
}

fn map_and_open(pid: Pid, uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    for (file, map) in [("gid_map", gids), ("uid_map", uids)] {
        let text = map_text(map);
        procfs::write_of_process(pid, file, &text)
            .with_context(|| format!("map `{}`", text.trim_end().replace('\n', ", ")))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    open(
        path.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("open `{path}`"))
}

/// The kernel has one word for many causes; this names the file system and what the word means here.
fn refused(errno: Errno, tree: BorrowedFd<'_>, depth: Depth) -> Error {
    let below = if depth == Depth::Recursive {
        ", or one mounted below it,"
    } else {
        ""
    };
    let hint = match errno {
        Errno::EINVAL => {
            format!(" (hint: this file system{below} does not support id-mapped mounts on this kernel)")
        }
        Errno::EPERM => {
            " (hint: the source is id-mapped already, or the runtime is not root of the initial user namespace)"
                .to_owned()
        }
        Errno::ENOSYS => " (hint: the kernel is older than 5.12)".to_owned(),
        _ => String::new(),
    };
    let kind = file_system(tree).map_or_else(String::new, |kind| format!(" `{kind}` mount"));
    Error::new(errno).context(format!("map the ids of this{kind}{hint}"))
}

/// The type of the file system, by its device number in the list of mounts; a detached mount itself is not in it.
fn file_system(tree: BorrowedFd<'_>) -> Option<String> {
    let device = fstat(tree).ok()?.st_dev;
    let device = format!("{}:{}", major(device), minor(device));
    let table = mountinfo::read_own().ok()?;
    let line = mountinfo::lines(&table).find(|line| line.device == device.as_bytes())?;
    Some(String::from_utf8_lossy(line.kind).into_owned())
}
