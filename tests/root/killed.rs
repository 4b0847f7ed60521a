//! SIGKILL to the runtime before every one of its steps (Z2, Z3), and a runtime that stands still before a step while another
//! one deletes the container. `RUNDLET_TEST_STEPS=all` tries every step; otherwise they are sampled.

use crate::support::bundle::Bundle;
use crate::support::steps::{Reached, Standing};
use crate::support::{Container, Cx, alive, eventually, leak, tests};

tests! {
    both create_killed_before_every_step = "runc writes no early record; what a killed create made stays";
    host create_of_all_kinds_killed_before_every_step = "runc writes no early record; what a killed create made stays";
    host run_killed_before_every_step = "runc writes no early record; what a killed create made stays";
    host start_killed_before_every_step;
    both exec_killed_before_every_step = "the process of a killed exec of runc may live on";
    both delete_killed_before_every_step = "runc 1.1.5 leaves what a killed delete did not come to";
    host init_killed_before_start;
    both init_killed_at_every_step_of_create = "runc's init is a child's child";
    host init_killed_at_every_step_of_run = "runc's init is a child's child";
    host init_killed_at_every_step_of_start;
    host exec_s_process_killed_at_every_step = "runc's process is a child's child";
    host create_stands_while_it_is_deleted = "runc writes no early record";
    host delete_stands_while_the_id_is_made_anew = "a late runc delete removes the new container";
    host exec_stands_while_the_container_is_deleted;
    host start_stands_while_the_container_is_deleted;
}

/// How many steps of a verb are tried unless all are.
const SAMPLES: usize = 24;

/// Calls `each` for the steps to try of the `steps` that there are.
fn sample(steps: usize, mut each: impl FnMut(usize)) {
    assert!(steps > 1, "only {steps} steps were seen");
    let all = std::env::var_os("RUNDLET_TEST_STEPS").is_some();
    let stride = if all { 1 } else { steps.div_ceil(SAMPLES) };
    // The last steps are where most is there to be lost.
    for step in (0..steps).rev().step_by(stride) {
        each(step);
    }
    if all {
        println!("{steps} steps");
    }
}

/// The number of steps of a verb that succeeds.
fn count(cx: &Cx, args: &[&str]) -> usize {
    match cx.run_to(args, usize::MAX) {
        Reached::End(steps, output) => {
            output.ok();
            steps
        }
        Reached::Step(_) => unreachable!(),
    }
}

fn steps_of_start(cx: &Cx, bundle: &Bundle, args: &[&str]) -> usize {
    cx.create(bundle);
    let steps = count(cx, args);
    cx.container(&bundle.id).end();
    steps
}

/// The runtime before this step; `None` where this time it had fewer.
fn stand(cx: &Cx, args: &[&str], step: usize) -> Option<Standing> {
    match cx.run_to(args, step) {
        Reached::Step(standing) => Some(standing),
        Reached::End(..) => None,
    }
}

/// Whatever was killed: the other verbs answer, and a forced delete leaves nothing.
fn answers_and_goes(cx: &Cx, id: &str, step: usize) {
    let state = cx.call(&["state", id]);
    assert!(
        state.code == 0 || state.stderr.contains("does not exist"),
        "step {step}: {state}"
    );
    cx.call(&["list"]).ok();
    cx.call(&["delete", "--force", id]).ok();
    gone(cx, step);
}

fn gone(cx: &Cx, step: usize) {
    let left = leak::settle(cx);
    assert!(
        left.is_empty(),
        "killed before step {step}, left behind:\n{}",
        left.join("\n")
    );
}

fn create_args(bundle: &Bundle) -> [&str; 4] {
    [
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]
}

fn killed_create(cx: &Cx, bundle: &Bundle, args: &[&str]) {
    bundle.write();
    let steps = count(cx, args);
    cx.call(&["delete", "--force", &bundle.id]).ok();
    sample(steps, |step| {
        stand(cx, args, step).map(Standing::kill);
        answers_and_goes(cx, &bundle.id, step);
    });
    // The id is free again and works.
    cx.start(bundle).end();
}

fn create_killed_before_every_step(cx: &Cx) {
    let bundle = cx.bundle();
    killed_create(cx, &bundle, &create_args(&bundle));
}

/// What the plain one has not: id maps, limits, a filter, hooks, a pid file, a bind mount, sysctls.
fn create_of_all_kinds_killed_before_every_step(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    let hook = serde_json::json!([{"path": "/bin/true"}]);
    bundle.set("/hooks/createRuntime", hook.clone());
    bundle.set("/hooks/createContainer", hook);
    bundle.set("/linux/resources/pids", serde_json::json!({"limit": 50}));
    bundle.set(
        "/linux/seccomp",
        serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}),
    );
    bundle.set("/process/oomScoreAdj", serde_json::json!(500));
    bundle.bind(&cx.dir, "/mnt", &["ro"]);
    let pid_file = cx.dir.join("pid");
    let mut args = create_args(&bundle).to_vec();
    args.splice(1..1, ["--pid-file", pid_file.to_str().unwrap()]);
    killed_create(cx, &bundle, &args);
}

