//! `exec`: a further process in a running container, by flags and by `--process`.

use serde_json::{Value, json};

use crate::support::{Container, Cx, eventually, tests};

tests! {
    both by_flags;
    both exit_codes;
    host standard_input;
    host flags_after_the_id_belong_to_the_program;
    host environment;
    host home_comes_from_passwd;
    host working_directory;
    host user_and_group;
    host user_is_a_number_or_refused = "runc 1.1.5 reads some of these";
    host additional_groups;
    host umask_is_the_containers = "runc's exec keeps the caller's umask";
    host capabilities_are_added;
    host capabilities_are_dropped_for_a_user;
    host no_new_privileges;
    host resource_limits;
    host oom_score;
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
    host seccomp_holds_too;
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
    host a_killed_program_gives_128_and_the_signal;
    host signals_are_passed_on;
    host preserved_descriptors;
    host the_shell_of_the_container_survives;
    host in_a_user_namespace;
}

fn by_flags(cx: &Cx) {
    let container = cx.sleeper();
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(container.status(), "running");
    container.end();
}

fn exit_codes(cx: &Cx) {
    let container = cx.sleeper();
    for code in [0, 1, 42, 255] {
        container.exec_sh(&format!("exit {code}")).is(code);
    }
    container.end();
}

fn standard_input(cx: &Cx) {
    let container = cx.sleeper();
    cx.spawn_with_input(cx.command(&["exec", &container.id, "cat"]), "to cat\n")
        .wait()
        .ok()
        .prints("to cat");
    container.end();
}

fn flags_after_the_id_belong_to_the_program(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec(&["echo", "-d", "--env", "A=b"])
        .ok()
        .prints("-d --env A=b");
    container.exec(&["echo", "--", "-x"]).ok().prints("-- -x");
    container.end();
}

fn environment(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/process/env", json!("KEPT=1"));
    bundle.push("/process/env", json!("CHANGED=old"));
    let container = cx.start(&bundle);
    let output = container
        .exec_with(&["--env", "CHANGED=new", "--env", "ADDED=a,b c"], &["env"])
        .ok();
    let has = |line: &str| output.stdout.lines().any(|seen| seen == line);
    assert!(
        has("KEPT=1") && has("CHANGED=new") && has("ADDED=a,b c") && !has("CHANGED=old"),
        "{output}"
    );
    container.end();
}

fn home_comes_from_passwd(cx: &Cx) {
    let container = cx.sleeper();
    container.exec_sh("echo $HOME").ok().prints("/root");
    container
        .exec_with(&["--user", "1000"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/home/guest");
    container
        .exec_with(&["--user", "4321"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/");
    container.end();
}

fn working_directory(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/cwd", json!("/mnt"));
    let container = cx.start(&bundle);
    container.exec(&["pwd"]).ok().prints("/mnt");
    container
        .exec_with(&["--cwd", "/tmp"], &["pwd"])
        .ok()
        .prints("/tmp");
    container.end();
}

fn user_and_group(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec_with(&["--user", "1000:50"], &["sh", "-c", "id -u; id -g"])
        .ok()
        .prints("1000\n50");
    container
        .exec_with(&["-u", "1000"], &["sh", "-c", "id -u; id -g"])
        .ok()
        .prints("1000\n0");
    container.end();
}

fn user_is_a_number_or_refused(cx: &Cx) {
    let container = cx.sleeper();
    for user in [
        "guest",
        "1x",
        "1:",
        ":1",
        "-1",
        "4294967295",
        "4294967296",
        "1:4294967296",
        "0x10",
        " 1",
    ] {
        container.exec_with(&["--user", user], &["id"]).is(255);
    }
    container.end();
}

fn additional_groups(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec_with(
            &[
                "-u",
                "1000:1000",
                "--additional-gids",
                "77",
                "--additional-gids",
                "88",
            ],
            &["id", "-G"],
        )
        .ok()
        .prints("1000 77 88");
    container.end();
}

fn umask_is_the_containers(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/user/umask", json!(0o27));
    let container = cx.start(&bundle);
    container.exec_sh("umask").ok().prints("0027");
    container.end();
}

const CAP_LINES: &str = "grep ^Cap /proc/self/status | tr -d '\\t'";

fn capability_sets(container: &Container<'_>, flags: &[&str]) -> [u64; 5] {
    let output = container.exec_with(flags, &["sh", "-c", CAP_LINES]).ok();
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        u64::from_str_radix(line.unwrap(), 16).unwrap()
    })
}

fn capabilities_are_added(cx: &Cx) {
    let container = cx.sleeper();
    let sys_ptrace = 1 << 19;
    let [_, before, ..] = capability_sets(&container, &[]);
    assert_eq!(before & sys_ptrace, 0);
    let [inheritable, permitted, effective, bounding, ambient] =
        capability_sets(&container, &["--cap", "CAP_SYS_PTRACE"]);
    assert_eq!(permitted, before | sys_ptrace);
    assert_eq!(effective, permitted);
    assert_eq!(bounding, permitted);
    // C2: never inheritable, never ambient.
    assert_eq!((inheritable, ambient), (0, 0));
    container.end();
}

fn capabilities_are_dropped_for_a_user(cx: &Cx) {
    let container = cx.sleeper();
    let [inheritable, permitted, effective, _, ambient] =
        capability_sets(&container, &["--user", "1000"]);
    assert_eq!((inheritable, permitted, effective, ambient), (0, 0, 0, 0));
    container.end();
}

fn no_new_privileges(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/noNewPrivileges", json!(false));
    let container = cx.start(&bundle);
    let script = "grep NoNewPrivs /proc/self/status | tr -dc 01";
    container.exec_sh(script).ok().prints("0");
    container
        .exec_with(&["--no-new-privs"], &["sh", "-c", script])
        .ok()
        .prints("1");
    container.end();
}

fn resource_limits(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 111}]),
    );
    let container = cx.start(&bundle);
    // runc, built with Go 1.19, sometimes raises the soft limit to the hard one.
    let output = container.exec_sh("ulimit -Sn; ulimit -Hn").ok();
    assert!(output.text() == "99\n111" || !cx.is_rundlet(), "{output}");
    container.end();
}

