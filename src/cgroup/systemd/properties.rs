//! Limits as properties of a systemd unit, so that systemd itself sets them whenever it writes the unit's cgroup again
//! (`daemon-reload`, `set-property`). What it has no property for is only written to the cgroup's files. Pure.

use std::borrow::Cow;

use anyhow::{Context, Result};

use super::unified;
use super::wire::{Property, Value};
use crate::cgroup::v2::convert::{cpu_weight, io_weight, swap_max};
use crate::plan::resources::{BlockIo, Cpu, Resources, Throttle};

/// No limit.
pub(super) const INFINITY: u64 = u64::MAX;
const DEFAULT_PERIOD: u64 = 100_000;
const SECOND: u64 = 1_000_000;
/// systemd counts a quota in percent of a CPU.
const PERCENT: u64 = SECOND / 100;

/// Properties that an older systemd may not know. The limit is written to the cgroup's files all the same.
pub(crate) const OPTIONAL: [&str; 15] = [
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "MemoryMin",
    "MemoryHigh",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "OOMPolicy",
    "IOWeight",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOWriteBandwidthMax",
    "IOReadIOPSMax",
    "IOWriteIOPSMax",
];

/// When the properties are set: some can be set only while a unit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Creation,
    Update,
}

/// Which of the two weights of I/O the cgroup has; a kernel with both takes the second. systemd writes both from one property,
/// each by its own formula, and the one that counts has to come out as the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoFile {
    Weight,
    BfqWeight,
}

impl IoFile {
    /// The inverse of systemd's formula for io.bfq.weight is exact for the whole range, 10 to 1000.
    fn property(self, weight: u16) -> u64 {
        match self {
            Self::Weight => io_weight(weight),
            Self::BfqWeight if weight <= 100 => u64::from(weight),
            Self::BfqWeight => 100 + 11 * u64::from(weight - 100),
        }
    }
}

/// Properties in the order of setting.
#[derive(Debug, Default)]
pub(crate) struct List(Vec<Property>);

impl List {
    /// The last value counts.
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        self.0.retain(|property| property.name != name);
        self.0.push(Property { name, value });
    }

    /// For a list property, to which systemd appends.
    pub(crate) fn push(&mut self, name: &'static str, value: Value) {
        self.0.push(Property { name, value });
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.set(name, Value::U64(value));
    }

    pub(crate) fn done(self) -> Vec<Property> {
        self.0
    }
}

/// systemd can keep whole percents of a CPU only: the quota is rounded up, in the cgroup's files too, so that the two agree.
pub(crate) fn rounded(r: &Resources) -> Cow<'_, Resources> {
    let period = r.cpu.period.unwrap_or(DEFAULT_PERIOD);
    let wanted = r.cpu.quota.and_then(|quota| u64::try_from(quota).ok());
    let Some(quota) = wanted else {
        return Cow::Borrowed(r);
    };
    let exact = scaled(quota, SECOND, period);
    let per_second = whole_percents(exact);
    if per_second == exact {
        return Cow::Borrowed(r);
    }
    let mut out = r.clone();
    let quota = scaled(per_second, period, SECOND);
    out.cpu.quota = Some(i64::try_from(quota).unwrap_or(i64::MAX));
    Cow::Owned(out)
}

/// `value * by / of` without overflow in between; far above what the kernel takes it stays finite.
fn scaled(value: u64, by: u64, of: u64) -> u64 {
    let wide = u128::from(value) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(wide).unwrap_or(INFINITY / 2)
}

/// Up; down only where no larger number is left, for the kernel to refuse.
fn whole_percents(exact: u64) -> u64 {
    let up = exact.checked_next_multiple_of(PERCENT);
    up.unwrap_or(exact - exact % PERCENT)
}

