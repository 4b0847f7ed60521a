//! What is true of a container now: worked out from its init's /proc/PID/stat, the gate and the freezer, never stored.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::record::{ProcessId, Record};
use super::store::{GATE, Slot};
use crate::cgroup::{self, Cgroup};
use crate::fs::small::read_file;

/// The words of the runtime-spec (runtime.md "State") and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status as of now.
pub(crate) fn of(slot: &Slot, record: &Record) -> Result<Status> {
    from(slot, record.creator, record.init, &record.cgroup)
}

/// The same from what it needs of a record.
pub(super) fn from(
    slot: &Slot,
    creator: ProcessId,
    init: Option<ProcessId>,
    cgroup: &cgroup::record::Record,
) -> Result<Status> {
    let Some(init) = init else {
        return Ok(if is_alive(creator) {
            Status::Creating
        } else {
            Status::Stopped
        });
    };
    if !is_alive(init) {
        return Ok(Status::Stopped);
    }
    let frozen = Cgroup::is_frozen_by_record(cgroup).context("read the freezer state")?;
    // Before the gate: a created container can be paused too, and must then be resumed before its start.
    if frozen {
        return Ok(Status::Paused);
    }
    Ok(if gate(slot)?.is_some() {
        Status::Created
    } else {
        Status::Running
    })
}

/// The gate for writing, while the init waits at it. A gate that nobody holds open for reading counts as gone: its `start` was
/// killed before it could remove it.
pub(super) fn gate(slot: &Slot) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match openat(slot.dir.as_fd(), GATE, flags, Mode::empty()) {
        Err(Errno::ENXIO | Errno::ENOENT) => Ok(None),
        other => other
            .map(Some)
            .with_context(|| format!("open `{GATE}` of container `{}`", slot.id)),
    }
}

/// Whether this very process still runs: the pid exists, has the start time, and is not a zombie.
pub(crate) fn is_alive(process: ProcessId) -> bool {
    stat(process.pid).is_some_and(|(state, start_time)| {
        start_time == process.start_time && !matches!(state, 'Z' | 'X')
    })
}

/// Identity of this process.
pub(crate) fn own_identity() -> Result<ProcessId> {
    let text = read_file("/proc/self/stat").context("read `/proc/self/stat`")?;
    let pid = text.split(|byte| *byte == b' ').next();
    let pid = pid.and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    let start = fields(&text).map(|(_, start_time)| start_time);
    match (pid, start) {
        (Some(pid), Some(start_time)) => Ok(ProcessId { pid, start_time }),
        _ => bail!("read `/proc/self/stat`: no number"),
    }
}

/// Identity of a process that exists now.
pub(crate) fn identify(pid: i32) -> Result<ProcessId> {
    let (_, start_time) =
        stat(pid).with_context(|| format!("read `/proc/{pid}/stat`: no such process"))?;
    Ok(ProcessId { pid, start_time })
}

/// State letter and start time. The name in field 2 may hold spaces and parentheses, so fields count from its end.
fn stat(pid: i32) -> Option<(char, u64)> {
    fields(&read_file(format!("/proc/{pid}/stat")).ok()?)
}

fn fields(stat: &[u8]) -> Option<(char, u64)> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(name_ends + 2..)?.split(|byte| *byte == b' ');
    // Field 3 of proc(5) is the first after the name, field 22 is 19 later.
    let state = char::from(*fields.next()?.first()?);
    let start_time = std::str::from_utf8(fields.nth(18)?).ok()?;
    Some((state, start_time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_under_its_own_start_time_only() {
        let me = identify(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(is_alive(me));
        assert!(!is_alive(ProcessId {
            start_time: me.start_time + 1,
            ..me
        }));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = identify(i32::try_from(child.id()).unwrap()).unwrap();
        for _ in 0..500 {
            if !is_alive(id) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!is_alive(id));
        child.wait().unwrap();
    }
}
