//! Descriptors over a unix socket (SCM_RIGHTS): the receiving half, which must take ownership of raw numbers.
//! Called by `rootfs/sources.rs` and `proto.rs`. unix(7), cmsg(3).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::Result;

/// The most descriptors the kernel takes in one message.
pub(crate) const MAX_FDS: usize = 253;

/// Sends `fds` in one message of one byte. Never blocks: a full socket is EAGAIN.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, fds: &[OwnedFd]) -> Result<()> {
    let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &rights,
        flags,
        None,
    )
    .map(drop)
}

/// The descriptors of the next message, close-on-exec; none after the last sender has closed. Never blocks.
pub(crate) fn recv_fds(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    receive(socket, MsgFlags::MSG_DONTWAIT)
}

/// The same of a message that may still have to be sent.
pub(crate) fn await_fds(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    receive(socket, MsgFlags::empty())
}

fn receive(socket: BorrowedFd<'_>, flags: MsgFlags) -> Result<Vec<OwnedFd>> {
    let mut byte = [0_u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; MAX_FDS]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | flags;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: recvmsg has just installed `fd` in this process as a new descriptor; nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok(fds)
}
