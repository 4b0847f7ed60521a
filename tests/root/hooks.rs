//! Hooks: the six kinds, their order, place, input, environment; failing and hanging ones (H1).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    both all_kinds_in_order = "runc 1.1.5 runs poststart before the program";
    host state_on_standard_input;
    host status_in_each_hook = "runc 1.1.5 runs poststart while the container is still created";
    host environment_is_the_hooks_own;
    host arguments_are_the_hooks_own;
    host no_environment_means_none = "runc 1.1.5 hands its own environment on";
    host create_container_hook_is_in_the_mount_namespace;
    host start_container_hook_is_in_the_root;
    host create_runtime_hook_is_outside;
    host poststop_runs_once_on_force;
    host run_runs_all;
    host namespaces_exist_in_create_runtime;
    host hooks_of_the_runtime_are_in_its_network;
    host create_container_hook_is_in_the_network;
}

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// The directory that hooks write to: inside and outside under the same name.
pub(crate) fn log_dir(cx: &Cx, bundle: &mut Bundle) -> PathBuf {
    let dir = cx.dir.join("log");
    fs::create_dir_all(&dir).unwrap();
    bundle.bind(&dir, dir.to_str().unwrap(), &["rw"]);
    dir
}

pub(crate) fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
}

pub(crate) fn hook(bundle: &mut Bundle, kind: &str, script: &str) {
    bundle.push(&format!("/hooks/{kind}"), shell(script));
}

pub(crate) fn read(dir: &std::path::Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn all_kinds_in_order(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let log = dir.join("order");
    for kind in KINDS {
        for number in [1, 2] {
            hook(
                &mut bundle,
                kind,
                &format!("echo {kind}{number} >>{}", log.display()),
            );
        }
    }
    bundle.sh(&format!(
        "echo program >>{}; exec sleep 1000",
        log.display()
    ));
    let container = cx.create(&bundle);
    let created = "prestart1\nprestart2\ncreateRuntime1\ncreateRuntime2\ncreateContainer1\ncreateContainer2\n";
    assert_eq!(read(&dir, "order"), created);
    container.call("start").ok();
    eventually("the program runs", 5, || {
        read(&dir, "order").contains("program")
    });
    let after = read(&dir, "order");
    let started: Vec<&str> = after.strip_prefix(created).unwrap().lines().collect();
    assert_eq!(started[..2], ["startContainer1", "startContainer2"]);
    // poststart comes after the program has begun, but both may write at once.
    let mut rest = started[2..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, ["poststart1", "poststart2", "program"]);
    container.end();
    assert!(read(&dir, "order").ends_with("poststop1\npoststop2\n"));
}

fn state_on_standard_input(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.config["annotations"] = json!({"key": "value"});
    let dir = log_dir(cx, &mut bundle);
    for kind in KINDS {
        hook(&mut bundle, kind, &format!("cat >{}/{kind}", dir.display()));
    }
    let container = cx.start(&bundle);
    let pid = container.pid();
    eventually("poststart has run", 5, || {
        read(&dir, "poststart").ends_with('}') || read(&dir, "poststart").ends_with('\n')
    });
    container.end();
    for kind in KINDS {
        let state: Value = serde_json::from_str(&read(&dir, kind))
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(state["id"], bundle.id, "{kind}");
        assert_eq!(state["bundle"], bundle.path.to_str().unwrap(), "{kind}");
        assert!(
            state["ociVersion"].as_str().unwrap().starts_with("1."),
            "{kind}"
        );
        assert_eq!(state["annotations"]["key"], "value", "{kind}");
        match kind {
            "prestart" | "createRuntime" | "poststart" => assert_eq!(state["pid"], pid, "{kind}"),
            // In the container's own namespaces the pid may be that of there.
            "createContainer" | "startContainer" => {
                assert!(state["pid"].as_i64().unwrap() > 0, "{kind}")
            }
            _ => assert!(state["pid"].is_null() || state["pid"] == 0, "{kind}"),
        }
    }
}

fn status_in_each_hook(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    for kind in KINDS {
        hook(&mut bundle, kind, &format!("cat >{}/{kind}", dir.display()));
    }
    let container = cx.start(&bundle);
    container.end();
    for (kind, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state: Value = serde_json::from_str(&read(&dir, kind)).unwrap();
        assert_eq!(state["status"], status, "{kind}");
    }
}

fn environment_is_the_hooks_own(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let script = format!("exec env >{}/env", dir.display());
    let mut own = shell(&script);
    own["env"] = json!(["A=1", "B=two words", "PATH=/usr/bin:/bin"]);
    bundle.push("/hooks/createRuntime", own);
    cx.create(&bundle).end();
    let text = read(&dir, "env");
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("PWD=") && !line.starts_with("_="))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=two words", "PATH=/usr/bin:/bin"]);
}

fn no_environment_means_none(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let mut own = shell(&format!("exec /usr/bin/env >{}/env", dir.display()));
    own.as_object_mut().unwrap().remove("env");
    bundle.push("/hooks/createRuntime", own);
    bundle.write();
    let mut command = cx.command(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]);
    command.env("SECRET_OF_THE_HOST", "1");
    cx.spawn(command).wait().ok();
    cx.container(&bundle.id).end();
    assert!(
        !read(&dir, "env").contains("SECRET_OF_THE_HOST"),
        "{}",
        read(&dir, "env")
    );
}

