//! prepare, pivot and finish in real namespaces; they need root. Each test builds a small bundle, hostile where its
//! name says so, and looks at the result from inside.

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
fn run(plan: &RootfsPlan, flags: CloneFlags, look: impl FnOnce() -> Result<String>) -> Result<String, String> {
    run_by(plan, flags, RootChange::Pivot, look)
}

fn run_by(
    plan: &RootfsPlan,
    flags: CloneFlags,
    change: RootChange,
    look: impl FnOnce() -> Result<String>,
) -> Result<String, String> {
    let sources = Sources::open(plan).map_err(|error| format!("{error:#}"))?;
    in_child(flags, || {
        let root = prepare(plan, sources, None)?;
        root.pivot(plan, change)?;
        root.finish(plan)?;
        ensure!(std::env::current_dir()? == Path::new("/"), "the working directory is not `/`");
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
        let fields: Vec<&str> = line.split(' ').collect();
        if fields[4] == point {
            found = (fields[5], line.rsplit(' ').next().unwrap_or(""));
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
        ensure!(null.file_type().is_char_device() && null.rdev() == 0x103 && null.mode() & 0o777 == 0o666);
        ensure!(fs::read_link("/dev/ptmx")? == Path::new("pts/ptmx"));
        ensure!(fs::read_link("/dev/fd")? == Path::new("/proc/self/fd"));
        ensure!(fs::read("/proc/kcore")?.is_empty(), "kcore is not masked");
        ensure!(names("/proc/scsi").unwrap_or_default().is_empty(), "scsi is not masked");
        ensure!(fs::write("/x", "").is_err(), "the root can be written");
        ensure!(fs::write("/proc/sys/kernel/domainname", "x").is_err(), "/proc/sys can be written");
        fs::write("/dev/shm/x", "").context("/dev/shm")?;
        ensure!(fs::metadata("/dev/shm")?.mode() & 0o7777 == 0o1777);
        mountinfo()
    })
    .unwrap();
    assert_eq!(options(&table, "/").0, "ro,relatime");
    assert_eq!(options(&table, "/dev").0, "rw,nosuid");
    assert_eq!(options(&table, "/dev/pts").0, "rw,nosuid,noexec,relatime");
    assert!(options(&table, "/dev/pts").1.contains("gid=5,mode=620,ptmxmode=666"), "{table}");
    assert_eq!(options(&table, "/sys").0, "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(options(&table, "/proc").0, "rw,relatime");
    assert_eq!(options(&table, "/proc/sys").0, "ro,relatime");
    let roots = table.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
    assert_eq!(roots, 1, "the old root is still there:\n{table}");
    assert!(!table.contains(bundle.dir.path().to_str().unwrap_or("?")) || table.contains("/rootfs / "));
    if std::env::var_os("SHOW_MOUNTINFO").is_some() {
        println!("{table}");
    }
}

#[test]
fn a_hostile_dev_link_makes_nothing_on_the_host() {
    if !is_root("a_hostile_dev_link_makes_nothing_on_the_host") {
        return;
    }
    let bundle = Bundle::new();
    let host = bundle.path("host");
    fs::write(host.join("ptmx"), "precious").unwrap();
    // Once absolute, once by way of the parents: CVE-2026-41579, CVE-2026-47766, D1.
    for target in [host.clone(), Path::new("../host").to_owned()] {
        let dev = bundle.path("rootfs/dev");
        let _ = fs::remove_file(&dev);
        symlink(&target, &dev).unwrap();
        let plan = bundle.plan(&PLAIN, "[]", "", "");
        let got = run(&plan, MNT, || names("/dev").map(|names| names.join(" ")));
        assert_eq!(names(host.to_str().unwrap()).unwrap(), ["ptmx"]);
        assert_eq!(fs::read(host.join("ptmx")).unwrap(), b"precious");
        assert!(got.unwrap().contains("null"));
    }
}

#[test]
fn what_is_in_the_place_of_a_device_is_not_trusted() {
    if !is_root("what_is_in_the_place_of_a_device_is_not_trusted") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/dev")).unwrap();
    fs::write(bundle.path("host/file"), "precious").unwrap();
    symlink(bundle.path("host/file"), bundle.path("rootfs/dev/null")).unwrap();
    fs::write(bundle.path("rootfs/dev/zero"), "fake").unwrap();
    nix::unistd::mkfifo(&bundle.path("rootfs/dev/full"), FILE_MODE).unwrap();
    // A mount of the config in the place of a default device stays.
    let mounts = r#"[{"destination":"/dev/random","source":"/dev/urandom","options":["bind"]}]"#;
    let plan = bundle.plan(&PLAIN, mounts, "", "");
    run(&plan, MNT, || {
        for (name, device) in [("null", 0x103), ("zero", 0x105), ("full", 0x107), ("random", 0x109)] {
            let stat = fs::symlink_metadata(Path::new("/dev").join(name))?;
            ensure!(stat.rdev() == device, "{name}: {:#x}", stat.rdev());
        }
        Ok(String::new())
    })
    .unwrap();
    assert_eq!(fs::read(bundle.path("host/file")).unwrap(), b"precious");
    assert_eq!(fs::metadata(bundle.path("host/file")).unwrap().mode() & 0o777, 0o644);
    fs::remove_file(bundle.path("rootfs/dev/tty")).unwrap();
    fs::create_dir(bundle.path("rootfs/dev/tty")).unwrap();
    let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
    assert!(error.contains("/dev/tty"), "{error}");
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
        ensure!((tun.mode() & 0o7777, tun.uid(), tun.gid()) == (0o660, 7, 8), "{tun:?}");
        ensure!(fs::metadata("/run/fifo")?.file_type().is_fifo());
        Ok(String::new())
    })
    .unwrap();
}

