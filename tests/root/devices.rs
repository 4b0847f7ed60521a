//! Device nodes, /dev's links, and the device rules that must bite.

use serde_json::json;

use super::beside_runc::Meant::{Refused, Same};
use super::beside_runc::all_created;
use crate::support::{Cx, tests};

tests! {
    both default_nodes_exist_and_work;
    host links_of_dev;
    host ptmx_is_the_containers_own;
    both requested_nodes;
    host requested_node_with_mode_and_owner;
    host requested_node_in_a_directory_to_be_made;
    host fifo_as_a_device;
    both denied_device_cannot_be_opened;
    both nodes_can_be_made_but_not_opened;
    both allowed_device_can_be_opened;
    both rule_with_read_only;
    both rule_with_wildcards;
    both rule_for_a_whole_kind;
    both rule_for_the_other_kind_does_not_match;
    both later_rules_win;
    both allow_all;
    both no_rules_at_all_deny;
    both rules_hold_for_exec;
    host dev_from_a_bind_is_left_alone;
    host dev_as_a_link_does_not_touch_the_host = "runc 1.1.5 is CVE-2026-41579";
    host existing_file_in_the_place_of_a_node;
    host device_rules_are_runcs;
}

const DEFAULTS: &str =
    "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done";

fn default_nodes_exist_and_work(cx: &Cx) {
    cx.sh(
        &format!(
            "{DEFAULTS}; echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1; echo x >/dev/full 2>/dev/null || echo full; \
             head -c 8 /dev/urandom | wc -c"
        ),
        |_| (),
    )
    .prints(
        "/dev/null character special file 1:3 666\n\
         /dev/zero character special file 1:5 666\n\
         /dev/full character special file 1:7 666\n\
         /dev/random character special file 1:8 666\n\
         /dev/urandom character special file 1:9 666\n\
         /dev/tty character special file 5:0 666\n \
         00 00 00 00\nfull\n8",
    );
}

fn links_of_dev(cx: &Cx) {
    cx.sh("for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo through >>/dev/stdout", |_| ())
        .prints("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\nthrough");
}

fn ptmx_is_the_containers_own(cx: &Cx) {
    cx.sh(
        "stat -L -c '%t:%T' /dev/ptmx; exec 3<>/dev/ptmx && ls /dev/pts | sort",
        |_| (),
    )
    .prints("5:2\n0\nptmx");
}

/// The standard devices follow it, and are in it already.
fn rule_for_a_whole_kind(cx: &Cx) {
    cx.sh("cat /dev/null && echo read", |b| {
        b.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "access": "rwm"}),
        );
    })
    .prints("read");
}

fn requested_nodes(cx: &Cx) {
    cx.sh("stat -c '%F %t:%T' /dev/fuse-like /dev/disk-like", |b| {
        b.push(
            "/linux/devices",
            json!({"path": "/dev/fuse-like", "type": "c", "major": 10, "minor": 229}),
        );
        b.push(
            "/linux/devices",
            json!({"path": "/dev/disk-like", "type": "b", "major": 7, "minor": 300}),
        );
    })
    .prints("character special file a:e5\nblock special file 7:12c");
}

fn requested_node_with_mode_and_owner(cx: &Cx) {
    cx.sh("stat -c '%a %u %g' /dev/mine", |b| {
        b.push(
            "/linux/devices",
            json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 11, "gid": 22}),
        );
    })
    .prints("640 11 22");
}

fn requested_node_in_a_directory_to_be_made(cx: &Cx) {
    cx.sh("stat -c '%t:%T' /dev/a/b/node", |b| {
        b.push(
            "/linux/devices",
            json!({"path": "/dev/a/b/node", "type": "c", "major": 1, "minor": 5}),
        );
    })
    .prints("1:5");
}

fn fifo_as_a_device(cx: &Cx) {
    cx.sh("stat -c %F /dev/pipe", |b| {
        b.push(
            "/linux/devices",
            json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600}),
        );
    })
    .prints("fifo");
}

/// A device that root may always open if no rule forbids it, and that does nothing when opened.
/// It is in no default list, so an error on opening it can only come from the rules.
pub(super) fn fuse(cx: &Cx) {
    if !std::path::Path::new("/dev/fuse").exists() {
        cx.skip("no /dev/fuse on this host");
    }
}

const OPEN: &str = "mknod /tmp/n c 10 229; (exec 3<>/tmp/n) 2>&1 && echo opened || echo denied";

/// Runs `OPEN` with these rules after the default one that denies all.
fn open_with(cx: &Cx, rules: &[serde_json::Value]) -> crate::support::Output {
    fuse(cx);
    cx.sh(OPEN, |b| {
        for rule in rules {
            b.push("/linux/resources/devices", rule.clone());
        }
    })
}

fn denied_device_cannot_be_opened(cx: &Cx) {
    fuse(cx);
    let output = cx.sh("(exec 3<>/dev/denied) 2>&1 && echo opened || echo denied", |b| {
        b.push("/linux/devices", json!({"path": "/dev/denied", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}));
    });
    assert!(
        output.stdout.contains("Operation not permitted"),
        "{output}"
    );
    assert!(output.stdout.ends_with("denied\n"), "{output}");
}

fn nodes_can_be_made_but_not_opened(cx: &Cx) {
    let output = cx.sh(
        "mknod /tmp/b b 7 0 && echo made; (exec 3</tmp/b) 2>&1 || echo denied",
        |_| (),
    );
    assert!(
        output.stdout.starts_with("made\n") && output.stdout.ends_with("denied\n"),
        "{output}"
    );
    assert!(
        output.stdout.contains("Operation not permitted"),
        "{output}"
    );
}

