//! What a container's cgroups of v1 have used, one controller after the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Legacy;
use crate::cgroup::dir::Dir;
use crate::cgroup::stats::{
    Blkio, BlkioEntry, CpuSet, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling,
    number, page_sizes, parse, table, text,
};

/// Of cpuacct.stat: USER_HZ is 100 on every architecture that matters.
const TICK: u64 = 1_000_000_000 / 100;

/// All that the mounted controllers count; zero where one is not mounted.
pub(crate) fn read(groups: &Legacy) -> Result<Stats> {
    let mut out = Stats::default();
    if let Some(dir) = groups.of("cpuset") {
        out.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = groups.of("memory") {
        out.memory = memory(dir)?;
    }
    if let Some(dir) = groups.of("cpu") {
        out.cpu.throttling = throttling(dir)?;
    }
    if let Some(dir) = groups.of("cpuacct") {
        out.cpu.usage = cpu_usage(dir)?;
    }
    if let Some(dir) = groups.of("pids") {
        out.pids = pids(dir)?;
    }
    if let Some(dir) = groups.of("blkio") {
        out.blkio = blkio(dir)?;
    }
    if let Some(dir) = groups.of("hugetlb") {
        out.hugetlb = hugetlb(dir)?;
    }
    Ok(out)
}

/// A number that is 0 where the kernel has no such file.
fn value(dir: &Dir, file: &str) -> Result<u64> {
    Ok(number(dir, file)?.unwrap_or_default())
}

fn cpuset(dir: &Dir) -> Result<CpuSet> {
    let flag = |name: &str| value(dir, &format!("cpuset.{name}"));
    let level = text(dir, "cpuset.sched_relax_domain_level")?;
    Ok(CpuSet {
        cpus: list(dir, "cpuset.cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: list(dir, "cpuset.mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        // -1 is the usual one.
        sched_relax_domain_level: match level {
            Some(level) => level
                .trim()
                .parse()
                .with_context(|| format!("parse `{dir}/cpuset.sched_relax_domain_level`"))?,
            None => 0,
        },
    })
}

/// `0-2,5`, each number by itself.
fn list(dir: &Dir, file: &str) -> Result<Vec<u16>> {
    let text = text(dir, file)?.unwrap_or_default();
    let mut out = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first
            .parse::<u16>()
            .and_then(|first| Ok(first..=last.parse()?));
        out.extend(range.with_context(|| format!("parse `{dir}/{file}`"))?);
    }
    Ok(out)
}

fn memory(dir: &Dir) -> Result<Memory> {
    let Some(raw) = table(dir, "memory.stat")? else {
        return Ok(Memory::default());
    };
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: entry(dir, "memory")?,
        swap: entry(dir, "memory.memsw")?,
        kernel: entry(dir, "memory.kmem")?,
        kernel_tcp: entry(dir, "memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

/// Swap and kernel memory are counted only where the kernel was built or started so.
fn entry(dir: &Dir, name: &str) -> Result<MemoryEntry> {
    let value = |end: &str| value(dir, &format!("{name}.{end}"));
    Ok(MemoryEntry {
        limit: value("limit_in_bytes")?,
        usage: value("usage_in_bytes")?,
        max: value("max_usage_in_bytes")?,
        failcnt: value("failcnt")?,
    })
}

fn throttling(dir: &Dir) -> Result<Throttling> {
    let stat = table(dir, "cpu.stat")?.unwrap_or_default();
    let count = |key: &str| stat.get(key).copied().unwrap_or_default();
    Ok(Throttling {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: count("throttled_time"),
    })
}

fn cpu_usage(dir: &Dir) -> Result<CpuUsage> {
    let stat = table(dir, "cpuacct.stat")?.unwrap_or_default();
    let ticks = |key: &str| {
        let ticks = stat.get(key).copied().unwrap_or_default();
        ticks.saturating_mul(TICK)
    };
    // A heading, then `cpu user system`.
    let all = text(dir, "cpuacct.usage_all")?.unwrap_or_default();
    let (mut percpu_user, mut percpu_kernel) = (Vec::new(), Vec::new());
    for line in all.lines().skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [_, user, kernel] = words[..] {
            let doing = || format!("parse `{dir}/cpuacct.usage_all`");
            percpu_user.push(parse(user).with_context(doing)?);
            percpu_kernel.push(parse(kernel).with_context(doing)?);
        }
    }
    let percpu: Result<Vec<u64>> = text(dir, "cpuacct.usage_percpu")?
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(parse)
        .collect();
    Ok(CpuUsage {
        total: value(dir, "cpuacct.usage")?,
        percpu: percpu.with_context(|| format!("parse `{dir}/cpuacct.usage_percpu`"))?,
        percpu_kernel,
        percpu_user,
        kernel: ticks("system"),
        user: ticks("user"),
    })
}

fn pids(dir: &Dir) -> Result<Pids> {
    let limit = number(dir, "pids.max")?.filter(|&limit| limit != u64::MAX);
    Ok(Pids {
        current: value(dir, "pids.current")?,
        limit: limit.unwrap_or_default(),
    })
}

type Table = fn(&mut Blkio) -> &mut Vec<BlkioEntry>;

/// What the schedulers call the same tables. BFQ has the last two always, the others if it was built to debug.
const TABLES: [(&str, Table); 8] = [
    ("sectors_recursive", |b| &mut b.sectors_recursive),
    ("io_service_time_recursive", |b| {
        &mut b.io_service_time_recursive
    }),
    ("io_wait_time_recursive", |b| &mut b.io_wait_time_recursive),
    ("io_merged_recursive", |b| &mut b.io_merged_recursive),
    ("io_queued_recursive", |b| &mut b.io_queued_recursive),
    ("time_recursive", |b| &mut b.io_time_recursive),
    ("io_serviced_recursive", |b| &mut b.io_serviced_recursive),
    ("io_service_bytes_recursive", |b| {
        &mut b.io_service_bytes_recursive
    }),
];

/// The throttling counts for every device, BFQ's only for those that it schedules, so they go first.
fn blkio(dir: &Dir) -> Result<Blkio> {
    const SETS: [(&str, &str, usize); 5] = [
        ("blkio.bfq.", "", 0),
        ("blkio.bfq.", "", 6),
        ("blkio.", "", 0),
        ("blkio.throttle.", "", 6),
        ("blkio.throttle.", "_recursive", 6),
    ];
    for (prefix, without, from) in SETS {
        let mut out = Blkio::default();
        let mut empty = false;
        for (name, table) in &TABLES[from..] {
            let name = name.strip_suffix(without).unwrap_or(name);
            *table(&mut out) = devices(dir, &format!("{prefix}{name}"))?;
            empty = table(&mut out).is_empty();
            if empty {
                break;
            }
        }
        // A set counts from its first table on, complete or not.
        if !empty || out != Blkio::default() {
            return Ok(out);
        }
    }
    Ok(Blkio::default())
}

/// `8:0 Read 4096` or `8:0 4096` a line, and a sum at the end.
fn devices(dir: &Dir, file: &str) -> Result<Vec<BlkioEntry>> {
    let text = text(dir, file)?.unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let (op, value) = match words[..] {
            ["Total", _] => return Ok(None),
            [_, _, value] => ("", value),
            [_, _, op, value] => (op, value),
            _ => anyhow::bail!("`{}` is no count of a device", line.escape_debug()),
        };
        Ok(Some(BlkioEntry {
            major: parse(words[0])?,
            minor: parse(words[1])?,
            op: op.to_owned(),
            value: parse(value)?,
        }))
    };
    let entries: Result<Vec<_>> = text
        .lines()
        .filter_map(|line| entry(line).transpose())
        .collect();
    entries.with_context(|| format!("parse `{dir}/{file}`"))
}

fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, Hugetlb>> {
    let mut out = BTreeMap::new();
    for size in page_sizes(dir, ".usage_in_bytes")? {
        // Reservations where the kernel counts them.
        let reserved = dir.has(&format!("hugetlb.{size}.rsvd.usage_in_bytes"));
        let kind = if reserved { ".rsvd" } else { "" };
        let value = |end: &str| value(dir, &format!("hugetlb.{size}{kind}.{end}"));
        let stats = Hugetlb {
            usage: value("usage_in_bytes")?,
            max: value("max_usage_in_bytes")?,
            failcnt: value("failcnt")?,
        };
        out.insert(size, stats);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::stats::tests::{group, json as shown};

    #[test]
    fn cpu_sets() {
        let (_tmp, dir) = group(&[
            ("cpuset.cpus", "0-2,5\n"),
            ("cpuset.mems", "\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("cpuset.sched_load_balance", "1\n"),
        ]);
        let set = cpuset(&dir).unwrap();
        assert_eq!(set.cpus, [0, 1, 2, 5]);
        assert!(set.mems.is_empty());
        assert_eq!(
            (set.sched_relax_domain_level, set.sched_load_balance),
            (-1, 1)
        );
        let (_tmp, dir) = group(&[("cpuset.cpus", "0-x\n")]);
        assert!(cpuset(&dir).is_err());
    }

    #[test]
    fn cpu_time() {
        let (_tmp, dir) = group(&[
            ("cpuacct.usage", "11387172\n"),
            ("cpuacct.stat", "user 2\nsystem 1\n"),
            ("cpuacct.usage_percpu", "1423498 9963674 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 1 2\n1 3 4\n"),
        ]);
        assert_eq!(
            shown(&cpu_usage(&dir).unwrap()),
            json!({
                "total": 11_387_172, "percpu": [1_423_498, 9_963_674], "percpu_kernel": [2, 4],
                "percpu_user": [1, 3], "kernel": 10_000_000, "user": 20_000_000
            })
        );
    }

    const SERVICED: &str = "8:0 Read 4\n8:0 Total 4\nTotal 4\n";

    #[test]
    fn block_io_of_the_first_scheduler_that_counts() {
        let shows = |files: &[(&str, &str)]| {
            let (_tmp, dir) = group(files);
            shown(&blkio(&dir).unwrap())
        };
        let read = json!([{"major": 8, "op": "Read", "value": 4}, {"major": 8, "op": "Total", "value": 4}]);
        assert_eq!(shows(&[]), json!({}));
        // BFQ there, but no device of its own: the throttling's counts.
        let throttled = [
            ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
            ("blkio.throttle.io_serviced_recursive", SERVICED),
            ("blkio.throttle.io_service_bytes_recursive", SERVICED),
        ];
        assert_eq!(
            shows(&throttled),
            json!({"ioServicedRecursive": read, "ioServiceBytesRecursive": read})
        );
        let old = [
            ("blkio.throttle.io_serviced", SERVICED),
            ("blkio.throttle.io_service_bytes", SERVICED),
        ];
        assert_eq!(shows(&old), shows(&throttled));
        // All eight, the first without a word for the direction.
        let debug: Vec<(String, &str)> = TABLES
            .iter()
            .map(|(name, _)| (format!("blkio.bfq.{name}"), "8:16 9\nTotal 9\n"))
            .collect();
        let debug: Vec<(&str, &str)> = debug.iter().map(|(name, text)| (&**name, *text)).collect();
        let all = shows(&debug);
        assert_eq!(all.as_object().unwrap().len(), 8);
        assert_eq!(
            all["ioQueueRecursive"],
            json!([{"major": 8, "minor": 16, "value": 9}])
        );
    }

    #[test]
    fn huge_pages_prefer_reservations() {
        let (_tmp, dir) = group(&[
            ("hugetlb.2MB.usage_in_bytes", "1\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "2\n"),
            ("hugetlb.2MB.failcnt", "3\n"),
            ("hugetlb.1GB.usage_in_bytes", "1\n"),
            ("hugetlb.1GB.rsvd.usage_in_bytes", "4\n"),
            ("hugetlb.1GB.rsvd.max_usage_in_bytes", "5\n"),
            ("hugetlb.1GB.rsvd.failcnt", "6\n"),
        ]);
        assert_eq!(
            shown(&hugetlb(&dir).unwrap()),
            json!({
                "2MB": {"usage": 1, "max": 2, "failcnt": 3}, "1GB": {"usage": 4, "max": 5, "failcnt": 6}
            })
        );
    }
}
