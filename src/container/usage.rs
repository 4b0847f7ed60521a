//! What the containers of a state root use, sample after sample: the numbers of `events --stats`, less those that nobody
//! watches, and what has become of them since the sample before. Called by `cli::top`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use serde::Serialize;

use super::options::Context;
use super::record::ProcessId;
use super::status::{self, Status};
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::cgroup::stats::{Pressure, Stats};
use crate::error::NotExist;
use crate::sys::fd;
use crate::{log, timings};

/// v1 has a greatest number of pages for no limit, v2 the word.
const NO_LIMIT: u64 = 1 << 62;

/// One container in one sample. What is not known is null: rates in the first sample, pressure on v1, all without a cgroup.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    /// RFC 3339.
    pub(crate) time: String,
    pub(crate) id: String,
    pub(crate) status: &'static str,
    /// 0 when it is stopped.
    pub(crate) pid: i32,
    /// 100 is one CPU.
    pub(crate) cpu_percent: Option<f64>,
    /// Since the container was made, in nanoseconds.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) memory: Option<Memory>,
    pub(crate) pids: Option<Pids>,
    pub(crate) io: Option<Io>,
    pub(crate) pressure: Pressures,
}

/// Bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// Less the file pages that were not used lately, which the kernel takes back first.
    pub(crate) working_set: u64,
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pids {
    pub(crate) current: u64,
    pub(crate) limit: Option<u64>,
}

/// Bytes of all block devices.
#[derive(Debug, Serialize)]
pub(crate) struct Io {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) read_per_second: Option<u64>,
    pub(crate) written_per_second: Option<u64>,
}

/// The kernel's pressure stall information of each.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Pressures {
    pub(crate) cpu: Option<Pressure>,
    pub(crate) memory: Option<Pressure>,
    pub(crate) io: Option<Pressure>,
}

/// Which containers are looked at.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    /// All that run, or are created or paused.
    Live,
    /// Those that are stopped, too.
    All,
    These(Vec<String>),
}

/// Takes samples of a state root.
pub(crate) struct Sampler {
    store: Store,
    of: Of,
    before: BTreeMap<String, Before>,
}

/// What rates are made from.
struct Before {
    init: Option<ProcessId>,
    at: Instant,
    cpu: u64,
    read: u64,
    written: u64,
}

impl Sampler {
    /// Containers that are named must be there.
    pub(crate) fn new(context: &Context, of: Of) -> Result<Sampler> {
        timings::phase("state");
        let store = Store::new(context);
        if let Of::These(ids) = &of {
            for id in ids {
                store.slot(id)?;
            }
        }
        timings::phase("statistics");
        Ok(Sampler {
            store,
            of,
            before: BTreeMap::new(),
        })
    }

    /// In the order of ids. What has gone by now is not in it, and no error.
    pub(crate) fn sample(&mut self) -> Result<Vec<Usage>> {
        let ids = match &self.of {
            Of::These(ids) => ids.clone(),
            Of::Live | Of::All => self.store.ids()?,
        };
        self.before.retain(|id, _| ids.contains(id));
        let mut out = Vec::new();
        for id in ids {
            match self.one(&id) {
                Ok(usage) => out.extend(usage),
                Err(error) if error.is::<NotExist>() => {}
                // Of a container that is being made or deleted half may be there; the next time may be better.
                Err(error) => log::debug(format_args!("{id}: {}", crate::error::chain(&error))),
            }
        }
        // The next sample may be long in coming, and what is open keeps file systems from being unmounted.
        fd::close_done();
        Ok(out)
    }

    /// None of those that were named is there any more.
    pub(crate) fn is_over(&self) -> bool {
        match &self.of {
            Of::These(ids) => ids.iter().all(|id| self.store.slot(id).is_err()),
            Of::Live | Of::All => false,
        }
    }

