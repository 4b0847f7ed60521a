//! Service readiness (sd_notify(3)) and socket activation (sd_listen_fds(3)), as runc does them.
//! Called by `container` (create, start, run, exec).
//!
//! With NOTIFY_SOCKET in the environment of `create` or `run`, the container gets a socket of its own: the directory `notify` of
//! its state directory, mounted read-only, and NOTIFY_SOCKET in its environment. `start` or `run` then binds the socket in that
//! directory and relays: the first `READY=`, then `MAINPID=`, then `BARRIER=1` with a descriptor whose closing tells that the
//! host's service manager has read all that. Only then the runtime may leave, or the manager could not tell who sent it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockType;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, pipe2, read, unlinkat};

use crate::sys::unix;

/// Below a container's state directory.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// What the container's process gets in its environment.
pub(crate) const CONTAINER_ENV: &str = "NOTIFY_SOCKET=/run/notify/notify.sock";
/// How long the service manager may take to close the barrier; one that does not know it never will.
const BARRIER_LIMIT: Duration = Duration::from_secs(30);
/// Longest message a service manager takes (PIPE_BUF).
const MAX_MESSAGE: usize = 4096;

/// A mount to be added to the container's, in the words of config.json.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotifyMount {
    pub(crate) source: PathBuf,
    pub(crate) destination: &'static str,
    pub(crate) options: &'static [&'static str],
}

/// The service manager's socket, if the runtime was given one.
pub(crate) fn host_socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// What shows the socket in the container whose state directory is `state`.
pub(crate) fn mount(state: &Path) -> NotifyMount {
    NotifyMount {
        source: state.join(DIRECTORY),
        destination: "/run/notify",
        options: &["bind", "nosuid", "noexec", "nodev", "ro"],
    }
}

/// Makes the directory to be mounted, in the container's state directory.
pub(crate) fn make_directory(state: BorrowedFd<'_>) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(state, DIRECTORY, mode).with_context(|| format!("make directory `{DIRECTORY}`"))?;
    // S3: whatever the umask; any user of the container must reach the socket.
    let dir = open_directory(state).with_context(|| format!("open directory `{DIRECTORY}`"))?;
    fchmod(&dir, mode).with_context(|| format!("set the mode of directory `{DIRECTORY}`"))
}