fn arguments_are_the_hooks_own(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let log = dir.join("args");
    bundle.push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["own-name", "-c", format!("echo \"$0|$1|$2\" >{}", log.display()), "zero", "", "a b"]}),
    );
    cx.create(&bundle).end();
    assert_eq!(read(&dir, "args"), "zero||a b\n");
}

fn create_container_hook_is_in_the_mount_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(
        &mut bundle,
        "createContainer",
        &format!(
            "readlink /proc/self/ns/mnt >{0}/ns; ls -d {0} >{0}/path",
            dir.display()
        ),
    );
    let container = cx.create(&bundle);
    let wanted = fs::read_link(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    assert_eq!(read(&dir, "ns").trim(), wanted.to_str().unwrap());
    // Before the pivot: paths are the host's.
    assert_eq!(read(&dir, "path").trim(), dir.to_str().unwrap());
    container.end();
}

fn start_container_hook_is_in_the_root(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    // busybox of the rootfs, not the host's shell.
    hook(
        &mut bundle,
        "startContainer",
        &format!(
            "readlink /bin/sh >{0}/sh; hostname >{0}/hostname",
            dir.display()
        ),
    );
    let container = cx.create(&bundle);
    assert_eq!(read(&dir, "sh"), "");
    container.call("start").ok();
    eventually("the hook has run", 5, || {
        read(&dir, "hostname") == "inside\n"
    });
    assert_eq!(read(&dir, "sh"), "busybox\n");
    container.end();
}

fn create_runtime_hook_is_outside(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(
        &mut bundle,
        "createRuntime",
        &format!("readlink /proc/self/ns/mnt >{}/ns", dir.display()),
    );
    cx.create(&bundle).end();
    assert_eq!(
        read(&dir, "ns").trim(),
        fs::read_link("/proc/self/ns/mnt")
            .unwrap()
            .to_str()
            .unwrap()
    );
}

fn namespaces_exist_in_create_runtime(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    // As a network hook does it: the namespace of the pid on standard input.
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/;t;d'); readlink /proc/$pid/ns/net >{}/net",
        dir.display()
    );
    hook(
        &mut bundle,
        "createRuntime",
        &format!("tr -d '\\n' | ({script})"),
    );
    let container = cx.create(&bundle);
    let wanted = fs::read_link(format!("/proc/{}/ns/net", container.pid())).unwrap();
    assert_eq!(read(&dir, "net").trim(), wanted.to_str().unwrap());
    container.end();
}

/// Also where the runtime itself has made the container's network namespace; and that one is finished by then.
fn hooks_of_the_runtime_are_in_its_network(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let outside = ["prestart", "createRuntime", "poststart", "poststop"];
    for kind in outside {
        let script = format!("readlink /proc/self/ns/net >{}/{kind}", dir.display());
        hook(&mut bundle, kind, &script);
    }
    let script = format!(
        "pid=$(tr -d '\\n' | sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/;t;d'); nsenter -t $pid -n ip link show lo >{}/lo",
        dir.display()
    );
    hook(&mut bundle, "createRuntime", &script);
    let container = cx.start(&bundle);
    let inside = fs::read_link(format!("/proc/{}/ns/net", container.pid())).unwrap();
    container.end();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(own, inside);
    for kind in outside {
        assert_eq!(read(&dir, kind).trim(), own.to_str().unwrap(), "{kind}");
    }
    assert!(read(&dir, "lo").contains(",UP"), "{}", read(&dir, "lo"));
}

fn create_container_hook_is_in_the_network(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let script = format!(
        "readlink /proc/self/ns/net >{0}/net; ip link show lo >{0}/lo",
        dir.display()
    );
    hook(&mut bundle, "createContainer", &script);
    let container = cx.create(&bundle);
    let inside = fs::read_link(format!("/proc/{}/ns/net", container.pid())).unwrap();
    container.end();
    assert_eq!(read(&dir, "net").trim(), inside.to_str().unwrap());
    assert!(read(&dir, "lo").contains(",UP"), "{}", read(&dir, "lo"));
}

fn poststop_runs_once_on_force(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    hook(
        &mut bundle,
        "poststop",
        &format!("echo x >>{}/count", dir.display()),
    );
    let container = cx.start(&bundle);
    cx.call(&["delete", "--force", &container.id]).ok();
    cx.call(&["delete", "--force", &container.id]).ok();
    assert_eq!(read(&dir, "count"), "x\n");
}

fn run_runs_all(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    for kind in KINDS {
        hook(
            &mut bundle,
            kind,
            &format!("echo {kind} >>{}/run", dir.display()),
        );
    }
    // Long enough for poststart to find a running program.
    bundle.sh("sleep 0.2; exit 4");
    cx.run(&bundle).is(4);
    let log = read(&dir, "run");
    let mut lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.last(), Some(&"poststop"));
    lines.sort_unstable();
    let mut wanted = KINDS;
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}
