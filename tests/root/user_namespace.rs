//! The user namespace: ids inside and outside, capabilities, mounts, groups.

use super::namespaces::join;
use super::namespaces::ns_of;
use super::namespaces::path_of;
use crate::hooks::hook;
use crate::support::{Bundle, Cx, tests};
use serde_json::json;

tests! {
    host joined_user_and_network;
    host joined_user_without_mappings = "runc 1.1.5 asks for mappings again";
    both user_namespace_ids;
    host user_namespace_files_belong_to_mapped_ids;
    host user_namespace_user_other_than_root;
    host user_namespace_capabilities_are_its_own;
    host user_namespace_several_ranges;
    host user_namespace_mounts_and_devices;
    host user_namespace_and_a_private_bundle;
    host user_namespace_groups;
}

fn joined_user_and_network(cx: &Cx) {
    let mut bundle = cx.named_bundle("first");
    bundle.user_namespace();
    let first = cx.start(&bundle);
    let mut bundle = cx.named_bundle("second");
    bundle.user_namespace();
    join(&mut bundle, "user", &path_of(&first, "user"));
    join(&mut bundle, "network", &path_of(&first, "net"));
    let second = cx.start(&bundle);
    for file in ["user", "net"] {
        assert_eq!(
            ns_of(&first.pid().to_string(), file),
            ns_of(&second.pid().to_string(), file),
            "{file}"
        );
    }
    second
        .exec_sh("id -u; tr -s ' ' </proc/self/uid_map")
        .ok()
        .prints("0\n 0 100000 65536");
    second.end();
    first.end();
}

fn joined_user_without_mappings(cx: &Cx) {
    let mut bundle = cx.named_bundle("first");
    bundle.user_namespace();
    let first = cx.start(&bundle);
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, "user", &path_of(&first, "user"));
    bundle.sh("id -u; tr -s ' ' </proc/self/uid_map");
    cx.run(&bundle).ok().prints("0\n 0 100000 65536");
    first.end();
}

fn user_namespace_ids(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    let container = cx.start(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(
        status.contains("Uid:\t100000\t100000\t100000\t100000"),
        "{status}"
    );
    assert!(
        status.contains("Gid:\t200000\t200000\t200000\t200000"),
        "{status}"
    );
    container
        .exec_sh("id -u; id -g; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; cat /proc/self/setgroups")
        .ok()
        .prints("0\n0\n 0 100000 65536\n 0 200000 65536\nallow");
    container.end();
}

fn user_namespace_files_belong_to_mapped_ids(cx: &Cx) {
    use std::os::unix::fs::MetadataExt;
    let shared = cx.dir.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    cx.sh(
        "touch /shared/file; stat -c '%u %g' /shared/file /bin/busybox",
        |b| {
            b.user_namespace();
            b.bind(&shared, "/shared", &["rw"]);
            std::fs::create_dir(b.rootfs().join("shared")).unwrap();
        },
    )
    // The host's root is nobody inside.
    .prints("0 0\n65534 65534");
    let meta = std::fs::metadata(shared.join("file")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (100_000, 200_000));
}

fn user_namespace_user_other_than_root(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    bundle.set(
        "/process/user",
        json!({"uid": 5, "gid": 6, "additionalGids": [7]}),
    );
    let container = cx.start(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(status.contains("Uid:\t100005\t"), "{status}");
    assert!(status.contains("Gid:\t200006\t"), "{status}");
    assert!(status.contains("Groups:\t200007"), "{status}");
    container.end();
}

fn user_namespace_capabilities_are_its_own(cx: &Cx) {
    // Full inside, nothing towards the host: the clock of the host stays.
    cx.sh(
        "hostname changed && hostname; date -s 2001-01-01 2>&1 >/dev/null | grep -c permitted",
        |b| {
            b.user_namespace();
            b.capabilities(&["CAP_SYS_ADMIN", "CAP_SYS_TIME"]);
        },
    )
    .prints("changed\n1");
}

fn user_namespace_several_ranges(cx: &Cx) {
    cx.sh("tr -s ' ' </proc/self/uid_map; id -u", |b| {
        b.user_namespace();
        b.set(
            "/linux/uidMappings",
            json!([
                {"containerID": 0, "hostID": 100_000, "size": 10},
                {"containerID": 10, "hostID": 300_000, "size": 20},
                {"containerID": 1000, "hostID": 400_000, "size": 1}
            ]),
        );
        b.set("/process/user/uid", json!(1000));
    })
    .prints("0 100000 10\n 10 300000 20\n 1000 400000 1\n1000");
}

fn user_namespace_mounts_and_devices(cx: &Cx) {
    cx.sh(
        "stat -c '%t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
         echo x >/dev/null && head -c 3 /dev/zero | od -An -tx1; test -e /proc/1/status && echo proc; \
         grep -c '^tmpfs /dev ' /proc/mounts; ls /sys | grep -c kernel",
        Bundle::user_namespace,
    )
    .prints("1:3\n1:5\n1:7\n1:8\n1:9\n5:0\n 00 00 00\nproc\n1\n1");
}

/// As Podman has it: the bundle is the caller's alone, and createContainer hooks still run in it.
fn user_namespace_and_a_private_bundle(cx: &Cx) {
    let mut bundle = cx.script("id -u");
    bundle.user_namespace();
    bundle.set("/root/path", json!(bundle.rootfs()));
    bundle.path = cx.dir.join("private");
    std::fs::create_dir(&bundle.path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&bundle.path, mode).unwrap();
    let seen = cx.file("seen", "");
    std::fs::set_permissions(&seen, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let script = format!("readlink /proc/self/cwd >{}", seen.display());
    hook(&mut bundle, "createContainer", &script);
    cx.run(&bundle).ok().prints("0");
    let dir = std::fs::read_to_string(&seen).unwrap();
    // runc runs them in the root directory.
    if cx.is_rundlet() {
        assert_eq!(dir.trim(), bundle.path.to_str().unwrap());
    }
}

fn user_namespace_groups(cx: &Cx) {
    cx.sh("id -G", |b| {
        b.user_namespace();
        b.set("/process/user/additionalGids", json!([3, 4]));
    })
    .prints("0 3 4");
}
