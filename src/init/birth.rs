//! How a container's init gets into a pid namespace of others: at last, and by being born there. What has the host's root or
//! a descriptor of the host is never to be seen by the neighbours, for one with CAP_SYS_PTRACE would reach the host through
//! /proc/PID/root or /proc/PID/fd (X3). So the process that was cloned first builds the container outside, and ends with
//! the birth of a sibling that goes on with the steps.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::unistd::setsid;

use super::child::{self, Child, ContainerPart, PidNamespace};
use super::namespaces::join_message;
use crate::plan::Plan;
use crate::plan::namespaces::Kind;
use crate::proto::FromInit;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::ioctl;
use crate::sys::process::exit_now;

/// For the children: the process itself stays where it is.
pub(super) fn join(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    if let PidNamespace::ToJoin(namespace) = &part.pid_namespace {
        setns(namespace, CloneFlags::CLONE_NEWPID).with_context(|| message(part.plan))?;
        part.pid_namespace = PidNamespace::ForChildren;
    }
    Ok(())
}

/// The same in a stage, before it enters a user namespace that takes the right to join away: `joined`, or a new one. As late as it
/// can be elsewhere: what createContainer hooks start is born there, too, and has the host's root. No engine shares a pid
/// namespace without the user namespace that owns it.
pub(super) fn join_early(
    part: &mut ContainerPart<'_>,
    joined: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let PidNamespace::ToJoin(namespace) = &part.pid_namespace else {
        return Ok(());
    };
    if let Some(joined) = joined
        && owns(joined, namespace.as_fd()).context("compare user namespaces")?
    {
        return Ok(());
    }
    match setns(namespace.as_fd(), CloneFlags::CLONE_NEWPID) {
        // The joined user namespace may be above the owner.
        Err(Errno::EPERM) if joined.is_some() => return Ok(()),
        other => other.with_context(|| message(part.plan))?,
    }
    part.pid_namespace = PidNamespace::ForChildren;
    Ok(())
}

fn message(plan: &Plan) -> String {
    let mut joins = plan.namespaces.join.iter();
    let join = joins.find(|join| join.kind == Kind::Pid);
    join.map_or_else(String::new, join_message)
}

fn owns(user_namespace: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> nix::Result<bool> {
    let owner = match ioctl::namespace_owner(namespace) {
        Err(Errno::EPERM) => return Ok(false),
        other => fstat(other?)?,
    };
    let own = fstat(user_namespace)?;
    Ok((owner.st_dev, owner.st_ino) == (own.st_dev, own.st_ino))
}

/// The sibling has all that its maker had but the session. The runtime hears of it before it goes on.
pub(super) fn be_born(child: &mut Child<'_>) -> Result<()> {
    if !matches!(child.part()?.pid_namespace, PidNamespace::ForChildren) {
        return Ok(());
    }
    let request = CloneRequest {
        flags: CloneFlags::CLONE_PARENT,
        cgroup: None,
    };
    match clone3(&request).context("clone the init into the pid namespace")? {
        Cloned::Child => {
            setsid().context("make a session")?;
            child.part()?.pid_namespace = PidNamespace::Entered;
            child::await_placed(child)
        }
        Cloned::Parent { pid, .. } => {
            let sent = child.end()?.send(&FromInit::InitPid(pid.as_raw()));
            exit_now(i32::from(sent.is_err()))
        }
    }
}
