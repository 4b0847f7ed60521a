//! Containers in a pid namespace of others (X3).

use serde_json::json;

use crate::support::{Bundle, Container, Cx, eventually, tests};

tests! {
    both neighbours_never_see_the_host = "runc 1.1.5 enters the pid namespace before the container's root";
    both it_is_made_whole_outside;
    host it_has_a_controlling_terminal;
    host a_failure_after_birth_leaves_nothing;
}

fn join(bundle: &mut Bundle, first: &Container<'_>) {
    bundle.without_namespace("pid");
    bundle.push(
        "/linux/namespaces",
        json!({"type": "pid", "path": format!("/proc/{}/ns/pid", first.pid())}),
    );
}

/// The neighbour has CAP_SYS_PTRACE and looks at all processes all the time. Hooks hold the second container where its init has
/// everything of the host still open, until the neighbour has looked around twice.
fn neighbours_never_see_the_host(cx: &Cx) {
    let volume = cx.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mark = cx.file("mark", "of the host");
    let mut neighbour = cx.named_bundle("first");
    neighbour.bind(&volume, "/mnt", &[]);
    neighbour.capabilities(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    let mark = mark.display();
    neighbour.sh(&format!(
        "while :; do
           for p in /proc/[0-9]*; do
             [ -e $p/root{mark} ] && echo $p/root >>/mnt/seen
             [ -e $p/cwd/config.json ] && echo $p/cwd >>/mnt/seen
             for f in $p/fd/*; do [ -e $f/state.json -o -e $f/cgroup.procs -o -e $f/rootfs ] && echo $f >>/mnt/seen; done
             [ -e $p/root/etc/second ] && : >/mnt/second
           done
           : >/mnt/round
         done"
    ));
    let first = cx.start(&neighbour);
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, &first);
    std::fs::write(bundle.rootfs().join("etc/second"), "").unwrap();
    let round = volume.join("round");
    let round = round.display();
    let hold = cx.file(
        "hold",
        &format!(
            "for i in 1 2; do rm -f {round}; while ! [ -e {round} ]; do sleep 0.02; done; done"
        ),
    );
    let hook = json!([{"path": "/bin/sh", "args": ["sh", hold]}]);
    bundle.set("/hooks/createRuntime", hook.clone());
    bundle.set("/hooks/createContainer", hook);
    let second = cx.create(&bundle);
    // It looks well: the second is seen once it is harmless.
    eventually("the neighbour sees the second container", 10, || {
        volume.join("second").exists()
    });
    second.call("start").ok();
    second.exec(&["true"]).ok();
    second.end();
    first.end();
    let seen = std::fs::read_to_string(volume.join("seen")).unwrap_or_default();
    assert_eq!(seen.lines().next(), None, "the neighbour saw the host");
}

fn it_is_made_whole_outside(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, &first);
    bundle.without_mount("/proc");
    bundle.mount("/proc", "proc", "proc", &["nosuid", "ro"]);
    bundle.set("/process/oomScoreAdj", json!(321));
    let states = cx.dir.join("states");
    let hook =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >>{}", states.display())]}]);
    bundle.set("/hooks/poststart", hook);
    bundle.sh(": >/tmp/ready; while :; do sleep 1000; done");
    let second = cx.start(&bundle);
    let pid = second.pid();
    eventually("the program runs", 10, || {
        bundle.rootfs().join("tmp/ready").exists()
    });
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(read("oom_score_adj").trim(), "321");
    // The leader of a session of its own.
    let stat = read("stat");
    let session = stat.rsplit(')').next().unwrap().split(' ').nth(4).unwrap();
    assert_eq!(session, pid.to_string());
    let state = std::fs::read_to_string(&states).unwrap();
    assert!(state.contains(&format!("\"pid\":{pid}")), "{state}");
    let cgroup = std::fs::read_to_string(cx.cgroup_dir("pids", &second.id).join("cgroup.procs"));
    assert!(cgroup.unwrap().lines().any(|line| line == pid.to_string()));
    second
        .exec_sh("tr '\\0' ' ' </proc/1/cmdline; grep -c ' /proc proc ro' /proc/mounts")
        .ok()
        .prints("sleep 1000 1");
    second.end();
    first.end();
}

fn it_has_a_controlling_terminal(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, &first);
    bundle.set("/process/terminal", json!(true));
    bundle.sh("tty; echo to the terminal >/dev/tty; sleep 1000");
    let (second, mut terminal) = crate::tty::started(cx, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.expect("to the terminal");
    second.end();
    first.end();
}

fn a_failure_after_birth_leaves_nothing(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, &first);
    bundle.args(&["no-such-program"]);
    cx.try_create(&bundle).is(1).says("no-such-program");
    bundle.args(&["true"]);
    cx.run(&bundle).ok();
    bundle.args(&["sh", "-c", "exit 7"]);
    cx.run(&bundle).is(7);
    let pids = first.exec_sh("ls -d /proc/[0-9]*").ok();
    assert!(pids.stdout.lines().count() <= 3, "{pids}");
    first.end();
}
