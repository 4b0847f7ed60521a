//! What is printed and logged: errors, the log file, features, list, spec.

use super::*;

#[test]
fn an_error_is_a_text_line_on_stderr_without_a_log() {
    let answer = with_root(&["state", "nope"]);
    assert_eq!(answer.err.lines().count(), 1);
    let line = answer.last();
    assert!(
        line.starts_with("time=\"20") && line.contains("Z\" level=error msg=\""),
        "{line}"
    );
    assert!(line.contains("container `nope` does not exist"), "{line}");
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
    assert!(list("/linux/namespaces").contains(&"time".into()));
    assert_eq!(
        features
            .pointer("/linux/mountExtensions/idmap/enabled")
            .unwrap(),
        true
    );
    assert_eq!(features.pointer("/linux/cgroup/systemd").unwrap(), true);
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
