//! `events`: statistics and OOM kills. What is printed is compared with runc in `against_runc`.

use std::process::Command;

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use crate::support::runtime::Running;
use crate::support::{Container, Cx, eventually, tests};

tests! {
    both statistics_once;
    both statistics_of_a_paused_container = "runc 1.1.5 streams nothing without the memory controller";
    both statistics_of_a_created_container;
    host what_was_set_and_used_is_shown;
    both statistics_again_and_again = "runc 1.1.5 streams nothing without the memory controller";
    both the_stream_ends_with_the_last_process = "runc 1.1.5 waits on v1 until the cgroup is removed";
    both an_oom_kill_is_told_at_once;
    host oom_kill_of_the_container_itself = "runc 1.1.5 waits on v1 until the cgroup is removed";
    v2 no_memory_controller_no_oom = "runc 1.1.5 fails without the controller";
    host a_stopped_container;
    host wrong_intervals;
    host a_reader_that_goes_away;
}

/// The lines printed so far, each as JSON. A last line without its end is not counted.
fn lines(text: &str) -> Vec<Value> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn once(container: &Container<'_>) -> Value {
    let output = container
        .cx
        .call(&["events", "--stats", &container.id])
        .ok();
    let mut lines = lines(&output.stdout);
    assert_eq!(lines.len(), 1, "{output}");
    let line = lines.remove(0);
    assert_eq!(line["type"], "stats");
    assert_eq!(line["id"], container.id);
    line["data"].clone()
}

fn stream(container: &Container<'_>, interval: &str) -> Running {
    let args = ["events", "--interval", interval, &container.id];
    container.cx.spawn(container.cx.command(&args))
}

fn count(stream: &Running, kind: &str) -> usize {
    let lines = lines(&stream.so_far());
    lines.iter().filter(|line| line["type"] == kind).count()
}

fn statistics_once(cx: &Cx) {
    let container = cx.sleeper();
    let data = once(&container);
    for key in [
        "cpu",
        "cpuset",
        "memory",
        "pids",
        "blkio",
        "hugetlb",
        "intel_rdt",
        "network_interfaces",
    ] {
        assert!(data.get(key).is_some(), "no {key} in {data}");
    }
    assert_eq!(data["pids"]["current"], 1);
    assert!(data["network_interfaces"].is_null());
    container.end();
}

fn statistics_of_a_paused_container(cx: &Cx) {
    let container = cx.sleeper();
    container.call("pause").ok();
    assert_eq!(once(&container)["pids"]["current"], 1);
    let stream = stream(&container, "20ms");
    eventually("lines of a paused container", 10, || {
        count(&stream, "stats") >= 2
    });
    container.call("resume").ok();
    container.end();
    stream.wait().ok();
}

fn statistics_of_a_created_container(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    // runc's own init has threads.
    let tasks = once(&container)["pids"]["current"].as_u64().unwrap();
    assert!(tasks == 1 || !cx.is_rundlet(), "{tasks}");
    container.end();
}

fn what_was_set_and_used_is_shown(cx: &Cx) {
    need(cx, "memory");
    need(cx, "pids");
    need(cx, "cpu");
    let mut bundle = limited(cx, "memory", json!({"limit": 64 * MIB, "swap": 96 * MIB}));
    bundle.set("/linux/resources/pids", json!({"limit": 42}));
    bundle.set(
        "/linux/resources/cpu",
        json!({"quota": 10000, "period": 50000}),
    );
    bundle.sh("dd if=/dev/zero of=/dev/shm/f bs=1M count=2 2>/dev/null; while :; do :; done");
    let container = cx.start(&bundle);
    let used = |data: &Value| data["memory"]["usage"]["usage"].as_u64().unwrap_or(0);
    eventually("memory and throttling are counted", 45, || {
        let data = once(&container);
        used(&data) >= 2 * MIB
            && data["cpu"]["throttling"]["throttledTime"].as_u64() > Some(1_000_000)
    });
    let data = once(&container);
    assert_eq!(data["memory"]["usage"]["limit"], 64 * MIB);
    assert_eq!(data["memory"]["swap"]["limit"], 96 * MIB);
    assert_eq!(data["pids"]["limit"], 42);
    let throttling = &data["cpu"]["throttling"];
    assert!(
        throttling["throttledTime"].as_u64().unwrap() > 1_000_000,
        "{throttling}"
    );
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 1_000_000);
    container.end();
}

fn statistics_again_and_again(cx: &Cx) {
    let container = cx.sleeper();
    let stream = stream(&container, "30ms");
    eventually("three lines", 15, || count(&stream, "stats") >= 3);
    for line in lines(&stream.so_far()) {
        assert_eq!(
            (&line["type"], &line["id"]),
            (&json!("stats"), &json!(container.id))
        );
        assert!(line["data"]["cpu"].is_object(), "{line}");
    }
    container.end();
    stream.wait().ok();
}

