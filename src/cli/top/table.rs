//! The table of `rundlet top`: what stands in its columns, and in which order its rows. Pure but for the size of the host's
//! memory. Called by the parent module.

use std::cmp::Ordering;

use crate::cgroup::stats::Pressure;
use crate::container::usage::Usage;
use crate::fs::small::read_text;

/// For the first line: the keys of [`Sort`].
pub(super) const KEYS: &str = "c m p i s n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Id,
    Cpu,
    Memory,
    Pids,
    Io,
    Pressure,
}

/// As `--sort` has it, and as a key.
const SORTS: [(Sort, &str, u8); 6] = [
    (Sort::Id, "id", b'n'),
    (Sort::Cpu, "cpu", b'c'),
    (Sort::Memory, "memory", b'm'),
    (Sort::Pids, "pids", b'p'),
    (Sort::Io, "io", b'i'),
    (Sort::Pressure, "pressure", b's'),
];

impl Sort {
    pub(super) fn of_word(word: &str) -> Option<Sort> {
        let found = SORTS.iter().find(|(_, name, _)| *name == word);
        found.map(|(sort, ..)| *sort)
    }

    pub(super) fn of_key(key: u8) -> Option<Sort> {
        let found = SORTS.iter().find(|(.., own)| *own == key);
        found.map(|(sort, ..)| *sort)
    }

