//! The caller's terminal while the runtime stays in the foreground: raw for that time, restored on drop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::sys::ioctl::{self, WindowSize};

/// A terminal in raw mode.
pub(crate) struct RawTerminal {
    terminal: OwnedFd,
    saved: Termios,
}

impl RawTerminal {
    /// Makes the caller's terminal raw: stderr, stdout or stdin, whichever is one, else the controlling terminal. `None`
    /// where there is none at all, as under a script: everything but sizes then still works.
    pub(crate) fn enter() -> Result<Option<RawTerminal>> {
        let stdio: [fn() -> std::io::Result<OwnedFd>; 3] = [
            || std::io::stderr().as_fd().try_clone_to_owned(),
            || std::io::stdout().as_fd().try_clone_to_owned(),
            || std::io::stdin().as_fd().try_clone_to_owned(),
        ];
        for candidate in stdio {
            let fd = candidate().context("duplicate stdio")?;
            if let Some(raw) = RawTerminal::of(fd)? {
                return Ok(Some(raw));
            }
        }
        match open(
            "/dev/tty",
            OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => RawTerminal::of(fd),
            Err(Errno::ENXIO | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno).context("open `/dev/tty`"),
        }
    }

    /// `None`: not a terminal, or one that a job in the foreground uses now while this process is in the background: with
    /// SIGTTOU blocked, the kernel would let the change happen under that job.
    pub(super) fn of(terminal: OwnedFd) -> Result<Option<RawTerminal>> {
        let saved = match tcgetattr(&terminal) {
            Ok(saved) => saved,
            Err(Errno::ENOTTY) => return Ok(None),
            Err(errno) => return Err(errno).context("read the mode of the caller's terminal"),
        };
        // ENOTTY: not the terminal of this session, so no job control.
        if tcgetpgrp(&terminal).is_ok_and(|foreground| foreground != getpgrp()) {
            return Ok(None);
        }
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        // Line feeds are turned into line ends here, not on the container's side (see `proxy`).
        raw.output_flags |= saved.output_flags & OutputFlags::OPOST;
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context("make the caller's terminal raw")?;
        Ok(Some(RawTerminal { terminal, saved }))
    }

    /// `None` where the terminal is gone.
    pub(super) fn size(&self) -> Option<WindowSize> {
        ioctl::window_size(self.as_fd()).ok()
    }
}

impl AsFd for RawTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // It may have been hung up; nobody is left to tell.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved);
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    use super::*;

    #[test]
    fn raw_while_it_lives() {
        let pty = openpty(None, None).unwrap();
        let raw = RawTerminal::of(pty.slave.try_clone().unwrap())
            .unwrap()
            .unwrap();
        let mode = tcgetattr(&pty.slave).unwrap();
        assert!(
            !mode
                .local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        );
        assert!(
            mode.output_flags
                .contains(OutputFlags::OPOST | OutputFlags::ONLCR)
        );
        drop(raw);
        let mode = tcgetattr(&pty.slave).unwrap();
        assert!(
            mode.local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        );
    }

    #[test]
    fn a_file_is_no_terminal() {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        assert!(RawTerminal::of(null).unwrap().is_none());
    }
}
