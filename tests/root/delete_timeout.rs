//! `delete --timeout`: waits end when the caller says, the error names who does not go, and what is kept can be deleted later.

use nix::fcntl::{Flock, FlockArg};

use crate::support::stuck::Server;
use crate::support::{CGROUP_PARENT, Container, Cx, eventually, tests};

tests! {
    both a_process_that_does_not_die_is_named = "runc has no delete --timeout";
    both what_dies_in_time_is_deleted = "runc has no delete --timeout";
    host the_wait_for_a_lock_ends_too = "runc has no delete --timeout";
    host wrong_times = "runc has no delete --timeout";
}

/// A container in which `cat` waits for the server, so that its init cannot end.
fn stuck<'a>(cx: &'a Cx, server: &Server) -> Container<'a> {
    let mut bundle = cx.script("cat /mnt/stuck; exec sleep 1000");
    bundle.bind(&server.dir, "/mnt", &[]);
    let container = cx.start(&bundle);
    eventually("cat waits for the server", 15, || server.is_waiting());
    container
}

fn a_process_that_does_not_die_is_named(cx: &Cx) {
    let server = Server::mount(cx);
    let container = stuck(cx, &server);
    let id = &container.id;
    let init = container.pid();
    let processes = cx.call(&["ps", "--format", "json", id]).ok();
    let pids: Vec<i64> = serde_json::from_str(&processes.stdout).unwrap();
    let cat = pids.into_iter().find(|pid| *pid != init).unwrap();
    // Twice: the first must not have taken away what the second needs.
    for _ in 0..2 {
        let output = cx.call(&["delete", "--force", "--timeout", "400ms", id]);
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        // On v1, where it is killed one by one, the init has left the cgroup by then.
        if cx.is_v2() {
            assert!(
                output.stderr.contains(&format!("{init} (sh, state ")),
                "{output}"
            );
        }
        output
            .is(1)
            .says(&format!("{cat} (cat, state D, waiting in `"))
            .says(&format!("/{CGROUP_PARENT}/{id}`"))
            .says("within 0.4 s of SIGKILL")
            .says("state is kept");
        assert_eq!(container.pid(), init);
    }
    server.answer();
    cx.call(&["delete", "--force", id]).ok();
    container.call("state").is(1).says("does not exist");
    server.end();
}

fn what_dies_in_time_is_deleted(cx: &Cx) {
    let server = Server::mount(cx);
    let container = stuck(cx, &server);
    let init = container.pid();
    let deleting = cx.spawn(cx.command(&["delete", "--force", "--timeout", "1h", &container.id]));
    // Killed, the init of a pid namespace waits for all others in it.
    let exe = format!("/proc/{init}/exe");
    eventually("the init has no memory any more", 30, || {
        std::fs::read_link(&exe).is_err()
    });
    server.answer();
    deleting.wait().ok();
    container.call("state").is(1).says("does not exist");
    server.end();
}

fn the_wait_for_a_lock_ends_too(cx: &Cx) {
    let container = cx.sleeper();
    let dir = std::fs::File::open(cx.root().join(&container.id)).unwrap();
    let lock = Flock::lock(dir, FlockArg::LockExclusive).unwrap();
    cx.call(&["delete", "--force", "--timeout", "200ms", &container.id])
        .is(1)
        .says("for 0.2 s: ")
        .says(&format!(" {} (", std::process::id()));
    drop(lock);
    container.end();
}

fn wrong_times(cx: &Cx) {
    let container = cx.sleeper();
    for time in ["0", "0s", "-1s"] {
        cx.call(&[
            "delete",
            "--force",
            &format!("--timeout={time}"),
            &container.id,
        ])
        .is(1)
        .says("--timeout: must be greater than 0");
    }
    for time in ["5", "x", "1d"] {
        cx.call(&["delete", "--force", "--timeout", time, &container.id])
            .is(1)
            .says("--timeout");
    }
    assert_eq!(container.status(), "running");
    container.end();
}
