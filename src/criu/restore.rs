//! The request that makes processes again from images. Called by `container::restore`.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use super::options::{Common, config_file};
use super::rpc::Message;
use super::{Directory, number};

/// CRIU's log of it.
pub(crate) const LOG: &str = "restore.log";
/// What it writes beside the images.
pub(crate) const FILES: [&str; 2] = [LOG, "stats-restore"];

/// Flags of `restore` alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoreFlags {
    pub(crate) lsm_profile: Option<String>,
    pub(crate) lsm_mount_context: Option<String>,
}

/// What is to be restored, and into what.
pub(crate) struct Restore<'a> {
    pub(crate) common: &'a Common,
    pub(crate) flags: &'a RestoreFlags,
    pub(crate) images: &'a Directory,
    pub(crate) work: &'a Directory,
    /// A mount point, in CRIU's mount namespace.
    pub(crate) root: &'a Path,
    pub(crate) config: Option<&'a str>,
    /// `mnt[...]:...`.
    pub(crate) external: &'a [Vec<u8>],
    /// The worker's cgroups, which become the container's: (controllers, path).
    pub(crate) cgroups: &'a [(String, String)],
    /// Descriptors of the worker under the keys of the images: of its inherited ones, or standard streams.
    pub(crate) inherit: &'a [(String, Inherit<'a>)],
    /// Namespaces to join: (kind, path).
    pub(crate) join: &'a [(&'static str, &'a Path)],
}

pub(crate) enum Inherit<'a> {
    Stdio(i32),
    Fd(&'a OwnedFd),
}

impl Restore<'_> {
    /// `criu_opts`.
    pub(crate) fn options(&self) -> Message {
        use std::os::unix::ffi::OsStrExt as _;
        let mut options = Message::default();
        let (images, work) = (number(self.images), number(self.work));
        self.common.write(LOG, images, work, &mut options);
        // A device of the container that the image names in another way is found by its number.
        options.flag(6, true);
        options.bytes(13, self.root.as_os_str().as_bytes());
        for (controllers, path) in self.cgroups {
            let mut message = Message::default();
            message.bytes(1, controllers);
            message.bytes(2, path);
            options.message(25, &message);
        }
        // The first process becomes this process's child, not CRIU's.
        options.flag(26, true);
        for (key, fd) in self.inherit {
            let mut message = Message::default();
            message.bytes(1, key);
            message.int(
                2,
                match fd {
                    Inherit::Stdio(number) => *number,
                    Inherit::Fd(fd) => fd.as_raw_fd(),
                },
            );
            options.message(27, &message);
        }
        for external in self.external {
            options.bytes(37, external);
        }
        for (kind, path) in self.join {
            let mut message = Message::default();
            message.bytes(1, kind);
            message.bytes(2, path.as_os_str().as_bytes());
            options.message(39, &message);
        }
        if let Some(path) = config_file(self.config) {
            options.bytes(51, path);
        }
        if let Some(profile) = &self.flags.lsm_profile {
            options.bytes(53, profile);
        }
        if let Some(context) = &self.flags.lsm_mount_context {
            options.bytes(63, context);
        }
        options
    }
}
