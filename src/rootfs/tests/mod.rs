//! prepare, pivot and finish in real namespaces; they need root. Each test builds a small bundle, hostile where its
//! name says so, and looks at the result from inside.

// Inside of a bundle of its own a test may write as it likes.
#![allow(clippy::disallowed_methods)]

mod hostile;
mod special;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sched::CloneFlags;
use tempfile::TempDir;

use super::*;
use crate::plan;
use crate::sys::testing::{in_child, is_root};

const MNT: CloneFlags = CloneFlags::CLONE_NEWNS;

fn all() -> CloneFlags {
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
}

struct Bundle {
    dir: TempDir,
}

impl Bundle {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
        fs::create_dir_all(dir.path().join("host")).unwrap();
        fs::write(dir.path().join("rootfs/etc/hostname"), "image").unwrap();
        Self { dir }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Plans with this `mounts` array and these further members of `linux` (with a leading comma).
    fn plan(&self, namespaces: &[&str], mounts: &str, linux: &str, more: &str) -> RootfsPlan {
        let mut list = String::new();
        for name in namespaces {
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, r#"{comma}{{"type":"{name}"}}"#);
        }
        let json = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs","readonly":false}},
                "mounts":{mounts},"linux":{{"namespaces":[{list}]{linux}}}{more}}}"#
        );
        let spec = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        plan::rootfs::plan(&spec, self.dir.path()).unwrap()
    }
}

const PLAIN: [&str; 2] = ["mount", "pid"];

const DEV: &str = r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs",
    "options":["nosuid","strictatime","mode=755","size=65536k"]}"#;
const PROC: &str = r#"{"destination":"/proc","type":"proc","source":"proc"}"#;

/// What `runc spec` writes, without the cgroup.
const DEFAULT: &str = r#"[
    {"destination":"/proc","type":"proc","source":"proc"},
    {"destination":"/dev","type":"tmpfs","source":"tmpfs",
     "options":["nosuid","strictatime","mode=755","size=65536k"]},
    {"destination":"/dev/pts","type":"devpts","source":"devpts",
     "options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},
    {"destination":"/dev/shm","type":"tmpfs","source":"shm",
     "options":["nosuid","noexec","nodev","mode=1777","size=65536k"]},
    {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},
    {"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]}]"#;

const GUARDS: &str = r#","maskedPaths":["/proc/acpi","/proc/kcore","/proc/keys","/proc/timer_list","/proc/scsi",
    "/sys/firmware","/proc/absent","/proc/kcore"],
    "readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]"#;

/// Runs all three stages; the child then runs `look` in the container's root.
fn run(
    plan: &RootfsPlan,
    flags: CloneFlags,
    look: impl FnOnce() -> Result<String>,
) -> Result<String, String> {
    run_by(plan, flags, RootChange::Pivot, look)
}

fn run_by(
    plan: &RootfsPlan,
    flags: CloneFlags,
    change: RootChange,
    look: impl FnOnce() -> Result<String>,
) -> Result<String, String> {
    let sources = Sources::open(plan, None).map_err(|error| format!("{error:#}"))?;
    in_child(flags, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let root = prepare(plan, sources, None, &mut || Ok(()))?;
        root.pivot(plan, change)?;
        root.finish(plan)?;
        ensure!(
            std::env::current_dir()? == Path::new("/"),
            "the working directory is not `/`"
        );
        look()
    })
}

fn mountinfo() -> Result<String> {
    fs::read_to_string("/proc/self/mountinfo").context("mountinfo")
}

/// The options of the mount at `point`, as mountinfo shows them: those of the mount and those of the file system.
fn options<'a>(table: &'a str, point: &str) -> (&'a str, &'a str) {
    let mut found = ("", "");
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        if fields.next() == Some(point) {
            found = (
                fields.next().unwrap_or(""),
                line.rsplit(' ').next().unwrap_or(""),
            );
        }
    }
    found
}

fn names(path: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.to_owned())? {
        names.push(entry?.file_name().display().to_string());
    }
    names.sort();
    Ok(names)
}

