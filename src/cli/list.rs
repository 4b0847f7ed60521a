//! `rundlet list`: as a table, as JSON, or ids only.

use anyhow::{Result, bail};

use super::print;
use crate::container;
use crate::container::options::Context;
use crate::container::output::StateOutput;

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// print ids only
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, args: &ListArgs) -> Result<i32> {
    let containers = container::list::list(context)?;
    if args.quiet {
        let ids: Vec<&str> = containers
            .iter()
            .flat_map(|container| [container.id.as_str(), "\n"])
            .collect();
        print(&ids.concat())?;
        return Ok(0);
    }
    match args.format.as_str() {
        "table" => print(&table(&containers))?,
        // An empty list is `null`, as a Go program prints it.
        "json" if containers.is_empty() => print("null\n")?,
        "json" => print(&format!("{}\n", serde_json::to_string(&containers)?))?,
        other => bail!("--format: invalid format option `{other}` (table or json)"),
    }
    Ok(0)
}

/// Columns at least 12 wide, three blanks between them, the last one as long as it is.
fn table(containers: &[StateOutput]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(containers.iter().map(|container| {
        [
            container.id.clone(),
            container.pid.to_string(),
            container.status.clone(),
            container.bundle.clone(),
            container.created.clone(),
            container.owner.clone(),
        ]
    }));
    let mut widths = [12; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths).take(5) {
            out.extend([format!("{cell:<width$}")]);
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str) -> StateOutput {
        StateOutput {
            oci_version: "1.3.0".into(),
            id: id.into(),
            pid: 42,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations: std::collections::BTreeMap::new(),
            owner: "root".into(),
        }
    }

    #[test]
    fn columns_fit_their_longest_cell() {
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
        let lines = table(&[container("a-rather-long-id"), container("b")]);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines[1],
            "a-rather-long-id   42          running     /b          2026-01-01T00:00:00Z   root"
        );
        assert!(lines.iter().all(|line| line.find("  ").is_some()));
        assert_eq!(lines[0].find("PID"), lines[2].find("42"));
    }

    #[test]
    fn the_json_has_the_names_engines_decode() {
        let text = serde_json::to_string(&[container("a")]).unwrap();
        assert_eq!(
            text,
            "[{\"ociVersion\":\"1.3.0\",\"id\":\"a\",\"pid\":42,\"status\":\"running\",\"bundle\":\"/b\",\
             \"rootfs\":\"/b/rootfs\",\"created\":\"2026-01-01T00:00:00Z\",\"owner\":\"root\"}]"
        );
    }
}
