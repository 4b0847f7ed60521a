//! `rundlet restore`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::absolute;
use super::checkpoint::ImageArgs;
use crate::container;
use crate::container::options::{Context, CreateOptions, RestoreOptions, RunOptions};
use crate::criu::restore::RestoreFlags;

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct RestoreArgs {
    #[arg(hide = true)]
    id: String,
    /// directory of the bundle (default: the current directory)
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    image: ImageArgs,
    /// path of the AF_UNIX socket that receives the master end of the console's terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// file to write the process id to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// return when the container runs again
    #[arg(long, short)]
    detach: bool,
    /// do not adopt processes whose parent in the container has ended
    #[arg(long)]
    no_subreaper: bool,
    /// for callers of runc: CRIU always changes the root in its own way
    #[arg(long)]
    no_pivot: bool,
    /// LSM profile of the restored processes, as TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux context of the restored mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

pub(super) fn run(context: &Context, args: &RestoreArgs) -> Result<i32> {
    let options = RestoreOptions {
        run: RunOptions {
            create: CreateOptions {
                id: args.id.clone(),
                bundle: absolute(args.bundle.as_deref().unwrap_or(Path::new("")))?,
                config: "config.json".into(),
                console_socket: args.console_socket.as_deref().map(absolute).transpose()?,
                pidfd_socket: None,
                pid_file: args.pid_file.as_deref().map(absolute).transpose()?,
                no_pivot: args.no_pivot,
                no_new_keyring: false,
                preserve_fds: 0,
                overlay: None,
            },
            detach: args.detach,
            keep: false,
            no_subreaper: args.no_subreaper,
        },
        images: args.image.images()?,
        work: args.image.work()?,
        common: args.image.common()?,
        flags: RestoreFlags {
            lsm_profile: args.lsm_profile.clone(),
            lsm_mount_context: args.lsm_mount_context.clone(),
        },
    };
    container::restore::restore(context, &options)
}
