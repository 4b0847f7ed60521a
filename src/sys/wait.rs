//! waitid(2). nix's version fails for a child killed by a real-time signal, after having reaped it.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Result, check};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a shell and every runtime reports it: the code, or 128 + the signal's number.
    pub(crate) fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> Result<Option<(Pid, Exit)>> {
    // SAFETY: siginfo_t is plain data; all-zero also makes "nobody has ended" (pid 0) recognizable under WNOHANG.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the kernel writes one siginfo_t into the live `info`.
        let ret = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | options) };
        match check(ret.into()) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid filled the child fields, or left the zeros.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    };
    Ok(Some((Pid::from_raw(pid), exit)))
}

/// Waits for the child behind `pidfd` to end, and reaps it.
pub(crate) fn wait_pidfd(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    let id = pidfd.as_raw_fd().cast_unsigned();
    waitid(libc::P_PIDFD, id, 0)?
        .map(|(_, exit)| exit)
        .ok_or(Errno::ECHILD)
}

/// Waits for the child `pid` to end, and reaps it.
#[cfg(test)]
pub(crate) fn wait_child(pid: Pid) -> Result<Exit> {
    waitid(libc::P_PID, pid.as_raw().cast_unsigned(), 0)?
        .map(|(_, exit)| exit)
        .ok_or(Errno::ECHILD)
}

/// Reaps the child `pid` if it has ended.
pub(crate) fn try_wait(pid: Pid) -> Result<Option<Exit>> {
    Ok(waitid(libc::P_PID, pid.as_raw().cast_unsigned(), libc::WNOHANG)?.map(|(_, exit)| exit))
}

/// Some child that has ended, left unreaped.
pub(crate) fn peek_any() -> Result<Option<Pid>> {
    match waitid(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT) {
        Err(Errno::ECHILD) => Ok(None),
        other => Ok(other?.map(|(pid, _)| pid)),
    }
}
