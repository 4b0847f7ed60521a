//! One hook as a process: started, watched until it ends or its time is over, the end of its output kept. Called by `mod.rs`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, pipe2, read};

use crate::plan::hooks::Hook;
use crate::sys::pidfd;
use crate::sys::wait::{Exit, try_wait};

/// How much of the end of a failed hook's output goes into the error.
pub(super) const TAIL: usize = 1024;
/// Pace of looking at the hook where no pidfd is to be had (a seccomp filter of the container without pidfd_open).
const BLIND_PACE: Duration = Duration::from_millis(10);

/// Reading end, non-blocking, and writing end, which is an open file of its own and blocks as programs expect.
pub(super) fn output_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (output, write_end) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((output, write_end))
}

/// posix_spawn rather than fork: no copy of the page tables, and the errno of a failed execve comes back.
pub(super) fn spawn(
    hook: &Hook,
    env: &[String],
    stdin: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Pid> {
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(text.as_bytes()))
            .collect::<Result<Vec<_>, _>>()
    };
    let (args, env) = (
        strings(&hook.args).context("args")?,
        strings(env).context("env")?,
    );
    let mut files = PosixSpawnFileActions::init()?;
    files.add_dup2(stdin.as_raw_fd(), libc::STDIN_FILENO)?;
    files.add_dup2(output.as_raw_fd(), libc::STDOUT_FILENO)?;
    files.add_dup2(output.as_raw_fd(), libc::STDERR_FILENO)?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    posix_spawn(hook.path.as_str(), &files, &attributes, &args, &env).context("execute")
}

/// A running hook.
pub(super) struct Watch {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    /// `None` after its end of file.
    output: Option<OwnedFd>,
    tail: Vec<u8>,
}

impl Watch {
    pub(super) fn new(pid: Pid, output: OwnedFd) -> Watch {
        Watch {
            pid,
            pidfd: pidfd::open(pid).ok(),
            output: Some(output),
            tail: Vec::new(),
        }
    }

    /// Reads output until the hook has ended (and is reaped) or `deadline` has passed: `None`.
    pub(super) fn until(&mut self, deadline: Option<Instant>) -> Result<Option<Exit>> {
        loop {
            if let Some(exit) = try_wait(self.pid).context("wait for the hook")? {
                self.read_output();
                return Ok(Some(exit));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.sleep(left)?;
            self.read_output();
        }
    }

    /// Sleeps until the hook has ended or written, or for `left`.
    fn sleep(&self, left: Option<Duration>) -> Result<()> {
        let fds = [self.pidfd.as_ref(), self.output.as_ref()];
        let mut polled: Vec<_> = fds
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        let left = if self.pidfd.is_some() {
            left
        } else {
            Some(left.map_or(BLIND_PACE, |left| left.min(BLIND_PACE)))
        };
        match poll(&mut polled, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("wait for the hook"),
        }
    }

    /// Takes what is in the pipe, keeping its tail only.
    fn read_output(&mut self) {
        let Some(output) = &self.output else { return };
        let mut buffer = [0_u8; 4096];
        // Bounded by one pipe's worth, so that a hook that never stops writing cannot hold off its timeout.
        for _ in 0..16 {
            match read(output, &mut buffer) {
                Ok(0) => {
                    self.output = None;
                    return;
                }
                Ok(len) => {
                    self.tail.extend_from_slice(&buffer[..len]);
                    let surplus = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..surplus);
                }
                Err(_) => return,
            }
        }
    }

    /// What the hook printed last, on one line, for the end of a message.
    pub(super) fn printed(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<_> = text
            .split(char::is_control)
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!(", output: {}", lines.join("; "))
        }
    }
}

/// Rounded up, so that a deadline has passed when poll says so.
fn timeout(left: Option<Duration>) -> PollTimeout {
    left.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_pidfd_the_end_is_seen_too() {
        let args = ["sh", "-c", "exit 7"].map(str::to_owned).to_vec();
        let hook = Hook {
            path: "/bin/sh".into(),
            args,
            env: None,
            timeout: None,
        };
        let ((stdin, _), (output, write_end)) = (output_pipe().unwrap(), output_pipe().unwrap());
        let pid = spawn(&hook, &[], stdin.as_fd(), write_end.as_fd()).unwrap();
        let mut watch = Watch {
            pid,
            pidfd: None,
            output: Some(output),
            tail: Vec::new(),
        };
        assert_eq!(watch.until(None).unwrap(), Some(Exit::Code(7)));
    }
}
