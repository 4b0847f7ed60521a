//! What a container's cgroup has used, and how its files are read. `v1::stats` and `v2::stats` fill it; `events` prints
//! it. The names, and which of them go away when they are zero, are those of runc's `events`, so that what reads
//! runc's reads these; times are in nanoseconds, sizes in bytes, `u64::MAX` is no limit.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::dir::{Dir, is_gone};

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stats {
    pub(crate) cpu: Cpu,
    pub(crate) cpuset: CpuSet,
    pub(crate) memory: Memory,
    pub(crate) pids: Pids,
    pub(crate) blkio: Blkio,
    /// By page size, `2MB`.
    pub(crate) hugetlb: BTreeMap<String, Hugetlb>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cpu {
    pub(crate) usage: CpuUsage,
    pub(crate) throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) total: u64,
    /// v1 alone counts by CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu_user: Vec<u64>,
    pub(crate) kernel: u64,
    pub(crate) user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) throttled_time: u64,
}

/// Pressure stall information of v2.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Pressure {
    pub(crate) some: Stall,
    pub(crate) full: Stall,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stall {
    #[serde(serialize_with = "short_float")]
    pub(crate) avg10: f64,
    #[serde(serialize_with = "short_float")]
    pub(crate) avg60: f64,
    #[serde(serialize_with = "short_float")]
    pub(crate) avg300: f64,
    pub(crate) total: u64,
}

/// Of v1; v2 leaves it at zero.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cpus: Vec<u16>,
    pub(crate) cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mems: Vec<u16>,
    pub(crate) mem_hardwall: u64,
    pub(crate) mem_exclusive: u64,
    pub(crate) memory_migrate: u64,
    pub(crate) memory_spread_page: u64,
    pub(crate) memory_spread_slab: u64,
    pub(crate) memory_pressure: u64,
    pub(crate) sched_load_balance: u64,
    pub(crate) sched_relax_domain_level: i64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) cache: u64,
    pub(crate) usage: MemoryEntry,
    /// Memory and swap together, as v1 counts.
    pub(crate) swap: MemoryEntry,
    pub(crate) kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub(crate) kernel_tcp: MemoryEntry,
    /// `memory.stat`, line by line.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct MemoryEntry {
    pub(crate) limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) max: u64,
    pub(crate) failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) current: u64,
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioQueueRecursive")]
    pub(crate) io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) minor: u64,
    /// `Read`, `Write`, on v1 also `Sync` and others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) max: u64,
    pub(crate) failcnt: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A Go program prints `0` where serde_json prints `0.0`.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is a whole number of per cent"
)]
fn short_float<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 1e6 {
        to.serialize_i64(*number as i64)
    } else {
        to.serialize_f64(*number)
    }
}

/// A file's text; `None` where this kernel, or this host, does not have the file or does not fill it.
pub(crate) fn text(dir: &Dir, file: &str) -> Result<Option<String>> {
    match dir.read(file) {
        Ok(text) => Ok(Some(text)),
        // Pressure files answer so when pressure is not counted.
        Err(Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("read `{dir}/{file}`")),
    }
}

/// A file of one number; `max` is `u64::MAX`.
pub(crate) fn number(dir: &Dir, file: &str) -> Result<Option<u64>> {
    let Some(text) = text(dir, file)? else {
        return Ok(None);
    };
    let number = parse(text.trim()).with_context(|| format!("parse `{dir}/{file}`"))?;
    Ok(Some(number))
}

/// A file of `key number` lines.
pub(crate) fn table(dir: &Dir, file: &str) -> Result<Option<BTreeMap<String, u64>>> {
    let Some(text) = text(dir, file)? else {
        return Ok(None);
    };
    let pairs = text.lines().map(|line| {
        let (key, value) = line.split_once(' ').context("a line is no pair")?;
        Ok((key.to_owned(), parse(value)?))
    });
    let table: Result<_> = pairs.collect();
    table
        .map(Some)
        .with_context(|| format!("parse `{dir}/{file}`"))
}

/// The kernel's counters may be off by a race and show a negative sum: that is 0.
pub(crate) fn parse(text: &str) -> Result<u64> {
    match text {
        "max" => Ok(u64::MAX),
        text if text.starts_with('-') && text.parse::<i64>().is_ok() => Ok(0),
        text => text
            .parse()
            .with_context(|| format!("`{}` is no number", text.escape_debug())),
    }
}

/// The page sizes that the group counts, from the names of its files: `hugetlb.SIZE` + `end`.
pub(crate) fn page_sizes(dir: &Dir, end: &str) -> Result<Vec<String>> {
    let names = match dir.files() {
        Err(errno) if is_gone(errno) => Vec::new(),
        result => result.with_context(|| format!("list `{dir}`"))?,
    };
    let size = |name: &String| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    Ok(names.iter().filter_map(size).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory of files with these contents, which is all that the readers want.
    #[expect(clippy::disallowed_methods, reason = "in a directory of its own")]
    pub(in crate::cgroup) fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
        let tmp = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(tmp.path().join(name), content).unwrap();
        }
        let dir = Dir::mount(tmp.path()).unwrap();
        (tmp, dir)
    }

    pub(in crate::cgroup) fn json<T: Serialize>(value: &T) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }

    #[test]
    fn a_group_without_anything_has_the_keys_that_always_stand() {
        let entry = serde_json::json!({"limit": 0, "failcnt": 0});
        assert_eq!(
            json(&Stats::default()),
            serde_json::json!({
                "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
                "cpuset": {
                    "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                    "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                    "sched_load_balance": 0, "sched_relax_domain_level": 0
                },
                "memory": {"usage": entry, "swap": entry, "kernel": entry, "kernelTCP": entry},
                "pids": {},
                "blkio": {},
                "hugetlb": {}
            })
        );
    }

    #[test]
    fn numbers_as_the_kernel_writes_them() {
        for (text, number) in [
            ("0", 0),
            ("42", 42),
            ("max", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("-4096", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "-", "x", "1 2", "0x1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_floats_have_no_point() {
        let stall = Stall {
            avg10: 0.0,
            avg60: 12.34,
            avg300: 100.0,
            total: 5,
        };
        assert_eq!(
            serde_json::to_string(&stall).unwrap(),
            r#"{"avg10":0,"avg60":12.34,"avg300":100,"total":5}"#
        );
    }

    #[test]
    fn a_malformed_file_is_named() {
        let (_tmp, dir) = group(&[("memory.stat", "anon 1\nodd\n"), ("pids.current", "x\n")]);
        let error = format!("{:#}", table(&dir, "memory.stat").unwrap_err());
        assert!(
            error.contains("/memory.stat`: a line is no pair"),
            "{error}"
        );
        let error = format!("{:#}", number(&dir, "pids.current").unwrap_err());
        assert!(
            error.contains("/pids.current`: `x` is no number"),
            "{error}"
        );
        assert_eq!(number(&dir, "missing").unwrap(), None);
    }

    #[test]
    fn page_sizes_by_the_names_of_files() {
        let (_tmp, dir) = group(&[
            ("hugetlb.2MB.current", ""),
            ("hugetlb.2MB.rsvd.current", ""),
            ("hugetlb.1GB.current", ""),
            ("hugetlb.1GB.max", ""),
            ("memory.current", ""),
        ]);
        let mut sizes = page_sizes(&dir, ".current").unwrap();
        sizes.sort();
        assert_eq!(sizes, ["1GB", "2MB"]);
    }
}