fn run_killed_before_every_step(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["true"]);
    let mut args = create_args(&bundle);
    args[0] = "run";
    bundle.write();
    let steps = count(cx, &args);
    sample(steps, |step| {
        stand(cx, &args, step).map(Standing::kill);
        answers_and_goes(cx, &bundle.id, step);
    });
}

/// Whatever the state is then, it is true: created can be started, and running runs the program.
fn start_killed_before_every_step(cx: &Cx) {
    let bundle = cx.script(": >/tmp/ready; sleep 1000");
    let ready = bundle.rootfs().join("tmp/ready");
    let args = ["start", &bundle.id];
    sample(steps_of_start(cx, &bundle, &args), |step| {
        let _ = std::fs::remove_file(&ready);
        let container = cx.create(&bundle);
        stand(cx, &args, step).map(Standing::kill);
        let status = container.status();
        assert!(
            status == "created" || status == "running",
            "step {step}: {status}"
        );
        if status == "created" {
            // Killed after it had let the init go, the first one may win only now.
            let second = container.call("start");
            if second.code != 0 && cx.is_rundlet() {
                second.says("already running");
            }
        }
        eventually("the program runs", 10, || ready.exists());
        assert_eq!(container.status(), "running", "step {step}");
        let again = container.call("start").is(1);
        if cx.is_rundlet() {
            again.says("cannot start an already running container");
        }
        answers_and_goes(cx, &bundle.id, step);
    });
}

/// The processes in the container other than its init.
fn others(container: &Container<'_>) -> Vec<i64> {
    let output = container
        .cx
        .call(&["ps", "--format", "json", &container.id])
        .ok();
    let mut pids: Vec<i64> = serde_json::from_str(&output.stdout).unwrap();
    pids.retain(|pid| *pid != container.pid());
    pids
}

fn exec_killed_before_every_step(cx: &Cx) {
    let container = cx.sleeper();
    let id = container.id.clone();
    let args = ["exec", "--detach", &id, "true"];
    let steps = count(cx, &args);
    sample(steps, |step| {
        stand(cx, &args, step).map(Standing::kill);
        // It was killed before it could say "go", or the process ends by itself.
        eventually("the process of the killed exec has ended", 10, || {
            others(&container).is_empty()
        });
        container.exec(&["true"]).ok();
    });
    assert_eq!(container.status(), "running");
    // In the foreground the program may have been started, and then lives on until the container ends.
    let args = ["exec", &id, "sleep", "1000"];
    for step in 0..steps.min(30) {
        if step % 3 == 0 {
            stand(cx, &args, step).map(Standing::kill);
        }
    }
    answers_and_goes(cx, &id, 0);
}

fn delete_killed_before_every_step(cx: &Cx) {
    let bundle = cx.bundle();
    let args = ["delete", "--force", &bundle.id];
    cx.start(&bundle);
    let steps = count(cx, &args);
    sample(steps, |step| {
        cx.start(&bundle);
        stand(cx, &args, step).map(Standing::kill);
        answers_and_goes(cx, &bundle.id, step);
    });
}

fn init_killed_before_start(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    let pid = container.pid();
    cx.host(&format!("kill -KILL {pid}")).ok();
    eventually("the init is gone", 10, || !alive(pid));
    assert_eq!(container.status(), "stopped");
    let output = container.call("start").is(1);
    if cx.is_rundlet() {
        output.says("cannot start a container that has stopped");
    }
    assert_ne!(container.exec(&["true"]).code, 0);
    cx.call(&["list"]).ok().has("stopped");
    container.call("delete").ok();
}

/// The verb stands before each step and goes on when its children are dead: it ends, and says why unless all was done.
fn children_killed(cx: &Cx, args: &[&str], id: &str, prepare: impl Fn(), undo: impl Fn()) {
    prepare();
    let steps = count(cx, args);
    undo();
    let mut killed = 0;
    sample(steps, |step| {
        prepare();
        if let Some(standing) = stand(cx, args, step) {
            killed += usize::from(standing.kill_children());
            let output = standing.go_on();
            assert!(
                output.code == 0 || output.code == 137 || output.stderr.lines().count() == 1,
                "step {step}: {output}"
            );
            assert!(!output.stderr.contains("panicked"), "step {step}: {output}");
        }
        answers_and_goes(cx, id, step);
    });
    assert!(killed > 0, "no step had a child");
}

