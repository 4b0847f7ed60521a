//! `mounts` in a container that does not stand still, and a runtime that is killed over it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::live_mounts::{bind, listed, mounts, source, table};
use crate::support::steps::Reached;
use crate::support::{Container, Cx, alive, eventually, tests};

tests! {
    host links_of_the_image_stay_inside = "runc has no such verb";
    host what_the_container_did_meanwhile = "runc has no such verb";
    host killed_before_every_step = "runc has no such verb";
    host nobody_sees_who_mounts = "runc has no such verb";
}

fn links_of_the_image_stay_inside(cx: &Cx) {
    let bundle = cx.bundle();
    let rootfs = bundle.rootfs();
    let outside = cx.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let up = "../".repeat(20);
    symlink(format!("{up}{}", outside.display()), rootfs.join("up")).unwrap();
    symlink(&outside, rootfs.join("absolute")).unwrap();
    symlink("/proc/self", rootfs.join("to-proc")).unwrap();
    symlink("/proc/1/root", rootfs.join("magic")).unwrap();
    symlink("/", rootfs.join("to-root")).unwrap();
    let container = cx.start(&bundle);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table(&container);
    let volume = source(cx, "volume");
    for link in ["/up", "/absolute/deeper"] {
        let list = json!([bind(&volume, link, &[])]);
        mounts(&container, "add", &list).ok();
        let inside = rootfs.join(outside.strip_prefix("/").unwrap());
        assert!(inside.is_dir() && fs::read_dir(&outside).unwrap().next().is_none());
        container.exec_sh(&format!("test -e {link}/f")).ok();
        mounts(&container, "remove", &list).ok();
        assert_eq!(table(&container), before);
    }
    for (link, words) in [
        ("/to-proc/x", "mounts[0]: mount `/to-proc/x`: "),
        ("/magic", "mounts[0]: mount `/magic`: "),
        (
            "/to-root",
            "the root file system leads the target to its root",
        ),
    ] {
        for one in [
            bind(&volume, link, &[]),
            json!({"destination": link, "type": "tmpfs"}),
        ] {
            mounts(&container, "add", &json!([one])).is(1).says(words);
        }
    }
    assert_eq!(table(&container), before);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    // A place that is exchanged after the mount was made does not lead `remove` to another one.
    let list = json!([bind(&volume, "/spot/x", &[])]);
    mounts(&container, "add", &list).ok();
    container
        .exec_sh("mv /spot /spot2 && mkdir -p /spot && ln -s /proc /spot/x")
        .ok();
    mounts(&container, "remove", &list)
        .is(1)
        .says("unmount `/spot/x`: what was added is now at `/spot2/x`");
    container
        .exec_sh("test -e /proc/self && rm -r /spot && mv /spot2 /spot")
        .ok();
    mounts(&container, "remove", &list).ok();
    assert_eq!(table(&container), before);
    container.end();
}

fn what_the_container_did_meanwhile(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mut names: Vec<String> =
        serde_json::from_value(bundle.config["process"]["capabilities"]["bounding"].clone())
            .unwrap();
    names.push("CAP_SYS_ADMIN".to_owned());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bundle.capabilities(&names);
    let container = cx.start(&bundle);
    let before = table(&container);
    let volume = source(cx, "volume");
    let list = json!([bind(&volume, "/data", &[])]);
    // Unmounted there: nothing is left to be done.
    mounts(&container, "add", &list).ok();
    container.exec_sh("umount /data").ok();
    mounts(&container, "remove", &list).ok();
    assert_eq!(listed(&container), json!([]));
    // Covered: the other mount is not what was added.
    mounts(&container, "add", &list).ok();
    container.exec_sh("mount -t tmpfs t /data").ok();
    mounts(&container, "remove", &list)
        .is(1)
        .says("unmount `/data`: another mount lies over what was added");
    container.exec_sh("umount /data").ok();
    mounts(&container, "remove", &list).ok();
    assert_eq!(table(&container), before);
    // In use: it goes, and who has a file of it open keeps that.
    mounts(&container, "add", &list).ok();
    let mut command = cx.command(&["exec", &container.id, "sh", "-c"]);
    command
        .arg("exec 3</data/f; : >/tmp/open; while [ -e /data/f ]; do usleep 20000; done; cat <&3");
    let reader = cx.spawn(command);
    let open = bundle.rootfs().join("tmp/open");
    eventually("the file is open", 20, || open.exists());
    mounts(&container, "remove", &list).ok();
    reader.wait().ok().prints("from outside");
    container.end();
}

/// How many processes there are in this test's pid namespace beside it and the container.
fn others(container: &Container<'_>) -> usize {
    let own = [1, i64::from(std::process::id()), container.pid()];
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
    pids.filter(|pid| !own.contains(pid) && alive(*pid)).count()
}

/// Whatever was killed: no mount is there that is not known, and so none that cannot be removed.
fn killed_before_every_step(cx: &Cx) {
    let container = cx.sleeper();
    let before = table(&container);
    let list = json!([
        bind(&source(cx, "volume"), "/data", &["ro"]),
        {"destination": "/scratch", "type": "tmpfs"},
    ]);
    let file = cx.file("list.json", &list.to_string());
    for action in ["add", "remove"] {
        let args = ["mounts", action, &container.id, file.to_str().unwrap()];
        for step in 0.. {
            if action == "remove" {
                mounts(&container, "add", &list).ok();
            }
            let Reached::Step(standing) = cx.run_to(&args, step) else {
                assert!(step > 5, "only {step} steps of {action} were seen");
                break;
            };
            standing.kill();
            eventually("what it had cloned has ended", 20, || {
                others(&container) == 0
            });
            let known = listed(&container).as_array().unwrap().len();
            assert!(
                table(&container).len() <= before.len() + known,
                "step {step}"
            );
            if known > 0 {
                mounts(&container, "remove", &list).ok();
            }
            assert_eq!(table(&container), before, "{action}, step {step}");
        }
        if action == "add" {
            mounts(&container, "remove", &list).ok();
        }
    }
    container.end();
}

/// The process in the container's mount namespace is in no other one of its, and has nothing of the state root open (X1, X3).
fn nobody_sees_who_mounts(cx: &Cx) {
    let container = cx.sleeper();
    let namespace = |pid: i64, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (own, init) = (i64::from(std::process::id()), container.pid());
    let inside = namespace(init, "mnt").unwrap();
    let list = json!([bind(&source(cx, "volume"), "/data", &[])]);
    let file = cx.file("list.json", &list.to_string());
    let mut seen = 0;
    for action in ["add", "remove"] {
        let args = ["mounts", action, &container.id, file.to_str().unwrap()];
        let output = cx.run_traced(&args, |pid| {
            let pid = i64::from(pid.as_raw());
            if namespace(pid, "mnt").as_ref() != Some(&inside) {
                return;
            }
            seen += 1;
            for kind in ["pid", "net", "ipc", "uts"] {
                assert_eq!(namespace(pid, kind), namespace(own, kind), "{kind}");
            }
            for open in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
                let path = fs::read_link(open.path()).unwrap_or_default();
                assert!(!path.starts_with(cx.root()), "{}", path.display());
            }
        });
        output.ok();
    }
    assert!(seen > 10, "{seen}");
    container.end();
}
