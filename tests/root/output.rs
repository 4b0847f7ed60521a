//! What is printed: state, list, ps, spec, features, version, the log, and the command line's forms.

use serde_json::Value;

use crate::support::{Cx, tests};

tests! {
    both state_has_the_fields;
    host state_of_a_stopped_container;
    host state_shows_annotations;
    host list_as_a_table;
    host list_as_json;
    host list_of_nothing;
    host list_quietly;
    host list_in_an_unknown_format;
    both ps_as_json;
    host ps_as_a_table;
    host ps_passes_options_on;
    host spec_writes_a_config;
    host spec_does_not_overwrite;
    host spec_config_runs;
    host rootless_spec;
    host features_is_json;
}

fn state_has_the_fields(cx: &Cx) {
    let bundle = cx.bundle();
    let container = cx.create(&bundle);
    let state = container.state();
    assert_eq!(state["id"], container.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.path.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    assert!(state["pid"].as_i64().unwrap() > 1);
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(state["owner"], "");
    is_timestamp(state["created"].as_str().unwrap());
    container.end();
}

/// RFC 3339 as Go reads it: 2026-01-02T03:04:05[.999]Z or an offset.
pub(crate) fn is_timestamp(text: &str) {
    let bytes = text.as_bytes();
    assert!(bytes.len() >= 20, "{text}");
    for (at, wanted) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        assert_eq!(bytes[at], wanted, "{text}");
    }
    assert!(
        text.ends_with('Z') || bytes[text.len() - 6] == b'+' || bytes[text.len() - 6] == b'-',
        "{text}"
    );
    let year: u32 = text[..4].parse().unwrap();
    assert!((2020..2100).contains(&year), "{text}");
}

fn state_of_a_stopped_container(cx: &Cx) {
    let container = cx.start(&cx.script("true"));
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
    container.call("delete").ok();
}

fn state_shows_annotations(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.config["annotations"] =
        serde_json::json!({"org.example/key": "value \"quoted\"", "empty": ""});
    let container = cx.create(&bundle);
    let state = container.state();
    assert_eq!(state["annotations"]["org.example/key"], "value \"quoted\"");
    assert_eq!(state["annotations"]["empty"], "");
    container.end();
}

fn list_as_a_table(cx: &Cx) {
    let bundle = cx.bundle();
    let container = cx.start(&bundle);
    let output = cx.call(&["list"]).ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    let header: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        row[..4],
        [
            &container.id,
            &container.pid().to_string(),
            "running",
            bundle.path.to_str().unwrap()
        ]
    );
    assert_eq!(row[5], "root");
    is_timestamp(row[4]);
    // Columns line up.
    assert_eq!(
        lines[0].find("STATUS"),
        lines[1].find("running"),
        "{output}"
    );
    container.end();
}

fn list_as_json(cx: &Cx) {
    let first = cx.create(&cx.named_bundle("a"));
    let second = cx.start(&cx.named_bundle("b"));
    let output = cx.call(&["list", "--format", "json"]).ok();
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2, "{output}");
    for (entry, container, status) in [
        (&list[0], &first, "created"),
        (&list[1], &second, "running"),
    ] {
        assert_eq!(entry["id"], container.id);
        assert_eq!(entry["status"], status);
        assert_eq!(entry["pid"], container.pid());
        assert_eq!(entry["owner"], "root");
        is_timestamp(entry["created"].as_str().unwrap());
    }
    first.end();
    second.end();
}

fn list_of_nothing(cx: &Cx) {
    let output = cx.call(&["list"]).ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    cx.call(&["list", "-f", "json"]).ok().prints("null");
    cx.call(&["list", "-q"]).ok().prints("");
}

fn list_quietly(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    cx.call(&["list", "--quiet"]).ok().prints(&container.id);
    container.end();
}

fn list_in_an_unknown_format(cx: &Cx) {
    cx.call(&["list", "--format", "yaml"]).is(1);
    let container = cx.sleeper();
    cx.call(&["ps", "--format", "yaml", &container.id]).is(1);
    container.end();
}

