//! Finds what a test left behind by its token, and removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{CGROUP_PARENT, Cx};

/// Everything of the test that still exists; empty after a good test.
pub(crate) fn find(cx: &Cx) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cx.root()).into_iter().flatten().flatten() {
        found.push(format!("state {}", entry.path().display()));
    }
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if line.contains(&cx.token) {
            found.push(format!("mount {line}"));
        }
    }
    for path in cgroups(&cx.token) {
        found.push(format!("cgroup {}", path.display()));
    }
    for pid in processes(&cx.token) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.push(format!("process {pid}: {command}"));
    }
    found
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

/// Removes what is left of the test, by the token; errors are for the next look to find.
pub(crate) fn remove(cx: &Cx) {
    for _ in 0..20 {
        let pids = processes(&cx.token);
        for pid in &pids {
            let pid = nix::unistd::Pid::from_raw(*pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let groups = cgroups(&cx.token);
        for path in groups.iter().rev() {
            let _ = fs::write(path.join("freezer.state"), "THAWED");
            let _ = fs::write(path.join("cgroup.freeze"), "0");
            for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse() {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
            let _ = fs::remove_dir(path);
        }
        if pids.is_empty() && groups.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().rev() {
        if line.contains(&cx.token)
            && let Some(target) = line.split(' ').nth(4)
        {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    let _ = fs::remove_dir_all(&cx.dir);
}

/// Takes the suite's parent cgroup away; it stays while something is in it.
pub(crate) fn remove_parents() {
    for top in cgroup_mounts() {
        let _ = fs::remove_dir(top.join(CGROUP_PARENT));
    }
}

/// Processes (not zombies) whose mount table, root, working directory or command line has the token.
fn processes(token: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let parent = nix::unistd::getppid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == own || pid == parent {
            continue;
        }
        let dir = entry.path();
        let link = |name: &str| fs::read_link(dir.join(name)).is_ok_and(|to| to.to_string_lossy().contains(token));
        let text = |name: &str| {
            fs::read(dir.join(name)).is_ok_and(|data| String::from_utf8_lossy(&data).contains(token))
        };
        if text("cmdline") || link("cwd") || link("root") || text("mountinfo") || text("cgroup") {
            // A zombie shows its cgroup until it is reaped, and that is not the runtime's doing.
            if super::alive(i64::from(pid)) {
                found.push(pid);
            }
        }
    }
    found
}

fn cgroup_mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup").then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or("/")))
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
