//! `delete`: kill if need be and forced, then cgroup, hooks, and the state directory last, so that a delete that failed can be
//! repeated (Z3). A container that is gone already is no error for `--force`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::options::{Context, DeleteOptions};
use super::status::Status;
use super::store::{LOCK_DEADLINE, Slot, Store};
use super::{Container, Live, Stopped, kill};
use crate::cgroup::procs::{Deadline, describe, seconds};
use crate::cgroup::{Cgroup, KILL_LIMIT};
use crate::error::NotExist;
use crate::fs::culprit;
use crate::sys::pidfd;
use crate::{hooks, log, rdt, timings};

/// How long the waits of a removal last.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Each its own time.
    Usual,
    /// All of them end here, this long after the command began.
    Until(Deadline, Duration),
}

impl Patience {
    fn new(timeout: Option<Duration>) -> Patience {
        timeout.map_or(Patience::Usual, |time| {
            Patience::Until(Deadline::after(time), time)
        })
    }

    /// What is left for a wait that usually has this long.
    fn left(self, usual: Duration) -> Duration {
        match self {
            Patience::Usual => usual,
            Patience::Until(end, _) => end.left(),
        }
    }

    /// The time to name when it is over.
    fn whole(self, usual: Duration) -> String {
        seconds(match self {
            Patience::Usual => usual,
            Patience::Until(_, whole) => whole,
        })
    }
}

/// How long an init may take to die of SIGKILL before it is reported as stuck, as runc.
const DEATH_DEADLINE: Duration = Duration::from_secs(10);
/// How long the cgroup may stay busy after the last process has gone.
pub(super) const REMOVE_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) fn delete(context: &Context, options: &DeleteOptions) -> Result<()> {
    let id = options.id.as_str();
    let patience = Patience::new(options.timeout);
    timings::phase("state");
    let slot = match Store::new(context).slot(id) {
        Err(error) if options.force && error.is::<NotExist>() => return Ok(()),
        other => other?,
    };
    // From here on nobody else removes it and makes another one under its id, which would be the one that is killed below.
    let _lock = slot.lock_within(patience.left(LOCK_DEADLINE))?;
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
        Err(error) if options.force => return forget(&slot, &error, patience),
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
        Status::Creating => force_stop_creating(container, patience)?,
        // A created container never ran anything of the user's: runc deletes it without --force.
        Status::Created => force_stop(container, patience)?,
        Status::Running | Status::Paused if options.force => force_stop(container, patience)?,
        _ => container.stopped()?,
    };
    stopped.destroy(patience)
}

/// Removes a container whose record cannot be used: its cgroup is known from a record of its own, and with it its processes.
fn forget(slot: &Slot, error: &anyhow::Error, patience: Patience) -> Result<()> {
    if !error.is::<NotExist>() {
        log::warn(format_args!(
            "delete --force goes on without the record: {}",
            crate::error::chain(error)
        ));
    }
    timings::phase("removal");
    if let Some(cgroup) = slot.read_cgroup()? {
        let cgroup = Cgroup::open(&cgroup)?;
        cgroup
            .kill_all_within(Signal::SIGKILL, patience.left(KILL_LIMIT))
            .and_then(|()| cgroup.remove(patience.left(REMOVE_DEADLINE)))
            .with_context(|| kept(&slot.id))?;
    }
    slot.remove()
}

fn force_stop(container: Container, patience: Patience) -> Result<Stopped> {
    timings::phase("kill");
    let live = match container.live_or_stopped()? {
        Ok(live) => live,
        Err(stopped) => return Ok(stopped),
    };
    kill::kill_all(&live, patience.left(KILL_LIMIT))
        .with_context(|| kept(&live.container.slot.id))?;
    await_death(&live, patience)?;
    Ok(live.container.ended())
}

/// The runtime that makes the container still lives: it is ended first, or it would go on making what is removed here.
fn force_stop_creating(container: Container, patience: Patience) -> Result<Stopped> {
    timings::phase("kill");
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
        await_creator(pidfd.as_fd(), creator.pid, patience)?;
    }
    // The record may have been completed meanwhile.
    let container = Container::load(container.slot)?;
    match container.status {
        Status::Stopped | Status::Creating => {
            container
                .cgroup()?
                .kill_all_within(Signal::SIGKILL, patience.left(KILL_LIMIT))
                .with_context(|| kept(&container.slot.id))?;
            Ok(container.ended())
        }
        _ => force_stop(container, patience),
    }
}

pub(super) fn await_death(live: &Live, patience: Patience) -> Result<()> {
    if pidfd::await_end(live.pidfd(), patience.left(DEATH_DEADLINE)).context(WAIT)? {
        return Ok(());
    }
    // The init of a pid namespace waits for all the others: it may be one of these that does not die. What is ending is in no
    // cgroup any more, so that its name is that of the record.
    let cgroup = live.container.cgroup();
    let pids = cgroup.as_ref().map(Cgroup::pids);
    let mut others = pids.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default();
    others.retain(|pid| *pid != live.init.pid);
    let mut text = format!("init process {}", culprit::process(live.init.pid));
    if !others.is_empty() {
        text.extend([" and ", &describe(&others)]);
    }
    if let Ok(cgroup) = cgroup {
        text.extend([" of cgroup `", &cgroup.name(), "`"]);
    }
    Err(too_late(&text, patience))
        .with_context(|| format!("container `{}`", live.container.slot.id))
}

const WAIT: &str = "wait for a process to end";

fn await_creator(pidfd: BorrowedFd<'_>, pid: i32, patience: Patience) -> Result<()> {
    if pidfd::await_end(pidfd, patience.left(DEATH_DEADLINE)).context(WAIT)? {
        return Ok(());
    }
    let who = culprit::process_in_cgroup(pid);
    Err(too_late(&format!("creating process {who}"), patience))
}

fn too_late(who: &str, patience: Patience) -> anyhow::Error {
    anyhow!(
        "{who} did not end within {} s of SIGKILL; the state is kept",
        patience.whole(DEATH_DEADLINE)
    )
}

/// In front of what kept a removal from its end.
fn kept(id: &str) -> String {
    format!("delete container `{id}` (its state is kept: delete can be repeated)")
}

impl Stopped {
    /// Removes everything of the container. Repeatable: each step treats what is gone as done.
    pub(super) fn destroy(self, patience: Patience) -> Result<()> {
        timings::phase("removal");
        let Container { slot, record, .. } = self.0;
        let lock = slot.lock_within(patience.left(LOCK_DEADLINE))?;
        if !slot.is_current()? {
            return Ok(());
        }
        // Whoever is left is killed: without a pid namespace of its own the init's death ends nobody else.
        Cgroup::remove_by_record(&record.cgroup, patience.left(REMOVE_DEADLINE))
            .with_context(|| kept(&slot.id))?;
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
    let hooks = match record.hooks.get("hooks") {
        Ok(hooks) => hooks,
        Err(error) => {
            log::warn(format_args!("{}", crate::error::chain(&error)));
            return;
        }
    };
    // One hook at a time: the others run although one failed.
    for hook in &hooks.poststop {
        let outcome = record
            .state
            .json("stopped", 0)
            .and_then(|state| hooks::run(std::slice::from_ref(hook), "poststop", &state));
        if let Err(error) = outcome {
            log::warn(format_args!("{}", crate::error::chain(&error)));
        }
    }
}
