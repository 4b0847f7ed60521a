//! (spec, options) -> plain data.

pub(crate) mod devices;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod rootfs;