#[test]
fn the_default_config() {
    if !is_root("the_default_config") {
        return;
    }
    let bundle = Bundle::new();
    let mut plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, GUARDS, "");
    plan.readonly = true;
    let table = run(&plan, all(), || {
        let null = fs::metadata("/dev/null")?;
        ensure!(
            null.file_type().is_char_device()
                && null.rdev() == 0x103
                && null.mode() & 0o777 == 0o666
        );
        ensure!(fs::read_link("/dev/ptmx")? == Path::new("pts/ptmx"));
        ensure!(fs::read_link("/dev/fd")? == Path::new("/proc/self/fd"));
        ensure!(fs::read("/proc/keys")?.is_empty(), "keys is not masked");
        ensure!(
            names("/sys/firmware").unwrap_or_default().is_empty(),
            "firmware is not masked"
        );
        ensure!(fs::write("/x", "").is_err(), "the root can be written");
        ensure!(
            fs::write("/proc/sys/kernel/domainname", "x").is_err(),
            "/proc/sys can be written"
        );
        fs::write("/dev/shm/x", "").context("/dev/shm")?;
        ensure!(fs::metadata("/dev/shm")?.mode() & 0o7777 == 0o1777);
        mountinfo()
    })
    .unwrap();
    assert_eq!(options(&table, "/").0, "ro,relatime");
    assert_eq!(options(&table, "/dev").0, "rw,nosuid");
    assert_eq!(options(&table, "/dev/pts").0, "rw,nosuid,noexec,relatime");
    assert!(
        options(&table, "/dev/pts")
            .1
            .contains("gid=5,mode=620,ptmxmode=666"),
        "{table}"
    );
    assert_eq!(options(&table, "/sys").0, "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(options(&table, "/proc").0, "rw,relatime");
    assert_eq!(options(&table, "/proc/sys").0, "ro,relatime");
    let roots = table
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"))
        .count();
    assert_eq!(roots, 1, "the old root is still there:\n{table}");
    assert!(
        !table.contains(bundle.dir.path().to_str().unwrap_or("?")) || table.contains("/rootfs / ")
    );
    if std::env::var_os("SHOW_MOUNTINFO").is_some() {
        println!("{table}");
    }
}

#[test]
fn requested_devices_have_their_rights() {
    if !is_root("requested_devices_have_their_rights") {
        return;
    }
    let bundle = Bundle::new();
    let linux = r#","devices":[{"path":"/dev/net/tun","type":"c","major":10,"minor":200,"fileMode":432,"uid":7,"gid":8},
        {"path":"/run/fifo","type":"p","fileMode":384}]"#;
    let plan = bundle.plan(&PLAIN, &format!("[{DEV}]"), linux, "");
    run(&plan, MNT, || {
        let tun = fs::metadata("/dev/net/tun")?;
        ensure!(
            (tun.mode() & 0o7777, tun.uid(), tun.gid()) == (0o660, 7, 8),
            "{tun:?}"
        );
        ensure!(fs::metadata("/run/fifo")?.file_type().is_fifo());
        Ok(String::new())
    })
    .unwrap();
}