fn allowed_device_can_be_opened(cx: &Cx) {
    open_with(
        cx,
        &[json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"})],
    )
    .prints("opened");
}

fn rule_with_read_only(cx: &Cx) {
    fuse(cx);
    let output =
        cx.sh("mknod /tmp/n c 10 229; (exec 3</tmp/n) && echo read; (exec 3>/tmp/n) 2>&1 || echo no write", |b| {
            let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rm"});
            b.push("/linux/resources/devices", rule);
        });
    assert!(
        output.stdout.starts_with("read\n") && output.stdout.ends_with("no write\n"),
        "{output}"
    );
    assert!(output.stdout.contains("not permitted"), "{output}");
}

fn rule_with_wildcards(cx: &Cx) {
    open_with(
        cx,
        &[json!({"allow": true, "type": "c", "major": 10, "access": "rwm"})],
    )
    .prints("opened");
}

fn rule_for_the_other_kind_does_not_match(cx: &Cx) {
    open_with(
        cx,
        &[json!({"allow": true, "type": "b", "major": 10, "minor": 229, "access": "rwm"})],
    )
    .has("Operation not permitted");
}

fn later_rules_win(cx: &Cx) {
    let rule = |allow: bool| json!({"allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    open_with(cx, &[rule(true), rule(false)]).has("Operation not permitted");
}

fn allow_all(cx: &Cx) {
    // As `docker run --privileged` asks.
    open_with(cx, &[json!({"allow": true, "access": "rwm"})]).prints("opened");
}

fn no_rules_at_all_deny(cx: &Cx) {
    // G4: without a rule the default is deny, and the standard nodes still work.
    fuse(cx);
    let output = cx.sh(&format!("echo x >/dev/null && echo null; {OPEN}"), |b| {
        b.set("/linux/resources", json!({}))
    });
    assert!(
        output.stdout.starts_with("null\n") && output.stdout.ends_with("denied\n"),
        "{output}"
    );
}

fn rules_hold_for_exec(cx: &Cx) {
    fuse(cx);
    let container = cx.sleeper();
    let output = container
        .exec_sh(&format!("echo x >/dev/null && echo null; {OPEN}"))
        .ok();
    assert!(
        output.stdout.starts_with("null\n") && output.stdout.ends_with("denied\n"),
        "{output}"
    );
    container.end();
}

fn dev_from_a_bind_is_left_alone(cx: &Cx) {
    // A bind over /dev means: the nodes are the caller's business.
    let dev = cx.dir.join("dev");
    std::fs::create_dir_all(dev.join("pts")).unwrap();
    std::fs::create_dir_all(dev.join("shm")).unwrap();
    std::fs::create_dir_all(dev.join("mqueue")).unwrap();
    cx.host(&format!("mknod {}/null c 1 3", dev.display())).ok();
    cx.sh("ls /dev", |b| {
        b.without_mount("/dev");
        b.config["mounts"].as_array_mut().unwrap().insert(
            1,
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind", "rw"]}),
        );
    })
    .prints("mqueue\nnull\npts\nshm");
}

fn dev_as_a_link_does_not_touch_the_host(cx: &Cx) {
    // D1: rootfs/dev points to a directory of the host that has a file "ptmx".
    let outside = cx.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("ptmx"), "precious").unwrap();
    let mut bundle = cx.script("true");
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("dev")).unwrap();
    let _ = cx.run(&bundle);
    let names: Vec<_> = std::fs::read_dir(&outside)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["ptmx"]);
    assert_eq!(
        std::fs::read_to_string(outside.join("ptmx")).unwrap(),
        "precious"
    );
}

fn existing_file_in_the_place_of_a_node(cx: &Cx) {
    // Without a tmpfs on /dev the image's own files are in the way: used only if they are that device.
    let mut bundle = cx.script("stat -c '%F %t:%T' /dev/null /dev/zero");
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    std::fs::write(bundle.rootfs().join("dev/null"), "I am no device").unwrap();
    let output = cx.run(&bundle);
    // Replaced or refused, never trusted.
    assert!(
        output.code == 1
            || output.stdout.starts_with("character special file 1:3\n")
            || !cx.is_rundlet(),
        "{output}"
    );
}

/// In order and with odd ones.
fn device_rules_are_runcs(cx: &Cx) {
    let none = json!({"allow": false, "access": "rwm"});
    let rule = |allow, major: i64, minor: i64, access: &str| json!({"allow": allow, "type": "c", "major": major, "minor": minor, "access": access});
    let list = |rules: serde_json::Value| json!({ "devices": rules });
    all_created(
        cx,
        &[
            (list(json!([])), Same),
            (list(json!([none])), Same),
            (list(json!([none, rule(true, 10, 229, "rwm")])), Same),
            (
                list(json!([
                    none,
                    rule(true, 10, 229, "r"),
                    rule(true, 10, 229, "w")
                ])),
                Same,
            ),
            (
                list(json!([
                    none,
                    rule(true, 10, -1, "rw"),
                    rule(true, -1, 7, "m")
                ])),
                Same,
            ),
            (
                list(
                    json!([none, {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rm"}]),
                ),
                Same,
            ),
            (list(json!([rule(true, 10, 229, "rwm"), none])), Same),
            (
                list(json!([
                    none,
                    rule(true, 10, 229, "rwm"),
                    rule(false, 10, 229, "w")
                ])),
                Same,
            ),
            (list(json!([{"allow": true, "access": "rwm"}])), Same),
            (
                list(json!([none, rule(true, 10, 229, "x")])),
                if cx.is_v2() {
                    Refused("access: `x`", "runc drops it")
                } else {
                    Same
                },
            ),
        ],
    );
}
