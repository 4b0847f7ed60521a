//! The memory controller of cgroup v1. Its two limits, memory and memory+swap, must be ordered at every moment, so
//! which is written first depends on what is set already.

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;

use crate::cgroup::dir::{Dir, is_gone, keyed};
use crate::cgroup::write::{Rule, Write, write_all};
use crate::plan::resources::Memory;

const LIMIT: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";
const USAGE: &str = "memory.usage_in_bytes";
const PEAK: &str = "memory.max_usage_in_bytes";

/// The first field that asks for something.
pub(crate) fn asked(m: &Memory) -> Option<&'static str> {
    [
        ("memory.limit", m.limit.is_some()),
        ("memory.swap", m.swap.is_some()),
        ("memory.reservation", m.reservation.is_some()),
        ("memory.swappiness", m.swappiness.is_some()),
        ("memory.disableOOMKiller", m.disable_oom_killer.is_some()),
    ]
    .into_iter()
    .find_map(|(field, set)| set.then_some(field))
}

pub(crate) fn apply(dir: &Dir, m: &Memory) -> Result<()> {
    check_order(m)?;
    if m.check_before_update == Some(true) {
        check_usage(dir, m)?;
    }
    let current = if m.limit.is_some() && m.swap.is_some() {
        number(dir, LIMIT)
    } else {
        None
    };
    for write in limits(m, current) {
        set(dir, &write)?;
    }
    write_all(dir, &rest(m))
}

/// All that `apply` may write, in no order.
pub(crate) fn writes(m: &Memory) -> Vec<Write> {
    limits(m, None).into_iter().chain(rest(m)).collect()
}

/// The kernel only says EINVAL to this.
fn check_order(m: &Memory) -> Result<()> {
    if let (Some(limit), Some(swap)) = (m.limit, m.swap)
        && swap >= 0
        && (limit < 0 || swap < limit)
    {
        bail!(
            "linux.resources.memory.swap: memory+swap limit {swap} should be >= memory limit {limit}"
        );
    }
    Ok(())
}

/// The two limits in the order the kernel takes them. `current` is the memory limit now.
fn limits(m: &Memory, current: Option<u64>) -> Vec<Write> {
    let memory = m
        .limit
        .map(|l| Write::new("memory", "memory.limit", LIMIT, l));
    let swap = match (m.swap, m.limit) {
        // Lifting the memory limit lifts the other too; without swap accounting there is none.
        (None, Some(-1)) => {
            Some(Write::new("memory", "memory.limit", SWAP, -1).rule(Rule::IfPresent))
        }
        (swap, _) => swap.map(|s| Write::new("memory", "memory.swap", SWAP, s)),
    };
    let wide = u64::try_from(m.swap.unwrap_or(-1)).unwrap_or(u64::MAX);
    let swap_first = swap.is_some() && memory.is_some() && current.unwrap_or(0) < wide;
    let (first, second) = if swap_first {
        (swap, memory)
    } else {
        (memory, swap)
    };
    first.into_iter().chain(second).collect()
}

fn rest(m: &Memory) -> Vec<Write> {
    let mut out = Vec::new();
    if let Some(reservation) = m.reservation {
        out.push(Write::new(
            "memory",
            "memory.reservation",
            "memory.soft_limit_in_bytes",
            reservation,
        ));
    }
    if let Some(disable) = m.disable_oom_killer {
        out.push(Write::new(
            "memory",
            "memory.disableOOMKiller",
            "memory.oom_control",
            u8::from(disable),
        ));
    }
    if let Some(swappiness) = m.swappiness {
        out.push(Write::new(
            "memory",
            "memory.swappiness",
            "memory.swappiness",
            swappiness,
        ));
    }
    out
}

fn set(dir: &Dir, write: &Write) -> Result<()> {
    match write_all(dir, std::slice::from_ref(write)) {
        Err(error) if error.downcast_ref() == Some(&Errno::EBUSY) => {
            // Not even reclaim got usage below the new limit: say how much it is.
            let text =
                |file| number(dir, file).map_or_else(|| "unknown".to_owned(), |n| n.to_string());
            Err(anyhow!(Errno::EBUSY).context(format!(
                "linux.resources.{}: memory controller: unable to set memory limit to {} (current usage: {}, peak \
                 usage: {}) in `{dir}/{}`",
                write.field,
                write.value,
                text(USAGE),
                text(PEAK),
                write.file
            )))
        }
        result => result,
    }
}

fn check_usage(dir: &Dir, m: &Memory) -> Result<()> {
    let Some(usage) = number(dir, USAGE) else {
        return Ok(());
    };
    for (name, field, limit) in [
        ("memory+swap limit", "swap", m.swap),
        ("memory limit", "limit", m.limit),
    ] {
        if let Some(limit) = limit
            .and_then(|l| u64::try_from(l).ok())
            .filter(|&l| l <= usage)
        {
            bail!("linux.resources.memory.{field}: rejecting {name} {limit} <= usage {usage}");
        }
    }
    Ok(())
}

fn number(dir: &Dir, file: &str) -> Option<u64> {
    dir.read(file).ok()?.trim().parse().ok()
}

pub(crate) fn oom_kill_count(dir: &Dir) -> Result<u64> {
    match dir.read("memory.oom_control") {
        Ok(text) => Ok(keyed(&text, "oom_kill").unwrap_or(0)),
        Err(errno) if is_gone(errno) => Ok(0),
        Err(errno) => Err(errno).with_context(|| format!("read `{dir}/memory.oom_control`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_the_two_limits() {
        let order = |limit, swap, current| {
            let m = Memory {
                limit,
                swap,
                ..Memory::default()
            };
            let text = |w: Write| format!("{}={}", w.file, w.value);
            limits(&m, current)
                .into_iter()
                .map(text)
                .collect::<Vec<_>>()
        };
        let memory = |n: i64| format!("{LIMIT}={n}");
        let memsw = |n: i64| format!("{SWAP}={n}");
        // A fresh group is unlimited: memory first.
        assert_eq!(
            order(Some(100), Some(200), Some(u64::MAX)),
            [memory(100), memsw(200)]
        );
        // Raising both: memory+swap must be raised first.
        assert_eq!(
            order(Some(300), Some(400), Some(100)),
            [memsw(400), memory(300)]
        );
        // Lowering both below the present memory limit: memory first.
        assert_eq!(
            order(Some(50), Some(60), Some(100)),
            [memory(50), memsw(60)]
        );
        // No limit of memory+swap goes first whatever is set.
        assert_eq!(
            order(Some(50), Some(-1), Some(100)),
            [memsw(-1), memory(50)]
        );
        assert_eq!(order(Some(-1), None, None), [memsw(-1), memory(-1)]);
        assert_eq!(order(None, Some(7), None), [memsw(7)]);
        assert!(order(None, None, None).is_empty());
    }
}
