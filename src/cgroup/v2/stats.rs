//! What a cgroup of v2 has used, in the terms of v1 where readers expect those: swap together with memory, one entry a
//! device and direction for block I/O.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::cgroup::dir::Dir;
use crate::cgroup::stats::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Pressure, Stall, Stats,
    Throttling, number, page_sizes, parse, table, text,
};

/// All that the group's controllers count; zero where one is not enabled.
pub(crate) fn read(dir: &Dir) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(dir)?,
        memory: memory(dir)?,
        pids: pids(dir)?,
        blkio: blkio(dir)?,
        hugetlb: hugetlb(dir)?,
        ..Stats::default()
    })
}

fn cpu(dir: &Dir) -> Result<Cpu> {
    let stat = table(dir, "cpu.stat")?.unwrap_or_default();
    let count = |key: &str| stat.get(key).copied().unwrap_or_default();
    let nanos = |key: &str| count(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: nanos("usage_usec"),
            kernel: nanos("system_usec"),
            user: nanos("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanos("throttled_usec"),
        },
        psi: pressure(dir, "cpu.pressure")?,
    })
}

fn memory(dir: &Dir) -> Result<Memory> {
    let psi = pressure(dir, "memory.pressure")?;
    let Some(raw) = table(dir, "memory.stat")? else {
        return Ok(Memory {
            psi,
            ..Memory::default()
        });
    };
    let usage = entry(dir, "memory")?;
    let swap = entry(dir, "memory.swap")?;
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or_default(),
        // The two peaks were not at the same time, so there is none of both.
        swap: MemoryEntry {
            limit: swap.limit.saturating_add(usage.limit),
            usage: swap.usage.saturating_add(usage.usage),
            ..MemoryEntry::default()
        },
        usage,
        raw,
        psi,
        ..Memory::default()
    })
}

fn entry(dir: &Dir, name: &str) -> Result<MemoryEntry> {
    let value = |end: &str| number(dir, &format!("{name}.{end}"));
    Ok(MemoryEntry {
        limit: value("max")?.unwrap_or_default(),
        usage: value("current")?.unwrap_or_default(),
        max: value("peak")?.unwrap_or_default(),
        failcnt: 0,
    })
}

fn pids(dir: &Dir) -> Result<Pids> {
    if let Some(current) = number(dir, "pids.current")? {
        let limit = number(dir, "pids.max")?.filter(|&limit| limit != u64::MAX);
        return Ok(Pids {
            current,
            limit: limit.unwrap_or_default(),
        });
    }
    // Without the controller the list of processes says it. A threaded cgroup lists threads only.
    let list = match text(dir, "cgroup.procs")? {
        None => text(dir, "cgroup.threads")?,
        some => some,
    };
    Ok(Pids {
        current: list.unwrap_or_default().lines().count() as u64,
        limit: 0,
    })
}

fn blkio(dir: &Dir) -> Result<Blkio> {
    let mut out = Blkio {
        psi: pressure(dir, "io.pressure")?,
        ..Blkio::default()
    };
    let stat = text(dir, "io.stat")?.unwrap_or_default();
    for line in stat.lines() {
        add_device(&mut out, line).with_context(|| format!("parse `{dir}/io.stat`"))?;
    }
    Ok(out)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`; what v1 has no place for is left out.
pub(crate) fn add_device(out: &mut Blkio, line: &str) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
        return Ok(());
    };
    let (major, minor) = (parse(major)?, parse(minor)?);
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let (list, op) = match key {
            "rbytes" => (&mut out.io_service_bytes_recursive, "Read"),
            "wbytes" => (&mut out.io_service_bytes_recursive, "Write"),
            "rios" => (&mut out.io_serviced_recursive, "Read"),
            "wios" => (&mut out.io_serviced_recursive, "Write"),
            _ => continue,
        };
        list.push(BlkioEntry {
            major,
            minor,
            op: op.to_owned(),
            value: parse(value)?,
        });
    }
    Ok(())
}

/// runc looks for a counter of failed reservations, which no kernel has, and so shows nothing at all; here it is the
/// reservations with the failures that the kernel does count.
fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, Hugetlb>> {
    let mut out = BTreeMap::new();
    for size in page_sizes(dir, ".current")? {
        let value = |kind: &str| number(dir, &format!("hugetlb.{size}{kind}.current"));
        let usage = match value(".rsvd")? {
            None => value("")?,
            some => some,
        };
        let events = table(dir, &format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let stats = Hugetlb {
            usage: usage.unwrap_or_default(),
            max: 0,
            failcnt: events.get("max").copied().unwrap_or_default(),
        };
        out.insert(size, stats);
    }
    Ok(out)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` likewise.
fn pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>> {
    let Some(text) = text(dir, file)? else {
        return Ok(None);
    };
    let mut out = Pressure::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let stall = match kind {
            "some" => &mut out.some,
            "full" => &mut out.full,
            _ => continue,
        };
        *stall = parse_stall(rest).with_context(|| format!("parse `{dir}/{file}`"))?;
    }
    Ok(Some(out))
}

