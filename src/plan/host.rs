//! Facts about the runtime's own process, read once before the plan is made: one file, /proc/self/status.

use anyhow::{Context as _, Result};

/// What the runtime itself may do and inherits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    /// Permitted capabilities of the runtime: no more can be given to a container in the same user namespace.
    pub(crate) permitted: u64,
    /// Signals the caller left ignored (bit n-1 = signal n): the program must not inherit that (X5).
    pub(crate) ignored_signals: u64,
    /// Effective uid.
    pub(crate) euid: u32,
}

impl Host {
    pub(crate) fn probe() -> Result<Host> {
        let status =
            std::fs::read_to_string("/proc/self/status").context("read `/proc/self/status`")?;
        let mask = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
                .with_context(|| format!("no usable `{key}` in /proc/self/status"))
        };
        Ok(Host {
            permitted: mask("CapPrm:")?,
            ignored_signals: mask("SigIgn:")?,
            euid: nix::unistd::geteuid().as_raw(),
        })
    }
}
