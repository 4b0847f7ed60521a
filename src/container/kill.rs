//! `kill`: a signal to a container's init by pidfd, or to everything in its cgroup where the init's death would leave the
//! others alive.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::options::{Context, KillOptions};
use super::status::Status;
use super::{Container, Live};
use crate::cgroup::KILL_LIMIT;
use crate::plan::namespaces::Kind;
use crate::sys::pidfd;
use crate::timings;

pub(crate) fn kill(context: &Context, options: &KillOptions) -> Result<()> {
    let container = Container::open(context, &options.id)?;
    timings::phase("signal");
    if options.all && container.status == Status::Stopped {
        // What --all still means: a container without processes is no error. Left-over processes of a container without a
        // pid namespace of its own are hit.
        let signal = Signal::try_from(options.signal).context("--all takes no real-time signal")?;
        return container.cgroup()?.kill_all(signal);
    }
    let live = container.live()?;
    if options.signal == libc::SIGKILL && !live.container.record.has(Kind::Pid) {
        return kill_all(&live, KILL_LIMIT);
    }
    signal(&live, options.signal)?;
    if options.signal != libc::SIGKILL {
        return Ok(());
    }
    // The others of its pid namespace die with it, and it waits for them: none may be frozen by a v1 freezer.
    let cgroup = live.container.cgroup()?;
    cgroup.let_die()?;
    if live.container.status == Status::Paused {
        cgroup.thaw()?;
    }
    Ok(())
}

/// Signals the init. One that is gone by now is "not running", in the words engines look for.
pub(super) fn signal(live: &Live, signal: i32) -> Result<()> {
    match pidfd::send_signal(live.pidfd(), signal) {
        Err(Errno::ESRCH) => anyhow::bail!(
            "container not running: `{}` has just stopped",
            live.container.slot.id
        ),
        other => other.with_context(|| {
            format!(
                "send signal {signal} to init process {} of container `{}`",
                live.init.pid, live.container.slot.id
            )
        }),
    }
}

/// SIGKILL to every process of the container; where that takes several rounds, no longer than `limit`.
pub(super) fn kill_all(live: &Live, limit: Duration) -> Result<()> {
    // The init may share its cgroup with nobody and still be outside of it, for instance moved by systemd.
    match pidfd::send_signal(live.pidfd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno).context("kill the container's init"),
    }
    live.container
        .cgroup()?
        .kill_all_within(Signal::SIGKILL, limit)
}
