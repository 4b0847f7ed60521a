//! Units of the systemd driver beside others: annotations, names that are taken, failures, and what is in a unit.

use std::process::Command;

use serde_json::{Value, json};

use super::systemd::{
    bundle, group, has_unit, property, run, scope, start, systemctl, try_create, value,
};
use crate::support::bundle::arr;
use crate::support::{Cx, eventually, tests};

tests! {
    systemd annotations_become_properties;
    systemd other_properties_are_refused = "runc sets whatever an annotation says";
    systemd a_unit_that_exists_stays_untouched;
    systemd a_unit_that_has_failed_gives_its_name;
    systemd a_creation_that_fails_leaves_no_unit;
    systemd a_paused_container_is_deleted_by_force;
    systemd out_of_memory_leaves_no_failed_unit;
    systemd a_failed_update_leaves_the_unit_as_it_was = "runc leaves what it has set";
    systemd exec_and_ps_are_in_the_unit;
    systemd the_namespace_shows_the_unit_as_root;
}

fn annotations_become_properties(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.set(
        "/annotations",
        json!({
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.TimeoutStopSec": "12",
            "org.systemd.property.After": "['dbus.socket']",
            "org.example": "untouched"
        }),
    );
    let container = start(cx, &bundle);
    let unit = scope(&bundle);
    assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
    assert_eq!(property(&unit, "TimeoutStopUSec"), "12s");
    assert!(property(&unit, "After").contains("dbus.socket"));
    container.end();
}

fn other_properties_are_refused(cx: &Cx) {
    let mut bundle = bundle(cx);
    for (name, value) in [
        ("DevicePolicy", "'auto'"),
        ("Slice", "'-.slice'"),
        ("MemoryMax", "uint64 1"),
    ] {
        let key = format!("org.systemd.property.{name}");
        bundle.set("/annotations", json!({&key: value}));
        try_create(cx, &bundle)
            .is(1)
            .says(&key)
            .says("may be set by an annotation: After,");
    }
}

fn a_unit_that_exists_stays_untouched(cx: &Cx) {
    let bundle = bundle(cx);
    let unit = scope(&bundle);
    let mut other = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit", &unit, "sleep", "1000"])
        .spawn()
        .unwrap();
    eventually("the other's scope is active", 10, || {
        property(&unit, "ActiveState") == "active"
    });
    let output = try_create(cx, &bundle).is(1);
    if cx.is_rundlet() {
        output.says("exists already");
    }
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert!(other.try_wait().unwrap().is_none(), "the other still runs");
    other.kill().unwrap();
    other.wait().unwrap();
    eventually("the other's scope is gone", 10, || !has_unit(&unit));
}

fn a_unit_that_has_failed_gives_its_name(cx: &Cx) {
    let bundle = bundle(cx);
    let unit = scope(&bundle);
    let status = Command::new("systemd-run")
        .args([
            "--quiet",
            "--scope",
            "--unit",
            &unit,
            "-p",
            "RuntimeMaxSec=1",
            "sleep",
            "1000",
        ])
        .status()
        .unwrap();
    assert!(!status.success());
    eventually("the unit has failed", 10, || {
        property(&unit, "ActiveState") == "failed"
    });
    start(cx, &bundle).end();
}

fn a_creation_that_fails_leaves_no_unit(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.args(&["/no/such/program"]);
    try_create(cx, &bundle).is(1);
    eventually("no unit", 5, || !has_unit(&scope(&bundle)));
    assert!(!group(&bundle).exists());
    // After the unit was made: the kernel does not take this value.
    bundle.args(&["true"]);
    bundle.set(
        "/linux/resources/unified",
        json!({"cgroup.max.depth": "nonsense"}),
    );
    try_create(cx, &bundle).is(1);
    eventually("no unit", 5, || !has_unit(&scope(&bundle)));
    assert!(!group(&bundle).exists());
}

fn a_paused_container_is_deleted_by_force(cx: &Cx) {
    let bundle = bundle(cx);
    let container = start(cx, &bundle);
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    cx.call(&["delete", "--force", &bundle.id]).ok();
    assert!(!has_unit(&scope(&bundle)));
}

