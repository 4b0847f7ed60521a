//! Device rules of a container that runs, changed by `update`: which nodes its processes can open before, after and meanwhile.

use std::fs;

use serde_json::{Value, json};

use super::cgroups::MIB;
use super::limits::value;
use super::update::{change, one_limit};
use crate::support::{Container, Cx, eventually, tests};

tests! {
    both devices_of_a_running_container = "runc never changes device rules";
    both devices_stay_with_other_changes;
    both a_rule_that_stays_is_never_denied;
    both a_wrong_list_of_devices_changes_nothing = "runc never changes device rules";
}

/// Opening a node of a device that no host has: refused by the rules, or found missing.
const DENIED: &str = "Operation not permitted";
const ALLOWED: &str = "No such device or address";

fn opens(container: &Container<'_>, node: &str) -> String {
    let output = container.exec_sh(&format!("cat {node} 2>&1"));
    output
        .stdout
        .trim()
        .rsplit(": ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn rule(allow: bool, minor: Option<u32>) -> Value {
    json!({"allow": allow, "type": "c", "major": 4000, "minor": minor.map_or(-1, i64::from), "access": "rwm"})
}

/// A container with nodes of 4000:1 and 4000:2 and these rules.
fn with_nodes(cx: &Cx, rules: Value) -> Container<'_> {
    let mut bundle = cx.bundle();
    bundle.set("/linux/resources/devices", rules);
    let container = cx.start(&bundle);
    container
        .exec_sh("mknod /tmp/one c 4000 1 && mknod /tmp/two c 4000 2")
        .ok();
    container
}

fn devices_of_a_running_container(cx: &Cx) {
    let none = json!({"allow": false, "access": "rwm"});
    let container = with_nodes(cx, json!([none]));
    let both = || (opens(&container, "/tmp/one"), opens(&container, "/tmp/two"));
    let are = |one: &str, two: &str| (one.to_owned(), two.to_owned());
    assert_eq!(both(), are(DENIED, DENIED));
    change(&container, &json!({"devices": [none, rule(true, Some(1))]})).ok();
    assert_eq!(both(), are(ALLOWED, DENIED));
    change(&container, &json!({"devices": [none, rule(true, None)]})).ok();
    assert_eq!(both(), are(ALLOWED, ALLOWED));
    change(&container, &json!({"devices": [none, rule(true, Some(2))]})).ok();
    assert_eq!(both(), are(DENIED, ALLOWED));
    // Everything, and back.
    change(
        &container,
        &json!({"devices": [{"allow": true, "access": "rwm"}]}),
    )
    .ok();
    assert_eq!(both(), are(ALLOWED, ALLOWED));
    change(
        &container,
        &json!({"devices": [{"allow": true, "access": "rwm"}, rule(false, Some(1))]}),
    )
    .ok();
    assert_eq!(both(), are(DENIED, ALLOWED));
    change(&container, &json!({"devices": []})).ok();
    assert_eq!(both(), are(DENIED, DENIED));
    // What every container may use is not for taking away, and the container runs on.
    container
        .exec_sh("echo x >/dev/null && head -c 1 /dev/zero >/dev/null && echo y >/dev/full")
        .says("No space left");
    assert_eq!(container.status(), "running");
    container.end();
}

fn devices_stay_with_other_changes(cx: &Cx) {
    let (_, _, resources) = one_limit(cx);
    let rules = json!([{"allow": false, "access": "rwm"}, rule(true, Some(1))]);
    let container = with_nodes(cx, rules.clone());
    // A rule that another tool has added.
    if !cx.is_v2() {
        let file = cx
            .cgroup_dir("devices", &container.id)
            .join("devices.allow");
        fs::write(file, "c 4000:2 rwm").unwrap();
    }
    let two = if cx.is_v2() { DENIED } else { ALLOWED };
    for devices in [None, Some(rules)] {
        let mut asked = resources.clone();
        if let Some(devices) = devices {
            asked["devices"] = devices;
        }
        change(&container, &asked).ok();
        assert_eq!(opens(&container, "/tmp/one"), ALLOWED, "{asked}");
        assert_eq!(opens(&container, "/tmp/two"), two, "{asked}");
    }
    container.end();
}

fn a_rule_that_stays_is_never_denied(cx: &Cx) {
    let none = json!({"allow": false, "access": "rwm"});
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/resources/devices",
        json!([none, rule(true, Some(1))]),
    );
    // Nothing but builtins, so that no moment is missed; what cannot be opened is named in the log.
    bundle.sh(
        "mknod /tmp/one c 4000 1; exec 2>/mnt/log; while [ ! -e /mnt/end ]; do \
           true </tmp/one; true </dev/null; : >/mnt/round; done; : >/mnt/over; exec sleep 1000",
    );
    let container = cx.start(&bundle);
    let mnt = bundle.rootfs().join("mnt");
    eventually("the first round", 20, || mnt.join("round").exists());
    let all = json!({"allow": true, "access": "rwm"});
    for round in 0..10u32 {
        let wide = json!([none, rule(true, None), rule(true, Some(100 + round))]);
        let narrow = json!([none, rule(true, Some(1)), rule(true, Some(200 + round))]);
        let everything = json!([all, rule(false, Some(50 + round))]);
        for devices in [wide, narrow, everything] {
            change(&container, &json!({"devices": devices})).ok();
        }
        fs::remove_file(mnt.join("round")).unwrap();
        eventually("another round", 20, || mnt.join("round").exists());
    }
    fs::write(mnt.join("end"), "").unwrap();
    eventually("the loop has ended", 20, || mnt.join("over").exists());
    let log = fs::read_to_string(mnt.join("log")).unwrap();
    println!("{} times opened", log.lines().count());
    assert!(log.contains(ALLOWED), "{log}");
    let denied: Vec<&str> = log.lines().filter(|l| !l.contains(ALLOWED)).collect();
    assert!(
        denied.is_empty(),
        "denied {} times: {}",
        denied.len(),
        denied[0]
    );
    assert_eq!(container.status(), "running");
    container.end();
}

fn a_wrong_list_of_devices_changes_nothing(cx: &Cx) {
    let (controller, file, mut resources) = one_limit(cx);
    let container = with_nodes(
        cx,
        json!([{"allow": false, "access": "rwm"}, rule(true, Some(1))]),
    );
    let first = json!({"pids": {"limit": 50}});
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 8 * MIB}]});
    let first = if controller == "pids" { first } else { pages };
    change(&container, &first).ok();
    let before = value(&container, controller, file, file);
    // The last one takes back a part of a wildcard, which no device cgroup can.
    for (devices, words) in [
        (
            json!([{"allow": true, "type": "c", "access": "x"}]),
            "devices[0]",
        ),
        (
            json!([{"allow": true, "type": "z", "access": "r"}]),
            "devices[0]",
        ),
        (
            json!([rule(true, None), rule(false, Some(2))]),
            "linux.resources.devices",
        ),
    ] {
        resources["devices"] = devices;
        change(&container, &resources).is(1).says(words);
        assert_eq!(value(&container, controller, file, file), before);
        assert_eq!(opens(&container, "/tmp/one"), ALLOWED);
        assert_eq!(opens(&container, "/tmp/two"), DENIED);
    }
    container.end();
}
