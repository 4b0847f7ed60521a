//! `rundlet checkpoint`, and the flags it shares with `restore`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::absolute;
use crate::container;
use crate::container::options::{CheckpointOptions, Context};
use crate::criu::dump::DumpFlags;
use crate::criu::options::{CgroupsMode, Common, NetworkLock, PageServer};

/// Flags of both verbs.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct ImageArgs {
    /// directory of the images (default: ./checkpoint)
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// directory of CRIU's log and other files (default: that of the images)
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// allow established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// close TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// allow unix sockets with a peer outside of the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// allow processes of a session from outside of the container
    #[arg(long)]
    shell_job: bool,
    /// keep file locks
    #[arg(long)]
    file_locks: bool,
    /// what becomes of cgroups below the container's: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<CgroupsMode>,
    /// make a namespace without restoring what is in it; NAMESPACE is network, which is always so
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// drop pages from parent images that newer images have
    #[arg(long)]
    auto_dedup: bool,
    /// restore memory when it is used, by userfaultfd
    #[arg(long)]
    lazy_pages: bool,
    /// how CRIU keeps packets away meanwhile: iptables, nftables or skip
    #[arg(long, value_name = "METHOD")]
    network_lock: Option<NetworkLock>,
}

impl ImageArgs {
    pub(super) fn images(&self) -> Result<PathBuf> {
        absolute(
            self.image_path
                .as_deref()
                .unwrap_or(Path::new("checkpoint")),
        )
    }

    pub(super) fn work(&self) -> Result<Option<PathBuf>> {
        self.work_path.as_deref().map(absolute).transpose()
    }

    pub(super) fn common(&self) -> Result<Common> {
        if let Some(name) = self.empty_ns.iter().find(|name| *name != "network") {
            bail!("--empty-ns: namespace {name:?} is not supported");
        }
        Ok(Common {
            ext_unix_sk: self.ext_unix_sk,
            tcp_established: self.tcp_established,
            tcp_close: self.tcp_close,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            lazy_pages: self.lazy_pages,
            auto_dedup: self.auto_dedup,
            cgroups: self.manage_cgroups_mode,
            network_lock: self.network_lock,
        })
    }
}

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct CheckpointArgs {
    #[arg(hide = true)]
    id: String,
    #[command(flatten)]
    image: ImageArgs,
    /// images of an earlier --pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// leave the container running
    #[arg(long)]
    leave_running: bool,
    /// save memory only and leave the container running, for a later checkpoint with --parent-path
    #[arg(long)]
    pre_dump: bool,
    /// leave TCP connections out that are not yet accepted
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// keep files that are open and have no name any more by giving them one
    #[arg(long)]
    link_remap: bool,
    /// descriptor that gets a null byte when --lazy-pages is ready
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,
    /// send memory to this page server instead of the images
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<PageServer>,
}

pub(super) fn run(context: &Context, args: &CheckpointArgs) -> Result<i32> {
    let options = CheckpointOptions {
        id: args.id.clone(),
        images: args.image.images()?,
        work: args.image.work()?,
        common: args.image.common()?,
        flags: DumpFlags {
            leave_running: args.leave_running,
            pre_dump: args.pre_dump,
            tcp_skip_in_flight: args.tcp_skip_in_flight,
            link_remap: args.link_remap,
            page_server: args.page_server.clone(),
            parent: args.parent_path.clone(),
        },
        // runc's default, which callers may give.
        status_fd: args.status_fd.filter(|fd| *fd != -1),
    };
    container::checkpoint::checkpoint(context, &options)?;
    Ok(0)
}
