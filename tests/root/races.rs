//! Several runtimes at once, and runtimes that are killed half-way (Z2, Z3, Z5).

use std::time::Duration;

use crate::support::{Cx, alive, eventually, tests};

tests! {
    both same_id_created_twenty_times = "now and then a loser of runc 1.1.5 takes the winner's directory away";
    both concurrent_starts = "a loser may wait on the fifo for ever";
    both create_killed_at_any_moment = "runc writes no early record; what a killed create made stays";
    host start_killed_at_any_moment;
    host run_killed_leaves_a_container_to_delete;
    host delete_killed_at_any_moment;
    host deletes_at_once;
    host kill_and_delete_and_state_at_once;
    host containers_in_parallel;
    host execs_in_parallel;
    host state_during_create;
}

fn same_id_created_twenty_times(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let running: Vec<_> = (0..20)
        .map(|_| {
            cx.spawn(cx.command(&[
                "create",
                "--bundle",
                bundle.path.to_str().unwrap(),
                &bundle.id,
            ]))
        })
        .collect();
    let outputs: Vec<_> = running
        .into_iter()
        .map(crate::support::runtime::Running::wait)
        .collect();
    let winners = outputs.iter().filter(|output| output.code == 0).count();
    assert_eq!(winners, 1, "winners");
    for output in outputs.iter().filter(|output| output.code != 0) {
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains("exist"), "{output}");
    }
    let container = cx.container(&bundle.id);
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.exec(&["true"]).ok();
    container.end();
}

fn concurrent_starts(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    let running: Vec<_> = (0..8)
        .map(|_| cx.spawn(cx.command(&["start", &container.id])))
        .collect();
    let outputs: Vec<_> = running
        .into_iter()
        .map(crate::support::runtime::Running::wait)
        .collect();
    assert_eq!(
        outputs.iter().filter(|output| output.code == 0).count(),
        1,
        "winners"
    );
    assert_eq!(container.status(), "running");
    container.end();
}

/// SIGKILL to the runtime after `micros`; false when it had ended before.
fn kill_after(cx: &Cx, args: &[&str], micros: u64) -> bool {
    let mut running = cx.spawn(cx.command(args));
    std::thread::sleep(Duration::from_micros(micros));
    let in_time = running.child.try_wait().unwrap().is_none();
    let _ = running.child.kill();
    running.wait();
    in_time
}

fn create_killed_at_any_moment(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap().to_owned();
    let start = std::time::Instant::now();
    cx.create(&bundle).call("delete").ok();
    let unit = u64::try_from(start.elapsed().as_micros()).unwrap() / 60;
    let mut hits = 0;
    // From before the first mkdir to after the last write.
    for step in 0..40 {
        if kill_after(cx, &["create", "--bundle", &path, &bundle.id], step * unit) {
            hits += 1;
        }
        cx.call(&["delete", "--force", &bundle.id]).ok();
        let left = crate::support::leak::settle(cx);
        assert!(
            left.is_empty(),
            "killed after {} us, left behind:\n{}",
            step * unit,
            left.join("\n")
        );
    }
    assert!(hits > 3, "only {hits} of 40 were killed in time");
    // The id is free again and works.
    cx.start(&bundle).end();
}

fn start_killed_at_any_moment(cx: &Cx) {
    for step in 0..8 {
        let container = cx.create(&cx_fresh(cx, step));
        kill_after(cx, &["start", &container.id], step * 500);
        let status = container.status();
        assert!(status == "created" || status == "running", "{status}");
        // Killed after it had let the init go, the first one may win only now.
        if status == "created" {
            let second = container.call("start");
            assert!(
                second.code == 0 || second.stderr.contains("already running"),
                "{second}"
            );
        }
        container.end();
    }
}

fn cx_fresh(cx: &Cx, number: u64) -> crate::support::Bundle {
    cx.named_bundle(&format!("n{number}"))
}

fn run_killed_leaves_a_container_to_delete(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let mut running =
        cx.spawn(cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]));
    eventually("the container runs", 5, || {
        let output = cx.call(&["state", &bundle.id]);
        output.code == 0 && output.stdout.contains("running")
    });
    running.child.kill().unwrap();
    running.wait();
    let pid = cx.container(&bundle.id).pid();
    cx.call(&["delete", "--force", &bundle.id]).ok();
    eventually("the container's process is gone", 5, || !alive(pid));
}

