//! `update`: every flag and every way to give a change, and what of the old values stays. `update_safety` has what is refused,
//! `update_devices` the device rules of a container that runs; that the effect is runc's is in `conversions`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use super::limits::value;
use crate::support::{Container, Cx, Output, tests};

tests! {
    host every_flag_is_read_back;
    host flags_of_later_runcs = "runc 1.1 does not know them";
    host shares_of_an_idle_group = "runc 1.1 does not know cpu.idle";
    host a_file_and_standard_input;
    host other_flags_count_for_nothing_beside_a_file;
    host what_is_absent_stays;
    host half_of_a_cpu_quota;
    host half_of_memory_and_swap = "runc 1.1 forgets the other half";
    host unlimited_memory_lifts_swap;
    host exec_gets_the_new_limits;
    both a_created_and_a_paused_container;
    v2 huge_pages_and_unified = "runc does not update huge pages";
    v2 block_io_weight;
    v2 idle_and_weight = "runc 1.1 does not know cpu.idle";
}

pub(super) fn update(container: &Container<'_>, flags: &[&str]) -> Output {
    let mut args = vec!["update"];
    args.extend(flags);
    args.push(&container.id);
    container.cx.call(&args)
}

/// By standard input, as containerd does it.
pub(super) fn change(container: &Container<'_>, resources: &Value) -> Output {
    let command = container
        .cx
        .command(&["update", "--resources=-", &container.id]);
    container
        .cx
        .spawn_with_input(command, &resources.to_string())
        .wait()
}

pub(super) fn has(cx: &Cx, controller: &str) -> bool {
    if cx.is_v2() {
        let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        text.split_whitespace().any(|word| word == controller)
    } else {
        Path::new("/sys/fs/cgroup").join(controller).exists()
    }
}

/// Flags, controller, and the file with its value on v1 and on v2.
const FLAGS: &[&str] = &[
    "--pids-limit 42 | pids | pids.max=42 | pids.max=42",
    "--pids-limit=-1 | pids | pids.max=max | pids.max=max",
    "--memory 64m | memory | memory.limit_in_bytes=67108864 | memory.max=67108864",
    "--memory 67108864 --memory-swap 96M | memory | memory.memsw.limit_in_bytes=100663296 | memory.swap.max=33554432",
    "--memory 64m --memory-swap -1 | memory | memory.memsw.limit_in_bytes=9223372036854771712 | memory.swap.max=max",
    "--memory-reservation 32768k | memory | memory.soft_limit_in_bytes=33554432 | memory.low=33554432",
    // The greatest, on which the old and the new formula agree.
    "--cpu-share 262144 | cpu | cpu.shares=262144 | cpu.weight=10000",
    "--cpu-period 50000 --cpu-quota 20000 | cpu | cpu.cfs_quota_us=20000 | cpu.max=20000 50000",
    "--cpu-period 40000 | cpu | cpu.cfs_period_us=40000 | cpu.max=20000 40000",
    "-cpu-quota -1 | cpu | cpu.cfs_quota_us=-1 | cpu.max=max 40000",
    "--cpuset-cpus 0 | cpuset | cpuset.cpus=0 | cpuset.cpus=0",
    "--cpuset-mems 0 | cpuset | cpuset.mems=0 | cpuset.mems=0",
];

/// The same of what runc 1.1 does not know.
const NEW_FLAGS: &[&str] = &[
    "--cpu-share 512 | cpu | cpu.shares=512 | cpu.weight=59",
    "--cpu-quota 20000 --cpu-burst 5000 | cpu | cpu.cfs_burst_us=5000 | cpu.max.burst=5000",
    "--cpu-burst 0 | cpu | cpu.cfs_burst_us=0 | cpu.max.burst=0",
    "--cpu-idle 1 | cpu | cpu.idle=1 | cpu.idle=1",
    "--cpu-idle 0 --cpu-share 1024 | cpu | cpu.idle=0 | cpu.idle=0",
    "--cpu-period 40000 | cpu | cpu.shares=1024 | cpu.weight=100",
];

fn read_back(cx: &Cx, table: &[&str]) {
    let container = cx.sleeper();
    for row in table {
        let parts: Vec<&str> = row.split(" | ").collect();
        let &[flags, controller, v1, v2] = parts.as_slice() else {
            panic!("{row}");
        };
        if !has(cx, controller) {
            continue;
        }
        let flags: Vec<&str> = flags.split(' ').collect();
        let output = update(&container, &flags).ok();
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output}"
        );
        let (file, expected) = if cx.is_v2() { v2 } else { v1 }.split_once('=').unwrap();
        assert_eq!(value(&container, controller, file, file), expected, "{row}");
    }
    container.end();
}

fn every_flag_is_read_back(cx: &Cx) {
    read_back(cx, FLAGS);
}

fn flags_of_later_runcs(cx: &Cx) {
    read_back(cx, NEW_FLAGS);
}

