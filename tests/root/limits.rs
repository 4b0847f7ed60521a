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
    host a_small_limit_starts_a_small_program = "runc needs 2 to 12 MiB";
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
    let output = cx
        .try_create(&limited(cx, "memory", json!({"limit": 4096, "swap": 4096})))
        .is(1);
    if cx.is_rundlet() {
        output.says("linux.resources.memory.limit").says(" 4096 ");
    }
}

/// A static x86-64 program of less than a page that waits for ever.
fn tiny_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    // mov eax, 34 (pause); syscall; jmp back
    let code = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    let size = 120 + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let mut put = |value: u64, bytes: usize| file.extend(&value.to_le_bytes()[..bytes]);
    // The file header: an executable for x86-64 with one program header behind this one.
    for (value, bytes) in [
        (2, 2),
        (62, 2),
        (1, 4),
        (BASE + 120, 8),
        (64, 8),
        (0, 8),
        (0, 4),
    ] {
        put(value, bytes);
    }
    for value in [64, 56, 1, 0, 0, 0] {
        put(value, 2);
    }
    // The program header: all of the file, to be read and executed.
    for (value, bytes) in [
        (1, 4),
        (5, 4),
        (0, 8),
        (BASE, 8),
        (BASE, 8),
        (size, 8),
        (size, 8),
        (4096, 8),
    ] {
        put(value, bytes);
    }
    file.extend(code);
    file
}

fn a_small_limit_starts_a_small_program(cx: &Cx) {
    use std::os::unix::fs::PermissionsExt;
    const LIMIT: u64 = 256 << 10;
    need(cx, "memory");
    for shape in ["plain", "user", "seccomp", "overlay", "delegated"] {
        if shape == "delegated" && !cx.is_v2() {
            continue;
        }
        let mut bundle = cx.named_bundle(shape);
        let program = bundle.rootfs().join("tiny");
        fs::write(&program, tiny_program()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        bundle.args(&["/tiny"]);
        bundle.set(
            "/linux/resources/memory",
            json!({"limit": LIMIT, "swap": LIMIT}),
        );
        match shape {
            "user" => bundle.user_namespace(),
            "seccomp" => bundle.set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                       "syscalls": [{"names": ["bpf", "reboot"], "action": "SCMP_ACT_ERRNO"}]}),
            ),
            "overlay" => {
                bundle.config["annotations"]["org.rundlet.rootfs.overlay.lower"] = json!("")
            }
            "delegated" => {
                bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
                bundle.config["annotations"]["org.rundlet.cgroup.delegate"] = json!("true");
            }
            _ => {}
        }
        let container = cx.start(&bundle);
        crate::support::eventually("the program runs", 10, || {
            fs::read(format!("/proc/{}/cmdline", container.pid())).unwrap() == b"/tiny\0"
        });
        assert_eq!(container.status(), "running", "{shape}");
        let limit = value(&container, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(limit, LIMIT.to_string(), "{shape}");
        container.end();
    }
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
