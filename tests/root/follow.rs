//! `events --follow-all`: what becomes of all containers of a state root is told, each once and in its order.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use crate::support::runtime::Running;
use crate::support::{Bundle, Container, Cx, eventually, tests};

tests! {
    both a_life_is_told_in_its_order = "runc's events are of one container";
    both a_freeze_from_outside_is_told = "runc's events are of one container";
    both statistics_of_all_at_the_interval = "runc's events are of one container";
    both one_id_again_and_again = "runc's events are of one container";
    host an_oom_kill_is_told = "runc's events are of one container";
    host what_fails_or_is_over_at_once_is_told_to_be_gone = "runc's events are of one container";
    host before_there_is_a_state_root = "runc's events are of one container";
    both nothing_happens_nothing_runs = "runc's events are of one container";
    host many_at_once_are_all_told = "runc's events are of one container";
    host with_one_container_it_is_refused = "runc's events are of one container";
}

fn lines(text: &str) -> Vec<Value> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |line: &str| serde_json::from_str(line).expect("a line is JSON");
    whole.lines().map(parse).collect()
}

/// The follower, which has begun when it tells of a container that was there; that one is ended last.
fn follow<'a>(cx: &'a Cx, interval: &str) -> (Running, Container<'a>) {
    let there = cx.start(&cx.named_bundle("there"));
    let follower = cx.spawn(cx.command(&["events", "--follow-all", "--interval", interval]));
    eventually("what is there is told", 15, || {
        let lines = lines(&follower.so_far());
        lines.iter().any(|line| {
            line["type"] == "present"
                && line["id"] == there.id
                && line["data"]["status"] == "running"
        })
    });
    (follower, there)
}

fn of(follower: &Running, id: &str) -> Vec<Value> {
    let mut lines = lines(&follower.so_far());
    lines.retain(|line| line["id"] == *id && line["type"] != "stats");
    lines
}

fn kinds(follower: &Running, id: &str) -> String {
    let lines = of(follower, id);
    let kinds: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    kinds.join(" ")
}

/// On v1 a delete freezes what it kills for a moment, which may be seen or not.
fn but_freezes(kinds: &str) -> String {
    let kinds = kinds.split(' ');
    let others: Vec<&str> = kinds
        .filter(|kind| !["paused", "resumed"].contains(kind))
        .collect();
    others.join(" ")
}

#[track_caller]
fn tells(follower: &Running, id: &str, expected: &str) {
    await_told(|| kinds(follower, id), expected);
}

#[track_caller]
fn tells_but_freezes(follower: &Running, id: &str, expected: &str) {
    await_told(|| but_freezes(&kinds(follower, id)), expected);
}

