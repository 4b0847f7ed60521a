//! `rundlet ps`: the container's process ids, or the host's ps(1) filtered by them.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::print;
use crate::container;
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct PsArgs {
    #[arg(hide = true)]
    id: String,
    #[arg(hide = true)]
    options: Vec<OsString>,
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: String,
}

pub(super) fn run(context: &Context, args: &PsArgs) -> Result<i32> {
    let pids = container::ps::pids(context, &args.id)?;
    match args.format.as_str() {
        "table" => {}
        "json" => {
            // No process at all is `null`, as a Go program prints it.
            let json = if pids.is_empty() {
                "null".into()
            } else {
                serde_json::to_string(&pids)?
            };
            print(&format!("{json}\n"))?;
            return Ok(0);
        }
        other => bail!("--format: invalid format option `{other}` (table or json)"),
    }
    let default = [OsString::from("-ef")];
    let options = if args.options.is_empty() {
        &default[..]
    } else {
        &args.options
    };
    let output = Command::new("ps")
        .args(options)
        .output()
        .context("run the host's `ps`")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ps: {}: {}", output.status, said.trim());
    }
    print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(0)
}

/// The header and the rows whose PID column is one of `pids`.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|title| title == "PID")
        .context("couldn't find PID field in ps output")?;
    let mut out = format!("{header}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let cell = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = cell
            .parse()
            .with_context(|| format!("unable to parse pid `{cell}` in ps output"))?;
        if pids.contains(&pid) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_pid_column_wherever_it_is() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sh -c 1\nroot    2     12 x\n";
        assert_eq!(
            filter(table, &[12]).unwrap(),
            "UID   PID  PPID CMD\nroot   12     1 sh -c 1\n"
        );
        assert_eq!(filter(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert_eq!(filter("PID TTY\n 1 ?\n", &[1]).unwrap(), "PID TTY\n 1 ?\n");
    }

    #[test]
    fn a_table_without_pids_is_refused() {
        assert!(filter("CMD\nsh\n", &[1]).is_err());
        assert!(filter("", &[1]).is_err());
        assert!(filter("PID\nx\n", &[1]).is_err());
    }
}
