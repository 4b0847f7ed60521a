//! Hooks that fail, hang, are missing, or leave something behind (H1).

use super::hooks::hook;
use super::hooks::log_dir;
use super::hooks::read;
use super::hooks::shell;
use crate::support::{Cx, tests};
use serde_json::json;
use std::time::Instant;

tests! {
    both failing_create_runtime_undoes_all;
    host failing_prestart_undoes_all;
    host failing_create_container_undoes_all;
    host failing_start_container_ends_the_container;
    host failing_poststart_ends_the_container = "runc 1.1.5 runs it in another place";
    host failing_poststop_does_not_stop_delete;
    host later_hooks_do_not_run_after_a_failure;
    host hanging_hook_is_killed;
    host hanging_hooks_children_are_killed = "runc 1.1.5 kills the hook alone";
    host a_hook_may_leave_a_process = "runc 1.1.5 waits for the end of the hook's output";
    host a_hook_that_does_not_read;
    host the_hooks_words_are_in_the_error;
    host missing_hook;
    host hook_without_permission;
    host relative_hook_is_refused;
}

/// create with a hook of this kind that fails; nothing may be left.
fn failing_in_create(cx: &Cx, kind: &str) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(&mut bundle, kind, "exit 3");
    hook(
        &mut bundle,
        "poststop",
        &format!("echo poststop >>{}/poststop", dir.display()),
    );
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("hook"), "{output}");
    assert!(output.stderr.contains(kind) || !cx.is_rundlet(), "{output}");
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
    let left = crate::support::leak::settle(cx);
    assert!(left.is_empty(), "{left:?}");
}

fn failing_create_runtime_undoes_all(cx: &Cx) {
    failing_in_create(cx, "createRuntime");
}

fn failing_prestart_undoes_all(cx: &Cx) {
    failing_in_create(cx, "prestart");
}

fn failing_create_container_undoes_all(cx: &Cx) {
    failing_in_create(cx, "createContainer");
}

fn failing_start_container_ends_the_container(cx: &Cx) {
    let mut bundle = cx.script("touch /mnt/ran; sleep 1000");
    hook(&mut bundle, "startContainer", "exit 3");
    let container = cx.create(&bundle);
    let _ = container.call("start");
    container.wait_for("stopped");
    assert!(!bundle.rootfs().join("mnt/ran").exists(), "the program ran");
    container.call("delete").ok();
}

fn failing_poststart_ends_the_container(cx: &Cx) {
    let mut bundle = cx.bundle();
    hook(&mut bundle, "poststart", "exit 3");
    let container = cx.create(&bundle);
    container.call("start").is(1).says("poststart");
    // Killed; whether it is also gone, implementations differ.
    let state = container.call("state");
    if state.code == 0 {
        container.wait_for("stopped");
        container.call("delete").ok();
    }
}

fn failing_poststop_does_not_stop_delete(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(&mut bundle, "poststop", "exit 3");
    hook(
        &mut bundle,
        "poststop",
        &format!("echo second >{}/second", dir.display()),
    );
    let container = cx.start(&bundle);
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.call("delete").ok();
    container.call("state").is(1);
    assert!(
        read(&dir, "second") == "second\n" || !cx.is_rundlet(),
        "the later hook did not run"
    );
}

fn later_hooks_do_not_run_after_a_failure(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(&mut bundle, "createRuntime", "exit 1");
    hook(
        &mut bundle,
        "createRuntime",
        &format!("touch {}/later", dir.display()),
    );
    hook(
        &mut bundle,
        "createContainer",
        &format!("touch {}/later", dir.display()),
    );
    cx.try_create(&bundle).is(1);
    assert!(!dir.join("later").exists());
}

fn hanging_hook_is_killed(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mut slow = shell("exec sleep 100");
    slow["timeout"] = json!(1);
    bundle.push("/hooks/createRuntime", slow);
    let start = Instant::now();
    let output = cx.try_create(&bundle).is(1);
    let seconds = start.elapsed().as_secs_f32();
    assert!((0.9..5.0).contains(&seconds), "{seconds} s");
    assert!(
        output.stderr.contains("time")
            || output.stderr.contains("1s")
            || output.stderr.contains("1.0"),
        "{output}"
    );
}

fn hanging_hooks_children_are_killed(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mut slow = shell("sleep 100 & sleep 100 & wait");
    slow["timeout"] = json!(1);
    bundle.push("/hooks/createRuntime", slow);
    let start = Instant::now();
    cx.try_create(&bundle).is(1);
    assert!(start.elapsed().as_secs() < 5);
}

fn a_hook_may_leave_a_process(cx: &Cx) {
    let mut bundle = cx.bundle();
    hook(&mut bundle, "createRuntime", "sleep 3 & exit 0");
    let start = Instant::now();
    let container = cx.create(&bundle);
    assert!(
        start.elapsed().as_secs_f32() < 2.0,
        "waited for a process that the hook left"
    );
    container.end();
    std::thread::sleep(std::time::Duration::from_secs(2));
}

fn a_hook_that_does_not_read(cx: &Cx) {
    let mut bundle = cx.bundle();
    // More state than a pipe holds.
    bundle.config["annotations"] = json!({"large": "x".repeat(200_000)});
    bundle.push("/hooks/createRuntime", json!({"path": "/bin/true"}));
    hook(&mut bundle, "createRuntime", "exec <&-; exit 0");
    cx.create(&bundle).end();
}

fn the_hooks_words_are_in_the_error(cx: &Cx) {
    let mut bundle = cx.bundle();
    hook(
        &mut bundle,
        "createRuntime",
        "echo words of the hook >&2; exit 7",
    );
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("words of the hook"), "{output}");
    assert!(output.stderr.contains('7'), "{output}");
}

fn missing_hook(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/hooks/createRuntime", json!({"path": "/no/such/hook"}));
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("/no/such/hook"), "{output}");
    assert!(
        output
            .stderr
            .to_lowercase()
            .contains("no such file or directory"),
        "{output}"
    );
}

fn hook_without_permission(cx: &Cx) {
    let file = cx.file("not-executable", "#!/bin/sh\n");
    let mut bundle = cx.bundle();
    bundle.push("/hooks/createRuntime", json!({"path": file}));
    let output = cx.try_create(&bundle).is(1);
    assert!(
        output.stderr.to_lowercase().contains("permission denied"),
        "{output}"
    );
}

fn relative_hook_is_refused(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/hooks/createRuntime", json!({"path": "bin/true"}));
    let output = cx.try_create(&bundle).is(1);
    if cx.is_rundlet() {
        // Before anything is made.
        output.says("absolute path");
    }
}
