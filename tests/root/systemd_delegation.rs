//! The systemd driver and what a container may do with its unit's cgroup: owners, and a part of its own below the limits.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::cgroups::MIB;
use super::delegation::limit_holds_and_is_doubled;
use super::systemd::{bundle, group, has_unit, property, scope, start, systemctl, value};
use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    systemd a_writable_view_is_the_users;
    systemd a_part_of_the_scope_is_the_containers = "an extension of rundlet";
    systemd a_part_in_a_user_namespace = "an extension of rundlet";
    systemd a_part_of_a_slice = "an extension of rundlet";
    systemd a_part_and_a_joined_namespace = "an extension of rundlet";
    systemd the_scopes_limits_are_out_of_reach = "an extension of rundlet";
}

/// Divides its cgroup and starts a process in the new part, inside.
const DIVIDE: &str = "cd /sys/fs/cgroup && mkdir app app/one && \
    for c in $(cat cgroup.controllers); do echo +$c >app/cgroup.subtree_control || exit 1; done; \
    sleep 1000 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup/app/one/cgroup.procs && grep ^0:: /proc/$!/cgroup";

fn writable(cx: &Cx) -> Bundle {
    let mut bundle = bundle(cx);
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle
}

fn delegated(cx: &Cx) -> Bundle {
    let mut bundle = writable(cx);
    bundle.config["annotations"]["org.rundlet.cgroup.delegate"] = json!("true");
    bundle
}

fn a_writable_view_is_the_users(cx: &Cx) {
    let mut bundle = writable(cx);
    bundle.user_namespace();
    let container = start(cx, &bundle);
    let uid = |file: &str| fs::metadata(group(&bundle).join(file)).unwrap().uid();
    for file in [
        ".",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        assert_eq!(uid(file), 100_000, "{file}");
    }
    for file in ["memory.max", "pids.max", "cgroup.freeze"] {
        assert_eq!(uid(file), 0, "{file}");
    }
    container
        .exec_sh("mkdir /sys/fs/cgroup/mine && echo $$ >/sys/fs/cgroup/mine/cgroup.procs")
        .ok();
    // systemd does not take it back.
    systemctl(&["daemon-reload"]);
    assert_eq!(uid("cgroup.procs"), 100_000);
    container.end();
}

fn divides(cx: &Cx, bundle: &Bundle) {
    let container = start(cx, bundle);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let unit = scope(bundle);
    assert_eq!(
        text.trim(),
        format!("0::/system.slice/{unit}/delegated/init.scope")
    );
    assert_eq!(property(&unit, "Delegate"), "yes");
    container
        .exec_sh("grep ^0:: /proc/1/cgroup /proc/self/cgroup; ls -d /sys/fs/cgroup/*/")
        .ok()
        .prints("/proc/1/cgroup:0::/init.scope\n/proc/self/cgroup:0::/init.scope\n/sys/fs/cgroup/init.scope/");
    for name in value(bundle, "cgroup.controllers").split(' ') {
        let passed = value(bundle, "delegated/cgroup.subtree_control");
        assert!(passed.split(' ').any(|word| word == name), "{passed}");
    }
    container.exec_sh(DIVIDE).ok().prints("0::/app/one");
    systemctl(&["daemon-reload"]);
    container
        .exec_sh("cat /sys/fs/cgroup/app/cgroup.procs >/dev/null && ls -d /sys/fs/cgroup/app/one")
        .ok();
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
    assert!(!group(bundle).exists());
    assert!(!has_unit(&unit));
}

fn a_part_of_the_scope_is_the_containers(cx: &Cx) {
    divides(cx, &delegated(cx));
}

fn a_part_in_a_user_namespace(cx: &Cx) {
    let mut bundle = delegated(cx);
    bundle.user_namespace();
    divides(cx, &bundle);
}

fn a_part_of_a_slice(cx: &Cx) {
    let mut bundle = delegated(cx);
    let slice = format!("{}.slice", cx.token.replace('-', "_"));
    bundle.set("/linux/cgroupsPath", json!(format!("-:x:{slice}")));
    let container = start(cx, &bundle);
    container.exec_sh(DIVIDE).ok().prints("0::/app/one");
    container.end();
    // systemd takes an empty slice away by itself, when it comes to it; any name of a slice is "loaded" to it.
    eventually("the slice is gone", 30, || {
        property(&slice, "ActiveState") == "inactive"
    });
}

/// There the init is the clone of a process that was in the unit first.
fn a_part_and_a_joined_namespace(cx: &Cx) {
    let mut bundle = delegated(cx);
    bundle.user_namespace();
    bundle.without_namespace("uts");
    bundle.push(
        "/linux/namespaces",
        json!({"type": "uts", "path": "/proc/self/ns/uts"}),
    );
    bundle.config.as_object_mut().unwrap().remove("hostname");
    divides(cx, &bundle);
}

fn the_scopes_limits_are_out_of_reach(cx: &Cx) {
    let mut bundle = delegated(cx);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    );
    let container = start(cx, &bundle);
    limit_holds_and_is_doubled(&container);
    for file in ["memory.max", "delegated/memory.max"] {
        assert_eq!(value(&bundle, file), (48 * MIB).to_string(), "{file}");
    }
    assert_eq!(
        property(&scope(&bundle), "MemoryMax"),
        (48 * MIB).to_string()
    );
    container.end();
}