fn init_killed_at_every_step_of_create(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let undo = || drop(cx.call(&["delete", "--force", &bundle.id]).ok());
    children_killed(cx, &create_args(&bundle), &bundle.id, || (), undo);
    cx.start(&bundle).end();
}

fn init_killed_at_every_step_of_run(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["true"]);
    bundle.write();
    let mut args = create_args(&bundle);
    args[0] = "run";
    children_killed(cx, &args, &bundle.id, || (), || ());
}

/// The init is no child of `start`: it is killed by its number.
fn init_killed_at_every_step_of_start(cx: &Cx) {
    let bundle = cx.bundle();
    let args = ["start", &bundle.id];
    sample(steps_of_start(cx, &bundle, &args), |step| {
        let container = cx.create(&bundle);
        let pid = container.pid();
        if let Some(standing) = stand(cx, &args, step) {
            cx.host(&format!("kill -KILL {pid}")).ok();
            eventually("the init is gone", 10, || !alive(pid));
            let output = standing.go_on();
            assert!(
                output.code == 0 || output.stderr.lines().count() == 1,
                "step {step}: {output}"
            );
            assert_eq!(container.status(), "stopped", "step {step}");
        }
        answers_and_goes(cx, &bundle.id, step);
    });
}

fn exec_s_process_killed_at_every_step(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let prepare = || drop(cx.start(&bundle));
    let undo = || drop(cx.call(&["delete", "--force", &bundle.id]).ok());
    children_killed(cx, &["exec", &bundle.id, "true"], &bundle.id, prepare, undo);
}

/// The creator is in the middle of its work when the container is deleted, and then goes on if it still can.
fn create_stands_while_it_is_deleted(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let args = create_args(&bundle);
    let steps = count(cx, &args);
    cx.call(&["delete", "--force", &bundle.id]).ok();
    sample(steps, |step| {
        let Some(standing) = stand(cx, &args, step) else {
            return;
        };
        let state = cx.call(&["state", &bundle.id]);
        cx.call(&["list"]).ok();
        let loser = cx.try_create(&bundle);
        if state.code == 0 {
            loser.is(1);
        } else if loser.code == 0 {
            // The first had not even taken the id, and must not disturb the one who has.
            standing.go_on().is(1);
            assert_eq!(cx.container(&bundle.id).status(), "created", "step {step}");
            return answers_and_goes(cx, &bundle.id, step);
        }
        cx.call(&["delete", "--force", &bundle.id]).ok();
        standing.go_on();
        answers_and_goes(cx, &bundle.id, step);
    });
}

/// A delete that comes late, when the container is gone and another one has its id.
fn delete_stands_while_the_id_is_made_anew(cx: &Cx) {
    let bundle = cx.bundle();
    let args = ["delete", "--force", &bundle.id];
    cx.start(&bundle);
    let steps = count(cx, &args);
    sample(steps, |step| {
        cx.start(&bundle);
        let Some(standing) = stand(cx, &args, step) else {
            return;
        };
        if cx.call(&["state", &bundle.id]).code == 0 {
            let second = cx.spawn(cx.command(&args));
            // It may wait for the first, which has begun.
            std::thread::sleep(std::time::Duration::from_millis(30));
            standing.go_on().ok();
            second.wait().ok();
        } else {
            let running = cx.try_create(&bundle).code == 0;
            standing.go_on().ok();
            if running {
                let container = cx.container(&bundle.id);
                container.call("start").ok();
                container.exec(&["true"]).ok();
            }
        }
        answers_and_goes(cx, &bundle.id, step);
    });
}

fn exec_stands_while_the_container_is_deleted(cx: &Cx) {
    let bundle = cx.bundle();
    let args = ["exec", &bundle.id, "true"];
    let container = cx.start(&bundle);
    let steps = count(cx, &args);
    container.end();
    sample(steps, |step| {
        cx.start(&bundle);
        let standing = stand(cx, &args, step);
        let delete = cx.spawn(cx.command(&["delete", "--force", &bundle.id]));
        // Only the exec can reap its process, and the container's init does not end before that.
        standing.map(Standing::go_on);
        delete.wait().ok();
        gone(cx, step);
    });
}

fn start_stands_while_the_container_is_deleted(cx: &Cx) {
    let bundle = cx.bundle();
    let args = ["start", &bundle.id];
    sample(steps_of_start(cx, &bundle, &args), |step| {
        cx.create(&bundle);
        let standing = stand(cx, &args, step);
        cx.call(&["delete", "--force", &bundle.id]).ok();
        standing.map(Standing::go_on);
        gone(cx, step);
    });
}
