//! The command line: forms of flags, help, version, the log, unknown words.

use super::output::is_timestamp;
use crate::support::{Cx, tests};
use serde_json::Value;

tests! {
    host version_names_itself;
    host help_is_not_an_error;
    host unknown_words_are_errors;
    host one_dash_is_enough;
    host root_in_all_forms;
    host log_gets_one_json_line;
    host log_as_text;
    host log_stays_empty_on_success;
    host a_good_command_says_nothing;
}

fn version_names_itself(cx: &Cx) {
    for flag in ["--version", "-v"] {
        let output = cx.call(&[flag]).ok();
        assert_eq!(output.stderr, "");
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines[0].contains("version "), "{output}");
        assert!(
            lines.iter().any(|line| line.starts_with("commit: ")),
            "{output}"
        );
        assert!(
            lines.iter().any(|line| line.starts_with("spec: 1.")),
            "{output}"
        );
    }
}

fn help_is_not_an_error(cx: &Cx) {
    for args in [
        vec!["--help"],
        vec![],
        vec!["create", "--help"],
        vec!["exec", "-h"],
    ] {
        let output = cx.call(&args).ok();
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    cx.call(&["--help"])
        .ok()
        .has("create")
        .has("exec")
        .has("resume");
}

fn unknown_words_are_errors(cx: &Cx) {
    cx.call(&["nosuchverb"])
        .is(if cx.is_rundlet() { 1 } else { 3 });
    cx.call(&["create", "--no-such-flag", "x"]).is(1);
    cx.call(&["--no-such-flag", "list"]).is(1);
    cx.call(&["state"]).is(1);
    cx.call(&["state", "a", "b"]).is(1);
    cx.call(&["start"]).is(1);
    cx.call(&["delete", "--force=maybe", "x"]).is(1);
    cx.call(&["create", "--bundle"]).is(1);
}

fn one_dash_is_enough(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let root = cx.root();
    let call = |args: &[&str]| {
        let mut command = std::process::Command::new(&cx.runtime);
        command
            .args([
                "-root",
                root.to_str().unwrap(),
                "-log-format=json",
                "-debug=false",
            ])
            .args(args);
        cx.spawn(command).wait()
    };
    call(&[
        "run",
        "-bundle",
        path,
        "-detach",
        "-no-pivot=false",
        "-no-subreaper",
        &bundle.id,
    ])
    .ok();
    call(&["exec", &bundle.id, "true"]).ok();
    // Flags may follow the id, but in exec, kill and ps.
    call(&["delete", &bundle.id, "-force=true"]).ok();
}

fn root_in_all_forms(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    let root = cx.root();
    let root = root.to_str().unwrap();
    for args in [
        vec![format!("--root={root}")],
        vec!["-root".to_owned(), root.to_owned()],
    ] {
        let mut command = std::process::Command::new(&cx.runtime);
        command.args(args).args(["list", "-q"]);
        cx.spawn(command).wait().ok().prints(&container.id);
    }
    // A relative root is one of the working directory.
    let mut command = std::process::Command::new(&cx.runtime);
    command
        .args(["--root", "state", "list", "-q"])
        .current_dir(&cx.dir);
    cx.spawn(command).wait().ok().prints(&container.id);
    container.end();
}

fn log_gets_one_json_line(cx: &Cx) {
    let log = cx.dir.join("log.json");
    let bundle = cx.bundle();
    let call = || {
        cx.call(&[
            "--log",
            log.to_str().unwrap(),
            "--log-format",
            "json",
            "start",
            &bundle.id,
        ])
        .is(1)
    };
    let output = call();
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["level"], "error");
    is_timestamp(line["time"].as_str().unwrap());
    let message = line["msg"].as_str().unwrap();
    assert!(message.contains("does not exist"), "{text}");
    // The bare message goes to stderr as well.
    assert_eq!(output.stderr.trim(), message);
    // Appended, not overwritten.
    call();
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
}

fn log_as_text(cx: &Cx) {
    let log = cx.dir.join("log.txt");
    cx.call(&["--log", log.to_str().unwrap(), "state", &cx.id("no")])
        .is(1)
        .says("does not exist");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("does not exist") && text.contains("error"),
        "{text}"
    );
    cx.call(&["--log-format", "xml", "list"]).is(1);
}

fn log_stays_empty_on_success(cx: &Cx) {
    let log = cx.dir.join("log.json");
    let bundle = cx.script("true");
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    cx.call(&[
        "--log",
        log.to_str().unwrap(),
        "--log-format=json",
        "run",
        "--bundle",
        path,
        &bundle.id,
    ])
    .ok();
    assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
}

fn a_good_command_says_nothing(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let id = bundle.id.as_str();
    let path = bundle.path.to_str().unwrap();
    for args in [
        vec!["create", "--bundle", path, id],
        vec!["start", id],
        vec!["pause", id],
        vec!["resume", id],
        vec!["exec", id, "true"],
        vec!["kill", id, "KILL"],
        vec!["delete", "--force", id],
    ] {
        let output = cx.call(&args).ok();
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output}"
        );
    }
}
