//! `mounts`: bind mounts and tmpfs that a running container is given, and that are taken away again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Container, Cx, Output, eventually, tests};

tests! {
    both a_running_program_sees_what_is_added = "runc has no such verb";
    host flags_are_those_of_create = "runc has no such verb";
    host created_and_paused = "runc has no such verb";
    host in_a_user_namespace = "runc has no such verb";
    host all_or_nothing = "runc has no such verb";
    host two_at_once = "runc has no such verb";
    host a_user_without_rights_has_none_to_give = "runc has no such verb";
    host what_is_refused = "runc has no such verb";
}

pub(super) fn mounts(container: &Container<'_>, action: &str, list: &Value) -> Output {
    let command = container
        .cx
        .command(&["mounts", action, &container.id, "-"]);
    let cx = container.cx;
    cx.spawn_with_input(command, &list.to_string()).wait()
}

pub(super) fn listed(container: &Container<'_>) -> Value {
    let output = container.cx.call(&["mounts", "list", &container.id]).ok();
    serde_json::from_str(&output.stdout).unwrap()
}

/// The container's mounts: what is mounted where, with its flags.
pub(super) fn table(container: &Container<'_>) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    let line = |line: &str| {
        line.split(' ')
            .skip(3)
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(line).collect()
}

fn line_of(container: &Container<'_>, place: &str) -> String {
    let found = table(container).into_iter().rev();
    let mut found = found.filter(|line| line.split(' ').nth(1) == Some(place));
    found.next().unwrap_or_else(|| panic!("nothing at {place}"))
}

pub(super) fn source(cx: &Cx, name: &str) -> PathBuf {
    let path = cx.dir.join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("f"), "from outside\n").unwrap();
    path
}

pub(super) fn bind(source: &std::path::Path, destination: &str, options: &[&str]) -> Value {
    let options: Vec<&str> = ["bind"].iter().chain(options).copied().collect();
    json!({"destination": destination, "source": source, "type": "bind", "options": options})
}

fn a_running_program_sees_what_is_added(cx: &Cx) {
    let bundle = cx.script(
        "while [ ! -e /data/f ]; do usleep 20000; done; cat /data/f >/mnt/seen; : >/mnt/ready; sleep 1000",
    );
    bundle.write();
    let ready = bundle.rootfs().join("mnt/ready");
    let container = cx.start(&bundle);
    let before = table(&container);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let added = json!([
        bind(&source(cx, "volume"), "/data", &[]),
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700"]},
    ]);
    mounts(&container, "add", &added).ok().prints("");
    eventually("the program sees the mount", 20, || ready.exists());
    let seen = fs::read_to_string(bundle.rootfs().join("mnt/seen")).unwrap();
    assert_eq!(seen, "from outside\n");
    // In both directions, and for what exec starts.
    container
        .exec_sh("echo back >/data/g && df -P -m /scratch | tail -n 1 | awk '{print $2}'; stat -c %a /scratch")
        .ok()
        .prints("1\n700");
    assert_eq!(
        fs::read_to_string(cx.dir.join("volume/g")).unwrap(),
        "back\n"
    );
    assert_eq!(table(&container).len(), before.len() + 2);
    // Nothing is mounted for the host, and what was added is known.
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    assert_eq!(listed(&container).as_array().unwrap().len(), 2);

    // Another change of the record keeps it; what was listed can be given back, in any order.
    if !cx.is_v2() {
        cx.call(&["update", "--cpu-share", "512", &container.id])
            .ok();
    }
    let mut given = listed(&container);
    given.as_array_mut().unwrap().reverse();
    mounts(&container, "remove", &given).ok();
    assert_eq!(table(&container), before);
    assert_eq!(listed(&container), json!([]));
    container
        .exec_sh("test ! -e /data/f && test -d /scratch")
        .ok();
    mounts(&container, "remove", &given)
        .is(1)
        .says("mounts[0].destination: `/scratch` is not one that `mounts add` has made");
    // From a file, and as part of a config.
    let file = cx.file("mounts.json", &json!({"mounts": added}).to_string());
    cx.call(&["mounts", "add", &container.id, file.to_str().unwrap()])
        .ok();
    container.exec_sh("test -e /data/f").ok();
    container.end();
}

