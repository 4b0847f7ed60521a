//! cgroup limits that are read back and seen to bite, placement, and what happens to odd groups.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bundle, CGROUP_PARENT, Container, Cx, alive, tests};

tests! {
    host every_hierarchy_has_the_container;
    v2 one_group_has_the_container;
    v2 hugetlb_limit;
    v2 unified_values;
    v2 unified_value_without_its_controller;
    v2 limit_without_its_controller_is_an_error;
    v2 killed_by_the_group = "runc 1.1.5 leaves groups that were made below";
    v2 path_left_out;
    v2 relative_path;
    v2 path_with_dotdot_stays_below;
    both deep_path;
    both a_used_group_is_refused = "runc 1.1.5 only warns";
    both an_empty_group_may_exist;
    both a_frozen_group_is_refused;
    both parent_is_left_alone;
    host unknown_resources_are_not_silent;
}

/// Without the controller there is nothing to see, on a v2 host that has not enabled it.
pub(crate) fn need(cx: &Cx, controller: &str) {
    let here = if cx.is_v2() {
        fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
    } else {
        PathBuf::from("/sys/fs/cgroup").join(controller).exists()
    };
    if !here {
        cx.skip(&format!("no {controller} controller on this host"));
    }
}

pub(crate) fn limited(cx: &Cx, pointer: &str, limits: Value) -> Bundle {
    let mut bundle = cx.bundle();
    bundle.set(&format!("/linux/resources/{pointer}"), limits);
    bundle
}

pub(crate) const MIB: u64 = 1 << 20;

fn groups_of(container: &Container<'_>) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn every_hierarchy_has_the_container(cx: &Cx) {
    let container = cx.sleeper();
    for line in groups_of(&container) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
        // On a hybrid host the v2 tree may hold it too, but need not.
        if !controllers.is_empty() || cx.is_v2() {
            assert_eq!(path, format!("/{CGROUP_PARENT}/{}", container.id), "{line}");
        }
    }
    container.end();
}

fn one_group_has_the_container(cx: &Cx) {
    let container = cx.sleeper();
    let path = format!("0::/{CGROUP_PARENT}/{}", container.id);
    assert!(
        groups_of(&container).contains(&path),
        "{:?}",
        groups_of(&container)
    );
    let procs = fs::read_to_string(cx.cgroup_dir("", &container.id).join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), container.pid().to_string());
    container.end();
}

fn hugetlb_limit(cx: &Cx) {
    need(cx, "hugetlb");
    let container = cx.start(&limited(
        cx,
        "hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4 * MIB}]),
    ));
    let dir = cx.cgroup_dir("hugetlb", &container.id);
    assert_eq!(
        fs::read_to_string(dir.join("hugetlb.2MB.max"))
            .unwrap()
            .trim(),
        (4 * MIB).to_string()
    );
    container.end();
    let output = cx
        .try_create(&limited_again(
            cx,
            "hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
        ))
        .is(1);
    assert!(
        output.stderr.contains("3MB") || !cx.is_rundlet(),
        "{output}"
    );
}

/// A second bundle of the same test.
fn limited_again(cx: &Cx, pointer: &str, limits: Value) -> Bundle {
    let mut bundle = cx.named_bundle("d");
    bundle.set(&format!("/linux/resources/{pointer}"), limits);
    bundle
}

fn unified_values(cx: &Cx) {
    need(cx, "hugetlb");
    let container = cx.start(&limited(
        cx,
        "unified",
        json!({"hugetlb.2MB.max": "2097152", "cgroup.max.depth": "5"}),
    ));
    let dir = cx.cgroup_dir("", &container.id);
    assert_eq!(
        fs::read_to_string(dir.join("hugetlb.2MB.max"))
            .unwrap()
            .trim(),
        "2097152"
    );
    assert_eq!(
        fs::read_to_string(dir.join("cgroup.max.depth"))
            .unwrap()
            .trim(),
        "5"
    );
    container.end();
}

fn unified_value_without_its_controller(cx: &Cx) {
    for (number, key) in [
        "memory.max",
        "nosuch.key",
        "../cgroup.procs",
        "cgroup.procs/x",
    ]
    .into_iter()
    .enumerate()
    {
        if key == "memory.max" && has_memory() {
            continue;
        }
        let mut bundle = cx.named_bundle(&format!("u{number}"));
        bundle.set("/linux/resources/unified", json!({key: "1"}));
        let output = cx.try_create(&bundle).is(1);
        assert!(output.stderr.contains(key), "{output}");
    }
}

fn has_memory() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .is_ok_and(|text| text.contains("memory"))
}

fn limit_without_its_controller_is_an_error(cx: &Cx) {
    if has_memory() {
        cx.skip("all controllers are here");
    }
    for (name, limits) in [
        ("memory", json!({"limit": 64 * MIB})),
        ("pids", json!({"limit": 5})),
        ("cpu", json!({"quota": 20000, "period": 50000})),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.set(&format!("/linux/resources/{name}"), limits);
        let output = cx.try_create(&bundle).is(1);
        assert!(output.stderr.contains(name), "{output}");
    }
}

