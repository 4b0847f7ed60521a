//! The container's cgroup on v2 as a whole: raw values, freezing, killing, its namespace, who is in it, and the device
//! program. See `v2_limits` for the single limits.

use std::fs;

use serde_json::json;

use super::cgroups::{MIB, limited, need};
use super::v2_limits::{count, read};
use crate::support::{CGROUP_PARENT, Container, Cx, alive, eventually, tests};

tests! {
    v2 raw_values_are_written_and_win;
    v2 raw_values_of_several_lines = "runc 1.1.5 writes all lines at once";
    v2 one_out_of_memory_takes_all;
    v2 a_limit_below_parents_without_controllers;
    v2 a_paused_container_stands_still;
    v2 a_container_without_pid_namespace_is_killed_as_a_whole = "runc 1.1.5 signals init alone";
    v2 delete_by_force_kills_the_whole_group = "runc 1.1.5 leaves groups that were made below";
    v2 the_namespace_shows_the_container_as_root;
    v2 exec_is_in_the_containers_group;
    v2 exec_into_a_group_below;
    v2 devices_are_denied_by_the_program;
}

fn raw_values_are_written_and_win(cx: &Cx) {
    need(cx, "memory");
    need(cx, "pids");
    let mut bundle = limited(
        cx,
        "unified",
        json!({"memory.max": "33554432", "memory.high": "30000000", "memory.oom.group": "1", "pids.max": "77"}),
    );
    bundle.set("/linux/resources/memory", json!({"limit": 64 * MIB}));
    let container = cx.start(&bundle);
    assert_eq!(read(&container, "memory.max"), "33554432");
    // Whole pages.
    assert_eq!(read(&container, "memory.high"), "29999104");
    assert_eq!(read(&container, "memory.oom.group"), "1");
    assert_eq!(read(&container, "pids.max"), "77");
    container.end();
}

fn raw_values_of_several_lines(cx: &Cx) {
    need(cx, "cpu");
    let container = cx.start(&limited(
        cx,
        "unified",
        json!({"cpu.weight": "44", "cpu.max": "5000 40000\n6000 40000\n"}),
    ));
    assert_eq!(read(&container, "cpu.weight"), "44");
    assert_eq!(read(&container, "cpu.max"), "6000 40000");
    container.end();
}

fn one_out_of_memory_takes_all(cx: &Cx) {
    need(cx, "memory");
    let mut bundle = limited(cx, "unified", json!({"memory.oom.group": "1"}));
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 24 * MIB, "swap": 24 * MIB}),
    );
    let container = cx.start(&bundle);
    container
        .exec_sh("dd if=/dev/zero of=/dev/null bs=80M count=1; echo survived")
        .is(137);
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn a_limit_below_parents_without_controllers(cx: &Cx) {
    need(cx, "memory");
    // Nobody has passed the controller on to these before.
    let mut bundle = limited(cx, "memory", json!({"limit": 64 * MIB}));
    let id = bundle.id.clone();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/{CGROUP_PARENT}/{id}-top/a/{id}")),
    );
    let container = cx.start(&bundle);
    let top = cx.cgroup_dir("", &format!("{id}-top"));
    let limit = fs::read_to_string(top.join("a").join(&id).join("memory.max")).unwrap();
    assert_eq!(limit.trim(), (64 * MIB).to_string());
    container.end();
    for group in [top.join("a"), top] {
        fs::remove_dir(group).unwrap();
    }
}

fn a_paused_container_stands_still(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.sh("i=0; while :; do i=$((i+1)); echo $i >/tmp/beat; usleep 20000; done");
    let container = cx.start(&bundle);
    let beat = || fs::read_to_string(bundle.rootfs().join("tmp/beat")).unwrap_or_default();
    eventually("the first beat", 5, || !beat().is_empty());
    container.call("pause").ok();
    assert_eq!(read(&container, "cgroup.freeze"), "1");
    assert_eq!(count(&container, "cgroup.events", "frozen"), 1);
    assert_eq!(container.status(), "paused");
    let before = beat();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(beat(), before);
    container.call("resume").ok();
    assert_eq!(count(&container, "cgroup.events", "frozen"), 0);
    assert_eq!(container.status(), "running");
    eventually("the next beat", 5, || beat() != before);
    container.end();
}

