//! Cgroups that the container manages itself (v2): the annotation, owners, exec, a container in it, systemd as its init.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::cgroups::{MIB, need};
use super::update::update;
use crate::support::{Bundle, CGROUP_PARENT, Container, Cx, eventually, tests};

tests! {
    v2 payload_sits_in_a_leaf = "an extension of rundlet";
    v2 the_container_divides_its_group = "an extension of rundlet";
    v2 it_does_so_in_a_user_namespace = "an extension of rundlet";
    v2 the_limits_are_out_of_reach = "an extension of rundlet";
    v2 exec_follows_the_init = "an extension of rundlet";
    v2 a_left_over_group_is_used_again = "an extension of rundlet";
    v2 a_container_in_the_container = "an extension of rundlet";
    v2 systemd_boots = "an extension of rundlet";
    v2 systemd_boots_in_a_user_namespace = "an extension of rundlet";
    both delegation_is_refused = "an extension of rundlet";
    v2 a_writable_view_belongs_to_the_user = "runc changes owners with the systemd driver alone";
}

const ANNOTATION: &str = "org.rundlet.cgroup.delegate";

/// A container with its cgroups writable in a namespace of their own.
fn writable(cx: &Cx) -> Bundle {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle
}

fn delegated(cx: &Cx) -> Bundle {
    let mut bundle = writable(cx);
    bundle.config["annotations"][ANNOTATION] = json!("true");
    bundle
}

fn own_group(container: &Container<'_>) -> PathBuf {
    let cx = container.cx;
    cx.cgroup_dir("", &container.id).join("delegated")
}

fn group_of(pid: i64) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap().to_owned()
}

fn payload_sits_in_a_leaf(cx: &Cx) {
    let container = cx.start(&delegated(cx));
    let top = format!("/{CGROUP_PARENT}/{}", container.id);
    assert_eq!(
        group_of(container.pid()),
        format!("{top}/delegated/init.scope")
    );
    let own = own_group(&container);
    let file = |name: &str| fs::read_to_string(own.join(name)).unwrap();
    assert_eq!(file("cgroup.procs"), "");
    // Every controller is there, and passed on.
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert!(!all.trim().is_empty());
    for name in all.split_whitespace() {
        for file_name in ["cgroup.controllers", "cgroup.subtree_control"] {
            let words = file(file_name);
            assert!(
                words.split_whitespace().any(|word| word == name),
                "{file_name}: {words}"
            );
        }
    }
    container
        .exec_sh("grep ^0:: /proc/1/cgroup /proc/self/cgroup; ls -d /sys/fs/cgroup/*/; test -w /sys/fs/cgroup/cgroup.procs")
        .ok()
        .prints("/proc/1/cgroup:0::/init.scope\n/proc/self/cgroup:0::/init.scope\n/sys/fs/cgroup/init.scope/");
    // The engine's verbs take the container as a whole.
    let listed = container.cx.call(&["ps", "-f", "json", &container.id]).ok();
    assert_eq!(listed.text(), format!("[{}]", container.pid()));
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
    assert!(!own.parent().unwrap().exists());
}

fn divides(cx: &Cx, bundle: &Bundle) {
    let container = cx.start(bundle);
    container.exec_sh("cd /sys/fs/cgroup && mkdir app app/one && for c in $(cat cgroup.controllers); do echo +$c >app/cgroup.subtree_control || exit 1; done").ok();
    container
        .exec_sh("{ [ ! -e /sys/fs/cgroup/app/one/pids.max ] || echo 20 >/sys/fs/cgroup/app/one/pids.max; }; \
                  sleep 1000 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup/app/one/cgroup.procs && grep ^0:: /proc/$!/cgroup")
        .ok()
        .prints("0::/app/one");
    let (one, group) = (
        own_group(&container).join("app/one"),
        cx.cgroup_dir("", &container.id),
    );
    assert_eq!(
        fs::read_to_string(one.join("cgroup.procs"))
            .unwrap()
            .lines()
            .count(),
        1
    );
    container.end();
    assert!(!group.exists());
}

fn the_container_divides_its_group(cx: &Cx) {
    divides(cx, &delegated(cx));
}

fn it_does_so_in_a_user_namespace(cx: &Cx) {
    let mut bundle = delegated(cx);
    bundle.user_namespace();
    divides(cx, &bundle);
}

fn the_limits_are_out_of_reach(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = delegated(cx);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    );
    let container = cx.start(&bundle);
    limit_holds_and_is_doubled(&container);
    let own = own_group(&container);
    for dir in [own.parent().unwrap(), &own] {
        let limit = fs::read_to_string(dir.join("memory.max")).unwrap();
        assert_eq!(limit.trim(), (48 * MIB).to_string(), "{}", dir.display());
    }
    container.end();
}

