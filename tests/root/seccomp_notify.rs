//! SCMP_ACT_NOTIFY: what the agent is told, that it decides, and that no filtered call can make the runtime wait for itself.

use serde_json::{Value, json};

use super::seccomp::names_up_to_302;
use crate::support::agent::{Agent, Answer};
use crate::support::{Bundle, Cx, tests};

tests! {
    host the_agent_decides;
    host real_programs_get_the_agents_answers;
    host state_at_create;
    host state_at_exec;
    host state_without_metadata;
    host in_a_user_namespace_and_joined_ones;
    host filtered_calls_one_by_one;
    host all_calls_filtered;
    host all_calls_filtered_with_privileges;
    host all_calls_filtered_with_hooks = "runc 1.1.5 hangs in exec";
    host an_agent_that_leaves_means_enosys;
    host killable_wait_and_conditions = "runc 1.1.5 takes no flags";
    host nobody_listens;
    host an_agent_that_is_no_socket;
    host exec_without_an_agent_fails;
    host write_is_refused;
    host default_action_is_refused;
    host metadata_without_path_is_refused = "runc 1.1.5 ignores it";
    host a_write_that_is_denied_hangs_nobody = "runc 1.1.5 goes on without the agent";
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn notify(b: &mut Bundle, agent: &Agent, names: &[&str]) {
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "listenerPath": agent.path, "listenerMetadata": "who asks",
               "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]}),
    );
}

fn the_agent_decides(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Errno(libc::ENOSPC));
    for (name, privileged) in [("c", false), ("d", true)] {
        let mut bundle = cx.named_bundle(name);
        bundle.sh("mkdir /mnt/x 2>&1; touch /mnt/y && echo fine");
        bundle.set("/process/noNewPrivileges", json!(!privileged));
        notify(&mut bundle, &agent, &MKDIR);
        cx.run(&bundle)
            .ok()
            .has("No space left on device")
            .has("fine");
    }
    assert!(agent.saw(libc::SYS_mkdir));
}

/// mkdir(2) is carried out by the agent, in the container's root and in its own way; mount(2) succeeds without being
/// carried out; connect(2) fails by an address that the agent does not like, and goes through otherwise.
fn decide(call: &libc::seccomp_notif) -> Answer {
    let memory = |address: u64, length: usize| {
        let mut bytes = vec![0; length];
        let file = std::fs::File::open(format!("/proc/{}/mem", call.pid)).unwrap();
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut bytes, address).unwrap();
        bytes.truncate(read);
        bytes
    };
    let args = call.data.args;
    match i64::from(call.data.nr) {
        number @ (libc::SYS_mkdir | libc::SYS_mkdirat) => {
            let path = memory(args[usize::from(number == libc::SYS_mkdirat)], 64);
            let path = path.split(|byte| *byte == 0).next().unwrap();
            let path = std::str::from_utf8(path).unwrap();
            let made = format!("/proc/{}/root{path}-by-the-agent", call.pid);
            std::fs::create_dir(made).unwrap();
            Answer::Value(0)
        }
        libc::SYS_mount => Answer::Value(0),
        libc::SYS_connect => {
            // Family, then the port in network order.
            match memory(args[1], 4)[..] {
                [2, 0, 0, 9] => Answer::Errno(libc::EHOSTUNREACH),
                _ => Answer::Continue,
            }
        }
        _ => Answer::Continue,
    }
}

fn real_programs_get_the_agents_answers(cx: &Cx) {
    let agent = Agent::deciding(cx, decide);
    let mut bundle = cx.bundle();
    let names = ["mkdir", "mkdirat", "mount", "connect"];
    notify(&mut bundle, &agent, &names);
    let container = cx.start(&bundle);
    let script = "mkdir /tmp/x; ls -d /tmp/x*; mount -t tmpfs none /mnt && echo mounted; grep -c ' /mnt ' /proc/mounts; \
                  nc -w 5 127.0.0.1 9 </dev/null; nc -w 5 127.0.0.1 10 </dev/null; echo $?";
    let output = container.exec_sh(script).ok();
    assert_eq!(
        output.text(),
        "/tmp/x-by-the-agent\nmounted\n0\n1",
        "{output}"
    );
    let unreachable = "nc: can't connect to remote host (127.0.0.1): No route to host";
    let refused = "nc: can't connect to remote host (127.0.0.1): Connection refused";
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines, [unreachable, refused], "{output}");
    for number in [libc::SYS_mkdir, libc::SYS_mount, libc::SYS_connect] {
        assert!(agent.saw(number), "{number}");
    }
    container.end();
}