#[test]
fn proc_and_sys_must_be_real_directories() {
    if !is_root("proc_and_sys_must_be_real_directories") {
        return;
    }
    // CVE-2019-19921, CVE-2023-28642, CVE-2025-54867: P5.
    let cases = [
        ("proc", "etc", PROC),
        ("proc", "/nowhere", PROC),
        ("sys", "etc", r#"{"destination":"//sys/","type":"sysfs"}"#),
        ("sys", "etc", r#"{"destination":"/sys","source":"/sys","options":["rbind"]}"#),
        ("proc", "etc", r#"{"destination":"/proc/uptime","source":"/etc/hostname","options":["bind"]}"#),
    ];
    for (name, target, mount) in cases {
        let bundle = Bundle::new();
        symlink(target, bundle.path("rootfs").join(name)).unwrap();
        let plan = bundle.plan(&PLAIN, &format!("[{mount}]"), "", "");
        let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
        assert!(error.starts_with("mounts[0]: ") && error.contains("symbolic link"), "{error}");
    }
}

#[test]
fn a_link_into_proc_is_no_target() {
    if !is_root("a_link_into_proc_is_no_target") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/proc")).unwrap();
    symlink("/proc/sys", bundle.path("rootfs/data")).unwrap();
    let bind = r#"{"destination":"/data/kernel","source":"/etc","options":["bind"]}"#;
    let plan = bundle.plan(&PLAIN, &format!("[{PROC},{bind}]"), "", "");
    let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
    assert!(error.starts_with("mounts[1]: ") && error.contains("into `/proc`"), "{error}");
    // A bind of something else on /proc, and of a procfs (P5).
    let other = r#"[{"destination":"/proc","source":"/etc","options":["bind"]}]"#;
    let error = run(&bundle.plan(&PLAIN, other, "", ""), MNT, || Ok(String::new())).unwrap_err();
    assert!(error.contains("only a proc"), "{error}");
    let host = r#"[{"destination":"/proc","source":"/proc","options":["rbind"]}]"#;
    run(&bundle.plan(&PLAIN, host, "", ""), MNT, mountinfo).unwrap();
}

#[test]
fn hostile_targets_stay_in_the_root() {
    if !is_root("hostile_targets_stay_in_the_root") {
        return;
    }
    // CVE-2021-30465, CVE-2024-45310: P1.
    let bundle = Bundle::new();
    symlink("../../../../../../../..", bundle.path("rootfs/up")).unwrap();
    symlink(bundle.path("host"), bundle.path("rootfs/abs")).unwrap();
    symlink("/proc/self/root/host", bundle.path("rootfs/magic")).unwrap();
    let escape = bundle.path("host").display().to_string();
    let mounts = format!(
        r#"[{PROC},
        {{"destination":"/up{escape}/made","type":"tmpfs"}},
        {{"destination":"/abs/dir","type":"tmpfs"}},
        {{"destination":"/abs/file","source":"/etc/passwd","options":["bind"]}}]"#
    );
    let plan = bundle.plan(&PLAIN, &mounts, "", "");
    let got = run(&plan, MNT, mountinfo).unwrap();
    assert!(names(&escape).unwrap().is_empty());
    assert_eq!(got.lines().filter(|line| line.contains(&format!(" {escape}/"))).count(), 3, "{got}");
    let magic = format!(r#"[{PROC},{{"destination":"/magic/x","type":"tmpfs"}}]"#);
    let error = run(&bundle.plan(&PLAIN, &magic, "", ""), MNT, || Ok(String::new())).unwrap_err();
    assert!(error.contains("mounts[1]"), "{error}");
    assert!(names(&escape).unwrap().is_empty());
}

#[test]
fn a_mask_is_the_hosts_null_device() {
    if !is_root("a_mask_is_the_hosts_null_device") {
        return;
    }
    // CVE-2025-31133: neither a link, nor a file, nor nothing in the container's /dev/null matters.
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/dev")).unwrap();
    fs::write(bundle.path("rootfs/secret"), "secret").unwrap();
    fs::write(bundle.path("rootfs/evil"), "evil").unwrap();
    symlink("/evil", bundle.path("rootfs/dev/null")).unwrap();
    let mounts = r#"[{"destination":"/dev","source":"rootfs/dev","options":["bind"]}]"#;
    let linux = r#","maskedPaths":["/secret","/etc","/etc/below","/secret/below","/etc","/none"]"#;
    let plan = bundle.plan(&PLAIN, mounts, linux, "");
    assert!(plan.nodes.is_none());
    run(&plan, MNT, || {
        ensure!(fs::metadata("/secret")?.rdev() == 0x103);
        ensure!(fs::read("/secret")?.is_empty());
        ensure!(names("/etc")?.is_empty());
        ensure!(fs::write("/etc/x", "").is_err());
        ensure!(fs::read("/evil")? == b"evil");
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
    assert!(error.starts_with("mounts[7]: ") && error.contains("Read-only"), "{error}");
    assert!(names(bundle.path("host").to_str().unwrap()).unwrap().is_empty());
    let mut plan = plan;
    plan.mounts.pop();
    let proc = format!("[{PROC}]");
    plan.mounts.extend(bundle.plan(&PLAIN, &proc, "", "").mounts);
    let table = run(&plan, MNT, mountinfo).unwrap();
    assert_eq!(options(&table, "/ro").0, "ro,nodev,noatime");
    assert_eq!(options(&table, "/rw").0, "ro,relatime");
    assert_eq!(options(&table, "/late").0, "ro,nosuid,relatime");
    assert_eq!(options(&table, "/late/in/it").0, "rw,relatime");
    assert!(table.lines().any(|line| line.contains(" /late/in/it ") && line.contains("shared:")));
    for line in table.lines().filter(|line| line.contains(" /tree")) {
        assert!(line.contains(" ro,") && line.contains("noexec"), "{line}");
    }
    assert!(table.lines().any(|line| line.contains(" /tree ") && line.contains("unbindable")));
}

#[test]
fn a_thousand_binds_with_few_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if !is_root("a_thousand_binds_with_few_descriptors") {
        return;
    }
    let bundle = Bundle::new();
    fs::write(bundle.path("host/f"), "x").unwrap();
    let mounts: Vec<String> = (0..1000)
        .map(|n| format!(r#"{{"destination":"/m/{n}","source":"host/f","options":["bind","ro"]}}"#))
        .collect();
    let mounts = format!("[{PROC},{}]", mounts.join(","));
    for (namespaces, flags) in [
        (&["mount", "pid"][..], MNT),
        (&["mount", "pid", "user"][..], MNT | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID),
    ] {
        let plan = bundle.plan(namespaces, &mounts, "", "");
        // The limit is for this forked process: the harness keeps its own.
        let got = in_child(CloneFlags::empty(), || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, 64, hard)?;
            nix::unistd::chown(&bundle.path("rootfs"), Some(100_000.into()), Some(100_000.into()))?;
            let table = run(&plan, flags, mountinfo).map_err(anyhow::Error::msg)?;
            Ok(table.lines().filter(|line| line.contains(" /m/")).count().to_string())
        });
        assert_eq!(got.as_deref(), Ok("1000"), "{namespaces:?}");
    }
}

#[test]
fn a_user_namespace_gets_the_hosts_devices_and_volumes() {
    if !is_root("a_user_namespace_gets_the_hosts_devices_and_volumes") {
        return;
    }
    let bundle = Bundle::new();
    // A volume that the mapped root cannot walk to.
    fs::create_dir_all(bundle.path("private/vol")).unwrap();
    fs::write(bundle.path("private/vol/f"), "volume").unwrap();
    fs::set_permissions(bundle.path("private"), fs::Permissions::from_mode(0o700)).unwrap();
    nix::unistd::chown(&bundle.path("rootfs"), Some(100_000.into()), Some(100_000.into())).unwrap();
    let vol = r#"{"destination":"/vol","source":"private/vol","options":["rbind","ro","rprivate"]}"#;
    let mounts = DEFAULT.replace("gid=5", "gid=5").replacen('[', &format!("[{vol},"), 1);
    let linux = format!(
        r#"{GUARDS},"uidMappings":[{{"hostID":100000,"containerID":0,"size":65536}}],
           "gidMappings":[{{"hostID":100000,"containerID":0,"size":65536}}]"#
    );
    let plan = bundle.plan(&["mount", "pid", "network", "ipc", "user"], &mounts, &linux, "");
    let table = run(&plan, all() | CloneFlags::CLONE_NEWUSER, || {
        ensure!(fs::read("/vol/f")? == b"volume");
        fs::write("/dev/null", "x").context("/dev/null")?;
        ensure!(fs::metadata("/dev/null")?.rdev() == 0x103);
        ensure!(fs::read("/proc/kcore")?.is_empty());
        mountinfo()
    })
    .unwrap();
    assert!(options(&table, "/vol").0.starts_with("ro,"), "{table}");
    assert!(table.contains(" /dev/urandom "), "{table}");
    if std::env::var_os("SHOW_MOUNTINFO").is_some() {
        println!("{table}");
    }
}

#[test]
fn an_overlay_leaves_the_image_untouched() {
    if !is_root("an_overlay_leaves_the_image_untouched") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("top")).unwrap();
    fs::write(bundle.path("top/layer"), "top").unwrap();
    fs::set_permissions(bundle.path("top"), fs::Permissions::from_mode(0o751)).unwrap();
    let before = names(bundle.path("rootfs").to_str().unwrap()).unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.lower":"top:rootfs"}"#;
    let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, GUARDS, note);
    let look = || {
        ensure!(fs::read("/layer")? == b"top");
        fs::write("/etc/hostname", "changed")?;
        fs::write("/new", "")?;
        ensure!(fs::metadata("/")?.mode() & 0o7777 == 0o751);
        mountinfo()
    };
    let table = run(&plan, all(), look).unwrap();
    assert!(table.contains(" / / rw,relatime - overlay overlay "), "{table}");
    assert_eq!(names(bundle.path("rootfs").to_str().unwrap()).unwrap(), before);
    assert_eq!(fs::read(bundle.path("rootfs/etc/hostname")).unwrap(), b"image");
    // With directories of its own the upper layer is kept.
    fs::create_dir(bundle.path("up")).unwrap();
    fs::create_dir(bundle.path("work")).unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.upper":"up","org.rundlet.rootfs.overlay.work":"work"}"#;
    let plan = bundle.plan(&PLAIN, "[]", "", note);
    run(&plan, MNT, || fs::write("/etc/hostname", "kept").map(|()| String::new()).context("write")).unwrap();
    assert_eq!(fs::read(bundle.path("up/etc/hostname")).unwrap(), b"kept");
    // In a user namespace.
    nix::unistd::chown(&bundle.path("rootfs"), Some(100_000.into()), Some(100_000.into())).unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.lower":""}"#;
    let plan = bundle.plan(&["mount", "pid", "user"], "[]", "", note);
    let flags = MNT | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUSER;
    run(&plan, flags, || fs::write("/new", "").map(|()| String::new()).context("write")).unwrap();
    assert!(!bundle.path("rootfs/new").exists());
}

#[test]
fn many_layers_of_a_mount() {
    if !is_root("many_layers_of_a_mount") {
        return;
    }
    let bundle = Bundle::new();
    let layers: Vec<String> = (0..40)
        .map(|n| {
            let layer = bundle.path(&format!("layer-{n}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(n.to_string()), "").unwrap();
            layer.display().to_string()
        })
        .collect();
    let mounts = format!(
        r#"[{{"destination":"/o","type":"overlay","source":"overlay","options":["ro","lowerdir={}"]}}]"#,
        layers.join(":")
    );
    let plan = bundle.plan(&PLAIN, &mounts, "", "");
    let got = run(&plan, MNT, || Ok(names("/o")?.len().to_string()));
    assert_eq!(got.as_deref(), Ok("40"));
}

#[test]
fn tmpcopyup_copies_what_it_covers() {
    if !is_root("tmpcopyup_copies_what_it_covers") {
        return;
    }
    let bundle = Bundle::new();
    let data = bundle.path("rootfs/data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o710)).unwrap();
    fs::write(data.join("sub/file"), "content").unwrap();
    fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    nix::unistd::chown(&data.join("sub"), Some(12.into()), Some(34.into())).unwrap();
    symlink(bundle.path("host"), data.join("out")).unwrap();
    nix::unistd::mkfifo(&data.join("fifo"), FILE_MODE).unwrap();
    let mounts = r#"[{"destination":"/data","type":"tmpfs","options":["tmpcopyup","ro"]}]"#;
    let plan = bundle.plan(&PLAIN, mounts, "", "");
    let out = bundle.path("host");
    run(&plan, MNT, move || {
        ensure!(fs::read("/data/sub/file")? == b"content");
        ensure!(fs::metadata("/data/sub/file")?.mode() & 0o7777 == 0o4755);
        ensure!(fs::metadata("/data")?.mode() & 0o7777 == 0o710);
        ensure!((fs::metadata("/data/sub")?.uid(), fs::metadata("/data/sub")?.gid()) == (12, 34));
        ensure!(fs::read_link("/data/out")? == out);
        ensure!(fs::symlink_metadata("/data/fifo")?.file_type().is_fifo());
        ensure!(fs::write("/data/x", "").is_err(), "ro");
        Ok(String::new())
    })
    .unwrap();
}

#[test]
fn the_root_can_be_moved_instead_of_pivoted() {
    if !is_root("the_root_can_be_moved_instead_of_pivoted") {
        return;
    }
    let bundle = Bundle::new();
    let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, GUARDS, "");
    let got = run_by(&plan, all(), RootChange::Move, || {
        ensure!(fs::read("/etc/hostname")? == b"image");
        ensure!(fs::metadata("/..")?.ino() == fs::metadata("/")?.ino());
        mountinfo()
    });
    assert!(got.unwrap().contains(" /proc "));
}

#[test]
fn without_mounts_of_its_own_the_host_keeps_its_mounts() {
    if !is_root("without_mounts_of_its_own_the_host_keeps_its_mounts") {
        return;
    }
    // M5: the namespace stands for the host; nothing in it may change.
    let bundle = Bundle::new();
    let plan = bundle.plan(&["pid"], "[]", "", "");
    in_child(MNT, || {
        let before = mountinfo()?;
        let keep = fs::File::open("/proc/self/mountinfo")?;
        let root = prepare(&plan, Sources::open(&plan)?, None)?;
        root.pivot(&plan, RootChange::Pivot)?;
        root.finish(&plan)?;
        ensure!(fs::read("/etc/hostname")? == b"image");
        drop(keep);
        Ok(before)
    })
    .unwrap();
    assert!(bundle.path("rootfs/dev/null").exists());
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
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert!(root.contains(mark), "{word}: {root}");
    }
}

#[test]
fn nothing_reaches_a_shared_host() {
    if !is_root("nothing_reaches_a_shared_host") {
        return;
    }
    // The outer namespace plays a host on which all is shared, as systemd makes it.
    let bundle = Bundle::new();
    for word in ["", "private", "slave", "shared", "rshared", "unbindable"] {
        let linux = match word {
            "" => String::new(),
            word => format!(r#","rootfsPropagation":"{word}""#),
        };
        let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, &linux, "");
        let got = in_child(MNT, || {
            let slash = pivot::open_directory(Path::new("/"))?;
            let shared = Attr { propagation: libc::MS_SHARED, ..Attr::default() };
            set_attr(slash.as_fd(), Depth::Recursive, Attr { propagation: libc::MS_PRIVATE, ..shared })?;
            set_attr(slash.as_fd(), Depth::Recursive, shared)?;
            let before = mountinfo()?;
            run(&plan, all(), mountinfo).map_err(anyhow::Error::msg)?;
            ensure!(before == mountinfo()?, "the host's mounts changed");
            Ok(String::new())
        });
        assert_eq!(got.as_deref(), Ok(""), "{word}");
    }
}

#[test]
fn errors_say_where_and_why() {
    if !is_root("errors_say_where_and_why") {
        return;
    }
    let bundle = Bundle::new();
    let cases = [
        (r#"{"destination":"/x","type":"nosuchfs"}"#, "nosuchfs"),
        (r#"{"destination":"/x","type":"tmpfs","options":["frob=1"]}"#, "Unknown parameter 'frob'"),
        (r#"{"destination":"/x","source":"/no/such","options":["bind"]}"#, "No such file or directory"),
        (r#"{"destination":"/etc","source":"/etc/passwd","options":["bind"]}"#, "directory"),
        (r#"{"destination":"/x","options":["remount","ro"]}"#, "No such file or directory"),
        (r#"{"destination":"/etc","options":["remount","ro"]}"#, "nothing is mounted"),
        (r#"{"destination":"/x","type":"cgroup"}"#, "cgroup"),
    ];
    for (mount, text) in cases {
        let plan = bundle.plan(&PLAIN, &format!("[{DEV},{mount}]"), "", "");
        let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
        assert!(error.starts_with("mounts[1]: mount `/") && error.contains(text), "{error}");
        assert!(!error.contains('\n'));
    }
}