    pub(super) fn word(self) -> &'static str {
        let found = SORTS.iter().find(|(sort, ..)| *sort == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// Greatest first; what is unknown last, and the same number by id.
    pub(super) fn sort(self, usage: &mut [Usage]) {
        usage.sort_by(|a, b| self.compare(b, a).then_with(|| a.id.cmp(&b.id)));
    }

    fn compare(self, a: &Usage, b: &Usage) -> Ordering {
        let float = |a: Option<f64>, b: Option<f64>| {
            let (a, b) = (a.unwrap_or(-1.0), b.unwrap_or(-1.0));
            a.total_cmp(&b)
        };
        let moved = |usage: &Usage| {
            let io = usage.io.as_ref()?;
            let rates = io.read_per_second.zip(io.written_per_second);
            rates.map(|(read, written)| (read.saturating_add(written), io.read + io.written))
        };
        let bytes = |usage: &Usage| usage.memory.as_ref().map(|memory| memory.working_set);
        let count = |usage: &Usage| usage.pids.as_ref().map(|pids| pids.current);
        match self {
            Sort::Id => Ordering::Equal,
            Sort::Cpu => float(a.cpu_percent, b.cpu_percent),
            Sort::Memory => bytes(a).cmp(&bytes(b)),
            Sort::Pids => count(a).cmp(&count(b)),
            Sort::Io => moved(a).cmp(&moved(b)),
            Sort::Pressure => float(worst(a), worst(b)),
        }
    }
}

fn averages(usage: &Usage) -> [Option<f64>; 3] {
    let all = &usage.pressure;
    let average = |pressure: &Option<Pressure>| pressure.as_ref().map(|p| p.some.avg10);
    [average(&all.cpu), average(&all.memory), average(&all.io)]
}

fn worst(usage: &Usage) -> Option<f64> {
    averages(usage).into_iter().flatten().reduce(f64::max)
}

const COLUMNS: usize = 10;
const HEADING: [&str; COLUMNS] = [
    "ID", "STATUS", "CPU %", "MEMORY", "LIMIT", "MEM %", "PIDS", "READ/s", "WRITE/s", "PRESSURE",
];

/// Heading and rows. The first two columns begin at their left, the others end at their right.
pub(super) fn lines(usage: &[Usage]) -> (String, Vec<String>) {
    let host = host_memory();
    let mut rows = vec![HEADING.map(str::to_owned)];
    rows.extend(usage.iter().map(|usage| cells(usage, host)));
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(place, (cell, width))| match place {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut lines = rows.iter().map(line);
    (lines.next().unwrap_or_default(), lines.collect())
}

fn cells(usage: &Usage, host: Option<u64>) -> [String; COLUMNS] {
    let unknown = || "-".to_owned();
    let memory = usage.memory.as_ref();
    let pids = usage.pids.as_ref().map(|pids| match pids.limit {
        Some(limit) => format!("{}/{limit}", pids.current),
        None => pids.current.to_string(),
    });
    let io = usage.io.as_ref();
    // Of the limit, or of all memory where that is less.
    let share = memory.and_then(|memory| {
        let most = memory.limit.into_iter().chain(host).min()?;
        let tenths = u128::from(memory.working_set) * 1000 / u128::from(most.max(1));
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    });
    let stalls = averages(usage).map(|average| average.map(|average| format!("{average:.0}")));
    let pressure = stalls
        .iter()
        .any(Option::is_some)
        .then(|| stalls.map(|stall| stall.unwrap_or_else(unknown)).join("/"));
    [
        usage.id.clone(),
        usage.status.to_owned(),
        usage
            .cpu_percent
            .map_or_else(unknown, |percent| format!("{percent:.1}")),
        memory.map_or_else(unknown, |memory| size(memory.working_set)),
        memory
            .and_then(|memory| memory.limit)
            .map_or_else(unknown, size),
        share.unwrap_or_else(unknown),
        pids.unwrap_or_else(unknown),
        io.and_then(|io| io.read_per_second)
            .map_or_else(unknown, size),
        io.and_then(|io| io.written_per_second)
            .map_or_else(unknown, size),
        pressure.unwrap_or_else(unknown),
    ]
}

/// `MemTotal:       8131420 kB`
fn host_memory() -> Option<u64> {
    let table = read_text("/proc/meminfo").ok()?;
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// `512B`, `1.5MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut unit, mut name) = (1024, UNITS[0]);
    for next in &UNITS[1..] {
        if bytes / unit < 1024 {
            break;
        }
        (unit, name) = (unit * 1024, next);
    }
    let tenth = u128::from(bytes % unit) * 10 / u128::from(unit);
    format!("{}.{tenth}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::stats::Stall;
    use crate::container::usage::{Io, Memory, Pids, Pressures};

    fn usage(id: &str, cpu: Option<f64>, bytes: u64) -> Usage {
        Usage {
            time: String::new(),
            id: id.into(),
            status: "running",
            pid: 1,
            cpu_percent: cpu,
            cpu_ns: Some(1),
            memory: Some(Memory {
                usage: bytes,
                working_set: bytes,
                limit: Some(2 * bytes),
            }),
            pids: Some(Pids {
                current: bytes,
                limit: None,
            }),
            io: Some(Io {
                read: bytes,
                written: 0,
                read_per_second: cpu.map(|_| bytes),
                written_per_second: cpu.map(|_| 0),
            }),
            pressure: Pressures {
                io: Some(Pressure {
                    some: Stall {
                        avg10: 12.34,
                        ..Stall::default()
                    },
                    ..Pressure::default()
                }),
                ..Pressures::default()
            },
        }
    }

    #[test]
    fn rows_in_their_order() {
        let order = |sort: Sort| {
            let mut all = [
                usage("b", Some(1.0), 7),
                usage("c", None, 9),
                usage("a", Some(1.0), 8),
            ];
            sort.sort(&mut all);
            all.map(|usage| usage.id).concat()
        };
        assert_eq!(order(Sort::Cpu), "abc");
        assert_eq!(order(Sort::Id), "abc");
        assert_eq!(order(Sort::Memory), "cab");
        assert_eq!(order(Sort::Pids), "cab");
        assert_eq!(order(Sort::Io), "abc");
        assert_eq!(order(Sort::Pressure), "abc");
        for (sort, word, key) in SORTS {
            assert_eq!(
                (Sort::of_word(word), Sort::of_key(key)),
                (Some(sort), Some(sort))
            );
            assert_eq!(sort.word(), word);
            assert!(KEYS.contains(char::from(key)));
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let all = [
            usage("a-long-name", Some(123.456), 1536),
            usage("b", None, 10),
        ];
        let (heading, rows) = lines(&all);
        let cells: Vec<&str> = rows[0].split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "a-long-name",
                "running",
                "123.5",
                "1.5KiB",
                "3.0KiB",
                "50.0",
                "1536",
                "1.5KiB",
                "0B",
                "-/-/12"
            ]
        );
        assert!(rows[1].contains("  -  "), "{}", rows[1]);
        assert!(rows.iter().all(|row| row.len() == heading.len()));
        assert_eq!(heading.find("STATUS"), rows[0].find("running"));
        assert_eq!(lines(&[]).0.split_whitespace().next(), Some("ID"));
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1_048_575, "1023.9KiB"),
            (1_048_576, "1.0MiB"),
            (u64::MAX, "15.9EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
