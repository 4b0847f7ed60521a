//! Where a mount lands: links in the way, /proc and /sys, and the host that must not change (P1-P5, M5).

use super::mounts::directory;
use super::mounts::info;
use super::mounts::make;
use crate::support::{Bundle, Cx, tests};
use nix::mount::MsFlags;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

tests! {
    host mount_points_are_made;
    host mount_points_below_each_other;
    host later_mount_covers;
    v2 cgroup_mount_is_cgroup2;
    v2 cgroup_mount_read_write;
    v2 cgroup_mount_without_cgroup_namespace = "runc 1.1.5 shows the whole tree";
    host cgroup_mount_on_v1;
    host link_in_a_destination_stays_inside;
    host link_to_an_absolute_path_stays_inside;
    host dotdot_in_a_destination_stays_inside;
    host dangling_link_as_a_mount_point;
    host proc_as_a_link_is_refused;
    host sys_as_a_link_is_refused;
    host mounting_inside_proc_is_refused;
    host lxcfs_files_in_proc_are_allowed;
    host many_mounts;
    host host_mounts_stay_as_they_are;
    host later_mounts_of_the_host_do_not_show = "runc 1.1.5 leaves its root a slave of the host's";
    host a_read_only_root_where_they_were_made;
}

fn mount_points_are_made(cx: &Cx) {
    let dir = directory(cx, "data");
    let file = dir.join("file");
    let mut bundle = cx.script("cat /a/b/c/file /x/y/z");
    bundle.bind(&dir, "/a/b/c", &[]);
    bundle.bind(&file, "/x/y/z", &[]);
    cx.run(&bundle).ok().prints("content\ncontent");
    assert!(bundle.rootfs().join("a/b/c").is_dir());
    assert!(bundle.rootfs().join("x/y/z").is_file());
    let mode = fs::metadata(bundle.rootfs().join("a/b"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

fn mount_points_below_each_other(cx: &Cx) {
    let dir = directory(cx, "data");
    cx.sh("cat /t/inner/file; ls /t", |b| {
        b.mount("/t", "tmpfs", "tmpfs", &[]);
        b.bind(&dir, "/t/inner", &["ro"]);
    })
    .prints("content\ninner");
}

fn later_mount_covers(cx: &Cx) {
    let (first, second) = (directory(cx, "one"), directory(cx, "two"));
    fs::write(second.join("file"), "second\n").unwrap();
    cx.sh("cat /data/file", |b| {
        b.bind(&first, "/data", &[]);
        b.bind(&second, "/data", &[]);
    })
    .prints("second");
}

fn cgroup_mount_is_cgroup2(cx: &Cx) {
    let output = cx.sh(
        &format!(
            "{}; mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused",
            info("/sys/fs/cgroup")
        ),
        |b| {
            b.push("/linux/namespaces", json!({"type": "cgroup"}));
        },
    );
    assert!(
        output
            .stdout
            .contains(" ro,nosuid,nodev,noexec,relatime - cgroup2 "),
        "{output}"
    );
    assert!(output.stdout.ends_with("refused\n"), "{output}");
}

fn cgroup_mount_read_write(cx: &Cx) {
    cx.sh(
        "mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo made",
        |b| {
            b.push("/linux/namespaces", json!({"type": "cgroup"}));
            b.without_mount("/sys/fs/cgroup");
            b.mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["rw", "nosuid", "nodev", "noexec"],
            );
        },
    )
    .prints("made");
}

fn cgroup_mount_without_cgroup_namespace(cx: &Cx) {
    // G3: only the container's own group is seen.
    cx.sh("set -- $(cat /sys/fs/cgroup/cgroup.procs); echo $#; test -e /sys/fs/cgroup/cgroup.type && echo own", |_| ())
        .prints("2\nown");
}

fn cgroup_mount_on_v1(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("this host has cgroup2 only");
    }
    let output = cx.sh(
        "set -- $(cat /sys/fs/cgroup/pids/cgroup.procs); echo $#; mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo refused; \
         mkdir /sys/fs/cgroup/x 2>/dev/null; ls -d /sys/fs/cgroup/memory /sys/fs/cgroup/devices",
        |_| (),
    );
    assert!(output.stdout.starts_with("2\nrefused\n"), "{output}");
    assert!(
        output
            .stdout
            .ends_with("/sys/fs/cgroup/devices\n/sys/fs/cgroup/memory\n"),
        "{output}"
    );
}

/// Something of the host that a link points to; must stay empty.
fn outside(cx: &Cx) -> PathBuf {
    let dir = cx.dir.join("outside");
    fs::create_dir(&dir).unwrap();
    dir
}

fn untouched(dir: &Path) {
    let names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(names.is_empty(), "made on the host: {names:?}");
}

fn link_in_a_destination_stays_inside(cx: &Cx) {
    let (dir, outside) = (directory(cx, "data"), outside(cx));
    let mut bundle = cx.script("cat /link/sub/file; cat /inside/sub/file");
    // From inside, ../../../outside is /outside.
    symlink("../../inside", bundle.rootfs().join("link")).unwrap();
    fs::create_dir(bundle.rootfs().join("inside")).unwrap();
    bundle.bind(&dir, "/link/sub", &[]);
    cx.run(&bundle).ok().prints("content\ncontent");
    untouched(&outside);
    assert!(!cx.dir.join("inside").exists());
}

fn link_to_an_absolute_path_stays_inside(cx: &Cx) {
    let (dir, outside) = (directory(cx, "data"), outside(cx));
    let mut bundle = cx.script("cat /link/sub/file");
    symlink(&outside, bundle.rootfs().join("link")).unwrap();
    bundle.bind(&dir, "/link/sub", &[]);
    let output = cx.run(&bundle);
    // Resolved below the rootfs (made there) or refused; on the host nothing in any case.
    assert!(output.code == 1 || output.text() == "content", "{output}");
    untouched(&outside);
}

fn dotdot_in_a_destination_stays_inside(cx: &Cx) {
    let dir = directory(cx, "data");
    let mut bundle = cx.script("cat /esc/file");
    bundle.bind(&dir, "/../../../esc", &[]);
    let output = cx.run(&bundle);
    assert!(output.code == 1 || output.text() == "content", "{output}");
    assert!(!Path::new("/esc").exists());
    assert!(!bundle.path.join("esc").exists());
}

fn dangling_link_as_a_mount_point(cx: &Cx) {
    let (dir, outside) = (directory(cx, "data"), outside(cx));
    let mut bundle = cx.script("cat /mnt/link/file");
    symlink(outside.join("not-there"), bundle.rootfs().join("mnt/link")).unwrap();
    bundle.bind(&dir, "/mnt/link", &[]);
    let output = cx.run(&bundle);
    untouched(&outside);
    assert!(output.code == 1 || output.text() == "content", "{output}");
}

fn proc_as_a_link_is_refused(cx: &Cx) {
    // P5, CVE-2019-19921 and its kin, in three spellings.
    for (name, destination) in [("a", "/proc"), ("b", "//proc/"), ("c", "/./proc")] {
        let mut bundle = cx.named_bundle(name);
        fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
        fs::create_dir(bundle.rootfs().join("fake")).unwrap();
        symlink("fake", bundle.rootfs().join("proc")).unwrap();
        bundle.config["mounts"][0]["destination"] = json!(destination);
        let output = cx.run(&bundle).is(1);
        assert!(output.stderr.contains("proc"), "{output}");
    }
}

fn sys_as_a_link_is_refused(cx: &Cx) {
    let bundle = cx.script("true");
    fs::remove_dir(bundle.rootfs().join("sys")).unwrap();
    fs::create_dir(bundle.rootfs().join("fake")).unwrap();
    symlink("fake", bundle.rootfs().join("sys")).unwrap();
    cx.run(&bundle).is(1);
}

fn mounting_inside_proc_is_refused(cx: &Cx) {
    let file = cx.file("evil", "");
    for (name, destination) in [
        ("a", "/proc/self/attr/exec"),
        ("b", "/proc/sys/kernel/core_pattern"),
        ("c", "/proc/1"),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.bind(&file, destination, &[]);
        let output = cx.run(&bundle).is(1);
        assert!(output.stderr.contains("/proc"), "{output}");
    }
    let mut bundle = cx.named_bundle("d");
    bundle.without_mount("/proc");
    bundle.bind(&directory(cx, "data"), "/proc", &[]);
    cx.run(&bundle).is(1);
}

fn lxcfs_files_in_proc_are_allowed(cx: &Cx) {
    let file = cx.file("uptime", "12.00 34.00\n");
    cx.sh("cat /proc/uptime", |b| {
        b.bind(&file, "/proc/uptime", &["ro"])
    })
    .prints("12.00 34.00");
}

fn many_mounts(cx: &Cx) {
    // M6: as many mounts need not as many descriptors.
    let dir = directory(cx, "data");
    let output = cx.sh(
        "awk '$5 ~ /^.many/' /proc/self/mountinfo | wc -l",
        |b: &mut Bundle| {
            for number in 0..300 {
                b.bind(&dir, &format!("/many/{number}"), &["ro"]);
            }
            b.set(
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]),
            );
        },
    );
    output.prints("300");
}