/// A container in the pid namespace of the test, with an orphan, a session of its own and a group below.
fn family(cx: &Cx) -> (Container<'_>, Vec<i64>) {
    let mut bundle = cx.bundle();
    bundle.without_namespace("pid");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle.sh(
        "(sleep 1000 & echo $! >/tmp/orphan); setsid sleep 1000 & echo $! >/tmp/session; \
         mkdir /sys/fs/cgroup/below; sleep 1000 & echo $! >/tmp/below; \
         echo $! >/sys/fs/cgroup/below/cgroup.procs && touch /tmp/ready; trap : TERM; while :; do wait; done",
    );
    let container = cx.start(&bundle);
    let tmp = bundle.rootfs().join("tmp");
    eventually("the family is there", 5, || tmp.join("ready").exists());
    let pid = |name: &str| {
        fs::read_to_string(tmp.join(name))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let pids = vec![pid("orphan"), pid("session"), pid("below"), container.pid()];
    assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
    let below = cx.cgroup_dir("", &container.id).join("below/cgroup.procs");
    assert_eq!(
        fs::read_to_string(below).unwrap().trim(),
        pids[2].to_string()
    );
    (container, pids)
}

fn a_container_without_pid_namespace_is_killed_as_a_whole(cx: &Cx) {
    let (container, pids) = family(cx);
    container.kill("KILL").ok();
    eventually("all are gone", 5, || !pids.iter().any(|pid| alive(*pid)));
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn delete_by_force_kills_the_whole_group(cx: &Cx) {
    let (container, pids) = family(cx);
    container
        .cx
        .call(&["delete", "--force", &container.id])
        .ok();
    assert!(!pids.iter().any(|pid| alive(*pid)), "{pids:?}");
    assert!(!cx.cgroup_dir("", &container.id).exists());
}

fn the_namespace_shows_the_container_as_root(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    let controller = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let memory = controller.contains("memory");
    if memory {
        bundle.set("/linux/resources/memory", json!({"limit": 64 * MIB}));
    }
    let container = cx.start(&bundle);
    let script = "cat /proc/self/cgroup | grep ^0; wc -l </sys/fs/cgroup/cgroup.procs; \
                  echo 1 >/sys/fs/cgroup/cgroup.freeze || echo refused; ls -d /sys/fs/cgroup/rundlet-test";
    // The init and the exec's shell and cat's pipe: at least two.
    let output = container.exec_sh(script);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "0::/", "{output}");
    assert!(lines[1].trim().parse::<u32>().unwrap() >= 2, "{output}");
    assert_eq!(lines[2], "refused", "{output}");
    assert_eq!(lines.len(), 3, "{output}");
    if memory {
        container
            .exec(&["cat", "/sys/fs/cgroup/memory.max"])
            .ok()
            .prints(&(64 * MIB).to_string());
    }
    container.end();
}

fn exec_is_in_the_containers_group(cx: &Cx) {
    let container = cx.sleeper();
    let own = format!("0::/{CGROUP_PARENT}/{}", container.id);
    let output = container.exec_sh("grep ^0:: /proc/self/cgroup").ok();
    assert_eq!(output.text(), own);
    container.exec_with(&["--detach"], &["sleep", "900"]).ok();
    let procs = read(&container, "cgroup.procs");
    assert_eq!(procs.lines().count(), 2, "{procs}");
    container.end();
}

fn exec_into_a_group_below(cx: &Cx) {
    let container = cx.sleeper();
    let below = cx.cgroup_dir("", &container.id).join("below");
    fs::create_dir(&below).unwrap();
    let output = container
        .exec_with(
            &["--cgroup", "below"],
            &["grep", "^0::", "/proc/self/cgroup"],
        )
        .ok();
    assert_eq!(
        output.text(),
        format!("0::/{CGROUP_PARENT}/{}/below", container.id)
    );
    let output = container.exec_with(&["--cgroup", "nosuch"], &["true"]);
    assert_ne!(output.code, 0, "{output}");
    container.end();
}

fn devices_are_denied_by_the_program(cx: &Cx) {
    if !std::path::Path::new("/dev/fuse").exists() {
        cx.skip("no /dev/fuse on this host");
    }
    // 10:229 is fuse, which root may always open and which then does nothing; 10:237 is loop-control. Neither is in the
    // default list.
    let open = "for n in 10:229 10:237; do rm -f /tmp/n; mknod /tmp/n c ${n%:*} ${n#*:}; \
                (exec 3</tmp/n) 2>/tmp/e && echo $n opened || { grep -o 'Operation not permitted' /tmp/e; }; done";
    let mut bundle = cx.named_bundle("deny");
    bundle.sh(open);
    cx.run(&bundle)
        .ok()
        .prints("Operation not permitted\nOperation not permitted");
    let mut bundle = cx.named_bundle("allow");
    bundle.sh(open);
    bundle.push(
        "/linux/resources/devices",
        json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}),
    );
    let output = cx.run(&bundle).ok();
    assert_eq!(
        output.text(),
        "10:229 opened\nOperation not permitted",
        "{output}"
    );
    // A node of the host that is bind-mounted opens no way round the program.
    let mut bundle = cx.named_bundle("bind");
    bundle.bind("/dev/fuse".as_ref(), "/dev/fuse", &["rw"]);
    bundle.sh("(exec 3</dev/fuse) 2>&1 || true");
    cx.run(&bundle).ok().has("Operation not permitted");
}
