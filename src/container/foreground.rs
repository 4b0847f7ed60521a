//! The runtime while its container runs in the foreground (`run`, `exec` without `--detach`): forwards signals, copies the
//! terminal, relays readiness, reaps orphans, and ends with the container's process. One thread, one poll loop.
//!
//! Without a terminal nothing is copied: the container has the caller's stdio itself.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::console::{Proxy, Side};
use crate::sd_notify::Relay;
use crate::sys::wait::{self, Exit};
use crate::sys::{fd, pidfd};

/// All signals, as they come in.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal of this process for good and keeps them for [`wait`]. Before the clone, so that none gets lost; the
    /// child must empty its mask (X5). SIGCHLD is not ignored by now, or the kernel would throw exit codes away.
    ///
    /// The mask is never restored: a signal that came too late to be forwarded would end the runtime before it has cleaned up.
    pub(crate) fn catch() -> Result<Signals> {
        let all = SigSet::all();
        all.thread_block().context("block signals")?;
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("make a signalfd")?;
        Ok(Signals(fd))
    }
}

/// Makes the orphans of the container this process's children, so that they are reaped here (unless `--no-subreaper`). Before
/// the clone.
pub(crate) fn become_subreaper() -> Result<()> {
    set_child_subreaper(true).context("become the reaper of orphans")
}

/// The process waited for; a child of this one.
#[derive(Clone, Copy)]
pub(crate) struct Waited<'a> {
    pub(crate) pid: Pid,
    pub(crate) pidfd: BorrowedFd<'a>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    /// Why readiness could not be relayed. Does not concern the container, which went on.
    pub(crate) notify_error: Option<Error>,
}

/// What poll reported.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Exit,
    Terminal(Side),
    Notify,
}

/// Waits until the process has ended, and reaps it. Everything it wrote to its terminal has then been passed on.
pub(crate) fn wait(
    signals: &Signals,
    waited: Waited<'_>,
    mut terminal: Option<&mut Proxy>,
    mut relay: Option<Relay>,
) -> Result<Outcome> {
    // It may be for days.
    fd::close_done();
    let mut notify_error = None;
    loop {
        let ready = poll_all(signals, waited, terminal.as_deref(), relay.as_ref())?;
        let mut ended = false;
        for source in ready {
            match (source, terminal.as_deref_mut()) {
                (Source::Signals, terminal) => handle_signals(signals, waited, terminal)?,
                (Source::Exit, _) => ended = true,
                (Source::Terminal(side), Some(terminal)) => terminal.advance(side),
                (Source::Terminal(_), None) => {}
                (Source::Notify, _) => {
                    if let Some(Err(error)) = relay.as_mut().map(Relay::advance) {
                        notify_error = Some(error);
                        relay = None;
                    }
                }
            }
        }
        if ended {
            if let Some(terminal) = terminal {
                terminal.drain();
            }
            let exit =
                wait::wait_pidfd(waited.pidfd).context("wait for the container's process")?;
            return Ok(Outcome { exit, notify_error });
        }
    }
}

fn poll_all(
    signals: &Signals,
    waited: Waited<'_>,
    terminal: Option<&Proxy>,
    relay: Option<&Relay>,
) -> Result<Vec<Source>> {
    let mut sources = vec![Source::Signals, Source::Exit];
    let mut polled = vec![
        PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
        PollFd::new(waited.pidfd, PollFlags::POLLIN),
    ];
    for (side, fd, flags) in terminal.map(Proxy::interests).unwrap_or_default() {
        sources.push(Source::Terminal(side));
        polled.push(PollFd::new(fd, flags));
    }
    let mut timeout = PollTimeout::NONE;
    if let Some((fd, until)) = relay.and_then(Relay::interest) {
        sources.push(Source::Notify);
        polled.push(PollFd::new(fd, PollFlags::POLLIN));
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        }
    }
    let count = match poll(&mut polled, timeout) {
        Err(Errno::EINTR) => return Ok(Vec::new()),
        other => other.context("wait for the container's process")?,
    };
    if count == 0 {
        // Only the relay has a deadline.
        return Ok(vec![Source::Notify]);
    }
    let ready = sources
        .into_iter()
        .zip(polled)
        .filter(|(_, fd)| fd.revents().is_none_or(|events| !events.is_empty()));
    Ok(ready.map(|(source, _)| source).collect())
}

fn handle_signals(
    signals: &Signals,
    waited: Waited<'_>,
    mut terminal: Option<&mut Proxy>,
) -> Result<()> {
    while let Some(info) = signals.0.read_signal().context("read a signal")? {
        let number = info.ssi_signo.cast_signed();
        match number {
            libc::SIGCHLD => reap_orphans(waited.pid)?,
            libc::SIGWINCH => {
                if let Some(terminal) = terminal.as_deref_mut() {
                    terminal.resize();
                }
            }
            // runc never forwards it (its language runtime sends it to itself), and nothing relies on it.
            libc::SIGURG => {}
            // This process's own failed write to a caller who is gone, not a message to the container.
            libc::SIGPIPE if info.ssi_pid == Pid::this().as_raw().cast_unsigned() => {}
            _ => match pidfd::send_signal(waited.pidfd, number) {
                // It has just ended: seen in the next round.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("forward signal {number} to the container"));
                }
            },
        }
    }
    Ok(())
}

