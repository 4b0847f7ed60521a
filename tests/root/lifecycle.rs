//! The verbs and the states between them.

use std::process::Command;

use serde_json::json;

use crate::support::{Cx, alive, eventually, tests};

tests! {
    both create_start_kill_delete;
    both run_in_the_foreground;
    host run_gives_the_programs_exit_code;
    host run_gives_128_and_the_signal;
    host run_passes_signals_on;
    both run_detached;
    host run_keep;
    host pid_file_is_the_pid_alone;
    host bundle_is_the_working_directory;
    host bundle_may_be_relative;
    host standard_input_reaches_the_program;
    both delete_of_a_running_container_is_refused;
    both delete_of_a_created_container;
    both delete_force_of_a_running_container;
    both delete_force_of_a_paused_container;
    host delete_force_of_a_missing_container;
    host delete_twice;
    host verbs_on_a_missing_container;
    both second_start_is_refused;
    host start_of_a_stopped_container_is_refused;
    host an_id_is_taken_once;
    host an_id_can_be_used_again;
    v2 delete_removes_groups_made_inside;
    host state_directories_are_private;
    host a_torn_state_file = "runc lists it with an error and keeps the directory";
}

fn create_start_kill_delete(cx: &Cx) {
    let bundle = cx.script("touch /mnt/started; exec sleep 1000");
    let container = cx.create(&bundle);
    let marker = bundle.rootfs().join("mnt/started");
    assert_eq!(container.status(), "created");
    let pid = container.pid();
    assert!(alive(pid));
    assert!(!marker.exists(), "the program runs before start");

    container.call("start").ok();
    assert_eq!(container.status(), "running");
    assert_eq!(container.pid(), pid, "start keeps the process");
    eventually("the program runs", 5, || marker.exists());

    container.kill("KILL").ok();
    container.wait_for("stopped");
    assert_eq!(container.pid(), 0);
    assert!(!alive(pid));
    container.call("delete").ok();
    container.call("state").is(1).says("does not exist");
}

fn run_in_the_foreground(cx: &Cx) {
    let bundle = cx.script("echo out; echo err >&2");
    let output = cx.run(&bundle).ok();
    assert_eq!(output.stdout, "out\n");
    assert_eq!(output.stderr, "err\n");
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

fn run_gives_the_programs_exit_code(cx: &Cx) {
    for code in [1, 7, 127, 255] {
        cx.run(&cx_script_again(cx, &format!("exit {code}")))
            .is(code);
    }
}

/// The test's bundle with another script; the rootfs is made once.
fn cx_script_again(cx: &Cx, script: &str) -> crate::support::Bundle {
    let _ = std::fs::remove_dir_all(cx.dir.join("bundle-c"));
    cx.script(script)
}

fn run_gives_128_and_the_signal(cx: &Cx) {
    // Pid 1 of a pid namespace cannot kill itself, so without one.
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let mut bundle = cx_script_again(cx, &format!("kill -{signal} $$"));
        bundle.without_namespace("pid");
        cx.run(&bundle).is(code);
    }
}

fn run_passes_signals_on(cx: &Cx) {
    let bundle = cx.script("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    bundle.write();
    let running =
        cx.spawn(cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]));
    eventually("the program is ready", 5, || {
        running.so_far().contains("ready")
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(running.child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    running.wait().is(9);
}

fn run_detached(cx: &Cx) {
    let bundle = cx.bundle();
    let pid_file = cx.dir.join("pid");
    cx.run_with(
        &bundle,
        &["--detach", "--pid-file", pid_file.to_str().unwrap()],
    )
    .ok();
    let container = cx.container(&bundle.id);
    assert_eq!(container.status(), "running");
    assert_eq!(
        std::fs::read_to_string(pid_file).unwrap(),
        container.pid().to_string()
    );
    container.end();
}

fn run_keep(cx: &Cx) {
    let bundle = cx.script("exit 3");
    cx.run_with(&bundle, &["--keep"]).is(3);
    let container = cx.container(&bundle.id);
    assert_eq!(container.status(), "stopped");
    container.call("delete").ok();
}

fn pid_file_is_the_pid_alone(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    // A relative name is relative to where the runtime was started, not to the bundle.
    let mut command = cx.command(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--pid-file",
        "init.pid",
    ]);
    command.arg(&bundle.id).current_dir(&cx.dir);
    cx.spawn(command).wait().ok();
    let container = cx.container(&bundle.id);
    let text = std::fs::read_to_string(cx.dir.join("init.pid")).unwrap();
    assert_eq!(text, container.pid().to_string());
    container.end();
}

fn bundle_is_the_working_directory(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let mut command = cx.command(&["create", &bundle.id]);
    command.current_dir(&bundle.path);
    cx.spawn(command).wait().ok();
    let container = cx.container(&bundle.id);
    assert_eq!(container.state()["bundle"], bundle.path.to_str().unwrap());
    container.end();
}

fn bundle_may_be_relative(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let mut command = cx.command(&["create", "-b", "bundle-c", &bundle.id]);
    command.current_dir(&cx.dir);
    cx.spawn(command).wait().ok();
    let container = cx.container(&bundle.id);
    assert_eq!(container.state()["bundle"], bundle.path.to_str().unwrap());
    container.end();
}

fn standard_input_reaches_the_program(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["cat"]);
    bundle.write();
    let command = cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    cx.spawn_with_input(command, "line one\nline two\n")
        .wait()
        .ok()
        .prints("line one\nline two");
}

