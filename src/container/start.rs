//! `start`: opens the gate of a created container and runs the poststart hooks.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::options::Context;
use super::store::GATE;
use super::{Container, Created, Live, kill};
use crate::{hooks, sd_notify};

pub(crate) fn start(context: &Context, id: &str) -> Result<()> {
    let created = Container::open(context, id)?.created()?;
    open_gate(&created)?;
    after_start(created.live())
}

/// What follows the start of the user's program, with `start` and `run` alike.
pub(crate) fn after_start(live: &Live) -> Result<()> {
    poststart(live)?;
    relay_readiness(live)
}

/// A failing poststart hook ends the container (runtime-spec 1.3, runtime.md "Lifecycle").
fn poststart(live: &Live) -> Result<()> {
    let record = &live.container.record;
    if record.hooks.poststart.is_empty() {
        return Ok(());
    }
    let state = record.state.json("running", live.init.pid)?;
    let outcome = hooks::run(&record.hooks.poststart, "poststart", &state);
    if outcome.is_err() {
        kill::kill_all(live)?;
    }
    outcome
}

fn relay_readiness(live: &Live) -> Result<()> {
    let Some(host) = &live.container.record.notify_socket else { return Ok(()) };
    sd_notify::relay(live.container.slot.path(), host, live.init.pid, live.pidfd())
}

/// One start wins: whoever removes the fifo. The descriptor was opened before, and opening without a reader fails, so that a
/// dead init is an error and never a wait.
fn open_gate(created: &Created) -> Result<()> {
    let container = &created.live().container;
    let id = &container.slot.id;
    let dir = container.slot.dir.as_fd();
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let gate = match openat(dir, GATE, flags, Mode::empty()) {
        Err(Errno::ENXIO) => bail!("cannot start a container that has stopped: `{id}`: its init is gone"),
        Err(Errno::ENOENT) => bail!("cannot start an already running container: `{id}`"),
        other => other.with_context(|| format!("open `{GATE}` of container `{id}`"))?,
    };
    match unlinkat(dir, GATE, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => bail!("cannot start an already running container: `{id}`"),
        other => other.with_context(|| format!("remove `{GATE}` of container `{id}`"))?,
    }
    match nix::unistd::write(&gate, b"s") {
        Err(Errno::EPIPE) => bail!("cannot start a container that has stopped: `{id}`: its init is gone"),
        other => other.with_context(|| format!("write to `{GATE}` of container `{id}`")).map(drop),
    }
}
