//! The systemd driver, where systemd is PID 1 on a host with cgroup v2 alone: which unit a container gets, that systemd agrees
//! with what was asked for and keeps to it, and that nothing is left. These tests run outside of a pid namespace; that no unit
//! and no cgroup is left is checked after each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bundle, Container, Cx, Output, World, eventually, host_is_v2, tests};

tests! {
    systemd the_unit_has_the_limits;
    systemd reloading_systemd_changes_nothing;
    systemd devices_are_denied_and_allowed_after_a_reload;
    systemd all_devices_for_a_privileged_container;
    systemd a_quota_is_rounded_up = "runc 1.1 writes the exact one to the file";
    systemd no_swap_is_known_to_systemd = "runc tells systemd nothing of a swap limit of 0";
    systemd half_a_mebibyte_is_enough_for_a_small_program;
    systemd many_at_once;
    systemd nested_slices;
    systemd a_path_that_names_no_unit_is_refused;
}

/// A bundle for the driver; the unit is `rt-ID.scope`.
pub(crate) fn bundle(cx: &Cx) -> Bundle {
    if !Path::new("/run/systemd/system").is_dir() {
        cx.skip("systemd is not PID 1 here");
    }
    if !host_is_v2() {
        cx.skip("the host has cgroup v1 hierarchies");
    }
    assert!(cx.world == World::Systemd);
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("system.slice:rt:{}", bundle.id)),
    );
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle
}

pub(crate) fn scope(bundle: &Bundle) -> String {
    format!("rt-{}.scope", bundle.id)
}

pub(crate) fn group(bundle: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(scope(bundle))
}

pub(crate) fn value(bundle: &Bundle, file: &str) -> String {
    let path = group(bundle).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

pub(crate) fn try_create(cx: &Cx, bundle: &Bundle) -> Output {
    bundle.write();
    cx.call(&[
        "--systemd-cgroup",
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ])
}

pub(crate) fn start<'a>(cx: &'a Cx, bundle: &Bundle) -> Container<'a> {
    try_create(cx, bundle).ok();
    let container = cx.container(&bundle.id);
    container.call("start").ok();
    container
}

pub(crate) fn run(cx: &Cx, bundle: &Bundle) -> Output {
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    cx.call(&["--systemd-cgroup", "run", "--bundle", path, &bundle.id])
}

pub(crate) fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, unit])
}

pub(crate) fn has_unit(unit: &str) -> bool {
    property(unit, "LoadState") == "loaded"
}

/// All files of limits, as text.
fn files(bundle: &Bundle) -> Vec<String> {
    [
        "memory.max",
        "memory.low",
        "memory.swap.max",
        "memory.high",
        "cpu.max",
        "cpu.weight",
        "cpu.idle",
        "cpuset.cpus",
        "pids.max",
        "io.weight",
        "io.bfq.weight",
        "io.max",
        "memory.oom.group",
        "cpu.max.burst",
    ]
    .iter()
    .map(|file| {
        let text = fs::read_to_string(group(bundle).join(file)).unwrap_or_default();
        format!("{file}: {}", text.trim())
    })
    .collect()
}

fn limited(cx: &Cx) -> Bundle {
    let mut bundle = bundle(cx);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 16 << 20}),
    );
    bundle.set(
        "/linux/resources/cpu",
        json!({"shares": 512, "quota": 40_000, "period": 80_000, "cpus": "0", "mems": "0"}),
    );
    bundle.set("/linux/resources/pids", json!({"limit": 77}));
    bundle
}

