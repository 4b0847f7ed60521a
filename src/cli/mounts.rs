//! `rundlet mounts`: the form of crun, and `list`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::print;
use crate::container;
use crate::container::options::{Context, MountsOptions};
use crate::spec::MountsFrom;

#[derive(clap::Args)]
pub(super) struct MountsArgs {
    #[arg(hide = true)]
    action: String,
    #[arg(hide = true)]
    id: String,
    #[arg(hide = true)]
    file: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &MountsArgs) -> Result<i32> {
    let change = match (args.action.as_str(), &args.file) {
        ("add", Some(_)) => container::mounts::add,
        ("remove", Some(_)) => container::mounts::remove,
        ("add" | "remove", None) => bail!(
            "mounts {}: the file with the mounts is missing (`-` for standard input)",
            args.action
        ),
        ("list", None) => {
            let added = container::mounts::list(context, &args.id)?;
            print(&format!("{}\n", serde_json::to_string_pretty(&added)?))?;
            return Ok(0);
        }
        ("list", Some(_)) => bail!("mounts list: takes nothing but a container id"),
        (other, _) => bail!("mounts: `{other}` is none of add, remove and list"),
    };
    let from = match &args.file {
        Some(path) if path.as_os_str() != "-" => MountsFrom::File(path.clone()),
        _ => MountsFrom::Stdin,
    };
    change(
        context,
        &MountsOptions {
            id: args.id.clone(),
            from,
        },
    )?;
    Ok(0)
}