/// Of 24 MiB, in a container that may divide its cgroup.
pub(crate) fn limit_holds_and_is_doubled(container: &Container<'_>) {
    // It sees the limit, and may even think that it has lifted it.
    container
        .exec_sh("cat /sys/fs/cgroup/memory.max; echo max >/sys/fs/cgroup/memory.max; true")
        .ok()
        .prints(&(24 * MIB).to_string());
    container
        .exec_sh("dd if=/dev/zero of=/dev/null bs=80M count=1 2>/dev/null; echo $?")
        .ok()
        .prints("137");
    // An update is for both.
    let limits = ["--memory", "48M", "--memory-swap", "48M"];
    update(container, &limits).ok();
}

fn exec_follows_the_init(cx: &Cx) {
    let container = cx.start(&delegated(cx));
    // The leaf becomes a root of cgroups itself, and the init goes down once more.
    let output = container.exec_sh(
        "cd /sys/fs/cgroup/init.scope && mkdir deeper && for p in 1 $$; do echo $p >deeper/cgroup.procs; done && \
         for c in $(cat cgroup.controllers); do echo +$c >cgroup.subtree_control || exit 1; done",
    );
    output.ok();
    container
        .exec_sh("grep ^0:: /proc/self/cgroup")
        .ok()
        .prints("0::/init.scope/deeper");
    // By path it is what the container sees.
    fs::create_dir(own_group(&container).join("side")).unwrap();
    container
        .exec_with(
            &["--cgroup", "side"],
            &["grep", "^0::", "/proc/self/cgroup"],
        )
        .ok()
        .prints("0::/side");
    let output = container.exec_with(&["--cgroup", "../x"], &["true"]);
    assert_ne!(output.code, 0, "{output}");
    container.end();
}

fn a_left_over_group_is_used_again(cx: &Cx) {
    let bundle = delegated(cx);
    let group = cx.cgroup_dir("", &bundle.id);
    // As a runtime that was killed leaves it.
    fs::create_dir_all(group.join("delegated/init.scope")).unwrap();
    for dir in [&group, &group.join("delegated")] {
        for name in fs::read_to_string(dir.join("cgroup.controllers"))
            .unwrap()
            .split_whitespace()
        {
            fs::write(dir.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
        }
    }
    let container = cx.start(&bundle);
    assert!(group_of(container.pid()).ends_with("/delegated/init.scope"));
    container.end();
    assert!(!group.exists());
}

fn everything_allowed(bundle: &mut Bundle) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    let names: Vec<&str> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
    .into_iter()
    .enumerate()
    .filter(|(bit, name)| {
        mask >> bit & 1 == 1 && !matches!(*name, "SYS_MODULE" | "SYS_RAWIO" | "SYS_TIME")
    })
    .map(|(_, name)| name)
    .collect();
    let names: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bundle.capabilities(&names);
    bundle.set("/process/noNewPrivileges", json!(false));
}

fn a_container_in_the_container(cx: &Cx) {
    let mut bundle = delegated(cx);
    everything_allowed(&mut bundle);
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    bundle.mount("/run", "tmpfs", "tmpfs", &["mode=755"]);
    fs::create_dir(bundle.rootfs().join("run")).unwrap();
    fs::copy(&cx.runtime, bundle.rootfs().join("bin/rundlet")).unwrap();
    if cx
        .host(&format!("ldd {} | grep -q libc.so", cx.runtime.display()))
        .code
        == 0
    {
        for lib in ["/lib", "/lib64", "/usr/lib"] {
            fs::create_dir_all(bundle.rootfs().join(&lib[1..])).unwrap();
            bundle.bind(Path::new(lib), lib, &["ro", "rbind"]);
        }
    }
    let mut inner = cx.named_bundle("inner");
    inner.set("/linux/cgroupsPath", json!("/pod/inner"));
    inner.sh("cat /sys/fs/cgroup/pids.max 2>/dev/null || echo none; grep ^0:: /proc/self/cgroup");
    let limited = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .unwrap()
        .contains("pids");
    if limited {
        inner.set("/linux/resources/pids", json!({"limit": 23}));
    }
    inner.write();
    fs::create_dir(bundle.rootfs().join("inner")).unwrap();
    bundle.bind(&inner.path, "/inner", &["rw", "rbind"]);
    let container = cx.start(&bundle);
    let output = container
        .exec(&["/bin/rundlet", "run", "--bundle", "/inner", "inner"])
        .ok();
    let group = "0::/pod/inner";
    output.prints(&format!("{}\n{group}", if limited { "23" } else { "none" }));
    let left = own_group(&container).join("pod/inner");
    assert!(!left.exists(), "the inner runtime has removed its cgroup");
    container.end();
}

