//! `rundlet create`, and the flags it shares with `run`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::absolute;
use crate::container;
use crate::container::explain::Action;
use crate::container::options::{Context, CreateOptions, Overlay};

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct CreateArgs {
    #[arg(hide = true)]
    id: String,
    /// directory of the bundle (default: the current directory)
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// name of the configuration file, below the bundle unless absolute (default: config.json)
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<PathBuf>,
    /// path of the AF_UNIX socket that receives the master end of the console's terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// path of the AF_UNIX socket that receives a pidfd of the container's process
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<PathBuf>,
    /// file to write the process id to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// do not use pivot_root (for a root file system on top of a ramdisk)
    #[arg(long)]
    no_pivot: bool,
    /// keep the caller's session keyring instead of a new one
    #[arg(long)]
    no_new_keyring: bool,
    /// pass N more descriptors to the container (standard streams + $LISTEN_FDS + N in all)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// write to a layer above the root file system that goes away with the container
    #[arg(long)]
    overlay: bool,
    /// write to a layer above the root file system that stays in DIR
    #[arg(long, value_name = "DIR")]
    overlay_upper: Option<PathBuf>,
}

/// What only `create` has.
#[derive(clap::Args)]
pub(super) struct OnlyCreateArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// make nothing, but print what would be done, in its order
    #[arg(long)]
    dry_run: bool,
    /// form of what --dry-run prints: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true
    )]
    format: String,
}

impl CreateArgs {
    pub(super) fn options(&self) -> Result<CreateOptions> {
        let overlay = match (self.overlay, &self.overlay_upper) {
            (_, Some(upper)) => Some(Overlay::Upper(absolute(upper)?)),
            (true, None) => Some(Overlay::Temporary),
            (false, None) => None,
        };
        Ok(CreateOptions {
            id: self.id.clone(),
            bundle: absolute(self.bundle.as_deref().unwrap_or(Path::new("")))?,
            config: self.config.clone().unwrap_or_else(|| "config.json".into()),
            console_socket: self.console_socket.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            overlay,
        })
    }
}

pub(super) fn run(context: &Context, args: &OnlyCreateArgs) -> Result<i32> {
    let options = args.create.options()?;
    if !args.dry_run {
        container::create::create(context, &options)?;
        return Ok(0);
    }
    let actions = container::explain::explain(context, &options)?;
    match args.format.as_str() {
        "text" => super::print(&text(&actions))?,
        "json" => {
            let all = actions.iter().map(|action| {
                serde_json::json!({"step": action.step, "action": action.text, "detail": action.detail})
            });
            let all: Vec<serde_json::Value> = all.collect();
            super::print(&format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        }
        other => bail!("--format: invalid format option `{other}` (text or json)"),
    }
    Ok(0)
}

fn text(actions: &[Action]) -> String {
    let lines = actions
        .iter()
        .flat_map(|action| [action.step, ": ", action.text.as_str(), "\n"]);
    lines.collect()
}
