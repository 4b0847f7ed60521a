//! A container that cannot be frozen: its process waits in the kernel, uninterruptible.

use std::time::Instant;

use crate::support::stuck::Server;
use crate::support::{Cx, eventually, tests};

tests! {
    both what_does_not_freeze_is_named_and_thawed = "runc 1.1.5 does not name it, and leaves it freezing on v2";
    both a_created_container_can_be_paused;
    both a_freeze_from_outside_is_paused;
    both a_killed_container_in_pause_ends_with_all_its_processes;
}

fn what_does_not_freeze_is_named_and_thawed(cx: &Cx) {
    let server = Server::mount(cx);
    let mut bundle = cx.script("cat /mnt/stuck; : >/tmp/after; exec sleep 1000");
    bundle.bind(&server.dir, "/mnt", &[]);
    let container = cx.start(&bundle);
    eventually("cat waits for the server", 15, || server.is_waiting());
    // The wait becomes uninterruptible with the first signal, which a v1 freezer sends and a v2 freezer does not need to.
    let start = Instant::now();
    let output = container.call("pause").is(1);
    let took = start.elapsed().as_secs_f64();
    println!("{took:.1} s: {output}");
    assert!((9.0..19.0).contains(&took), "{took} s");
    if cx.is_rundlet() {
        assert!(
            output.stderr.contains("did not freeze within 10 s"),
            "{output}"
        );
        assert!(output.stderr.contains("(cat, state D"), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    // Nothing stays half frozen: the next one runs.
    assert_eq!(container.status(), "running");
    container.exec(&["true"]).ok();
    server.answer();
    let after = bundle.rootfs().join("tmp/after");
    eventually("the shell goes on", 15, || after.exists());
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
    server.end();
}

fn a_created_container_can_be_paused(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("start").is(1).says("paused");
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.wait_for("running");
    container.end();
}

/// docker and systemd freeze by the same files.
fn a_freeze_from_outside_is_paused(cx: &Cx) {
    let container = cx.sleeper();
    let dir = cx.cgroup_dir("freezer", &container.id);
    let (file, on, off) = if cx.is_v2() {
        ("cgroup.freeze", "1", "0")
    } else {
        ("freezer.state", "FROZEN", "THAWED")
    };
    std::fs::write(dir.join(file), on).unwrap();
    container.wait_for("paused");
    container.exec(&["true"]).is(255).says("paused");
    std::fs::write(dir.join(file), off).unwrap();
    container.wait_for("running");
    container.exec(&["true"]).ok();
    container.end();
}

fn a_killed_container_in_pause_ends_with_all_its_processes(cx: &Cx) {
    let bundle = cx.script("sleep 1000 & sleep 1000 & : >/mnt/ready; wait");
    let container = cx.start(&bundle);
    let ready = bundle.rootfs().join("mnt/ready");
    eventually("its processes", 15, || ready.exists());
    let pids = || {
        let output = cx.call(&["ps", "--format", "json", &container.id]).ok();
        serde_json::from_str::<Option<Vec<i64>>>(&output.stdout).unwrap()
    };
    assert_eq!(pids().unwrap().len(), 3);
    container.call("pause").ok();
    container.kill("9").ok();
    container.wait_for("stopped");
    eventually("no process is left", 10, || pids().is_none());
    container.call("delete").ok();
}
