//! `exec` by `--process`, its failures, and what it joins.

use super::exec::CAP_LINES;
use crate::support::{Cx, eventually, tests};
use serde_json::{Value, json};

tests! {
    both by_process_file;
    host umask_of_a_process_file = "runc's exec keeps the caller's umask";
    host process_file_replaces_the_environment;
    host process_file_without_capabilities = "runc takes the container's when the object is absent";
    host broken_process_file;
    both detached_with_pid_file;
    host pid_file_only_if_started;
    both joins_all_namespaces;
    both joins_the_cgroup;
    both sees_the_containers_processes;
    both missing_container_and_wrong_states;
    both paused_is_refused;
    host ignore_paused;
    host no_program;
    host missing_program;
    host program_without_permission;
    host missing_working_directory;
    host defaults_come_from_the_state_not_the_bundle = "runc reads config.json again";
    v2 in_a_group_below;
    both escape_from_the_cgroup_is_refused;
}

fn process_file(cx: &Cx, process: &Value) -> String {
    cx.file("process.json", &process.to_string())
        .to_str()
        .unwrap()
        .to_owned()
}

fn by_process_file(cx: &Cx) {
    let container = cx.sleeper();
    let file = process_file(
        cx,
        &json!({
            "user": {"uid": 12, "gid": 34, "additionalGids": [56]},
            "args": ["sh", "-c", "id -u; id -g; id -G; pwd; echo $ONE"],
            "env": ["PATH=/bin", "ONE=1"],
            "cwd": "/tmp"
        }),
    );
    let wanted = "12\n34\n34 56\n/tmp\n1";
    cx.call(&["exec", "--process", &file, &container.id])
        .ok()
        .prints(wanted);
    cx.call(&["exec", "-p", &file, &container.id])
        .ok()
        .prints(wanted);
    container.end();
}

fn umask_of_a_process_file(cx: &Cx) {
    let container = cx.sleeper();
    let process = json!({"user": {"uid": 0, "gid": 0, "umask": 0o77}, "args": ["sh", "-c", "umask"],
                         "env": ["PATH=/bin"], "cwd": "/"});
    cx.call(&[
        "exec",
        "--process",
        &process_file(cx, &process),
        &container.id,
    ])
    .ok()
    .prints("0077");
    container.end();
}

fn process_file_replaces_the_environment(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/process/env", json!("OF_CONFIG=1"));
    let container = cx.start(&bundle);
    let process =
        json!({"user": {"uid": 0, "gid": 0}, "args": ["env"], "env": ["PATH=/bin"], "cwd": "/"});
    let output = cx
        .call(&[
            "exec",
            "--process",
            &process_file(cx, &process),
            &container.id,
        ])
        .ok();
    assert!(
        output.stdout.contains("PATH=/bin\n") && !output.stdout.contains("OF_CONFIG"),
        "{output}"
    );
    container.end();
}

fn process_file_without_capabilities(cx: &Cx) {
    let container = cx.sleeper();
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", CAP_LINES], "env": ["PATH=/bin"], "cwd": "/"});
    let file = process_file(cx, &process);
    cx.call(&["exec", "--process", &file, &container.id])
        .ok()
        .has("CapEff:0000000000000000");
    container.end();
}

fn broken_process_file(cx: &Cx) {
    let container = cx.sleeper();
    let exec = |file: &str| cx.call(&["exec", "--process", file, &container.id]).is(255);
    exec("/no/such/file").says("no such file or directory");
    exec(cx.file("a", "{not json").to_str().unwrap());
    exec(
        cx.file(
            "b",
            r#"{"args": [], "cwd": "/", "user": {"uid": 0, "gid": 0}}"#,
        )
        .to_str()
        .unwrap(),
    );
    exec(
        cx.file(
            "c",
            r#"{"args": ["true"], "cwd": "tmp", "user": {"uid": 0, "gid": 0}}"#,
        )
        .to_str()
        .unwrap(),
    );
    exec(
        cx.file(
            "d",
            r#"{"args": "true", "cwd": "/", "user": {"uid": 0, "gid": 0}}"#,
        )
        .to_str()
        .unwrap(),
    );
    container.end();
}

fn detached_with_pid_file(cx: &Cx) {
    let container = cx.sleeper();
    let pid_file = cx.dir.join("exec.pid");
    let script = "trap 'exit 0' TERM; echo up >/mnt/exec-ran; while :; do sleep 0.05; done";
    container
        .exec_with(
            &["--detach", "--pid-file", pid_file.to_str().unwrap()],
            &["sh", "-c", script],
        )
        .ok();
    let text = std::fs::read_to_string(&pid_file).unwrap();
    let pid: i64 = text.parse().expect("the pid alone");
    assert!(crate::support::alive(pid));
    let output = cx.call(&["ps", "--format", "json", &container.id]).ok();
    let pids: Vec<i64> = serde_json::from_str(&output.stdout).unwrap();
    assert!(pids.contains(&pid), "{output}");
    eventually("it runs", 5, || {
        cx.dir.join("bundle-c/rootfs/mnt/exec-ran").exists()
    });
    container.end();
    assert!(!crate::support::alive(pid));
}

