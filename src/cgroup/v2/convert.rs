//! Values of `linux.resources`, which speak cgroup v1, in the units of cgroup v2. Pure.

use anyhow::{Result, bail};

/// Swap alone out of memory and swap together. `None` leaves the file alone, -1 is no limit.
pub(crate) fn swap_max(swap: Option<i64>, limit: Option<i64>) -> Result<Option<i64>> {
    Ok(match (swap, limit) {
        // Lifting the memory limit lifts swap too, as it does in v1.
        (None, Some(-1)) | (Some(-1), _) => Some(-1),
        (None, _) => None,
        (Some(_), None | Some(-1)) => {
            bail!("linux.resources.memory.swap: unable to set swap limit without memory limit")
        }
        (Some(swap), Some(limit)) if swap < limit => bail!(
            "linux.resources.memory.swap: memory+swap limit {swap} should be >= memory limit {limit}"
        ),
        (Some(swap), Some(limit)) => Some(swap - limit),
    })
}

/// cpu.shares 2..262144 as cpu.weight 1..10000. The curve goes through 1024 -> 100, the defaults of both, which the
/// linear formula of earlier runtimes (39) did not.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "1 to 10000 by the arms above"
            )]
            let weight = weight as u64;
            weight
        }
    }
}

/// blkio weight 10..1000 as io.weight 1..10000.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_weights() {
        // Worked out from the formula in another language; 2, 1024 and 262144 are its fixed points.
        for (shares, weight) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (4, 2),
            (16, 5),
            (102, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (100_000, 4340),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "shares {shares}");
        }
        let all: Vec<u64> = (2..300_000).map(cpu_weight).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn io_weights() {
        for (weight, io) in [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), io, "weight {weight}");
        }
    }

    #[test]
    fn swap_alone() {
        for (swap, limit, max) in [
            (None, None, None),
            (None, Some(100), None),
            (None, Some(-1), Some(-1)),
            (Some(-1), None, Some(-1)),
            (Some(-1), Some(100), Some(-1)),
            (Some(300), Some(100), Some(200)),
            (Some(100), Some(100), Some(0)),
        ] {
            assert_eq!(swap_max(swap, limit).unwrap(), max, "{swap:?} {limit:?}");
        }
        assert!(swap_max(Some(300), None).is_err());
        assert!(swap_max(Some(300), Some(-1)).is_err());
        assert!(swap_max(Some(99), Some(100)).is_err());
    }
}
