//! Fields of linux.resources whose effect no other file shows: read back from the kernel's file and seen to act. `limits`,
//! `v2_limits` and `v2_io` have the others; that the values are runc's is in `conversions`.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use super::limits::value;
use super::update::{change, update};
use crate::support::{Bundle, Container, Cx, eventually, tests};

tests! {
    host cpu_shares_divide_the_time;
    host cpu_idle_runs_when_nothing_else_does = "runc 1.1.5 does not know it";
    host cpu_shares_are_changed_while_it_runs;
    host pids_limit_is_raised_and_lowered_while_it_runs;
    host memory_limit_is_raised_while_it_runs;
    host swappiness_is_set;
    host without_the_oom_killer_a_process_waits;
    host a_direct_write_is_slowed;
    v2 unified_limits_bite;
}

const LOOP: &str = "while :; do :; done";

/// Ticks of 10 ms that the container's init has used: fields 14 and 15 of its stat.
fn ticks(pid: i64) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A loop on the first CPU.
fn busy<'a>(cx: &'a Cx, name: &str, cpu: &Value) -> Container<'a> {
    let mut bundle = cx.named_bundle(name);
    let mut limits = json!({"cpus": "0"});
    for (key, value) in cpu.as_object().unwrap() {
        limits[key] = value.clone();
    }
    bundle.set("/linux/resources/cpu", limits);
    bundle.sh(LOOP);
    cx.start(&bundle)
}

/// How much each of two gets until they have used one second together: on a busy host that takes longer.
fn shared(one: &Container<'_>, two: &Container<'_>) -> (u64, u64) {
    let (pid_one, pid_two) = (one.pid(), two.pid());
    let before = (ticks(pid_one), ticks(pid_two));
    let used = || (ticks(pid_one) - before.0, ticks(pid_two) - before.1);
    eventually("both together have used one second", 120, || {
        let (one, two) = used();
        one + two >= 100
    });
    let (one, two) = used();
    println!("{one} and {two} ticks");
    (one, two)
}

fn cpu_shares_divide_the_time(cx: &Cx) {
    need(cx, "cpu");
    need(cx, "cpuset");
    let much = busy(cx, "much", &json!({"shares": 4096}));
    let little = busy(cx, "little", &json!({"shares": 64}));
    let (much_used, little_used) = shared(&much, &little);
    assert!(much_used > 3 * little_used, "{much_used} and {little_used}");
    much.end();
    little.end();
}

fn cpu_idle_runs_when_nothing_else_does(cx: &Cx) {
    need(cx, "cpu");
    need(cx, "cpuset");
    let normal = busy(cx, "normal", &json!({}));
    // Not from the beginning: on a busy host it would not get so far as to run.
    let idle = busy(cx, "idle", &json!({}));
    update(&idle, &["--cpu-idle", "1"]).ok();
    assert_eq!(value(&idle, "cpu", "cpu.idle", "cpu.idle"), "1");
    let (normal_used, idle_used) = shared(&normal, &idle);
    assert!(normal_used > 5 * idle_used, "{normal_used} and {idle_used}");
    update(&idle, &["--cpu-idle", "0"]).ok();
    normal.end();
    idle.end();
}

fn cpu_shares_are_changed_while_it_runs(cx: &Cx) {
    need(cx, "cpu");
    need(cx, "cpuset");
    let one = busy(cx, "one", &json!({"shares": 64}));
    let two = busy(cx, "two", &json!({"shares": 4096}));
    update(&one, &["--cpu-share", "4096"]).ok();
    update(&two, &["--cpu-share", "64"]).ok();
    let (one_used, two_used) = shared(&one, &two);
    assert!(one_used > 3 * two_used, "{one_used} and {two_used}");
    one.end();
    two.end();
}

fn pids_limit_is_raised_and_lowered_while_it_runs(cx: &Cx) {
    need(cx, "pids");
    let container = cx.start(&limited(cx, "pids", json!({"limit": 6})));
    let forks = "i=0; while [ $i -lt 12 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all; kill $(jobs -p); wait";
    assert!(!container.exec_sh(forks).stdout.contains("all"));
    let pids = || -> u64 {
        value(&container, "pids", "pids.current", "pids.current")
            .parse()
            .unwrap()
    };
    // More than are allowed may be there already: no one is ended.
    update(&container, &["--pids-limit", "40"]).ok();
    container.exec_sh(forks).ok().prints("all");
    let now = pids();
    update(&container, &["--pids-limit", "1"]).ok();
    assert_eq!(pids(), now);
    assert_eq!(container.status(), "running");
    update(&container, &["--pids-limit", "-1"]).ok();
    container.exec_sh(forks).ok().prints("all");
    container.end();
}

