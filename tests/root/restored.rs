//! What a restored container has from its bundle and what from the image: mounts, namespaces, hooks.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::checkpoint::{
    checkpoint, count, counter, counts_on, images, need_criu, refused, restore, start,
};
use crate::hooks::{hook, log_dir, read};
use crate::support::{Cx, eventually, tests};

tests! {
    host mounts_come_from_the_bundle;
    host a_place_for_a_mount_is_made = "runc 1.1.5 needs the place of a mount in a volume to be there";
    host an_image_makes_no_source_writable = "runc 1.1.5 restores what the image says";
    host an_image_does_not_leave_a_namespace_out = "runc 1.1.5 restores what the image says";
    host a_log_that_is_a_link_is_not_written = "runc 1.1.5 writes to what it points to";
    host a_joined_network_stays;
    host hooks_run_when_the_namespaces_are_made;
    host a_user_namespace_comes_back;
    host the_loopback_interface_is_up = "runc leaves it down";
}

fn mounts_come_from_the_bundle(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    // Reached over a link of the image: CRIU is told the kernel's place of it, by the config's name.
    fs::create_dir_all(bundle.rootfs().join("real")).unwrap();
    std::os::unix::fs::symlink("real", bundle.rootfs().join("link")).unwrap();
    let old = cx.file("old", "old");
    bundle.bind(&old, "/link/file", &["ro"]);
    bundle.set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/acpi"]));
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    let new = cx.file("new", "new");
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/source"), json!(new));
    bundle.write();
    let container = restore(cx, &bundle, &[]);
    container.exec_sh("cat /real/file").prints("new");
    container.exec_sh("echo x >/real/file").is(1);
    assert_eq!(fs::read_to_string(&new).unwrap(), "new");
    container.exec_sh("wc -c </proc/kcore").prints("0");
    container.exec_sh("echo 1 >/proc/sys/kernel/panic").is(1);
    container.end();
}

/// A root and a volume in which no container has been: restored elsewhere.
fn a_place_for_a_mount_is_made(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    let volume = cx.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let file = cx.file("file", "text");
    bundle.bind(&volume, "/some/volume", &["rw"]);
    bundle.bind(&file, "/some/volume/deep/file", &["ro"]);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    fs::remove_dir_all(volume.join("deep")).unwrap();
    fs::remove_dir_all(bundle.rootfs().join("some")).unwrap();
    let container = restore(cx, &bundle, &[]);
    container
        .exec_sh("cat /some/volume/deep/file")
        .prints("text");
    container.end();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !table.contains("/some/volume") && !table.contains("criu-root"),
        "{table}"
    );
}

fn an_image_makes_no_source_writable(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    let volume = cx.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    bundle.bind(&volume, "/volume", &["rw"]);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/options"), json!(["bind", "ro"]));
    bundle.write();
    refused(cx, &bundle).says("does not fit the bundle");
    bundle.set(&format!("/mounts/{last}/options"), json!(["bind"]));
    bundle.set("/root/readonly", json!(true));
    bundle.write();
    let container = restore(cx, &bundle, &[]);
    container.exec_sh(": >/bin/new").is(1);
    container.end();
}

fn an_image_does_not_leave_a_namespace_out(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    let whole = bundle.config.clone();
    bundle.without_namespace("ipc");
    bundle.without_mount("/dev/mqueue");
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    bundle.config["linux"]["namespaces"] = whole["linux"]["namespaces"].clone();
    bundle.write();
    refused(cx, &bundle).says("ipc namespace");
}

fn a_log_that_is_a_link_is_not_written(cx: &Cx) {
    let bundle = cx.script("sleep 1000");
    bundle.write();
    let directory = images(cx, "images");
    fs::create_dir(&directory).unwrap();
    let victim = cx.file("victim", "text");
    std::os::unix::fs::symlink(&victim, Path::new(&directory).join("restore.log")).unwrap();
    refused(cx, &bundle);
    assert_eq!(fs::read_to_string(victim).unwrap(), "text");
}

fn a_joined_network_stays(cx: &Cx) {
    need_criu(cx);
    let mut sleeper = Command::new("unshare");
    let sleeper = sleeper.args(["--net", "sleep", "1000"]).spawn();
    let mut sleeper = sleeper.unwrap();
    let path = format!("/proc/{}/ns/net", sleeper.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    eventually("its namespace", 5, || fs::read_link(&path).unwrap() != own);
    let mut bundle = counter(cx);
    bundle.without_namespace("network");
    bundle.push(
        "/linux/namespaces",
        json!({"type": "network", "path": path}),
    );
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    let container = restore(cx, &bundle, &[]);
    let there = fs::read_link(format!("/proc/{}/ns/net", container.pid())).unwrap();
    assert_eq!(there, fs::read_link(&path).unwrap());
    container.end();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

fn hooks_run_when_the_namespaces_are_made(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    let dir = log_dir(cx, &mut bundle);
    let log = dir.join("hooks");
    for kind in ["prestart", "createRuntime", "createContainer", "poststop"] {
        let line = format!("echo {kind} >>{0}; cat >{0}.{kind}", log.display());
        hook(&mut bundle, kind, &line);
    }
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    assert_eq!(
        read(&dir, "hooks"),
        "prestart\ncreateRuntime\ncreateContainer\npoststop\n"
    );
    fs::write(&log, "").unwrap();
    let container = restore(cx, &bundle, &[]);
    assert_eq!(read(&dir, "hooks"), "prestart\ncreateRuntime\n");
    let state: serde_json::Value = serde_json::from_str(&read(&dir, "hooks.prestart")).unwrap();
    assert_eq!(state["pid"], json!(container.pid()));
    container.end();
    // One that fails takes everything back.
    hook(&mut bundle, "prestart", "exit 3");
    bundle.write();
    let output = refused(cx, &bundle);
    if cx.is_rundlet() {
        assert!(output.stderr.contains("hooks.prestart[1]"), "{output}");
    }
}

fn a_user_namespace_comes_back(cx: &Cx) {
    need_criu(cx);
    let mut bundle = counter(cx);
    bundle.user_namespace();
    fs::create_dir(bundle.rootfs().join("count")).unwrap();
    // CRIU looks for images as the container's root, who must be able to enter the directory.
    fs::create_dir(images(cx, "images")).unwrap();
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    let container = restore(cx, &bundle, &[]);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).unwrap();
    assert!(map.contains("100000"), "{map}");
    counts_on(&container, count(&container));
    container.end();
}

fn the_loopback_interface_is_up(cx: &Cx) {
    need_criu(cx);
    let bundle = counter(cx);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    checkpoint(cx, &container.id, &[]).ok();
    let container = restore(cx, &bundle, &[]);
    container
        .exec_sh("cat /sys/class/net/lo/flags")
        .prints("0x9");
    container.end();
}
