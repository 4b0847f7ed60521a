//! Signals to every process of a container: by the kernel in one step where it can, otherwise one by one.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::procs::{self, Backoff, Deadline, FREEZE_LIMIT};
use super::systemd::Unit;
use super::{Cgroup, Kind};

/// Longest that a kill goes on against processes that keep forking or do not die, where the caller does not say.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Signals every process; of a cgroup that was only planned, none. SIGKILL reaches frozen ones too and, where the kernel can
    /// not do it in one step, goes on until the cgroup is empty; after any kill of frozen processes the cgroup may be left
    /// thawed.
    pub(crate) fn kill_all(&self, signal: Signal) -> Result<()> {
        self.kill_all_within(signal, LIMIT)
    }

    /// The same with another time for its waits.
    pub(crate) fn kill_all_within(&self, signal: Signal, limit: Duration) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        match (&self.kind, signal) {
            (Kind::V2(c) | Kind::Systemd(Unit { group: c, .. }), Signal::SIGKILL)
                if c.kill()? =>
            {
                Ok(())
            }
            (_, Signal::SIGKILL) => self.kill_until_empty(limit),
            _ => self.signal_frozen(signal, limit.min(FREEZE_LIMIT)),
        }
    }

    /// Frozen, nothing can fork away from its signal and no pid can be used again. A cgroup that was frozen before
    /// stays so.
    fn signal_frozen(&self, signal: Signal, limit: Duration) -> Result<()> {
        if self.is_frozen()? {
            return procs::signal_each(&self.pids()?, signal);
        }
        // Without a freezer the signals are still worth sending.
        let frozen = self.freeze_within(limit).is_ok();
        let result = self
            .pids()
            .and_then(|pids| procs::signal_each(&pids, signal));
        if frozen {
            self.thaw()?;
        }
        result
    }

    fn kill_until_empty(&self, limit: Duration) -> Result<()> {
        let until = Deadline::after(limit);
        let mut backoff = Backoff::new(until);
        let mut signalled: Vec<i32> = Vec::new();
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            // Freezing again what is already dying would only hold it up.
            if pids.iter().any(|pid| !signalled.contains(pid)) {
                // One that cannot be frozen must not keep the signal from the others until the time is over.
                self.signal_frozen(Signal::SIGKILL, until.left().min(FREEZE_LIMIT) / 4)?;
                // Only a thawed process can die on v1.
                self.let_die()?;
                if self.is_frozen()? {
                    self.thaw()?;
                }
                signalled = pids;
            }
            if !backoff.wait() {
                let left = procs::describe(&self.pids()?);
                bail!(
                    "processes of cgroup `{}` do not die within {} s of SIGKILL: {left}",
                    self.name(),
                    procs::seconds(limit)
                );
            }
        }
    }
}