fn shares_of_an_idle_group(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.sleeper();
    update(&container, &["--cpu-idle", "1"]).ok();
    update(&container, &["--cpu-share", "3"])
        .is(1)
        .says("cpu.idle is 1");
    container.end();
}

fn a_file_and_standard_input(cx: &Cx) {
    need(cx, "pids");
    let container = cx.sleeper();
    let pids = || value(&container, "pids", "pids.max", "pids.max");
    let file = cx.file("resources.json", r#"{"pids":{"limit":31}}"#);
    let file = file.to_str().unwrap();
    for (n, flags) in [
        vec!["--resources", file],
        vec!["-r", file],
        vec!["-resources", file],
        vec!["--resources=/dev/stdin"],
        vec!["--resources=-"],
        vec!["-r", "-"],
        vec!["--resources", "-"],
    ]
    .into_iter()
    .enumerate()
    {
        update(&container, &["--pids-limit", "99"]).ok();
        assert_eq!(pids(), "99");
        let mut args = vec!["update"];
        args.extend(&flags);
        args.push(&container.id);
        let mut input = json!({"pids": {"limit": 31}, "memory": {}, "cpu": {}});
        if cx.is_rundlet() {
            // At this runc 1.1 ends in a panic.
            input["blockIO"] = Value::Null;
        }
        cx.spawn_with_input(cx.command(&args), &input.to_string())
            .wait()
            .ok();
        assert_eq!(pids(), "31", "{n}: {flags:?}");
    }
    container.end();
}

fn other_flags_count_for_nothing_beside_a_file(cx: &Cx) {
    need(cx, "pids");
    let container = cx.start(&limited(cx, "pids", json!({"limit": 50})));
    let file = cx.file("resources.json", r#"{"cpu":{}}"#);
    update(
        &container,
        &["--pids-limit", "31", "-r", file.to_str().unwrap()],
    )
    .ok();
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "50");
    container.end();
}

/// Every limit that a test here sets, and what goes with it.
pub(crate) fn limits_of(container: &Container<'_>) -> [String; 7] {
    [
        ("pids", "pids.max", "pids.max"),
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("memory", "memory.soft_limit_in_bytes", "memory.low"),
        ("cpu", "cpu.shares", "cpu.weight"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"),
        ("cpu", "cpu.cfs_period_us", "cpu.max"),
    ]
    .map(|(controller, v1, v2)| value(container, controller, v1, v2))
}

fn what_is_absent_stays(cx: &Cx) {
    need(cx, "pids");
    need(cx, "memory");
    need(cx, "cpu");
    let mut bundle = limited(cx, "pids", json!({"limit": 50}));
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 * MIB, "reservation": 32 * MIB}),
    );
    bundle.set(
        "/linux/resources/cpu",
        json!({"shares": 2048, "quota": 20000, "period": 50000}),
    );
    let container = cx.start(&bundle);
    let all = || limits_of(&container);
    let before = all();
    change(&container, &json!({})).ok();
    change(
        &container,
        &json!({"memory": {"limit": 0, "swap": 0}, "cpu": {"quota": 0, "shares": 0, "cpus": ""}}),
    )
    .ok();
    assert_eq!(all(), before);
    // Also what another than the runtime has set.
    let name = if cx.is_v2() {
        "memory.max"
    } else {
        "memory.limit_in_bytes"
    };
    fs::write(
        cx.cgroup_dir("memory", &container.id).join(name),
        (80 * MIB).to_string(),
    )
    .unwrap();
    change(&container, &json!({"pids": {"limit": 31}})).ok();
    let mut expected = before;
    "31".clone_into(&mut expected[0]);
    if cx.is_rundlet() {
        expected[1] = (80 * MIB).to_string();
        assert_eq!(all(), expected);
    }
    container.end();
}

