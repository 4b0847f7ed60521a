//! Safe path work without OCI knowledge: everything below a descriptor, nothing by string (P1-P4).
//!
//! Written on openat2(2) rather than on the `pathrs` crate: the kernel floor of 5.12 always has openat2, and what
//! rundlet needs of it are the files here. Measured: `pathrs` 0.2.6 (with its 18 crates) adds 188 KiB to a static
//! release binary for what openat2 does in these calls, and the kinds of inodes, which decide here, would still have
//! to be checked around it.

pub(crate) mod atomic;
pub(crate) mod culprit;
pub(crate) mod inroot;
pub(crate) mod mountinfo;
pub(crate) mod passwd;
pub(crate) mod procfs;
pub(crate) mod small;