fn open_directory(state: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    openat(
        state,
        DIRECTORY,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

enum Stage {
    AwaitReady,
    AwaitBarrier { pipe: OwnedFd, until: Instant },
    Done,
}

/// The relay, from before the container's process runs until the service manager knows.
pub(crate) struct Relay {
    container: OwnedFd,
    host: OwnedFd,
    main_pid: Pid,
    stage: Stage,
}

impl Relay {
    /// Binds the container's socket and connects to the service manager's, `host`. `main_pid` is what the manager is to watch:
    /// the container's init, as the host sees it, if the runtime leaves; the runtime itself if it stays.
    ///
    /// `None`: the container was created without NOTIFY_SOCKET, so it cannot reach a socket.
    pub(crate) fn bind(state: BorrowedFd<'_>, host: &Path, main_pid: Pid) -> Result<Option<Relay>> {
        let dir = match open_directory(state) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.with_context(|| format!("open directory `{DIRECTORY}`"))?,
        };
        let host = connect_host(host)
            .with_context(|| format!("NOTIFY_SOCKET: connect to `{}`", host.display()))?;
        // Left by a start that failed.
        match unlinkat(&dir, SOCKET, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(errno)
                    .with_context(|| format!("remove the old `{DIRECTORY}/{SOCKET}`"));
            }
        }
        let container = unix::bind_datagram(dir.as_fd(), SOCKET)
            .with_context(|| format!("make socket `{DIRECTORY}/{SOCKET}`"))?;
        let mode = Mode::from_bits_truncate(0o777);
        fchmodat(&dir, SOCKET, mode, FchmodatFlags::FollowSymlink)
            .with_context(|| format!("set the mode of `{DIRECTORY}/{SOCKET}`"))?;
        Ok(Some(Relay {
            container,
            host,
            main_pid,
            stage: Stage::AwaitReady,
        }))
    }

    /// What to poll for reading, and until when; `None` once all is done. Then, or when the time is over: [`Relay::advance`].
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, Option<Instant>)> {
        match &self.stage {
            Stage::AwaitReady => Some((self.container.as_fd(), None)),
            Stage::AwaitBarrier { pipe, until } => Some((pipe.as_fd(), Some(*until))),
            Stage::Done => None,
        }
    }

    /// Takes the next step, if there is one to be taken; never waits for the container.
    pub(crate) fn advance(&mut self) -> Result<()> {
        match &self.stage {
            Stage::AwaitReady => {
                let mut message = [0_u8; MAX_MESSAGE];
                let len = match unix::receive(self.container.as_fd(), &mut message) {
                    Ok((len, _)) => len,
                    Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                    Err(errno) => {
                        return Err(errno).context("read from the container's notify socket");
                    }
                };
                if let Some(ready) = ready_line(&message[..len]) {
                    let (pipe, until) = self
                        .announce(ready)
                        .context("NOTIFY_SOCKET: notify the service manager")?;
                    self.stage = Stage::AwaitBarrier { pipe, until };
                }
                Ok(())
            }
            Stage::AwaitBarrier { pipe, until } => {
                let outcome = read(pipe, &mut [0_u8; 1]);
                let late = Instant::now() >= *until;
                match outcome {
                    Err(Errno::EAGAIN | Errno::EINTR) if !late => return Ok(()),
                    // A manager that does not know barriers: not an error, with runc neither.
                    Ok(0) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Ok(_) => bail!(
                        "NOTIFY_SOCKET: the service manager wrote to the barrier instead of closing it"
                    ),
                    Err(errno) => return Err(errno).context("NOTIFY_SOCKET: wait for the barrier"),
                }
                self.stage = Stage::Done;
                Ok(())
            }
            Stage::Done => Ok(()),
        }
    }

    /// Sends the three messages; returns what to wait for.
    fn announce(&self, ready: &[u8]) -> Result<(OwnedFd, Instant)> {
        let host = self.host.as_fd();
        unix::send(host, &[ready, b"\n"].concat(), None)?;
        unix::send(
            host,
            format!("MAINPID={}\n", self.main_pid).as_bytes(),
            None,
        )?;
        let (pipe, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        unix::send(host, b"BARRIER=1", Some(theirs.as_fd()))?;
        Ok((pipe, Instant::now() + BARRIER_LIMIT))
    }

    /// Relays until the service manager knows, or the process behind `pidfd` has ended. For a runtime that then leaves.
    pub(crate) fn run(mut self, pidfd: BorrowedFd<'_>) -> Result<()> {
        while let Some((fd, until)) = self.interest() {
            let mut polled = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(pidfd, PollFlags::POLLIN),
            ];
            let timeout = until.map_or(PollTimeout::NONE, |until| {
                let left =
                    until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for the container to be ready"),
            }
            let (ready, ended) = (
                polled[0].any().unwrap_or(true),
                polled[1].any().unwrap_or(true),
            );
            if ended && !ready {
                return Ok(());
            }
            self.advance()?;
        }
        Ok(())
    }
}