#[track_caller]
fn await_told(told: impl Fn() -> String, expected: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while told() != expected {
        assert!(Instant::now() < end, "told: {:?}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The follower has not failed, and had nothing to complain about.
fn stop(mut follower: Running, there: Container<'_>) {
    assert!(follower.child.try_wait().unwrap().is_none(), "it has ended");
    follower.child.kill().unwrap();
    let output = follower.wait();
    assert!(output.stderr.is_empty(), "{output}");
    there.end();
}

fn a_life_is_told_in_its_order(cx: &Cx) {
    let (follower, there) = follow(cx, "1h");
    let bundle = cx.bundle();
    let container = cx.create(&bundle);
    let id = container.id.clone();
    tells(&follower, &id, "created");
    let pid = container.pid();
    container.call("start").ok();
    tells(&follower, &id, "created started");
    container.call("pause").ok();
    tells(&follower, &id, "created started paused");
    container.call("resume").ok();
    tells(&follower, &id, "created started paused resumed");
    container.kill("KILL").ok();
    tells(&follower, &id, "created started paused resumed stopped");
    container.call("delete").ok();
    let all = "created started paused resumed stopped deleted";
    tells(&follower, &id, all);
    let lines = of(&follower, &id);
    let bundle = bundle.path.to_str().unwrap();
    assert_eq!(
        lines[0]["data"],
        json!({"status": "created", "pid": pid, "bundle": bundle})
    );
    assert_eq!(
        lines[5]["data"],
        json!({"status": "stopped", "pid": 0, "bundle": bundle})
    );
    let times: Vec<&str> = lines
        .iter()
        .map(|line| line["time"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        !follower.so_far().contains("\"stats\""),
        "an hour has not passed"
    );
    // One that is never started.
    let other = cx.create(&cx.named_bundle("other"));
    tells(&follower, &other.id, "created");
    cx.call(&["delete", &other.id]).ok();
    tells_but_freezes(&follower, &other.id, "created stopped deleted");
    stop(follower, there);
}

fn a_freeze_from_outside_is_told(cx: &Cx) {
    let (follower, there) = follow(cx, "1h");
    let container = cx.sleeper();
    tells(&follower, &container.id, "created started");
    let dir = cx.cgroup_dir("freezer", &container.id);
    let (file, on, off) = if cx.is_v2() {
        ("cgroup.freeze", "1", "0")
    } else {
        ("freezer.state", "FROZEN", "THAWED")
    };
    std::fs::write(dir.join(file), on).unwrap();
    tells(&follower, &container.id, "created started paused");
    std::fs::write(dir.join(file), off).unwrap();
    tells(&follower, &container.id, "created started paused resumed");
    container.end();
    stop(follower, there);
}

fn statistics_of_all_at_the_interval(cx: &Cx) {
    let (follower, there) = follow(cx, "30ms");
    let container = cx.create(&cx.bundle());
    let count = |id: &str| {
        let lines = lines(&follower.so_far());
        lines
            .iter()
            .filter(|line| line["id"] == *id && line["type"] == "stats")
            .filter(|line| line["data"]["pids"]["current"] == 1 && line["time"].is_string())
            .count()
    };
    eventually("statistics of both", 15, || {
        count(&there.id) > 2 && count(&container.id) > 2
    });
    // Once, in the form of one container.
    let once = cx.call(&["events", "--follow-all", "--stats"]).ok();
    let once = lines(&once.stdout);
    assert_eq!(once.len(), 2);
    assert!(once.iter().all(|line| line["type"] == "stats"));
    let alone = cx.call(&["events", "--stats", &there.id]).ok();
    let keys = |value: &Value| -> Vec<String> {
        value["data"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&once[1]), keys(&lines(&alone.stdout)[0]));
    container.end();
    stop(follower, there);
}

fn one_id_again_and_again(cx: &Cx) {
    let (follower, there) = follow(cx, "1h");
    let bundle = cx.bundle();
    for _ in 0..5 {
        cx.create(&bundle);
        cx.call(&["delete", "--force", &bundle.id]).ok();
    }
    let ends = || kinds(&follower, &bundle.id).matches("deleted").count();
    eventually("five ends", 15, || ends() == 5);
    // A look may come too late for one of them, but nothing is told of what was not, and no end twice.
    let told = but_freezes(&kinds(&follower, &bundle.id));
    for life in told.split("deleted").map(str::trim) {
        assert!(matches!(life, "" | "created stopped"), "{told}");
    }
    cx.create(&bundle).end();
    eventually("six ends", 15, || ends() == 6);
    stop(follower, there);
}

fn an_oom_kill_is_told(cx: &Cx) {
    need(cx, "memory");
    let (follower, there) = follow(cx, "1h");
    let container = cx.start(&limited(
        cx,
        "memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    ));
    tells(&follower, &container.id, "created started");
    let script = "dd if=/dev/zero of=/dev/null bs=80M count=1 2>/dev/null; echo $?";
    container.exec_sh(script).ok().prints("137");
    tells(&follower, &container.id, "created started oom");
    container.exec_sh(script).ok().prints("137");
    tells(&follower, &container.id, "created started oom oom");
    container.end();
    stop(follower, there);
}

fn what_fails_or_is_over_at_once_is_told_to_be_gone(cx: &Cx) {
    let (follower, there) = follow(cx, "1h");
    let mut bundle = cx.bundle();
    bundle.args(&["nosuchprogram"]);
    assert_ne!(cx.try_create(&bundle).code, 0);
    tells(&follower, &bundle.id, "deleted");
    let mut short = cx.named_bundle("short");
    short.args(&["true"]);
    cx.run(&short).ok();
    eventually("its end", 15, || {
        kinds(&follower, &short.id).ends_with("deleted")
    });
    // A directory that is no container, a file, and a record that nobody can read.
    let root = cx.root();
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    std::fs::remove_file(root.join("file")).unwrap();
    std::fs::remove_dir(root.join("empty")).unwrap();
    eventually("its end", 15, || kinds(&follower, "empty") == "deleted");
    assert_eq!(kinds(&follower, "file"), "");
    stop(follower, there);
}

fn before_there_is_a_state_root(cx: &Cx) {
    assert!(!cx.root().exists());
    let mut follower = cx.spawn(cx.command(&["events", "--follow-all", "--interval", "1h"]));
    eventually("the root is made", 15, || cx.root().is_dir());
    let mode = std::fs::metadata(cx.root()).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
    let container = cx.sleeper();
    // The root may have been seen before the follower looked into it: then the container was there already.
    eventually("it is told", 15, || {
        let told = kinds(&follower, &container.id);
        told.contains("started") || told.contains("present")
    });
    container.end();
    assert!(follower.child.try_wait().unwrap().is_none());
    // Nothing can be told of a root that is no more.
    std::fs::remove_dir(cx.root()).unwrap();
    follower.wait().is(1).says("--root: the state root is gone");
}

/// How often it has given up the CPU: once for each thing that woke it.
fn switches(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn nothing_happens_nothing_runs(cx: &Cx) {
    let (follower, there) = follow(cx, "1h");
    let pid = follower.child.id();
    let quiet = || {
        let ticks = |path: &Path| {
            let stat = std::fs::read_to_string(path).unwrap();
            let fields: Vec<u64> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split(' ')
                .filter_map(|f| f.parse().ok())
                .collect();
            fields[10] + fields[11]
        };
        let path = format!("/proc/{pid}/stat");
        let before = (switches(pid), ticks(Path::new(&path)));
        std::thread::sleep(Duration::from_millis(300));
        (switches(pid), ticks(Path::new(&path))) == before
    };
    eventually("it sleeps", 30, quiet);
    let container = cx.sleeper();
    container.kill("KILL").ok();
    tells(&follower, &container.id, "created started stopped");
    eventually("it sleeps beside a stopped container", 30, quiet);
    // A delete that was killed half-way leaves the directory without its record.
    let other = cx.start(&cx.named_bundle("other"));
    tells(&follower, &other.id, "created started");
    let record = cx.root().join(&other.id).join("state.json");
    let kept = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    cx.host(&format!(
        "kill -9 {}",
        of(&follower, &other.id)[0]["data"]["pid"]
    ))
    .ok();
    tells(&follower, &other.id, "created started stopped");
    eventually("it sleeps beside a broken one", 30, quiet);
    std::fs::write(&record, kept).unwrap();
    cx.call(&["delete", &other.id]).ok();
    tells(&follower, &other.id, "created started stopped deleted");
    container.call("delete").ok();
    stop(follower, there);
}

fn many_at_once_are_all_told(cx: &Cx) {
    let (follower, there) = follow(cx, "20ms");
    let bundles: Vec<Bundle> = (0..8).map(|n| cx.named_bundle(&format!("n{n}"))).collect();
    let running: Vec<Running> = bundles
        .iter()
        .map(|bundle| {
            bundle.write();
            let path = bundle.path.to_str().unwrap();
            cx.spawn(cx.command(&["run", "--detach", "--bundle", path, &bundle.id]))
        })
        .collect();
    for run in running {
        run.wait().ok();
    }
    for bundle in &bundles {
        tells(&follower, &bundle.id, "created started");
    }
    for bundle in &bundles {
        cx.call(&["delete", "--force", &bundle.id]).ok();
    }
    for bundle in &bundles {
        tells_but_freezes(&follower, &bundle.id, "created started stopped deleted");
    }
    stop(follower, there);
}

fn with_one_container_it_is_refused(cx: &Cx) {
    cx.call(&["events", "--follow-all", "one"])
        .is(1)
        .says("requires exactly 0 argument(s)");
    cx.call(&["events"])
        .is(1)
        .says("requires exactly 1 argument(s)");
    cx.call(&["events", "--follow-all", "--interval", "0s"])
        .is(1)
        .says("must be greater than 0");
    assert!(!cx.root().exists());
}
