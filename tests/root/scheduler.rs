//! Scheduling policy, I/O priority and CPU affinity, of the container's program and of exec.

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, tests};

tests! {
    both niceness_of_the_fair_policies = "runc 1.1 does not know the field";
    v2 real_time_policies = "runc 1.1 does not know the field";
    host real_time_without_a_share_is_a_clear_error = "runc 1.1 does not know the field";
    host real_time_with_a_share_on_v1 = "runc 1.1 does not know the field";
    v2 deadline_policy = "runc 1.1 does not know the field";
    v2 reset_on_fork = "runc 1.1 does not know the field";
    host parameters_of_another_policy_are_refused = "runc 1.1 does not know the field";
    host the_programs_user_needs_no_right = "runc 1.1 does not know the field";
    both io_priority = "runc 1.1 does not know the field";
    host io_priority_out_of_range_is_refused = "runc 1.1 does not know the field";
    both exec_by_process_file = "runc 1.1 does not know the field";
    host exec_affinity = "runc 1.1 does not know the field";
    host exec_affinity_of_the_container = "runc 1.1 does not know the field";
    host broken_affinity_lists = "runc 1.1 does not know the field";
    both the_callers_affinity_is_not_the_containers = "runc 1.1 keeps it";
}

/// Nice value, real-time priority and policy of the shell itself: what it forks may have others.
pub(super) const ATTRIBUTES: &str =
    "read -r line </proc/self/stat; set -- $line; echo ${19} ${40} ${41}";

/// The suite may be run by nice(1), and a real-time policy keeps the value.
fn without_niceness(cx: &Cx) {
    cx.host(&format!("renice 0 -p {}", std::process::id())).ok();
}

fn scheduler(cx: &Cx, value: Value) -> Bundle {
    without_niceness(cx);
    let mut bundle = cx.script(ATTRIBUTES);
    bundle.set("/process/scheduler", value);
    bundle
}

/// Each scheduler in turn, in the same bundle.
fn each(cx: &Cx, cases: Vec<(Value, &str)>) {
    without_niceness(cx);
    let mut bundle = cx.script(ATTRIBUTES);
    for (value, wanted) in cases {
        bundle.set("/process/scheduler", value);
        cx.run(&bundle).ok().prints(wanted);
    }
}

fn niceness_of_the_fair_policies(cx: &Cx) {
    let cases = vec![
        (json!({"policy": "SCHED_OTHER", "nice": -5}), "-5 0 0"),
        (json!({"policy": "SCHED_BATCH", "nice": 7}), "7 0 3"),
        (json!({"policy": "SCHED_IDLE"}), "0 0 5"),
    ];
    each(cx, cases);
}

fn real_time_policies(cx: &Cx) {
    let cases = vec![
        (json!({"policy": "SCHED_FIFO", "priority": 3}), "0 3 1"),
        (json!({"policy": "SCHED_RR", "priority": 99}), "0 99 2"),
    ];
    each(cx, cases);
}

/// The group of the suite has no share of real time, which only cgroup v1 deals out.
fn has_shares(cx: &Cx) -> bool {
    !cx.is_v2() && std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists()
}

fn real_time_without_a_share_is_a_clear_error(cx: &Cx) {
    if !has_shares(cx) {
        cx.skip("no cgroup v1 cpu controller with shares of real time");
    }
    cx.run(&scheduler(
        cx,
        json!({"policy": "SCHED_FIFO", "priority": 3}),
    ))
    .is(1)
    .says("process.scheduler: set SCHED_FIFO")
    .says("linux.resources.cpu.realtimeRuntime")
    .says("operation not permitted");
}

