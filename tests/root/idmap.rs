//! Id-mapped mounts: whose ids a bind shows, with and without a user namespace, and what is refused.
//!
//! Sources lie in the test's directory, which must be on a file system that can map ids (ext4, xfs, btrfs, tmpfs since 6.3).

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::namespaces::join;
use super::namespaces::path_of;
use crate::support::{Bundle, Cx, Output, tests};

tests! {
    host own_mapping_without_a_user_namespace = "runc 1.1.5 has no id-mapped mounts";
    host own_mapping_in_a_user_namespace = "runc 1.1.5 has no id-mapped mounts";
    host option_alone_takes_the_container_s = "runc 1.1.5 has no id-mapped mounts";
    host joined_user_namespace = "runc 1.1.5 has no id-mapped mounts";
    host joined_user_and_its_mount_namespace = "runc 1.1.5 opens every device of the other mount namespace";
    host several_mappings_and_ranges = "runc 1.1.5 has no id-mapped mounts";
    host idmap_is_for_the_top_and_ridmap_for_all = "runc 1.1.5 has no id-mapped mounts";
    host a_file_and_read_only = "runc 1.1.5 has no id-mapped mounts";
    host tmpfs_source = "runc 1.1.5 has no id-mapped mounts";
    host propagation_stays_the_container_s = "runc 1.1.5 has no id-mapped mounts";
    host words_of_crun = "runc 1.1.5 has no id-mapped mounts";
    host option_without_any_mapping_is_refused = "runc 1.1.5 has no id-mapped mounts";
    host half_a_mapping_is_refused = "runc 1.1.5 has no id-mapped mounts";
    host other_than_binds_are_refused = "runc 1.1.5 has no id-mapped mounts";
    host wrong_mappings_are_refused = "runc 1.1.5 has no id-mapped mounts";
    host a_file_system_that_cannot_is_named = "runc 1.1.5 has no id-mapped mounts";
    host a_caller_that_ignores_its_children = "runc 1.1.5 has no id-mapped mounts";
    host overlay_in_a_user_namespace = "an option of rundlet";
}

fn map(stored: u32, shown: u32, size: u32) -> Value {
    json!([{"containerID": stored, "hostID": shown, "size": size}])
}

/// A directory with `root` of 0:0 and `user` of 5:6 in it, writable for all.
fn source(cx: &Cx, name: &str) -> PathBuf {
    let dir = cx.dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    fill(&dir);
    dir
}

