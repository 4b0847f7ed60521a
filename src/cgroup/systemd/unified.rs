//! Files of `linux.resources.unified` as properties of a systemd unit, and how their values are read. Pure. Called by
//! `properties.rs`.

use anyhow::{Context, Result, ensure};

use super::properties::{INFINITY, List, When, quota};
use super::wire::Value;

/// Far above what a kernel can be built for; it bounds the bit mask.
const LAST_CPU: usize = 65_535;

/// The files that systemd would write itself. The others are nobody's but the container's.
pub(super) fn property(file: &str, value: &str, when: When, out: &mut List) -> Result<()> {
    match file {
        "cpu.idle" if value == "1" => out.number("CPUWeight", 0),
        "cpu.weight" => out.number("CPUWeight", number(value)?),
        "cpu.max" => {
            let (max, period) = value.split_once(' ').unwrap_or((value, ""));
            let period = match period.trim() {
                "" => None,
                period => Some(number(period)?),
            };
            let max = match max {
                "max" => -1,
                max => i64::try_from(number(max)?).context("too large")?,
            };
            quota(Some(max), period, out);
        }
        "cpuset.cpus" => out.set("AllowedCPUs", Value::Bytes(bit_mask(value)?)),
        "cpuset.mems" => out.set("AllowedMemoryNodes", Value::Bytes(bit_mask(value)?)),
        "memory.min" => out.number("MemoryMin", size(value)?),
        "memory.low" => out.number("MemoryLow", size(value)?),
        "memory.high" => out.number("MemoryHigh", size(value)?),
        "memory.max" => out.number("MemoryMax", size(value)?),
        "memory.swap.max" => out.number("MemorySwapMax", size(value)?),
        "memory.zswap.max" => out.number("MemoryZSwapMax", size(value)?),
        "memory.oom.group" if when == When::Creation => {
            let policy = if value == "1" { "kill" } else { "continue" };
            out.set("OOMPolicy", Value::Str(policy.to_owned()));
        }
        "pids.max" => out.number("TasksMax", size(value)?),
        _ => {}
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.parse().context("is not a number")
}

/// A size as the kernel reads it, memparse(): with a suffix or `max`.
fn size(text: &str) -> Result<u64> {
    if text == "max" {
        return Ok(INFINITY);
    }
    let suffix = text.chars().last().unwrap_or(' ').to_ascii_lowercase();
    let power = "kmgtpe".find(suffix).map_or(0, |at| at + 1);
    let digits = if power > 0 {
        &text[..text.len() - 1]
    } else {
        text
    };
    let unit = 1u64 << (10 * power);
    number(digits)?.checked_mul(unit).context("is too large")
}

/// `0-2,7` as a bit mask, the lowest bit first.
pub(super) fn bit_mask(list: &str) -> Result<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, end) = part.split_once('-').unwrap_or((part, part));
        let parse = |text: &str| {
            let number = text.trim().parse::<usize>();
            number.context("is not a list of numbers and ranges")
        };
        let (first, end) = (parse(first)?, parse(end)?);
        ensure!(first <= end, "has a range that ends before it begins");
        ensure!(end <= LAST_CPU, "has a number above {LAST_CPU}");
        mask.resize(mask.len().max(end / 8 + 1), 0u8);
        for bit in first..=end {
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    ensure!(!mask.is_empty(), "is empty");
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str, value: &str, when: When) -> Vec<String> {
        let mut list = List::default();
        property(file, value, when, &mut list).unwrap();
        let shown = list.done().into_iter().map(|p| match p.value {
            Value::U64(INFINITY) => format!("{}=infinity", p.name),
            Value::U64(n) => format!("{}={n}", p.name),
            other => format!("{}={other:?}", p.name),
        });
        shown.collect()
    }

    #[test]
    fn files_that_systemd_would_write() {
        for (file, value, expected) in [
            ("memory.high", "1M", "MemoryHigh=1048576"),
            ("memory.max", "max", "MemoryMax=infinity"),
            ("memory.oom.group", "1", "OOMPolicy=Str(\"kill\")"),
            ("memory.oom.group", "0", "OOMPolicy=Str(\"continue\")"),
            ("pids.max", "77", "TasksMax=77"),
            ("cpu.weight", "44", "CPUWeight=44"),
            ("cpu.idle", "1", "CPUWeight=0"),
            ("cpu.max", "max", "CPUQuotaPerSecUSec=infinity"),
            ("cpuset.cpus", "0", "AllowedCPUs=Bytes([1])"),
        ] {
            assert_eq!(shown(file, value, When::Creation), [expected]);
        }
        assert_eq!(
            shown("cpu.max", "5000 40000", When::Creation),
            ["CPUQuotaPeriodUSec=40000", "CPUQuotaPerSecUSec=130000"]
        );
        assert!(shown("hugetlb.2MB.max", "1", When::Creation).is_empty());
        assert!(shown("memory.oom.group", "1", When::Update).is_empty());
    }
}
