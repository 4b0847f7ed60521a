//! A cgroup that the container manages itself, in three levels. The container's cgroup has the limits and the device program
//! and stays the host's: without a user namespace only the mount option `nsdelegate` would keep root in the container
//! from the limits at the root of its own cgroup namespace, and any mount of cgroup2 on the host can take that option away.
//! Below it, `delegated` is given to the container: the init is born there, so it is the root of the cgroup namespace.
//! Then the init moves into a leaf of that, because only a cgroup without processes can pass controllers on.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Pid, Uid, fchownat};

use super::controllers::words;
use crate::cgroup::dir::Dir;
use crate::cgroup::procs;

pub(super) const CHILD: &str = "delegated";

/// Where systemd puts itself, so that it takes the cgroup above for its own when it finds itself there.
pub(super) const LEAF: &str = "init.scope";

/// What a container may be given without being given its limits; the kernel's list is longer (cgroup-v2.rst, "Delegation").
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
const DELEGATE_ALWAYS: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";

/// Before anything is in it. A cgroup that was there may pass controllers on; as long as it does nothing can be born in it.
pub(super) fn prepare(dir: &Dir) -> Result<()> {
    let passed = words(&dir.read_named("cgroup.subtree_control")?);
    let off: Vec<String> = passed.iter().map(|name| format!("-{name}")).collect();
    if off.is_empty() {
        return Ok(());
    }
    dir.write_named("cgroup.subtree_control", &off.join(" "))
}

/// Moves the init into the leaf and passes on to it every controller that there is.
pub(super) fn hand_over(dir: &Dir, init: Pid, owner: Option<u32>) -> Result<()> {
    let leaf = dir.make_below(LEAF, &mut Vec::new())?;
    procs::attach(&leaf, init)?;
    let on: Vec<String> = words(&dir.read_named("cgroup.controllers")?)
        .iter()
        .map(|name| format!("+{name}"))
        .collect();
    if !on.is_empty() {
        dir.write_named("cgroup.subtree_control", &on.join(" "))?;
    }
    give(&leaf, owner)?;
    give(dir, owner)
}

/// Changes the owner of the directory and of what the kernel says can be delegated.
pub(super) fn give(dir: &Dir, owner: Option<u32>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let list = match std::fs::read_to_string(DELEGATE) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => DELEGATE_ALWAYS.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("read `{DELEGATE}`")),
    };
    for file in std::iter::once(".").chain(list.split_ascii_whitespace()) {
        let uid = Some(Uid::from_raw(owner));
        match fchownat(dir, file, uid, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The list is of all controllers there are, enabled or not.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("give `{dir}/{file}` to uid {owner}"));
            }
        }
    }
    Ok(())
}