fn real_time_with_a_share_on_v1(cx: &Cx) {
    if !has_shares(cx) {
        cx.skip("no cgroup v1 cpu controller with shares of real time");
    }
    let mut bundle = scheduler(cx, json!({"policy": "SCHED_FIFO", "priority": 3}));
    // Directly below the root, the only group that has something to give.
    bundle.set("/linux/cgroupsPath", json!(format!("/{}", bundle.id)));
    bundle.set(
        "/linux/resources/cpu",
        json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 1000}),
    );
    cx.run(&bundle).ok().prints("0 3 1");
}

fn deadline_policy(cx: &Cx) {
    let value = json!({"policy": "SCHED_DEADLINE", "runtime": 100_000, "deadline": 50_000_000,
                       "period": 100_000_000});
    cx.run(&scheduler(cx, value)).ok().prints("0 0 6");
}

fn reset_on_fork(cx: &Cx) {
    let mut bundle = scheduler(
        cx,
        json!({"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    );
    // A subshell that is not the last command is a child, and /proc/self is its own.
    bundle.sh(&format!("{ATTRIBUTES}; ( {ATTRIBUTES} ); :"));
    cx.run(&bundle).ok().prints("0 3 1\n0 0 0");
}

fn parameters_of_another_policy_are_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    for (value, field) in [
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice: 20"),
        (
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "priority: ",
        ),
        (
            json!({"policy": "SCHED_FIFO", "priority": 1, "runtime": 5}),
            "runtime: ",
        ),
        (json!({"policy": "SCHED_RR"}), "priority: 0"),
    ] {
        bundle.set("/process/scheduler", value);
        let output = cx.run(&bundle).is(1);
        if cx.is_rundlet() {
            output.says(&format!("process.scheduler.{field}"));
        }
    }
    bundle.set("/process/scheduler", json!({"policy": "SCHED_ISO"}));
    cx.run(&bundle)
        .is(1)
        .says("SCHED_ISO (hint: Linux does not have this policy)");
}

/// CAP_SYS_NICE is not among the container's, and its program is not root.
fn the_programs_user_needs_no_right(cx: &Cx) {
    let mut bundle = scheduler(cx, json!({"policy": "SCHED_OTHER", "nice": -10}));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.set("/process/capabilities", json!({}));
    bundle.set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_RT", "priority": 0}),
    );
    cx.run(&bundle).ok().prints("-10 0 0");
}

#[track_caller]
fn has_io_priority(cx: &Cx, pid: i64, wanted: &str) {
    cx.host(&format!("ionice -p {pid}")).ok().prints(wanted);
}

fn io_priority(cx: &Cx) {
    for (class, wanted) in [
        ("IOPRIO_CLASS_RT", "realtime: prio 6"),
        ("IOPRIO_CLASS_BE", "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", "idle"),
    ] {
        let mut bundle = cx.named_bundle(class);
        bundle.set(
            "/process/ioPriority",
            json!({"class": class, "priority": 6}),
        );
        let container = cx.start(&bundle);
        has_io_priority(cx, container.pid(), wanted);
        container.end();
    }
}

fn io_priority_out_of_range_is_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    let value = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    bundle.set("/process/ioPriority", value);
    cx.run(&bundle)
        .is(1)
        .says("process.ioPriority.priority: 8 ");
}

fn process_with(cx: &Cx, script: &str, fields: Value) -> String {
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script],
                             "env": ["PATH=/bin"], "cwd": "/"});
    for (key, value) in fields.as_object().unwrap() {
        process[key] = value.clone();
    }
    let path = cx.file("process.json", &process.to_string());
    path.to_str().unwrap().to_owned()
}

