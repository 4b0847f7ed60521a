//! Making and removing cgroup directories in one hierarchy. What a failed making leaves is removed again; a removal
//! takes everything below the container's cgroup with it, and never anything beside or above.

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;

use super::dir::{Dir, is_gone};
use super::path;
use super::procs::{self, Backoff, Deadline};

/// Directories made so far; removes them again, children first, unless kept.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    root: &'a Dir,
    pub(crate) paths: Vec<String>,
}

impl<'a> Made<'a> {
    pub(crate) fn new(root: &'a Dir) -> Self {
        Self {
            root,
            paths: Vec::new(),
        }
    }

    /// Makes a cgroup and its missing ancestors.
    pub(crate) fn make(&mut self, rel: &str) -> Result<Dir> {
        self.root.make_below(rel, &mut self.paths)
    }

    pub(crate) fn is_new(&self, rel: &str) -> bool {
        self.paths.iter().any(|p| p == rel)
    }

    pub(crate) fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for rel in self.paths.iter().rev() {
            let (parent, name) = path::split(rel);
            // Best effort: the error that led here is the one to be told, and another container may be in it by now.
            if let Ok(parent) = self.root.below(parent) {
                let _ = parent.rmdir(name);
            }
        }
    }
}

/// What becomes of processes in a cgroup that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The container is over.
    Kill,
    /// They may be somebody else's: they stay, and so does the cgroup.
    Keep,
}

/// Removes a cgroup and everything below it. Gives up with an error that names what is left when the time is over.
pub(crate) fn remove(root: &Dir, rel: &str, left: Left, until: Deadline) -> Result<()> {
    let (parent, name) = path::split(rel);
    let opened;
    let parent = if parent.is_empty() {
        root
    } else {
        opened = match root.below(parent) {
            Err(Errno::ENOENT) => return Ok(()),
            result => result.with_context(|| format!("open cgroup `{root}/{parent}`"))?,
        };
        &opened
    };
    let mut backoff = Backoff::new(until);
    loop {
        let errno = match parent.rmdir(name) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => errno,
        };
        // A read-only mount answers EROFS for what is not there, too.
        let dir = match parent.below(name) {
            Err(Errno::ENOENT) => return Ok(()),
            result => result.with_context(|| format!("open cgroup `{parent}/{name}`"))?,
        };
        if errno != Errno::EBUSY {
            return Err(failed(&dir, errno));
        }
        match left {
            Left::Kill => procs::kill_left_over(&dir)?,
            Left::Keep if !procs::pids(&dir)?.is_empty() => return Ok(()),
            Left::Keep => {}
        }
        // What is empty below goes at once, the rest keeps this one busy.
        if remove_below(&dir)? && parent.rmdir(name).is_ok() {
            return Ok(());
        }
        if !wait_for_change(&dir, &mut backoff, until) {
            return Err(failed(&dir, errno));
        }
    }
}

/// Whether everything below is gone.
fn remove_below(dir: &Dir) -> Result<bool> {
    let mut all = true;
    let mut leave = |parent: &Dir, name: &str| match parent.rmdir(name) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EBUSY) => {
            all = false;
            Ok(())
        }
        Err(errno) => Err(errno),
    };
    match dir.walk(&mut |_| Ok(()), &mut leave) {
        Ok(()) => Ok(all),
        Err(errno) if is_gone(errno) => Ok(true),
        Err(errno) => Err(errno).with_context(|| format!("remove cgroups below `{dir}`")),
    }
}

fn failed(dir: &Dir, errno: Errno) -> anyhow::Error {
    let mut text = format!("remove cgroup `{dir}`");
    let left = procs::pids(dir).unwrap_or_default();
    if !left.is_empty() {
        text += ": still in it: ";
        text += &procs::describe(&left);
    }
    anyhow!(errno).context(text)
}

/// Waits until the cgroup may have become empty. False when the time is over.
fn wait_for_change(dir: &Dir, backoff: &mut Backoff, until: Deadline) -> bool {
    match super::v2::freeze::wait_event(dir, "populated", 0, until) {
        // v1 has no such file; and an empty cgroup can be busy for a moment after its last process left.
        Err(_) | Ok(true) => backoff.wait(),
        Ok(false) => false,
    }
}
