//! Steps about namespaces in the process itself: clocks, ids of a user namespace, joining by descriptor, the cgroup namespace.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{setns, unshare};
use nix::unistd::{Gid, Uid};

use super::{Child, Groups};
use crate::fs::procfs::{ProcHandle, Scope};
use crate::plan::namespaces::Kind;
use crate::proto::{FromInit, InitEnd, ToInit};
use crate::sys::identity::{setgroups, setresgid, setresuid};

/// Makes and enters a time namespace with offsets, which can be written only while it has no process (time_namespaces(7)). Like
/// every other namespace it belongs to the container's user namespace. The runtime writes them, for this process is not
/// dumpable and in a user namespace could not open its own file (E2).
pub(super) fn offset_clocks(child: &mut Child<'_>) -> Result<()> {
    let namespaces = &child.part()?.plan.namespaces;
    if namespaces.time_offsets.is_empty() {
        return Ok(());
    }
    unshare(Kind::Time.flag()).context("linux.namespaces: make a time namespace")?;
    let end = child.end()?;
    end.send(&FromInit::TimeReady)?;
    end.expect(ToInit::OffsetsSet)?;
    // Only its children are in it so far.
    let made = ProcHandle::open(Scope::Processes)?.own_namespace("time_for_children")?;
    setns(&made, Kind::Time.flag()).context("linux.timeOffsets: enter the time namespace")
}

/// Becomes root of the user namespace (U4). Nothing to do outside of one.
pub(super) fn become_root(child: &mut Child<'_>) -> Result<()> {
    if !child.in_user_namespace {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).context("linux.gidMappings: become gid 0 of the user namespace")?;
    setresuid(uid, uid, uid).context("linux.uidMappings: become uid 0 of the user namespace")
}

/// Takes the runtime's supplementary groups away (U4). In a user namespace only: elsewhere `take_identity` does it.
pub(super) fn drop_groups(child: &mut Child<'_>) -> Result<()> {
    if !child.in_user_namespace || child.groups != Groups::Inherited {
        return Ok(());
    }
    child.groups = match setgroups(&[]) {
        Ok(()) => Groups::Dropped,
        // Root of its user namespace and under no filter yet: the one reason left is that the namespace denies it (U3).
        Err(Errno::EPERM) => Groups::Denied,
        Err(errno) => return Err(errno).context("drop the runtime's supplementary groups"),
    };
    Ok(())
}

/// The same at the last moment, where the sources of mounts were opened with them.
pub(super) fn drop_late_groups(child: &mut Child<'_>) -> Result<()> {
    if child.groups == Groups::UntilRoot {
        child.groups = Groups::Inherited;
    }
    drop_groups(child)
}

/// Joins namespaces given by path. The descriptors were opened and their type checked by the runtime (U5).
pub(super) fn join(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    for (index, fd) in std::mem::take(&mut part.joins) {
        let join = &part.plan.namespaces.join[index];
        setns(&fd, join.kind.flag()).with_context(|| join_message(join))?;
    }
    Ok(())
}

/// The network namespace that the runtime has made meanwhile.
pub(super) fn join_network(end: &InitEnd) -> Result<()> {
    let made = end.await_descriptor()?;
    setns(&made, Kind::Network.flag()).context("enter the container's network namespace")
}

/// Names the field, the kind and the object of a join that failed.
pub(super) fn join_message(join: &crate::plan::namespaces::Join) -> String {
    format!(
        "linux.namespaces[{}].path: join {} namespace `{}`",
        join.index,
        join.kind.name(),
        join.path.display()
    )
}

/// Makes the namespaces that had to wait. A cgroup namespace is rooted at the cgroup its maker is in, on cgroup v1 right only
/// after the placement; the queues of an IPC namespace belong to the ids its maker has, in a user namespace right only after
/// it has become root there.
pub(super) fn unshare_late(child: &mut Child<'_>) -> Result<()> {
    let late = child.part()?.late;
    if late.is_empty() {
        return Ok(());
    }
    unshare(late).with_context(|| format!("linux.namespaces: make {late:?}"))
}