fn ps_as_json(cx: &Cx) {
    let bundle = cx.script("sleep 1000 & : >/mnt/ready; wait");
    let container = cx.start(&bundle);
    crate::support::eventually("the child runs", 5, || {
        bundle.rootfs().join("mnt/ready").exists()
    });
    let output = cx.call(&["ps", "--format", "json", &container.id]).ok();
    let pids: Vec<i64> = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(pids.len(), 2, "{output}");
    assert!(pids.contains(&container.pid()), "{output}");
    container.end();
}

fn ps_as_a_table(cx: &Cx) {
    let container = cx.sleeper();
    let output = container.call("ps").ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert!(
        lines[0].contains("UID") && lines[0].contains("PID") && lines[0].contains("CMD"),
        "{output}"
    );
    assert!(
        lines[1].contains("sleep 1000") && lines[1].contains(&container.pid().to_string()),
        "{output}"
    );
    container.end();
}

fn ps_passes_options_on(cx: &Cx) {
    let container = cx.sleeper();
    let output = cx.call(&["ps", &container.id, "-e", "-o", "pid,comm"]).ok();
    let lines: Vec<Vec<&str>> = output
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["PID", "COMMAND"],
            vec![&container.pid().to_string(), "sleep"]
        ]
    );
    container.end();
}

fn spec_writes_a_config(cx: &Cx) {
    let dir = cx.dir.join("new");
    std::fs::create_dir(&dir).unwrap();
    cx.call(&["spec", "--bundle", dir.to_str().unwrap()])
        .ok()
        .prints("");
    let config: Value =
        serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["process"]["terminal"], true);
    assert!(
        config["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .all(|ns| ns["type"] != "user")
    );
}

fn spec_does_not_overwrite(cx: &Cx) {
    let file = cx.file("config.json", "mine");
    let mut command = cx.command(&["spec"]);
    command.current_dir(&cx.dir);
    cx.spawn(command).wait().is(1);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}

fn spec_config_runs(cx: &Cx) {
    let mut bundle = cx.bundle();
    cx.call(&["spec", "--bundle", bundle.path.to_str().unwrap()])
        .ok();
    let text = std::fs::read(bundle.path.join("config.json")).unwrap();
    let cgroup = bundle.config["linux"]["cgroupsPath"].clone();
    bundle.config = serde_json::from_slice(&text).unwrap();
    bundle.set("/process/terminal", Value::Bool(false));
    bundle.set("/linux/cgroupsPath", cgroup);
    bundle.sh("cat /proc/self/comm; touch /x 2>/dev/null || echo read-only");
    cx.run(&bundle).ok().prints("cat\nread-only");
}

fn rootless_spec(cx: &Cx) {
    let mut command = cx.command(&["spec", "--rootless"]);
    command.current_dir(&cx.dir);
    cx.spawn(command).wait().ok();
    let config: Value =
        serde_json::from_slice(&std::fs::read(cx.dir.join("config.json")).unwrap()).unwrap();
    let kinds: Vec<&str> = config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ns| ns["type"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"user") && !kinds.contains(&"network"),
        "{kinds:?}"
    );
    assert_eq!(config["linux"]["uidMappings"][0]["size"], 1);
    assert!(config["linux"]["resources"].is_null());
}

fn features_is_json(cx: &Cx) {
    let output = cx.call(&["features"]).ok();
    assert_eq!(output.stderr, "");
    let features: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(
        features["ociVersionMin"]
            .as_str()
            .unwrap()
            .starts_with("1.")
    );
    assert!(
        features["ociVersionMax"]
            .as_str()
            .unwrap()
            .starts_with("1.")
    );
    let has = |pointer: &str, name: &str| {
        let list = features.pointer(pointer).and_then(Value::as_array);
        assert!(
            list.is_some_and(|list| list.iter().any(|item| item == name)),
            "{pointer} lacks {name}"
        );
    };
    for hook in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        has("/hooks", hook);
    }
    for kind in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
        has("/linux/namespaces", kind);
    }
    has("/mountOptions", "rbind");
    has("/mountOptions", "rro");
    has("/linux/capabilities", "CAP_SYS_ADMIN");
    has("/linux/seccomp/actions", "SCMP_ACT_ERRNO");
    assert_eq!(
        features.pointer("/linux/cgroup/v2"),
        Some(&Value::Bool(true))
    );
}
