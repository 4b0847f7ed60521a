//! `run`: create and start in one, then wait for the container and delete it, or leave it to itself with `--detach`.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::create::detached_console;
use super::launch::{Console, Gate, Launch};
use super::options::{Context, DeleteOptions, RunOptions};
use super::status::Status;
use super::{Container, Stopped, foreground, start};
use crate::{console, sealed};

/// Returns the exit code of the runtime: the program's own in the foreground, 0 when detached.
pub(crate) fn run(context: &Context, options: &RunOptions) -> Result<i32> {
    sealed::ensure()?;
    let launch = Launch::prepare(context, &options.create)?;
    let terminal = launch.plan.process.terminal;
    let socket = options.create.console_socket.as_deref();
    let (console, receiver) = if options.detach || socket.is_some() || !terminal {
        (detached_console(terminal, socket)?, None)
    } else {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .context("make a socket pair for the console")?;
        (Console::Socket(theirs), Some(ours))
    };
    if !options.detach && !options.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).context("become the subreaper of the container")?;
    }
    let mut ready = launch.start(Gate::Commit, console)?;
    let master = receiver.map(|socket| console::receive_master(socket.as_fd())).transpose()?;
    let signals = (!options.detach).then(foreground::Signals::block).transpose()?;
    ready.commit()?;
    ready.await_exec()?;
    let live = ready.release(Status::Running)?;
    if let Err(error) = start::after_start(&live) {
        let _ = super::delete::delete(context, &DeleteOptions { id: options.create.id.clone(), force: true });
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(signals, live.init.pid, live.pidfd(), master)?;
    if !options.keep {
        let Container { slot, record, .. } = live.container;
        Stopped(Container { slot, record, status: Status::Stopped }).destroy()?;
    }
    Ok(code)
}