fn state_at_create(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    let mut bundle = cx.bundle();
    bundle.set("/annotations", json!({"some": "note"}));
    notify(&mut bundle, &agent, &MKDIR);
    let container = cx.create(&bundle);
    let state = &agent.states(1)[0];
    assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
    assert_eq!(state["pid"], container.pid(), "{state}");
    assert_eq!(state["metadata"], "who asks", "{state}");
    assert!(
        state["ociVersion"].as_str().unwrap().starts_with("1."),
        "{state}"
    );
    let inner = &state["state"];
    assert_eq!(inner["status"], "creating", "{state}");
    assert_eq!(inner["id"], container.id, "{state}");
    assert_eq!(inner["pid"], container.pid(), "{state}");
    assert_eq!(inner["bundle"], bundle.path.to_str().unwrap(), "{state}");
    assert_eq!(inner["annotations"]["some"], "note", "{state}");
    container.call("start").ok();
    container.end();
}

fn state_at_exec(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Errno(libc::ENOSPC));
    let mut bundle = cx.bundle();
    notify(&mut bundle, &agent, &MKDIR);
    let container = cx.start(&bundle);
    container
        .exec_sh("mkdir /mnt/x 2>&1; grep -c NSpid /proc/self/status")
        .ok()
        .has("No space left on device");
    let state = &agent.states(2)[1];
    assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
    assert_eq!(state["metadata"], "who asks", "{state}");
    assert_eq!(state["state"]["status"], "running", "{state}");
    assert_eq!(state["state"]["pid"], container.pid(), "{state}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(pid > 0 && pid != container.pid(), "{state}");
    container.end();
}

fn state_without_metadata(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    let mut bundle = cx.script("true");
    notify(&mut bundle, &agent, &MKDIR);
    let seccomp = bundle.config["linux"]["seccomp"].as_object_mut().unwrap();
    seccomp.remove("listenerMetadata");
    cx.run(&bundle).ok();
    assert!(agent.states(1)[0].get("metadata").is_none());
}

fn in_a_user_namespace_and_joined_ones(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Errno(libc::ENOSPC));
    let mut bundle = cx.named_bundle("first");
    bundle.user_namespace();
    notify(&mut bundle, &agent, &MKDIR);
    let first = cx.start(&bundle);
    first
        .exec_sh("mkdir /tmp/x 2>&1 || true")
        .ok()
        .has("No space");
    let mut bundle = cx.named_bundle("second");
    bundle.user_namespace();
    for (kind, file) in [("user", "user"), ("network", "net")] {
        super::namespaces::join(&mut bundle, kind, &super::namespaces::path_of(&first, file));
    }
    notify(&mut bundle, &agent, &MKDIR);
    bundle.sh("mkdir /tmp/x 2>&1 || true");
    cx.run(&bundle).ok().has("No space");
    first.end();
}

const SCRIPT: &str = "true; echo fine";

/// create, start, exec and the end of a container, each call answered by the agent.
#[track_caller]
fn whole_life(cx: &Cx, name: &str, names: &[&str], edit: impl FnOnce(&mut Bundle)) {
    let agent = Agent::start(cx, Answer::Continue);
    let mut bundle = cx.named_bundle(name);
    notify(&mut bundle, &agent, names);
    edit(&mut bundle);
    let container = cx.start(&bundle);
    container.exec_sh(SCRIPT).ok().prints("fine");
    container.end();
    let mut bundle = cx.named_bundle(&format!("{name}-run"));
    notify(&mut bundle, &agent, names);
    bundle.sh(SCRIPT);
    cx.run(&bundle).ok().prints("fine");
    assert_eq!(agent.states(3).len(), 3);
    std::fs::remove_file(&agent.path).unwrap();
}

/// Those that a runtime makes right after loading. (All others with them: `all_calls_filtered`. And `write`, by which the
/// runtime hears of the descriptor, is refused as with runc: `write_is_refused`.)
fn filtered_calls_one_by_one(cx: &Cx) {
    for name in ["read", "close", "sendmsg", "execve"] {
        whole_life(cx, name, &[name], |_| ());
    }
}

fn all_but_write() -> Vec<&'static str> {
    let newer = [
        "statx",
        "rseq",
        "clone3",
        "close_range",
        "openat2",
        "pidfd_open",
        "faccessat2",
        "prlimit64",
        "getrandom",
    ];
    names_up_to_302()
        .into_iter()
        .filter(|name| *name != "write")
        .chain(newer)
        .collect()
}

