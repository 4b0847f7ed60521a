//! Which fields runtime-spec 1.3 knows, and what a document has beside them: misspelt ones are ignored by every runtime, as the
//! specification asks. Called by `container::check`; a test compares `fields.txt` with the specification's schema.

use serde_json::Value;

/// One path a line; `[]` is any element, `*` any key. Below a path that is a whole line everything is a value.
const FIELDS: &str = include_str!("fields.txt");

/// A field that the specification does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// As it stands in the document: `linux.resources.memory.limits`.
    pub(crate) path: String,
    /// A field of the same object that was probably meant.
    pub(crate) meant: Option<String>,
}

/// Every unknown field of a configuration, in the document's order.
pub(crate) fn unknown_fields(document: &Value) -> Vec<Unknown> {
    let mut found = Vec::new();
    walk(document, "", "", &mut found);
    found
}

/// The names that may follow `path` (in the form of the lines); empty below a value.
fn names_below(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = FIELDS
        .lines()
        .filter_map(|line| line.strip_prefix(path))
        .filter_map(|rest| {
            if path.is_empty() {
                Some(rest)
            } else {
                rest.strip_prefix('.')
            }
        })
        .filter_map(|rest| rest.split(['.', '[']).next())
        .collect();
    names.dedup();
    names
}

fn walk(value: &Value, pattern: &str, shown: &str, found: &mut Vec<Unknown>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(
                    item,
                    &format!("{pattern}[]"),
                    &format!("{shown}[{index}]"),
                    found,
                );
            }
        }
        Value::Object(members) => {
            let names = names_below(pattern);
            if names.is_empty() {
                return;
            }
            for (key, value) in members {
                let shown = member_path(shown, key);
                let name = if names.contains(&"*") {
                    "*"
                } else {
                    key.as_str()
                };
                if names.contains(&name) {
                    let separator = if pattern.is_empty() { "" } else { "." };
                    walk(value, &format!("{pattern}{separator}{name}"), &shown, found);
                } else {
                    let meant = nearest(key, &names).map(str::to_owned);
                    found.push(Unknown { path: shown, meant });
                }
            }
        }
        _ => {}
    }
}

/// `a.b`, or `a["b c"]` where the key is no plain word.
fn member_path(parent: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match (plain, parent.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}

/// The one name that differs by no more than case, `_` and `-`, or a third of its letters.
pub(crate) fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = plain(word);
    names
        .iter()
        .map(|name| (distance(&wanted, &plain(name)), *name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's: insertions, deletions and exchanges of one letter.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let exchanged = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn misspelt_fields_are_found_where_they_stand() {
        let document = json!({
            "ociversion": "1.0.0",
            "process": {"args": ["sh"], "noNewPriviledges": true, "user": {"uid": 0, "Gid": 0}},
            "mounts": [{"destination": "/x"}, {"destination": "/y", "option": ["ro"]}],
            "annotations": {"anything": "goes"},
            "linux": {
                "sysctl": {"net.x": "1"},
                "resources": {"memory": {"limits": 1}, "unified": {"a.b": "c"}, "rdma": {"mlx5": {"hcaHandle": 1}}},
                "netDevices": {"eth0": {"names": "x"}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrno": 1},
                "zzz zzz": 1
            }
        });
        let found: Vec<(String, Option<String>)> = unknown_fields(&document)
            .into_iter()
            .map(|unknown| (unknown.path, unknown.meant))
            .collect();
        let is = |path: &str, meant: Option<&str>| (path.to_owned(), meant.map(str::to_owned));
        for wanted in [
            is("ociversion", Some("ociVersion")),
            is("process.noNewPriviledges", Some("noNewPrivileges")),
            is("process.user.Gid", Some("gid")),
            is("mounts[1].option", Some("options")),
            is("linux.resources.memory.limits", Some("limit")),
            is("linux.resources.rdma.mlx5.hcaHandle", Some("hcaHandles")),
            is("linux.netDevices.eth0.names", Some("name")),
            is("linux.seccomp.defaultErrno", Some("defaultErrnoRet")),
            is("linux[\"zzz zzz\"]", None),
        ] {
            assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
        }
        assert_eq!(found.len(), 9, "{found:?}");
    }

    #[test]
    fn the_default_configuration_has_no_unknown_field() {
        use crate::spec::template::{CgroupMode, Kind, config};
        let document = serde_json::from_str(&config(Kind::Root, CgroupMode::Unified)).unwrap();
        assert_eq!(unknown_fields(&document), []);
    }
}
