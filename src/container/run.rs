//! `run`: create and start in one, then wait for the container and delete it, or leave it to itself with `--detach`.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, Error, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use super::create::detached_console;
use super::delete::{self, Patience};
use super::launch::{Console, Gate, Launch};
use super::options::{Context, DeleteOptions, RunOptions};
use super::status::Status;
use super::{Live, foreground, start};
use crate::console::{self, Proxy, RawTerminal};
use crate::sd_notify::Relay;
use crate::{log, sealed, timings};

/// Returns the exit code of the runtime: the program's own in the foreground, 0 when detached.
pub(crate) fn run(context: &Context, options: &RunOptions) -> Result<i32> {
    sealed::ensure()?;
    let launch = Launch::prepare(context, &options.create)?;
    timings::phase("console");
    let (mut foreground, console) = Foreground::or_detached(options, launch.plan.process.terminal)?;
    let mut ready = launch.start(Gate::Commit, console)?;
    if let Some(foreground) = foreground.as_mut() {
        foreground.attach()?;
    }
    timings::phase("record");
    // The service manager is to watch the process that stays: this one, unless detached.
    let relay = start::relay(ready.state_dir(), || {
        if foreground.is_some() {
            Ok(Pid::this())
        } else {
            ready.pid()
        }
    })?;
    ready.commit()?;
    timings::phase("wait for exec");
    ready.await_exec()?;
    timings::phase("release");
    let live = ready.release(Status::Running)?;
    let code = match after_start(&live, foreground, relay) {
        Ok(Some(code)) => code,
        Ok(None) => return Ok(0),
        Err(error) => return Err(removed_after(context, options, error)),
    };
    if !options.keep {
        live.container.ended().destroy(Patience::Usual)?;
    }
    Ok(code)
}

/// The first error is the one to report; a container that cannot be removed keeps its state.
pub(super) fn removed_after(context: &Context, options: &RunOptions, error: Error) -> Error {
    let force = DeleteOptions {
        id: options.create.id.clone(),
        force: true,
        timeout: None,
    };
    let failed = timings::step();
    if let Err(error) = delete::delete(context, &force) {
        log::warn(format_args!("{}", crate::error::chain(&error)));
    }
    timings::phase(failed);
    error
}

/// The exit code, or `None` when detached.
fn after_start(
    live: &Live,
    foreground: Option<Foreground>,
    relay: Option<Relay>,
) -> Result<Option<i32>> {
    let hooks = live.container.record.hooks.get("hooks")?;
    let Some(foreground) = foreground else {
        start::poststart(live, &hooks)?;
        timings::phase("readiness");
        relay.map_or(Ok(()), |relay| relay.run(live.pidfd()))?;
        return Ok(None);
    };
    start::poststart(live, &hooks)?;
    timings::phase("container");
    foreground
        .wait(Pid::from_raw(live.init.pid), live.pidfd(), relay)
        .map(Some)
}

/// What `run` and `exec` hold while a process of the container runs in the foreground.
pub(super) struct Foreground {
    signals: foreground::Signals,
    /// The child's end of the console socket, until the launch takes it.
    pub(super) console: Option<OwnedFd>,
    /// The end on which the pty's master arrives.
    master: Option<OwnedFd>,
    terminal: Option<Proxy>,
}

impl Foreground {
    /// Before anything is made: where the master of the container's terminal goes, and `None` for a container left to itself.
    pub(super) fn or_detached(
        options: &RunOptions,
        terminal: bool,
    ) -> Result<(Option<Foreground>, Console)> {
        let socket = options.create.console_socket.as_deref();
        if options.detach {
            return Ok((None, detached_console(terminal, socket)?));
        }
        let mut foreground = Foreground::prepare(terminal && socket.is_none())?;
        let console = match foreground.console.take() {
            Some(console) => Console::Socket(console),
            None => detached_console(terminal, socket)?,
        };
        if !options.no_subreaper {
            foreground::become_subreaper()?;
        }
        Ok((Some(foreground), console))
    }

    /// Before the clone, so that no signal is lost.
    pub(super) fn prepare(terminal: bool) -> Result<Foreground> {
        let (mut console, mut master) = (None, None);
        if terminal {
            let (ours, theirs) = socketpair(
                AddressFamily::Unix,
                SockType::Stream,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
            .context("make a socket pair for the console")?;
            (console, master) = (Some(theirs), Some(ours));
        }
        Ok(Foreground {
            signals: foreground::Signals::catch()?,
            console,
            master,
            terminal: None,
        })
    }

    /// Connects the caller's terminal with the container's. Once the process is ready and before it becomes the program, which
    /// is to find its terminal's mode and size as they will stay.
    pub(super) fn attach(&mut self) -> Result<()> {
        if let Some(socket) = self.master.take() {
            timings::phase("terminal");
            let master = console::receive_master(socket.as_fd())?;
            self.terminal = Some(Proxy::to_stdio(master, RawTerminal::enter()?)?);
        }
        Ok(())
    }

    /// Until the process has ended; its exit code, 128 + n after signal n.
    pub(super) fn wait(
        self,
        pid: Pid,
        pidfd: std::os::fd::BorrowedFd<'_>,
        relay: Option<Relay>,
    ) -> Result<i32> {
        let mut terminal = self.terminal;
        let waited = foreground::Waited { pid, pidfd };
        let outcome = foreground::wait(&self.signals, waited, terminal.as_mut(), relay)?;
        // The caller's terminal is itself again before anything is written to it.
        drop(terminal);
        if let Some(error) = outcome.notify_error {
            log::warn(format_args!("{}", crate::error::chain(&error)));
        }
        Ok(outcome.exit.status())
    }
}