fn flags_are_those_of_create(cx: &Cx) {
    let container = cx.sleeper();
    let volume = source(cx, "volume");
    fs::create_dir(volume.join("sub")).unwrap();
    let added = json!([
        bind(&volume, "/a/b/ro", &["ro", "noexec"]),
        bind(&volume.join("f"), "/etc/file", &["ro"]),
        {"destination": "/empty", "type": "tmpfs", "options": ["ro", "nosuid"]},
        {"destination": "/empty/in", "type": "tmpfs"},
    ]);
    mounts(&container, "add", &added).ok();
    assert!(line_of(&container, "/a/b/ro").contains("ro,noexec"));
    assert!(line_of(&container, "/etc/file").contains(" ro"));
    assert!(line_of(&container, "/empty").contains("ro,nosuid"));
    container
        .exec_sh("echo x >/a/b/ro/f || echo x >/etc/file || echo x >/empty/f || echo x >/empty/in/f && cat /etc/file")
        .ok()
        .prints("from outside");
    // One goes, the others stay; the one that lies in another goes with it.
    mounts(&container, "remove", &json!([{"destination": "/empty"}])).ok();
    let left = table(&container);
    assert!(left.iter().all(|line| !line.contains("/empty")), "{left:?}");
    mounts(&container, "remove", &listed(&container)).ok();
    container
        .exec_sh("test ! -e /a/b/ro/f && test ! -s /etc/file")
        .ok();
    container.end();
}

fn created_and_paused(cx: &Cx) {
    let bundle = cx.script("cat /data/f; sleep 1000");
    bundle.write();
    let container = cx.create(&bundle);
    let list = json!([bind(&source(cx, "volume"), "/data", &[])]);
    mounts(&container, "add", &list).ok();
    mounts(&container, "remove", &list).ok();
    mounts(&container, "add", &list).ok();
    container.call("start").ok();
    container.exec_sh("test -e /data/f").ok();
    container.call("pause").ok();
    mounts(&container, "remove", &list).ok();
    mounts(
        &container,
        "add",
        &json!([{"destination": "/t", "type": "tmpfs"}]),
    )
    .ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container
        .exec_sh("test ! -e /data/f && grep -q ' /t ' /proc/self/mountinfo")
        .ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    mounts(&container, "add", &list)
        .is(1)
        .says("container not running")
        .says("is stopped");
    container.call("delete").ok();
    mounts(&container, "add", &list)
        .is(1)
        .says("does not exist");
}

fn in_a_user_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    let rootfs = bundle.rootfs();
    std::os::unix::fs::chown(&rootfs, Some(100_000), Some(200_000)).unwrap();
    let container = cx.start(&bundle);
    let before = table(&container);
    let volume = source(cx, "volume");
    let list = json!([
        bind(&volume, "/data", &["ro"]),
        {"destination": "/scratch", "type": "tmpfs"},
        bind(&volume, "/mapped", &["idmap"]),
    ]);
    mounts(&container, "add", &list).ok();
    // The host's root is nobody there, where its ids are not mapped.
    container
        .exec_sh("cat /data/f; stat -c %u /data/f /scratch /mapped/f; echo x >/scratch/f; echo x >/mapped/g; echo x >/data/g || true")
        .ok()
        .prints("from outside\n65534\n0\n0");
    let made = fs::metadata(rootfs.join("scratch")).unwrap();
    assert_eq!((made.uid(), made.gid()), (100_000, 200_000));
    assert_eq!(fs::metadata(volume.join("g")).unwrap().uid(), 0);
    mounts(&container, "remove", &list).ok();
    assert_eq!(table(&container), before);
    container.end();
}

fn all_or_nothing(cx: &Cx) {
    let container = cx.sleeper();
    let before = table(&container);
    let volume = source(cx, "volume");
    let good = bind(&volume, "/data", &[]);
    for (bad, words) in [
        (bind(&cx.dir.join("none"), "/x", &[]), "mounts[1]: source `"),
        (
            bind(&volume, "/etc/passwd-file", &[]),
            "mounts[1]: mount `/etc/passwd-file`: a directory is to be mounted there",
        ),
        (
            bind(&volume.join("f"), "/tmp", &[]),
            "mounts[1]: mount `/tmp`: the target is a directory and the source is not",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["size=much"]}),
            "mounts[1]: mount `/x`: ",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["nosuch=1"]}),
            "mounts[1]: mount `/x`: ",
        ),
    ] {
        container.exec_sh(": >/etc/passwd-file").ok();
        mounts(&container, "add", &json!([good, bad]))
            .is(1)
            .says(words);
        assert_eq!(table(&container), before);
        assert_eq!(listed(&container), json!([]));
    }
    // What cannot be written down is not left mounted.
    let blocked = cx.root().join(&container.id).join(".state.json");
    fs::create_dir(&blocked).unwrap();
    let both = json!([good, {"destination": "/t", "type": "tmpfs"}]);
    mounts(&container, "add", &both).is(1).says("state.json");
    assert_eq!(table(&container), before);
    fs::remove_dir(&blocked).unwrap();
    mounts(&container, "add", &both).ok();
    // Nor is one of two removed.
    mounts(
        &container,
        "remove",
        &json!([good, {"destination": "/etc"}]),
    )
    .is(1)
    .says("mounts[1].destination: `/etc` is not one");
    assert_eq!(table(&container).len(), before.len() + 2);
    container.end();
}

