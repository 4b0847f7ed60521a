//! Freezing on cgroup v2: `cgroup.freeze` is the wish, `frozen` in `cgroup.events` is when it has come true.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::{Whence, lseek};

use crate::cgroup::dir::{Dir, is_gone, keyed, read_all};
use crate::cgroup::path;
use crate::cgroup::procs::{self, Deadline};
use crate::cgroup::record::GroupRecord;

/// Freezes and waits until every process has stopped; thaws again if that does not happen.
pub(crate) fn freeze(dir: &Dir, limit: Duration) -> Result<()> {
    let result = try_freeze(dir, limit);
    if result.is_err() {
        // A half-frozen container would hang its callers for ever.
        let _ = dir.write("cgroup.freeze", "0");
    }
    result
}

fn try_freeze(dir: &Dir, limit: Duration) -> Result<()> {
    dir.write_named("cgroup.freeze", "1")?;
    let frozen = wait_event(dir, "frozen", 1, Deadline::after(limit))
        .with_context(|| format!("wait for `{dir}/cgroup.events`"))?;
    if frozen {
        return Ok(());
    }
    // Described before the thaw: the state is the reason.
    Err(procs::did_not_freeze(dir, limit))
}

/// Thaws and waits until the processes may run. An ancestor that is frozen keeps them stopped; that is its own wish.
pub(crate) fn thaw(dir: &Dir) -> Result<()> {
    dir.write_named("cgroup.freeze", "0")
}

/// Whether this cgroup itself is set to be frozen.
pub(crate) fn is_frozen(dir: &Dir) -> Result<bool> {
    match dir.read("cgroup.freeze") {
        Ok(text) => Ok(text.trim() == "1"),
        Err(errno) if is_gone(errno) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("read `{dir}/cgroup.freeze`")),
    }
}

/// The same of a cgroup by its record, in as few calls as there can be: every command asks.
pub(crate) fn is_frozen_at(group: &GroupRecord) -> Result<bool> {
    let file = path::join(&path::clean(&group.path), "cgroup.freeze");
    match Dir::mount(&group.mount)?.read_below(&file) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(errno) if is_gone(errno) => Ok(false),
        Err(errno) => {
            Err(errno).with_context(|| format!("read `cgroup.freeze` of {}", group.name()))
        }
    }
}

/// Waits until a key of `cgroup.events` has a value; the kernel wakes on every change. False: not in time.
pub(crate) fn wait_event(dir: &Dir, key: &str, value: u64, until: Deadline) -> nix::Result<bool> {
    let fd = dir.open_file("cgroup.events", OFlag::O_RDONLY)?;
    loop {
        lseek(&fd, 0, Whence::SeekSet)?;
        if keyed(&read_all(&fd)?, key) == Some(value) {
            return Ok(true);
        }
        if until.is_over() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, procs::timeout(until.left())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
