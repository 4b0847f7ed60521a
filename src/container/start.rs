//! `start`: opens the gate of a created container and runs the poststart hooks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::options::Context;
use super::store::GATE;
use super::{Container, Created, Live, kill};
use crate::hooks;
use crate::sd_notify::{self, Relay};

pub(crate) fn start(context: &Context, id: &str) -> Result<()> {
    let created = Container::open(context, id)?.created()?;
    let live = created.live();
    let relay = relay(
        live.container.slot.dir.as_fd(),
        Pid::from_raw(live.init.pid),
    )?;
    let gate = open_gate(&created)?;
    if !live.container.record.hooks.poststart.is_empty() {
        await_exec(&gate)?;
    }
    poststart(live)?;
    relay.map_or(Ok(()), |relay| relay.run(live.pidfd()))
}

/// The relay of readiness to the service manager, bound before the program can use it. `main_pid` is whom the manager is to
/// watch. None unless both `create` and this process were given NOTIFY_SOCKET.
pub(super) fn relay(state_dir: BorrowedFd<'_>, main_pid: Pid) -> Result<Option<Relay>> {
    match sd_notify::host_socket() {
        Some(host) => Relay::bind(state_dir, &host, main_pid),
        None => Ok(None),
    }
}

/// A failing poststart hook ends the container (runtime-spec 1.3, runtime.md "Lifecycle").
pub(super) fn poststart(live: &Live) -> Result<()> {
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

/// One start wins: whoever removes the fifo. The descriptor was opened before, and opening without a reader fails, so that a
/// dead init is an error and never a wait.
fn open_gate(created: &Created) -> Result<OwnedFd> {
    let container = &created.live().container;
    let id = &container.slot.id;
    let dir = container.slot.dir.as_fd();
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let gate = match openat(dir, GATE, flags, Mode::empty()) {
        Err(Errno::ENXIO) => {
            bail!("cannot start a container that has stopped: `{id}`: its init is gone")
        }
        Err(Errno::ENOENT) => bail!("cannot start an already running container: `{id}`"),
        other => other.with_context(|| format!("open `{GATE}` of container `{id}`"))?,
    };
    match unlinkat(dir, GATE, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => bail!("cannot start an already running container: `{id}`"),
        other => other.with_context(|| format!("remove `{GATE}` of container `{id}`"))?,
    }
    match nix::unistd::write(&gate, b"s") {
        Err(Errno::EPIPE) => {
            bail!("cannot start a container that has stopped: `{id}`: its init is gone")
        }
        other => other.with_context(|| format!("write to `{GATE}` of container `{id}`"))?,
    };
    Ok(gate)
}

/// poststart hooks come after the user's program has started (runtime-spec, runtime.md "Lifecycle" 8): execve, or the death
/// of the init, closes the last reading end, which poll(2) reports as an error of this one.
fn await_exec(gate: &OwnedFd) -> Result<()> {
    let mut polled = [PollFd::new(gate.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => {
                return other
                    .context("wait for the container's program to start")
                    .map(drop);
            }
        }
    }
}
