//! A synchronous D-Bus connection: whole messages out and in over one Unix socket, each wait with a deadline. Called by
//! `manager`, which knows what is said.
//!
//! The authentication is one round trip. It cannot be sent together with the first message: systemd's private socket takes
//! what comes with it out of the socket and then waits for more. It names no uid: the other side takes the one it sees on the
//! socket, which is also right when this process is in a user namespace and knows itself by another number.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, send, sockopt::PeerCredentials};

use super::wire::{self, Call, Message};
use crate::cgroup::procs::{self, Backoff, Deadline};
use crate::sys::unix;

/// Longest wait for one answer, and for one job of systemd.
const LIMIT: Duration = Duration::from_secs(30);
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// The answers to it are two short lines.
const LONGEST_LINE: usize = 1024;

/// Where a bus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

impl Address {
    /// `unix:path=/run/x,guid=...;unix:abstract=...`: all of a list that can be used, in its order.
    pub(crate) fn parse(list: &str) -> Vec<Self> {
        let one = |address: &str| {
            let (_, keys) = address.split_once(':').filter(|(t, _)| *t == "unix")?;
            keys.split(',').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                let value = unescape(value)?;
                match key {
                    "path" => Some(Self::Path(PathBuf::from(
                        <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(value),
                    ))),
                    "abstract" => Some(Self::Abstract(value)),
                    _ => None,
                }
            })
        };
        list.split(';').filter_map(one).collect()
    }

    fn connect(&self) -> nix::Result<OwnedFd> {
        match self {
            Self::Path(path) => unix::connect(path, SockType::Stream),
            Self::Abstract(name) => unix::connect_abstract(name, SockType::Stream),
        }
    }
}

/// `%2f` is a slash.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            u8::try_from(value).ok()?
        } else {
            byte
        });
    }
    Some(out)
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    address: Address,
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    authenticated: bool,
    serial: u32,
    until: Deadline,
}

impl Connection {
    /// Sends nothing yet.
    pub(crate) fn open(address: Address) -> Result<Self> {
        let until = Deadline::after(LIMIT);
        let mut backoff = Backoff::new(until);
        let socket = loop {
            match address.connect() {
                // Many at once: the queue of those who wait to be accepted is full.
                Err(Errno::EAGAIN) if backoff.wait() => {}
                result => break result.with_context(|| format!("connect to `{address}`"))?,
            }
        };
        // Process ids are numbers for both only within one pid namespace; otherwise systemd would take hold of a stranger.
        let peer = getsockopt(&socket, PeerCredentials).context("SO_PEERCRED")?;
        ensure!(
            peer.pid() != 0,
            "`{address}` is served from outside of this pid namespace, where process ids mean other processes"
        );
        Ok(Self {
            socket,
            address,
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            authenticated: false,
            serial: 0,
            until,
        })
    }

    /// All that is received from here on has to come within the usual time.
    pub(crate) fn start_clock(&mut self) {
        self.until = Deadline::after(LIMIT);
    }

    /// To be sent before the next wait. The number by which its reply is known.
    pub(crate) fn queue(&mut self, call: &Call<'_>) -> u32 {
        self.serial += 1;
        self.outgoing.extend(call.encode(self.serial));
        self.serial
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Result<Message> {
        self.receive_whole()
            .with_context(|| format!("D-Bus at `{}`", self.address))
    }

    fn receive_whole(&mut self) -> Result<Message> {
        if !self.authenticated {
            self.authenticate()?;
        }
        let outgoing = std::mem::take(&mut self.outgoing);
        self.send(&outgoing)?;
        loop {
            let start: Vec<u8> = self.incoming.iter().copied().take(wire::FIXED).collect();
            if let Some(length) = wire::message_length(&start)?
                && self.incoming.len() >= length
            {
                let bytes: Vec<u8> = self.incoming.drain(..length).collect();
                return wire::decode(&bytes);
            }
            self.fill()?;
        }
    }

    /// The socket has a limit of its own for a peer that does not read.
    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("send"),
            }
        }
        Ok(())
    }

    fn authenticate(&mut self) -> Result<()> {
        self.send(AUTHENTICATION)?;
        let challenge = self.line()?;
        ensure!(
            challenge == "DATA",
            "authentication was refused: `{}`",
            challenge.escape_debug()
        );
        let answer = self.line()?;
        ensure!(
            answer.starts_with("OK"),
            "authentication was refused: `{}`",
            answer.escape_debug()
        );
        self.authenticated = true;
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.incoming.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.incoming.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            ensure!(
                self.incoming.len() < LONGEST_LINE,
                "authentication: a line without an end"
            );
            self.fill()?;
        }
    }

    /// Waits for more bytes.
    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0u8; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => bail!("the connection was closed by the other side"),
                Ok(count) => {
                    self.incoming.extend(&buffer[..count]);
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    ensure!(
                        !self.until.is_over(),
                        "no answer from `{}` within {} s",
                        self.address,
                        LIMIT.as_secs()
                    );
                    let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut polled, procs::timeout(self.until.left())) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno).context("poll"),
                    }
                }
                Err(errno) => return Err(errno).context("receive"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |p: &str| Address::Path(p.into());
        assert_eq!(
            Address::parse("unix:path=/run/user/1000/bus,guid=12;unix:abstract=/tmp/x%2c"),
            [
                path("/run/user/1000/bus"),
                Address::Abstract(b"/tmp/x,".to_vec())
            ]
        );
        assert_eq!(Address::parse("unix:guid=1,path=/a%20b"), [path("/a b")]);
        for none in ["", "tcp:host=x", "unix:runtime=yes", "unix:path=%2", "x"] {
            assert!(Address::parse(none).is_empty(), "{none}");
        }
    }

    /// A connection to a peer that has said `answer` and then does as told.
    fn to(answer: &[u8]) -> (Connection, std::os::unix::net::UnixStream) {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut theirs, answer).unwrap();
        let connection = Connection {
            socket: ours.into(),
            address: Address::Path("/test".into()),
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            authenticated: false,
            serial: 0,
            until: Deadline::after(Duration::from_millis(50)),
        };
        (connection, theirs)
    }

    fn error(answer: &[u8]) -> String {
        let (mut connection, peer) = to(answer);
        if answer.is_empty() {
            return format!("{:#}", connection.receive().unwrap_err());
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = peer;
                let mut seen = [0; AUTHENTICATION.len()];
                std::io::Read::read_exact(&mut peer, &mut seen).unwrap();
                assert_eq!(seen, AUTHENTICATION);
            });
            format!("{:#}", connection.receive().unwrap_err())
        })
    }

    #[test]
    fn what_a_peer_can_do_wrong() {
        let closed = "closed by the other side";
        for (answer, why) in [
            (&b"DATA\r\nREJECTED EXTERNAL\r\n"[..], "refused: `REJECTED"),
            (b"REJECTED\r\n", "refused: `REJECTED"),
            (b"DATA\r\nOK 12\r\n", closed),
            (b"DATA\r\nOK 12\r\nl\x02", closed),
            (
                b"DATA\r\nOK 12\r\nhello, this is no message",
                "no D-Bus message starts",
            ),
            (&[b'x'; 2000], "without an end"),
            (b"", "no answer within"),
        ] {
            let text = error(answer);
            assert!(text.starts_with("D-Bus at `/test`: "), "{text}");
            assert!(text.contains(why), "{text}");
        }
    }
}
