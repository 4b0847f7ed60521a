//! Waiting for what happens in a container's cgroup: the kernel kills for want of memory, the last process ends. One poll,
//! no thread. v2 wakes on its `.events` files; v1 has an eventfd for the first and nothing for the second, so there the
//! container's init is watched, and once that is gone the list of processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{Whence, lseek};

use super::dir::{Dir, is_gone, keyed, read_all};
use super::procs::{self, Deadline};
use super::systemd::Unit;
use super::{Cgroup, Kind};
use crate::log;
use crate::sys::fd;

/// How often v1 is asked whether the processes that init left behind are gone.
const AFTER_INIT: Duration = Duration::from_millis(100);

const NO_MEMORY: &str = "no memory controller for this container: OOM events will not be seen";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The kernel has killed at least once more.
    Oom,
    /// No process is left, or the cgroup is gone.
    Empty,
    /// The time is over.
    Nothing,
}

/// Armed when it is made: what happens from then on is seen.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    kind: Armed<'a>,
}

#[derive(Debug)]
enum Armed<'a> {
    V2 {
        state: OwnedFd,
        /// With the kills that were counted so far.
        memory: Option<(OwnedFd, u64)>,
    },
    V1 {
        memory: Option<(EventFd, &'a Dir)>,
        all: &'a Dir,
        /// `None` once it has ended.
        init: Option<BorrowedFd<'a>>,
    },
}

impl Cgroup {
    /// `init` is the pidfd of a process that lives as long as the container.
    pub(crate) fn watch<'a>(&'a self, init: BorrowedFd<'a>) -> Result<Watch<'a>> {
        let gone = "the container's cgroup is gone";
        let kind = match &self.kind {
            Kind::None => bail!("the container has no cgroup whose events could be seen"),
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => arm_v2(c.dir().context(gone)?)?,
            Kind::V1(c) => Armed::V1 {
                memory: c.of("memory").map(arm_v1).transpose()?,
                all: c.dir().context(gone)?,
                init: Some(init),
            },
        };
        if matches!(
            kind,
            Armed::V2 { memory: None, .. } | Armed::V1 { memory: None, .. }
        ) {
            log::warn(format_args!("{NO_MEMORY}"));
        }
        Ok(Watch { kind })
    }
}

fn arm_v2(dir: &Dir) -> Result<Armed<'static>> {
    let open = |file: &str| {
        dir.open_file(file, OFlag::O_RDONLY)
            .with_context(|| format!("open `{dir}/{file}`"))
    };
    let memory = if dir.has("memory.events") {
        let fd = open("memory.events")?;
        let text = read_all(&fd).with_context(|| format!("read `{dir}/memory.events`"))?;
        Some((fd, kills(&text)))
    } else {
        None
    };
    Ok(Armed::V2 {
        state: open("cgroup.events")?,
        memory,
    })
}

/// OOM kills alone, for who watches many containers in one poll.
#[derive(Debug)]
pub(crate) enum OomBell {
    /// With the kills that were counted so far.
    V2(OwnedFd, u64),
    V1(EventFd),
}

impl OomBell {
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        match self {
            OomBell::V2(file, _) => PollFd::new(file.as_fd(), PollFlags::POLLPRI),
            OomBell::V1(event) => PollFd::new(event.as_fd(), PollFlags::POLLIN),
        }
    }

    /// Whether there was a kill since the last time. What cannot be read has gone, which is seen elsewhere.
    pub(crate) fn has_rung(&mut self, cgroup: &Cgroup) -> bool {
        match (self, &cgroup.kind) {
            (OomBell::V2(file, known), _) => {
                let count = read_again(file).map_or(*known, |text| kills(&text));
                count > std::mem::replace(known, count)
            }
            (OomBell::V1(event), Kind::V1(c)) => rings(event, c.of("memory")),
            (OomBell::V1(_), _) => false,
        }
    }
}

/// The kernel says so before it kills. The removal of the cgroup makes the same sign.
fn rings(event: &EventFd, dir: Option<&Dir>) -> bool {
    event.read().is_ok() && dir.is_some_and(|dir| dir.has("cgroup.event_control"))
}

impl Cgroup {
    /// None without a memory controller.
    pub(crate) fn oom_bell(&self) -> Result<Option<OomBell>> {
        Ok(match &self.kind {
            Kind::None => None,
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => {
                match c.dir().map(arm_v2).transpose()? {
                    Some(Armed::V2 { memory, .. }) => {
                        memory.map(|(file, known)| OomBell::V2(file, known))
                    }
                    _ => None,
                }
            }
            Kind::V1(c) => {
                let armed = c.of("memory").map(arm_v1).transpose()?;
                armed.map(|(event, _)| OomBell::V1(event))
            }
        })
    }
}