fn connect_host(host: &Path) -> nix::Result<OwnedFd> {
    match host.as_os_str().as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => unix::connect_abstract(name, SockType::Datagram),
        [b'/', ..] => unix::connect(host, SockType::Datagram),
        // A relative path, or another family (`vsock:`).
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The first line of the message that tells about readiness.
fn ready_line(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

/// How many descriptors from 3 on a service manager passed to this very process, to be passed on (sd_listen_fds(3)).
pub(crate) fn listen_fds() -> u32 {
    let var = |name| std::env::var(name).ok();
    let count = count_listen_fds(var("LISTEN_PID").as_deref(), var("LISTEN_FDS").as_deref());
    count
        .filter(|(pid, _)| *pid == Pid::this().as_raw())
        .map_or(0, |(_, count)| count)
}

/// LISTEN_PID tells who is meant: the variables may have been inherited from somebody else.
fn count_listen_fds(pid: Option<&str>, count: Option<&str>) -> Option<(i32, u32)> {
    Some((pid?.parse().ok()?, count?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixDatagram;

    use nix::fcntl::open;

    use super::*;
    use crate::sys::pidfd;

    fn open_state(path: &Path) -> OwnedFd {
        open(
            path,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .unwrap()
    }

    #[test]
    fn ready_is_found_in_any_line() {
        assert_eq!(ready_line(b"READY=1"), Some(&b"READY=1"[..]));
        assert_eq!(
            ready_line(b"STATUS=x\nREADY=1\nX=2\n"),
            Some(&b"READY=1"[..])
        );
        assert_eq!(ready_line(b"STATUS=READY=1\nNOTREADY=1"), None);
        assert_eq!(ready_line(b""), None);
    }

    #[test]
    fn listen_fds_are_for_the_named_process_only() {
        assert_eq!(count_listen_fds(Some("42"), Some("3")), Some((42, 3)));
        for (pid, count) in [
            (None, Some("3")),
            (Some("42"), None),
            (Some("42"), Some("-1")),
            (Some(""), Some("x")),
        ] {
            assert_eq!(count_listen_fds(pid, count), None);
        }
    }

    #[test]
    fn readiness_is_relayed_and_the_barrier_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("host.sock")).unwrap();
        let state = open_state(dir.path());
        make_directory(state.as_fd()).unwrap();
        let mount = mount(dir.path());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&mount.source), 0o755);

        let bind = || {
            Relay::bind(
                state.as_fd(),
                &dir.path().join("host.sock"),
                Pid::from_raw(4711),
            )
            .unwrap()
            .unwrap()
        };
        drop(bind());
        // A second start after a failed one.
        let mut relay = bind();
        assert_eq!(mode(&mount.source.join(SOCKET)), 0o777);
        let service = UnixDatagram::unbound().unwrap();
        service.connect(mount.source.join(SOCKET)).unwrap();

        relay.advance().unwrap();
        service.send(b"STATUS=warming up").unwrap();
        relay.advance().unwrap();
        assert!(matches!(relay.stage, Stage::AwaitReady));
        service.send(b"READY=1\nSTATUS=fine").unwrap();
        relay.advance().unwrap();
        let expect = |text: &[u8]| {
            let mut buffer = [0; 128];
            let (len, fd) = unix::receive(manager.as_fd(), &mut buffer).unwrap();
            assert_eq!(&buffer[..len], text);
            fd
        };
        expect(b"READY=1\n");
        expect(b"MAINPID=4711\n");
        let barrier = expect(b"BARRIER=1").unwrap();
        let (_, until) = relay.interest().unwrap();
        assert!(until.unwrap() > Instant::now() + Duration::from_secs(20));
        relay.advance().unwrap();
        assert!(matches!(relay.stage, Stage::AwaitBarrier { .. }));
        drop(barrier);
        relay
            .run(pidfd::open(Pid::this()).unwrap().as_fd())
            .unwrap();
    }

    #[test]
    fn a_dead_container_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let _manager = UnixDatagram::bind(dir.path().join("h")).unwrap();
        let state = open_state(dir.path());
        make_directory(state.as_fd()).unwrap();
        let relay = Relay::bind(state.as_fd(), &dir.path().join("h"), Pid::this())
            .unwrap()
            .unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd::open(Pid::from_raw(child.id().cast_signed())).unwrap();
        relay.run(pidfd.as_fd()).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn no_directory_no_relay_and_odd_addresses_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = open_state(dir.path());
        let bind = |host: &str| Relay::bind(state.as_fd(), Path::new(host), Pid::this());
        assert!(bind("/nowhere").unwrap().is_none());
        make_directory(state.as_fd()).unwrap();
        for (host, text) in [
            ("vsock:2:1", "EAFNOSUPPORT"),
            ("/dev/null", "ENOTSOCK"),
            ("/nowhere", "ENOENT"),
            ("@", "EAF"),
        ] {
            let error = format!("{:#}", bind(host).err().unwrap());
            assert!(
                error.starts_with("NOTIFY_SOCKET: connect to `") && error.contains(text),
                "{error}"
            );
        }
    }
}