fn the_unit_has_the_limits(cx: &Cx) {
    let bundle = limited(cx);
    let container = start(cx, &bundle);
    let unit = scope(&bundle);
    let shown = systemctl(&["show", &unit]);
    for (name, expected) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Transient", "yes"),
        ("DefaultDependencies", "no"),
        ("DevicePolicy", "strict"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("MemoryLow", "16777216"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("CPUQuotaPeriodUSec", "80ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "77"),
        ("MemoryAccounting", "yes"),
    ] {
        let line = format!("{name}={expected}");
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "16777216"),
        ("cpu.max", "40000 80000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "77"),
    ] {
        assert_eq!(value(&bundle, file), expected, "{file}");
    }
    assert_eq!(property(&unit, "CPUWeight"), value(&bundle, "cpu.weight"));
    assert_eq!(value(&bundle, "cgroup.procs"), container.pid().to_string());
    container.end();
    assert!(!has_unit(&unit));
    assert!(!group(&bundle).exists());
}

fn reloading_systemd_changes_nothing(cx: &Cx) {
    let mut bundle = limited(cx);
    bundle.set("/linux/resources/blockIO", json!({"weight": 500}));
    bundle.set(
        "/linux/resources/unified",
        json!({"memory.high": "50331648", "memory.oom.group": "1", "cpu.max.burst": "10000"}),
    );
    let container = start(cx, &bundle);
    let before = files(&bundle);
    assert!(
        before.contains(&"memory.high: 50331648".to_owned()),
        "{before:?}"
    );
    for _ in 0..2 {
        systemctl(&["daemon-reload"]);
        assert_eq!(files(&bundle), before);
    }
    // systemd writes all of the unit's properties again.
    systemctl(&["set-property", "--runtime", &scope(&bundle), "TasksMax=50"]);
    let changed: Vec<String> = before
        .iter()
        .map(|line| line.replace("pids.max: 77", "pids.max: 50"))
        .collect();
    assert_eq!(files(&bundle), changed);
    container.end();
}

/// 1:11 is kmsg, 10:229 fuse: no container's standard devices.
const OPEN: &str = "for d in 1:11 10:229 1:5; do
    [ -e /tmp/$d ] || mknod /tmp/$d c ${d%:*} ${d#*:}
    (: </tmp/$d) 2>/dev/null && echo $d yes || echo $d no
done";

fn opens(container: &Container) -> String {
    container.exec_sh(OPEN).ok().text().replace('\n', ",")
}

fn devices_are_denied_and_allowed_after_a_reload(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.push(
        "/linux/resources/devices",
        json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}),
    );
    let container = start(cx, &bundle);
    let unit = scope(&bundle);
    let expected = "1:11 yes,10:229 no,1:5 yes";
    assert_eq!(opens(&container), expected);
    assert!(property(&unit, "DeviceAllow").contains("/dev/char/1:11 r"));
    systemctl(&["daemon-reload"]);
    assert_eq!(opens(&container), expected, "after daemon-reload");
    // Even if somebody opens systemd's door, the container's own program stays.
    systemctl(&[
        "set-property",
        "--runtime",
        &unit,
        "DeviceAllow=/dev/char/10:229 rw",
    ]);
    assert_eq!(opens(&container), expected, "after set-property");
    systemctl(&["daemon-reload"]);
    assert_eq!(opens(&container), expected, "after both");
    container.end();
}

fn all_devices_for_a_privileged_container(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": true, "access": "rwm"}]),
    );
    let container = start(cx, &bundle);
    assert_eq!(property(&scope(&bundle), "DevicePolicy"), "auto");
    assert!(opens(&container).starts_with("1:11 yes"));
    systemctl(&["daemon-reload"]);
    assert!(opens(&container).starts_with("1:11 yes"));
    container.end();
}

fn a_quota_is_rounded_up(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.set(
        "/linux/resources/cpu",
        json!({"quota": 33_333, "period": 100_000}),
    );
    let container = start(cx, &bundle);
    assert_eq!(property(&scope(&bundle), "CPUQuotaPerSecUSec"), "340ms");
    assert_eq!(value(&bundle, "cpu.max"), "34000 100000");
    container.end();
}

fn no_swap_is_known_to_systemd(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "swap": 64 << 20}),
    );
    let container = start(cx, &bundle);
    assert_eq!(property(&scope(&bundle), "MemorySwapMax"), "0");
    container.end();
}

fn half_a_mebibyte_is_enough_for_a_small_program(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.args(&["echo", "it fits"]);
    bundle.set("/linux/resources/memory", json!({"limit": 512 << 10}));
    run(cx, &bundle).ok().prints("it fits");
    assert!(!has_unit(&scope(&bundle)));
}

fn many_at_once(cx: &Cx) {
    const WORKERS: usize = 20;
    const EACH: usize = 10;
    let bundle = bundle(cx);
    // One bundle for all: only the unit's name differs, which without a path is made of the id.
    let mut shared = cx.named_bundle("shared");
    shared.set("/linux/cgroupsPath", Value::Null);
    shared.write();
    let path = shared.path.to_str().unwrap();
    let id = |worker, number| format!("{}-{worker}-{number}", bundle.id);
    let of_all = |work: &(dyn Fn(usize, usize) + Sync)| {
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                scope.spawn(move || (0..EACH).for_each(|number| work(worker, number)));
            }
        });
    };
    of_all(&|worker, number| {
        let id = id(worker, number);
        cx.call(&["--systemd-cgroup", "create", "--bundle", path, &id])
            .ok();
    });
    let count = || {
        let units = systemctl(&[
            "list-units",
            "--plain",
            "--no-legend",
            &format!("*{}*", bundle.id),
        ]);
        units.lines().count()
    };
    assert_eq!(count(), WORKERS * EACH);
    of_all(&|worker, number| {
        cx.call(&["delete", &id(worker, number)]).ok();
    });
    assert_eq!(count(), 0);
}

fn nested_slices(cx: &Cx) {
    let mut bundle = bundle(cx);
    let top = cx.token.clone();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("{top}-in-ner.slice:p:{}", bundle.id)),
    );
    let container = start(cx, &bundle);
    let path = format!(
        "/sys/fs/cgroup/{top}.slice/{top}-in.slice/{top}-in-ner.slice/p-{}.scope",
        bundle.id
    );
    assert!(Path::new(&path).is_dir(), "{path}");
    container.end();
    assert!(!Path::new(&path).exists());
    // The slices were made by systemd for the scope, and stay as with every runtime.
    systemctl(&["stop", &format!("{top}.slice")]);
    let slice = format!("/sys/fs/cgroup/{top}.slice");
    eventually("the slice is gone", 10, || !Path::new(&slice).exists());
}

fn a_path_that_names_no_unit_is_refused(cx: &Cx) {
    let mut bundle = bundle(cx);
    for path in [
        "/a/b",
        "a.slice:b",
        "a.slice:b:c:d",
        "a:b:c",
        "a/b.slice:c:d",
    ] {
        bundle.set("/linux/cgroupsPath", json!(path));
        let output = try_create(cx, &bundle).is(1);
        if cx.is_rundlet() {
            output.says("linux.cgroupsPath: ");
        }
    }
}