#[test]
fn binds_have_their_attributes() {
    if !is_root("binds_have_their_attributes") {
        return;
    }
    let bundle = Bundle::new();
    let mounts = r#"[
        {"destination":"/src","type":"tmpfs","options":["nosuid","mode=700"]},
        {"destination":"/ro","source":"host","options":["rbind","ro","nodev","noatime","rprivate"]},
        {"destination":"/rw","source":"host","options":["bind","rw"]},
        {"destination":"/tree","source":"/dev","options":["rbind","rro","rnoexec","rslave","unbindable"]},
        {"destination":"/late","type":"tmpfs","options":["ro","nosuid"]},
        {"destination":"/late/in/it","source":"host","options":["bind","shared"]},
        {"destination":"/rw","options":["remount","ro"]},
        {"destination":"/ro/missing","type":"tmpfs"}]"#;
    let plan = bundle.plan(&PLAIN, mounts, "", "");
    // The last one needs a directory inside of a read-only source: M7.
    let error = run(&plan, MNT, mountinfo).unwrap_err();
    assert!(
        error.starts_with("mounts[7]: ") && error.contains("Read-only"),
        "{error}"
    );
    assert!(
        names(bundle.path("host").to_str().unwrap())
            .unwrap()
            .is_empty()
    );
    let mut plan = plan;
    plan.mounts.pop();
    let proc = format!("[{PROC}]");
    plan.mounts
        .extend(bundle.plan(&PLAIN, &proc, "", "").mounts);
    let table = run(&plan, MNT, mountinfo).unwrap();
    assert_eq!(options(&table, "/ro").0, "ro,nodev,noatime");
    assert_eq!(options(&table, "/rw").0, "ro,relatime");
    assert_eq!(options(&table, "/late").0, "ro,nosuid,relatime");
    assert_eq!(options(&table, "/late/in/it").0, "rw,relatime");
    assert!(
        table
            .lines()
            .any(|line| line.contains(" /late/in/it ") && line.contains("shared:"))
    );
    for line in table.lines().filter(|line| line.contains(" /tree")) {
        assert!(line.contains(" ro,") && line.contains("noexec"), "{line}");
    }
    assert!(
        table
            .lines()
            .any(|line| line.contains(" /tree ") && line.contains("unbindable"))
    );
}

#[test]
fn the_root_can_be_moved_instead_of_pivoted() {
    if !is_root("the_root_can_be_moved_instead_of_pivoted") {
        return;
    }
    let bundle = Bundle::new();
    let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, GUARDS, "");
    let mut plan = plan;
    plan.root = bundle.path("host/../rootfs");
    let got = run_by(&plan, all(), RootChange::Move, || {
        ensure!(fs::read("/etc/hostname")? == b"image");
        ensure!(fs::metadata("/..")?.ino() == fs::metadata("/")?.ino());
        mountinfo()
    });
    assert!(got.unwrap().contains(" /proc "));
}

#[test]
fn propagation_of_the_root() {
    if !is_root("propagation_of_the_root") {
        return;
    }
    let bundle = Bundle::new();
    for (word, mark) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("private", " - "),
        ("rprivate", " - "),
        ("slave", " - "),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let linux = format!(r#","rootfsPropagation":"{word}""#);
        let plan = bundle.plan(&PLAIN, &format!("[{PROC}]"), &linux, "");
        let table = run(&plan, MNT, mountinfo).unwrap_or_else(|error| panic!("{word}: {error}"));
        let root = table
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"))
            .unwrap();
        assert!(root.contains(mark), "{word}: {root}");
    }
}

#[test]
fn errors_say_where_and_why() {
    if !is_root("errors_say_where_and_why") {
        return;
    }
    let bundle = Bundle::new();
    symlink("/dev", bundle.path("rootfs/link")).unwrap();
    let cases = [
        (r#"{"destination":"/x","type":"nosuchfs"}"#, "nosuchfs"),
        (
            r#"{"destination":"/x","type":"tmpfs","options":["frob=1"]}"#,
            "Unknown parameter 'frob'",
        ),
        (
            r#"{"destination":"/x","source":"/no/such","options":["bind"]}"#,
            "No such file or directory",
        ),
        (
            r#"{"destination":"/etc","source":"/etc/passwd","options":["bind"]}"#,
            "Not a directory",
        ),
        (
            r#"{"destination":"/etc/hostname","source":"/etc","options":["bind"]}"#,
            "Not a directory",
        ),
        (
            r#"{"destination":"/none","options":["remount","ro"]}"#,
            "No such file or directory",
        ),
        (
            r#"{"destination":"/etc","options":["remount","ro"]}"#,
            "nothing is mounted",
        ),
        (
            r#"{"destination":"/link","options":["remount","rw","nodev"]}"#,
            "symbolic link",
        ),
        (r#"{"destination":"/x","type":"cgroup"}"#, "cgroup"),
    ];
    for (mount, text) in cases {
        let plan = bundle.plan(&PLAIN, &format!("[{DEV},{mount}]"), "", "");
        let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
        assert!(
            error.starts_with("mounts[1]: mount `/") && error.contains(text),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }
}
