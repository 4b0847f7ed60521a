//! ioctl(2) of terminals, ioctl_tty(2), called by `console`; and of namespaces, ioctl_ns(2), called by `container` and `init`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

/// TIOCSPTLCK: unlocks the slave of a new pty.
pub(crate) fn unlock_pty(master: BorrowedFd<'_>) -> Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the ioctl reads one int, which lives here.
    let ret = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    check(ret.into()).map(drop)
}

/// TIOCGPTPEER: the slave of `master`, found without any name; close-on-exec, not made the controlling terminal.
pub(crate) fn pty_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is an integer.
    let ret = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check(ret.into())?;
    // SAFETY: the ioctl succeeded, so `ret` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// TIOCGWINSZ
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<WindowSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes one winsize, which lives here.
    let ret = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(ret.into())?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// TIOCSWINSZ: on a master it also sends SIGWINCH to the slave's foreground processes.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl reads one winsize, which lives here.
    let ret = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(ret.into()).map(drop)
}

/// TIOCSCTTY: makes `slave` the controlling terminal of the calling session leader; never taken from another session.
pub(crate) fn set_controlling_terminal(slave: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the argument is an integer (0: do not steal).
    let ret = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(ret.into()).map(drop)
}

/// NS_GET_NSTYPE (ioctl_ns(2)): the `CLONE_NEW*` flag of a namespace file; ENOTTY for any other file.
pub(crate) fn namespace_type(namespace: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument and touches no memory.
    let ret = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) };
    check(ret.into()).map(|_| ret)
}

/// NS_GET_USERNS (ioctl_ns(2)): the user namespace that owns a namespace; EPERM where it is none of the caller's or below.
pub(crate) fn namespace_owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument and touches no memory.
    let ret = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) };
    check(ret.into())?;
    // SAFETY: the ioctl succeeded, so `ret` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}
