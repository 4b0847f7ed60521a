//! The terminal of a container: made in it (`pty`), copied to the caller's terminal when the runtime stays (`proxy`, `host`).
//!
//! Called by `init` (the console step, after the change of root) and by `container` (console and pidfd sockets, foreground).
//! With `--console-socket` the runtime connects before the clone and the child sends the master itself; in the foreground the
//! child's end of a socketpair takes that place. Either way the socket is the only descriptor of the host the step needs.

mod host;
mod proxy;
mod pty;
mod screen;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockType;

pub(crate) use host::RawTerminal;
pub(crate) use proxy::{Proxy, Side};
pub(crate) use pty::{Target, set_up, take_over};
pub(crate) use screen::{Pressed, Screen};

use crate::sys::unix;

/// What comes as data with the master; receivers show it or ignore it.
const MASTER_NAME: &[u8] = b"/dev/ptmx";

/// Connects to the socket of `--console-socket` or `--pidfd-socket` (`option`, for messages).
pub(crate) fn connect(option: &str, path: &Path) -> Result<OwnedFd> {
    let connected = unix::connect(path, SockType::Stream);
    let hint = match connected {
        Err(Errno::EAGAIN) => " (hint: who listens there accepts nobody, for 10 s)",
        _ => "",
    };
    connected.with_context(|| format!("{option}: connect to `{}`{hint}", path.display()))
}

/// Sends a pidfd over `--pidfd-socket`. `kind` is `standard` for a container's init and `setns` for exec, as with runc.
pub(crate) fn send_pidfd(socket: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, kind: &str) -> Result<()> {
    unix::send(socket, kind.as_bytes(), Some(pidfd)).context("--pidfd-socket: send the pidfd")
}

/// Takes the master that [`set_up`] has sent. Only after the child said that it is ready: does not wait.
pub(crate) fn receive_master(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut name = [0_u8; 64];
    let (_, master) = unix::receive(socket, &mut name)
        .context("receive the master of the container's terminal")?;
    master
        .ok_or(Errno::EBADMSG)
        .context("receive the master of the container's terminal")
}

pub(crate) fn send_master(socket: BorrowedFd<'_>, master: &OwnedFd) -> Result<()> {
    unix::send(socket, MASTER_NAME, Some(master.as_fd()))
        .context("send the master of the container's terminal")
}
