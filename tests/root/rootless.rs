//! Containers of a normal user: without any right of root, and as root of a user namespace, as Podman calls the runtime.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};

use crate::support::tty::Terminal;
use crate::support::user::{SUB_GID, SUB_UID, UID, User};
use crate::support::{Bundle, CGROUP_PARENT, Cx, eventually, tests};

tests! {
    both rootless_spec_runs_as_it_is;
    both rootless_life;
    host rootless_sub_ids;
    host rootless_groups = "runc sets no additional groups for a user without rights";
    host rootless_own_groups_reach_sources;
    host rootless_refusals;
    host rootless_ids_not_granted;
    both rootless_limits_without_a_cgroup;
    v2 rootless_delegated_cgroup;
    host rootless_without_a_cgroup = "runc 1.1.5 says so in other words";
    host rootless_terminal;
    host rootless_exec_in_a_created_one = "runc keeps an init that joins nothing dumpable";
    host rootless_hooks;
    host rootless_seccomp_without_no_new_privileges;
    host rootless_mounts;
    host rootless_joined_namespaces;
    host rootless_state_root = "runc says mkdir";
    both namespace_root_runs;
    host namespace_root_devices_and_mounts;
    host namespace_root_joins_a_pid_namespace;
    host namespace_root_state_root;
}

/// A bundle that a user without rights can run.
fn bundle(cx: &Cx, script: &str) -> Bundle {
    let mut bundle = cx.script(script);
    bundle.rootless();
    bundle
}

const MAPS: &str = "tr -s ' ' </proc/self/uid_map; cat /proc/self/setgroups";

fn rootless_spec_runs_as_it_is(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.bundle();
    user.hand_over(&bundle);
    std::fs::remove_file(bundle.path.join("config.json")).unwrap();
    let dir = bundle.path.to_str().unwrap();
    user.call(&["spec", "--rootless", "--bundle", dir]).ok();
    let text = std::fs::read(bundle.path.join("config.json")).unwrap();
    bundle.config = serde_json::from_slice(&text).unwrap();
    bundle.set("/process/terminal", json!(false));
    bundle.sh(&format!(
        "id -u; {MAPS}; test -e /sys/kernel && echo sysfs; touch /sys/x /x 2>&1 | grep -c Read-only"
    ));
    user.run(&bundle)
        .ok()
        .prints(&format!("0\n 0 {UID} 1\ndeny\nsysfs\n2"));
    user.left_nothing();
}

fn rootless_life(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.bundle();
    bundle.rootless();
    let id = bundle.id.clone();
    user.create(&bundle).ok();
    let root = std::fs::metadata(user.state_root()).unwrap();
    assert_eq!(
        (root.uid(), root.mode() & 0o7777),
        (UID, 0o1700),
        "{}",
        user.state_root().display()
    );
    assert_eq!(user.state(&id)["status"], "created");
    user.call(&["start", &id]).ok();
    assert_eq!(user.state(&id)["status"], "running");
    user.call(&["list"]).ok().has(&id);
    let status = std::fs::read_to_string(format!("/proc/{}/status", user.pid(&id))).unwrap();
    assert!(status.contains(&format!("Uid:\t{UID}\t{UID}\t{UID}\t{UID}")));
    user.exec_sh(&id, &format!("id -u; {MAPS}; ps | grep -c 'sleep 100[0]'"))
        .ok()
        .prints(&format!("0\n 0 {UID} 1\ndeny\n1"));
    user.call(&["exec", &id, "sh", "-c", "exit 7"]).is(7);
    user.call(&["delete", &id]).is(1);
    user.call(&["delete", "--force", &id]).ok();
    user.left_nothing();
}

fn rootless_sub_ids(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(
        cx,
        "id -u; id -g; touch /shared/file; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map",
    );
    bundle.sub_ids();
    let shared = cx.dir.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::create_dir(bundle.rootfs().join("shared")).unwrap();
    bundle.bind(&shared, "/shared", &["rw"]);
    bundle.set("/process/user", json!({"uid": 5, "gid": 6}));
    user.run(&bundle).ok().prints(&format!(
        "5\n6\n 0 {UID} 1\n 1 {SUB_UID} 65536\n 0 {UID} 1\n 1 {SUB_GID} 65536"
    ));
    let meta = std::fs::metadata(shared.join("file")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (SUB_UID + 4, SUB_GID + 5));
    user.left_nothing();
}

