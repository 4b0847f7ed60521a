//! Each rule is broken once; what is not broken passes.

use super::*;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"], "env": ["A=b"]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]}
    })
}

/// The refusal of the base document with `value` put at the JSON pointer; empty when it is accepted.
fn refusal_with(facts: HostFacts, changes: &[(&str, Value)]) -> String {
    let mut document = base();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        if value.is_null() {
            parent.as_object_mut().unwrap().remove(key);
        } else {
            parent[key] = value.clone();
        }
    }
    let spec: Spec = serde_json::from_value(document).unwrap();
    config(&spec, facts)
        .and_then(|()| for_linux(&spec))
        .err()
        .map_or(String::new(), |error| format!("{error:#}"))
}

fn refusal(pointer: &str, value: Value) -> String {
    refusal_with(HostFacts::default(), &[(pointer, value)])
}

#[test]
fn the_base_document_and_foreign_platforms_pass() {
    assert_eq!(refusal_with(HostFacts::default(), &[]), "");
    assert_eq!(refusal("/windows", json!({"layerFolders": ["c:"]})), "");
    assert_eq!(refusal("/annotations", json!({"a": "b"})), "");
    assert_eq!(
        refusal("/linux/personality", json!({"domain": "LINUX"})),
        ""
    );
    assert_eq!(refusal("/linux/timeOffsets", json!({})), "");
}

#[test]
fn versions() {
    for good in [
        "0.5.0-dev",
        "1.0.0",
        "1.0.2-dev",
        "1.0.0-rc5-dev",
        "1.3.0",
        "1.9.0+x",
    ] {
        assert_eq!(refusal("/ociVersion", json!(good)), "", "{good}");
    }
    for bad in ["", "2.0.0", "one", "1", "1.x", "10.0.0"] {
        assert!(
            refusal("/ociVersion", json!(bad)).starts_with("ociVersion: "),
            "{bad}"
        );
    }
    assert_eq!(
        refusal("/ociVersion", Value::Null),
        "ociVersion: is required"
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_rule_names_its_path() {
    let long = "h".repeat(65);
    let cases = [
        ("/root", Value::Null, "root: is required"),
        ("/root/path", json!(""), "root.path: "),
        ("/process", Value::Null, "process: is required"),
        ("/process/args", json!([]), "process.args: "),
        ("/process/args", Value::Null, "process.args: "),
        (
            "/process/args",
            json!(["sh", "a\u{0}b"]),
            "process.args[1]: contains a NUL",
        ),
        (
            "/process/cwd",
            json!("tmp"),
            "process.cwd: `tmp` must be an absolute path",
        ),
        ("/process/cwd", json!(""), "process.cwd: must not be empty"),
        (
            "/process/env",
            json!(["A=b", "novalue"]),
            "process.env[1]: invalid environment variable: missing '='",
        ),
        ("/process/env", json!(["=b"]), "process.env[0]: "),
        ("/process/user/uid", json!(u32::MAX), "process.user.uid: "),
        (
            "/process/user/additionalGids",
            json!([1, u32::MAX]),
            "process.user.additionalGids[1]: ",
        ),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: "),
        (
            "/process/apparmorProfile",
            json!("docker-default"),
            "process.apparmorProfile: ",
        ),
        (
            "/process/selinuxLabel",
            json!("system_u:x"),
            "process.selinuxLabel: ",
        ),
        (
            "/linux/mountLabel",
            json!("system_u:x"),
            "linux.mountLabel: ",
        ),
        ("/hostname", json!(long), "hostname: longer"),
        (
            "/hooks",
            json!({"poststop": [{"path": "/a"}, {"path": "b"}]}),
            "hooks.poststop[1].path: ",
        ),
        (
            "/hooks",
            json!({"prestart": [{"path": "/a", "timeout": 0}]}),
            "hooks.prestart[0].timeout: ",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid"}]),
            "linux.namespaces[1].type: duplicate of `pid`",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid", "path": "ns"}]),
            "linux.namespaces[0].path: ",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "user"}]),
            "linux.uidMappings: ",
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "linux.uidMappings: ",
        ),
        (
            "/linux/devices",
            json!([{"path": "null", "type": "c"}]),
            "linux.devices[0].path: ",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "a"}]),
            "linux.devices[0].type: ",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1}]),
            "linux.devices[0].major: ",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "process.rlimits[1].type: duplicate of RLIMIT_CPU",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
            "process.rlimits[0].soft: ",
        ),
    ];
    for (pointer, value, start) in cases {
        let text = refusal(pointer, value.clone());
        assert!(text.starts_with(start), "{pointer} {value}: `{text}`");
    }
}

