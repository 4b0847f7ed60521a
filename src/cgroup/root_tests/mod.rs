//! Tests that need a kernel and root. v1 ones use the host's hierarchies, below groups of their own; v2 ones run
//! themselves again in a mount namespace with cgroup2 on /sys/fs/cgroup. Skipped with a printed reason elsewhere.

mod v1;
mod v2;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use super::detect::Layout;
use super::record::Record;
use super::{Cgroup, Place};
use crate::plan::resources::{self, Resources};

const SECOND: Duration = Duration::from_secs(1);

fn planned(json: &str) -> Resources {
    resources::plan(&serde_json::from_str(json).unwrap()).unwrap()
}

/// `exec --cgroup` with one argument.
fn exec_in(cgroup: &Cgroup, sub: &str) -> anyhow::Result<Place> {
    cgroup.for_exec(&[sub.to_owned()])
}

fn sleeper() -> Child {
    Command::new("sleep").arg("300").spawn().unwrap()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn error<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// A top-level group of one test, taken away at its end together with what is below it.
struct Top {
    name: String,
    mounts: Vec<PathBuf>,
}

impl Top {
    fn new(layout: &Layout, test: &str) -> Self {
        let mounts = match layout {
            Layout::Unified { mount } => vec![mount.clone()],
            Layout::Legacy { hierarchies } => hierarchies.iter().map(|h| h.mount.clone()).collect(),
        };
        Self {
            name: format!("rundlet-test-{}-{test}", std::process::id()),
            mounts,
        }
    }

    fn path(&self, below: &str) -> String {
        format!("/{}/{below}", self.name)
    }

    fn exists(&self) -> bool {
        self.mounts.iter().any(|m| m.join(&self.name).exists())
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        for mount in &self.mounts {
            if let Ok(root) = super::dir::Dir::mount(mount) {
                let _ = super::tree::remove(
                    &root,
                    &self.name,
                    super::tree::Left::Kill,
                    super::procs::Deadline::after(SECOND),
                );
            }
        }
    }
}

fn legacy() -> Option<Layout> {
    if !geteuid().is_root() {
        println!("skipped: not root");
        return None;
    }
    match Layout::detect() {
        Ok(layout @ Layout::Legacy { .. }) => Some(layout),
        other => {
            println!("skipped: no cgroup v1 host: {other:?}");
            None
        }
    }
}

/// Runs `test` in a private view of cgroup v2: the test program starts itself once more for it.
fn in_v2(name: &str, test: impl FnOnce(&Layout)) {
    const MARK: &str = "RUNDLET_TEST_V2_VIEW";
    if std::env::var_os(MARK).is_some() {
        return test(&Layout::detect().unwrap());
    }
    if !geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let status = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t cgroup2 none /sys/fs/cgroup || exit 77; exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            &format!("cgroup::root_tests::v2::{name}"),
        ])
        .env(MARK, "1")
        .status()
        .unwrap();
    if status.code() == Some(77) {
        println!("skipped: cgroup2 can not be mounted");
        return;
    }
    assert!(status.success(), "{name} failed in the v2 view");
}

fn value(mount: &Path, path: &str, file: &str) -> String {
    let file = mount.join(path.trim_start_matches('/')).join(file);
    std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        .trim()
        .to_owned()
}

/// All that must work when somebody else has removed the cgroup.
fn gone(record: &Record) {
    let cgroup = Cgroup::open(record).unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_frozen().unwrap());
    assert_eq!(cgroup.oom_kill_count().unwrap(), 0);
    cgroup.kill_all(Signal::SIGKILL).unwrap();
    cgroup.remove(SECOND).unwrap();
    assert!(
        cgroup
            .apply_limits(&planned(r#"{"pids":{"limit":1}}"#))
            .is_err()
    );
}
