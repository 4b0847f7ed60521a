//! cgroup v2's io controller: a direct write or read takes as long as its rate says, counted in bytes or in
//! operations. Needs the controller, and the test's directory on a block device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cgroups::{MIB, limited, need};
use super::v2_limits::read;
use crate::support::{Bundle, Cx, tests};

tests! {
    v2 io_a_write_is_slowed_to_its_rate;
    v2 io_a_read_is_slowed_to_its_rate;
    v2 io_operations_are_counted;
    v2 io_weight_is_set;
}

/// The whole disk under the test's directory: io.max does not take a partition.
fn disk(cx: &Cx) -> (u64, u64) {
    let device = fs::metadata(&cx.dir).unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let of_partition = format!("/sys/dev/block/{major}:{minor}/../dev");
    let text = if Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists() {
        fs::read_to_string(of_partition).unwrap()
    } else if major == 0 {
        cx.skip("the test's directory is not on a block device")
    } else {
        format!("{major}:{minor}")
    };
    let (major, minor) = text.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// A container with one throttle and a file of 3 MiB in its root.
fn throttled(cx: &Cx, field: &str, rate: u64) -> Bundle {
    need(cx, "io");
    let (major, minor) = disk(cx);
    let bundle = limited(
        cx,
        "blockIO",
        json!({field: [{"major": major, "minor": minor, "rate": rate}]}),
    );
    fs::write(bundle.rootfs().join("data"), vec![7; 3 << 20]).unwrap();
    cx.host(&format!("sync {}", bundle.rootfs().join("data").display()))
        .ok();
    bundle
}

/// How long one direct dd takes in the container and how long on the host.
fn timed(cx: &Cx, bundle: &Bundle, args: &str) -> (Duration, Duration) {
    let host = args.replace("=/", &format!("={}/", bundle.rootfs().display()));
    let start = Instant::now();
    cx.host(&format!(
        "/bin/busybox dd {}",
        host.replace(&format!("{}/dev", bundle.rootfs().display()), "/dev")
    ))
    .ok();
    let free = start.elapsed();
    let container = cx.start(bundle);
    let line = read(&container, "io.max");
    let start = Instant::now();
    container.exec_sh(&format!("dd {args}")).ok();
    let slow = start.elapsed();
    println!("io.max {line}: {slow:?}; without: {free:?}");
    container.end();
    (slow, free)
}

fn is_slowed(cx: &Cx, bundle: &Bundle, args: &str) {
    let (slow, free) = timed(cx, bundle, args);
    assert!(
        slow > Duration::from_secs(2),
        "{slow:?}, without a limit {free:?}"
    );
    assert!(
        free < Duration::from_millis(1500),
        "the disk itself is as slow: {free:?}"
    );
}

fn io_a_write_is_slowed_to_its_rate(cx: &Cx) {
    let bundle = throttled(cx, "throttleWriteBpsDevice", MIB);
    is_slowed(
        cx,
        &bundle,
        "if=/dev/zero of=/written bs=256k count=12 oflag=direct",
    );
    // 3 MiB at 1 MiB/s; the first slice comes at once.
}

fn io_a_read_is_slowed_to_its_rate(cx: &Cx) {
    let bundle = throttled(cx, "throttleReadBpsDevice", MIB);
    is_slowed(cx, &bundle, "if=/data of=/dev/null bs=256k iflag=direct");
}

fn io_operations_are_counted(cx: &Cx) {
    let bundle = throttled(cx, "throttleReadIOPSDevice", 10);
    is_slowed(
        cx,
        &bundle,
        "if=/data of=/dev/null bs=4k count=30 iflag=direct",
    );
}

fn io_weight_is_set(cx: &Cx) {
    need(cx, "io");
    let container = cx.start(&limited(cx, "blockIO", json!({"weight": 500})));
    let group = cx.cgroup_dir("", &container.id);
    // BFQ's own file where the kernel has it, in blkio's units.
    if group.join("io.bfq.weight").exists() {
        assert_eq!(read(&container, "io.bfq.weight"), "default 500");
    } else {
        assert_eq!(read(&container, "io.weight"), "default 4950");
    }
    container.end();
}