#[test]
fn labels_need_their_security_module() {
    let apparmor = HostFacts {
        apparmor: true,
        ..HostFacts::default()
    };
    let selinux = HostFacts {
        selinux: true,
        ..HostFacts::default()
    };
    assert_eq!(
        refusal_with(apparmor, &[("/process/apparmorProfile", json!("p"))]),
        ""
    );
    assert_eq!(
        refusal_with(
            selinux,
            &[
                ("/process/selinuxLabel", json!("l")),
                ("/linux/mountLabel", json!("m"))
            ]
        ),
        ""
    );
    assert_eq!(refusal("/process/apparmorProfile", json!("unconfined")), "");
}

#[test]
fn host_names_and_hidden_paths_need_their_namespace() {
    let none = ("/linux/namespaces", json!([{"type": "pid"}]));
    for (pointer, value, start) in [
        (
            "/hostname",
            json!("h"),
            "hostname: unable to set hostname without",
        ),
        ("/domainname", json!("h"), "domainname: unable"),
        (
            "/linux/maskedPaths",
            json!(["/proc/kcore"]),
            "linux.maskedPaths: ",
        ),
        (
            "/linux/readonlyPaths",
            json!(["/proc/sys"]),
            "linux.readonlyPaths: ",
        ),
    ] {
        assert_eq!(refusal(pointer, value.clone()), "");
        let text = refusal_with(HostFacts::default(), &[none.clone(), (pointer, value)]);
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn no_text_that_the_kernel_would_cut() {
    let mount = |field: &str, value: Value| {
        let mut mount = json!({"destination": "/v", "type": "tmpfs", "source": "s"});
        mount[field] = value;
        json!([mount])
    };
    for (pointer, value, field) in [
        ("/hostname", json!("a\0b"), "hostname"),
        ("/domainname", json!("a\0b"), "domainname"),
        (
            "/mounts",
            mount("destination", json!("/v\0/w")),
            "mounts[0].destination",
        ),
        ("/mounts", mount("type", json!("tmpfs\0")), "mounts[0].type"),
        ("/mounts", mount("source", json!("s\0")), "mounts[0].source"),
        (
            "/mounts",
            mount("options", json!(["ro", "size=1\0k"])),
            "mounts[0].options[1]",
        ),
        ("/linux/mountLabel", json!("m\0"), "linux.mountLabel"),
        (
            "/linux/maskedPaths",
            json!(["/a", "/proc/k\0"]),
            "linux.maskedPaths[1]",
        ),
        (
            "/linux/readonlyPaths",
            json!(["/proc/\0"]),
            "linux.readonlyPaths[0]",
        ),
    ] {
        assert_eq!(
            refusal(pointer, value),
            format!("{field}: contains a NUL byte")
        );
    }
}

#[test]
fn id_maps() {
    let map = |entries: &[(u32, u32, u32)]| {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(c, h, s)| json!({"containerID": c, "hostID": h, "size": s}))
            .collect();
        refusal_with(
            HostFacts::default(),
            &[
                ("/linux/namespaces", json!([{"type": "user"}])),
                (
                    "/linux/gidMappings",
                    json!([{"containerID": 0, "hostID": 5, "size": 1}]),
                ),
                ("/linux/uidMappings", json!(entries)),
            ],
        )
    };
    assert_eq!(map(&[(0, 1000, 1), (1, 100_000, 65_535)]), "");
    assert_eq!(map(&[(0, 0, u32::MAX)]), "");
    assert!(map(&[(0, 0, 0)]).starts_with("linux.uidMappings[0].size: "));
    assert!(map(&[(1, 0, u32::MAX)]).starts_with("linux.uidMappings[0].containerID: "));
    assert!(
        map(&[(0, 0, 10), (9, 50, 1)]).starts_with("linux.uidMappings[1].containerID: overlaps")
    );
    assert!(map(&[(0, 40, 10), (20, 30, 11)]).starts_with("linux.uidMappings[1].hostID: overlaps"));
    let many: Vec<(u32, u32, u32)> = (0..341).map(|i| (i, i, 1)).collect();
    assert!(map(&many).contains("at most 340"));
    assert_eq!(map(&many[..340]), "");
}
