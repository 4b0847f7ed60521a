//! `start`: opens the gate of a created container and runs the poststart hooks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::options::Context;
use super::store::GATE;
use super::{Container, Created, Live, kill, status};
use crate::cgroup::KILL_LIMIT;
use crate::fs::culprit;
use crate::hooks;
use crate::plan::hooks::{Hooks, longest};
use crate::sd_notify::{self, Relay};
use crate::timings;

/// How long an init that was told to go may take to become the program, less what startContainer hooks may take.
const EXEC_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn start(context: &Context, id: &str) -> Result<()> {
    let created = Container::open(context, id)?.created()?;
    let live = created.live();
    let hooks = live.container.record.hooks.get("hooks")?;
    let relay = relay(live.container.slot.dir.as_fd(), || {
        Ok(Pid::from_raw(live.init.pid))
    })?;
    timings::phase("start");
    let gate = open_gate(&created)?;
    if !hooks.poststart.is_empty() {
        timings::phase("wait for exec");
        await_exec(&gate, live, longest(&hooks.start_container))?;
    }
    poststart(live, &hooks)?;
    timings::phase("readiness");
    relay.map_or(Ok(()), |relay| relay.run(live.pidfd()))
}

/// The relay of readiness to the service manager, bound before the program can use it. `main_pid` is whom the manager is to
/// watch. None unless both `create` and this process were given NOTIFY_SOCKET.
pub(super) fn relay(
    state_dir: BorrowedFd<'_>,
    main_pid: impl FnOnce() -> Result<Pid>,
) -> Result<Option<Relay>> {
    match sd_notify::host_socket() {
        Some(host) => Relay::bind(state_dir, &host, main_pid()?),
        None => Ok(None),
    }
}

/// A failing poststart hook ends the container (runtime-spec 1.3, runtime.md "Lifecycle").
pub(super) fn poststart(live: &Live, hooks: &Hooks) -> Result<()> {
    let record = &live.container.record;
    if hooks.poststart.is_empty() {
        return Ok(());
    }
    timings::phase("poststart hooks");
    let state = record.state.json("running", live.init.pid)?;
    let outcome = hooks::run(&hooks.poststart, "poststart", &state);
    if outcome.is_err() {
        kill::kill_all(live, KILL_LIMIT)?;
    }
    outcome
}

/// The word to go comes first and the removal after it: killed before both, a `start` has done nothing; killed in between, it
/// has started the container. One start wins: whoever removes the gate; the init takes one word.
fn open_gate(created: &Created) -> Result<OwnedFd> {
    let live = created.live();
    let slot = &live.container.slot;
    let id = &slot.id;
    let gate = status::gate(slot)?.ok_or_else(|| nobody_waits(live))?;
    match nix::unistd::write(&gate, b"s") {
        Err(Errno::EPIPE) => return Err(nobody_waits(live)),
        other => other.with_context(|| format!("write to `{GATE}` of container `{id}`"))?,
    };
    match unlinkat(slot.dir.as_fd(), GATE, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => bail!("cannot start an already running container: `{id}`"),
        other => other.with_context(|| format!("remove `{GATE}` of container `{id}`"))?,
    }
    Ok(gate)
}

fn nobody_waits(live: &Live) -> anyhow::Error {
    let id = &live.container.slot.id;
    if status::is_alive(live.init) {
        anyhow!("cannot start an already running container: `{id}`")
    } else {
        anyhow!("cannot start a container that has stopped: `{id}`: its init is gone")
    }
}

/// poststart hooks come after the user's program has started (runtime-spec, runtime.md "Lifecycle" 8): execve, or the death
/// of the init, closes the last reading end, which poll(2) reports as an error of this one.
fn await_exec(gate: &OwnedFd, live: &Live, hooks: Option<Duration>) -> Result<()> {
    let mut polled = [PollFd::new(gate.as_fd(), PollFlags::empty())];
    let limit = hooks.map(|hooks| hooks + EXEC_LIMIT);
    let until = limit.map(|limit| Instant::now() + limit);
    loop {
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) => bail!(
                "the container's program was not started within {} s: init process {}",
                limit.unwrap_or_default().as_secs(),
                culprit::process_in_cgroup(live.init.pid)
            ),
            other => {
                return other
                    .context("wait for the container's program to start")
                    .map(drop);
            }
        }
    }
}