fn kills(text: &str) -> u64 {
    keyed(text, "oom_kill").unwrap_or_default()
}

fn arm_v1(dir: &Dir) -> Result<(EventFd, &Dir)> {
    use std::os::fd::AsRawFd as _;
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .context("make an eventfd")?;
    let control = dir
        .open_file("memory.oom_control", OFlag::O_RDONLY)
        .with_context(|| format!("open `{dir}/memory.oom_control`"))?;
    // The kernel keeps what it needs of the second one.
    dir.write_named(
        "cgroup.event_control",
        &format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd()),
    )?;
    Ok((event, dir))
}

impl Watch<'_> {
    /// An OOM kill is told before the end that it may have caused.
    pub(crate) fn wait(&mut self, until: Deadline) -> Result<Happened> {
        loop {
            let now = match self.look() {
                Err(errno) if is_gone(errno) => return Ok(Happened::Empty),
                result => result.context("read the container's cgroup events")?,
            };
            if now != Happened::Nothing || until.is_over() {
                return Ok(now);
            }
            match self.poll(until.left()) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("poll the container's cgroup events"),
            }
        }
    }

    /// What is true now. Kills are looked at after the processes: one that came between the two looks is not lost.
    fn look(&mut self) -> nix::Result<Happened> {
        let empty = self.is_empty()?;
        let killed = match &mut self.kind {
            Armed::V2 {
                memory: Some((fd, known)),
                ..
            } => {
                let count = kills(&read_again(fd)?);
                count > std::mem::replace(known, count)
            }
            Armed::V1 {
                memory: Some((event, dir)),
                ..
            } => rings(event, Some(dir)),
            Armed::V1 { .. } | Armed::V2 { .. } => false,
        };
        Ok(match (killed, empty) {
            (true, _) => Happened::Oom,
            (false, true) => Happened::Empty,
            (false, false) => Happened::Nothing,
        })
    }

    fn is_empty(&mut self) -> nix::Result<bool> {
        Ok(match &mut self.kind {
            Armed::V2 { state, .. } => keyed(&read_again(state)?, "populated") == Some(0),
            Armed::V1 { all, init, .. } => {
                if init.is_some_and(has_ended) {
                    *init = None;
                }
                init.is_none() && procs::pids(all).is_ok_and(|pids| pids.is_empty())
            }
        })
    }

    fn poll(&self, time: Duration) -> nix::Result<()> {
        // It may be for days.
        fd::close_done();
        let (mut fds, time) = match &self.kind {
            Armed::V2 { state, memory } => {
                let mut fds = vec![PollFd::new(state.as_fd(), PollFlags::POLLPRI)];
                if let Some((fd, _)) = memory {
                    fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLPRI));
                }
                (fds, time)
            }
            Armed::V1 { memory, init, .. } => {
                let mut fds = Vec::new();
                if let Some((event, _)) = memory {
                    fds.push(PollFd::new(event.as_fd(), PollFlags::POLLIN));
                }
                let Some(init) = init else {
                    return poll(&mut fds, procs::timeout(time.min(AFTER_INIT))).map(drop);
                };
                fds.push(PollFd::new(*init, PollFlags::POLLIN));
                (fds, time)
            }
        };
        poll(&mut fds, procs::timeout(time)).map(drop)
    }
}

/// A pidfd can be read from when its process is gone.
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

/// From the start: that is also what makes the next change wake a poll.
fn read_again(fd: &OwnedFd) -> nix::Result<String> {
    lseek(fd, 0, Whence::SeekSet)?;
    read_all(fd)
}

#[cfg(test)]
mod tests {
    use std::io::pipe;

    use super::*;
    use crate::cgroup::record::{Places, Record};

    #[test]
    fn a_container_without_a_cgroup_has_nothing_to_see() {
        let record = Record {
            places: Places::None,
            made: true,
        };
        let cgroup = Cgroup::open(&record).unwrap();
        let (reader, _writer) = pipe().unwrap();
        let error = cgroup.watch(reader.as_fd()).unwrap_err().to_string();
        assert!(error.contains("no cgroup"), "{error}");
        let error = cgroup.stats().unwrap_err().to_string();
        assert!(error.contains("no cgroup"), "{error}");
    }

    #[test]
    fn kills_are_counted_by_their_own_line() {
        let text = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 5\n";
        assert_eq!(kills(text), 1);
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\n"), 0);
    }
}
