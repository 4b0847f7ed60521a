//! `check`: every mistake at once, what nobody else says, and nothing made.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, tests};

tests! {
    host a_good_bundle_has_no_errors = "runc has no such verb";
    host all_mistakes_are_found_at_once = "runc has no such verb";
    host places_are_those_of_the_document = "runc has no such verb";
    host misspelt_fields_are_warnings = "runc has no such verb";
    host what_the_host_lacks_is_found = "runc has no such verb";
    host what_create_takes_check_takes = "runc has no such verb";
    v2 fields_of_v1_are_named = "runc has no such verb";
}

fn findings(cx: &Cx, bundle: &Bundle, flags: &[&str], code: i32) -> Vec<Value> {
    bundle.write();
    let mut args = vec!["check", "--json"];
    args.extend(flags);
    args.push(bundle.path.to_str().unwrap());
    let output = cx.call(&args).is(code);
    let told: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(!cx.root().exists(), "a state root was made");
    let errors = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|finding| finding["level"] == "error");
    assert_eq!(told["creatable"], !errors);
    told["findings"].as_array().unwrap().clone()
}

/// Level and field of each, without the notes.
fn places(findings: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = findings
        .iter()
        .map(|finding| (text(&finding["level"]), text(&finding["field"])));
    all.filter(|(level, _)| level != "note").collect()
}

fn error(field: &str) -> (String, String) {
    ("error".to_owned(), field.to_owned())
}

fn a_good_bundle_has_no_errors(cx: &Cx) {
    let bundle = cx.bundle();
    assert_eq!(places(&findings(cx, &bundle, &["--strict"], 0)), []);
    let text = cx.call(&["check", bundle.path.to_str().unwrap()]).ok();
    for line in text.stdout.lines() {
        assert!(
            line.starts_with("note: linux.") || line == "no findings",
            "{line}"
        );
    }
}

fn all_mistakes_are_found_at_once(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/user/uid", json!("root"));
    bundle.set("/process/cwd", json!("tmp"));
    bundle.set("/linux/rootfsPropagation", json!("sometimes"));
    bundle.set("/linux/sysctl", json!({"kernel.panic": "1"}));
    bundle.push("/linux/namespaces", json!({"type": "astral"}));
    bundle.push(
        "/mounts",
        json!({"destination": "/a", "type": "bind", "source": "/", "options": ["rbind", "rsync"]}),
    );
    let found = places(&findings(cx, &bundle, &[], 1));
    for field in [
        "process.user.uid",
        "process.cwd",
        "linux.rootfsPropagation",
        "linux.sysctl[\"kernel.panic\"]",
        "linux.namespaces[5].type",
        "mounts[7].options",
    ] {
        assert!(found.contains(&error(field)), "{field} in {found:?}");
    }
    assert_eq!(found.len(), 6, "{found:?}");
}

fn places_are_those_of_the_document(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/args", json!(["sh", "a\u{0}", "b", "c\u{0}"]));
    bundle.set("/process/rlimits", json!([
        {"type": "RLIMIT_CORE", "soft": 2, "hard": 1}, {"type": "RLIMIT_NOVEL", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 2, "hard": 1}
    ]));
    let found = places(&findings(cx, &bundle, &[], 1));
    for field in [
        "process.args[1]",
        "process.args[3]",
        "process.rlimits[0].soft",
        "process.rlimits[1].type",
        "process.rlimits[2].soft",
    ] {
        assert!(found.contains(&error(field)), "{field} in {found:?}");
    }
    assert_eq!(found.len(), 5, "{found:?}");
    bundle.write();
    fs::write(bundle.path.join("config.json"), "{\"a\": ").unwrap();
    cx.call(&["check", bundle.path.to_str().unwrap()])
        .is(1)
        .has("error: parse `config.json`: EOF");
    cx.call(&["check", "/no/such/bundle"])
        .is(1)
        .says("no such file or directory");
}

