//! Containers in a pid namespace of others (X3).

use std::path::Path;

use nix::errno::Errno;
use serde_json::json;

use crate::hooks::{hook, log_dir, read};
use crate::namespaces::ns_of;
use crate::support::older::refuse;
use crate::support::{Bundle, Container, Cx, eventually, tests};

tests! {
    both neighbours_never_see_the_host = "runc 1.1.5 enters the pid namespace before the container's root";
    both neighbours_never_see_the_host_beside_a_user_namespace = "runc 1.1.5 enters the pid namespace before the container's root";
    both neighbours_never_see_the_host_in_a_user_namespace = "runc 1.1.5 enters the pid namespace before the container's root";
    host its_proc_before_linux_6_17;
    both it_is_made_whole_outside;
    both hooks_find_the_namespaces_by_the_pid;
    host with_a_limit_of_one_process;
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

/// With the mappings that it has, which runc 1.1.5 asks for.
pub(crate) fn join_user(bundle: &mut Bundle, first: &Container<'_>) {
    bundle.user_namespace();
    bundle.without_namespace("user");
    let path = format!("/proc/{}/ns/user", first.pid());
    bundle.push("/linux/namespaces", json!({"type": "user", "path": path}));
}

/// A running container, and a bundle that joins its pid namespace; both in one user namespace if wanted.
fn pair(cx: &Cx, with_user_namespace: bool) -> (Container<'_>, Bundle) {
    let mut first = cx.named_bundle(&format!("first-{with_user_namespace}"));
    let mut second = cx.named_bundle(&format!("second-{with_user_namespace}"));
    if with_user_namespace {
        first.user_namespace();
    }
    let first = cx.start(&first);
    join(&mut second, &first);
    if with_user_namespace {
        join_user(&mut second, &first);
    }
    (first, second)
}

fn neighbours_never_see_the_host(cx: &Cx) {
    let first = cx.named_bundle("first");
    let second = cx.named_bundle("second");
    watched(cx, first, second, |_| {}, HOOKS);
}

/// The neighbours have rights over what is of the host's user namespace; the second container has one of its own.
fn neighbours_never_see_the_host_beside_a_user_namespace(cx: &Cx) {
    let first = cx.named_bundle("first");
    let mut second = cx.named_bundle("second");
    second.user_namespace();
    // The kernel makes no proc of that pid namespace for it.
    second.without_mount("/proc");
    second.bind(Path::new("/proc"), "/proc", &[]);
    watched(cx, first, second, |_| {}, &HOOKS[..1]);
}

/// The second container shares the user namespace, too, as with engines.
fn neighbours_never_see_the_host_in_a_user_namespace(cx: &Cx) {
    let mut owner = cx.named_bundle("owner");
    owner.user_namespace();
    let owner = cx.start(&owner);
    let mut first = cx.named_bundle("first");
    join(&mut first, &owner);
    first.without_mount("/proc");
    first.mount("/proc", "proc", "proc", &[]);
    let mut second = cx.named_bundle("second");
    join_user(&mut second, &owner);
    let look = |second: &Container<'_>| {
        // Its proc shows the other containers.
        let look = "ls -d /proc/[0-9]* | wc -l; tr -s ' ' </proc/self/uid_map";
        let output = second.exec_sh(look).ok();
        let (processes, map) = output.text().split_once('\n').unwrap();
        assert!(processes.parse::<u32>().unwrap() >= 4, "{output}");
        assert_eq!(map, " 0 100000 65536");
    };
    watched(cx, first, second, look, HOOKS);
    owner.end();
}

const HOOKS: &[&str] = &["createRuntime", "createContainer"];

/// The first container has CAP_SYS_PTRACE and looks at all processes all the time. Hooks hold the second one where its init has
/// everything of the host still open, until the first has looked around twice.
fn watched(
    cx: &Cx,
    mut neighbour: Bundle,
    mut bundle: Bundle,
    look: impl FnOnce(&Container<'_>),
    hooks: &[&str],
) {
    let volume = cx.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mark = cx.file("mark", "of the host");
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
    for kind in hooks {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", hold]}]);
        bundle.set(&format!("/hooks/{kind}"), hook);
    }
    let second = cx.create(&bundle);
    // It looks well: the second is seen once it is harmless.
    eventually("the neighbour sees the second container", 10, || {
        volume.join("second").exists()
    });
    second.call("start").ok();
    second.exec(&["true"]).ok();
    look(&second);
    second.end();
    first.end();
    let seen = std::fs::read_to_string(volume.join("seen")).unwrap_or_default();
    assert_eq!(seen.lines().next(), None, "the neighbour saw the host");
}

/// Where the pid namespace is not an option of proc, a process is born there to make it.
fn its_proc_before_linux_6_17(cx: &Cx) {
    let fsconfig_set_fd = 5;
    for with_user_namespace in [false, true] {
        let (first, mut second) = pair(cx, with_user_namespace);
        second.sh("tr '\\0' ' ' </proc/1/cmdline");
        second.write();
        let args = ["run", "--bundle", second.path.to_str().unwrap(), &second.id];
        let mut command = cx.command(&args);
        refuse(
            &mut command,
            libc::SYS_fsconfig,
            fsconfig_set_fd,
            Errno::EINVAL,
        );
        cx.spawn(command).wait().ok().has("sleep");
        first.end();
    }
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

/// Processes of the runtime's own do not count.
fn with_a_limit_of_one_process(cx: &Cx) {
    for with_user_namespace in [false, true] {
        let (first, mut second) = pair(cx, with_user_namespace);
        second.set("/linux/resources/pids", json!({"limit": 1}));
        second.args(&["sleep", "1000"]);
        let second = cx.start(&second);
        let file = cx.cgroup_dir("pids", &second.id).join("pids.max");
        assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "1");
        assert_eq!(second.status(), "running");
        second.end();
        first.end();
    }
}

/// The pid in the state that hooks are given: until the root has been entered it may be of a process that the container is built
/// by, but its namespaces are the container's; later it is the init's.
fn hooks_find_the_namespaces_by_the_pid(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, &first);
    let dir = log_dir(cx, &mut bundle);
    let (kinds, files) = (
        ["createRuntime", "createContainer"],
        ["mnt", "net", "ipc", "uts"],
    );
    let pid = r#"$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')"#;
    for kind in kinds {
        let links = files.map(|file| format!("/proc/$pid/ns/{file}")).join(" ");
        let out = dir.join(kind);
        let out = out.display();
        hook(
            &mut bundle,
            kind,
            &format!("pid={pid}; readlink {links} >{out} || :"),
        );
    }
    let out = dir.join("startContainer");
    hook(
        &mut bundle,
        "startContainer",
        &format!("echo {pid} >{}", out.display()),
    );
    let second = cx.start(&bundle);
    let own = files.map(|file| ns_of(&second.pid().to_string(), file));
    // runc tells the last two the pid that the init has inside.
    for kind in &kinds[..if cx.is_rundlet() { 2 } else { 1 }] {
        assert_eq!(read(&dir, kind).lines().collect::<Vec<_>>(), own, "{kind}");
    }
    eventually("the last hook has run", 10, || {
        let pid = read(&dir, "startContainer");
        !pid.is_empty() && (!cx.is_rundlet() || pid.trim() == second.pid().to_string())
    });
    second.end();
    first.end();
}