fn delete_killed_at_any_moment(cx: &Cx) {
    let bundle = cx.bundle();
    for step in 0..12 {
        let container = cx.start(&bundle);
        kill_after(cx, &["delete", "--force", &container.id], step * 700);
        cx.call(&["delete", "--force", &container.id]).ok();
        let left = crate::support::leak::settle(cx);
        assert!(
            left.is_empty(),
            "killed after {} us, left behind:\n{}",
            step * 700,
            left.join("\n")
        );
    }
}

fn deletes_at_once(cx: &Cx) {
    let container = cx.sleeper();
    let running: Vec<_> = (0..6)
        .map(|_| cx.spawn(cx.command(&["delete", "--force", &container.id])))
        .collect();
    for running in running {
        running.wait().ok();
    }
}

fn kill_and_delete_and_state_at_once(cx: &Cx) {
    let container = cx.sleeper();
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(cx.spawn(cx.command(&["kill", &container.id, "KILL"])));
        running.push(cx.spawn(cx.command(&["state", &container.id])));
        running.push(cx.spawn(cx.command(&["delete", "--force", &container.id])));
        running.push(cx.spawn(cx.command(&["list"])));
    }
    for running in running {
        let output = running.wait();
        // Gone is an answer; a crash or a stale file is not.
        let gone = ["does not exist", "not running", "not exist"]
            .iter()
            .any(|text| output.stderr.contains(text));
        assert!(output.code == 0 || (output.code == 1 && gone), "{output}");
    }
    cx.call(&["delete", "--force", &container.id]).ok();
}

fn containers_in_parallel(cx: &Cx) {
    let bundles: Vec<_> = (0..16)
        .map(|number| cx.named_bundle(&format!("p{number}")))
        .collect();
    let running: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            bundle.write();
            cx.spawn(cx.command(&[
                "run",
                "-d",
                "--bundle",
                bundle.path.to_str().unwrap(),
                &bundle.id,
            ]))
        })
        .collect();
    for running in running {
        running.wait().ok();
    }
    let listed = cx.call(&["list", "-q"]).ok();
    assert_eq!(listed.stdout.lines().count(), 16, "{listed}");
    let running: Vec<_> = bundles
        .iter()
        .map(|bundle| cx.spawn(cx.command(&["delete", "--force", &bundle.id])))
        .collect();
    for running in running {
        running.wait().ok();
    }
}

fn execs_in_parallel(cx: &Cx) {
    let container = cx.sleeper();
    let running: Vec<_> = (0..12)
        .map(|number| {
            cx.spawn(cx.command(&[
                "exec",
                &container.id,
                "sh",
                "-c",
                &format!("echo {number}; exit {number}"),
            ]))
        })
        .collect();
    for (number, running) in (0..).zip(running) {
        running.wait().is(number).prints(&number.to_string());
    }
    container.end();
}

fn state_during_create(cx: &Cx) {
    let mut bundle = cx.bundle();
    // A hook holds create for a while; state, list and delete must not hang or crash meanwhile.
    bundle.set(
        "/hooks/createRuntime",
        serde_json::json!([{"path": "/bin/sleep", "args": ["sleep", "0.3"]}]),
    );
    bundle.write();
    let running = cx.spawn(cx.command(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]));
    for _ in 0..10 {
        let output = cx.call(&["state", &bundle.id]);
        if output.code == 0 {
            let state: serde_json::Value =
                serde_json::from_str(&output.stdout).expect("whole JSON");
            let status = state["status"].as_str().unwrap();
            assert!(
                ["creating", "created", "stopped"].contains(&status),
                "{output}"
            );
        } else {
            assert!(
                output.code == 1 && output.stderr.contains("does not exist"),
                "{output}"
            );
        }
        cx.call(&["list"]).ok();
    }
    running.wait().ok();
    let container = cx.container(&bundle.id);
    assert_eq!(container.status(), "created");
    container.end();
}
