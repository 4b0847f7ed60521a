//! An `update` that is refused or fails: it says why, nothing is changed, and nothing but what was asked is ever changed.

use std::fs;

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use super::limits::value;
use super::update::{change, limits_of, memory_pair, update};
use crate::support::{Container, Cx, alive, eventually, tests};

tests! {
    host flags_of_cgroup_v1;
    host memory_below_usage_names_the_usage = "runc 1.1.5 does not check on cgroup v1";
    host memory_that_can_not_be_taken_back = "runc 1.1 keeps no limit of memory and swap";
    host the_check_of_the_config_holds = "runc 1.1 forgets it";
    host a_failure_changes_nothing = "runc 1.1 sets back the record, not the files";
    both a_stopped_and_a_missing_container;
    host two_at_once_both_count = "runc has no lock";
    both wrong_documents_and_values;
    both nothing_asked_is_nothing_done;
    both obsolete_and_absent_features = "runc words it differently";
}

/// A device that no host has: the kernel refuses a limit for it.
const NO_DISK: (u32, u32) = (4000, 0);

/// A container that holds some 40 MiB in a file of its /dev/shm.
fn full(cx: &Cx, memory: Value) -> Container<'_> {
    need(cx, "memory");
    let mut bundle = limited(cx, "memory", memory);
    bundle.sh("dd if=/dev/zero of=/dev/shm/a bs=1M count=40 2>/dev/null; : >/mnt/ready; while :; do sleep 1000; done");
    let container = cx.start(&bundle);
    let ready = bundle.rootfs().join("mnt/ready");
    eventually("the container's memory is in use", 20, || ready.exists());
    container
}

fn memory_below_usage_names_the_usage(cx: &Cx) {
    let container = full(cx, json!({"limit": 200 * MIB, "swap": -1}));
    let before = memory_pair(&container);
    let asked = json!({"memory": {"limit": 16 * MIB, "checkBeforeUpdate": true}});
    let output = change(&container, &asked).is(1);
    let usage = output
        .stderr
        .split("rejecting memory limit 16777216 <= usage ")
        .nth(1);
    let usage = usage.unwrap_or_else(|| panic!("{output}"));
    let digits: String = usage.chars().take_while(char::is_ascii_digit).collect();
    assert!(digits.parse::<u64>().unwrap() >= 40 * MIB, "{output}");
    assert_eq!(memory_pair(&container), before);
    assert_eq!(container.status(), "running");
    container.end();
}

fn memory_that_can_not_be_taken_back(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("cgroup v2 kills instead");
    }
    // Nothing in /dev/shm can go to swap beyond the limit of both.
    let container = full(cx, json!({"limit": 64 * MIB, "swap": 64 * MIB}));
    let before = memory_pair(&container);
    let output = update(
        &container,
        &[
            "--pids-limit",
            "77",
            "--memory",
            "16m",
            "--memory-swap",
            "16m",
        ],
    )
    .is(1);
    assert!(
        output
            .stderr
            .contains("unable to set memory limit to 16777216 (current usage: "),
        "{output}"
    );
    assert!(output.stderr.contains("peak usage: "), "{output}");
    assert!(output.stderr.contains("no limit was changed"), "{output}");
    assert_eq!(memory_pair(&container), before);
    assert_eq!(container.status(), "running");
    container.end();
}

fn the_check_of_the_config_holds(cx: &Cx) {
    let container = full(
        cx,
        json!({"limit": 200 * MIB, "swap": -1, "checkBeforeUpdate": true}),
    );
    update(&container, &["--memory", "16m"])
        .is(1)
        .says("rejecting memory limit");
    update(&container, &["--memory", "190m"]).ok();
    container.end();
}

fn a_failure_changes_nothing(cx: &Cx) {
    for controller in [
        "pids",
        "memory",
        "cpu",
        if cx.is_v2() { "io" } else { "blkio" },
    ] {
        need(cx, controller);
    }
    let mut bundle = limited(cx, "pids", json!({"limit": 50}));
    bundle.set("/linux/resources/memory", json!({"limit": 64 * MIB}));
    let container = cx.start(&bundle);
    let all = || limits_of(&container);
    let record = || fs::read_to_string(cx.root().join(&container.id).join("state.json")).unwrap();
    let (before, written) = (all(), record());
    let (major, minor) = NO_DISK;
    let throttle = json!([{"major": major, "minor": minor, "rate": 1_048_576}]);
    let output = change(
        &container,
        &json!({
            "pids": {"limit": 31}, "memory": {"limit": 80 * MIB, "swap": 90 * MIB, "reservation": MIB},
            "cpu": {"shares": 99, "quota": 20000}, "blockIO": {"throttleReadBpsDevice": throttle}
        }),
    )
    .is(1);
    for words in [
        "no limit was changed",
        "linux.resources.blockIO.throttleReadBpsDevice[0].rate",
        "4000:0 1048576",
        "no such device",
    ] {
        assert!(
            output.stderr.contains(words) || (cx.is_v2() && words.starts_with("4000")),
            "no {words:?} in {output}"
        );
    }
    assert_eq!(all(), before);
    assert_eq!(record(), written);
    assert_eq!(container.status(), "running");
    container.end();
}

