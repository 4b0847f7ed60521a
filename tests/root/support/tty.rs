//! Both ends of terminals: the console socket as an engine holds it, and a pty for `run -t`.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::Cx;

/// The listening end of `--console-socket`.
pub(crate) struct ConsoleSocket {
    pub(crate) path: PathBuf,
    listener: UnixListener,
}

/// What came over the socket in one message.
pub(crate) struct Received {
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) data: Vec<u8>,
}

impl Cx {
    pub(crate) fn console_socket(&self) -> ConsoleSocket {
        let path = self.dir.join("tty.sock");
        let listener = UnixListener::bind(&path).unwrap();
        ConsoleSocket { path, listener }
    }
}

impl ConsoleSocket {
    /// Takes one connection and its first message.
    pub(crate) fn receive(&self) -> Received {
        wait_readable(&self.listener, "a connection to the console socket");
        let (stream, _) = self.listener.accept().unwrap();
        receive_message(&stream)
    }

    /// The one descriptor of the first message, as a terminal.
    pub(crate) fn terminal(&self) -> Terminal {
        let mut received = self.receive();
        assert_eq!(received.fds.len(), 1, "exactly one descriptor");
        Terminal::of_master(received.fds.remove(0))
    }
}

/// The first message of a connection.
pub(crate) fn receive_message(stream: &UnixStream) -> Received {
    wait_readable(stream, "a message on the socket");
    let mut data = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let mut parts = [IoSliceMut::new(&mut data)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let mut fds = Vec::new();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(raw) = part {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor for this message, and
                // nothing else in the process knows its number.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let bytes = message.bytes;
    Received {
        fds,
        data: data[..bytes].to_vec(),
    }
}

fn wait_readable(fd: impl AsFd, what: &str) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap();
    assert!(ready > 0, "not within 10 s: {what}");
}

/// The master side of a pty, with all it has shown so far.
pub(crate) struct Terminal {
    pub(crate) master: File,
    pub(crate) seen: String,
    /// Kept so that the size and the modes can still be read after the program has ended.
    slave: Option<OwnedFd>,
}

impl Terminal {
    pub(crate) fn of_master(master: OwnedFd) -> Self {
        Self {
            master: File::from(master),
            seen: String::new(),
            slave: None,
        }
    }

    /// The slave of a pty that [`Terminal::open`] made.
    pub(crate) fn slave(&self) -> &OwnedFd {
        self.slave.as_ref().expect("a pty opened here")
    }

    /// A new pty; the second value is the slave.
    pub(crate) fn open(rows: u16, columns: u16) -> (Self, OwnedFd) {
        let size = nix::pty::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let slave = pty.slave.try_clone().unwrap();
        (
            Self {
                master: File::from(pty.master),
                seen: String::new(),
                slave: Some(pty.slave),
            },
            slave,
        )
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has been seen.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.seen);
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(100_u16)).unwrap() == 0 {
                continue;
            }
            let mut data = [0; 1024];
            match self.master.read(&mut data) {
                Ok(0) | Err(_) => panic!("the terminal was closed; no {text:?} in {:?}", self.seen),
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&data[..count])),
            }
        }
    }
}
