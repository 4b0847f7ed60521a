//! `linux.intelRdt`: the class of service, the lines of its schemata file and whether it is monitored. Pure. Carried out by
//! `rdt`; `update` makes its lines here too.

use anyhow::{Result, ensure};
use oci_spec::runtime::{Linux, LinuxIntelRdt};

/// What a container asks of resctrl.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rdt {
    /// Name of a group that may be shared; the container's own, with its id, where there is none. `/` is the root group.
    pub(crate) class: Option<String>,
    /// In the order in which they are written.
    pub(crate) schemata: Vec<String>,
    pub(crate) monitoring: Monitoring,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Monitoring {
    #[default]
    Off,
    On,
}

pub(super) fn plan(linux: &Linux) -> Result<Option<Rdt>> {
    let Some(given) = linux.intel_rdt() else {
        return Ok(None);
    };
    let class = given.clos_id().clone().filter(|class| !class.is_empty());
    if let Some(class) = &class {
        ensure!(
            class == "/" || is_directory_name(class),
            "linux.intelRdt.closID: `{class}` is not the name of a group"
        );
    }
    let monitoring = if given.enable_monitoring() == &Some(true) {
        Monitoring::On
    } else {
        Monitoring::Off
    };
    Ok(Some(Rdt {
        class,
        schemata: lines(given)?,
        monitoring,
    }))
}

fn lines(given: &LinuxIntelRdt) -> Result<Vec<String>> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (cache, bandwidth) = (text(given.l3_cache_schema()), text(given.mem_bw_schema()));
    for (field, schema) in [("l3CacheSchema", &cache), ("memBwSchema", &bandwidth)] {
        for line in schema.lines() {
            check_line(field, line)?;
        }
    }
    let mut all = schemata(&cache, &bandwidth);
    for (index, line) in given.schemata().iter().flatten().enumerate() {
        ensure!(
            !line.contains('\n'),
            "linux.intelRdt.schemata[{index}]: is more than one line"
        );
        check_line(&format!("schemata[{index}]"), line)?;
        all.push(line.clone());
    }
    all.retain(|line| !line.trim().is_empty());
    Ok(all)
}

fn check_line(field: &str, line: &str) -> Result<()> {
    ensure!(
        line.trim().is_empty() || line.contains(':') && !line.contains('\0'),
        "linux.intelRdt.{field}: `{line}` is not a line of a schemata file, such as `L3:0=f;1=f0`"
    );
    Ok(())
}

/// The lines of a cache and a bandwidth schema. Of two lines about bandwidth that of the bandwidth schema holds.
pub(crate) fn schemata(cache: &str, bandwidth: &str) -> Vec<String> {
    let is_bandwidth = |line: &str| line.trim_start().starts_with("MB:");
    let cache = cache
        .lines()
        .filter(|line| bandwidth.is_empty() || !is_bandwidth(line));
    cache.chain(bandwidth.lines()).map(str::to_owned).collect()
}

fn is_directory_name(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Option<Rdt>> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn schemas_become_lines() {
        let planned = of(
            r#"{"intelRdt":{"closID":"gold","l3CacheSchema":"L3:0=f\nMB:0=20","memBwSchema":"MB:0=50",
            "schemata":["L2:0=3"],"enableMonitoring":true}}"#,
        );
        let planned = planned.unwrap().unwrap();
        assert_eq!(planned.schemata, ["L3:0=f", "MB:0=50", "L2:0=3"]);
        assert_eq!(planned.class.as_deref(), Some("gold"));
        assert_eq!(planned.monitoring, Monitoring::On);
        let planned = of(r#"{"intelRdt":{"closID":"","l3CacheSchema":"L3:0=f\nMB:0=20"}}"#);
        let planned = planned.unwrap().unwrap();
        assert_eq!(planned.schemata, ["L3:0=f", "MB:0=20"]);
        assert_eq!((planned.class, planned.monitoring), (None, Monitoring::Off));
        assert_eq!(of("{}").unwrap(), None);
    }

    #[test]
    fn names_and_lines_are_checked() {
        for (json, wanted) in [
            (r#"{"closID":".."}"#, "linux.intelRdt.closID: "),
            (r#"{"closID":"a/b"}"#, "linux.intelRdt.closID: "),
            (r#"{"closID":"//"}"#, "linux.intelRdt.closID: "),
            (
                r#"{"schemata":["L3:0=f\nL3:1=f"]}"#,
                "linux.intelRdt.schemata[0]: ",
            ),
            (
                r#"{"memBwSchema":"50"}"#,
                "linux.intelRdt.memBwSchema: `50` is not",
            ),
        ] {
            let text = of(&format!(r#"{{"intelRdt":{json}}}"#))
                .unwrap_err()
                .to_string();
            assert!(text.starts_with(wanted), "{text}");
        }
    }
}
