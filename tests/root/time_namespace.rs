//! Time namespaces: new, with and without offsets, joined by path; exec goes with the container.

use serde_json::{Value, json};

use crate::namespaces::{host_ns, join, ns_of, path_of};
use crate::support::{Bundle, Cx, tests};

tests! {
    both a_new_one_has_the_hosts_clocks = "runc 1.1 has no time namespaces";
    host offsets_move_the_clocks = "runc 1.1 has no time namespaces";
    host offsets_with_a_new_user_namespace = "runc 1.1 has no time namespaces";
    host offsets_with_a_stage_process = "runc 1.1 has no time namespaces";
    host joined_by_path = "runc 1.1 has no time namespaces";
    host what_is_refused = "runc 1.1 has no time namespaces";
    host clocks_before_their_start_are_refused = "runc 1.1 has no time namespaces";
}

/// 10 days, far more than a test takes.
const SECS: i64 = 864_000;

fn with_time(bundle: &mut Bundle, offsets: Value) {
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", offsets);
}

fn both_clocks() -> Value {
    json!({"monotonic": {"secs": SECS}, "boottime": {"secs": SECS, "nanosecs": 5}})
}

fn host_uptime() -> i64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

/// The file shows zeros for an offset that was not set, in columns.
const OFFSETS: &str = "awk '{ print $1, $2, $3 }' /proc/self/timens_offsets";
const UPTIME: &str = "cut -d. -f1 /proc/uptime";

#[track_caller]
fn is_ahead(uptime: &str) {
    let ahead = uptime.trim().parse::<i64>().unwrap() - host_uptime();
    assert!((SECS - 60..=SECS).contains(&ahead), "{ahead} s ahead");
}

fn a_new_one_has_the_hosts_clocks(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    let container = cx.start(&bundle);
    let pid = container.pid().to_string();
    assert_ne!(ns_of(&pid, "time"), host_ns("time"));
    assert_eq!(ns_of(&pid, "time"), ns_of(&pid, "time_for_children"));
    container
        .exec_sh(OFFSETS)
        .ok()
        .prints("monotonic 0 0\nboottime 0 0");
    container
        .exec(&["readlink", "/proc/self/ns/time"])
        .ok()
        .prints(&ns_of(&pid, "time"));
    container.end();
}

fn offsets_move_the_clocks(cx: &Cx) {
    let mut bundle = cx.script(&format!("{OFFSETS}; {UPTIME}"));
    with_time(&mut bundle, both_clocks());
    let output = cx.run(&bundle).ok();
    let (offsets, uptime) = output.text().rsplit_once('\n').unwrap();
    assert_eq!(
        offsets,
        format!("monotonic {SECS} 0\nboottime {SECS} 5"),
        "{output}"
    );
    is_ahead(uptime);

    // The program of exec is in it as well.
    let mut bundle = cx.named_bundle("two");
    with_time(&mut bundle, json!({"boottime": {"secs": SECS}}));
    let container = cx.start(&bundle);
    let output = container.exec_sh(UPTIME).ok();
    is_ahead(output.text());
    container
        .exec_sh(OFFSETS)
        .ok()
        .prints(&format!("monotonic 0 0\nboottime {SECS} 0"));
    container.end();
}

fn offsets_with_a_new_user_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    with_time(&mut bundle, both_clocks());
    let container = cx.start(&bundle);
    is_ahead(container.exec_sh(UPTIME).ok().text());
    container.end();
}

/// A joined namespace beside a new user namespace: the init is the child of a stage process.
fn offsets_with_a_stage_process(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    bundle.user_namespace();
    join(&mut bundle, "ipc", &path_of(&first, "ipc"));
    bundle.without_mount("/dev/mqueue");
    // A new network namespace is the user namespace's own, so sysfs may be mounted.
    with_time(&mut bundle, both_clocks());
    bundle.sh(UPTIME);
    is_ahead(cx.run(&bundle).ok().text());
    first.end();
}

fn joined_by_path(cx: &Cx) {
    let mut bundle = cx.named_bundle("first");
    with_time(&mut bundle, both_clocks());
    let first = cx.start(&bundle);
    let path = path_of(&first, "time");
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, "time", &path);
    let second = cx.start(&bundle);
    let wanted = ns_of(&first.pid().to_string(), "time");
    assert_eq!(ns_of(&second.pid().to_string(), "time"), wanted);
    is_ahead(second.exec_sh(UPTIME).ok().text());
    second.end();

    // Together with a new user namespace it is joined by a stage process.
    let mut bundle = cx.named_bundle("third");
    join(&mut bundle, "time", &path);
    bundle.user_namespace();
    bundle.sh(UPTIME);
    is_ahead(cx.run(&bundle).ok().text());
    first.end();
}

fn what_is_refused(cx: &Cx) {
    let one = || json!({"boottime": {"secs": 1}});
    let mut bundle = cx.script("true");
    bundle.set("/linux/timeOffsets", one());
    cx.run(&bundle)
        .is(1)
        .says("linux.timeOffsets: time offsets without a time namespace");
    let mut bundle = cx.named_bundle("joined");
    join(&mut bundle, "time", "/proc/self/ns/time");
    bundle.set("/linux/timeOffsets", one());
    cx.run(&bundle).is(1).says("linux.timeOffsets: ");
    let mut bundle = cx.named_bundle("clock");
    with_time(&mut bundle, json!({"realtime": {"secs": 1}}));
    cx.run(&bundle)
        .is(1)
        .says("linux.timeOffsets[\\\"realtime\\\"]: is not a clock");
}

fn clocks_before_their_start_are_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    with_time(
        &mut bundle,
        json!({"boottime": {"secs": -host_uptime() - 1000}}),
    );
    cx.run(&bundle)
        .is(1)
        .says("linux.timeOffsets: set `boottime -")
        .says("math result not representable");
}
