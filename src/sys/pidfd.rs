//! pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2): a process that cannot be mistaken for another (Z5).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::{Result, check};

fn owned(ret: libc::c_long) -> Result<OwnedFd> {
    let raw = RawFd::try_from(check(ret)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: `raw` was returned by a successful system call a moment ago as a new descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A pidfd of `pid`, close-on-exec as all pidfds. For a process that is not our own child the caller must then check that it
/// is still the one meant (start time).
pub(crate) fn open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Sends signal number `signal` (a number, because nix's `Signal` has no real-time signals). ESRCH: the process has ended.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null info makes the kernel fill in what kill(2) would; nothing else is memory.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    check(ret).map(drop)
}

/// A copy of descriptor `number` of that process, close-on-exec. Needs the right to trace it; of a process that is not
/// dumpable that is CAP_SYS_PTRACE.
pub(crate) fn take_fd(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Waits until the process has ended, at most for `limit`: false when it has not.
pub(crate) fn await_end(pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            other => return other.map(|count| count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::wait::{self, Exit};

    #[test]
    #[allow(clippy::zombie_processes)] // reaped by `wait_pidfd`
    fn a_signal_by_pidfd_ends_the_child() {
        let child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let pidfd = open(pid).unwrap();
        assert_eq!(wait::try_wait(pid), Ok(None));
        assert_eq!(
            await_end(pidfd.as_fd(), Duration::from_millis(20)),
            Ok(false)
        );
        // A real-time signal: nix could neither send nor report it.
        send_signal(pidfd.as_fd(), 40).unwrap();
        assert_eq!(await_end(pidfd.as_fd(), Duration::from_secs(60)), Ok(true));
        assert_eq!(wait::wait_pidfd(pidfd.as_fd()), Ok(Exit::Signal(40)));
        assert_eq!(send_signal(pidfd.as_fd(), 9), Err(Errno::ESRCH));
    }
}
