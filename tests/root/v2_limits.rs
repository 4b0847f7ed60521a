//! cgroup v2 limits with the kernel's own counters as the witness: an allocation is killed, a fork is refused, a
//! loop is throttled. `v2_io` has those on disks. Each needs a controller; where v2 has it not, the test says so.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use crate::support::{Container, Cx, eventually, tests};

tests! {
    v2 memory_an_allocation_is_killed;
    v2 memory_init_itself_is_killed;
    v2 memory_files_in_memory_count;
    v2 memory_swap_values;
    v2 memory_swap_is_used_up_to_its_limit;
    v2 memory_reservation_is_low;
    v2 cpu_time_is_bounded_and_throttling_counted;
    v2 cpu_shares_become_weights = "runc 1.1.5 has the linear formula";
    v2 cpu_weight_divides_the_time;
    v2 cpu_burst_and_idle = "runc 1.1.5 does not know them";
    v2 pids_a_fork_is_refused;
    v2 cpuset_is_what_the_container_sees;
    v2 cpuset_of_a_missing_node = "runc 1.1.5 words it differently";
    v2 hugetlb_a_page_too_much_is_refused;
    v2 rdma_of_a_device_that_is_not_here;
}

pub(super) fn read(container: &Container<'_>, file: &str) -> String {
    let path = container.cx.cgroup_dir("", &container.id).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// A number of a file of `key number` lines.
pub(super) fn count(container: &Container<'_>, file: &str, key: &str) -> u64 {
    let text = read(container, file);
    let mut words = text.lines().filter_map(|line| line.split_once(' '));
    let found = words.find(|(name, _)| *name == key);
    let (_, number) = found.unwrap_or_else(|| panic!("no {key} in {file}: {text}"));
    number.parse().unwrap()
}

fn number(container: &Container<'_>, file: &str) -> u64 {
    read(container, file).parse().unwrap()
}

fn memory_an_allocation_is_killed(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    ));
    assert_eq!(read(&container, "memory.max"), (24 * MIB).to_string());
    let dd = |size| format!("dd if=/dev/zero of=/dev/null bs={size} count=1 2>/dev/null; echo $?");
    container.exec_sh(&dd("8M")).ok().prints("0");
    assert_eq!(count(&container, "memory.events", "oom_kill"), 0);
    container.exec_sh(&dd("80M")).ok().prints("137");
    assert_eq!(count(&container, "memory.events", "oom_kill"), 1);
    assert!(number(&container, "memory.current") <= 24 * MIB);
    // The container's init had nothing to do with it.
    assert_eq!(container.status(), "running");
    container.end();
}

fn memory_init_itself_is_killed(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = limited(cx, "memory", json!({"limit": 24 * MIB, "swap": 24 * MIB}));
    bundle.args(&["dd", "if=/dev/zero", "of=/dev/null", "bs=80M", "count=1"]);
    cx.run(&bundle).is(137);
}

fn memory_files_in_memory_count(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = limited(cx, "memory", json!({"limit": 24 * MIB, "swap": 24 * MIB}));
    bundle.sh(
        "dd if=/dev/zero of=/dev/shm/a bs=1M count=8 2>/dev/null; echo $?; \
         dd if=/dev/zero of=/dev/shm/b bs=1M count=40 2>/dev/null; echo $?",
    );
    cx.run(&bundle).ok().prints("0\n137");
}

