//! The three ways into a container after the clone: directly as its init; through a stage process that joins namespaces and
//! clones the init as its sibling; through a stage that joins a running container (`exec`). Called by `container`.
//!
//! A stage exists only where the kernel demands it: the pid namespace of a process is fixed at its birth, and a user
//! namespace decides over the rights to join others.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::birth;
use super::child::{Child, PidNamespace, close_host_descriptors, hide};
use super::namespaces::join_message;
use super::tenant::TENANT_STEPS;
use super::{STEPS, Step, report, run_steps};
use crate::plan::namespaces::Kind;
use crate::proto::FromInit;
use crate::rootfs;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::process::{exit_now, set_name};
use crate::timings::{self, Who};

/// Goes on as the container's init.
pub(crate) fn enter_container(mut child: Child<'_>) -> ! {
    set_name(c"rundlet:[init]");
    timings::process(Who::Init);
    run_steps(STEPS, &mut child)
}

/// Goes on as a stage: joins what is to be joined, then clones the init with everything that is new. Where the container joins
/// a pid namespace, its init is born there when it has the container's root (X3), so here the stage becomes the builder itself.
pub(crate) fn enter_staged(mut child: Child<'_>) -> ! {
    set_name(c"rundlet:[stage]");
    timings::process(Who::Stage);
    let prepared = await_placement(&child).and_then(|pid| {
        let namespaces = &child.part()?.plan.namespaces;
        if namespaces.joins(Kind::User) && namespaces.makes(Kind::Mount) {
            rootfs::refuse_chroot()?;
        }
        join_all(&mut child)?;
        let part = child.part()?;
        let new = part.plan.namespaces.new_flags().difference(part.late);
        if matches!(part.pid_namespace, PidNamespace::Entered) {
            return Ok(new);
        }
        unshare(new).with_context(|| format!("linux.namespaces: make {new:?}"))?;
        child.end()?.send(&FromInit::InitPid(pid))?;
        set_name(c"rundlet:[init]");
        run_steps(STEPS, &mut child)
    });
    go_on(child, prepared, STEPS)
}

/// Goes on as a stage of `exec`: enters the container of `init` and clones the process there.
/// `root` is given where the namespaces do not lead to the container's root.
pub(crate) fn enter_running(
    mut child: Child<'_>,
    init: BorrowedFd<'_>,
    namespaces: CloneFlags,
    root: Option<OwnedFd>,
) -> ! {
    set_name(c"rundlet:[stage]");
    timings::process(Who::Stage);
    let prepared = await_placement(&child).and_then(|_| {
        if !namespaces.is_empty() {
            setns(init, namespaces).context("join the namespaces of the container's init")?;
        }
        // Joining a mount namespace goes to its root, so this comes after it.
        if let Some(root) = root {
            rootfs::enter(root.as_fd()).context("enter the root of the container's init")?;
        }
        // Nothing of the host may be open in a process that the container can see (X1).
        close_host_descriptors(&mut child)?;
        Ok(CloneFlags::empty())
    });
    go_on(child, prepared, TENANT_STEPS)
}

/// This process's pid as the runtime sees it.
fn await_placement(child: &Child<'_>) -> Result<i32> {
    let pid = child.end()?.await_placed()?;
    // As in `child::await_placed`: before the first setns (E2).
    hide(child)?;
    Ok(pid)
}

/// Clones the sibling; the stage reports its pid and leaves.
fn go_on(mut child: Child<'_>, prepared: Result<CloneFlags>, steps: &[Step]) -> ! {
    let cloned = prepared.and_then(|new| {
        let request = CloneRequest {
            flags: new | CloneFlags::CLONE_PARENT,
            cgroup: None,
        };
        clone3(&request).context("clone the process that enters the container")
    });
    match cloned {
        Ok(Cloned::Child) => {
            set_name(c"rundlet:[init]");
            timings::process(Who::Init);
            run_steps(steps, &mut child)
        }
        Ok(Cloned::Parent { pid, .. }) => {
            timings::phase("stage");
            let sent = child
                .end()
                .and_then(|end| end.send(&FromInit::InitPid(pid.as_raw())));
            exit_now(i32::from(sent.is_err()))
        }
        Err(error) => {
            report("stage", &error, &child);
            exit_now(1)
        }
    }
}

/// Joins in an order in which each has the rights it needs: what the host's rights allow first, then the user namespace, then
/// what only its rights allow (U5).
fn join_all(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    let joins = &part.plan.namespaces.join;
    let (user, others): (Vec<_>, Vec<_>) = std::mem::take(&mut part.joins)
        .into_iter()
        .partition(|(index, _)| joins[*index].kind == Kind::User);
    let mut denied = Vec::new();
    for (index, fd) in others {
        match setns(&fd, joins[index].kind.flag()) {
            Ok(()) => {}
            Err(Errno::EPERM) if !user.is_empty() => denied.push((index, fd)),
            Err(errno) => return Err(errno).with_context(|| join_message(&joins[index])),
        }
    }
    let joined = user.first().map(|(_, fd)| fd.as_fd());
    birth::join_early(part, joined)?;
    for (index, fd) in user.into_iter().chain(denied) {
        setns(&fd, joins[index].kind.flag()).with_context(|| join_message(&joins[index]))?;
    }
    Ok(())
}