fn delete_of_a_running_container_is_refused(cx: &Cx) {
    let container = cx.sleeper();
    container.call("delete").is(1).says("not stopped");
    assert_eq!(container.status(), "running");
    container.end();
}

fn delete_of_a_created_container(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    let pid = container.pid();
    container.call("delete").ok();
    assert!(!alive(pid));
    container.call("state").is(1).says("does not exist");
}

fn delete_force_of_a_running_container(cx: &Cx) {
    let container = cx.sleeper();
    let pid = container.pid();
    cx.call(&["delete", "--force", &container.id]).ok();
    assert!(!alive(pid));
    container.call("state").is(1).says("does not exist");
}

fn delete_force_of_a_paused_container(cx: &Cx) {
    let container = cx.sleeper();
    container.call("pause").ok();
    cx.call(&["delete", "-f", &container.id]).ok();
}

fn delete_force_of_a_missing_container(cx: &Cx) {
    cx.call(&["delete", "--force", &cx.id("never")]).ok();
}

fn delete_twice(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    container.call("delete").ok();
    container.call("delete").is(1).says("does not exist");
    cx.call(&["delete", "--force", &container.id]).ok();
}

fn verbs_on_a_missing_container(cx: &Cx) {
    let id = cx.id("never");
    for verb in ["start", "state", "kill", "delete", "pause", "resume", "ps"] {
        cx.call(&[verb, &id]).is(1).says("does not exist");
    }
    cx.call(&["exec", &id, "true"])
        .is(255)
        .says("does not exist");
}

fn second_start_is_refused(cx: &Cx) {
    let container = cx.sleeper();
    container.call("start").is(1).says("cannot start");
    assert_eq!(container.status(), "running");
    container.end();
}

fn start_of_a_stopped_container_is_refused(cx: &Cx) {
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    container.call("start").is(1).says("cannot start");
    container.call("delete").ok();
}

fn an_id_is_taken_once(cx: &Cx) {
    let bundle = cx.bundle();
    let container = cx.start(&bundle);
    let pid = container.pid();
    cx.try_create(&bundle).is(1).says("exist");
    cx.run(&bundle).is(1).says("exist");
    assert_eq!(container.status(), "running");
    assert_eq!(container.pid(), pid);
    container.exec(&["true"]).ok();
    container.end();
}

fn an_id_can_be_used_again(cx: &Cx) {
    let bundle = cx.bundle();
    for _ in 0..3 {
        cx.start(&bundle).end();
    }
}

fn delete_removes_groups_made_inside(cx: &Cx) {
    let mut bundle =
        cx.script("mkdir -p /sys/fs/cgroup/a/b /sys/fs/cgroup/c; ls -d /sys/fs/cgroup/a/b");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["rw", "nosuid", "nodev", "noexec"],
    );
    cx.run(&bundle).ok().prints("/sys/fs/cgroup/a/b");
}

fn state_directories_are_private(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    let listing = Command::new("find")
        .arg(cx.root())
        .args(["-printf", "%y %m %p\n"])
        .output()
        .unwrap();
    for line in String::from_utf8(listing.stdout).unwrap().lines() {
        let mut words = line.split(' ');
        let (kind, mode) = (words.next().unwrap(), words.next().unwrap());
        let allowed: &[&str] = if kind == "d" {
            &["700", "711", "1700", "1711"]
        } else {
            &["600", "622", "666"]
        };
        assert!(
            allowed.contains(&mode) && (kind != "f" || mode == "600"),
            "{line}"
        );
    }
    container.end();
}

fn a_torn_state_file(cx: &Cx) {
    let other = cx.start(&cx.named_bundle("other"));
    let container = cx.start(&cx.bundle());
    let file = cx.root().join(&container.id).join("state.json");
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    cx.call(&["list"]).ok().has(&other.id);
    cx.call(&["delete", "--force", &container.id]).ok();
    other.end();
}
