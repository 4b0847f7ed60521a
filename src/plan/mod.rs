//! config.json plus facts of the host become plain data here, before anything happens. Pure but for `host`.
pub(crate) mod host;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod seccomp;