fn exec_by_process_file(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "nice": 3}),
    );
    let container = cx.start(&bundle);
    // By flags, and by a file that says nothing: as the container.
    container.exec_sh(ATTRIBUTES).ok().prints("3 0 3");
    let file = process_with(cx, ATTRIBUTES, json!({}));
    cx.call(&["exec", "--process", &file, &container.id])
        .ok()
        .prints("3 0 3");
    let file = process_with(
        cx,
        &format!("{ATTRIBUTES}; : >/mnt/ready; read -r x </mnt/go"),
        json!({"scheduler": {"policy": "SCHED_OTHER", "nice": 9},
               "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}}),
    );
    container.exec(&["busybox", "mkfifo", "/mnt/go"]).ok();
    let pid_file = cx.dir.join("pid");
    let running = cx.spawn(cx.command(&[
        "exec",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--process",
        &file,
        &container.id,
    ]));
    let ready = bundle.rootfs().join("mnt/ready");
    crate::support::eventually("the process runs", 10, || ready.exists());
    crate::support::eventually("its pid is written", 10, || pid_file.exists());
    let pid = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    has_io_priority(cx, pid, "best-effort: prio 1");
    container.exec_sh("echo >/mnt/go").ok();
    running.wait().ok().prints("9 0 0");
    container.end();
}

const CPUS: &str = "grep Cpus_allowed_list /proc/self/status | cut -f2";

/// As the kernel lists them for this process.
fn own_cpus() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// The test runs on all CPUs it may have, two at least.
pub(super) fn needs_two_cpus(cx: &Cx) {
    if own_cpus() == "0" {
        cx.skip("one CPU");
    }
}

fn exec_affinity(cx: &Cx) {
    needs_two_cpus(cx);
    let container = cx.sleeper();
    for (affinity, wanted) in [
        (json!({"initial": "0", "final": "1"}), "1".to_owned()),
        (json!({"final": "0"}), "0".to_owned()),
        // CPUs that are not there do no harm beside one that is.
        (json!({"initial": "", "final": "1,1500"}), "1".to_owned()),
        (json!({"initial": "", "final": ""}), own_cpus()),
    ] {
        let file = process_with(cx, CPUS, json!({"execCPUAffinity": affinity}));
        cx.call(&["exec", "--process", &file, &container.id])
            .ok()
            .prints(&wanted);
    }
    let affinity = json!({"execCPUAffinity": {"final": "1500"}});
    let file = process_with(cx, "true", affinity);
    let output = cx.call(&["exec", "--process", &file, &container.id]);
    assert_ne!(output.code, 0, "{output}");
    output.says("process.execCPUAffinity.final: set (hint: none of these CPUs");
    container.end();
}

fn exec_affinity_of_the_container(cx: &Cx) {
    needs_two_cpus(cx);
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "1"}),
    );
    bundle.sh(&format!(
        "{CPUS} >/mnt/init; : >/mnt/ready; exec sleep 1000"
    ));
    let container = cx.start(&bundle);
    let mnt = bundle.rootfs().join("mnt");
    crate::support::eventually("the program runs", 10, || mnt.join("ready").exists());
    // It is for exec alone.
    let init = std::fs::read_to_string(mnt.join("init")).unwrap();
    assert_eq!(init.trim(), own_cpus());
    container.exec_sh(CPUS).ok().prints("1");
    container.end();
}

fn broken_affinity_lists(cx: &Cx) {
    let mut bundle = cx.script("true");
    for list in ["0-", "a", "3-1", "70000"] {
        bundle.set("/process/execCPUAffinity", json!({"initial": list}));
        let output = cx.run(&bundle).is(1);
        if cx.is_rundlet() {
            output.says("process.execCPUAffinity");
        }
    }
}

fn the_callers_affinity_is_not_the_containers(cx: &Cx) {
    needs_two_cpus(cx);
    let bundle = cx.script(CPUS);
    bundle.write();
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(&cx.runtime);
    command.arg("--root").arg(cx.root());
    command.args(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    cx.spawn(command).wait().ok().prints(&own_cpus());

    let container = cx.start(&cx.named_bundle("two"));
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(&cx.runtime);
    command.arg("--root").arg(cx.root());
    command.args(["exec", &container.id, "sh", "-c", CPUS]);
    cx.spawn(command).wait().ok().prints(&own_cpus());
    container.end();
}
