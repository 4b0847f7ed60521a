//! Containers without a mount namespace of their own: what is mounted for them is theirs alone (M5), and exec finds their root.

use std::path::Path;

use serde_json::{Value, json};

use super::namespaces::{host_ns, join, ns_of};
use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    host inherited_mount_namespace = "runc 1.1.5 mounts on the host";
    host inherited_mounts_stay_apart_from_shared_ones = "runc 1.1.5 mounts on the host";
    host joined_mount_namespace = "runc 1.1.5 mounts in the joined namespace and pivots it";
    host inherited_terminal = "runc 1.1.5 mounts on the host";
    host exec_finds_a_root_without_a_mount_namespace = "runc 1.1.5 shows exec the host's root";
    host inherited_mounts_that_cannot_be = "runc 1.1.5 mounts on the host";
}

/// Mounting on what is attached nowhere is of Linux 6.15, and from 7 on such mounts do not last: these kernels refuse it, which
/// one line says, and leave nothing behind.
fn supported(cx: &Cx, bundle: &Bundle) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().unwrap().unwrap();
    let reason = match (next(), next()) {
        (7.., _) => "add {\"type\": \"mount\"} to linux.namespaces",
        (6, 15..) => return true,
        _ => "Linux 6.15",
    };
    let before = mounts_of("self");
    let error = cx.try_create(bundle).is(1).stderr.replace("\\\"", "\"");
    assert!(error.contains(reason), "{error}");
    assert_eq!(mounts_of("self"), before);
    false
}

fn mounts_of(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
}

/// A config without a mount namespace, which has to do without masks, too.
fn without_mount_namespace(mut bundle: Bundle) -> Bundle {
    bundle.without_namespace("mount");
    for key in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"].as_object_mut().unwrap().remove(key);
    }
    bundle
}

fn inherited_mount_namespace(cx: &Cx) {
    let mut bundle = without_mount_namespace(cx.bundle());
    bundle.set("/root/readonly", json!(true));
    // A tmpfs is made read-only at the end, another mount by an entry of its own.
    let ro = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": ["ro"]});
    bundle.push("/mounts", ro("/mnt"));
    let again = json!({"destination": "/dev/shm", "source": "x", "options": ["remount", "ro"]});
    bundle.push("/mounts", again);
    if !supported(cx, &bundle) {
        return;
    }
    let before = mounts_of("self");
    let container = cx.start(&bundle);
    assert_eq!(ns_of(&container.pid().to_string(), "mnt"), host_ns("mnt"));
    assert_eq!(mounts_of("self"), before);
    let look = "stat -f -c %T /dev /proc /dev/shm; for dir in / /mnt /dev/shm; do touch $dir/new 2>/dev/null || echo read-only; done; ls -d /proc/[0-9]* | head -n 1; ls /../../..";
    let seen = container.exec_sh(look).ok();
    for word in [
        "tmpfs\nproc\ntmpfs\nread-only\nread-only\nread-only",
        "/proc/1",
        "bin",
    ] {
        assert!(seen.text().contains(word), "{word}: {}", seen.text());
    }
    assert!(!seen.text().contains("boot"), "{}", seen.text());
    container.end();
    assert_eq!(mounts_of("self"), before);
    assert_eq!(
        std::fs::read_dir(bundle.rootfs().join("proc"))
            .unwrap()
            .count(),
        0
    );
}

fn inherited_mounts_stay_apart_from_shared_ones(cx: &Cx) {
    let data = cx.dir.join("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("sub/file"), "the host's").unwrap();
    let mut bundle = without_mount_namespace(cx.script("cat /data/sub/file || echo covered"));
    // The second is mounted on a copy of the host's mount, which is shared; so is the root's.
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "source": data, "options": ["rbind", "rshared"]}),
    );
    bundle.push(
        "/mounts",
        json!({"destination": "/data/sub", "type": "tmpfs", "source": "tmpfs"}),
    );
    if !supported(cx, &bundle) {
        return;
    }
    cx.host("mount --make-rshared /").ok();
    let before = mounts_of("self");
    cx.run(&bundle).ok().has("covered");
    assert_eq!(mounts_of("self"), before);
    let text = std::fs::read_to_string(data.join("sub/file")).unwrap();
    assert_eq!(text, "the host's");
}

fn joined_mount_namespace(cx: &Cx) {
    let mut sleeper = std::process::Command::new("unshare");
    sleeper.args(["-m", "sleep", "300"]);
    let mut running = cx.spawn(sleeper);
    let other = running.child.id().to_string();
    eventually("the namespace is made", 30, || {
        ns_of(&other, "mnt") != host_ns("mnt")
    });
    let mut bundle = cx.bundle();
    join(&mut bundle, "mount", &format!("/proc/{other}/ns/mnt"));
    std::fs::write(bundle.rootfs().join("secret"), "secret").unwrap();
    bundle.push("/linux/maskedPaths", json!("/secret"));
    bundle.push("/linux/readonlyPaths", json!("/bin"));
    if supported(cx, &bundle) {
        let before = (mounts_of(&other), mounts_of("self"));
        let container = cx.start(&bundle);
        assert_eq!(
            ns_of(&container.pid().to_string(), "mnt"),
            ns_of(&other, "mnt")
        );
        let look =
            "cat /secret; touch /bin/new 2>/dev/null || echo read-only; echo /proc/1/cmdline";
        let seen = container.exec_sh(look).ok();
        seen.prints("read-only\n/proc/1/cmdline");
        assert_eq!((mounts_of(&other), mounts_of("self")), before);
        let root = std::fs::read_link(format!("/proc/{other}/root")).unwrap();
        assert_eq!(root, Path::new("/"));
        container.end();
        assert_eq!((mounts_of(&other), mounts_of("self")), before);
    }
    let _ = running.child.kill();
    running.wait();
}

fn inherited_terminal(cx: &Cx) {
    let mut bundle =
        without_mount_namespace(cx.script("tty; stat -c %t:%T /dev/console; echo >/dev/console"));
    if !supported(cx, &bundle) {
        return;
    }
    bundle.set("/process/terminal", json!(true));
    let before = mounts_of("self");
    // `run` without a socket proxies its own terminal, here that of script(1).
    bundle.write();
    let run = cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let words: Vec<_> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    cx.host(&format!("script -qec '{}' /dev/null", words.join(" ")))
        .ok()
        .has("/dev/pts/0")
        .has("88:0");
    assert_eq!(mounts_of("self"), before);
}

fn exec_finds_a_root_without_a_mount_namespace(cx: &Cx) {
    let mut bundle = without_mount_namespace(cx.bundle());
    bundle.set("/mounts", json!([]));
    std::fs::write(bundle.rootfs().join("mark"), "mine").unwrap();
    let container = cx.start(&bundle);
    container.exec(&["cat", "/mark"]).ok().prints("mine");
    container.end();
}

fn inherited_mounts_that_cannot_be(cx: &Cx) {
    let before = mounts_of("self");
    let refused = |name: &str, edit: &dyn Fn(&mut Bundle), field: &str| {
        let mut bundle = without_mount_namespace(cx.named_bundle(name));
        edit(&mut bundle);
        cx.try_create(&bundle).is(1).says(field);
    };
    // Mounting is a right over the namespace, which belongs to the host's root.
    refused(
        "user",
        &|bundle| bundle.user_namespace(),
        "mounts: needs a new mount",
    );
    refused(
        "shared",
        &|bundle| bundle.set("/linux/rootfsPropagation", Value::from("shared")),
        "linux.rootfsPropagation: needs",
    );
    assert_eq!(mounts_of("self"), before);
}
