//! How a container's init gets into a pid namespace of others: at last, and by being born there. What has the host's root or
//! a descriptor of the host is never to be seen by the neighbours, for one with CAP_SYS_PTRACE would reach the host through
//! /proc/PID/root or /proc/PID/fd (X3). So the process that was cloned first builds the container outside, and ends with
//! the birth of a sibling that goes on with the steps.
//!
//! Not where the container has a user namespace: joining then takes a stage, and neighbours there have no rights over a
//! process whose memory is the host's (`stage.rs`, E2).

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;

use super::child::{self, Child, PidNamespace};
use crate::proto::FromInit;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::process::exit_now;

/// For the children: the process itself stays where it is.
pub(super) fn join(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    if let PidNamespace::ToJoin(namespace) = &part.pid_namespace {
        setns(namespace, CloneFlags::CLONE_NEWPID)
            .context("linux.namespaces: join pid namespace")?;
        part.pid_namespace = PidNamespace::ForChildren;
    }
    Ok(())
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
