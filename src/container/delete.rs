//! `delete`: kill if need be and forced, then cgroup, hooks, and the state directory last, so that a delete that failed can be
//! repeated (Z3). A container that is gone already is no error for `--force`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::options::{Context, DeleteOptions};
use super::status::Status;
use super::store::{Slot, Store};
use super::{Container, Live, Stopped, kill};
use crate::cgroup::Cgroup;
use crate::error::NotExist;
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
        poll_exit(pidfd.as_fd())?;
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

/// Waits for readiness of a pidfd: the process has ended.
fn poll_exit(pidfd: BorrowedFd<'_>) -> Result<bool> {
    let timeout = PollTimeout::try_from(DEATH_DEADLINE).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(pidfd, PollFlags::POLLIN)];
    loop {
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            other => return Ok(other.context("wait for a process to end")? > 0),
        }
    }
}

pub(super) fn await_death(live: &Live) -> Result<()> {
    if poll_exit(live.pidfd())? {
        return Ok(());
    }
    let pid = live.init.pid;
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim_start()
        .chars()
        .next()
        .unwrap_or('?');
    bail!(
        "container `{}`: init process {pid} did not end within {} s of SIGKILL (state {state}, waiting in `{}`); the state is kept",
        live.container.slot.id,
        DEATH_DEADLINE.as_secs(),
        read("wchan")
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
        Cgroup::open(&record.cgroup)?
            .remove(REMOVE_DEADLINE)
            .with_context(|| {
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