fn memory_swap_values(cx: &Cx) {
    need(cx, "memory");
    for (n, (limits, max, swap)) in [
        (
            json!({"limit": 32 * MIB, "swap": 32 * MIB}),
            (32 * MIB).to_string(),
            "0".to_owned(),
        ),
        (
            json!({"limit": 32 * MIB, "swap": 96 * MIB}),
            (32 * MIB).to_string(),
            (64 * MIB).to_string(),
        ),
        (
            json!({"limit": 32 * MIB, "swap": -1}),
            (32 * MIB).to_string(),
            "max".to_owned(),
        ),
        (
            json!({"limit": 32 * MIB}),
            (32 * MIB).to_string(),
            "max".to_owned(),
        ),
        (json!({"limit": -1}), "max".to_owned(), "max".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = cx.named_bundle(&format!("s{n}"));
        bundle.set("/linux/resources/memory", limits.clone());
        let container = cx.create(&bundle);
        assert_eq!(read(&container, "memory.max"), max, "{limits}");
        assert_eq!(read(&container, "memory.swap.max"), swap, "{limits}");
        container.end();
    }
    for (n, (limits, word)) in [
        (json!({"swap": 32 * MIB}), "without memory limit"),
        (
            json!({"limit": 32 * MIB, "swap": 16 * MIB}),
            "memory+swap limit",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = cx.named_bundle(&format!("w{n}"));
        bundle.set("/linux/resources/memory", limits.clone());
        let output = cx.try_create(&bundle).is(1);
        assert!(
            output.stderr.contains(word) || !cx.is_rundlet(),
            "{limits}: {output}"
        );
    }
}

fn memory_swap_is_used_up_to_its_limit(cx: &Cx) {
    need(cx, "memory");
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        cx.skip("this host has no swap space");
    }
    let fill = |name: &str, swap: u64| {
        let mut bundle = cx.named_bundle(name);
        bundle.set(
            "/linux/resources/memory",
            json!({"limit": 24 * MIB, "swap": swap}),
        );
        let container = cx.start(&bundle);
        let output = container
            .exec_sh("dd if=/dev/zero of=/dev/shm/a bs=1M count=40 2>/dev/null; echo $?")
            .ok();
        let used = number(&container, "memory.swap.peak");
        container.end();
        (output.text().to_owned(), used)
    };
    assert_eq!(fill("without", 24 * MIB), ("137".to_owned(), 0));
    let (code, used) = fill("with", 64 * MIB);
    assert_eq!(code, "0");
    assert!((8 * MIB..=40 * MIB).contains(&used), "{used} bytes swapped");
    let (code, used) = fill("little", 28 * MIB);
    assert_eq!(code, "137");
    assert!(used <= 4 * MIB, "{used} bytes swapped");
}

fn memory_reservation_is_low(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(cx, "memory", json!({"reservation": 16 * MIB})));
    assert_eq!(read(&container, "memory.low"), (16 * MIB).to_string());
    assert_eq!(read(&container, "memory.max"), "max");
    container.end();
}

const LOOP: &str = "while :; do :; done";

fn used(container: &Container<'_>) -> Duration {
    Duration::from_micros(count(container, "cpu.stat", "usage_usec"))
}

fn cpu_time_is_bounded_and_throttling_counted(cx: &Cx) {
    need(cx, "cpu");
    let mut bundle = limited(cx, "cpu", json!({"quota": 10_000, "period": 50_000}));
    bundle.sh(LOOP);
    let container = cx.start(&bundle);
    assert_eq!(read(&container, "cpu.max"), "10000 50000");
    let (start, before) = (Instant::now(), used(&container));
    let throttled = count(&container, "cpu.stat", "nr_throttled");
    std::thread::sleep(Duration::from_millis(1500));
    let (spent, wall) = (
        used(&container).checked_sub(before).unwrap(),
        start.elapsed(),
    );
    let throttled = count(&container, "cpu.stat", "nr_throttled") - throttled;
    println!("{spent:?} in {wall:?} at 20 %, throttled {throttled} times");
    assert!(spent < wall.mul_f64(0.3), "{spent:?} in {wall:?} at 20 %");
    assert!(throttled > 3, "throttled only {throttled} times");
    // One that is exec'ed gets no quota of its own.
    let (start, before) = (Instant::now(), used(&container));
    container.exec_with(&["--detach"], &["sh", "-c", LOOP]).ok();
    std::thread::sleep(Duration::from_secs(1));
    let (spent, wall) = (
        used(&container).checked_sub(before).unwrap(),
        start.elapsed(),
    );
    assert!(spent < wall.mul_f64(0.3), "{spent:?} in {wall:?} at 20 %");
    container.end();
}

fn cpu_shares_become_weights(cx: &Cx) {
    need(cx, "cpu");
    // ceil(10^((l^2 + 125 l)/612 - 7/34)), l = log2(shares), worked out beforehand.
    for (shares, weight) in [
        (2, "1"),
        (3, "2"),
        (102, "17"),
        (256, "35"),
        (512, "59"),
        (1024, "100"),
        (2048, "174"),
        (100_000, "4340"),
        (262_144, "10000"),
        (0, "100"),
    ] {
        let mut bundle = cx.named_bundle(&format!("s{shares}"));
        bundle.set("/linux/resources/cpu", json!({"shares": shares}));
        let container = cx.create(&bundle);
        assert_eq!(read(&container, "cpu.weight"), weight, "{shares} shares");
        container.end();
    }
}

fn cpu_weight_divides_the_time(cx: &Cx) {
    need(cx, "cpu");
    need(cx, "cpuset");
    let start = |name: &str, shares: u64| {
        let mut bundle = cx.named_bundle(name);
        bundle.set(
            "/linux/resources/cpu",
            json!({"shares": shares, "cpus": "0"}),
        );
        bundle.sh(LOOP);
        cx.start(&bundle)
    };
    let (much, little) = (start("much", 1024), start("little", 102));
    let before = (used(&much), used(&little));
    std::thread::sleep(Duration::from_secs(3));
    let much_used = used(&much).checked_sub(before.0).unwrap();
    let little_used = used(&little).checked_sub(before.1).unwrap();
    println!("{much_used:?} at weight 100, {little_used:?} at weight 17");
    assert!(
        much_used > 2 * little_used,
        "{much_used:?} at weight 100, {little_used:?} at weight 17"
    );
    much.end();
    little.end();
}

