//! Published holes of engines and early runtimes, as far as they are a runtime's matter. The whole list, with the tests of each, is
//! `conformance/security/published.md`.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Cx, tests};
use crate::tty::create_on;

tests! {
    host cve_2015_3631_a_volume_over_proc;
    host cve_2017_16539_cve_2018_10892_default_masks = "runc 1.1.5 has no rundlet's list";
    host cve_2020_15257_no_abstract_socket;
    both cve_2022_0492_no_release_agent_can_be_written;
    both cve_2023_25809_only_the_own_cgroup_is_shown;
    host cve_2025_52565_a_terminal_is_no_name;
    host cve_2026_57231_the_callers_environment_stays_outside;
}

fn cve_2015_3631_a_volume_over_proc(cx: &Cx) {
    let volume = cx.dir.join("volume");
    std::fs::create_dir_all(volume.join("self/attr")).unwrap();
    for destination in [
        "/proc",
        "//proc/",
        "/tmp/../proc",
        "/proc/self/attr",
        "/proc/1",
    ] {
        let mut bundle = cx.script("true");
        bundle.bind(&volume, destination, &[]);
        let output = cx.run(&bundle);
        assert_ne!(output.code, 0, "{destination}: {output}");
    }
}

fn cve_2017_16539_cve_2018_10892_default_masks(cx: &Cx) {
    let dir = cx.dir.join("spec");
    std::fs::create_dir(&dir).unwrap();
    cx.call(&["spec", "--bundle", dir.to_str().unwrap()]).ok();
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let masked = config["linux"]["maskedPaths"].as_array().unwrap();
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/proc/kcore",
        "/proc/keys",
        "/sys/firmware",
    ] {
        assert!(masked.contains(&json!(path)), "{path}: {masked:?}");
    }
}

/// While a container is made, with hooks, a terminal and a socket for its readiness.
fn cve_2020_15257_no_abstract_socket(cx: &Cx) {
    let mut bundle = cx.bundle();
    let seen = cx.dir.join("seen");
    let look = format!("cat /proc/net/unix >>{}", seen.display());
    for kind in ["createRuntime", "createContainer"] {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", look]}]);
        bundle.set(&format!("/hooks/{kind}"), hook);
    }
    // In a network namespace of the test's own nobody else has one.
    bundle.write();
    cx.host(&format!(
        "exec unshare -n {} --root {} create --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok();
    cx.call(&["delete", &bundle.id]).ok();
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("RefCount") && !seen.contains(" @"), "{seen}");
}

fn cve_2022_0492_no_release_agent_can_be_written(cx: &Cx) {
    let script = "find /sys/fs/cgroup -name release_agent | wc -l
        for f in $(find /sys/fs/cgroup -name notify_on_release -o -name cgroup.procs); do
          echo 1 2>/dev/null >$f && echo $f can be written; done; echo end";
    for with_namespace in [false, true] {
        let mut bundle = cx.named_bundle(&format!("c{with_namespace}"));
        bundle.sh(script);
        if with_namespace {
            bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
        }
        cx.run(&bundle).ok().prints("0\nend");
    }
}

/// Neither the parent nor a neighbour, also where the mount is to be writable.
fn cve_2023_25809_only_the_own_cgroup_is_shown(cx: &Cx) {
    let mut bundle = cx.script("find /sys/fs/cgroup -type d | grep -c rundlet-test; echo end");
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
    let neighbour = cx.start(&cx.named_bundle("neighbour"));
    cx.run(&bundle).ok().prints("0\nend");
    neighbour.end();
}

/// The image's /dev/pts has what looks like a terminal, and is no devpts.
fn cve_2025_52565_a_terminal_is_no_name(cx: &Cx) {
    let mut bundle = cx.bundle();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    let pts = bundle.rootfs().join("dev/pts");
    std::fs::create_dir(&pts).unwrap();
    std::fs::write(bundle.rootfs().join("etc/victim"), "victim").unwrap();
    for name in ["ptmx", "0", "1"] {
        symlink("/etc/victim", pts.join(name)).unwrap();
    }
    bundle.set("/process/terminal", json!(true));
    let output = create_on(cx, &bundle, &cx.console_socket().path);
    assert_ne!(output.code, 0, "{output}");
    let victim = std::fs::read_to_string(bundle.rootfs().join("etc/victim")).unwrap();
    assert_eq!(victim, "victim");
}

fn cve_2026_57231_the_callers_environment_stays_outside(cx: &Cx) {
    let bundle = cx.script("cat /proc/self/environ /proc/1/environ");
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let mut command = cx.command(&["run", "--bundle", path, &bundle.id]);
    command.env("SECRET_OF_THE_CALLER", "yes");
    let output = cx.spawn(command).wait().ok();
    assert!(!output.stdout.contains("SECRET"), "{output}");
    let container = cx.start(&cx.named_bundle("running"));
    let mut command = cx.command(&["exec", &container.id, "cat", "/proc/self/environ"]);
    command.env("SECRET_OF_THE_CALLER", "yes");
    let output = cx.spawn(command).wait().ok();
    assert!(!output.stdout.contains("SECRET"), "{output}");
    container.end();
}