fn the_stream_ends_with_the_last_process(cx: &Cx) {
    // Without a pid namespace a second process outlives the first.
    let mut bundle = cx.script("sleep 1000 & : >/mnt/ready; wait");
    bundle.without_namespace("pid");
    let container = cx.start(&bundle);
    let ready = bundle.rootfs().join("mnt/ready");
    eventually("the second process", 10, || ready.exists());
    let mut stream = stream(&container, "30ms");
    eventually("a line", 15, || count(&stream, "stats") >= 1);
    let first = nix::unistd::Pid::from_raw(i32::try_from(container.pid()).unwrap());
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    container.wait_for("stopped");
    let before = count(&stream, "stats");
    eventually("lines of the second process", 15, || {
        count(&stream, "stats") > before + 1
    });
    assert!(
        stream.child.try_wait().unwrap().is_none(),
        "it has ended too early"
    );
    cx.call(&["kill", "--all", &container.id, "KILL"]).ok();
    stream.wait().ok();
    container.call("delete").ok();
}

const TOO_MUCH: &str = "dd if=/dev/zero of=/dev/null bs=80M count=1 2>/dev/null; echo $?";

fn an_oom_kill_is_told_at_once(cx: &Cx) {
    need(cx, "memory");
    let limits = json!({"limit": 24 * MIB, "swap": 24 * MIB});
    let container = cx.start(&limited(cx, "memory", limits));
    container.exec_sh(TOO_MUCH).ok().prints("137");
    // It says nothing of kills before it began. When it has begun nobody says, so kills until it tells the first.
    let stream = stream(&container, "1h");
    let mut kills = 0;
    eventually("the first kill is told", 15, || {
        container.exec_sh(TOO_MUCH).ok().prints("137");
        kills += 1;
        count(&stream, "oom") > 0
    });
    for _ in 0..2 {
        let before = count(&stream, "oom");
        container.exec_sh(TOO_MUCH).ok().prints("137");
        kills += 1;
        eventually("one more", 10, || count(&stream, "oom") > before);
    }
    // Never more than there were: runc repeats itself on v2 at every other event of the memory controller.
    let told = count(&stream, "oom");
    assert!(told <= kills || !cx.is_rundlet(), "{told} of {kills}");
    assert_eq!(
        lines(&stream.so_far())[0],
        json!({"type": "oom", "id": container.id})
    );
    assert_eq!(count(&stream, "stats"), 0, "an hour has not passed");
    container.end();
    stream.wait().ok();
}

fn oom_kill_of_the_container_itself(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = limited(cx, "memory", json!({"limit": 24 * MIB, "swap": 24 * MIB}));
    bundle.sh("while [ ! -e /mnt/go ]; do sleep 0.01; done; exec dd if=/dev/zero of=/dev/null bs=80M count=1");
    let container = cx.start(&bundle);
    let stream = stream(&container, "10ms");
    eventually("it has begun", 15, || count(&stream, "stats") > 0);
    std::fs::write(bundle.rootfs().join("mnt/go"), "").unwrap();
    let output = stream.wait().ok();
    let lines = lines(&output.stdout);
    assert!(lines.iter().any(|line| line["type"] == "oom"), "{output}");
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn no_memory_controller_no_oom(cx: &Cx) {
    let container = cx.sleeper();
    if cx
        .cgroup_dir("", &container.id)
        .join("memory.events")
        .exists()
    {
        container.end();
        cx.skip("the memory controller is on for every container here");
    }
    let stream = stream(&container, "30ms");
    eventually("a line", 15, || count(&stream, "stats") > 0);
    container.end();
    stream.wait().ok().says("no memory controller");
}

fn a_stopped_container(cx: &Cx) {
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    let says = format!("container with id {} is not running", container.id);
    container.call("events").is(1).says(&says);
    cx.call(&["events", "--stats", &container.id])
        .is(1)
        .says(&says);
    container.call("delete").ok();
    container.call("events").is(1).says("does not exist");
}

fn wrong_intervals(cx: &Cx) {
    let container = cx.sleeper();
    for interval in ["0", "0s", "-1s", "-0.5ms"] {
        for flags in [&["--stats"][..], &[]] {
            let flag = format!("--interval={interval}");
            let args = [&["events", &flag][..], flags, &[&container.id]].concat();
            let output = cx.call(&args).is(1);
            assert!(output.stdout.is_empty(), "{output}");
            output.says("duration interval must be greater than 0");
        }
    }
    for interval in ["5", "x", "5 s", "1d"] {
        let output = cx.call(&["events", "--interval", interval, &container.id]);
        assert_ne!(output.code, 0, "{output}");
        output.says("interval");
    }
    container.end();
}

fn a_reader_that_goes_away(cx: &Cx) {
    let container = cx.sleeper();
    let mut command = Command::new("sh");
    command.args(["-c", r#""$@" | head -n 1"#, "sh"]);
    command.arg(&cx.runtime).arg("--root").arg(cx.root());
    command.args(["events", "--interval", "20ms", &container.id]);
    let output = cx.spawn(command).wait().ok();
    assert_eq!(lines(&output.stdout).len(), 1, "{output}");
    container.end();
}