fn all_calls_filtered(cx: &Cx) {
    whole_life(cx, "c", &all_but_write(), |_| ());
}

fn all_calls_filtered_with_privileges(cx: &Cx) {
    whole_life(cx, "c", &all_but_write(), |b| {
        b.set("/process/noNewPrivileges", json!(false))
    });
}

fn all_calls_filtered_with_hooks(cx: &Cx) {
    whole_life(cx, "c", &all_but_write(), |b| {
        let hook = json!([{"path": "/bin/busybox", "args": ["true"]}]);
        for point in ["createRuntime", "createContainer", "startContainer"] {
            b.set(&format!("/hooks/{point}"), hook.clone());
        }
    });
}

/// No copy of the descriptor is left anywhere: the kernel answers for an agent that has gone.
fn an_agent_that_leaves_means_enosys(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Leave);
    let mut bundle = cx.bundle();
    notify(&mut bundle, &agent, &MKDIR);
    let container = cx.start(&bundle);
    container
        .exec_sh("mkdir /mnt/x 2>&1 || true")
        .ok()
        .has("Function not implemented");
    container.end();
}

fn killable_wait_and_conditions(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Errno(libc::ENOSPC));
    let mut bundle = cx.script("chmod 700 /mnt 2>&1; chmod 711 /mnt && echo fine");
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path,
               "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
               "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY", "args": [
                   {"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}]}]}),
    );
    cx.run(&bundle)
        .ok()
        .has("No space left on device")
        .has("fine");
}

#[track_caller]
fn refused(cx: &Cx, seccomp: Value, text: &str) {
    let mut bundle = cx.script("true");
    bundle.set("/linux/seccomp", seccomp);
    let output = cx.try_create(&bundle);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        !cx.is_rundlet() || output.stderr.contains(text),
        "no {text:?} in {output}"
    );
}

fn mkdir_to(path: &Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
           "syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}]})
}

fn nobody_listens(cx: &Cx) {
    let path = cx.dir.join("none");
    refused(
        cx,
        mkdir_to(&json!(path)),
        &format!(
            "linux.seccomp.listenerPath: connect to `{}`: no such file or directory",
            path.display()
        ),
    );
}

fn an_agent_that_is_no_socket(cx: &Cx) {
    let path = cx.file("file", "");
    refused(
        cx,
        mkdir_to(&json!(path)),
        "linux.seccomp.listenerPath: connect to",
    );
}

fn exec_without_an_agent_fails(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    let mut bundle = cx.bundle();
    notify(&mut bundle, &agent, &MKDIR);
    let container = cx.start(&bundle);
    std::fs::remove_file(&agent.path).unwrap();
    let output = container.exec_sh("echo ran");
    assert!(
        output.code != 0 && !output.stdout.contains("ran"),
        "{output}"
    );
    assert!(
        !cx.is_rundlet() || output.stderr.contains("linux.seccomp.listenerPath"),
        "{output}"
    );
    container.end();
}

fn write_is_refused(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    refused(
        cx,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path,
               "syscalls": [{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}]}),
        "linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
    );
}

fn default_action_is_refused(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    refused(
        cx,
        json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": agent.path}),
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
    );
}

fn metadata_without_path_is_refused(cx: &Cx) {
    refused(
        cx,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
        "linux.seccomp.listenerMetadata: linux.seccomp.listenerPath is not set",
    );
}

/// The one call that tells the runtime of the descriptor is denied: create fails, it does not wait.
fn a_write_that_is_denied_hangs_nobody(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Continue);
    for (action, privileged) in [
        ("SCMP_ACT_ERRNO", false),
        ("SCMP_ACT_ERRNO", true),
        ("SCMP_ACT_KILL_PROCESS", false),
    ] {
        let mut bundle = cx.named_bundle(&format!("{action}-{privileged}").to_lowercase());
        notify(&mut bundle, &agent, &MKDIR);
        bundle.push(
            "/linux/seccomp/syscalls",
            json!({"names": ["write"], "action": action}),
        );
        bundle.set("/process/noNewPrivileges", json!(!privileged));
        let output = cx.try_create(&bundle);
        assert_ne!(output.code, 0, "{output}");
        assert!(
            !cx.is_rundlet() || output.stderr.contains("seccomp"),
            "{output}"
        );
    }
}
