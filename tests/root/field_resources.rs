//! Every field of `linux.resources`, set and read back from the kernel's file. For `conformance/fields.md`; that limits bite
//! is shown by `fields`, `limits`, `v2_limits` and `v2_io`. Those of `blockIO` are in `field_block_io`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::cgroups::{MIB, limited, need};
use super::devices::fuse;
use super::limits::value;
use crate::support::{Bundle, Cx, tests};

tests! {
    host memory;
    host memory_of_v1_alone;
    host memory_that_is_too_low_now;
    host cpu = "runc 1.1.5 does not know burst";
    host real_time;
    host cpu_that_is_idle = "runc 1.1.5 does not know it";
    host cpu_sets;
    host number_of_processes;
    host device_rules;
    host network = "runc 1.1.5 skips it";
    both huge_pages;
    host rdma = "runc 1.1.5 skips it";
    both unified;
}

/// A field, the file of v1 and v2, and what is in them; an empty name means that the version has no such file.
struct File<'a> {
    field: &'a str,
    v1: (&'a str, &'a str),
    v2: (&'a str, &'a str),
}

/// Starts the container and reads each file; by the value where the file has more lines.
fn read_back(cx: &Cx, controller: &str, bundle: &Bundle, files: &[File<'_>]) {
    need(cx, controller);
    let container = cx.start(bundle);
    for File { field, v1, v2 } in files {
        let (name, wanted) = if cx.is_v2() { *v2 } else { *v1 };
        if name.is_empty() {
            continue;
        }
        let seen = value(&container, controller, v1.0, v2.0);
        assert!(
            seen == wanted || seen.lines().any(|line| line == wanted),
            "{name}: {seen}, not {wanted}"
        );
        cx.observed_by_version(
            bundle,
            &[&format!("linux.resources.{field}")],
            &format!("`{name}` is `{wanted}`"),
        );
    }
    container.end();
}

/// What only one version of cgroups has is refused on the other.
pub(super) fn refused(cx: &Cx, bundle: &Bundle, fields: &[&str]) {
    let output = cx.try_create(bundle).is(1);
    let text = "not available on cgroup v2";
    assert!(output.stderr.contains(text), "{output}");
    cx.observed_by_version(bundle, fields, &format!("refused: {text}"));
}

fn memory(cx: &Cx) {
    let bundle = limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB, "kernel": 32 * MIB, "kernelTCP": 32 * MIB,
               "useHierarchy": true}),
    );
    read_back(
        cx,
        "memory",
        &bundle,
        &[
            File {
                field: "memory.limit",
                v1: ("memory.limit_in_bytes", "67108864"),
                v2: ("memory.max", "67108864"),
            },
            File {
                field: "memory.reservation",
                v1: ("memory.soft_limit_in_bytes", "33554432"),
                v2: ("memory.low", "33554432"),
            },
            File {
                field: "memory.swap",
                v1: ("memory.memsw.limit_in_bytes", "100663296"),
                v2: ("memory.swap.max", "33554432"),
            },
            File {
                field: "memory.useHierarchy",
                v1: ("memory.use_hierarchy", "1"),
                v2: ("memory.max", "67108864"),
            },
        ],
    );
    cx.observed(
        &bundle,
        &[
            "linux.resources.memory.kernel",
            "linux.resources.memory.kernelTCP",
        ],
        "ignored: the kernel has dropped these limits (5.4, 5.16), the specification recommends against them; the container runs",
    );
}

fn memory_of_v1_alone(cx: &Cx) {
    let bundle = limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "swappiness": 17, "disableOOMKiller": true}),
    );
    let fields = ["memory.swappiness", "memory.disableOOMKiller"]
        .map(|field| format!("linux.resources.{field}"));
    if cx.is_v2() {
        return refused(cx, &bundle, &fields.each_ref().map(String::as_str));
    }
    read_back(
        cx,
        "memory",
        &bundle,
        &[
            File {
                field: "memory.swappiness",
                v1: ("memory.swappiness", "17"),
                v2: ("", ""),
            },
            File {
                field: "memory.disableOOMKiller",
                v1: ("memory.oom_control", "oom_kill_disable 1"),
                v2: ("", ""),
            },
        ],
    );
}

