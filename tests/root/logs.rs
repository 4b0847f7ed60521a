//! Errors as a caller sees them: exit code, standard error, the log, and the words that engines look for.
//!
//! Which input is refused is in `errors`; here is how every command says that something is wrong.

use serde_json::{Value, json};

use super::output::is_timestamp;
use crate::support::{Cx, Output, tests};

tests! {
    host every_command_of_a_missing_container;
    host every_command_of_a_stopped_container;
    host a_failing_command_prints_nothing_on_stdout;
    host a_failing_exec_ends_with_255;
    host the_reason_of_the_init_is_in_the_log;
    host the_last_error_is_the_whole_reason;
    host a_log_is_appended_to;
    host debug_says_more_and_changes_nothing;
    host a_log_that_is_a_pipe;
    host an_id_that_is_taken;
    host usage_errors_of_every_command;
    both a_failed_run_says_why;
}

/// Calls with a JSON log; gives the output and the log's lines.
fn logged(cx: &Cx, flags: &[&str], args: &[&str]) -> (Output, Vec<Value>) {
    let log = cx.dir.join("log.json");
    let _ = std::fs::remove_file(&log);
    let mut all = vec!["--log", log.to_str().unwrap(), "--log-format", "json"];
    all.extend(flags);
    all.extend(args);
    let output = cx.call(&all);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"));
        is_timestamp(line["time"].as_str().unwrap());
        assert!(
            line["level"].is_string() && line["msg"].is_string(),
            "{line}"
        );
        line
    });
    (output, lines.collect())
}

/// The message of the last line with the level `error`, as containerd takes it.
#[track_caller]
fn last_error(lines: &[Value]) -> &str {
    let mut errors = lines.iter().filter(|line| line["level"] == "error");
    errors.next_back().expect("an error in the log")["msg"]
        .as_str()
        .unwrap()
}

/// containerd, Podman and CRI-O take `does not exist` for "already gone".
fn every_command_of_a_missing_container(cx: &Cx) {
    let id = cx.id("none");
    let id = id.as_str();
    for (args, code) in [
        (&["state", id][..], 1),
        (&["start", id], 1),
        (&["kill", id, "9"], 1),
        (&["delete", id], 1),
        (&["pause", id], 1),
        (&["resume", id], 1),
        (&["ps", id], 1),
        (&["events", "--stats", id], 1),
        (&["update", "--pids-limit", "5", id], 1),
        (&["exec", id, "true"], 255),
    ] {
        let (output, lines) = logged(cx, &[], args);
        assert!(
            output.code == code || output.code == 1,
            "{args:?}: {output}"
        );
        assert!(
            output.stderr.contains("does not exist"),
            "{args:?}: {output}"
        );
        assert!(
            last_error(&lines).contains("does not exist"),
            "{args:?}: {lines:?}"
        );
    }
    // What is gone may be deleted by force, and says nothing.
    let (output, lines) = logged(cx, &[], &["delete", "--force", id]);
    assert_eq!((output.code, lines.len()), (0, 0), "{output}");
}

fn every_command_of_a_stopped_container(cx: &Cx) {
    let container = cx.sleeper();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    let id = container.id.as_str();
    for (args, words) in [
        (&["start", id][..], "stopped"),
        (&["kill", id, "TERM"], "container not running"),
        (&["exec", id, "true"], "stopped"),
        (&["pause", id], ""),
        (&["resume", id], ""),
    ] {
        let (output, lines) = logged(cx, &[], args);
        assert_ne!(output.code, 0, "{args:?}: {output}");
        assert!(last_error(&lines).contains(words), "{args:?}: {lines:?}");
    }
    container.call("delete").ok();
}

fn a_failing_command_prints_nothing_on_stdout(cx: &Cx) {
    let id = cx.id("none");
    let missing = cx.dir.join("missing");
    for args in [
        &["state", &id][..],
        &["ps", "--format", "json", &id],
        &["create", "--bundle", missing.to_str().unwrap(), &id],
        &["run", "--bundle", missing.to_str().unwrap(), &id],
        &["events", "--stats", &id],
    ] {
        let output = cx.call(args).is(1);
        assert_eq!(output.stdout, "", "{output}");
        assert!(!output.stderr.is_empty(), "{output}");
    }
}

/// docker tells 126 and 127 by these words; the runtime itself always says 255.
fn a_failing_exec_ends_with_255(cx: &Cx) {
    let bundle = cx.bundle();
    std::fs::write(bundle.rootfs().join("mnt/text"), "no program").unwrap();
    let container = cx.start(&bundle);
    for (args, words) in [
        (&["no-such-program"][..], "executable file not found"),
        (&["/no/such/program"], "no such file or directory"),
        (&["/mnt/text"], "permission denied"),
        (&["/mnt"], "permission denied"),
    ] {
        let mut all = vec!["exec", container.id.as_str()];
        all.extend(args);
        let (output, lines) = logged(cx, &[], &all);
        assert_eq!(output.code, 255, "{args:?}: {output}");
        let directory = args == ["/mnt"] && last_error(&lines).contains("is a directory");
        assert!(
            directory || last_error(&lines).contains(words),
            "{args:?}: {lines:?}"
        );
        assert!(
            output.stderr.contains(last_error(&lines)),
            "{args:?}: {output}"
        );
    }
    // A program that ends with 255 is no error of the runtime.
    let (output, lines) = logged(cx, &[], &["exec", &container.id, "sh", "-c", "exit 255"]);
    assert_eq!(
        (output.code, lines.len(), output.stderr.as_str()),
        (255, 0, ""),
        "{output}"
    );
    container.end();
}

