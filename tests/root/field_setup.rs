//! Every field of the top level, `root`, `mounts` and `hooks`, set and looked at. For `conformance/fields.md`; the edges of
//! each are in other files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::json;

use super::hooks::{log_dir, read};
use crate::support::{Bundle, Cx, tests};

tests! {
    host names_root_and_mounts = "runc 1.1.5 does not know domainname";
    host mapped_mounts = "runc 1.1.5 has no id-mapped mounts";
    host state_and_other_platforms = "runc 1.1.5 shows its own version";
    host hooks_of_each_kind;
    host hooks_that_take_too_long = "runc 1.1.5 has no timeout in poststop";
}

fn names_root_and_mounts(cx: &Cx) {
    let mut bundle = cx.bundle();
    fs::rename(bundle.rootfs(), bundle.path.join("other")).unwrap();
    fs::write(bundle.path.join("other/mark"), "of the other\n").unwrap();
    fs::create_dir(bundle.path.join("other/data")).unwrap();
    bundle.set("/root", json!({"path": "other", "readonly": true}));
    bundle.set("/hostname", json!("given-name"));
    bundle.set("/domainname", json!("example.test"));
    let mount = json!({"destination": "/data", "type": "tmpfs", "source": "named",
                       "options": ["nosuid", "noexec", "size=64k"]});
    crate::support::bundle::arr(&mut bundle.config["mounts"]).insert(0, mount);
    cx.looks(
        &mut bundle,
        &[
            (&["root.path"], "cat /mark", "of the other"),
            (
                &["root.readonly"],
                "touch /file || echo failed",
                "touch: /file: Read-only file system\nfailed",
            ),
            (&["hostname"], "hostname", "given-name"),
            (
                &["domainname"],
                "cat /proc/sys/kernel/domainname",
                "example.test",
            ),
            (
                &[
                    "mounts[].destination",
                    "mounts[].type",
                    "mounts[].source",
                ],
                "awk '$5 == \"/data\" { print $(NF-2), $(NF-1) }' /proc/1/mountinfo",
                "tmpfs named",
            ),
            (
                &["mounts[].options"],
                "awk '$5 == \"/data\" { print $6 }' /proc/1/mountinfo; df -k /data | awk 'NR == 2 { print $2 }'",
                "rw,nosuid,noexec,relatime\n64",
            ),
        ],
    );
}

fn mapped_mounts(cx: &Cx) {
    let dir = cx.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    chown(dir.join("file"), Some(5), Some(6)).unwrap();
    let mut bundle = cx.bundle();
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    let mount = json!({"destination": "/data", "type": "bind", "source": dir, "options": ["bind"],
                       "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                       "gidMappings": [{"containerID": 1, "hostID": 2001, "size": 10}]});
    crate::support::bundle::arr(&mut bundle.config["mounts"]).insert(0, mount);
    let script = "stat -c '%u:%g' /data/file";
    let (uid, gid) = ("mounts[].uidMappings[]", "mounts[].gidMappings[]");
    let all: Vec<String> = [uid, gid]
        .iter()
        .flat_map(|side| ["containerID", "hostID", "size"].map(|key| format!("{side}.{key}")))
        .collect();
    bundle.sh(script);
    cx.run(&bundle).ok().prints("1005:2006");
    let fields: Vec<&str> = all.iter().map(String::as_str).collect();
    cx.observed(
        &bundle,
        &fields,
        "a file of 5:6: `stat` in the container prints `1005:2006`",
    );
}

fn state_and_other_platforms(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/ociVersion", json!("1.2.1"));
    bundle.set("/annotations", json!({"com.example.key": "some value"}));
    for (platform, value) in [
        ("windows", json!({"layerFolders": ["c:\\layer"]})),
        (
            "solaris",
            json!({"milestone": "svc:/milestone/container:default"}),
        ),
        (
            "vm",
            json!({"kernel": {"path": "/boot/kernel"}, "hwConfig": {"vcpus": 2}}),
        ),
        ("zos", json!({"namespaces": []})),
        ("freebsd", json!({"jail": {"vnet": "new"}})),
    ] {
        bundle.set(&format!("/{platform}"), value);
    }
    let container = cx.start(&bundle);
    let state = container.state();
    assert_eq!(state["ociVersion"], "1.2.1");
    assert_eq!(state["annotations"]["com.example.key"], "some value");
    cx.observed(
        &bundle,
        &["ociVersion"],
        "`state` prints `\"ociVersion\": \"1.2.1\"`",
    );
    cx.observed(&bundle, &["annotations"], "`state` prints them");
    cx.observed(
        &bundle,
        &["windows", "solaris", "vm", "zos", "freebsd"],
        "of another platform: tolerated, the container runs",
    );
    container.end();
}

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A program that says what it was called with; inside and outside under the same name.
fn witness(dir: &std::path::Path) -> String {
    let path = dir.join("hook");
    let script = format!(
        "#!/bin/busybox sh\necho \"$0 $1 [$2] A=$A\" >>{}/$1\n",
        dir.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn hooks_of_each_kind(cx: &Cx) {
    let mut bundle = cx.bundle();
    let dir = log_dir(cx, &mut bundle);
    let path = witness(&dir);
    for kind in KINDS {
        let hook = json!({"path": path, "args": ["name", kind, "two words"], "env": [format!("A={kind}")]});
        bundle.push(&format!("/hooks/{kind}"), hook);
    }
    let container = cx.start(&bundle);
    container.end();
    for kind in KINDS {
        let line = format!("{path} {kind} [two words] A={kind}\n");
        assert_eq!(read(&dir, kind), line);
        for (key, seen) in [
            ("path", "this program ran, once".to_owned()),
            ("args", format!("it was given `{kind}` and `two words`")),
            ("env", format!("`A={kind}` was in its environment")),
        ] {
            cx.observed(&bundle, &[&format!("hooks.{kind}[].{key}")], &seen);
        }
    }
}

fn hooks_that_take_too_long(cx: &Cx) {
    for kind in KINDS {
        let mut bundle: Bundle = cx.named_bundle(&kind.to_lowercase());
        let hook = json!({"path": "/bin/busybox", "args": ["sleep", "1000"], "timeout": 1});
        bundle.push(&format!("/hooks/{kind}"), hook);
        let created = cx.try_create(&bundle);
        let output = match kind {
            "prestart" | "createRuntime" | "createContainer" => created.is(1),
            // It runs in the container, after `start` has opened the gate.
            "startContainer" => {
                let container = cx.container(&bundle.id);
                created.ok();
                container.call("start");
                container.wait_for("stopped");
                container.call("delete").ok();
                cx.observed(
                    &bundle,
                    &["hooks.startContainer[].timeout"],
                    "a hook that sleeps is killed after 1 s, and the container ends",
                );
                continue;
            }
            "poststop" => {
                created.ok();
                cx.call(&["delete", "--force", &bundle.id])
            }
            _ => {
                created.ok();
                let output = cx.call(&["start", &bundle.id]).is(1);
                cx.call(&["delete", "--force", &bundle.id]).ok();
                output
            }
        };
        let text = format!("hooks.{kind}[0]");
        assert!(
            output.stderr.contains(&text) && output.stderr.contains("timeout of 1 s"),
            "{kind}: {output}"
        );
        cx.observed(
            &bundle,
            &[&format!("hooks.{kind}[].timeout")],
            "a hook that sleeps is killed after 1 s, and named",
        );
    }
}
