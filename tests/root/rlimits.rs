//! Limits of the process: who has them, what they inherit, and that they are the container's, not the runtime's.
//!
//! The names and numbers themselves are in `process` and `field_process`, wrong ones in `errors`.

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, Output, tests};

tests! {
    host limits_not_named_are_the_callers;
    host no_limit_at_all;
    host a_program_at_its_limits;
    host small_limits_do_not_reach_the_runtime;
    host a_small_limit_of_descriptors = "runc opens files after it has set the limits";
    host exec_has_the_containers;
    host exec_of_a_process_has_its_own;
    host hooks_have_none;
    host limits_in_a_user_namespace;
    host an_ordinary_user_cannot_raise_them;
    both limits_last_as_long_as_the_container;
}

fn limit(name: &str, soft: u64, hard: u64) -> Value {
    json!({"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard})
}

/// Soft and hard limit out of a `/proc/PID/limits`.
#[track_caller]
fn shown(text: &str, title: &str) -> (String, String) {
    let line = text.lines().find_map(|line| line.strip_prefix(title));
    let words: Vec<&str> = line
        .unwrap_or_else(|| panic!("no {title:?} in {text}"))
        .split_whitespace()
        .collect();
    (words[0].to_owned(), words[1].to_owned())
}

#[track_caller]
fn has(output: &Output, title: &str, soft: &str, hard: &str) {
    let expected = (soft.to_owned(), hard.to_owned());
    assert_eq!(shown(&output.stdout, title), expected, "{title}: {output}");
}

/// A container that prints its limits.
fn printing(limits: &[Value]) -> impl FnOnce(&mut Bundle) {
    let limits = json!(limits);
    move |bundle| bundle.set("/process/rlimits", limits)
}

fn limits_not_named_are_the_callers(cx: &Cx) {
    let mut bundle = cx.script("cat /proc/self/limits");
    bundle.set("/process/rlimits", json!([limit("CORE", 0, 0)]));
    bundle.write();
    let script = format!(
        "ulimit -Sf 4000; ulimit -Hf 8000; ulimit -s 4096; exec {} --root {} run --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    );
    let output = cx.host(&script).ok();
    // sh counts blocks of 512 bytes, and stacks in KiB.
    has(&output, "Max file size", "2048000", "4096000");
    has(&output, "Max stack size", "4194304", "4194304");
    has(&output, "Max core file size", "0", "0");
}

fn no_limit_at_all(cx: &Cx) {
    let all = u64::MAX;
    let output = cx.sh(
        "cat /proc/self/limits",
        printing(&[limit("CORE", 0, all), limit("FSIZE", all, all)]),
    );
    has(&output, "Max core file size", "0", "unlimited");
    has(&output, "Max file size", "unlimited", "unlimited");
}

/// They are not only shown: the kernel holds the program to them.
fn a_program_at_its_limits(cx: &Cx) {
    let mut bundle = cx
        .script("dd if=/dev/zero of=/mnt/f bs=1000 count=100 2>/dev/null; echo $?; wc -c </mnt/f");
    printing(&[limit("FSIZE", 5000, 5000)])(&mut bundle);
    let output = cx.run(&bundle).ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    // 128 + SIGXFSZ, after the five thousand bytes that there was room for.
    assert_eq!(lines, ["153", "5000"], "{output}");
}

/// What the runtime does after the limits are set is not stopped by them.
fn small_limits_do_not_reach_the_runtime(cx: &Cx) {
    for (name, value) in [
        ("FSIZE", 0),
        ("NPROC", 1),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("SIGPENDING", 0),
    ] {
        let mut bundle = cx.named_bundle(&name.to_lowercase());
        bundle.args(&["true"]);
        printing(&[limit(name, value, value)])(&mut bundle);
        bundle.set("/process/user", json!({"uid": 4321, "gid": 4321}));
        let output = cx.run(&bundle);
        assert_eq!(output.code, 0, "{name}: {output}");
    }
}

fn a_small_limit_of_descriptors(cx: &Cx) {
    cx.sh("true", printing(&[limit("NOFILE", 3, 3)]));
}

fn exec_has_the_containers(cx: &Cx) {
    let mut bundle = cx.bundle();
    printing(&[limit("FSIZE", 100_000, 200_000), limit("SIGPENDING", 5, 6)])(&mut bundle);
    let container = cx.start(&bundle);
    let output = container.exec(&["cat", "/proc/self/limits"]).ok();
    has(&output, "Max file size", "100000", "200000");
    has(&output, "Max pending signals", "5", "6");
    container.end();
}

fn exec_of_a_process_has_its_own(cx: &Cx) {
    let mut bundle = cx.bundle();
    printing(&[limit("FSIZE", 100_000, 200_000)])(&mut bundle);
    let container = cx.start(&bundle);
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["cat", "/proc/self/limits"]);
    process["rlimits"] = json!([limit("FSIZE", 300_000, 400_000), limit("CORE", 0, 0)]);
    let file = cx.file("process.json", &process.to_string());
    let output = container
        .exec_with(&["--process", file.to_str().unwrap()], &[])
        .ok();
    has(&output, "Max file size", "300000", "400000");
    has(&output, "Max core file size", "0", "0");
    // The container keeps what it has.
    let output = container.exec(&["cat", "/proc/1/limits"]).ok();
    has(&output, "Max file size", "100000", "200000");
    container.end();
}

/// Hooks on the host's side are the runtime's children, not the container's.
fn hooks_have_none(cx: &Cx) {
    let mut bundle = cx.bundle();
    printing(&[limit("FSIZE", 100_000, 200_000)])(&mut bundle);
    let out = cx.dir.join("limits");
    let script = format!("cat /proc/self/limits >{}", out.display());
    bundle.set(
        "/hooks",
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}),
    );
    let container = cx.start(&bundle);
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let hooks = std::fs::read_to_string(out).unwrap();
    assert_eq!(shown(&hooks, "Max file size"), shown(&own, "Max file size"));
    container.end();
}

fn limits_in_a_user_namespace(cx: &Cx) {
    let output = cx.sh("cat /proc/self/limits", |bundle| {
        bundle.user_namespace();
        printing(&[limit("FSIZE", 100_000, 200_000), limit("NPROC", 50, 60)])(bundle);
    });
    has(&output, "Max file size", "100000", "200000");
    has(&output, "Max processes", "50", "60");
}

fn an_ordinary_user_cannot_raise_them(cx: &Cx) {
    let output = cx.sh(
        "ulimit -Sf 3 && ulimit -f; ulimit -Hf 9 || echo refused",
        |bundle| {
            bundle.set("/process/user", json!({"uid": 4321, "gid": 4321}));
            printing(&[limit("FSIZE", 1024, 2048)])(bundle);
        },
    );
    assert_eq!(output.text(), "3\nrefused", "{output}");
}

/// Set once, seen from the host, still there after a pause.
fn limits_last_as_long_as_the_container(cx: &Cx) {
    let mut bundle = cx.bundle();
    printing(&[limit("FSIZE", 100_000, 200_000)])(&mut bundle);
    let container = cx.create(&bundle);
    container.call("start").ok();
    let pid = container.pid();
    let seen = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        shown(&text, "Max file size")
    };
    let expected = ("100000".to_owned(), "200000".to_owned());
    crate::support::eventually("the program has the limit", 15, || seen() == expected);
    container.call("pause").ok();
    container.call("resume").ok();
    assert_eq!(seen(), expected);
    container.end();
}