/// Reaps every child that has ended but the one waited for, which is left for its pidfd.
fn reap_orphans(waited: Pid) -> Result<()> {
    while let Some(pid) = wait::peek_any().context("look for ended children")? {
        if pid == waited {
            break;
        }
        wait::try_wait(pid).with_context(|| format!("reap process {pid}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::testing;

    /// A child without the blocked signals of its parent: what `init` does for a container.
    fn shell(script: &str) -> (Pid, OwnedFd) {
        let child = Command::new("env")
            .args(["--block-signal=", "--default-signal", "sh", "-c", script])
            .spawn();
        let pid = Pid::from_raw(child.map(|child| child.id().cast_signed()).unwrap());
        (pid, pidfd::open(pid).unwrap())
    }

    fn wait_for(signals: &Signals, (pid, pidfd): &(Pid, OwnedFd)) -> Exit {
        wait(
            signals,
            Waited {
                pid: *pid,
                pidfd: pidfd.as_fd(),
            },
            None,
            None,
        )
        .unwrap()
        .exit
    }

    #[test]
    fn exits_signals_and_orphans() {
        testing::in_own_process("container::foreground::tests::exits_signals_and_orphans_alone");
    }

    #[test]
    #[ignore = "run by exits_signals_and_orphans in a process of its own"]
    fn exits_signals_and_orphans_alone() {
        testing::single_threaded(exits_signals_and_orphans_body);
    }

    fn exits_signals_and_orphans_body() {
        become_subreaper().unwrap();
        let signals = Signals::catch().unwrap();
        assert_eq!(wait_for(&signals, &shell("exit 7")).status(), 7);
        assert_eq!(wait_for(&signals, &shell("kill -9 $$")).status(), 137);

        // Forwarded, also those a runtime has no name for; SIGURG, SIGWINCH and its own SIGPIPE are not.
        for (signal, status) in [(libc::SIGTERM, 12), (libc::SIGHUP, 11), (40, 13)] {
            let script = "trap 'kill $!; exit 12' TERM; trap 'kill $!; exit 11' HUP; trap 'kill $!; exit 13' 40
                trap 'exit 1' URG WINCH PIPE; kill -URG $PPID; kill -WINCH $PPID; sleep 20 & wait; exit 2";
            let child = shell(script);
            let (reader, writer) = nix::unistd::pipe().unwrap();
            drop(reader);
            assert_eq!(nix::unistd::write(&writer, b"x"), Err(Errno::EPIPE));
            // Sent late enough for the traps to be set.
            let late = Command::new("sh")
                .args(["-c", &format!("sleep 1; kill -{signal} $PPID")])
                .spawn()
                .unwrap();
            assert_eq!(wait_for(&signals, &child).status(), status);
            drop(late);
        }

        // The orphan outlives its parent, ends while another process is waited for, and leaves no zombie.
        let orphan = shell("(sleep 1; exit 3) & exit 0");
        assert_eq!(wait_for(&signals, &orphan).status(), 0);
        assert_eq!(wait_for(&signals, &shell("sleep 2")).status(), 0);
        assert_eq!(wait::peek_any(), Ok(None));
    }

    /// The whole of a foreground `run -t` but the container: the runtime's stdio is a pty, the container's process has
    /// another one.
    #[test]
    fn a_terminal_in_the_foreground() {
        let caller = nix::pty::openpty(None, None).unwrap();
        let stdio = || Stdio::from(caller.slave.try_clone().unwrap());
        let test = testing::own_process(
            "container::foreground::tests::a_terminal_in_the_foreground_alone",
        );
        let mut runtime = Command::new("setsid");
        runtime
            .arg("--ctty")
            .arg(test.get_program())
            .args(test.get_args());
        let mut runtime = runtime
            .stdin(stdio())
            .stdout(stdio())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut keyboard = std::fs::File::from(caller.master.try_clone().unwrap());
        let mut screen = std::fs::File::from(caller.master);
        let mut shown = String::new();
        let mut read_until = |wanted: &str| {
            let mut buffer = [0; 4096];
            while !shown.contains(wanted) {
                let len = screen.read(&mut buffer).unwrap();
                shown.push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
            shown.clone()
        };
        read_until("ready");
        crate::sys::ioctl::set_window_size(
            keyboard.as_fd(),
            crate::sys::ioctl::WindowSize {
                rows: 21,
                columns: 43,
            },
        )
        .unwrap();
        keyboard.write_all(b"hello\n").unwrap();
        let seen = read_until("bye");
        assert!(seen.contains("got hello, 21 43"), "{seen}");
        drop(caller.slave);
        let status = runtime.wait().unwrap();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(0), None),
            "{}",
            read_until("bye")
        );
    }

    #[test]
    #[ignore = "run by a_terminal_in_the_foreground in a process of its own"]
    fn a_terminal_in_the_foreground_alone() {
        testing::single_threaded(a_terminal_in_the_foreground_body);
    }

    #[allow(clippy::zombie_processes)] // `wait` reaps it
    fn a_terminal_in_the_foreground_body() {
        let raw = crate::console::RawTerminal::enter().unwrap();
        assert!(raw.is_some());
        let signals = Signals::catch().unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let script = "stty -echo; printf ready; read line; echo \"got $line, $(stty size)\"; seq 20000; printf bye; exit 9";
        let mut command = Command::new("setsid");
        command.args([
            "env",
            "--block-signal=",
            "--default-signal",
            "sh",
            "-c",
            script,
        ]);
        let child = command
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        drop((command, pty.slave));
        let pid = Pid::from_raw(child.id().cast_signed());
        let pidfd = pidfd::open(pid).unwrap();
        let mut proxy = Proxy::to_stdio(pty.master, raw).unwrap();
        let waited = Waited {
            pid,
            pidfd: pidfd.as_fd(),
        };
        assert_eq!(
            wait(&signals, waited, Some(&mut proxy), None).unwrap().exit,
            Exit::Code(9)
        );
    }
}