/// A container whose root is an overlay over the host's own, with systemd as its init.
fn systemd(cx: &Cx) -> Bundle {
    let init = Path::new("/usr/lib/systemd/systemd");
    if !init.exists() || !Path::new("/usr/bin/systemctl").exists() {
        cx.skip("no systemd on this host");
    }
    let mut bundle = delegated(cx);
    everything_allowed(&mut bundle);
    let root = cx.dir.join("system");
    fs::create_dir(&root).unwrap();
    cx.host(&format!("mount --bind / {}", root.display())).ok();
    bundle.set("/root/path", json!(root));
    bundle.args(&[init.to_str().unwrap(), "--unit=basic.target"]);
    bundle.set(
        "/process/env",
        json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"]),
    );
    for (at, options) in [
        ("/run", ["nosuid", "nodev", "mode=755"]),
        ("/tmp", ["nosuid", "nodev", "mode=1777"]),
        // None of the host's own units but what the basic target needs.
        ("/etc/systemd/system", ["nosuid", "nodev", "mode=755"]),
    ] {
        bundle.mount(at, "tmpfs", "tmpfs", &options);
    }
    let null = Path::new("/dev/null");
    bundle.bind(null, "/etc/fstab", &["ro"]);
    // What wants to change files of the host's root, which is nobody's in a user namespace.
    for unit in [
        "sys-kernel-config.mount",
        "systemd-sysusers.service",
        "systemd-update-utmp.service",
    ] {
        let unit = format!("/usr/lib/systemd/system/{unit}");
        if Path::new(&unit).exists() {
            bundle.bind(null, &unit, &["ro"]);
        }
    }
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .unwrap()
        .contains("memory")
    {
        bundle.set("/linux/resources/memory", json!({"limit": 512 * MIB}));
    }
    bundle
}

fn boots(cx: &Cx, bundle: &Bundle) {
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    cx.call(&["run", "--overlay", "--detach", "--bundle", path, &bundle.id])
        .ok();
    let container = cx.container(&bundle.id);
    let system = || container.exec(&["systemctl", "is-system-running"]);
    let mut last = String::new();
    eventually("systemd is up", 40, || {
        system().text().clone_into(&mut last);
        matches!(last.as_str(), "running" | "degraded")
    });
    let failed = container.exec(&["systemctl", "--failed", "--no-legend"]);
    assert_eq!(last, "running", "{failed}");
    // It has taken the cgroup that it was given for its own, and runs services in it.
    container
        .exec_sh("grep ^0:: /proc/1/cgroup; ls -d /sys/fs/cgroup/system.slice")
        .ok()
        .prints("0::/init.scope\n/sys/fs/cgroup/system.slice");
    container
        .exec(&[
            "systemd-run",
            "--wait",
            "--quiet",
            "-p",
            "TasksMax=30",
            "true",
        ])
        .ok();
    cx.call(&["delete", "--force", &container.id]).ok();
    assert!(!cx.cgroup_dir("", &bundle.id).exists());
    let root = cx.dir.join("system");
    cx.host(&format!("umount {}", root.display())).ok();
}

fn systemd_boots(cx: &Cx) {
    boots(cx, &systemd(cx));
}

fn systemd_boots_in_a_user_namespace(cx: &Cx) {
    let mut bundle = systemd(cx);
    bundle.user_namespace();
    boots(cx, &bundle);
}

fn delegation_is_refused(cx: &Cx) {
    let mut bundle = delegated(cx);
    if !cx.is_v2() {
        cx.try_create(&bundle)
            .is(1)
            .says("needs cgroup v2; on cgroup v1");
    }
    bundle.without_namespace("cgroup");
    cx.try_create(&bundle)
        .is(1)
        .says("needs a new cgroup namespace");
    bundle.config["annotations"][ANNOTATION] = json!("yes");
    cx.try_create(&bundle)
        .is(1)
        .says("`yes` is neither `true` nor `false`");
}

fn a_writable_view_belongs_to_the_user(cx: &Cx) {
    let uid = |container: &Container<'_>, file: &str| {
        let dir = cx.cgroup_dir("", &container.id);
        fs::metadata(dir.join(file)).unwrap().uid()
    };
    let mut bundle = writable(cx);
    bundle.user_namespace();
    bundle.set("/process/user", json!({"uid": 7, "gid": 7}));
    let container = cx.start(&bundle);
    for file in [
        ".",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        assert_eq!(uid(&container, file), 100_007, "{file}");
    }
    // Nothing that limits it.
    for file in ["cgroup.freeze", "cgroup.max.depth", "cgroup.kill"] {
        assert_eq!(uid(&container, file), 0, "{file}");
    }
    container
        .exec_sh("mkdir /sys/fs/cgroup/mine && echo $$ >/sys/fs/cgroup/mine/cgroup.procs")
        .ok();
    container.end();
    // Read-only, it is nobody's but root's.
    let mut bundle = cx.named_bundle("d");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.user_namespace();
    let container = cx.start(&bundle);
    assert_eq!(uid(&container, "."), 0);
    container.end();
}
