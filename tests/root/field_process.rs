//! Every field of `process`, set and looked at. For `conformance/fields.md`; the edges of each are in other files.

use serde_json::json;

use super::scheduler::{ATTRIBUTES, needs_two_cpus};
use super::tty;
use crate::support::{Cx, tests};

tests! {
    host attributes;
    host arguments;
    host capability_sets;
    host terminal;
    host fair_scheduling_and_io = "runc 1.1 does not know the fields";
    v2 real_time_scheduling = "runc 1.1 does not know the field";
    v2 deadline_scheduling = "runc 1.1 does not know the field";
    host affinity_of_exec = "runc 1.1 does not know the field";
}

fn attributes(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 7], "username": "root"}),
    );
    bundle.set("/process/cwd", json!("/tmp"));
    bundle.set(
        "/process/env",
        json!(["PATH=/bin", "COLOUR=blue and green"]),
    );
    bundle.set("/process/oomScoreAdj", json!(123));
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.set("/process/commandLine", json!("echo other"));
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]),
    );
    cx.looks(
        &mut bundle,
        &[
            (&["process.user.uid"], "id -u", "1000"),
            (&["process.user.gid"], "id -g", "1001"),
            (&["process.user.additionalGids"], "id -G", "1001 5 7"),
            (&["process.user.umask"], "umask", "0027"),
            // For Windows: the ids hold, whatever name it has.
            (&["process.user.username"], "id -u", "1000"),
            (&["process.cwd"], "pwd", "/tmp"),
            (&["process.env"], "echo $COLOUR", "blue and green"),
            (&["process.oomScoreAdj"], "cat /proc/1/oom_score_adj", "123"),
            (
                &["process.noNewPrivileges"],
                "grep NoNewPrivs /proc/1/status | tr -dc 0-9",
                "1",
            ),
            // For Windows too: what runs are the args.
            (&["process.commandLine"], "head -c 2 /proc/1/cmdline", "sh"),
            (
                &[
                    "process.rlimits[].type",
                    "process.rlimits[].soft",
                    "process.rlimits[].hard",
                ],
                "ulimit -S -n; ulimit -H -n",
                "64\n128",
            ),
        ],
    );
}

fn arguments(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["printf", "<%s>", "two words", ""]);
    cx.run(&bundle).ok().prints("<two words><>");
    cx.observed(
        &bundle,
        &["process.args"],
        "the program prints `<two words><>`",
    );
}

fn capability_sets(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_CHOWN"],
        }),
    );
    // execve(2) makes new sets of them: the init that waits for `start` still has them as they were set.
    let container = cx.create(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    for (field, key, mask) in [
        (
            "bounding",
            "CapBnd",
            (1 << 0) | (1 << 5) | (1 << 13) | (1 << 18) | (1 << 27),
        ),
        (
            "permitted",
            "CapPrm",
            (1 << 0) | (1 << 5) | (1 << 13) | (1 << 18),
        ),
        ("effective", "CapEff", (1 << 0) | (1 << 5) | (1 << 13)),
        ("inheritable", "CapInh", (1 << 0) | (1 << 5)),
        ("ambient", "CapAmb", 1_u64),
    ] {
        let line = format!("{key}:\t{mask:016x}");
        assert!(
            status.lines().any(|seen| seen == line),
            "{line} in {status}"
        );
        cx.observed(
            &bundle,
            &[&format!("process.capabilities.{field}")],
            &format!(
                "`/proc/PID/status` of the created container has `{}`",
                line.replace('\t', " ")
            ),
        );
    }
    container.call("delete").ok();
}

fn terminal(cx: &Cx) {
    let mut bundle = cx.script("tty; stty size; read end");
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 111}));
    let (container, mut terminal) = tty::started(cx, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.expect("33 111");
    container.end();
    cx.observed(&bundle, &["process.terminal"], "`tty` prints `/dev/pts/0`");
    cx.observed(
        &bundle,
        &["process.consoleSize.height", "process.consoleSize.width"],
        "`stty size` prints `33 111`",
    );
}