fn memory_that_is_too_low_now(cx: &Cx) {
    need(cx, "memory");
    let bundle = limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "checkBeforeUpdate": true}),
    );
    let container = cx.start(&bundle);
    container
        .exec_sh("dd if=/dev/zero of=/dev/shm/held bs=1M count=16 2>/dev/null")
        .ok();
    cx.call(&["update", "--memory", "1m", &container.id]).is(1);
    assert_eq!(
        value(&container, "memory", "memory.limit_in_bytes", "memory.max"),
        "67108864"
    );
    cx.observed(
        &bundle,
        &["linux.resources.memory.checkBeforeUpdate"],
        "`update --memory 1m` with 16 MiB in use is refused, the limit stays",
    );
    container.end();
}

fn cpu(cx: &Cx) {
    let bundle = limited(
        cx,
        "cpu",
        json!({"shares": 512, "quota": 40000, "period": 80000, "burst": 10000}),
    );
    read_back(
        cx,
        "cpu",
        &bundle,
        &[
            File {
                field: "cpu.shares",
                v1: ("cpu.shares", "512"),
                v2: ("cpu.weight", "59"),
            },
            File {
                field: "cpu.quota",
                v1: ("cpu.cfs_quota_us", "40000"),
                v2: ("cpu.max", "40000 80000"),
            },
            File {
                field: "cpu.period",
                v1: ("cpu.cfs_period_us", "80000"),
                v2: ("cpu.max", "40000 80000"),
            },
            File {
                field: "cpu.burst",
                v1: ("cpu.cfs_burst_us", "10000"),
                v2: ("cpu.max.burst", "10000"),
            },
        ],
    );
}

fn real_time(cx: &Cx) {
    let mut bundle = limited(
        cx,
        "cpu",
        json!({"realtimePeriod": 900_000, "realtimeRuntime": 1000}),
    );
    let fields =
        ["realtimePeriod", "realtimeRuntime"].map(|key| format!("linux.resources.cpu.{key}"));
    if cx.is_v2() {
        return refused(cx, &bundle, &fields.each_ref().map(String::as_str));
    }
    if !Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        return cx.not_here(
            &fields.each_ref().map(String::as_str),
            "a kernel without shares of real time",
        );
    }
    // Directly below the root, the only group that has something to give.
    bundle.set("/linux/cgroupsPath", json!(format!("/{}", bundle.id)));
    let container = cx.start(&bundle);
    let dir = Path::new("/sys/fs/cgroup/cpu").join(&bundle.id);
    for (field, file, wanted) in [
        (&fields[0], "cpu.rt_period_us", "900000"),
        (&fields[1], "cpu.rt_runtime_us", "1000"),
    ] {
        assert_eq!(fs::read_to_string(dir.join(file)).unwrap().trim(), wanted);
        cx.observed_by_version(&bundle, &[field], &format!("`{file}` is `{wanted}`"));
    }
    container.end();
}

fn cpu_that_is_idle(cx: &Cx) {
    let bundle = limited(cx, "cpu", json!({"idle": 1}));
    let file = ("cpu.idle", "1");
    read_back(
        cx,
        "cpu",
        &bundle,
        &[File {
            field: "cpu.idle",
            v1: file,
            v2: file,
        }],
    );
}

fn cpu_sets(cx: &Cx) {
    let bundle = limited(cx, "cpu", json!({"cpus": "0", "mems": "0"}));
    read_back(
        cx,
        "cpuset",
        &bundle,
        &[
            File {
                field: "cpu.cpus",
                v1: ("cpuset.cpus", "0"),
                v2: ("cpuset.cpus", "0"),
            },
            File {
                field: "cpu.mems",
                v1: ("cpuset.mems", "0"),
                v2: ("cpuset.mems", "0"),
            },
        ],
    );
}

fn number_of_processes(cx: &Cx) {
    let bundle = limited(cx, "pids", json!({"limit": 33}));
    let file = ("pids.max", "33");
    read_back(
        cx,
        "pids",
        &bundle,
        &[File {
            field: "pids.limit",
            v1: file,
            v2: file,
        }],
    );
}

