//! The processes of a cgroup tree: list them, signal them, wait for them to go, put one in. For both versions.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};

use super::dir::{Dir, is_gone};
use super::systemd::Unit;
use super::{Cgroup, Kind};
use crate::fs::culprit;
use crate::sys::pidfd;

impl Cgroup {
    /// All processes, sub-cgroups included, in ascending order; none when the cgroup is gone.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        self.dir().map_or_else(|| Ok(Vec::new()), pids)
    }

    /// For messages: on v1 in one of the hierarchies.
    pub(crate) fn name(&self) -> String {
        self.dir().map(ToString::to_string).unwrap_or_default()
    }

    /// One that has all of its processes.
    fn dir(&self) -> Option<&Dir> {
        match &self.kind {
            Kind::None => None,
            Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }) => c.dir(),
            Kind::V1(c) => c.dir(),
        }
    }
}

/// Every process in the cgroup and below it. A cgroup that vanishes meanwhile has none.
pub(crate) fn pids(dir: &Dir) -> Result<Vec<i32>> {
    let mut out = Vec::new();
    collect(dir, &mut out).with_context(|| format!("list processes of cgroup `{dir}`"))?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

fn collect(dir: &Dir, out: &mut Vec<i32>) -> nix::Result<()> {
    let mut enter = |dir: &Dir| {
        let text = match dir.read("cgroup.procs") {
            // A threaded cgroup lists threads only.
            Err(Errno::EOPNOTSUPP) => dir.read("cgroup.threads"),
            result => result,
        };
        match text {
            Ok(text) => out.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
            Err(errno) if is_gone(errno) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    };
    match dir.walk(&mut enter, &mut |_, _| Ok(())) {
        Err(errno) if is_gone(errno) => Ok(()),
        result => result,
    }
}

/// Signals each process. One that is gone already is as good as signalled.
pub(crate) fn signal_each(pids: &[i32], signal: Signal) -> Result<()> {
    for &pid in pids {
        let sent = pidfd::open(Pid::from_raw(pid))
            .and_then(|fd| pidfd::send_signal(fd.as_fd(), signal as i32));
        match sent {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("send {signal} to process {pid}"));
            }
        }
    }
    Ok(())
}

/// Kills what is left in a cgroup that is being removed. Never the runtime itself: somebody may have put it there.
pub(crate) fn kill_left_over(dir: &Dir) -> Result<()> {
    let left = pids(dir)?;
    if left.contains(&getpid().as_raw()) {
        return Ok(());
    }
    if dir.write("cgroup.kill", "1").is_ok() {
        return Ok(());
    }
    signal_each(&left, Signal::SIGKILL)
}

/// Puts a process into a cgroup.
pub(crate) fn attach(dir: &Dir, pid: Pid) -> Result<()> {
    let mut result = Err(Errno::EINVAL);
    for _ in 0..5 {
        result = dir.write("cgroup.procs", &pid.to_string());
        // EINVAL: the process is so new that the scheduler has not seen it yet.
        if result != Err(Errno::EINVAL) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    result.with_context(|| format!("error adding pid {pid} to {dir}/cgroup.procs"))
}

/// Names processes for a message: pid, command, state, and what they wait in, which explains an unkillable container; those in
/// state D first.
pub(crate) fn describe(pids: &[i32]) -> String {
    const SHOWN: usize = 5;
    let mut all: Vec<String> = pids.iter().map(|pid| culprit::process(*pid)).collect();
    all.sort_by_key(|text| !text.contains(", state D"));
    all.truncate(SHOWN);
    let mut text = all.join(", ");
    if pids.len() > SHOWN {
        text += " and ";
        text += &(pids.len() - SHOWN).to_string();
        text += " more";
    }
    text
}

/// Longest wait for a freeze.
pub(crate) const FREEZE_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn did_not_freeze(dir: &Dir, limit: Duration) -> anyhow::Error {
    let pids = pids(dir).unwrap_or_default();
    anyhow!(
        "cgroup `{dir}` did not freeze within {} s: {}",
        seconds(limit),
        describe(&pids)
    )
}

/// For a message: what is left of a longer time has no round number.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// A point in time that waits end at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// Waits between tries where nothing can be polled: from 1 ms doubling to 100 ms, never past the deadline.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    until: Deadline,
}

impl Backoff {
    pub(crate) fn new(until: Deadline) -> Self {
        Self {
            next: Duration::from_millis(1),
            until,
        }
    }

    /// False when the time is over, without waiting.
    pub(crate) fn wait(&mut self) -> bool {
        if self.until.is_over() {
            return false;
        }
        sleep(self.next.min(self.until.left()));
        self.next = (self.next * 2).min(Duration::from_millis(100));
        true
    }
}

/// At least a millisecond's rest; a signal ends it early, which every caller's loop stands.
pub(crate) fn sleep(time: Duration) {
    let _ = poll(&mut [], timeout(time));
}

/// A poll timeout, rounded up so that a rest of less than a millisecond does not become a busy loop.
pub(crate) fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_described() {
        let own = getpid().as_raw();
        let text = describe(&[own]);
        assert!(
            text.starts_with(&format!("{own} (")) && text.contains("state "),
            "{text}"
        );
        assert!(describe(&[own; 7]).ends_with("and 2 more"));
    }

    #[test]
    fn backoff_ends() {
        let mut backoff = Backoff::new(Deadline::after(Duration::from_millis(20)));
        let start = Instant::now();
        while backoff.wait() {}
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
