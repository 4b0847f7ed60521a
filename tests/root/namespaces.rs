//! Namespaces: new, left out, joined by path; the user namespace and its ids.

use serde_json::json;

use crate::support::{Bundle, Container, Cx, tests};

tests! {
    both each_new_namespace_is_new;
    host a_namespace_left_out_is_the_hosts;
    host an_empty_path_is_a_new_namespace;
    host joined_network;
    host joined_ipc;
    host joined_uts;
    both joined_pid;
    both joined_cgroup;
    host several_joined_at_once;
    host loopback_is_up;
    host hostname_without_uts_of_its_own;
    both pid_one_ends_all;
    v2 cgroup_namespace_is_rooted_at_the_container;
    host cgroup_namespace_on_v1;
    host ipc_objects_are_apart;
    host new_namespaces_end_with_the_container;
}

pub(crate) fn host_ns(kind: &str) -> String {
    ns_of("self", kind)
}

pub(crate) fn ns_of(pid: &str, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
];

/// Replaces (or adds) one namespace of the config by a path.
pub(crate) fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    bundle.without_namespace(kind);
    bundle.push("/linux/namespaces", json!({"type": kind, "path": path}));
}

pub(crate) fn path_of(container: &Container<'_>, file: &str) -> String {
    format!("/proc/{}/ns/{file}", container.pid())
}

fn each_new_namespace_is_new(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    let container = cx.start(&bundle);
    let pid = container.pid().to_string();
    for (kind, file) in KINDS {
        assert_ne!(ns_of(&pid, file), host_ns(file), "{kind}");
    }
    container.end();
}

fn a_namespace_left_out_is_the_hosts(cx: &Cx) {
    for (kind, file) in [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        let mut bundle = cx.named_bundle(kind);
        bundle.without_namespace(kind);
        if kind == "uts" {
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        if kind == "ipc" {
            bundle.without_mount("/dev/mqueue");
        }
        let container = cx.start(&bundle);
        let pid = container.pid().to_string();
        assert_eq!(ns_of(&pid, file), host_ns(file), "{kind}");
        assert_ne!(ns_of(&pid, "mnt"), host_ns("mnt"));
        container.end();
    }
}

fn an_empty_path_is_a_new_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    join(&mut bundle, "network", "");
    let container = cx.start(&bundle);
    assert_ne!(ns_of(&container.pid().to_string(), "net"), host_ns("net"));
    container.end();
}

fn joined(cx: &Cx, kind: &str, file: &str) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, kind, &path_of(&first, file));
    if kind == "uts" {
        bundle.config.as_object_mut().unwrap().remove("hostname");
    }
    let second = cx.start(&bundle);
    let (one, two) = (first.pid().to_string(), second.pid().to_string());
    for (other, file_of_other) in KINDS {
        if other == kind {
            assert_eq!(ns_of(&one, file), ns_of(&two, file), "{other}");
        } else if !["user", "cgroup"].contains(&other) {
            assert_ne!(
                ns_of(&one, file_of_other),
                ns_of(&two, file_of_other),
                "{other}"
            );
        }
    }
    second.exec(&["true"]).ok();
    second.end();
    first.end();
}

fn joined_network(cx: &Cx) {
    joined(cx, "network", "net");
}

fn joined_ipc(cx: &Cx) {
    joined(cx, "ipc", "ipc");
}

fn joined_uts(cx: &Cx) {
    joined(cx, "uts", "uts");
}

fn joined_pid(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, "pid", &path_of(&first, "pid"));
    bundle.args(&["sleep", "2000"]);
    let second = cx.start(&bundle);
    assert_eq!(
        ns_of(&first.pid().to_string(), "pid"),
        ns_of(&second.pid().to_string(), "pid")
    );
    // Both see both, and the second is not pid 1.
    let count = "grep -lE '^sleep.(1|2)000' /proc/[0-9]*/cmdline | wc -l";
    first.exec_sh(count).ok().prints("2");
    second.exec_sh(count).ok().prints("2");
    second
        .exec_sh("tr '\\0' ' ' </proc/1/cmdline")
        .ok()
        .prints("sleep 1000");
    // The end of the second leaves the first alone.
    second.end();
    assert_eq!(first.status(), "running");
    first.end();
}

fn joined_cgroup(cx: &Cx) {
    let mut bundle = cx.named_bundle("first");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    let first = cx.start(&bundle);
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, "cgroup", &path_of(&first, "cgroup"));
    let second = cx.start(&bundle);
    assert_eq!(
        ns_of(&first.pid().to_string(), "cgroup"),
        ns_of(&second.pid().to_string(), "cgroup")
    );
    second.end();
    first.end();
}

fn several_joined_at_once(cx: &Cx) {
    // As the containers of a pod: network, ipc and uts of the first.
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    for (kind, file) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ] {
        join(&mut bundle, kind, &path_of(&first, file));
    }
    bundle.config.as_object_mut().unwrap().remove("hostname");
    bundle.sh("hostname");
    cx.run(&bundle).ok().prints("inside");
    first.end();
}

fn loopback_is_up(cx: &Cx) {
    cx.sh(
        "ip -o addr show lo | grep -o 'inet 127.0.0.1/8'; cat /sys/class/net/lo/flags",
        |_| (),
    )
    .prints("inet 127.0.0.1/8\n0x9");
}

fn hostname_without_uts_of_its_own(cx: &Cx) {
    let before = cx.host("hostname").ok().text().to_owned();
    let mut bundle = cx.script("hostname");
    bundle.without_namespace("uts");
    cx.run(&bundle).is(1);
    cx.host("hostname").ok().prints(&before);
}

fn pid_one_ends_all(cx: &Cx) {
    let bundle = cx.script("sleep 1000 & sleep 1000 & sleep 0.05; exit 0");
    cx.run(&bundle).ok();
}

fn cgroup_namespace_is_rooted_at_the_container(cx: &Cx) {
    cx.sh("grep ^0: /proc/self/cgroup; set -- $(cat /sys/fs/cgroup/cgroup.procs); echo $#; test -e /sys/fs/cgroup/cgroup.type && echo own", |b| {
        b.push("/linux/namespaces", json!({"type": "cgroup"}));
    })
    .prints("0::/\n2\nown");
}

fn cgroup_namespace_on_v1(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("this host has cgroup2 only");
    }
    let output = cx.sh("cut -d: -f3 /proc/self/cgroup | sort -u", |b| {
        b.push("/linux/namespaces", json!({"type": "cgroup"}));
    });
    output.prints("/");
}

fn ipc_objects_are_apart(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let shm = "od -An -tx1 /dev/shm/mine 2>/dev/null || echo none; cat /proc/sysvipc/shm | wc -l";
    first.exec_sh("echo 1 >/dev/shm/mine").ok();
    first.exec_sh(shm).ok().prints("31 0a\n1");
    let second = cx.start(&cx.named_bundle("second"));
    second.exec_sh(shm).ok().prints("none\n1");
    first.end();
    second.end();
}

fn new_namespaces_end_with_the_container(cx: &Cx) {
    let container = cx.sleeper();
    let pid = container.pid().to_string();
    let names: Vec<String> = ["pid", "net", "ipc", "uts", "mnt"]
        .map(|file| ns_of(&pid, file))
        .to_vec();
    container.end();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["pid", "net", "ipc", "uts", "mnt"] {
            if let Ok(link) = std::fs::read_link(entry.path().join("ns").join(file)) {
                let link = link.to_string_lossy().into_owned();
                assert!(
                    !names.contains(&link),
                    "{} still holds {link}",
                    entry.path().display()
                );
            }
        }
    }
}
