//! Containers of a user without any right of root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};

use crate::support::tty::Terminal;
use crate::support::user::{MAPS, SUB_GID, SUB_UID, UID, User};
use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    both rootless_spec_runs_as_it_is;
    both rootless_life;
    host rootless_sub_ids;
    host rootless_groups = "runc sets no additional groups for a user without rights";
    host rootless_own_groups_reach_sources;
    host rootless_refusals;
    host rootless_ids_not_granted;
    host rootless_terminal;
    host rootless_exec_in_a_created_one = "runc keeps an init that joins nothing dumpable";
    host rootless_hooks;
    host rootless_seccomp_without_no_new_privileges;
    host rootless_mounts;
    host rootless_joined_namespaces;
    host rootless_state_root = "runc says mkdir";
}

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
    let mut bundle = cx.rootless_script("id -u; id -g; touch /shared/file; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map",
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
    let mut bundle = cx.rootless_script("id -G; cat /proc/self/setgroups");
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
    let mut bundle = cx.rootless_script("cat /volume/file");
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
        let mut bundle = cx.rootless_script(": >/ran");
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
    let mut bundle = cx.rootless_script(":");
    bundle.sub_ids();
    bundle.set("/linux/uidMappings/1/hostID", json!(700_000));
    let output = user.run(&bundle).is(1).says("newuidmap");
    if cx.is_rundlet() {
        let output = output.says("linux.uidMappings: map").says("/etc/subuid");
        output.says("uid range [1-65537) -> [700000-765536) not allowed");
    }
    user.left_nothing();
}

fn rootless_terminal(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.rootless_script("tty; stat -c %u:%t /dev/console; read x; echo got $x");
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
    let mut bundle = cx.rootless_script("true");
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
    let mut bundle = cx.rootless_script("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t' ' '; mkdir /tmp/x 2>&1 | grep -c permitted",
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
    let mut bundle = cx.rootless_script(
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
    let bundle = cx.rootless_script("true");
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