fn oom_score(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/oomScoreAdj", json!(321));
    let container = cx.start(&bundle);
    container
        .exec_sh("cat /proc/self/oom_score_adj")
        .ok()
        .prints("321");
    container.end();
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

fn seccomp_holds_too(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}),
    );
    let container = cx.start(&bundle);
    let output = container.exec(&["mkdir", "/mnt/x"]).is(1);
    assert!(output.stderr.contains("No space left"), "{output}");
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

fn a_killed_program_gives_128_and_the_signal(cx: &Cx) {
    let container = cx.sleeper();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("HUP", 129)] {
        container.exec_sh(&format!("kill -{signal} $$")).is(code);
    }
    container.end();
}

fn signals_are_passed_on(cx: &Cx) {
    let container = cx.sleeper();
    let script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let running = cx.spawn(cx.command(&["exec", &container.id, "sh", "-c", script]));
    eventually("the program is ready", 5, || {
        running.so_far().contains("ready")
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(running.child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
    running.wait().is(5);
    container.end();
}

fn preserved_descriptors(cx: &Cx) {
    let container = cx.sleeper();
    let file = cx.file("data", "from the host\n");
    cx.host(&format!(
        "exec 3<{}; {} --root {} exec --preserve-fds 1 {} sh -c 'cat <&3'",
        file.display(),
        cx.runtime.display(),
        cx.root().display(),
        container.id
    ))
    .ok()
    .prints("from the host");
    container.end();
}

fn the_shell_of_the_container_survives(cx: &Cx) {
    // exec'd processes that die must not become zombies of the runtime, nor end the container.
    let bundle = cx.script("trap 'exit 0' TERM; touch /mnt/ready; while :; do sleep 0.05; done");
    let container = cx.start(&bundle);
    eventually("the trap is set", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    for _ in 0..5 {
        container.exec_sh("kill -KILL $$").is(137);
    }
    container
        .exec_sh("grep -l '^State:.Z' /proc/[0-9]*/status | wc -l")
        .ok()
        .prints("0");
    container.end();
}

fn in_a_user_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    let container = cx.start(&bundle);
    container
        .exec_sh("id -u; readlink /proc/self/ns/user")
        .ok()
        .prints(&format!(
            "0\n{}",
            std::fs::read_link(format!("/proc/{}/ns/user", container.pid()))
                .unwrap()
                .display()
        ));
    container
        .exec_with(&["-u", "5:6"], &["sh", "-c", "id -u; id -g"])
        .ok()
        .prints("5\n6");
    container.end();
}
