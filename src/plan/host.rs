//! Facts about the runtime's own process, read once before the plan is made: /proc/self/status and the user namespace it
//! runs in. Called by `container`; the question about the user namespace also by `cli` and `cgroup`.

use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::fs::small::{read_file, read_text};

/// What the runtime itself may do and inherits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    /// Permitted capabilities of the runtime: no more can be given to a container in the same user namespace.
    pub(crate) permitted: u64,
    /// The runtime's bounding set.
    pub(crate) bounding: u64,
    /// Signals the caller left ignored (bit n-1 = signal n): the program must not inherit that (X5).
    pub(crate) ignored_signals: u64,
    /// Effective ids.
    pub(crate) euid: u32,
    pub(crate) egid: u32,
    /// setgroups(2) is refused in the user namespace of the runtime, and so in every one made in it.
    pub(crate) setgroups_denied: bool,
}

/// The initial one has the same number everywhere (PROC_USER_INIT_INO of include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// Of the runtime, as it was at the first question. Where there is no such file the kernel knows no user namespaces.
pub(crate) fn in_initial_user_namespace() -> bool {
    static INITIAL: OnceLock<bool> = OnceLock::new();
    *INITIAL.get_or_init(|| match std::fs::read_link("/proc/self/ns/user") {
        Ok(name) => name.as_os_str() == INITIAL_USER_NAMESPACE,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

impl Host {
    pub(crate) fn probe() -> Result<Host> {
        let status = read_text("/proc/self/status").context("read `/proc/self/status`")?;
        let mask = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
                .with_context(|| format!("no usable `{key}` in /proc/self/status"))
        };
        // Real, effective, saved, of the file system.
        let effective = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok())
                .with_context(|| format!("no usable `{key}` in /proc/self/status"))
        };
        Ok(Host {
            permitted: mask("CapPrm:")?,
            bounding: mask("CapBnd:")?,
            ignored_signals: mask("SigIgn:")?,
            euid: effective("Uid:")?,
            egid: effective("Gid:")?,
            // In the initial user namespace it is never denied, and elsewhere the file is there.
            setgroups_denied: !in_initial_user_namespace()
                && read_file("/proc/self/setgroups").is_ok_and(|text| text.trim_ascii() == b"deny"),
        })
    }

    /// Whether the caller left this signal ignored.
    pub(crate) fn ignores(&self, signal: i32) -> bool {
        self.ignored_signals & (1 << (signal - 1)) != 0
    }

    /// A user of the host without root's rights: what those rights are needed for is done inside of the container's user
    /// namespace, where the user has them.
    pub(crate) fn is_unprivileged(&self) -> bool {
        self.euid != 0
    }
}