fn host_mounts_stay_as_they_are(cx: &Cx) {
    // With / shared, as systemd has it: nothing of the container reaches the host.
    make(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SHARED);
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let dir = directory(cx, "data");
    let mut bundle = cx.script("true");
    bundle.bind(&dir, "/data", &["ro"]);
    bundle.mount("/t", "tmpfs", "tmpfs", &[]);
    cx.run(&bundle).ok();
    let container = cx.start(&cx.named_bundle("d"));
    assert_eq!(table(), before);
    container.end();
    assert_eq!(table(), before);
}

fn later_mounts_of_the_host_do_not_show(cx: &Cx) {
    make(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SHARED);
    for (name, propagation) in [("none", None), ("slave", Some("rslave"))] {
        let mut bundle = cx.named_bundle(name);
        if let Some(word) = propagation {
            bundle.set("/linux/rootfsPropagation", json!(word));
        }
        let container = cx.start(&bundle);
        let below = bundle.rootfs().join("mnt");
        let below = below.display();
        cx.host(&format!(
            "mount -t tmpfs late {below} && touch {below}/late"
        ))
        .ok();
        let seen = container.exec(&["ls", "/mnt"]);
        cx.host(&format!("umount {below}")).ok();
        container.end();
        seen.ok().prints("");
    }
}

/// The files and directories to mount on were opened to make them: nothing of that may still be open for writing.
fn a_read_only_root_where_they_were_made(cx: &Cx) {
    let source = cx.file("made", "made");
    for count in 1..=6 {
        let mut bundle = cx.named_bundle(&count.to_string());
        let script = "cat /new/file0 /dev/file0; touch /new/x /dev/x 2>/dev/null || echo refused";
        bundle.args(&["sh", "-c", script]);
        bundle.set("/root/readonly", json!(true));
        // The tmpfs becomes read-only at the end, too.
        bundle.mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "ro"]);
        for number in 0..count {
            for place in ["/dev", "/new"] {
                let to = format!("{place}/file{number}");
                bundle.mount(&to, "bind", source.to_str().unwrap(), &["bind"]);
            }
        }
        cx.run(&bundle).ok().prints("mademaderefused");
    }
}