/// All limits but device rules.
pub(crate) fn limits(r: &Resources, when: When, io: IoFile, out: &mut List) -> Result<()> {
    let memory = &r.memory;
    if let Some(limit) = memory.limit {
        out.number("MemoryMax", or_infinity(limit));
    }
    if let Some(reservation) = memory.reservation {
        out.number("MemoryLow", or_infinity(reservation));
    }
    if let Some(swap) = swap_max(memory.swap, memory.limit)? {
        out.number("MemorySwapMax", or_infinity(swap));
    }
    cpu(&r.cpu, out)?;
    if let Some(pids) = r.pids {
        out.number("TasksMax", or_infinity(pids));
    }
    io_weights(&r.block_io, io, out);
    io_rates(&r.block_io, out);
    for (file, text) in &r.unified {
        // Of several lines, which the kernel takes one after the other, the last one counts.
        let value = text.lines().rev().map(str::trim).find(|l| !l.is_empty());
        if let Some(value) = value {
            unified::property(file, value, when, out)
                .with_context(|| format!("linux.resources.unified[{file}]: `{value}`"))?;
        }
    }
    Ok(())
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

fn cpu(c: &Cpu, out: &mut List) -> Result<()> {
    if c.idle == Some(1) {
        // How systemd writes "idle", since 252.
        out.number("CPUWeight", 0);
    } else if let Some(shares) = c.shares {
        out.number("CPUWeight", cpu_weight(shares));
    }
    if c.quota.is_some() || c.period.is_some() {
        quota(c.quota, c.period, out);
    }
    for (name, field, list) in [
        ("AllowedCPUs", "cpus", &c.cpus),
        ("AllowedMemoryNodes", "mems", &c.mems),
    ] {
        if let Some(list) = list {
            let bits = unified::bit_mask(list)
                .with_context(|| format!("linux.resources.cpu.{field}: `{list}`"))?;
            out.set(name, Value::Bytes(bits));
        }
    }
    Ok(())
}

pub(super) fn quota(quota: Option<i64>, period: Option<u64>, out: &mut List) {
    if let Some(period) = period {
        out.number("CPUQuotaPeriodUSec", period);
    }
    let period = period.unwrap_or(DEFAULT_PERIOD);
    let per_second = match quota.and_then(|quota| u64::try_from(quota).ok()) {
        Some(quota) if quota > 0 => whole_percents(scaled(quota, SECOND, period)),
        _ => INFINITY,
    };
    out.number("CPUQuotaPerSecUSec", per_second);
}

pub(crate) fn io_weights(io: &BlockIo, file: IoFile, out: &mut List) {
    if let Some(weight) = io.weight {
        out.number("IOWeight", file.property(weight));
    }
    let weights: Vec<_> = io
        .weight_device
        .iter()
        .filter_map(|d| Some((block_device(d.major, d.minor), file.property(d.weight?))))
        .collect();
    if !weights.is_empty() {
        out.set("IODeviceWeight", Value::Rates(weights));
    }
}

fn io_rates(io: &BlockIo, out: &mut List) {
    let rate = |t: &Throttle| {
        let rate = if t.rate == 0 { INFINITY } else { t.rate };
        (block_device(t.major, t.minor), rate)
    };
    for (name, list) in [
        ("IOReadBandwidthMax", &io.read_bps),
        ("IOWriteBandwidthMax", &io.write_bps),
        ("IOReadIOPSMax", &io.read_iops),
        ("IOWriteIOPSMax", &io.write_iops),
    ] {
        if !list.is_empty() {
            out.set(name, Value::Rates(list.iter().map(rate).collect()));
        }
    }
}

/// By number, which needs no node of the device in /dev.
fn block_device(major: u32, minor: u32) -> String {
    format!("/dev/block/{major}:{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resources::{Memory, WeightDevice};

    fn shown(r: &Resources) -> Vec<String> {
        let mut list = List::default();
        limits(r, When::Creation, IoFile::Weight, &mut list).unwrap();
        let show = |p: Property| match p.value {
            Value::U64(INFINITY) => format!("{}=infinity", p.name),
            Value::U64(n) => format!("{}={n}", p.name),
            other => format!("{}={other:?}", p.name),
        };
        list.done().into_iter().map(show).collect()
    }

    fn of_cpu(quota: Option<i64>, period: Option<u64>) -> Resources {
        Resources {
            cpu: Cpu {
                quota,
                period,
                ..Cpu::default()
            },
            ..Resources::default()
        }
    }

    fn of_unified(file: &str, value: &str) -> Resources {
        Resources {
            unified: [(file.to_owned(), value.to_owned())].into(),
            ..Resources::default()
        }
    }

    #[test]
    fn nothing_of_nothing() {
        assert!(shown(&Resources::default()).is_empty());
    }

    #[test]
    fn a_rich_config() {
        let r = Resources {
            pids: Some(7),
            memory: Memory {
                limit: Some(1000),
                swap: Some(1000),
                reservation: Some(500),
                ..Memory::default()
            },
            cpu: Cpu {
                shares: Some(1024),
                cpus: Some("0-2,9".to_owned()),
                mems: Some("0".to_owned()),
                ..Cpu::default()
            },
            block_io: BlockIo {
                weight: Some(1000),
                weight_device: vec![WeightDevice {
                    major: 8,
                    minor: 16,
                    weight: Some(10),
                    leaf_weight: None,
                }],
                read_bps: vec![Throttle {
                    major: 8,
                    minor: 0,
                    rate: 5,
                }],
                write_iops: vec![Throttle {
                    major: 8,
                    minor: 0,
                    rate: 0,
                }],
                ..BlockIo::default()
            },
            ..Resources::default()
        };
        assert_eq!(
            shown(&r),
            [
                "MemoryMax=1000",
                "MemoryLow=500",
                "MemorySwapMax=0",
                "CPUWeight=100",
                "AllowedCPUs=Bytes([7, 2])",
                "AllowedMemoryNodes=Bytes([1])",
                "TasksMax=7",
                "IOWeight=10000",
                "IODeviceWeight=Rates([(\"/dev/block/8:16\", 1)])",
                "IOReadBandwidthMax=Rates([(\"/dev/block/8:0\", 5)])",
                "IOWriteIOPSMax=Rates([(\"/dev/block/8:0\", 18446744073709551615)])",
            ]
        );
    }

    #[test]
    fn no_limit_is_infinity() {
        let r = Resources {
            pids: Some(-1),
            memory: Memory {
                limit: Some(-1),
                ..Memory::default()
            },
            ..Resources::default()
        };
        assert_eq!(
            shown(&r),
            [
                "MemoryMax=infinity",
                "MemorySwapMax=infinity",
                "TasksMax=infinity"
            ]
        );
    }

    #[test]
    fn quotas_are_whole_percents() {
        let exact = of_cpu(Some(50_000), Some(100_000));
        assert_eq!(rounded(&exact).cpu.quota, Some(50_000));
        assert_eq!(
            shown(&exact),
            ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=500000"]
        );
        let odd = of_cpu(Some(33_333), None);
        assert_eq!(rounded(&odd).cpu.quota, Some(34_000));
        assert_eq!(shown(&odd), ["CPUQuotaPerSecUSec=340000"]);
        let small = of_cpu(Some(1234), Some(7000));
        assert_eq!(shown(&small)[1], "CPUQuotaPerSecUSec=180000");
        assert_eq!(rounded(&small).cpu.quota, Some(1260));
        let largest = of_cpu(Some(i64::MAX), Some(500_000));
        assert_eq!(
            shown(&largest)[1],
            "CPUQuotaPerSecUSec=18446744073709550000"
        );
        assert_eq!(rounded(&largest).cpu.quota, Some(9_223_372_036_854_775_000));
        let larger = of_cpu(Some(i64::MAX), Some(1_000_000));
        assert_eq!(rounded(&larger).cpu.quota, Some(i64::MAX));
        let none = of_cpu(Some(-1), None);
        assert_eq!(rounded(&none).cpu.quota, Some(-1));
        assert_eq!(shown(&none), ["CPUQuotaPerSecUSec=infinity"]);
        assert_eq!(
            shown(&of_cpu(None, Some(5000))),
            ["CPUQuotaPeriodUSec=5000", "CPUQuotaPerSecUSec=infinity"]
        );
        // No number makes it panic.
        rounded(&of_cpu(Some(i64::MAX), Some(1)));
        shown(&of_cpu(Some(i64::MAX), Some(1)));
    }

    #[test]
    fn the_weight_that_counts_comes_out_exactly() {
        // What systemd writes to io.bfq.weight.
        let bfq = |weight: u64| match weight {
            ..=100 => 100 - (100 - weight) * 99 / 99,
            _ => 100 + (weight - 100) * 900 / 9900,
        };
        for weight in 10..=1000 {
            let property = IoFile::BfqWeight.property(weight);
            assert!((1..=10_000).contains(&property));
            assert_eq!(bfq(property), u64::from(weight));
        }
        assert_eq!(IoFile::Weight.property(1000), 10_000);
    }

    #[test]
    fn idle_is_weight_nought() {
        let mut r = of_cpu(None, None);
        r.cpu.idle = Some(1);
        r.cpu.shares = Some(2048);
        assert_eq!(shown(&r), ["CPUWeight=0"]);
    }

    #[test]
    fn unified_wins_over_the_field_of_its_own_and_its_last_line_counts() {
        assert_eq!(
            shown(&of_unified("cpu.weight", "1\n44\n")),
            ["CPUWeight=44"]
        );
        let mut both = of_unified("memory.max", "5");
        both.memory.limit = Some(9);
        assert_eq!(shown(&both), ["MemoryMax=5"]);
    }

    #[test]
    fn bad_values_name_their_field() {
        let error = |r: &Resources| {
            let error =
                limits(r, When::Creation, IoFile::Weight, &mut List::default()).unwrap_err();
            format!("{error:#}")
        };
        let mut r = of_cpu(None, None);
        for bad in ["a", "3-1", "70000", "0-3:1/2", ","] {
            r.cpu.cpus = Some(bad.to_owned());
            assert!(
                error(&r).starts_with("linux.resources.cpu.cpus: `"),
                "{bad}"
            );
        }
        let text = error(&of_unified("memory.high", "99999999999999999E"));
        assert!(
            text.starts_with("linux.resources.unified[memory.high]: `"),
            "{text}"
        );
    }
}
