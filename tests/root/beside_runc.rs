//! Two runtimes beside each other: the same bundle given to the one under test and to the host's runc, and all files of the two
//! containers' cgroups compared. For `conversions`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{CGROUP_PARENT, Cx, eventually};
use Meant::{Done, Files, Refused, Same};

/// What the two may differ in.
pub(super) enum Meant {
    Same,
    /// These files may differ, for a reason.
    Files(&'static [&'static str], &'static str),
    /// This runtime refuses what runc drops or gets wrong, with these words.
    Refused(&'static str, &'static str),
    /// runc fails at what this runtime does.
    Done(&'static str),
}

pub(super) type Settings = BTreeMap<String, String>;
pub(super) type Side = Result<Settings, String>;

/// The same test on runc.
pub(super) fn runc(cx: &Cx) -> Cx {
    if !cx.is_rundlet() {
        cx.skip("compares this runtime with runc");
    }
    cx.on_runc(cx.dir.clone())
}

/// The cgroups of a container that are there.
fn groups(cx: &Cx, id: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if cx.is_v2() {
        return vec![top.join(CGROUP_PARENT).join(id)];
    }
    let entries = fs::read_dir(top).unwrap().flatten();
    let groups = entries.map(|e| e.path().join(CGROUP_PARENT).join(id));
    groups.filter(|path| path.exists()).collect()
}

/// runc 1.1 leaves a cgroup behind whose dying process it does not wait for, on a busy host.
fn clean_after_runc(cx: &Cx, id: &str) {
    for group in groups(cx, id) {
        eventually("a cgroup that runc left is removed", 20, || {
            fs::remove_dir(&group).is_ok() || !group.exists()
        });
    }
}

/// The settings of all cgroups of a container, by controller and file; what counts or measures is left out.
pub(super) fn settings(cx: &Cx, id: &str) -> Settings {
    let groups = groups(cx, id);
    assert!(!groups.is_empty(), "no cgroup of {id}");
    let mut out = BTreeMap::new();
    for entry in groups
        .iter()
        .flat_map(|g| fs::read_dir(g).unwrap().flatten())
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let counts = [
            "stat",
            "usage",
            "current",
            "events",
            "peak",
            "pressure",
            "procs",
            "tasks",
            "threads",
            "failcnt",
            "slabinfo",
            "io_serv",
            "cgroup.controllers",
            "subtree_control",
            "numastat",
            "reclaim",
            "cost",
        ];
        if counts.iter().any(|word| name.contains(word)) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(entry.path()) {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            // Two ways in which hugetlb says that there is no limit.
            let text = lines.join("; ").replace("9223372036854771712", "max");
            out.insert(name, text);
        }
    }
    assert!(!out.is_empty());
    out
}

/// Compares two sides of the same, `Err` being the message of a runtime that refused. A file that only one side has must say
/// what it says in a group without limits: runc passes all controllers on, this runtime those that it needs.
pub(super) fn compare(what: &str, ours: &Side, theirs: &Side, unset: &Settings, meant: &Meant) {
    match (ours, theirs, meant) {
        (Err(ours), Ok(_), Refused(words, reason)) => {
            assert!(ours.contains(words), "{what}: {ours}");
            println!("{what}: refused: {reason}");
        }
        (Err(ours), Err(_), _) => {
            assert!(
                ours.contains("linux.resources."),
                "{what}: no field named: {ours}"
            );
        }
        (Ok(_), Err(_), Done(reason)) => println!("{what}: done: {reason}"),
        (Ok(ours), Ok(theirs), Same | Files(..) | Done(_)) => {
            let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            let value = |side: &Settings, name: &String| {
                let default = || unset.get(name).cloned().unwrap_or_else(|| "max".to_owned());
                side.get(name).cloned().unwrap_or_else(default)
            };
            for name in names {
                let (ours, theirs) = (value(ours, name), value(theirs, name));
                if ours == theirs {
                    continue;
                }
                match meant {
                    Files(names, reason) if names.contains(&name.as_str()) => {
                        println!("{what}: {name}: {ours}, runc {theirs}: {reason}");
                    }
                    _ => panic!("{what}: {name}: {ours:?}, runc {theirs:?}"),
                }
            }
        }
        _ => panic!(
            "{what}: {:?}, runc {:?}",
            ours.as_ref().map(BTreeMap::len),
            theirs.as_ref().map(BTreeMap::len)
        ),
    }
}

/// Creates a container with `resources` and looks.
pub(super) fn created(cx: &Cx, name: &str, resources: &Value) -> Side {
    let mut bundle = cx.named_bundle(name);
    for (key, value) in resources.as_object().unwrap() {
        bundle.set(&format!("/linux/resources/{key}"), value.clone());
    }
    let output = cx.try_create(&bundle);
    let side = if output.code == 0 {
        Ok(settings(cx, &bundle.id))
    } else {
        Err(output.stderr)
    };
    cx.call(&["delete", "--force", &bundle.id]).ok();
    if !cx.is_rundlet() {
        clean_after_runc(cx, &bundle.id);
    }
    side
}

pub(super) fn all_created(cx: &Cx, table: &[(Value, Meant)]) {
    let reference = runc(cx);
    let unset = created(&reference, "unset", &json!({})).unwrap();
    for (n, (resources, meant)) in table.iter().enumerate() {
        let ours = created(cx, &format!("a{n}"), resources);
        let theirs = created(&reference, &format!("b{n}"), resources);
        compare(&resources.to_string(), &ours, &theirs, &unset, meant);
    }
    println!("{} configurations", table.len());
}