fn half_of_a_cpu_quota(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.start(&limited(
        cx,
        "cpu",
        json!({"quota": 20000, "period": 50000}),
    ));
    let both = || {
        if cx.is_v2() {
            return value(&container, "cpu", "", "cpu.max");
        }
        let file = |name| value(&container, "cpu", name, "");
        format!("{} {}", file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"))
    };
    for (resources, expected) in [
        (json!({"quota": 30000}), "30000 50000"),
        (json!({"period": 100_000}), "30000 100000"),
        // More than the old quota could be in the new period, unless both are set in the right order.
        (json!({"period": 10_000, "quota": 5000}), "5000 10000"),
        (
            json!({"quota": 90_000, "period": 1_000_000}),
            "90000 1000000",
        ),
    ] {
        change(&container, &json!({"cpu": resources})).ok();
        assert_eq!(both(), expected, "{resources}");
    }
    change(&container, &json!({"cpu": {"quota": -1}})).ok();
    assert_eq!(
        both(),
        if cx.is_v2() {
            "max 1000000"
        } else {
            "-1 1000000"
        }
    );
    container.end();
}

pub(super) fn memory_pair(container: &Container<'_>) -> (String, String) {
    (
        value(container, "memory", "memory.limit_in_bytes", "memory.max"),
        value(
            container,
            "memory",
            "memory.memsw.limit_in_bytes",
            "memory.swap.max",
        ),
    )
}

fn half_of_memory_and_swap(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "swap": 96 * MIB}),
    ));
    // v1 counts memory and swap together, v2 swap alone.
    let pair = |limit: u64, swap: u64| {
        let swap = if cx.is_v2() { swap - limit } else { swap };
        ((limit * MIB).to_string(), (swap * MIB).to_string())
    };
    assert_eq!(memory_pair(&container), pair(64, 96));
    for (flags, expected) in [
        (&["--memory", "80m"][..], pair(80, 96)),
        (&["--memory-swap", "128m"], pair(80, 128)),
        (
            &["--memory", "100m", "--memory-swap", "200m"],
            pair(100, 200),
        ),
        (&["--memory", "32m", "--memory-swap", "32m"], pair(32, 32)),
    ] {
        update(&container, flags).ok();
        assert_eq!(memory_pair(&container), expected, "{flags:?}");
    }
    let before = memory_pair(&container);
    for flags in [["--memory", "48m"], ["--memory-swap", "16m"]] {
        update(&container, &flags)
            .is(1)
            .says("linux.resources.memory.swap: memory+swap limit");
        assert_eq!(memory_pair(&container), before, "{flags:?}");
    }
    container.end();
}

fn unlimited_memory_lifts_swap(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 64 * MIB, "swap": 96 * MIB}),
    ));
    update(&container, &["--memory", "-1"]).ok();
    let most = if cx.is_v2() {
        "max"
    } else {
        "9223372036854771712"
    };
    assert_eq!(memory_pair(&container), (most.to_owned(), most.to_owned()));
    container.end();
}

fn exec_gets_the_new_limits(cx: &Cx) {
    need(cx, "pids");
    let container = cx.sleeper();
    let forks = "i=0; while [ $i -lt 20 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all; kill $(jobs -p)";
    container.exec_sh(forks).ok().prints("all");
    update(&container, &["--pids-limit", "10"]).ok();
    let output = container.exec_sh(forks);
    assert!(
        output.code != 0 && !output.stdout.contains("all"),
        "{output}"
    );
    container.end();
}

/// Something that every world has: huge pages in the private view of cgroup2, where runc's update does not know them.
pub(super) fn one_limit(cx: &Cx) -> (&'static str, &'static str, Value) {
    if has(cx, "pids") {
        ("pids", "pids.max", json!({"pids": {"limit": 31}}))
    } else if cx.is_rundlet() {
        need(cx, "hugetlb");
        (
            "hugetlb",
            "hugetlb.2MB.max",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}),
        )
    } else {
        cx.skip("nothing that this runtime could update here")
    }
}

fn a_created_and_a_paused_container(cx: &Cx) {
    let (controller, file, resources) = one_limit(cx);
    let expected = if controller == "pids" {
        "31"
    } else {
        "4194304"
    };
    let container = cx.create(&cx.named_bundle("created"));
    change(&container, &resources).ok();
    assert_eq!(value(&container, controller, file, file), expected);
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    assert_eq!(value(&container, controller, file, file), expected);
    container.end();
    let container = cx.start(&cx.named_bundle("paused"));
    container.call("pause").ok();
    change(&container, &resources).ok();
    assert_eq!(value(&container, controller, file, file), expected);
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    assert_eq!(container.status(), "running");
    container.end();
}

fn huge_pages_and_unified(cx: &Cx) {
    need(cx, "hugetlb");
    let container = cx.sleeper();
    let limit = || value(&container, "", "", "hugetlb.2MB.max");
    change(
        &container,
        &json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}),
    )
    .ok();
    assert_eq!(limit(), (4 * MIB).to_string());
    change(
        &container,
        &json!({"unified": {"hugetlb.2MB.max": "2097152"}}),
    )
    .ok();
    assert_eq!(limit(), (2 * MIB).to_string());
    container.end();
}

fn block_io_weight(cx: &Cx) {
    need(cx, "io");
    let container = cx.sleeper();
    update(&container, &["--blkio-weight", "500"]).ok();
    let group = cx.cgroup_dir("", &container.id);
    if group.join("io.bfq.weight").exists() {
        assert_eq!(value(&container, "", "", "io.bfq.weight"), "default 500");
    } else {
        assert_eq!(value(&container, "", "", "io.weight"), "default 4950");
    }
    container.end();
}

fn idle_and_weight(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.start(&limited(cx, "cpu", json!({"shares": 512})));
    update(&container, &["--cpu-idle", "1"]).ok();
    assert_eq!(value(&container, "", "", "cpu.idle"), "1");
    // The kernel has dropped the weight with it; nothing brings it back.
    update(&container, &["--cpu-idle", "0"]).ok();
    assert_eq!(value(&container, "", "", "cpu.weight"), "100");
    container.end();
}
