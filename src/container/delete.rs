//! `delete`: kill if need be and forced, then cgroup, hooks, and the state directory last, so that a delete that failed can be
//! repeated (Z3). A container that is gone already is no error for `--force`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::options::{Context, DeleteOptions};
use super::status::Status;
use super::store::{Slot, Store};
use super::{Container, Live, Stopped, kill};
use crate::cgroup::Cgroup;
use crate::error::NotExist;
use crate::fs::culprit;
use crate::sys::pidfd;
use crate::{hooks, log, rdt};

/// How long an init may take to die of SIGKILL before it is reported as stuck, as runc.
const DEATH_DEADLINE: Duration = Duration::from_secs(10);
/// How long the cgroup may stay busy after the last process has gone.
pub(super) const REMOVE_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) fn delete(context: &Context, options: &DeleteOptions) -> Result<()> {
    let id = options.id.as_str();
    let slot = match Store::new(context).slot(id) {
        Err(error) if options.force && error.is::<NotExist>() => return Ok(()),
        other => other?,
    };
    // From here on nobody else removes it and makes another one under its id, which would be the one that is killed below.
    let _lock = slot.lock()?;
    if !slot.is_current()? {
        return if options.force {
            Ok(())
        } else {
            Err(NotExist(id.to_owned()).into())
        };
    }
    let container = match slot.read() {
        // Nothing but the directory was made (Z2), another delete is just done with the rest, or it was destroyed by other
        // hands (Z4).
        Err(error) if options.force => return forget(&slot, &error),
        Err(error) => return Err(error),
        Ok(record) => Container::of(slot, record)?,
    };
    let stopped = match container.status {
        Status::Creating if !options.force => {
            bail!(
                "cannot delete container `{id}` that is not stopped: {}",
                container.status
            )
        }
        Status::Creating => force_stop_creating(container)?,
        // A created container never ran anything of the user's: runc deletes it without --force.
        Status::Created => force_stop(container)?,
        Status::Running | Status::Paused if options.force => force_stop(container)?,
        _ => container.stopped()?,
    };
    stopped.destroy()
}

/// Removes a container whose record cannot be used: its cgroup is known from a record of its own, and with it its processes.
fn forget(slot: &Slot, error: &anyhow::Error) -> Result<()> {
    if !error.is::<NotExist>() {
        log::warn(format_args!(
            "delete --force goes on without the record: {}",
            crate::error::chain(error)
        ));
    }
    if let Some(cgroup) = slot.read_cgroup()? {
        let cgroup = Cgroup::open(&cgroup)?;
        cgroup.kill_all(Signal::SIGKILL)?;
        cgroup
            .remove(REMOVE_DEADLINE)
            .with_context(|| format!("delete container `{}`", slot.id))?;
    }
    slot.remove()
}

fn force_stop(container: Container) -> Result<Stopped> {
    let live = match container.live_or_stopped()? {
        Ok(live) => live,
        Err(stopped) => return Ok(stopped),
    };
    kill::kill_all(&live)?;
    await_death(&live)?;
    Ok(live.container.ended())
}

/// The runtime that makes the container still lives: it is ended first, or it would go on making what is removed here.
fn force_stop_creating(container: Container) -> Result<Stopped> {
    let creator = container.record.creator;
    if let Ok(pidfd) = pidfd::open(Pid::from_raw(creator.pid))
        && super::status::is_alive(creator)
    {
        match pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(errno)
                    .with_context(|| format!("kill creating process {}", creator.pid));
            }
        }
        await_end(pidfd.as_fd(), creator.pid, "creating process")?;
    }
    // The record may have been completed meanwhile.
    let container = Container::load(container.slot)?;
    match container.status {
        Status::Stopped | Status::Creating => {
            container.cgroup()?.kill_all(Signal::SIGKILL)?;
            Ok(container.ended())
        }
        _ => force_stop(container),
    }
}

pub(super) fn await_death(live: &Live) -> Result<()> {
    await_end(live.pidfd(), live.init.pid, "init process")
        .with_context(|| format!("container `{}`", live.container.slot.id))
}

fn await_end(pidfd: BorrowedFd<'_>, pid: i32, what: &str) -> Result<()> {
    if pidfd::await_end(pidfd, DEATH_DEADLINE).context("wait for a process to end")? {
        return Ok(());
    }
    bail!(
        "{what} {} did not end within {} s of SIGKILL; the state is kept",
        culprit::process_in_cgroup(pid),
        DEATH_DEADLINE.as_secs()
    )
}

impl Stopped {
    /// Removes everything of the container. Repeatable: each step treats what is gone as done.
    pub(crate) fn destroy(self) -> Result<()> {
        let Container { slot, record, .. } = self.0;
        let lock = slot.lock()?;
        if !slot.is_current()? {
            return Ok(());
        }
        // Whoever is left is killed: without a pid namespace of its own the init's death ends nobody else.
        Cgroup::remove_by_record(&record.cgroup, REMOVE_DEADLINE).with_context(|| {
            format!(
                "delete container `{}` (its state is kept: delete can be repeated)",
                slot.id
            )
        })?;
        if let Some(group) = &record.rdt {
            rdt::Group::open(group).remove()?;
        }
        slot.remove()?;
        drop(lock);
        run_poststop(&record);
        Ok(())
    }
}

/// A failing poststop hook is a warning (runtime-spec, runtime.md "Lifecycle" 13).
pub(super) fn run_poststop(record: &super::Record) {
    let hooks = &record.hooks.poststop;
    if hooks.is_empty() {
        return;
    }
    // One hook at a time: the others run although one failed.
    for hook in hooks {
        let outcome = record
            .state
            .json("stopped", 0)
            .and_then(|state| hooks::run(std::slice::from_ref(hook), "poststop", &state));
        if let Err(error) = outcome {
            log::warn(format_args!("{}", crate::error::chain(&error)));
        }
    }
}
