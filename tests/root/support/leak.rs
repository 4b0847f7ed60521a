//! Finds what a test left behind, and removes it. Nothing here ever signals a process: a test's
//! processes are in a pid namespace of their own (see `boxed`) and end with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{CGROUP_PARENT, Cx, World};

/// Everything of the test that still exists; empty after a good test. Called inside the test's own
/// pid namespace, where every process but the box's init and the caller is one of the test's.
pub(crate) fn find(cx: &Cx) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cx.root()).into_iter().flatten().flatten() {
        found.push(format!("state {}", entry.path().display()));
    }
    for line in fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
    {
        if line.contains(&cx.token) {
            found.push(format!("mount {line}"));
        }
    }
    for path in cgroups(&cx.token) {
        found.push(format!("cgroup {}", path.display()));
    }
    if cx.world == World::Systemd {
        // No pid namespace of the test's own: its processes are in its cgroups, and those were looked for.
        found.extend(units(&cx.token));
        return found;
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid != 1 && pid != std::process::id() && super::alive(i64::from(pid)) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("process {pid}: {command}"));
        }
    }
    found
}

/// The units that systemd still knows with the token in their name.
fn units(token: &str) -> Vec<String> {
    let output = Command::new("systemctl")
        .args(["list-units", "--all", "--plain", "--no-legend"])
        .arg(format!("*{token}*"))
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let lines = String::from_utf8_lossy(&text).into_owned();
    lines.lines().map(|line| format!("unit {line}")).collect()
}

/// Gives dying processes a moment, then reports.
pub(crate) fn settle(cx: &Cx) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let found = find(cx);
        if found.is_empty() || Instant::now() > end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets frozen processes of the test die with its pid namespace.
pub(crate) fn thaw(token: &str) {
    for path in cgroups(token) {
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            if path.join(file).exists() {
                let _ = fs::write(path.join(file), value);
            }
        }
    }
}

/// Removes the directories of the test: its processes and mounts went with its namespaces.
pub(crate) fn remove(cx: &Cx) {
    if cx.world == World::Systemd && !units(&cx.token).is_empty() {
        for verb in ["kill", "stop", "reset-failed"] {
            let mut command = Command::new("systemctl");
            command.args([verb, "--no-ask-password"]);
            if verb == "kill" {
                command.arg("--signal=KILL");
            }
            let _ = command.arg(format!("*{}*", cx.token)).output();
        }
    }
    for _ in 0..20 {
        let groups = cgroups(&cx.token);
        for path in groups.iter().rev() {
            let _ = fs::remove_dir(path);
        }
        if groups.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = fs::remove_dir_all(&cx.dir);
}

/// Takes the suite's parent cgroup away; it stays while something is in it, as of another run.
pub(crate) fn remove_parents() {
    for _ in 0..10 {
        let parents: Vec<PathBuf> = cgroup_mounts()
            .iter()
            .map(|top| top.join(CGROUP_PARENT))
            .collect();
        for parent in &parents {
            let _ = fs::remove_dir(parent);
        }
        if !parents.iter().any(|parent| parent.exists()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn cgroup_mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right
                .starts_with("cgroup")
                .then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or("/")))
        })
        .collect()
}

/// The cgroup directories with the token in their name, and those below, parents first.
fn cgroups(token: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in cgroup_mounts() {
        walk(&top, token, 0, false, &mut found);
    }
    found
}

fn walk(dir: &Path, token: &str, depth: usize, inside: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth > 4 || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let inside = inside || entry.file_name().to_string_lossy().contains(token);
        if inside {
            found.push(entry.path());
        }
        walk(&entry.path(), token, depth + 1, inside, found);
    }
}