fn out_of_memory_leaves_no_failed_unit(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 16 << 20, "swap": 16 << 20}),
    );
    bundle.args(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    let container = start(cx, &bundle);
    container.wait_for("stopped");
    container.call("delete").ok();
    assert!(!has_unit(&scope(&bundle)));
}

fn exec_and_ps_are_in_the_unit(cx: &Cx) {
    let bundle = bundle(cx);
    let container = start(cx, &bundle);
    container
        .exec(&["cat", "/proc/self/cgroup"])
        .ok()
        .prints("0::/");
    let running = cx.spawn(cx.command(&["exec", &bundle.id, "sleep", "1000"]));
    eventually("two processes in the unit", 10, || {
        value(&bundle, "cgroup.procs").lines().count() == 2
    });
    let listed: Value =
        serde_json::from_str(&cx.call(&["ps", "--format", "json", &bundle.id]).ok().stdout)
            .unwrap();
    let mut listed = listed;
    assert_eq!(arr(&mut listed).len(), 2);
    container.end();
    running.wait().is(137);
}

fn the_namespace_shows_the_unit_as_root(cx: &Cx) {
    let mut bundle = bundle(cx);
    bundle.sh("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max");
    bundle.set("/linux/resources/pids", json!({"limit": 33}));
    run(cx, &bundle).ok().prints("0::/\n33");
    // Without one, the directory of the unit is shown all the same.
    bundle.without_namespace("cgroup");
    let output = run(cx, &bundle).ok();
    assert!(output.text().ends_with("\n33"), "{output}");
    assert!(output.text().contains(&scope(&bundle)), "{output}");
}

fn a_failed_update_leaves_the_unit_as_it_was(cx: &Cx) {
    const SHOWN: [&str; 9] = [
        "MemoryMax",
        "MemorySwapMax",
        "MemoryLow",
        "TasksMax",
        "CPUWeight",
        "CPUQuotaPerSecUSec",
        "CPUQuotaPeriodUSec",
        "AllowedCPUs",
        "IOWeight",
    ];
    const FILES: [&str; 6] = [
        "memory.max",
        "memory.low",
        "pids.max",
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
    ];
    let new = |burst: &str| {
        let limits = json!({
            "memory": {"limit": 96 << 20, "swap": 128 << 20, "reservation": 8 << 20},
            "pids": {"limit": 55},
            "cpu": {"shares": 2048, "quota": 70_000, "period": 200_000, "cpus": "0"},
            "blockIO": {"weight": 300},
            "unified": {"cpu.max.burst": burst}
        });
        cx.file("new.json", &limits.to_string())
    };
    // Some limits that were there, and none at all.
    let mut some = bundle(cx);
    some.set("/linux/resources/memory", json!({"limit": 64 << 20}));
    some.set("/linux/resources/pids", json!({"limit": 44}));
    let mut none = cx.named_bundle("none");
    let path = format!("system.slice:rt:{}", none.id);
    none.set("/linux/cgroupsPath", json!(path));
    for bundle in [some, none] {
        let container = start(cx, &bundle);
        let unit = scope(&bundle);
        let seen = || -> Vec<String> {
            let of_unit = SHOWN.map(|name| format!("{name}={}", property(&unit, name)));
            let of_group = FILES.map(|file| format!("{file}={}", value(&bundle, file)));
            of_unit.into_iter().chain(of_group).collect()
        };
        let before = seen();
        let update = |burst: &str| {
            let file = new(burst);
            cx.call(&["update", "--resources", file.to_str().unwrap(), &bundle.id])
        };
        update("much").is(1).says("no limit was changed");
        assert_eq!(seen(), before);
        systemctl(&["daemon-reload"]);
        assert_eq!(seen(), before, "after a reload");
        update("1000").ok();
        assert_eq!(property(&unit, "MemoryMax"), "100663296");
        assert_eq!(value(&bundle, "pids.max"), "55");
        container.end();
    }
}
