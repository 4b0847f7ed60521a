//! Copies between the caller's stdio and the master of a container's terminal, one step per readiness, for the poll loop of
//! `container::foreground`. Holds at most one buffer in each direction, so a side that does not read stops the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{read, write};

use super::RawTerminal;
use crate::sys::ioctl;

/// PIPE_BUF: what a pipe that polls writable takes without blocking; the caller's stdout is shared with others and stays in
/// blocking mode.
const CHUNK: usize = 4096;

/// A descriptor of the proxy that is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Master,
    Output,
}

/// Bytes on their way.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.written = 0;
    }

    /// One write.
    fn write_to(&mut self, fd: &OwnedFd) -> nix::Result<()> {
        self.written += write(fd, &self.bytes[self.written..])?;
        Ok(())
    }
}

/// The copying.
pub(crate) struct Proxy {
    master: OwnedFd,
    /// Held so that the master never reports a hang-up while the container has its terminal closed for a moment, as systemd
    /// does; `None` where it cannot be opened from here.
    _slave: Option<OwnedFd>,
    terminal: Option<RawTerminal>,
    /// `None` after its end.
    input: Option<OwnedFd>,
    /// `None` after it failed: the container's output is then thrown away rather than left to block the container.
    output: Option<OwnedFd>,
    to_master: Pending,
    to_output: Pending,
    /// Every slave is closed for good.
    hung_up: bool,
}

impl Proxy {
    /// Between `master` and this process's stdin and stdout; `terminal` gives the size and is restored when all is over.
    pub(crate) fn to_stdio(master: OwnedFd, terminal: Option<RawTerminal>) -> Result<Proxy> {
        let input = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("duplicate stdin")?;
        let output = std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("duplicate stdout")?;
        Proxy::new(master, terminal, input, output)
    }

    fn new(
        master: OwnedFd,
        terminal: Option<RawTerminal>,
        input: OwnedFd,
        output: OwnedFd,
    ) -> Result<Proxy> {
        clear_onlcr(&master).context("set the mode of the container's terminal")?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("make the container's terminal non-blocking")?;
        let proxy = Proxy {
            _slave: ioctl::pty_peer(master.as_fd()).ok(),
            master,
            terminal,
            input: Some(input),
            output: Some(output),
            to_master: Pending::default(),
            to_output: Pending::default(),
            hung_up: false,
        };
        proxy.resize();
        Ok(proxy)
    }

    /// Gives the container's terminal the size of the caller's. Not an error: either may be gone.
    pub(crate) fn resize(&self) {
        if let Some(size) = self.terminal.as_ref().and_then(RawTerminal::size) {
            let _ = ioctl::set_window_size(self.master.as_fd(), size);
        }
    }

    /// What to poll for now.
    pub(crate) fn interests(&self) -> Vec<(Side, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::with_capacity(3);
        if let Some(input) = self
            .input
            .as_ref()
            .filter(|_| self.to_master.is_empty() && !self.hung_up)
        {
            interests.push((Side::Input, input.as_fd(), PollFlags::POLLIN));
        }
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, self.to_output.is_empty());
        master.set(PollFlags::POLLOUT, !self.to_master.is_empty());
        if !(master.is_empty() || self.hung_up) {
            interests.push((Side::Master, self.master.as_fd(), master));
        }
        if let Some(output) = self.output.as_ref().filter(|_| !self.to_output.is_empty()) {
            interests.push((Side::Output, output.as_fd(), PollFlags::POLLOUT));
        }
        interests
    }

    /// Goes on where poll reported `side` ready.
    pub(crate) fn advance(&mut self, side: Side) {
        match side {
            Side::Input => self.read_input(),
            Side::Master => {
                self.write_master();
                self.read_master();
            }
            Side::Output => self.write_output(),
        }
    }

    fn read_input(&mut self) {
        let Some(input) = self.input.as_ref().filter(|_| self.to_master.is_empty()) else {
            return;
        };
        let mut buffer = [0_u8; CHUNK];
        match read(input, &mut buffer) {
            // End of input says nothing to a terminal; runc keeps it silent too.
            Ok(0) => self.input = None,
            Ok(len) => {
                self.to_master.fill(&buffer[..len]);
                self.write_master();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // EIO: the caller's terminal hung up, or this process is in its background.
            Err(_) => self.input = None,
        }
    }

    fn write_master(&mut self) {
        if self.to_master.is_empty() {
            return;
        }
        match self.to_master.write_to(&self.master) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.hung_up = true,
        }
    }

    /// Whether there was anything.
    fn read_master(&mut self) -> bool {
        if !self.to_output.is_empty() {
            return false;
        }
        let mut buffer = [0_u8; CHUNK];
        match read(&self.master, &mut buffer) {
            Ok(len) if len > 0 => {
                if self.output.is_some() {
                    self.to_output.fill(&buffer[..len]);
                }
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // EIO: no slave is open.
            Ok(_) | Err(_) => {
                self.hung_up = true;
                false
            }
        }
    }

    fn write_output(&mut self) {
        let Some(output) = &self.output else { return };
        match self.to_output.write_to(output) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.output = None;
                self.to_output = Pending::default();
            }
        }
    }

    /// Once the container's process has ended: passes on all it has written. Ends even if somebody else still holds the
    /// terminal, because the kernel makes everything written so far readable before it says EAGAIN.
    pub(crate) fn drain(&mut self) {
        loop {
            while !self.to_output.is_empty() {
                let Some(output) = &self.output else { break };
                let mut polled = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
                if matches!(poll(&mut polled, PollTimeout::NONE), Err(errno) if errno != Errno::EINTR)
                {
                    return;
                }
                self.write_output();
            }
            if !self.read_master() {
                return;
            }
        }
    }
}

