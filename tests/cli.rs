//! The command line as callers see it: grammar, exit codes, help, error strings, log lines and the documents on stdout. Runs the
//! real binary; needs no root and makes no container. Where runc is installed, what both must answer alike is compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test"
)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    /// The last line of stderr: what engines show.
    fn last(&self) -> &str {
        self.err.trim_end().lines().last().unwrap_or_default()
    }
}

fn ask(program: &str, args: &[impl AsRef<OsStr>], dir: &Path) -> Answer {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Answer {
        code: output.status.code().expect("not ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn rundlet(args: &[&str]) -> Answer {
    ask(env!("CARGO_BIN_EXE_rundlet"), args, Path::new("/"))
}

fn rundlet_in(dir: &TempDir, args: &[&str]) -> Answer {
    ask(env!("CARGO_BIN_EXE_rundlet"), args, dir.path())
}

/// With a state root of its own, so that nothing outside the test is seen.
fn with_root(args: &[&str]) -> Answer {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("state");
    let mut all = vec!["--root", root.to_str().unwrap()];
    all.extend(args);
    rundlet(&all)
}

fn runc(args: &[&str], dir: &Path) -> Option<Answer> {
    let found = Command::new("runc").arg("--version").output().is_ok();
    if !found {
        println!("skipped the comparison: runc is not installed");
        return None;
    }
    Some(ask("runc", args, dir))
}

const SUPPORTED: [&str; 13] = [
    "create", "start", "run", "exec", "state", "list", "ps", "kill", "pause", "resume", "delete",
    "spec", "features",
];
const REFUSED: [&str; 4] = ["update", "events", "checkpoint", "restore"];

#[test]
fn no_verb_prints_help_and_succeeds() {
    for args in [&[][..], &["--help"], &["-h"], &["-help"], &["help"], &["h"]] {
        let answer = rundlet(args);
        assert_eq!(answer.code, 0, "{args:?}");
        assert_eq!(answer.err, "");
        assert!(
            answer
                .out
                .starts_with("NAME:\n   rundlet - Open Container Initiative runtime\n")
        );
        for verb in SUPPORTED.iter().chain(&REFUSED) {
            assert!(answer.out.contains(&format!("\n   {verb} ")), "{verb}");
        }
    }
}

#[test]
fn every_verb_has_help_at_exit_code_0() {
    for verb in SUPPORTED.iter().chain(&REFUSED) {
        let pages = [
            rundlet(&[verb, "--help"]),
            rundlet(&[verb, "-h"]),
            rundlet(&["help", verb]),
        ];
        for page in &pages {
            assert_eq!((page.code, page.err.as_str()), (0, ""), "{verb}");
            let name = page.out.lines().nth(1).unwrap();
            assert!(name.starts_with(&format!("   rundlet {verb} - ")), "{name}");
        }
        assert_eq!(pages[0].out, pages[1].out);
    }
    assert!(
        rundlet(&["create", "--help"])
            .out
            .contains("--pidfd-socket <PATH>")
    );
}

#[test]
fn the_version_has_the_lines_engines_look_for_and_nothing_on_stderr() {
    for args in [["--version"], ["-v"], ["-version"]] {
        let answer = rundlet(&args);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""));
        let lines: Vec<&str> = answer.out.lines().collect();
        assert_eq!(
            lines[0],
            concat!("rundlet version ", env!("CARGO_PKG_VERSION"))
        );
        assert!(
            lines[1]
                .strip_prefix("commit: ")
                .is_some_and(|commit| !commit.is_empty())
        );
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

#[test]
fn wrong_usage_is_exit_code_1_with_usage_and_one_error_line() {
    for (args, message) in [
        (&["--foo"][..], "flag provided but not defined: -foo"),
        (
            &["create", "--foo", "x"],
            "flag provided but not defined: -foo",
        ),
        (
            &["exec", "--foo", "x", "y"],
            "flag provided but not defined: -foo",
        ),
        (&["create", "--bundle"], "flag needs an argument: --bundle"),
        (&["create", "-b"], "flag needs an argument: -b"),
        (
            &["create", "--no-pivot=perhaps", "x"],
            "invalid boolean value",
        ),
        (
            &["create", "--preserve-fds", "many", "x"],
            "invalid value 'many' for '--preserve-fds <N>'",
        ),
        (
            &["state"],
            r#"rundlet: \"state\" requires exactly 1 argument(s)"#,
        ),
        (
            &["start", "a", "b"],
            r#"rundlet: \"start\" requires exactly 1 argument(s)"#,
        ),
        (
            &["list", "a"],
            r#"rundlet: \"list\" requires exactly 0 argument(s)"#,
        ),
        (
            &["ps"],
            r#"rundlet: \"ps\" requires a minimum of 1 argument(s)"#,
        ),
        (
            &["kill", "a", "b", "c"],
            r#"rundlet: \"kill\" requires a maximum of 2 argument(s)"#,
        ),
        (&["bogus"], "No help topic for 'bogus'"),
        (&["bogus", "-h"], "No help topic for 'bogus'"),
    ] {
        let answer = rundlet(args);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{args:?}");
        assert!(
            answer.err.starts_with("Usage: rundlet "),
            "{args:?}: {}",
            answer.err
        );
        assert!(
            answer.last().contains(message),
            "{args:?}: {}",
            answer.last()
        );
    }
}

#[test]
fn flags_are_read_as_go_programs_read_them() {
    for args in [
        &["state", "nope"][..],
        &["-debug=false", "state", "nope"],
        &["--rootless=auto", "-log-format=text", "state", "nope"],
        &["--rootless", "true", "--systemd-cgroup", "state", "nope"],
        &["state", "--", "nope"],
        &["state", "--debug=0", "nope"],
        &["start", "nope"],
        &["kill", "nope", "-9"],
        &["kill", "-a", "nope", "KILL"],
        &["kill", "--all=true", "nope"],
        &["delete", "nope"],
        &["pause", "nope"],
        &["ps", "nope", "-e", "--foo"],
        &["ps", "-f", "json", "nope"],
    ] {
        let answer = with_root(args);
        assert_eq!(answer.code, 1, "{args:?}");
        // `-9` is a word to `kill`, and no signal.
        let message = if args.contains(&"-9") {
            "unknown signal"
        } else {
            "does not exist"
        };
        assert!(answer.last().contains(message), "{args:?}: {}", answer.err);
    }
    let answer = with_root(&["delete", "nope", "--force"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}

#[test]
fn exec_fails_with_255_and_bad_usage_of_it_with_1() {
    for (args, message) in [
        (&["exec", "nope", "ls", "--help"][..], "does not exist"),
        (&["exec", "nope"], "process args cannot be empty"),
        (&["exec", "-u", "1x", "nope", "ls"], "is not a number"),
        (&["exec", "--user=+1", "nope", "ls"], "is not a number"),
        (&["exec", "-u", "4294967295", "nope", "ls"], "is not an id"),
        (
            &["exec", "-p", "p.json", "-e", "A=b", "nope"],
            "--env can not be combined with --process",
        ),
    ] {
        let answer = with_root(args);
        assert_eq!(answer.code, 255, "{args:?}");
        assert!(answer.last().contains("exec failed: "), "{}", answer.err);
        assert!(
            answer.last().contains(message),
            "{args:?}: {}",
            answer.last()
        );
    }
    assert_eq!(rundlet(&["exec"]).code, 1);
}

#[test]
fn verbs_without_support_say_so_and_never_look_like_a_usage_error() {
    for verb in REFUSED {
        for args in [
            &[verb][..],
            &[verb, "--lsm-mount-context"],
            &[verb, "--resources=-", "x"],
        ] {
            let answer = rundlet(args);
            assert_eq!((answer.code, answer.out.as_str()), (1, ""));
            assert!(
                answer
                    .last()
                    .contains(&format!("rundlet: {verb} is not supported by this version"))
            );
            for probe in ["needs an argument", "requires an argument"] {
                assert!(!answer.err.contains(probe), "{}", answer.err);
            }
        }
        assert!(rundlet(&[verb, "--help"]).out.contains("not supported"));
    }
}

#[test]
fn the_systemd_driver_is_refused_where_it_would_be_used() {
    for args in [
        ["--systemd-cgroup", "create", "x"],
        ["--systemd-cgroup", "run", "x"],
    ] {
        let answer = with_root(&args);
        assert_eq!(answer.code, 1);
        assert!(
            answer
                .last()
                .contains("the systemd cgroup driver is not supported yet")
        );
    }
}

#[test]
fn the_state_root_must_not_be_the_root() {
    for root in ["/", "//", "/tmp/.."] {
        let answer = rundlet(&["--root", root, "list"]);
        assert_eq!(answer.code, 1);
        assert!(answer.last().contains("must not be `/`"), "{}", answer.err);
    }
}

#[test]
fn an_error_is_a_text_line_on_stderr_without_a_log() {
    let answer = with_root(&["state", "nope"]);
    assert_eq!(answer.err.lines().count(), 1);
    let line = answer.last();
    assert!(
        line.starts_with("time=\"20") && line.contains("Z\" level=error msg=\""),
        "{line}"
    );
    assert!(line.ends_with("does not exist\""), "{line}");
}

#[test]
fn with_a_log_there_is_one_json_object_and_the_bare_message_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let args = [
        "--root",
        state.to_str().unwrap(),
        "--log",
        "log.json",
        "--log-format",
        "json",
        "state",
        "nope",
    ];
    let answer = rundlet_in(&dir, &args);
    assert_eq!(answer.code, 1);
    let log = std::fs::read_to_string(dir.path().join("log.json")).unwrap();
    let record: Value =
        serde_json::from_str(&log).expect("one object, for podman decodes the whole file");
    assert_eq!(record["level"], "error");
    let message = record["msg"].as_str().unwrap();
    assert!(message.contains("does not exist"));
    assert_eq!(answer.err, format!("{message}\n"));
    let time = record["time"].as_str().unwrap();
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000000Z");

    rundlet_in(&dir, &args);
    let log = std::fs::read_to_string(dir.path().join("log.json")).unwrap();
    assert_eq!(log.lines().count(), 2, "the log is appended to");
}

#[test]
fn a_wrong_flag_of_a_verb_is_in_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let answer = rundlet_in(
        &dir,
        &[
            "--log",
            "log.json",
            "--log-format=json",
            "create",
            "--foo",
            "x",
        ],
    );
    assert_eq!(answer.code, 1);
    assert_eq!(answer.last(), "flag provided but not defined: -foo");
    let log = std::fs::read_to_string(dir.path().join("log.json")).unwrap();
    let record: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(record["msg"], "flag provided but not defined: -foo");
}

#[test]
fn success_leaves_the_log_empty_unless_debug_is_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let answer = rundlet_in(&dir, &["--log", "log", "--log-format", "json", "features"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    assert_eq!(std::fs::read(&log).unwrap(), b"");
    let answer = rundlet_in(
        &dir,
        &[
            "--log",
            "log",
            "--log-format",
            "json",
            "--debug",
            "features",
        ],
    );
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        assert_eq!(
            serde_json::from_str::<Value>(line).unwrap()["level"],
            "debug"
        );
    }
    let answer = rundlet_in(&dir, &["--debug", "features"]);
    assert!(answer.err.contains("level=debug"));
}

#[test]
fn log_faults_are_reported_on_stderr() {
    let answer = rundlet(&["--log-format", "xml", "list"]);
    assert_eq!(answer.code, 1);
    assert!(answer.last().contains("invalid log-format: xml"));
    let answer = rundlet(&["--log", "/nonexistent/dir/log", "list"]);
    assert_eq!(answer.code, 1);
    assert!(
        answer
            .last()
            .to_lowercase()
            .contains("/nonexistent/dir/log`: no such file or directory")
    );
}

#[test]
fn features_is_the_document_of_the_specification_alone_on_stdout() {
    let answer = rundlet(&["features"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    assert!(
        answer.out.starts_with(
            "{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n"
        )
    );
    let features: Value = serde_json::from_str(&answer.out).unwrap();
    let list = |pointer: &str| {
        features
            .pointer(pointer)
            .unwrap()
            .as_array()
            .unwrap()
            .clone()
    };
    assert_eq!(list("/hooks").len(), 6);
    assert!(list("/mountOptions").contains(&"rro".into()));
    assert!(list("/linux/namespaces").contains(&"user".into()));
    // What is not carried out is not promised.
    assert!(!list("/linux/namespaces").contains(&"time".into()));
    assert_eq!(
        features
            .pointer("/linux/mountExtensions/idmap/enabled")
            .unwrap(),
        false
    );
    assert_eq!(features.pointer("/linux/cgroup/systemd").unwrap(), false);
    assert_eq!(features.pointer("/linux/cgroup/v2").unwrap(), true);
    assert!(list("/potentiallyUnsafeConfigAnnotations").contains(&"bundle".into()));

    if let Some(theirs) = runc(&["features"], Path::new("/")) {
        let theirs: Value = serde_json::from_str(&theirs.out).unwrap();
        for pointer in ["/hooks", "/linux/capabilities", "/linux/seccomp/operators"] {
            let sorted = |value: &Value| {
                let mut names: Vec<String> = value
                    .pointer(pointer)
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                names.sort_unstable();
                names
            };
            assert_eq!(sorted(&features), sorted(&theirs), "{pointer}");
        }
    }
}

#[test]
fn list_of_nothing_is_a_header_or_null() {
    let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
    for (args, out) in [
        (&["list"][..], header),
        (&["list", "--format", "table"], header),
        (&["list", "-f", "json"], "null\n"),
        (&["list", "--quiet"], ""),
        (&["list", "-q", "-f=json"], ""),
    ] {
        let answer = with_root(args);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{args:?}");
        assert_eq!(answer.out, out, "{args:?}");
        let root = tempfile::tempdir().unwrap();
        let mut theirs = vec!["--root", root.path().to_str().unwrap()];
        theirs.extend(args);
        if let Some(theirs) = runc(&theirs, Path::new("/")) {
            assert_eq!(theirs.out, out, "runc {args:?}");
        }
    }
    let answer = with_root(&["list", "--format", "yaml"]);
    assert_eq!(answer.code, 1);
    assert!(answer.last().contains("invalid format option"));
}

#[test]
fn spec_writes_a_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let answer = rundlet_in(&dir, &["spec"]);
    assert_eq!(
        (answer.code, answer.out.as_str(), answer.err.as_str()),
        (0, "", "")
    );
    let file = dir.path().join("config.json");
    let ours = std::fs::read_to_string(&file).unwrap();
    let again = rundlet_in(&dir, &["spec"]);
    assert_eq!(again.code, 1);
    assert!(
        again
            .last()
            .contains("File config.json exists. Remove it first"),
        "{}",
        again.last()
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), ours);

    let other = tempfile::tempdir().unwrap();
    let answer = rundlet(&[
        "spec",
        "--rootless",
        "--bundle",
        other.path().to_str().unwrap(),
    ]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let rootless = std::fs::read_to_string(other.path().join("config.json")).unwrap();
    assert!(rootless.contains("\"uidMappings\"") && !ours.contains("\"uidMappings\""));

    let missing = rundlet(&["spec", "--bundle", "/nonexistent"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing
            .last()
            .to_lowercase()
            .contains("no such file or directory")
    );
}

/// The same mounts, paths, limits and layout. What runc changed after the version that Debian ships is taken out first: the
/// specification's version, the ambient set, and one masked path.
#[test]
fn spec_is_what_runc_writes() {
    for flags in [&["spec"][..], &["spec", "--rootless"]] {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(answer) = runc(flags, theirs.path()) else {
            return;
        };
        assert_eq!(answer.code, 0, "{}", answer.err);
        assert_eq!(rundlet_in(&ours, flags).code, 0);
        let read = |dir: &TempDir| -> Value {
            let text = std::fs::read(dir.path().join("config.json")).unwrap();
            let mut value: Value = serde_json::from_slice(&text).unwrap();
            value["ociVersion"] = Value::Null;
            value["hostname"] = Value::Null;
            value["process"]["capabilities"]
                .as_object_mut()
                .unwrap()
                .remove("ambient");
            let masked = value
                .pointer_mut("/linux/maskedPaths")
                .unwrap()
                .as_array_mut()
                .unwrap();
            masked.retain(|path| path != "/sys/devices/virtual/tpm");
            value
        };
        assert_eq!(read(&ours), read(&theirs), "{flags:?}");
    }
}

#[test]
fn a_reader_that_went_away_is_an_error_not_a_crash() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rundlet"))
        .arg("features")
        .stdout(Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        ))
        .stderr(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("write to standard output")
    );
}

#[test]
fn arguments_that_are_not_utf8_are_refused_or_passed_on_but_never_a_crash() {
    use std::os::unix::ffi::OsStrExt as _;
    let raw = OsStr::from_bytes(b"\xff\xfe");
    for args in [
        [OsStr::new("state"), raw],
        [raw, raw],
        [OsStr::new("--\u{fe}"), raw],
    ] {
        let answer = ask(env!("CARGO_BIN_EXE_rundlet"), &args, Path::new("/"));
        assert_eq!(answer.code, 1);
        assert!(answer.err.contains("level=error"), "{}", answer.err);
    }
}