    fn one(&mut self, id: &str) -> Result<Option<Usage>> {
        let slot = self.store.slot(id)?;
        let brief = slot.read_brief()?;
        let status = status::from(&slot, brief.creator, brief.init, &brief.cgroup)?;
        let shown = match status {
            Status::Creating => matches!(self.of, Of::These(_)),
            Status::Stopped => !matches!(self.of, Of::Live),
            Status::Created | Status::Running | Status::Paused => true,
        };
        if !shown {
            self.before.remove(id);
            return Ok(None);
        }
        let mut usage = Usage {
            time: log::rfc3339(SystemTime::now()),
            id: id.to_owned(),
            status: status.as_str(),
            pid: 0,
            cpu_percent: None,
            cpu_ns: None,
            memory: None,
            pids: None,
            io: None,
            pressure: Pressures::default(),
        };
        if let Some(init) = brief.init.filter(|_| status != Status::Stopped) {
            usage.pid = init.pid;
            let cgroup = Cgroup::open(&brief.cgroup)?;
            if cgroup.exists() {
                let at = Instant::now();
                self.fill(&mut usage, brief.init, at, cgroup.stats()?);
            }
        }
        // Files that have gone read as nothing used.
        Ok(slot.is_current()?.then_some(usage))
    }

    fn fill(&mut self, usage: &mut Usage, init: Option<ProcessId>, at: Instant, stats: Stats) {
        let moved = |op: &str| {
            let entries = &stats.blkio.io_service_bytes_recursive;
            let of_op = entries.iter().filter(|entry| entry.op == op);
            of_op.map(|entry| entry.value).sum::<u64>()
        };
        let now = Before {
            init,
            at,
            cpu: stats.cpu.usage.total,
            read: moved("Read"),
            written: moved("Write"),
        };
        let before = self.before.get(&usage.id);
        // Another container of the same id has counters of its own.
        let before = before.filter(|before| before.init == init);
        let since = before.map(|before| (before, at.duration_since(before.at)));
        usage.cpu_percent =
            since.map(|(before, time)| percent(now.cpu.saturating_sub(before.cpu), time));
        usage.cpu_ns = Some(now.cpu);
        usage.io = Some(Io {
            read: now.read,
            written: now.written,
            read_per_second: since
                .map(|(before, time)| rate(now.read.saturating_sub(before.read), time)),
            written_per_second: since
                .map(|(before, time)| rate(now.written.saturating_sub(before.written), time)),
        });
        let raw = &stats.memory.raw;
        // Without the controller there is nothing of this.
        usage.memory = (!raw.is_empty()).then(|| {
            let file = raw.get("total_inactive_file");
            let file = file.or_else(|| raw.get("inactive_file")).copied();
            let entry = &stats.memory.usage;
            Memory {
                usage: entry.usage,
                working_set: entry.usage.saturating_sub(file.unwrap_or_default()),
                limit: (entry.limit < NO_LIMIT).then_some(entry.limit),
            }
        });
        usage.pids = Some(Pids {
            current: stats.pids.current,
            limit: (stats.pids.limit > 0).then_some(stats.pids.limit),
        });
        usage.pressure = Pressures {
            cpu: stats.cpu.psi,
            memory: stats.memory.psi,
            io: stats.blkio.psi,
        };
        self.before.insert(usage.id.clone(), now);
    }
}

/// With two digits behind the point.
fn percent(nanos: u64, time: Duration) -> f64 {
    let hundredths = u128::from(nanos) * 10_000 / time.as_nanos().max(1);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

fn rate(count: u64, time: Duration) -> u64 {
    let each = u128::from(count) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(each).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let second = Duration::from_secs(1);
        assert!((percent(500_000_000, second) - 50.0).abs() < 1e-9);
        assert!((percent(1_234_560, second) - 0.12).abs() < 1e-9);
        assert!(percent(5, Duration::ZERO).is_finite());
        assert_eq!(rate(1000, 2 * second), 500);
        assert_eq!(rate(u64::MAX, Duration::from_nanos(1)), u64::MAX);
        assert_eq!(rate(7, Duration::ZERO), 7_000_000_000);
    }
}
