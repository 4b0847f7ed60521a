//! cgroup limits that are read back and seen to bite, placement, and what happens to odd groups.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bundle, CGROUP_PARENT, Container, Cx, alive, tests};

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
    host every_hierarchy_has_the_container;
    v2 one_group_has_the_container;
    v2 hugetlb_limit;
    v2 unified_values;
    v2 unified_value_without_its_controller;
    v2 limit_without_its_controller_is_an_error;
    v2 killed_by_the_group = "runc 1.1.5 leaves groups that were made below";
    v2 path_left_out;
    v2 relative_path;
    v2 path_with_dotdot_stays_below;
    both deep_path;
    both a_used_group_is_refused = "runc 1.1.5 only warns";
    both an_empty_group_may_exist;
    both a_frozen_group_is_refused;
    both parent_is_left_alone;
    host unknown_resources_are_not_silent;
}

/// Without the controller there is nothing to see, on a v2 host that has not enabled it.
fn need(cx: &Cx, controller: &str) {
    let here = if cx.is_v2() {
        fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
    } else {
        PathBuf::from("/sys/fs/cgroup").join(controller).exists()
    };
    if !here {
        cx.skip(&format!("no {controller} controller on this host"));
    }
}

/// A file of the container's group under its name on v1 or on v2.
fn value(container: &Container<'_>, controller: &str, v1: &str, v2: &str) -> String {
    let cx = container.cx;
    let name = if cx.is_v2() { v2 } else { v1 };
    let path = cx.cgroup_dir(controller, &container.id).join(name);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

fn limited(cx: &Cx, pointer: &str, limits: Value) -> Bundle {
    let mut bundle = cx.bundle();
    bundle.set(&format!("/linux/resources/{pointer}"), limits);
    bundle
}

const MIB: u64 = 1 << 20;

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

fn groups_of(container: &Container<'_>) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn every_hierarchy_has_the_container(cx: &Cx) {
    let container = cx.sleeper();
    for line in groups_of(&container) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
        // On a hybrid host the v2 tree may hold it too, but need not.
        if !controllers.is_empty() || cx.is_v2() {
            assert_eq!(path, format!("/{CGROUP_PARENT}/{}", container.id), "{line}");
        }
    }
    container.end();
}

fn one_group_has_the_container(cx: &Cx) {
    let container = cx.sleeper();
    let path = format!("0::/{CGROUP_PARENT}/{}", container.id);
    assert!(
        groups_of(&container).contains(&path),
        "{:?}",
        groups_of(&container)
    );
    let procs = fs::read_to_string(cx.cgroup_dir("", &container.id).join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), container.pid().to_string());
    container.end();
}

fn hugetlb_limit(cx: &Cx) {
    need(cx, "hugetlb");
    let container = cx.start(&limited(
        cx,
        "hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4 * MIB}]),
    ));
    let dir = cx.cgroup_dir("hugetlb", &container.id);
    assert_eq!(
        fs::read_to_string(dir.join("hugetlb.2MB.max"))
            .unwrap()
            .trim(),
        (4 * MIB).to_string()
    );
    container.end();
    let output = cx
        .try_create(&limited_again(
            cx,
            "hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
        ))
        .is(1);
    assert!(
        output.stderr.contains("3MB") || !cx.is_rundlet(),
        "{output}"
    );
}

/// A second bundle of the same test.
fn limited_again(cx: &Cx, pointer: &str, limits: Value) -> Bundle {
    let mut bundle = cx.named_bundle("d");
    bundle.set(&format!("/linux/resources/{pointer}"), limits);
    bundle
}

fn unified_values(cx: &Cx) {
    need(cx, "hugetlb");
    let container = cx.start(&limited(
        cx,
        "unified",
        json!({"hugetlb.2MB.max": "2097152", "cgroup.max.depth": "5"}),
    ));
    let dir = cx.cgroup_dir("", &container.id);
    assert_eq!(
        fs::read_to_string(dir.join("hugetlb.2MB.max"))
            .unwrap()
            .trim(),
        "2097152"
    );
    assert_eq!(
        fs::read_to_string(dir.join("cgroup.max.depth"))
            .unwrap()
            .trim(),
        "5"
    );
    container.end();
}

fn unified_value_without_its_controller(cx: &Cx) {
    for (number, key) in [
        "memory.max",
        "nosuch.key",
        "../cgroup.procs",
        "cgroup.procs/x",
    ]
    .into_iter()
    .enumerate()
    {
        if key == "memory.max" && has_memory() {
            continue;
        }
        let mut bundle = cx.named_bundle(&format!("u{number}"));
        bundle.set("/linux/resources/unified", json!({key: "1"}));
        let output = cx.try_create(&bundle).is(1);
        assert!(output.stderr.contains(key), "{output}");
    }
}

fn has_memory() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .is_ok_and(|text| text.contains("memory"))
}

fn limit_without_its_controller_is_an_error(cx: &Cx) {
    if has_memory() {
        cx.skip("all controllers are here");
    }
    for (name, limits) in [
        ("memory", json!({"limit": 64 * MIB})),
        ("pids", json!({"limit": 5})),
        ("cpu", json!({"quota": 20000, "period": 50000})),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.set(&format!("/linux/resources/{name}"), limits);
        let output = cx.try_create(&bundle).is(1);
        assert!(output.stderr.contains(name), "{output}");
    }
}

