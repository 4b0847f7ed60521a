//! Cgroups of a user without any right of root: none, or what was delegated.

use std::os::unix::fs::chown;

use serde_json::json;

use crate::support::user::UID;
use crate::support::{CGROUP_PARENT, Cx, tests};

tests! {
    both rootless_limits_without_a_cgroup;
    v2 rootless_delegated_cgroup;
    host rootless_without_a_cgroup = "runc 1.1.5 says so in other words";
}

fn rootless_limits_without_a_cgroup(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.rootless_script(":");
    bundle.set("/linux/resources", json!({"pids": {"limit": 10}}));
    let output = user.run(&bundle).is(1);
    if cx.is_rundlet() {
        output.says("linux.resources: rootless needs no limits + no cgrouppath");
    }
    user.left_nothing();
    // Device rules are no limit.
    bundle.set(
        "/linux/resources",
        json!({"devices": [{"allow": false, "access": "rwm"}]}),
    );
    user.run(&bundle).ok();
}

/// A cgroup that belongs to the user and has the runtime in one of its children, as a session of systemd's.
fn rootless_delegated_cgroup(cx: &Cx) {
    let user = cx.user();
    let top = std::path::Path::new("/sys/fs/cgroup").join(CGROUP_PARENT);
    let own = top.join(cx.id("delegated"));
    std::fs::create_dir_all(own.join("caller")).unwrap();
    let pids = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .unwrap()
        .contains("pids");
    if pids {
        for dir in [std::path::Path::new("/sys/fs/cgroup"), &top] {
            std::fs::write(dir.join("cgroup.subtree_control"), "+pids").unwrap();
        }
    }
    for name in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
        "caller",
    ] {
        chown(own.join(name), Some(UID), Some(UID)).unwrap();
    }
    chown(own.join("caller/cgroup.procs"), Some(UID), Some(UID)).unwrap();
    let mut bundle = cx.bundle();
    bundle.rootless();
    if pids {
        bundle.set("/linux/resources", json!({"pids": {"limit": 33}}));
    }
    let id = bundle.id.clone();
    user.hand_over(&bundle);
    let procs = own.join("caller/cgroup.procs");
    let call = |args: &[&str]| {
        let runtime = user.command(args);
        let mut command = std::process::Command::new("sh");
        command
            .args([
                "-c",
                "echo 0 >$PROCS && exec setpriv --reuid 1234 --regid 1234 --clear-groups \"$@\"",
                "sh",
            ])
            .env("PROCS", &procs)
            .env("XDG_RUNTIME_DIR", &user.run_dir)
            .arg(runtime.get_program())
            .args(runtime.get_args());
        cx.spawn(command).wait()
    };
    call(&["create", "--bundle", bundle.path.to_str().unwrap(), &id]).ok();
    call(&["start", &id]).ok();
    let cgroup = own.join(&id);
    let listed = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert_eq!(listed.trim(), user.pid(&id).to_string());
    if pids {
        let max = std::fs::read_to_string(cgroup.join("pids.max")).unwrap();
        assert_eq!(max, "33\n");
    }
    let inside = ["exec", "--detach", &id, "sleep", "1000"];
    call(&inside).ok();
    assert_eq!(processes(&cgroup), 2);
    // From a place that is not the user's: the kernel lets nobody move from there into the cgroup.
    user.call(&inside).ok();
    assert_eq!(processes(&cgroup), 2);
    call(&["ps", "--format", "json", &id])
        .ok()
        .has(&format!("[{},", user.pid(&id)));
    call(&["pause", &id]).ok();
    assert_eq!(user.state(&id)["status"], "paused");
    call(&["resume", &id]).ok();
    call(&["delete", "--force", &id]).ok();
    assert!(!cgroup.exists());
    user.left_nothing();
    std::fs::remove_dir(own.join("caller")).unwrap();
    std::fs::remove_dir(&own).unwrap();
}

fn processes(cgroup: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    text.lines().count()
}

fn rootless_without_a_cgroup(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.bundle();
    bundle.rootless();
    let id = bundle.id.clone();
    user.create(&bundle).ok();
    user.call(&["start", &id]).ok();
    for verb in ["pause", "ps"] {
        user.call(&[verb, &id]).is(1).says("has no cgroup");
    }
    // Nothing of the host's cgroups is shown either.
    user.exec_sh(&id, "ls /sys/fs/cgroup | wc -l")
        .ok()
        .prints("0");
    user.end(&id);
}