fn misspelt_fields_are_warnings(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/noNewPriviledges", json!(true));
    bundle.set("/linux/maskedPath", json!(["/proc/kcore"]));
    bundle.config["annotations"] =
        json!({"org.rundlet.cgroup.delegated": "true", "org.example": "x"});
    let found = findings(cx, &bundle, &[], 0);
    let hint = |field: &str| {
        let finding = found
            .iter()
            .find(|finding| finding["field"] == field)
            .unwrap_or_else(|| panic!("{field}: {found:?}"));
        assert_eq!(finding["level"], "warning");
        finding["hint"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        hint("process.noNewPriviledges"),
        "`noNewPrivileges` is probably meant"
    );
    assert_eq!(hint("linux.maskedPath"), "`maskedPaths` is probably meant");
    assert_eq!(
        hint("annotations[\"org.rundlet.cgroup.delegated\"]"),
        "`org.rundlet.cgroup.delegate` is probably meant"
    );
    let strict = cx
        .call(&["check", "--strict", bundle.path.to_str().unwrap()])
        .is(1);
    strict
        .says("--strict")
        .has("warning: process.noNewPriviledges: ");
    // As every runtime: create takes it.
    cx.start(&bundle).end();
}

fn what_the_host_lacks_is_found(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["nosuchprogram"]);
    bundle.bind("/no/such/source".as_ref(), "/data", &[]);
    bundle.push(
        "/mounts",
        json!({"destination": "/fs", "type": "nosuchfs", "source": "none"}),
    );
    bundle.set("/hooks", json!({"poststop": [{"path": "/no/such/hook"}]}));
    bundle.set("/linux/netDevices", json!({"nosuch0": {}}));
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read", "raed"], "action": "SCMP_ACT_ALLOW"}]}));
    let found = places(&findings(cx, &bundle, &[], 1));
    for field in [
        "process.args[0]",
        "mounts[7].source",
        "hooks.poststop[0].path",
        "linux.netDevices[\"nosuch0\"]",
    ] {
        assert!(found.contains(&error(field)), "{field} in {found:?}");
    }
    for field in ["mounts[8].type", "linux.seccomp.syscalls[0].names"] {
        assert!(
            found.contains(&("warning".to_owned(), field.to_owned())),
            "{field} in {found:?}"
        );
    }
    assert_eq!(found.len(), 6, "{found:?}");
}

/// An error of `check` is one of `create`, and the other way round, in each of the known mistakes.
fn what_create_takes_check_takes(cx: &Cx) {
    // Only the kernel knows these: the options of a file system, values of limits and sysctls, modes of files for another user.
    const LATE: [&str; 12] = [
        "wrong_tmpfs_option",
        "sysctl_wrong_value",
        "program_not_executable",
        "program_is_a_directory",
        "program_not_executable_for_the_user",
        "bind_directory_on_a_file",
        "cwd_is_a_file",
        "namespace_path_of_another_kind",
        "namespace_path_is_a_file",
        "unknown_file_system",
        "rlimit_not_permitted",
        // Where AppArmor is on; where it is off, the loader refuses any.
        "unknown_apparmor_profile",
    ];
    for (name, edit) in super::errors::EDITS {
        if LATE.contains(name) {
            continue;
        }
        let _ = fs::remove_dir_all(cx.dir.join("bundle-c"));
        let mut bundle = cx.bundle();
        edit(cx, &mut bundle);
        bundle.write();
        let output = cx.call(&["check", bundle.path.to_str().unwrap()]);
        assert_eq!(output.code, 1, "{name}: {output}");
        assert!(output.stdout.contains("error: "), "{name}: {output}");
    }
}

fn fields_of_v1_are_named(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/resources/memory",
        json!({"swappiness": 10, "kernel": 1_000_000}),
    );
    let found = places(&findings(cx, &bundle, &[], 1));
    assert!(
        found.contains(&error("linux.resources.memory.swappiness")),
        "{found:?}"
    );
    assert!(
        found.contains(&(
            "warning".to_owned(),
            "linux.resources.memory.kernel".to_owned()
        )),
        "{found:?}"
    );
    cx.try_create(&bundle)
        .is(1)
        .says("linux.resources.memory.swappiness: not available on cgroup v2");
}