fn cpu_burst_and_idle(cx: &Cx) {
    need(cx, "cpu");
    let mut bundle = cx.named_bundle("burst");
    bundle.set(
        "/linux/resources/cpu",
        json!({"quota": 20_000, "period": 50_000, "burst": 5_000}),
    );
    let container = cx.create(&bundle);
    assert_eq!(read(&container, "cpu.max"), "20000 50000");
    assert_eq!(read(&container, "cpu.max.burst"), "5000");
    container.end();
    let mut bundle = cx.named_bundle("idle");
    bundle.set("/linux/resources/cpu", json!({"idle": 1}));
    let container = cx.create(&bundle);
    assert_eq!(read(&container, "cpu.idle"), "1");
    container.end();
}

fn pids_a_fork_is_refused(cx: &Cx) {
    need(cx, "pids");
    let mut bundle = limited(cx, "pids", json!({"limit": 8}));
    bundle.sh("trap : TERM; while :; do sleep 1000; done");
    let container = cx.start(&bundle);
    // init and its sleep, and the shell of the exec: five more fit.
    let forks = |n| {
        format!(
            "i=0; while [ $i -lt {n} ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all; kill %1 %2 %3 %4"
        )
    };
    container.exec_sh(&forks(4)).ok().prints("all");
    assert_eq!(count(&container, "pids.events", "max"), 0);
    eventually("the sleepers are gone", 5, || {
        number(&container, "pids.current") == 2
    });
    let output = container.exec_sh(&forks(20));
    assert!(
        output.code != 0 && output.stderr.contains("Resource temporarily unavailable"),
        "{output}"
    );
    assert!(count(&container, "pids.events", "max") >= 1);
    // All of them are there still: the next exec has no place.
    assert_eq!(number(&container, "pids.current"), 7);
    container.end();
}

fn cpuset_is_what_the_container_sees(cx: &Cx) {
    need(cx, "cpuset");
    let seen = "grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status | tr -d '\\t'; nproc";
    let all = fs::read_to_string("/sys/fs/cgroup/cpuset.cpus.effective").unwrap();
    // The last one, where there are several: all start on the first.
    let cpu = all.trim().rsplit(['-', ',']).next().unwrap();
    let container = cx.start(&limited(cx, "cpu", json!({"cpus": cpu, "mems": "0"})));
    let expected = format!("Cpus_allowed_list:{cpu}\nMems_allowed_list:0\n1");
    container.exec_sh(seen).ok().prints(&expected);
    assert_eq!(read(&container, "cpuset.cpus.effective"), cpu);
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(
        status.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
        "{status}"
    );
    container.end();
}

fn cpuset_of_a_missing_node(cx: &Cx) {
    need(cx, "cpuset");
    let mut bundle = cx.named_bundle("m");
    bundle.set("/linux/resources/cpu", json!({"mems": "900"}));
    let output = cx.try_create(&bundle).is(1);
    assert!(
        output.stderr.contains("linux.resources.cpu.mems"),
        "{output}"
    );
}

fn hugetlb_a_page_too_much_is_refused(cx: &Cx) {
    need(cx, "hugetlb");
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    if free
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .unwrap_or(0)
        < 4
    {
        cx.skip("this host has no 4 huge pages of 2 MiB set aside");
    }
    let mut bundle = limited(
        cx,
        "hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4 * MIB}]),
    );
    bundle.mount("/mnt", "hugetlbfs", "hugetlbfs", &["pagesize=2M"]);
    let container = cx.start(&bundle);
    container
        .exec_sh("busybox fallocate -l 4M /mnt/two && rm /mnt/two")
        .ok();
    let output = container.exec_sh("busybox fallocate -l 6M /mnt/three");
    assert_ne!(output.code, 0, "{output}");
    assert!(count(&container, "hugetlb.2MB.events", "max") >= 1);
    container.end();
}

fn rdma_of_a_device_that_is_not_here(cx: &Cx) {
    need(cx, "rdma");
    let limits: Value = json!({"nosuch0": {"hcaHandles": 3, "hcaObjects": 10}});
    let output = cx.try_create(&limited(cx, "rdma", limits)).is(1);
    assert!(output.stderr.contains("rdma"), "{output}");
}