fn device_rules(cx: &Cx) {
    fuse(cx);
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/allowed", "type": "c", "major": 10, "minor": 229},
               {"path": "/dev/other", "type": "c", "major": 10, "minor": 237}]),
    );
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]),
    );
    let fields = ["allow", "type", "major", "minor", "access"]
        .map(|key| format!("linux.resources.devices[].{key}"));
    cx.looks(
        &mut bundle,
        &[(
            &fields.each_ref().map(String::as_str),
            "for d in allowed other; do (: </dev/$d) && echo $d; (: >/dev/$d) && echo $d; done",
            "allowed\nsh: can't create /dev/allowed: Operation not permitted\n\
             sh: can't open /dev/other: Operation not permitted\nsh: can't create /dev/other: Operation not permitted",
        )],
    );
}

fn network(cx: &Cx) {
    let bundle = limited(
        cx,
        "network",
        json!({"classID": 0x10_0001, "priorities": [{"name": "lo", "priority": 5}]}),
    );
    let fields = ["classID", "priorities[].name", "priorities[].priority"]
        .map(|key| format!("linux.resources.network.{key}"));
    let fields = fields.each_ref().map(String::as_str);
    if cx.is_v2() {
        return refused(cx, &bundle, &fields);
    }
    if Path::new("/sys/fs/cgroup/net_cls").exists() {
        let container = cx.start(&bundle);
        assert_eq!(
            value(&container, "net_cls", "net_cls.classid", ""),
            "1048577"
        );
        let priorities = value(&container, "net_prio", "net_prio.ifpriomap", "");
        assert!(
            priorities.lines().any(|line| line == "lo 5"),
            "{priorities}"
        );
        container.end();
        cx.observed_by_version(&bundle, &fields[..1], "`net_cls.classid` is `1048577`");
        return cx.observed_by_version(&bundle, &fields[1..], "`net_prio.ifpriomap` has `lo 5`");
    }
    let output = cx.try_create(&bundle).is(1);
    assert!(
        output.stderr.contains("linux.resources.network"),
        "{output}"
    );
    cx.not_here(
        &fields,
        "no net_cls and net_prio controllers; asked for, it is refused by name",
    );
}

fn huge_pages(cx: &Cx) {
    let bundle = limited(
        cx,
        "hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4 * MIB}]),
    );
    let file = |field| File {
        field,
        v1: ("hugetlb.2MB.limit_in_bytes", "4194304"),
        v2: ("hugetlb.2MB.max", "4194304"),
    };
    read_back(
        cx,
        "hugetlb",
        &bundle,
        &[
            file("hugepageLimits[].pageSize"),
            file("hugepageLimits[].limit"),
        ],
    );
}

fn rdma(cx: &Cx) {
    let fields = ["hcaHandles", "hcaObjects"].map(|key| format!("linux.resources.rdma.*.{key}"));
    let fields = fields.each_ref().map(String::as_str);
    let bundle = limited(
        cx,
        "rdma",
        json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}),
    );
    if Path::new("/sys/class/infiniband")
        .read_dir()
        .is_ok_and(|mut found| found.next().is_some())
    {
        cx.skip("this test is for machines without such a device");
    }
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("linux.resources.rdma"), "{output}");
    cx.not_here(&fields, "no RDMA device; asked for, it is refused by name");
}

fn unified(cx: &Cx) {
    if !cx.is_v2() {
        let bundle = limited(cx, "unified", json!({"pids.max": "44"}));
        let output = cx.try_create(&bundle).is(1);
        let text = "cannot use unified on cgroup v1";
        assert!(output.stderr.contains(text), "{output}");
        return cx.observed_by_version(
            &bundle,
            &["linux.resources.unified"],
            &format!("refused: {text}"),
        );
    }
    let bundle = limited(cx, "unified", json!({"cgroup.max.depth": "44"}));
    let container = cx.start(&bundle);
    assert_eq!(value(&container, "", "", "cgroup.max.depth"), "44");
    container.end();
    cx.observed_by_version(
        &bundle,
        &["linux.resources.unified"],
        "`cgroup.max.depth` is `44`",
    );
}
