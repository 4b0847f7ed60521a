//! `rundlet spec`: writes a config.json to start from.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::container::options::Context;
use crate::spec::template::{CgroupMode, Kind, config};

#[derive(clap::Args)]
pub(super) struct SpecArgs {
    /// directory of the bundle (default: the current directory)
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// for a container that needs no privileges on the host
    #[arg(long)]
    rootless: bool,
}

pub(super) fn run(_: &Context, args: &SpecArgs) -> Result<i32> {
    let kind = if args.rootless {
        Kind::Rootless {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    } else {
        Kind::Root
    };
    let unified =
        statfs("/sys/fs/cgroup").is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let cgroups = if unified {
        CgroupMode::Unified
    } else {
        CgroupMode::Legacy
    };
    let path = args.bundle.clone().unwrap_or_default().join("config.json");
    let at = || format!("write `{}`", path.display());
    // Exclusive: neither an existing file nor a link is written through.
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File {} exists. Remove it first", path.display())
        }
        other => other.with_context(at)?,
    };
    file.write_all(config(kind, cgroups).as_bytes())
        .with_context(at)?;
    Ok(0)
}