fn a_stopped_and_a_missing_container(cx: &Cx) {
    let container = cx.sleeper();
    let pid = container.pid();
    container.kill("KILL").ok();
    eventually("it has stopped", 10, || {
        !alive(pid) && container.status() == "stopped"
    });
    update(&container, &["--pids-limit", "9"])
        .is(1)
        .says("container not running");
    container.call("delete").ok();
    update(&container, &["--pids-limit", "9"])
        .is(1)
        .says("does not exist");
}

fn two_at_once_both_count(cx: &Cx) {
    need(cx, "pids");
    need(cx, "memory");
    let container = cx.sleeper();
    for round in 1..=8u64 {
        let (pids, memory) = ((20 + round).to_string(), (64 + round) * MIB);
        let memory_text = memory.to_string();
        let one = cx.spawn(cx.command(&["update", "--pids-limit", &pids, &container.id]));
        let two = cx.spawn(cx.command(&["update", "--memory", &memory_text, &container.id]));
        one.wait().ok();
        two.wait().ok();
        let text = fs::read_to_string(cx.root().join(&container.id).join("state.json")).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["resources"]["pids"], 20 + round, "{text}");
        assert_eq!(record["resources"]["memory"]["limit"], memory, "{text}");
    }
    container.end();
}

fn wrong_documents_and_values(cx: &Cx) {
    let container = cx.sleeper();
    for (text, words) in [
        ("", "standard input"),
        ("{", "standard input"),
        (r#"{"pids":{"limit":"many"}}"#, "pids.limit"),
        (r#"{"cpu":{"shares":-1}}"#, "cpu.shares"),
        (r#"{"memory":{"limit":1.5}}"#, "memory.limit"),
    ] {
        let command = cx.command(&["update", "-r", "-", &container.id]);
        let output = cx.spawn_with_input(command, text).wait().is(1);
        assert!(
            output.stderr.contains(words) || !cx.is_rundlet(),
            "no {words:?} in {output}"
        );
    }
    for flags in [
        &["--memory", "much"][..],
        &["--memory", "-5"],
        &["--cpu-share", "-1"],
        &["--cpu-quota", "x"],
        &["--cpu-idle", "x"],
        &["--pids-limit", "x"],
        &["--blkio-weight", "x"],
        &["--resources", "/nonexistent/file"],
        &["--nosuchflag", "1"],
    ] {
        let output = update(&container, flags).is(1);
        let name = flags[0].trim_start_matches('-');
        assert!(
            output.stderr.contains(name) || !cx.is_rundlet(),
            "no {name} in {output}"
        );
    }
    if cx.is_rundlet() {
        update(&container, &["--blkio-weight", "5"])
            .is(1)
            .says("linux.resources.blockIO.weight: 5 is outside 10 to 1000");
        update(&container, &["--cpu-idle", "2"])
            .is(1)
            .says("linux.resources.cpu.idle: 2 is neither 0 nor 1");
    }
    cx.call(&["update"]).is(1);
    cx.call(&["update", &container.id, "more"]).is(1);
    assert_eq!(container.status(), "running");
    container.end();
}

fn nothing_asked_is_nothing_done(cx: &Cx) {
    let container = cx.sleeper();
    let output = update(&container, &[]).ok();
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output}"
    );
    assert_eq!(container.status(), "running");
    container.end();
}

fn obsolete_and_absent_features(cx: &Cx) {
    let container = cx.sleeper();
    let output = update(
        &container,
        &["--kernel-memory", "64m", "--kernel-memory-tcp=1m"],
    )
    .ok();
    assert_eq!(output.stderr.matches("ignored").count(), 2, "{output}");
    let output = change(&container, &json!({"memory": {"kernel": 5_000_000}})).ok();
    assert!(
        output
            .stderr
            .contains("linux.resources.memory.kernel: ignored"),
        "{output}"
    );
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        let output = update(&container, &[flag]).is(1);
        assert!(output.stderr.contains("Intel RDT"), "{output}");
    }
    container.end();
}

fn flags_of_cgroup_v1(cx: &Cx) {
    if cx.is_v2() {
        // Not dropped in silence.
        let container = cx.sleeper();
        for flag in ["--cpu-rt-period=100000", "--cpu-rt-runtime=5"] {
            let output = update(&container, &[flag]);
            assert!(output.code == 1 || !cx.is_rundlet(), "{output}");
        }
        container.end();
        return;
    }
    need(cx, "cpu");
    let container = cx.sleeper();
    let file = |name| value(&container, "cpu", name, "");
    if fs::read_to_string(cx.cgroup_dir("cpu", &container.id).join("cpu.rt_period_us")).is_err() {
        container.end();
        cx.skip("this kernel has no realtime groups");
    }
    update(&container, &["--cpu-rt-period", "900000"]).ok();
    assert_eq!(file("cpu.rt_period_us"), "900000");
    // The group above has no realtime time to give.
    let output = update(
        &container,
        &["--cpu-rt-runtime", "1000", "--cpu-share", "77"],
    )
    .is(1);
    if cx.is_rundlet() {
        assert!(
            output
                .stderr
                .contains("linux.resources.cpu.realtimeRuntime"),
            "{output}"
        );
        assert_eq!(file("cpu.shares"), "1024", "not set back");
    }
    container.end();
}