fn pid_file_only_if_started(cx: &Cx) {
    let container = cx.sleeper();
    let pid_file = cx.dir.join("exec.pid");
    let path = pid_file.to_str().unwrap();
    container
        .exec_with(&["-d", "--pid-file", path], &["/no/such/program"])
        .is(255);
    assert!(!pid_file.exists());
    let leftover = std::fs::read_dir(&cx.dir)
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("exec.pid"));
    assert!(!leftover, "a temporary of the pid file stays");
    container.end();
}

fn joins_all_namespaces(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    let container = cx.start(&bundle);
    let pid = container.pid();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"] {
        let wanted = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        container
            .exec(&["readlink", &format!("/proc/self/ns/{kind}")])
            .ok()
            .prints(wanted.to_str().unwrap());
    }
    container.exec(&["hostname"]).ok().prints("inside");
    container.end();
}

fn joins_the_cgroup(cx: &Cx) {
    let container = cx.sleeper();
    let wanted = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let seen = container.exec(&["cat", "/proc/self/cgroup"]).ok();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&seen.stdout), sorted(&wanted));
    assert!(wanted.contains(&container.id), "{wanted}");
    container.end();
}

fn sees_the_containers_processes(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec_sh("tr '\\0' ' ' </proc/1/cmdline; set -- /proc/[0-9]*; echo $#")
        .ok()
        .prints("sleep 1000 2");
    container.end();
}

fn missing_container_and_wrong_states(cx: &Cx) {
    cx.call(&["exec", &cx.id("no"), "true"])
        .is(255)
        .says("does not exist");
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    container.exec(&["true"]).is(255).says("stopped");
    container.call("delete").ok();
}

fn paused_is_refused(cx: &Cx) {
    let container = cx.sleeper();
    container.call("pause").ok();
    container.exec(&["true"]).is(255).says("paused");
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.exec(&["true"]).ok();
    container.end();
}

fn ignore_paused(cx: &Cx) {
    let container = cx.sleeper();
    container.call("pause").ok();
    // The process lands in the frozen group; it runs once that is thawed.
    let mut command = cx.command(&["exec", "--ignore-paused", &container.id, "echo", "thawed"]);
    command.env("LANG", "C");
    let mut running = cx.spawn(command);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(
        running.child.try_wait().unwrap().is_none(),
        "it ran in a frozen group"
    );
    container.call("resume").ok();
    running.wait().ok().prints("thawed");
    container.end();
}

fn no_program(cx: &Cx) {
    let container = cx.sleeper();
    let output = container.exec(&[]);
    assert!(output.code == 255 || output.code == 1, "{output}");
    container.end();
}

fn missing_program(cx: &Cx) {
    let container = cx.sleeper();
    let lower = |output: crate::support::Output| output.stderr.to_lowercase();
    assert!(
        lower(container.exec(&["nosuchprogram"]).is(255))
            .contains("executable file not found in $path")
    );
    assert!(
        lower(container.exec(&["/no/such/program"]).is(255)).contains("no such file or directory")
    );
    container.end();
}

fn program_without_permission(cx: &Cx) {
    let container = cx.sleeper();
    let text = container
        .exec(&["/etc/passwd"])
        .is(255)
        .stderr
        .to_lowercase();
    assert!(text.contains("permission denied"), "{text}");
    let text = container.exec(&["/etc"]).is(255).stderr.to_lowercase();
    assert!(
        text.contains("permission denied") || text.contains("is a directory"),
        "{text}"
    );
    container.end();
}

fn missing_working_directory(cx: &Cx) {
    let container = cx.sleeper();
    let text = container
        .exec_with(&["--cwd", "/no/where"], &["true"])
        .is(255)
        .stderr
        .to_lowercase();
    assert!(
        text.contains("/no/where") && text.contains("no such file or directory"),
        "{text}"
    );
    container.exec_with(&["--cwd", "tmp"], &["true"]).is(255);
    container.end();
}

fn defaults_come_from_the_state_not_the_bundle(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/process/env", json!("WHICH=first"));
    let container = cx.start(&bundle);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.write();
    container
        .exec_sh("echo $WHICH; id -u")
        .ok()
        .prints("first\n0");
    container.end();
}

fn in_a_group_below(cx: &Cx) {
    let container = cx.sleeper();
    let dir = cx.cgroup_dir("pids", &container.id).join("sub");
    std::fs::create_dir(&dir).unwrap();
    let output = container
        .exec_with(&["--cgroup", "sub"], &["cat", "/proc/self/cgroup"])
        .ok();
    assert!(
        output.text().ends_with(&format!("{}/sub", container.id)),
        "{output}"
    );
    container.end();
}

fn escape_from_the_cgroup_is_refused(cx: &Cx) {
    let container = cx.sleeper();
    for path in [
        "..",
        "../..",
        "/..",
        "../x",
        "sub/../..",
        &format!("../{}-not", container.id),
    ] {
        let given = if cx.is_v2() {
            path.to_owned()
        } else {
            format!("pids:{path}")
        };
        container
            .exec_with(&["--cgroup", &given], &["true"])
            .is(255);
    }
    container
        .exec_with(&["--cgroup", "no-such-group"], &["true"])
        .is(255);
    container.end();
}