fn rootless_groups(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(cx, "id -G; cat /proc/self/setgroups");
    bundle.sub_ids();
    bundle.set("/process/user/additionalGids", json!([3, 4]));
    user.run(&bundle).ok().prints("0 3 4\nallow");
    // Those of the caller do not come along where they can be dropped.
    bundle.set("/process/user/additionalGids", json!([]));
    user.hand_over(&bundle);
    let dir = bundle.path.to_str().unwrap();
    let mut command = cx_setpriv(&user, &["run", "--bundle", dir, &bundle.id]);
    command.env("XDG_RUNTIME_DIR", &user.run_dir);
    cx.spawn(command).wait().ok().prints("0\nallow");
    user.left_nothing();
}

/// The runtime as the user who is also a member of group 5555.
fn cx_setpriv(user: &User<'_>, args: &[&str]) -> std::process::Command {
    let plain = user.command(args);
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", "1234", "--regid", "1234", "--groups", "5555"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir("/");
    command
}

/// A volume that only a supplementary group of the user may enter.
fn rootless_own_groups_reach_sources(cx: &Cx) {
    let user = cx.user();
    let closed = cx.dir.join("closed");
    std::fs::create_dir_all(closed.join("volume")).unwrap();
    std::fs::write(closed.join("volume/file"), "inside").unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o710)).unwrap();
    chown(&closed, Some(0), Some(5555)).unwrap();
    let mut bundle = bundle(cx, "cat /volume/file");
    bundle.sub_ids();
    bundle.bind(&closed.join("volume"), "/volume", &["ro"]);
    user.run(&bundle).is(1);
    user.hand_over(&bundle);
    let dir = bundle.path.to_str().unwrap();
    let mut command = cx_setpriv(&user, &["run", "--bundle", dir, &bundle.id]);
    command.env("XDG_RUNTIME_DIR", &user.run_dir);
    cx.spawn(command).wait().ok().prints("inside");
    user.left_nothing();
}

fn rootless_refusals(cx: &Cx) {
    let user = cx.user();
    let refused = |says: &str, edit: fn(&mut Bundle)| {
        let _ = std::fs::remove_dir_all(cx.dir.join("bundle-c"));
        let mut bundle = bundle(cx, ": >/ran");
        edit(&mut bundle);
        let output = user.run(&bundle).is(1);
        if cx.is_rundlet() {
            output.says(says);
        }
        assert!(!bundle.rootfs().join("ran").exists(), "{says}");
        user.left_nothing();
    };
    refused("rootless container requires user namespaces", |b| {
        b.without_namespace("user");
        for field in ["uidMappings", "gidMappings"] {
            b.set(&format!("/linux/{field}"), json!([]));
        }
    });
    refused("mounts[7].options: cannot specify gid=5", |b| {
        b.mount("/tmp", "tmpfs", "tmpfs", &["gid=5"]);
    });
    refused("mounts[7].options: cannot specify uid=1", |b| {
        b.mount("/tmp", "tmpfs", "tmpfs", &["uid=1"]);
    });
    refused("process.user.additionalGids: cannot set any", |b| {
        b.set("/process/user/additionalGids", json!([0]));
    });
    refused("process.oomScoreAdj: set -900", |b| {
        b.set("/process/oomScoreAdj", json!(-900));
    });
    refused("process.rlimits[0]: set RLIMIT_NOFILE", |b| {
        b.set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "hard": 1_000_000_000, "soft": 1}]),
        );
    });
    refused("create cgroup", |b| {
        b.set("/linux/cgroupsPath", json!("/not-mine/c"));
    });
}

fn rootless_ids_not_granted(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(cx, ":");
    bundle.sub_ids();
    bundle.set("/linux/uidMappings/1/hostID", json!(700_000));
    let output = user.run(&bundle).is(1).says("newuidmap");
    if cx.is_rundlet() {
        let output = output.says("linux.uidMappings: map").says("/etc/subuid");
        output.says("uid range [1-65537) -> [700000-765536) not allowed");
    }
    user.left_nothing();
}

fn rootless_limits_without_a_cgroup(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(cx, ":");
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

fn rootless_terminal(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(cx, "tty; stat -c %u:%t /dev/console; read x; echo got $x");
    bundle.set("/process/terminal", json!(true));
    user.hand_over(&bundle);
    let (mut terminal, slave) = Terminal::open(31, 97);
    let mut command = user.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    command
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave);
    let mut child = command.spawn().unwrap();
    terminal.expect("/dev/pts/0");
    terminal.expect("0:88");
    terminal.write("word\n");
    terminal.expect("got word");
    eventually("the runtime ends", 10, || {
        child.try_wait().unwrap().is_some()
    });
    assert!(child.wait().unwrap().success());
    user.left_nothing();
}

