//! How the command line is read: verbs, flags, help, wrong usage, exit codes.

use super::*;

const VERBS: [&str; 18] = [
    "create",
    "start",
    "run",
    "exec",
    "state",
    "list",
    "ps",
    "kill",
    "pause",
    "resume",
    "delete",
    "spec",
    "features",
    "update",
    "mounts",
    "events",
    "checkpoint",
    "restore",
];

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
        for verb in VERBS {
            assert!(answer.out.contains(&format!("\n   {verb} ")), "{verb}");
        }
    }
}

#[test]
fn every_verb_has_help_at_exit_code_0() {
    for verb in VERBS {
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

/// Podman and CRI-O decide by these whether a runtime can checkpoint.
#[test]
fn engines_find_out_about_checkpoints_by_usage_errors() {
    assert_eq!(rundlet(&["checkpoint", "--help"]).code, 0);
    let answer = rundlet(&["restore", "--lsm-mount-context"]);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(
        answer
            .last()
            .contains("flag needs an argument: --lsm-mount-context")
    );
    for verb in ["checkpoint", "restore"] {
        let answer = rundlet(&[verb]);
        assert_eq!(answer.code, 1);
        assert!(answer.last().contains("requires exactly 1 argument"));
    }
}

/// What containerd's shim gives.
#[test]
fn restore_takes_the_words_of_runc_s_callers() {
    let answer = rundlet(&[
        "restore",
        "--image-path",
        "/nonexistent/images",
        "--work-path",
        "/nonexistent/work",
        "--detach",
        "--pid-file",
        "/nonexistent/pid",
        "--no-pivot",
        "-no-subreaper",
        "--bundle",
        "/nonexistent",
        "c",
    ]);
    assert_eq!(answer.code, 1);
    assert!(!answer.err.contains("Usage:"), "{}", answer.err);
}

#[test]
fn the_state_root_must_not_be_the_root() {
    for root in ["/", "//", "/tmp/.."] {
        let answer = rundlet(&["--root", root, "list"]);
        assert_eq!(answer.code, 1);
        assert!(answer.last().contains("must not be `/`"), "{}", answer.err);
    }
}
