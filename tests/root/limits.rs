//! cgroup limits: read back, and seen to bite.

use super::cgroups::MIB;
use super::cgroups::limited;
use super::cgroups::need;
use crate::support::{Container, Cx, tests};
use serde_json::json;
use std::fs;

tests! {
    host memory_limit_is_set;
    host memory_limit_bites;
    host memory_reservation_and_swap;
    host memory_limit_too_low_for_anything;
    host pids_limit_is_set;
    host pids_limit_bites;
    host pids_unlimited;
    host cpu_quota_is_set;
    host cpu_quota_bites;
    host cpu_shares;
    host cpuset_is_set_and_bites;
    host cpuset_of_a_missing_cpu;
    host block_io_throttle;
    host limits_hold_for_exec;
}

/// A file of the container's group under its name on v1 or on v2.
pub(super) fn value(container: &Container<'_>, controller: &str, v1: &str, v2: &str) -> String {
    let cx = container.cx;
    let name = if cx.is_v2() { v2 } else { v1 };
    let path = cx.cgroup_dir(controller, &container.id).join(name);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

fn memory_limit_is_set(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(cx, "memory", json!({"limit": 64 * MIB})));
    assert_eq!(
        value(&container, "memory", "memory.limit_in_bytes", "memory.max"),
        (64 * MIB).to_string()
    );
    container.end();
}

fn memory_limit_bites(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = limited(cx, "memory", json!({"limit": 24 * MIB, "swap": 24 * MIB}));
    // dd fills a buffer of 80 MiB: it is killed, the shell is not.
    bundle.sh("dd if=/dev/zero of=/dev/null bs=80M count=1 2>/dev/null; echo $?");
    cx.run(&bundle).ok().prints("137");
    bundle.sh("dd if=/dev/zero of=/dev/null bs=4M count=1 2>/dev/null; echo $?");
    cx.run(&bundle).ok().prints("0");
}

fn memory_reservation_and_swap(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB}),
    ));
    assert_eq!(
        value(
            &container,
            "memory",
            "memory.soft_limit_in_bytes",
            "memory.low"
        ),
        (32 * MIB).to_string()
    );
    // v1 counts memory and swap together, v2 swap alone.
    let swap = if cx.is_v2() { 32 * MIB } else { 96 * MIB };
    assert_eq!(
        value(
            &container,
            "memory",
            "memory.memsw.limit_in_bytes",
            "memory.swap.max"
        ),
        swap.to_string()
    );
    container.end();
}

fn memory_limit_too_low_for_anything(cx: &Cx) {
    need(cx, "memory");
    // One page: whatever happens, it is an error, it ends, and it leaves nothing.
    cx.try_create(&limited(cx, "memory", json!({"limit": 4096, "swap": 4096})))
        .is(1);
}

fn pids_limit_is_set(cx: &Cx) {
    need(cx, "pids");
    let container = cx.start(&limited(cx, "pids", json!({"limit": 42})));
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "42");
    container.end();
}

fn pids_limit_bites(cx: &Cx) {
    need(cx, "pids");
    let mut bundle = limited(cx, "pids", json!({"limit": 16}));
    bundle.sh("i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all");
    let output = cx.run(&bundle);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        output.stderr.contains("Resource temporarily unavailable")
            || output.stderr.contains("can't fork"),
        "{output}"
    );
}

fn pids_unlimited(cx: &Cx) {
    need(cx, "pids");
    let container = cx.start(&limited(cx, "pids", json!({"limit": -1})));
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "max");
    container.end();
}

fn cpu_quota_is_set(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.start(&limited(
        cx,
        "cpu",
        json!({"quota": 20000, "period": 50000}),
    ));
    if cx.is_v2() {
        assert_eq!(value(&container, "cpu", "", "cpu.max"), "20000 50000");
    } else {
        assert_eq!(value(&container, "cpu", "cpu.cfs_quota_us", ""), "20000");
        assert_eq!(value(&container, "cpu", "cpu.cfs_period_us", ""), "50000");
    }
    container.end();
}

fn cpu_quota_bites(cx: &Cx) {
    need(cx, "cpu");
    let mut bundle = limited(cx, "cpu", json!({"quota": 10000, "period": 100_000}));
    bundle.sh("while :; do :; done");
    let container = cx.start(&bundle);
    std::thread::sleep(std::time::Duration::from_millis(700));
    // Fields 14 and 15 of stat: ticks of 10 ms; a free loop would have some 70.
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!(ticks < 30, "{ticks} ticks in 0.7 s at 10 %");
    let throttled = value(&container, "cpu", "cpu.stat", "cpu.stat");
    assert!(
        throttled
            .lines()
            .any(|line| line.starts_with("nr_throttled ") && line != "nr_throttled 0"),
        "{throttled}"
    );
    container.end();
}

fn cpu_shares(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.start(&limited(cx, "cpu", json!({"shares": 512})));
    if cx.is_v2() {
        // The quadratic formula of today: 1024 shares are the default weight 100.
        assert_eq!(value(&container, "cpu", "", "cpu.weight"), "59");
    } else {
        assert_eq!(value(&container, "cpu", "cpu.shares", ""), "512");
    }
    container.end();
}

fn cpuset_is_set_and_bites(cx: &Cx) {
    need(cx, "cpuset");
    let mut bundle = limited(cx, "cpu", json!({"cpus": "0", "mems": "0"}));
    bundle.sh("nproc; grep Cpus_allowed_list /proc/self/status | tr -d '\\t'; exec sleep 1000");
    let container = cx.start(&bundle);
    assert_eq!(
        value(&container, "cpuset", "cpuset.cpus", "cpuset.cpus"),
        "0"
    );
    container.exec(&["nproc"]).ok().prints("1");
    container.end();
}

fn cpuset_of_a_missing_cpu(cx: &Cx) {
    need(cx, "cpuset");
    let output = cx
        .try_create(&limited(cx, "cpu", json!({"cpus": "4000"})))
        .is(1);
    assert!(output.stderr.contains("cpuset"), "{output}");
}

fn block_io_throttle(cx: &Cx) {
    need(cx, if cx.is_v2() { "io" } else { "blkio" });
    // The device of the test's directory, by the mount table.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"))
        .and_then(|line| line.split(' ').nth(2))
        .unwrap();
    let (major, minor) = device.split_once(':').unwrap();
    if major == "0" {
        cx.skip("/ is not on a block device");
    }
    let (major, minor): (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
    let bundle = limited(
        cx,
        "blockIO",
        json!({
            "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}],
            "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 77}]
        }),
    );
    let container = cx.start(&bundle);
    if cx.is_v2() {
        let line = value(&container, "io", "", "io.max");
        assert!(
            line.contains("rbps=1048576") && line.contains("wiops=77"),
            "{line}"
        );
    } else {
        let file = |name: &str| value(&container, "blkio", name, "");
        assert_eq!(
            file("blkio.throttle.read_bps_device"),
            format!("{major}:{minor} 1048576")
        );
        assert_eq!(
            file("blkio.throttle.write_iops_device"),
            format!("{major}:{minor} 77")
        );
    }
    container.end();
}

fn limits_hold_for_exec(cx: &Cx) {
    need(cx, "pids");
    let container = cx.start(&limited(cx, "pids", json!({"limit": 12})));
    let output = container.exec_sh(
        "i=0; while [ $i -lt 30 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all",
    );
    assert!(
        output.code != 0 && !output.stdout.contains("all"),
        "{output}"
    );
    container.end();
}