fn killed_by_the_group(cx: &Cx) {
    // Children in groups of their own, made inside, go too.
    let mut bundle = cx.script(
        "mkdir /sys/fs/cgroup/below && sleep 1000 & sleep 0.1; echo $! >/sys/fs/cgroup/below/cgroup.procs; \
         touch /mnt/ready; exec sleep 1000",
    );
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle.without_namespace("pid");
    let container = cx.start(&bundle);
    crate::support::eventually("the child is moved", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    cx.call(&["delete", "--force", &container.id]).ok();
}

fn path_left_out(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert!(line.ends_with(&format!("/{}", container.id)), "{line}");
    container.end();
}

fn relative_path(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("{CGROUP_PARENT}/rel/{}", bundle.id)),
    );
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert!(
        line.ends_with(&format!("/{CGROUP_PARENT}/rel/{}", container.id)),
        "{line}"
    );
    container.end();
    let _ = fs::remove_dir(format!("/sys/fs/cgroup/{CGROUP_PARENT}/rel"));
}

fn path_with_dotdot_stays_below(cx: &Cx) {
    // G1: cleaned lexically, never above the mount point.
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/../../{CGROUP_PARENT}/x/../{}", bundle.id)),
    );
    let container = cx.start(&bundle);
    let line = groups_of(&container)
        .into_iter()
        .find(|line| line.starts_with("0::"))
        .unwrap();
    assert_eq!(line, format!("0::/{CGROUP_PARENT}/{}", container.id));
    container.end();
}

fn deep_path(cx: &Cx) {
    let mut bundle = cx.bundle();
    let top = bundle.id.clone();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/{CGROUP_PARENT}/{top}-deep/a/b")),
    );
    let container = cx.start(&bundle);
    assert!(
        groups_of(&container)
            .iter()
            .any(|line| line.ends_with(&format!("/{top}-deep/a/b")))
    );
    container.end();
    // The runtime removes its own group; those above it are the caller's.
    for controller in controllers(cx) {
        for below in ["a", ""] {
            let _ = fs::remove_dir(
                cx.cgroup_dir(&controller, &format!("{top}-deep"))
                    .join(below),
            );
        }
    }
}

/// The v1 hierarchies by directory name and the hybrid's v2 one; just one name on pure v2.
fn controllers(cx: &Cx) -> Vec<String> {
    if cx.is_v2() {
        return vec![String::new()];
    }
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Makes the container's group in each hierarchy before the container.
fn group_before(cx: &Cx, bundle: &Bundle) -> Vec<PathBuf> {
    let dirs: Vec<PathBuf> = controllers(cx)
        .iter()
        .map(|controller| cx.cgroup_dir(controller, &bundle.id))
        .collect();
    for dir in &dirs {
        fs::create_dir_all(dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if dir.join(file).exists() && !cx.is_v2() {
                let parent = dir.parent().unwrap();
                for at in [parent, dir.as_path()] {
                    let from = at.parent().unwrap().join(file);
                    let _ = fs::write(at.join(file), fs::read(from).unwrap());
                }
            }
        }
    }
    dirs
}

fn a_used_group_is_refused(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    let mut sleeper = std::process::Command::new("sleep");
    sleeper.arg("1000");
    let mut running = cx.spawn(sleeper);
    let pid = running.child.id();
    for dir in &dirs {
        fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let output = cx.try_create(&bundle);
    let lives = alive(i64::from(pid));
    if output.code == 0 {
        let _ = cx.call(&["delete", "--force", &bundle.id]);
    }
    running.child.kill().unwrap();
    running.wait();
    for dir in &dirs {
        let _ = fs::remove_dir(dir);
    }
    assert!(lives, "a process that was in the group before was killed");
    output.is(1);
}

fn an_empty_group_may_exist(cx: &Cx) {
    let bundle = cx.bundle();
    group_before(cx, &bundle);
    cx.start(&bundle).end();
}

fn a_frozen_group_is_refused(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    let (file, value) = if cx.is_v2() {
        ("cgroup.freeze", "1")
    } else {
        ("freezer.state", "FROZEN")
    };
    for dir in &dirs {
        if dir.join(file).exists()
            && (cx.is_v2() || dir.ends_with(format!("freezer/{CGROUP_PARENT}/{}", bundle.id)))
        {
            fs::write(dir.join(file), value).unwrap();
        }
    }
    // Otherwise create would hang in it for ever.
    let output = cx.try_create(&bundle).is(1);
    for dir in &dirs {
        let _ = fs::remove_dir(dir);
    }
    assert!(output.stderr.contains("frozen"), "{output}");
}

fn parent_is_left_alone(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    cx.start(&bundle).end();
    for dir in &dirs {
        assert!(dir.parent().unwrap().exists());
    }
}

fn unknown_resources_are_not_silent(cx: &Cx) {
    // A limit that can't be applied is an error; one that is not known is.
    for (number, (pointer, value)) in [
        ("memory", json!({"limit": "much"})),
        ("pids", json!({"limit": 1.5})),
        ("cpu", json!({"shares": -5})),
        ("cpu", json!({"cpus": "zero"})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = cx.named_bundle(&format!("u{number}"));
        bundle.set(&format!("/linux/resources/{pointer}"), value);
        cx.try_create(&bundle).is(1);
    }
}