pub(crate) fn parse_stall(text: &str) -> Result<Stall> {
    let mut out = Stall::default();
    for (key, value) in text
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let average = match key {
            "avg10" => &mut out.avg10,
            "avg60" => &mut out.avg60,
            "avg300" => &mut out.avg300,
            "total" => {
                out.total = parse(value)?;
                continue;
            }
            _ => continue,
        };
        *average = value
            .parse()
            .with_context(|| format!("`{}` is no number", value.escape_debug()))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::stats::tests::{group, json as shown};

    #[test]
    fn a_full_group() {
        let (_tmp, dir) = group(&[
            (
                "cpu.stat",
                "usage_usec 7\nuser_usec 3\nsystem_usec 4\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            ),
            ("memory.stat", "anon 100\nfile 200\nslab -5\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "8192\n"),
            ("memory.peak", "5000\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "100\n"),
            ("memory.swap.peak", "20\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            (
                "io.stat",
                "8:0 rbytes=1 wbytes=2 rios=3 wios=0 dbytes=5 dios=6\n254:16\n",
            ),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "4194304\n"),
            ("hugetlb.2MB.events", "max 6\n"),
        ]);
        let zero = json!({"avg10": 0, "avg60": 0, "avg300": 0, "total": 0});
        let stats = shown(&read(&dir).unwrap());
        assert_eq!(
            stats["cpu"],
            json!({
                "usage": {"total": 7000, "kernel": 4000, "user": 3000},
                "throttling": {"periods": 9, "throttledPeriods": 2, "throttledTime": 5000},
                "psi": {"some": {"avg10": 1.5, "avg60": 0, "avg300": 0.25, "total": 77}, "full": zero}
            })
        );
        assert_eq!(
            stats["memory"],
            json!({
                "cache": 200,
                "usage": {"limit": 8192, "usage": 4096, "max": 5000, "failcnt": 0},
                "swap": {"limit": 8292, "usage": 4106, "failcnt": 0},
                "kernel": {"limit": 0, "failcnt": 0},
                "kernelTCP": {"limit": 0, "failcnt": 0},
                "raw": {"anon": 100, "file": 200, "slab": 0}
            })
        );
        assert_eq!(stats["pids"], json!({"current": 3}));
        assert_eq!(
            stats["blkio"],
            json!({
                "ioServiceBytesRecursive": [
                    {"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}
                ],
                "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 3}, {"major": 8, "op": "Write"}]
            })
        );
        assert_eq!(
            stats["hugetlb"],
            json!({"2MB": {"usage": 4_194_304, "failcnt": 6}})
        );
    }

    #[test]
    fn no_limit_of_memory_is_none_of_both() {
        let files = |swap| {
            [
                ("memory.stat", "file 0\n"),
                ("memory.current", "1\n"),
                ("memory.max", "max\n"),
                ("memory.swap.max", swap),
            ]
        };
        for swap in ["max\n", "4096\n", "0\n"] {
            let (_tmp, dir) = group(&files(swap));
            assert_eq!(memory(&dir).unwrap().swap.limit, u64::MAX, "{swap}");
        }
    }

    #[test]
    fn processes_are_counted_without_the_controller() {
        let (_tmp, dir) = group(&[("cgroup.procs", "1\n20\n300\n")]);
        let stats = read(&dir).unwrap();
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
        assert_eq!(stats.memory, Memory::default());
    }
}