fn killed_by_the_group(cx: &Cx) {
    // Children in groups of their own, made inside, go too.
    let mut bundle = cx.script(
        "mkdir /sys/fs/cgroup/below && sleep 1000 & sleep 0.1; echo $! >/sys/fs/cgroup/below/cgroup.procs; \
         touch /mnt/ready; exec sleep 1000",
    );
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle.without_namespace("pid");
    let container = cx.start(&bundle);
    crate::support::eventually("the child is moved", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    cx.call(&["delete", "--force", &container.id]).ok();
}

fn path_left_out(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert!(line.ends_with(&format!("/{}", container.id)), "{line}");
    container.end();
}

fn relative_path(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("{CGROUP_PARENT}/rel/{}", bundle.id)),
    );
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert!(
        line.ends_with(&format!("/{CGROUP_PARENT}/rel/{}", container.id)),
        "{line}"
    );
    container.end();
    let _ = fs::remove_dir(format!("/sys/fs/cgroup/{CGROUP_PARENT}/rel"));
}

fn path_with_dotdot_stays_below(cx: &Cx) {
    // G1: cleaned lexically, never above the mount point.
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/../../{CGROUP_PARENT}/x/../{}", bundle.id)),
    );
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert_eq!(line, format!("0::/{CGROUP_PARENT}/{}", container.id));
    container.end();
}

fn deep_path(cx: &Cx) {
    let mut bundle = cx.bundle();
    let top = bundle.id.clone();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/{CGROUP_PARENT}/{top}-deep/a/b")),
    );
    let container = cx.start(&bundle);
    assert!(
        groups_of(&container)
            .iter()
            .any(|line| line.ends_with(&format!("/{top}-deep/a/b")))
    );
    container.end();
    // The runtime removes its own group; those above it are the caller's.
    for controller in controllers(cx) {
        for below in ["a", ""] {
            let _ = fs::remove_dir(
                cx.cgroup_dir(&controller, &format!("{top}-deep"))
                    .join(below),
            );
        }
    }
}

/// The v1 hierarchies by directory name and the hybrid's v2 one; just one name on pure v2.
pub(crate) fn controllers(cx: &Cx) -> Vec<String> {
    if cx.is_v2() {
        return vec![String::new()];
    }
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Makes the container's group in each hierarchy before the container.
pub(crate) fn group_before(cx: &Cx, bundle: &Bundle) -> Vec<PathBuf> {
    let dirs: Vec<PathBuf> = controllers(cx)
        .iter()
        .map(|controller| cx.cgroup_dir(controller, &bundle.id))
        .collect();
    for dir in &dirs {
        fs::create_dir_all(dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if dir.join(file).exists() && !cx.is_v2() {
                let parent = dir.parent().unwrap();
                for at in [parent, dir.as_path()] {
                    let from = at.parent().unwrap().join(file);
                    let _ = fs::write(at.join(file), fs::read(from).unwrap());
                }
            }
        }
    }
    dirs
}

fn a_used_group_is_refused(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    let mut sleeper = std::process::Command::new("sleep");
    sleeper.arg("1000");
    let mut running = cx.spawn(sleeper);
    let pid = running.child.id();
    for dir in &dirs {
        fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let output = cx.try_create(&bundle);
    let lives = alive(i64::from(pid));
    if output.code == 0 {
        let _ = cx.call(&["delete", "--force", &bundle.id]);
    }
    running.child.kill().unwrap();
    running.wait();
    for dir in &dirs {
        let _ = fs::remove_dir(dir);
    }
    assert!(lives, "a process that was in the group before was killed");
    output.is(1);
}

fn an_empty_group_may_exist(cx: &Cx) {
    let bundle = cx.bundle();
    group_before(cx, &bundle);
    cx.start(&bundle).end();
}

fn a_frozen_group_is_refused(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    let (file, value) = if cx.is_v2() {
        ("cgroup.freeze", "1")
    } else {
        ("freezer.state", "FROZEN")
    };
    for dir in &dirs {
        if dir.join(file).exists()
            && (cx.is_v2() || dir.ends_with(format!("freezer/{CGROUP_PARENT}/{}", bundle.id)))
        {
            fs::write(dir.join(file), value).unwrap();
        }
    }
    // Otherwise create would hang in it for ever.
    let output = cx.try_create(&bundle).is(1);
    for dir in &dirs {
        let _ = fs::remove_dir(dir);
    }
    assert!(output.stderr.contains("frozen"), "{output}");
}

fn parent_is_left_alone(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    cx.start(&bundle).end();
    for dir in &dirs {
        assert!(dir.parent().unwrap().exists());
    }
}

fn unknown_resources_are_not_silent(cx: &Cx) {
    // A limit that can't be applied is an error; one that is not known is.
    for (number, (pointer, value)) in [
        ("memory", json!({"limit": "much"})),
        ("pids", json!({"limit": 1.5})),
        ("cpu", json!({"shares": -5})),
        ("cpu", json!({"cpus": "zero"})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = cx.named_bundle(&format!("u{number}"));
        bundle.set(&format!("/linux/resources/{pointer}"), value);
        cx.try_create(&bundle).is(1);
    }
}
