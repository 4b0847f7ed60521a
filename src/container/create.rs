//! `create`: a container whose init waits at the gate.

use anyhow::{Result, ensure};

use super::launch::{Console, Gate, Launch};
use super::options::{Context, CreateOptions};
use super::status::Status;
use crate::{sealed, timings};

pub(crate) fn create(context: &Context, options: &CreateOptions) -> Result<()> {
    sealed::ensure()?;
    let launch = Launch::prepare(context, options)?;
    timings::phase("console");
    let terminal = launch.plan.process.terminal;
    let console = detached_console(terminal, options.console_socket.as_deref())?;
    let mut ready = launch.start(Gate::Fifo, console)?;
    timings::phase("record");
    ready.commit()?;
    ready.release(Status::Created).map(drop)
}

/// With `create` and `run --detach` a terminal needs a socket to go to, and a socket a terminal.
pub(super) fn detached_console(
    terminal: bool,
    socket: Option<&std::path::Path>,
) -> Result<Console> {
    if let Some(path) = socket {
        ensure!(
            terminal,
            "cannot use console socket if rundlet will not detach or allocate tty: process.terminal is false"
        );
        return Ok(Console::Socket(crate::console::connect(
            "--console-socket",
            path,
        )?));
    }
    ensure!(
        !terminal,
        "cannot allocate tty if rundlet will detach without setting console socket: process.terminal is true"
    );
    Ok(Console::None)
}