/// The container's side leaves line feeds as they are, because the caller's terminal keeps output processing (`host`): else
/// every line would end in two carriage returns.
fn clear_onlcr(master: &OwnedFd) -> nix::Result<()> {
    let mut mode = tcgetattr(master)?;
    mode.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &mode)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use nix::pty::{Winsize, openpty};
    use nix::unistd::pipe;

    use super::*;
    use crate::sys::ioctl::WindowSize;

    fn step(proxy: &mut Proxy) -> Vec<Side> {
        let (sides, mut polled): (Vec<_>, Vec<_>) = proxy
            .interests()
            .into_iter()
            .map(|(side, fd, flags)| (side, PollFd::new(fd, flags)))
            .unzip();
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        let ready: Vec<_> = polled.iter().map(|fd| fd.any().unwrap()).collect();
        let sides: Vec<_> = sides
            .into_iter()
            .zip(ready)
            .filter_map(|(side, ready)| ready.then_some(side))
            .collect();
        for side in &sides {
            proxy.advance(*side);
        }
        sides
    }

    #[test]
    fn both_directions_and_the_end_of_input() {
        let pty = openpty(None, None).unwrap();
        let (in_read, in_write) = pipe().unwrap();
        let (out_read, out_write) = pipe().unwrap();
        let mut proxy = Proxy::new(pty.master, None, in_read, out_write).unwrap();
        let mut slave = File::from(pty.slave);
        assert_eq!(step(&mut proxy), []);
        File::from(in_write).write_all(b"typed\n").unwrap();
        assert_eq!(step(&mut proxy), [Side::Input]);
        let mut buffer = [0; 64];
        let len = slave.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"typed\n");

        slave.write_all(b"shown\n").unwrap();
        while !step(&mut proxy).is_empty() {}
        let mut out = File::from(out_read);
        // The echo, then the output, both without carriage returns.
        let len = out.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"typed\nshown\n");
        assert!(proxy.input.is_none(), "the pipe's writer is gone");

        // A slave that is closed and opened again is no hang-up.
        drop(slave);
        assert_eq!(step(&mut proxy), []);
        assert!(!proxy.hung_up);
    }

    #[test]
    fn draining_passes_everything_on_while_the_terminal_is_still_held() {
        let pty = openpty(None, None).unwrap();
        let null = || File::open("/dev/null").unwrap().into();
        let file = tempfile::tempfile().unwrap();
        let mut proxy =
            Proxy::new(pty.master, None, null(), file.try_clone().unwrap().into()).unwrap();
        let mut slave = File::from(pty.slave);
        let line = [b'x'; 3000];
        slave.write_all(&line).unwrap();
        proxy.drain();
        assert_eq!(file.metadata().unwrap().len(), 3000);
        slave.write_all(b"more").unwrap();
        proxy.drain();
        assert_eq!(file.metadata().unwrap().len(), 3004);
    }

    #[test]
    fn a_dead_reader_does_not_block_the_container() {
        let pty = openpty(None, None).unwrap();
        let (out_read, out_write) = pipe().unwrap();
        drop(out_read);
        let mut proxy = Proxy::new(
            pty.master,
            None,
            File::open("/dev/null").unwrap().into(),
            out_write,
        )
        .unwrap();
        let mut slave = File::from(pty.slave);
        for _ in 0..100 {
            slave.write_all(&[b'x'; 1000]).unwrap();
            while !step(&mut proxy).is_empty() {}
        }
        assert!(proxy.output.is_none());
    }

    #[test]
    fn the_size_is_that_of_the_callers_terminal() {
        let size = Winsize {
            ws_row: 50,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let caller = openpty(Some(&size), None).unwrap();
        let pty = openpty(None, None).unwrap();
        let null = || File::open("/dev/null").unwrap().into();
        let terminal = RawTerminal::of(caller.slave.try_clone().unwrap()).unwrap();
        let proxy = Proxy::new(pty.master, terminal, null(), null()).unwrap();
        assert_eq!(
            ioctl::window_size(pty.slave.as_fd()),
            Ok(WindowSize {
                rows: 50,
                columns: 132
            })
        );
        ioctl::set_window_size(
            caller.master.as_fd(),
            WindowSize {
                rows: 9,
                columns: 8,
            },
        )
        .unwrap();
        proxy.resize();
        assert_eq!(
            ioctl::window_size(pty.slave.as_fd()),
            Ok(WindowSize {
                rows: 9,
                columns: 8
            })
        );
    }
}