/// The init of a created container is still the runtime's copy: closed to everybody but root.
fn rootless_exec_in_a_created_one(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.bundle();
    bundle.rootless();
    let id = bundle.id.clone();
    user.create(&bundle).ok();
    let environ = std::fs::metadata(format!("/proc/{}/environ", user.pid(&id))).unwrap();
    assert_eq!(environ.uid(), 0);
    user.exec_sh(&id, "true").says("start it first");
    user.call(&["delete", &id]).ok();
    user.left_nothing();
}

fn rootless_hooks(cx: &Cx) {
    let user = cx.user();
    let log = cx.file("hooks.log", "");
    chown(&log, Some(UID), Some(UID)).unwrap();
    let mut bundle = bundle(cx, "true");
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        let script = format!("echo {kind} $(id -u) >>{}", log.display());
        bundle.push(
            &format!("/hooks/{kind}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}),
        );
    }
    user.run(&bundle).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        text,
        "prestart 1234\ncreateRuntime 1234\ncreateContainer 0\npoststart 1234\npoststop 1234\n"
    );
    user.left_nothing();
}

fn rootless_seccomp_without_no_new_privileges(cx: &Cx) {
    let user = cx.user();
    let mut bundle = bundle(
        cx,
        "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t' ' '; mkdir /tmp/x 2>&1 | grep -c permitted",
    );
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    user.run(&bundle)
        .ok()
        .prints("NoNewPrivs: 0\nSeccomp: 2\n1");
}

fn rootless_mounts(cx: &Cx) {
    let user = cx.user();
    let volume = cx.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    chown(&volume, Some(UID), Some(UID)).unwrap();
    let mut bundle = bundle(
        cx,
        "touch /rw/file && echo written; touch /ro/x 2>&1 | grep -c Read-only; \
         stat -c %t:%T /dev/null /dev/tty; echo x >/dev/null; wc -c </proc/keys; \
         touch /proc/sys/kernel/domainname 2>&1 | grep -c Read-only; \
         touch /x 2>&1 | grep -c Read-only; grep -c ' /dev/mqueue mqueue ' /proc/mounts",
    );
    bundle.bind(&volume, "/rw", &["rw"]);
    bundle.bind(&volume, "/ro", &["ro"]);
    bundle.set("/root/readonly", json!(true));
    for name in ["rw", "ro"] {
        std::fs::create_dir(bundle.rootfs().join(name)).unwrap();
    }
    user.run(&bundle)
        .ok()
        .prints("written\n1\n1:3\n5:0\n0\n1\n1\n1");
    assert_eq!(std::fs::metadata(volume.join("file")).unwrap().uid(), UID);
}

/// The second container of a pod.
fn rootless_joined_namespaces(cx: &Cx) {
    let user = cx.user();
    let mut first = cx.named_bundle("first");
    first.rootless();
    first.sub_ids();
    user.create(&first).ok();
    user.call(&["start", &first.id]).ok();
    let pid = user.pid(&first.id);
    let mut second = cx.named_bundle("second");
    second.rootless();
    for (kind, file) in [("user", "user"), ("ipc", "ipc"), ("uts", "uts")] {
        second.without_namespace(kind);
        let path = format!("/proc/{pid}/ns/{file}");
        second.push("/linux/namespaces", json!({"type": kind, "path": path}));
    }
    for field in ["uidMappings", "gidMappings"] {
        second.config["linux"]
            .as_object_mut()
            .unwrap()
            .remove(field);
    }
    if !cx.is_rundlet() {
        second.sub_ids();
    }
    second.set("/hostname", Value::Null);
    second.sh(
        "readlink /proc/self/ns/user; readlink /proc/self/ns/ipc; hostname; tr -s ' ' </proc/self/uid_map",
    );
    let namespace = |file: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    user.run(&second).ok().prints(&format!(
        "{}\n{}\ninside\n 0 {UID} 1\n 1 {SUB_UID} 65536",
        namespace("user"),
        namespace("ipc")
    ));
    user.end(&first.id);
}

fn rootless_state_root(cx: &Cx) {
    let user = cx.user();
    let bundle = bundle(cx, "true");
    user.hand_over(&bundle);
    let mut command = user.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    command.env_remove("XDG_RUNTIME_DIR");
    cx.spawn(command).wait().is(1).says("$XDG_RUNTIME_DIR");
    let root = user.run_dir.join("elsewhere");
    let root = root.to_str().unwrap();
    user.call(&[
        "--root",
        root,
        "run",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ])
    .ok();
}

/// What Podman's config looks like to the runtime: no user namespace in it.
fn namespace_root_bundle(cx: &Cx, script: &str) -> Bundle {
    let mut bundle = bundle(cx, script);
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
    let bundle = bundle(cx, "true");
    user.create(&bundle).ok();
    user.as_namespace_root(&args).ok().has(&bundle.id);
    user.call(&["delete", &bundle.id]).ok();
    user.left_nothing();
}