fn two_at_once(cx: &Cx) {
    let container = cx.sleeper();
    let before = table(&container).len();
    let volume = source(cx, "volume");
    for round in 0..5 {
        let place = |name: &str| format!("/m/{round}-{name}");
        let one = |name: &str| {
            let list = json!([bind(&volume, &place(name), &[])]);
            let file = cx.file(&format!("{round}-{name}.json"), &list.to_string());
            let args = ["mounts", "add", &container.id, file.to_str().unwrap()];
            cx.spawn(cx.command(&args))
        };
        let running = [one("a"), one("b"), one("same"), one("same")];
        let codes = running.map(|running| running.wait().code);
        assert_eq!(codes[..2], [0, 0]);
        assert_eq!(codes[2] + codes[3], 1, "one of two at the same place");
    }
    assert_eq!(table(&container).len(), before + 15);
    mounts(&container, "remove", &listed(&container)).ok();
    assert_eq!(table(&container).len(), before);
    container.end();
}

fn a_user_without_rights_has_none_to_give(cx: &Cx) {
    let user = cx.user();
    let mut bundle = cx.bundle();
    bundle.rootless();
    let id = bundle.id.clone();
    user.create(&bundle).ok();
    user.call(&["start", &id]).ok();
    let list = cx.file("list.json", r#"[{"destination": "/t", "type": "tmpfs"}]"#);
    let list = list.to_str().unwrap();
    user.call(&["mounts", "add", &id, list])
        .is(1)
        .says("mounts: only root can give mounts of the host to a running container");
    user.call(&["mounts", "list", &id]).ok().prints("[]");
    user.call(&["delete", "--force", &id]).ok();
    user.left_nothing();
}

fn what_is_refused(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/maskedPaths", json!(["/opt/hidden"]));
    let container = cx.start(&bundle);
    let volume = source(cx, "volume");
    for (list, words) in [
        (json!([]), "mounts: names no mount"),
        (
            json!({"a": 1}),
            "mounts: neither an array of mounts nor an object with one",
        ),
        (json!(["/x"]), "mounts[0]: "),
        (
            json!([{"source": "/x"}]),
            "mounts[0]: missing field `destination`",
        ),
        (
            json!([{"destination": "/x", "type": "proc"}]),
            "mounts[0].type: `proc` cannot be mounted in a running container",
        ),
        (
            json!([{"destination": "/x", "type": "bind"}]),
            "mounts[0].source: a bind mount needs one",
        ),
        (
            json!([bind(&volume, "/proc", &[])]),
            "mounts[0].destination: nothing can be mounted on `/proc`",
        ),
        (
            json!([bind(&volume, "/proc/sys", &[])]),
            "mounts[0].destination: `/proc/sys` is inside `/proc`",
        ),
        (
            json!([bind(&volume, "/sys/", &[])]),
            "mounts[0].destination: nothing can be mounted on `/sys`",
        ),
        (
            json!([bind(&volume, "/", &[])]),
            "mounts[0].destination: `/` is the root",
        ),
        (
            json!([bind(&volume, "/opt", &[])]),
            "mounts[0].destination: `/opt` would cover `/opt/hidden` of linux.maskedPaths",
        ),
    ] {
        mounts(&container, "add", &list).is(1).says(words);
    }
    mounts(&container, "add", &json!([bind(&volume, "/data", &[])])).ok();
    let images = cx.dir.join("images");
    cx.call(&[
        "checkpoint",
        "--image-path",
        images.to_str().unwrap(),
        &container.id,
    ])
    .is(1)
    .says("`mounts remove` it first");
    for (args, words) in [
        (
            vec!["add", &container.id],
            "the file with the mounts is missing",
        ),
        (
            vec!["list", &container.id, "-"],
            "takes nothing but a container id",
        ),
        (
            vec!["change", &container.id, "-"],
            "`change` is none of add, remove and list",
        ),
        (vec!["add"], "requires a minimum of 2"),
        (vec!["add", "a", "b", "c"], "requires a maximum of 3"),
    ] {
        let args: Vec<&str> = ["mounts"].into_iter().chain(args).collect();
        cx.call(&args).is(1).says(words);
    }
    cx.call(&["mounts", "add", "--help"])
        .ok()
        .has("a JSON array of mounts");
    container.end();

    // Mounts of a container without a namespace for them would be the host's.
    let mut bundle = cx.named_bundle("d");
    bundle.without_namespace("mount");
    bundle.set("/mounts", json!([]));
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    bundle.set("/root/readonly", json!(false));
    let container = cx.start(&bundle);
    mounts(&container, "add", &json!([bind(&volume, "/data", &[])]))
        .is(1)
        .says("linux.namespaces: the container has no mount namespace of its own");
    container.end();
}
