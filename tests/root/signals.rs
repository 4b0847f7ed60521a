//! kill, pause and resume.

use crate::support::{Cx, alive, eventually, tests};

tests! {
    host kill_of_a_stopped_container;
    host kill_all_of_a_stopped_container;
    host kill_names_a_signal_in_any_form;
    host kill_without_a_signal_is_term;
    host kill_with_an_unknown_signal;
    both kill_of_a_created_container;
    both kill_all_without_pid_namespace;
    both killed_from_outside;
    both pause_and_resume;
    host pause_in_the_wrong_state;
    both kill_of_a_paused_container;
}

fn kill_of_a_stopped_container(cx: &Cx) {
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    container.kill("TERM").is(1).says("container not running");
    container.call("delete").ok();
}

fn kill_all_of_a_stopped_container(cx: &Cx) {
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    cx.call(&["kill", "--all", &container.id, "KILL"]).ok();
    container.call("delete").ok();
}

fn kill_names_a_signal_in_any_form(cx: &Cx) {
    let bundle = cx.script(
        "trap 'echo usr1 >>/mnt/log' USR1; trap 'echo hup >>/mnt/log' HUP; touch /mnt/log; \
         while :; do sleep 0.02; done",
    );
    let log = bundle.rootfs().join("mnt/log");
    let container = cx.start(&bundle);
    eventually("the traps are set", 5, || log.exists());
    let lines = || {
        std::fs::read_to_string(&log)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let forms = [
        ("USR1", "usr1"),
        ("SIGUSR1", "usr1"),
        ("usr1", "usr1"),
        ("sighup", "hup"),
        ("10", "usr1"),
        ("1", "hup"),
    ];
    for (number, (form, trap)) in forms.into_iter().enumerate() {
        container.kill(form).ok();
        eventually(form, 5, || lines().len() == number + 1);
        assert_eq!(lines()[number], trap, "{form}");
    }
    container.end();
}

fn kill_without_a_signal_is_term(cx: &Cx) {
    let bundle = cx.script("trap 'exit 0' TERM; touch /mnt/ready; while :; do sleep 0.02; done");
    let container = cx.start(&bundle);
    eventually("the trap is set", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    container.call("kill").ok();
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn kill_with_an_unknown_signal(cx: &Cx) {
    let container = cx.sleeper();
    for signal in ["NOSUCH", "SIG", "-1", "1000", "9x"] {
        container.kill(signal).is(1);
        assert_eq!(container.status(), "running", "{signal}");
    }
    container.end();
}

fn kill_of_a_created_container(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.call("start").is(1);
    container.call("delete").ok();
}

fn kill_all_without_pid_namespace(cx: &Cx) {
    let mut bundle = cx.script("sleep 1000 & sleep 1000 & : >/mnt/ready; wait");
    bundle.without_namespace("pid");
    let container = cx.start(&bundle);
    eventually("the children run", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    let procs = cx.cgroup_dir("pids", &container.id).join("cgroup.procs");
    let pids = std::fs::read_to_string(&procs).unwrap();
    assert_eq!(pids.lines().count(), 3, "{pids}");
    cx.call(&["kill", "--all", &container.id, "KILL"]).ok();
    container.wait_for("stopped");
    for pid in pids.lines() {
        let pid = pid.parse().unwrap();
        eventually("the children are gone", 5, || !alive(pid));
    }
    container.call("delete").ok();
}

fn killed_from_outside(cx: &Cx) {
    let container = cx.sleeper();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(container.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn pause_and_resume(cx: &Cx) {
    let bundle = cx.script("while :; do echo x >>/mnt/log; sleep 0.01; done");
    let container = cx.start(&bundle);
    let size = || std::fs::metadata(bundle.rootfs().join("mnt/log")).map_or(0, |meta| meta.len());
    eventually("the program writes", 5, || size() > 0);
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    let before = size();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(size(), before, "a paused program writes");
    container.call("resume").ok();
    assert_eq!(container.status(), "running");
    eventually("the program writes again", 5, || size() > before);
    container.end();
}

fn pause_in_the_wrong_state(cx: &Cx) {
    let container = cx.sleeper();
    container.call("resume").is(1).says("not paused");
    container.call("pause").ok();
    container.call("pause").is(1);
    container.call("resume").ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.call("pause").is(1);
    container.call("resume").is(1);
    container.call("delete").ok();
}

fn kill_of_a_paused_container(cx: &Cx) {
    let container = cx.sleeper();
    container.call("pause").ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.call("delete").ok();
}
