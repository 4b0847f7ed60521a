//! What stands in a document beside the fields of the specification, and the form of a path into it. Pure. Called by the parent
//! module.

use serde_json::Value;

use super::{Finding, Level};
use crate::spec::known::{nearest, unknown_fields};

/// Annotations that rundlet reads.
const OWN: [&str; 4] = [
    "org.rundlet.cgroup.delegate",
    "org.rundlet.rootfs.overlay.lower",
    "org.rundlet.rootfs.overlay.upper",
    "org.rundlet.rootfs.overlay.work",
];

/// Unknown fields, and annotations that look like rundlet's own and are none. Nobody reads them.
pub(super) fn unknown(document: &Value) -> Vec<Finding> {
    let mut findings: Vec<Finding> = unknown_fields(document)
        .into_iter()
        .map(|unknown| {
            let finding = Finding::new(
                Level::Warning,
                unknown.path,
                "runtime-spec 1.3 has no such field: it is ignored",
            );
            match unknown.meant {
                Some(meant) => finding.hint(format!("`{meant}` is probably meant")),
                None => finding,
            }
        })
        .collect();
    let annotations = document["annotations"].as_object();
    for key in annotations.into_iter().flat_map(serde_json::Map::keys) {
        if !key.starts_with("org.rundlet.") || OWN.contains(&key.as_str()) {
            continue;
        }
        let finding = Finding::new(
            Level::Warning,
            format!("annotations[{key:?}]"),
            "rundlet has no such annotation: it is ignored",
        );
        findings.push(match nearest(key, &OWN) {
            Some(meant) => finding.hint(format!("`{meant}` is probably meant")),
            None => finding,
        });
    }
    findings
}

/// `a.b[2]["c.d"]` as `a`, `b`, `2`, `c.d`.
pub(super) fn parts(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quoted = inner.starts_with('"');
            let close = if quoted { "\"]" } else { "]" };
            let Some((part, after)) = inner[usize::from(quoted)..].split_once(close) else {
                break;
            };
            parts.push(part.to_owned());
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            parts.push(name[..end].to_owned());
            rest = &name[end..];
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(parts("a.b[2].c"), ["a", "b", "2", "c"]);
        assert_eq!(
            parts("linux.sysctl[\"net.core.x\"]"),
            ["linux", "sysctl", "net.core.x"]
        );
        assert_eq!(parts("mounts"), ["mounts"]);
    }
}