fn memory_limit_is_raised_while_it_runs(cx: &Cx) {
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    ));
    let dd = "dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null; echo $?";
    container.exec_sh(dd).ok().prints("137");
    update(&container, &["--memory", "100m", "--memory-swap", "100m"]).ok();
    container.exec_sh(dd).ok().prints("0");
    update(&container, &["--memory", "24m", "--memory-swap", "24m"]).ok();
    container.exec_sh(dd).ok().prints("137");
    container.end();
}

fn swappiness_is_set(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("cgroup v2 has no swappiness");
    }
    need(cx, "memory");
    let container = cx.start(&limited(cx, "memory", json!({"swappiness": 17})));
    let now = || value(&container, "memory", "memory.swappiness", "");
    assert_eq!(now(), "17");
    if cx.is_rundlet() {
        change(&container, &json!({"memory": {"swappiness": 0}})).ok();
        assert_eq!(now(), "0");
    }
    container.end();
}

fn without_the_oom_killer_a_process_waits(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("cgroup v2 has no such switch");
    }
    need(cx, "memory");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB, "disableOOMKiller": true}),
    ));
    let oom = |key: &str| {
        let text = value(&container, "memory", "memory.oom_control", "");
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
            .unwrap()
    };
    assert_eq!(oom("oom_kill_disable "), 1);
    let dd = "dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null; echo $?";
    let waiting = cx.spawn(cx.command(&["exec", &container.id, "sh", "-c", dd]));
    eventually("the group is out of memory", 20, || oom("under_oom ") == 1);
    assert_eq!(oom("oom_kill "), 0);
    // With more memory it goes on as if nothing had been.
    update(&container, &["--memory", "100m", "--memory-swap", "100m"]).ok();
    waiting.wait().ok().prints("0");
    if cx.is_rundlet() {
        change(&container, &json!({"memory": {"disableOOMKiller": false}})).ok();
        assert_eq!(oom("oom_kill_disable "), 0);
    }
    container.end();
}

/// The whole disk under the test's directory.
fn disk(cx: &Cx) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(&cx.dir).unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let partition = format!("/sys/dev/block/{major}:{minor}/partition");
    if major == 0 || fs::metadata(partition).is_ok() {
        cx.skip("the test's directory is not on a whole disk");
    }
    (major, minor)
}

fn a_direct_write_is_slowed(cx: &Cx) {
    need(cx, if cx.is_v2() { "io" } else { "blkio" });
    let (major, minor) = disk(cx);
    let one = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let bundle: Bundle = limited(cx, "blockIO", json!({"throttleWriteBpsDevice": one(MIB)}));
    let container = cx.start(&bundle);
    let timed = || {
        let start = Instant::now();
        container
            .exec_sh("dd if=/dev/zero of=/written bs=256k count=12 oflag=direct")
            .ok();
        start.elapsed()
    };
    // 3 MiB at 1 MiB/s; the first slice comes at once.
    let slow = timed();
    assert!(slow > Duration::from_secs(2), "{slow:?}");
    if cx.is_rundlet() {
        // The limit is taken back, and another kind of limit left alone.
        let lift = json!({"blockIO": {"throttleWriteBpsDevice": one(0), "throttleReadIOPSDevice": one(77)}});
        change(&container, &lift).ok();
        let fast = timed();
        println!("{slow:?}, without a limit {fast:?}");
        assert!(fast < slow, "{slow:?}, without a limit {fast:?}");
        let file = value(
            &container,
            "blkio",
            "blkio.throttle.read_iops_device",
            "io.max",
        );
        assert!(file.contains("77"), "{file}");
    }
    container.end();
}

fn unified_limits_bite(cx: &Cx) {
    need(cx, "memory");
    need(cx, "pids");
    let limits = json!({"memory.max": "25165824", "memory.swap.max": "0", "pids.max": "max"});
    let container = cx.start(&limited(cx, "unified", limits));
    let dd = "dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null; echo $?";
    container.exec_sh(dd).ok().prints("137");
    change(&container, &json!({"unified": {"memory.max": "104857600"}})).ok();
    container.exec_sh(dd).ok().prints("0");
    change(&container, &json!({"unified": {"nosuch.max": "1"}})).is(1);
    assert_eq!(value(&container, "", "", "memory.max"), "104857600");
    container.end();
}