fn fair_scheduling_and_io(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
    );
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "nice": 7}),
    );
    let container = cx.start(&bundle);
    let pid = container.pid();
    cx.host(&format!("ionice -p {pid}"))
        .ok()
        .prints("best-effort: prio 6");
    cx.observed(
        &bundle,
        &["process.ioPriority.class", "process.ioPriority.priority"],
        "`ionice -p PID` prints `best-effort: prio 6`",
    );
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[16], fields[38]), ("7", "3"), "{stat}");
    cx.observed(
        &bundle,
        &["process.scheduler.nice"],
        "field 19 (nice) of `/proc/PID/stat` is 7",
    );
    cx.observed(
        &bundle,
        &["process.scheduler.policy"],
        "field 41 (policy) of `/proc/PID/stat` is 3 (SCHED_BATCH)",
    );
    container.end();
}

/// In the private view of cgroup v2, whose groups need no share of real time.
fn real_time_scheduling(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    );
    // A subshell that is not the last command is a child.
    bundle.sh(&format!("{ATTRIBUTES}; ( {ATTRIBUTES} ); :"));
    let output = cx.run(&bundle).ok();
    let lines: Vec<Vec<&str>> = output
        .text()
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(
        (&lines[0][1..], &lines[1][1..]),
        (&["3", "1"][..], &["0", "0"][..]),
        "{output}"
    );
    cx.observed(
        &bundle,
        &["process.scheduler.priority"],
        "field 40 (rt_priority) of the program's `/proc/self/stat` is 3, field 41 (policy) is 1",
    );
    cx.observed(
        &bundle,
        &["process.scheduler.flags"],
        "its child has priority 0 and policy 0 again",
    );
}

fn deadline_scheduling(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_DEADLINE", "runtime": 200_000, "deadline": 50_000_000, "period": 100_000_000}),
    );
    let container = cx.start(&bundle);
    cx.host(&format!("chrt -p {} | sed 's/.*: //'", container.pid()))
        .ok()
        .prints("SCHED_DEADLINE\n0\n200000/50000000/100000000");
    cx.observed(
        &bundle,
        &[
            "process.scheduler.runtime",
            "process.scheduler.deadline",
            "process.scheduler.period",
        ],
        "`chrt -p PID` shows `SCHED_DEADLINE` and `200000/50000000/100000000`",
    );
    container.end();
}

const CPUS: &str = "grep Cpus_allowed_list /proc/self/status | cut -f2";

fn affinity_of_exec(cx: &Cx) {
    needs_two_cpus(cx);
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "1"}),
    );
    let container = cx.start(&bundle);
    container.exec_sh(CPUS).ok().prints("1");
    cx.observed(
        &bundle,
        &["process.execCPUAffinity.final"],
        "of a process of `exec`: `Cpus_allowed_list: 1`",
    );
    // The first affinity is gone when the program runs: what the kernel was asked, in order.
    let trace = cx.dir.join("trace");
    let mut command = std::process::Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=sched_setaffinity", "-o"])
        .arg(&trace)
        .arg(&cx.runtime)
        .arg("--root")
        .arg(cx.root())
        .args(["exec", &container.id, "true"]);
    cx.spawn(command).wait().ok();
    let trace = std::fs::read_to_string(trace).unwrap();
    let masks: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_once(", [")?.1.split_once(']'))
        .map(|(mask, _)| mask)
        .collect();
    assert_eq!(masks.first(), Some(&"0"), "{trace}");
    assert_eq!(masks.last(), Some(&"1"), "{trace}");
    cx.observed(
        &bundle,
        &["process.execCPUAffinity.initial"],
        "the first sched_setaffinity(2) of `exec` has the mask [0], the last [1]",
    );
    container.end();
}
