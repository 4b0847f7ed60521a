//! Unix sockets by path and one descriptor over them: unix(7). Called by `console` and `sd_notify`.
//! Paths go through an O_PATH descriptor and /proc/self/fd, so their length has no limit (sun_path takes 107 bytes), and what
//! was verified is what is used. Host side only, where /proc is the host's.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::time::TimeVal;

use super::Result;

/// Longest wait, in seconds, of connect or send for a peer that does not accept or read.
const SEND_LIMIT: i64 = 10;

fn by_descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn new_socket(kind: SockType) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(SEND_LIMIT, 0))?;
    Ok(socket)
}

/// Connects to the socket at `path`. Anything but a socket is ENOTSOCK and is never opened, so a fifo cannot block (T2); a peer
/// that accepts nothing is EAGAIN after [`SEND_LIMIT`] seconds.
pub(crate) fn connect(path: &Path, kind: SockType) -> Result<OwnedFd> {
    let inode = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if SFlag::from_bits_truncate(fstat(&inode)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(Errno::ENOTSOCK);
    }
    let socket = new_socket(kind)?;
    let address = UnixAddr::new(&by_descriptor(inode.as_fd()))?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Connects to a socket with an abstract name. Only for names given from outside: rundlet itself makes none (I2).
pub(crate) fn connect_abstract(name: &[u8], kind: SockType) -> Result<OwnedFd> {
    let socket = new_socket(kind)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    Ok(socket)
}

/// Makes a datagram socket named `name` in the directory `dir`.
pub(crate) fn bind_datagram(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = new_socket(SockType::Datagram)?;
    bind(
        socket.as_raw_fd(),
        &UnixAddr::new(&by_descriptor(dir).join(name))?,
    )?;
    Ok(socket)
}

/// Sends `payload` in one message, with `fd` as its only descriptor. No SIGPIPE. EAGAIN: the peer did not read all of it in time.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let rights: Vec<_> = raw
        .iter()
        .map(|raw| ControlMessage::ScmRights(raw))
        .collect();
    let data = [IoSlice::new(payload)];
    loop {
        match sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &data,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            Ok(sent) if sent < payload.len() => return Err(Errno::EAGAIN),
            other => return other.map(drop),
        }
    }
}

/// The next message: its length, and its first descriptor, close-on-exec. Does not block: EAGAIN.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut iov = [IoSliceMut::new(payload)];
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut first = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: recvmsg has just installed `fd` in this process as a new descriptor; nothing else owns it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                first.get_or_insert(fd);
            }
        }
    }
    Ok((message.bytes, first))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_long_path_is_reached_and_one_descriptor_passed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let handle = std::fs::File::open(&deep).unwrap();
        let listener = UnixListener::bind(by_descriptor(handle.as_fd()).join("s")).unwrap();
        let socket = connect(&deep.join("s"), SockType::Stream).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        assert_eq!(
            receive(peer.as_fd(), &mut buffer).unwrap_err(),
            Errno::EAGAIN
        );
        send(socket.as_fd(), b"/dev/ptmx", Some(handle.as_fd())).unwrap();
        let (len, fd) = receive(peer.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"/dev/ptmx");
        assert_eq!(
            fstat(fd.unwrap()).unwrap().st_ino,
            fstat(&handle).unwrap().st_ino
        );
    }

    #[test]
    fn what_is_no_socket_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert_eq!(
            connect(&fifo, SockType::Stream).unwrap_err(),
            Errno::ENOTSOCK
        );
        assert_eq!(
            connect(Path::new("/dev/null"), SockType::Stream).unwrap_err(),
            Errno::ENOTSOCK
        );
        assert_eq!(
            connect(&dir.path().join("none"), SockType::Stream).unwrap_err(),
            Errno::ENOENT
        );
    }
}
