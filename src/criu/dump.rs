//! The request that saves a container's processes to images. Called by `container::checkpoint`.

use std::path::{Path, PathBuf};

use super::options::{Common, PageServer, config_file};
use super::rpc::{Kind, Message};
use super::{Directory, number};

/// CRIU's log of it.
pub(crate) const LOG: &str = "dump.log";
/// What it writes beside the images.
pub(crate) const FILES: [&str; 2] = [LOG, "stats-dump"];

/// Flags of `checkpoint` alone.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(crate) struct DumpFlags {
    pub(crate) leave_running: bool,
    pub(crate) pre_dump: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) link_remap: bool,
    pub(crate) page_server: Option<PageServer>,
    /// Relative to the images.
    pub(crate) parent: Option<PathBuf>,
}

/// What is to be dumped, and where to.
pub(crate) struct Dump<'a> {
    pub(crate) common: &'a Common,
    pub(crate) flags: &'a DumpFlags,
    pub(crate) images: &'a Directory,
    pub(crate) work: &'a Directory,
    pub(crate) init: i32,
    pub(crate) rootfs: &'a Path,
    pub(crate) config: Option<&'a str>,
    /// Directory of the cgroup whose freezer stops the processes.
    pub(crate) freezer: Option<&'a Path>,
    /// `mnt[...]:...`, `net[...]:...`: what is not the container's own.
    pub(crate) external: &'a [String],
}

impl Dump<'_> {
    pub(crate) fn kind(&self) -> Kind {
        if self.flags.pre_dump {
            Kind::PreDump
        } else {
            Kind::Dump
        }
    }

    /// `criu_opts`.
    pub(crate) fn options(&self) -> Message {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let mut options = Message::default();
        let (images, work) = (number(self.images), number(self.work));
        self.common.write(LOG, images, work, &mut options);
        options.int(2, self.init);
        options.flag(3, self.flags.leave_running);
        if let Some(server) = &self.flags.page_server {
            let mut message = Message::default();
            message.bytes(1, &server.address);
            message.int(2, server.port.into());
            options.message(11, &message);
        }
        options.bytes(13, bytes(self.rootfs));
        if let Some(parent) = &self.flags.parent {
            options.bytes(14, bytes(parent));
            options.flag(15, true);
        }
        options.flag(18, self.flags.link_remap);
        for external in self.external {
            options.bytes(37, external);
        }
        if let Some(freezer) = self.freezer {
            options.bytes(44, bytes(freezer));
        }
        options.flag(46, self.flags.tcp_skip_in_flight);
        if let Some(path) = config_file(self.config) {
            options.bytes(51, path);
        }
        options
    }
}