fn fill(dir: &Path) {
    for (file, uid, gid) in [("root", 0, 0), ("user", 5, 6)] {
        std::fs::write(dir.join(file), file).unwrap();
        chown(dir.join(file), Some(uid), Some(gid)).unwrap();
    }
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// A bundle whose root has the mount points: in a user namespace they could not be made.
fn volume_bundle(cx: &Cx, name: &str) -> Bundle {
    let bundle = cx.named_bundle(name);
    for dir in ["v", "1", "2", "3"] {
        std::fs::create_dir(bundle.rootfs().join(dir)).unwrap();
    }
    std::fs::write(bundle.rootfs().join("f"), "").unwrap();
    bundle
}

#[track_caller]
fn run(cx: &Cx, name: &str, script: &str, edit: impl FnOnce(&mut Bundle)) -> Output {
    let mut bundle = volume_bundle(cx, name);
    bundle.sh(script);
    edit(&mut bundle);
    cx.run(&bundle).ok()
}

/// A bind with mappings of its own.
fn mapped(
    b: &mut Bundle,
    source: &Path,
    destination: &str,
    options: &[&str],
    maps: (Value, Value),
) {
    b.push(
        "/mounts",
        json!({"destination": destination, "type": "bind", "source": source, "options": options,
               "uidMappings": maps.0, "gidMappings": maps.1}),
    );
}

const STAT: &str = "stat -c '%u:%g' /v/root /v/user; touch /v/new; stat -c '%u:%g' /v/new";

fn own_mapping_without_a_user_namespace(cx: &Cx) {
    let dir = source(cx, "volume");
    run(cx, "c", STAT, |b| {
        let maps = (map(0, 1000, 10), map(0, 2000, 10));
        mapped(b, &dir, "/v", &["bind"], maps);
        // Root's 0:0 is not among the shown ids: it could not make a file.
        b.set("/process/user", json!({"uid": 1003, "gid": 2004}));
    })
    .prints("1000:2000\n1005:2006\n1003:2004");
    assert_eq!(owner(&dir.join("new")), (3, 4));
}

fn own_mapping_in_a_user_namespace(cx: &Cx) {
    let dir = source(cx, "volume");
    run(cx, "c", STAT, |b| {
        b.user_namespace();
        let maps = (map(0, 100_000, 65536), map(0, 200_000, 65536));
        mapped(b, &dir, "/v", &["rbind", "rw", "rprivate"], maps);
    })
    .prints("0:0\n5:6\n0:0");
    assert_eq!(owner(&dir.join("new")), (0, 0));
}

fn option_alone_takes_the_container_s(cx: &Cx) {
    for option in ["idmap", "ridmap"] {
        let dir = source(cx, option);
        run(cx, option, STAT, |b| {
            b.user_namespace();
            b.bind(&dir, "/v", &[option]);
        })
        .prints("0:0\n5:6\n0:0");
        assert_eq!(owner(&dir.join("new")), (0, 0));
    }
}

fn joined_user_namespace(cx: &Cx) {
    let dir = source(cx, "volume");
    let mut bundle = volume_bundle(cx, "first");
    bundle.user_namespace();
    let first = cx.start(&bundle);
    let mut bundle = volume_bundle(cx, "second");
    join(&mut bundle, "user", &path_of(&first, "user"));
    bundle.bind(&dir, "/v", &["idmap"]);
    bundle.sh(STAT);
    cx.run(&bundle).ok().prints("0:0\n5:6\n0:0");
    assert_eq!(owner(&dir.join("new")), (0, 0));
    first.end();
}

/// All that the first container owns.
fn joined_user_and_its_mount_namespace(cx: &Cx) {
    let mut bundle = volume_bundle(cx, "first");
    bundle.user_namespace();
    let first = cx.start(&bundle);
    first.exec_sh("echo theirs >/tmp/mark").ok();
    let mut bundle = volume_bundle(cx, "second");
    bundle.user_namespace();
    for (kind, file) in [
        ("user", "user"),
        ("pid", "pid"),
        ("mount", "mnt"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        join(&mut bundle, kind, &path_of(&first, file));
    }
    // Nothing may be mounted in the namespace of another.
    bundle.set("/mounts", json!([]));
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    bundle.config.as_object_mut().unwrap().remove("hostname");
    // Seen from the first one's root: its own rootfs is `/`.
    bundle.set("/root/path", json!("/"));
    bundle.sh("cat /tmp/mark; id -u; hostname; tr -s ' ' </proc/self/uid_map");
    cx.run(&bundle)
        .ok()
        .prints("theirs\n0\ninside\n 0 100000 65536");
    first.end();
}

fn several_mappings_and_ranges(cx: &Cx) {
    let (one, two, three) = (source(cx, "1"), source(cx, "2"), source(cx, "3"));
    run(
        cx,
        "c",
        "stat -c '%u:%g' /1/user /2/root /2/user /3/user",
        |b| {
            mapped(b, &one, "/1", &["bind"], (map(5, 77, 1), map(6, 88, 1)));
            let ranges = json!([
                {"containerID": 0, "hostID": 500, "size": 1},
                {"containerID": 5, "hostID": 600, "size": 2},
            ]);
            mapped(b, &two, "/2", &["bind"], (ranges.clone(), ranges));
            mapped(b, &three, "/3", &["bind"], (map(5, 77, 1), map(6, 88, 1)));
        },
    )
    .prints("77:88\n500:500\n600:601\n77:88");
}

fn idmap_is_for_the_top_and_ridmap_for_all(cx: &Cx) {
    let dir = source(cx, "volume");
    let below = dir.join("below");
    std::fs::create_dir(&below).unwrap();
    cx.host(&format!("mount -t tmpfs none {}", below.display()))
        .ok();
    fill(&below);
    for (option, inner) in [("idmap", "0:0\n5:6"), ("ridmap", "300:400\n305:406")] {
        run(
            cx,
            option,
            "stat -c '%u:%g' /v/root /v/user /v/below/root /v/below/user",
            |b| {
                let maps = (map(0, 300, 10), map(0, 400, 10));
                mapped(b, &dir, "/v", &["rbind", option], maps);
            },
        )
        .prints(&format!("300:400\n305:406\n{inner}"));
    }
    cx.host(&format!("umount {}", below.display())).ok();
}

fn a_file_and_read_only(cx: &Cx) {
    let dir = source(cx, "volume");
    run(
        cx,
        "c",
        "stat -c '%u:%g' /f; cat /f; echo x >/f || grep -o ' /f ro,nosuid' /proc/self/mountinfo",
        |b| {
            b.user_namespace();
            let maps = (map(0, 100_000, 10), map(0, 200_000, 10));
            mapped(b, &dir.join("user"), "/f", &["bind", "ro", "nosuid"], maps);
        },
    )
    .prints("5:6\nuser /f ro,nosuid");
}

/// Where kubelet keeps secrets and projected volumes.
fn tmpfs_source(cx: &Cx) {
    let dir = cx.dir.join("tmpfs");
    std::fs::create_dir(&dir).unwrap();
    cx.host(&format!("mount -t tmpfs none {}", dir.display()))
        .ok();
    fill(&dir);
    run(cx, "c", STAT, |b| {
        b.user_namespace();
        let maps = (map(0, 100_000, 65536), map(0, 200_000, 65536));
        mapped(b, &dir, "/v", &["rbind", "rprivate"], maps);
    })
    .prints("0:0\n5:6\n0:0");
    cx.host(&format!("umount {}", dir.display())).ok();
}

/// The source's group of shared mounts is the host's: the container gets a slave of it, as of every mount it copies.
fn propagation_stays_the_container_s(cx: &Cx) {
    let dir = source(cx, "volume");
    cx.host(&format!(
        "mount --bind {0} {0} && mount --make-shared {0}",
        dir.display()
    ))
    .ok();
    run(cx, "c", "grep -c ' /v .* shared:' /proc/self/mountinfo; grep -c ' /v .* master:' /proc/self/mountinfo", |b| {
        mapped(b, &dir, "/v", &["bind"], (map(0, 300, 10), map(0, 400, 10)));
    })
    .prints("0\n1");
    cx.host(&format!("umount {}", dir.display())).ok();
}

fn words_of_crun(cx: &Cx) {
    let dir = source(cx, "volume");
    let stat = "stat -c '%u:%g' /v/root /v/user";
    run(cx, "c", stat, |b| {
        b.bind(&dir, "/v", &["idmap=uids=0-300-3#5-900-1;gids=0-400-10"]);
    })
    .prints("300:400\n900:406");
    // Relative to the container's own: stored 0 is its 7.
    run(cx, "d", stat, |b| {
        b.user_namespace();
        b.bind(&dir, "/v", &["idmap=uids=@0-7-10;gids=@0-8-10"]);
    })
    .prints("7:8\n12:14");
}

fn refused(cx: &Cx, name: &str, edit: impl FnOnce(&mut Bundle)) -> String {
    let mut bundle = volume_bundle(cx, name);
    edit(&mut bundle);
    let output = cx.try_create(&bundle);
    assert_ne!(output.code, 0, "{output}");
    output.stderr
}

#[track_caller]
fn says(cx: &Cx, error: &str, text: &str) {
    assert!(
        !cx.is_rundlet() || error.contains(text),
        "no {text:?} in {error}"
    );
}

fn option_without_any_mapping_is_refused(cx: &Cx) {
    let dir = source(cx, "volume");
    let error = refused(cx, "c", |b| b.bind(&dir, "/v", &["idmap"]));
    says(cx, &error, "mounts[7].options: `idmap` without");
}

fn half_a_mapping_is_refused(cx: &Cx) {
    let dir = source(cx, "volume");
    let error = refused(cx, "c", |b| {
        mapped(b, &dir, "/v", &["bind"], (map(0, 1, 1), json!([])));
    });
    says(
        cx,
        &error,
        "mounts[7].gidMappings: an id-mapped mount needs both",
    );
}

fn other_than_binds_are_refused(cx: &Cx) {
    let error = refused(cx, "c", |b| {
        b.push(
            "/mounts",
            json!({"destination": "/v", "type": "tmpfs", "source": "tmpfs",
                   "uidMappings": map(0, 1, 1), "gidMappings": map(0, 1, 1)}),
        );
    });
    says(
        cx,
        &error,
        "mounts[7].uidMappings: only a bind mount can be id-mapped",
    );
}

fn wrong_mappings_are_refused(cx: &Cx) {
    let dir = source(cx, "volume");
    for (name, uids, text) in [
        (
            "c",
            map(0, 1, 0),
            "mounts[7].uidMappings[0].size: must be greater than 0",
        ),
        ("d", map(0, u32::MAX, 2), "mounts[7].uidMappings[0].hostID:"),
        (
            "e",
            json!([{"containerID": 0, "hostID": 0, "size": 5}, {"containerID": 4, "hostID": 10, "size": 1}]),
            "mounts[7].uidMappings[1].containerID: overlaps with entry 0",
        ),
    ] {
        let error = refused(cx, name, |b| {
            mapped(b, &dir, "/v", &["bind"], (uids, map(0, 1, 1)))
        });
        says(cx, &error, text);
    }
}

fn a_file_system_that_cannot_is_named(cx: &Cx) {
    let error = refused(cx, "c", |b| {
        let maps = (map(0, 1, 10), map(0, 1, 10));
        mapped(b, Path::new("/proc/sys"), "/v", &["bind"], maps);
    });
    says(
        cx,
        &error,
        "mounts[7]: source `/proc/sys`: map the ids of this `proc` mount",
    );
    says(cx, &error, "invalid argument");
}

/// The kernel then reaps at once whatever the runtime clones: the maker of the mapping, the stage of exec.
fn a_caller_that_ignores_its_children(cx: &Cx) {
    let dir = source(cx, "volume");
    let mut bundle = volume_bundle(cx, "c");
    bundle.user_namespace();
    bundle.bind(&dir, "/v", &["idmap"]);
    bundle.write();
    // Not sh: dash keeps SIGCHLD to itself.
    let ignoring = |args: &str| {
        let (runtime, root) = (cx.runtime.display(), cx.root());
        let root = root.display();
        cx.host(&format!(
            "bash -c \"trap '' CHLD; exec {runtime} --root {root} {args}\""
        ))
        .ok();
    };
    let (path, id) = (bundle.path.display(), &bundle.id);
    ignoring(&format!("create --bundle {path} {id}"));
    let container = cx.container(&bundle.id);
    container.call("start").ok();
    ignoring(&format!("exec -d {id} touch /v/made"));
    crate::support::eventually("the file is made", 10, || dir.join("made").exists());
    assert_eq!(owner(&dir.join("made")), (0, 0));
    container.end();
}

fn overlay_in_a_user_namespace(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.user_namespace();
    cx.host(&format!(
        "chown -R 100000:200000 {}",
        bundle.rootfs().display()
    ))
    .ok();
    // Both layers must be of ids that the namespace has, or nothing can be copied up.
    bundle.sh("touch /tmp/new && stat -c '%u:%g' /tmp/new /etc/passwd; echo changed >/etc/own; cat /etc/own");
    cx.run_with(&bundle, &["--overlay"])
        .ok()
        .prints("0:0\n0:0\nchanged");
    assert!(!bundle.rootfs().join("etc/own").exists());
}
