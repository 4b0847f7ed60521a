//! The runtime as root of a user namespace, as rootless Podman calls it.

use serde_json::json;

use crate::support::user::{MAPS, SUB_UID, UID, User};
use crate::support::{Bundle, Cx, tests};

tests! {
    both namespace_root_runs;
    host namespace_root_devices_and_mounts;
    host namespace_root_joins_a_pid_namespace;
    host namespace_root_state_root;
}

/// What Podman's config looks like to the runtime: no user namespace in it.
fn namespace_root_bundle(cx: &Cx, script: &str) -> Bundle {
    let mut bundle = cx.rootless_script(script);
    bundle.without_namespace("user");
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"]
            .as_object_mut()
            .unwrap()
            .remove(field);
    }
    bundle
}

fn run_as_namespace_root(user: &User<'_>, bundle: &Bundle) -> crate::support::Output {
    user.hand_over(bundle);
    user.as_namespace_root(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id])
}

fn namespace_root_runs(cx: &Cx) {
    let user = cx.user();
    let mut bundle = namespace_root_bundle(cx, &format!("id -u; id -G; {MAPS}"));
    bundle.set(
        "/process/user",
        json!({"uid": 7, "gid": 8, "additionalGids": [9]}),
    );
    bundle.set(
        "/linux/resources",
        json!({"devices": [{"allow": false, "access": "rwm"}]}),
    );
    run_as_namespace_root(&user, &bundle)
        .ok()
        .prints(&format!("7\n8 9\n 0 {UID} 1\n 1 {SUB_UID} 65536\nallow"));
    // A user namespace in the user namespace, which Podman makes for --userns.
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        bundle.set(
            &format!("/linux/{field}"),
            json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 100, "size": 1000}]),
        );
    }
    run_as_namespace_root(&user, &bundle)
        .ok()
        .prints("7\n8 9\n 0 0 1\n 1 100 1000\nallow");
    user.left_nothing();
}

fn namespace_root_devices_and_mounts(cx: &Cx) {
    let user = cx.user();
    let mut bundle = namespace_root_bundle(
        cx,
        "stat -c %t:%T /dev/null /dev/urandom /dev/fuse; echo x >/dev/null; grep -c sysfs /proc/mounts; hostname changed; hostname; ip link show lo | grep -c UP",
    );
    bundle.push(
        "/linux/devices",
        json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}),
    );
    if !std::path::Path::new("/dev/fuse").exists() {
        cx.skip("no /dev/fuse");
    }
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    bundle.push("/linux/namespaces", json!({"type": "network"}));
    bundle.without_mount("/sys");
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    let output = run_as_namespace_root(&user, &bundle).ok();
    let text = output.text();
    assert!(text.starts_with("1:3\n1:9\na:e5\n"), "{output}");
    assert!(text.ends_with("changed\n1"), "{output}");
    user.left_nothing();
}

/// The runtime can not come back to its own pid namespace: that is not its user namespace's.
fn namespace_root_joins_a_pid_namespace(cx: &Cx) {
    let user = cx.user();
    let mut bundle = namespace_root_bundle(cx, "echo here");
    let (mut inner, pid_file) = (cx.named_bundle("first"), user.run_dir.join("pid"));
    inner.rootless();
    inner.sub_ids();
    user.create(&inner).ok();
    user.call(&["start", &inner.id]).ok();
    let pid = user.pid(&inner.id);
    std::fs::write(pid_file, pid.to_string()).unwrap();
    // Root of the container's user namespace, which owns that pid namespace.
    bundle.without_namespace("pid");
    bundle.push(
        "/linux/namespaces",
        json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}),
    );
    bundle.sh("ps | grep -c 'sleep 100[0]'; echo $$");
    user.hand_over(&bundle);
    let target = pid.to_string();
    let mut command = user.program("nsenter");
    let runtime = user.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    command
        .args(["--preserve-credentials", "--user", "--target", &target])
        .args(["unshare", "--mount"])
        .arg(runtime.get_program())
        .args(runtime.get_args());
    let output = cx.spawn(command).wait().ok();
    let lines: Vec<&str> = output.text().lines().collect();
    assert_eq!(lines[0], "1", "{output}");
    assert_ne!(lines[1], "1", "{output}");
    user.end(&inner.id);
}

/// `start` is called without USER by Podman, `create` with it: both must find the same state.
fn namespace_root_state_root(cx: &Cx) {
    let user = cx.user();
    let args = ["list", "-q"];
    user.as_namespace_root(&args).ok();
    let bundle = cx.rootless_script("true");
    user.create(&bundle).ok();
    user.as_namespace_root(&args).ok().has(&bundle.id);
    user.call(&["delete", &bundle.id]).ok();
    user.left_nothing();
}