/// What goes wrong in the container's own process is told by the command that waits for it.
fn the_reason_of_the_init_is_in_the_log(cx: &Cx) {
    for (pointer, value, words) in [
        (
            "/process/args",
            json!(["no-such-program"]),
            "executable file not found",
        ),
        (
            "/process/args",
            json!(["/no/such/program"]),
            "no such file or directory",
        ),
        ("/process/cwd", json!("/bin/sh"), "not a directory"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 2_000_000_000_u64, "hard": 2_000_000_000_u64}]),
            "operation not permitted",
        ),
        ("/mounts/1/type", json!("no-such-fs"), "no such device"),
    ] {
        let mut bundle = cx.bundle();
        bundle.set(pointer, value);
        bundle.write();
        let bundle_path = bundle.path.to_str().unwrap();
        let (output, lines) = logged(cx, &[], &["run", "--bundle", bundle_path, &bundle.id]);
        assert_eq!(output.code, 1, "{words}: {output}");
        assert!(last_error(&lines).contains(words), "{words}: {lines:?}");
        cx.call(&["state", &bundle.id]).is(1).says("does not exist");
        std::fs::remove_dir_all(&bundle.path).unwrap();
    }
}

/// Podman shows its user one object; nothing of the reason may be in an earlier line only.
fn the_last_error_is_the_whole_reason(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.bind(&cx.dir.join("missing"), "/data", &[]);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let (output, lines) = logged(cx, &[], &["create", "--bundle", path, &bundle.id]);
    assert_eq!(output.code, 1, "{output}");
    let message = last_error(&lines);
    for word in ["missing", "no such file or directory"] {
        assert!(message.contains(word), "no {word} in {message}");
    }
    if cx.is_rundlet() {
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}

fn a_log_is_appended_to(cx: &Cx) {
    let log = cx.file("shared.log", "what was there\n");
    let state = || {
        cx.call(&["--log", log.to_str().unwrap(), "state", &cx.id("none")])
            .is(1);
        std::fs::read_to_string(&log).unwrap()
    };
    let first = state();
    assert!(
        first.starts_with("what was there\n") && first.lines().count() == 2,
        "{first}"
    );
    let second = state();
    assert!(
        second.starts_with(&first) && second.lines().count() == 3,
        "{second}"
    );
}

fn debug_says_more_and_changes_nothing(cx: &Cx) {
    let mut bundle = cx.script("echo out; echo err >&2; exit 3");
    bundle.write();
    let (path, id) = (bundle.path.to_str().unwrap().to_owned(), bundle.id.clone());
    let run = ["run", "--bundle", path.as_str(), id.as_str()];
    let (plain, quiet) = logged(cx, &[], &run);
    let (debug, lines) = logged(cx, &["--debug"], &run);
    assert_eq!((plain.code, plain.text()), (3, "out"), "{plain}");
    assert_eq!((debug.code, debug.text()), (3, "out"), "{debug}");
    assert!(
        quiet.iter().all(|line| line["level"] != "debug"),
        "{quiet:?}"
    );
    assert!(
        lines.iter().any(|line| line["level"] == "debug"),
        "{lines:?}"
    );
    // The error comes last, whatever is said before.
    bundle.args(&["no-such-program"]);
    bundle.write();
    let (failed, lines) = logged(cx, &["--debug"], &run);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(
        last_error(&lines).contains("executable file not found"),
        "{lines:?}"
    );
}

/// An engine may read the log while it is written.
fn a_log_that_is_a_pipe(cx: &Cx) {
    let pipe = cx.dir.join("pipe");
    let script = format!(
        "mkfifo {pipe}; cat {pipe} & {} --root {} --log {pipe} --log-format json state {}; echo $?; wait",
        cx.runtime.display(),
        cx.root().display(),
        cx.id("none"),
        pipe = pipe.display()
    );
    let output = cx.host(&script).ok();
    assert!(output.stdout.contains("\"level\":\"error\""), "{output}");
    assert!(output.stdout.lines().any(|line| line == "1"), "{output}");
}

fn an_id_that_is_taken(cx: &Cx) {
    let bundle = cx.bundle();
    let container = cx.create(&bundle);
    for verb in ["create", "run"] {
        let (output, lines) = logged(
            cx,
            &[],
            &[verb, "--bundle", bundle.path.to_str().unwrap(), &bundle.id],
        );
        assert_eq!(output.code, 1, "{output}");
        let message = last_error(&lines);
        assert!(
            message.contains("exist") || message.contains("in use"),
            "{message}"
        );
    }
    assert_eq!(container.status(), "created");
    container.end();
}

fn usage_errors_of_every_command(cx: &Cx) {
    for verb in [
        "create", "start", "state", "kill", "delete", "pause", "resume", "run", "ps", "update",
    ] {
        for args in [vec![verb], vec![verb, "--no-such-flag", "x"]] {
            let output = cx.call(&args);
            assert_ne!(output.code, 0, "{output}");
            assert!(!output.stderr.is_empty(), "{output}");
        }
    }
    cx.call(&["start", "one", "two"]).is(1);
}

fn a_failed_run_says_why(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/mnt/missing"]);
    let output = cx.run(&bundle).is(1).says("no such file or directory");
    assert_eq!(output.stdout, "");
}
