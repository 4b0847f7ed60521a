//! `exec`: a further process in a running container, by flags and by `--process`.

use serde_json::json;

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
    host seccomp_holds_too;
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

pub(crate) const CAP_LINES: &str = "grep ^Cap /proc/self/status | tr -d '\\t'";

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
