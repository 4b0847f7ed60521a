//! Cgroups that others use, freeze, thread, hold or remove: refused before anything is put in, or survived.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::cgroups::{MIB, controllers, group_before};
use crate::support::runtime::Running;
use crate::support::{Bundle, CGROUP_PARENT, Container, Cx, alive, eventually, tests};

tests! {
    both a_process_below_counts = "runc 1.1.5 only warns on v2";
    both a_frozen_parent_is_refused = "runc 1.1.5 does not look at the parents";
    v2 a_divided_group_is_refused;
    v2 below_a_threaded_group = "runc 1.1.5 can not kill what is threaded";
    v2 a_domain_limit_in_a_threaded_group;
    both removed_underneath;
    both groups_of_the_containers_root_go;
    both many_levels_of_groups_go;
    host frozen_by_the_container_itself = "runc 1.1.5 waits for ever";
    both held_by_a_process_that_does_not_die = "runc 1.1.5 says nothing of the process";
}

/// A process of the host that is none of the container's.
struct Foreign(Running);

impl Foreign {
    fn new(cx: &Cx) -> Self {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000");
        Self(cx.spawn(sleeper))
    }

    fn pid(&self) -> i64 {
        i64::from(self.0.child.id())
    }

    fn enter(&self, dir: &Path) {
        fs::write(dir.join("cgroup.procs"), self.pid().to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }

    fn end(mut self) {
        let _ = self.0.child.kill();
        self.0.wait();
    }
}

fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        eventually("the group can be removed", 5, || {
            fs::remove_dir(dir).is_ok() || !dir.exists()
        });
    }
}

/// The container's cgroup in each hierarchy.
fn groups(cx: &Cx, id: &str) -> Vec<PathBuf> {
    controllers(cx)
        .iter()
        .map(|controller| cx.cgroup_dir(controller, id))
        .filter(|dir| dir.join("cgroup.procs").exists())
        .collect()
}

fn a_process_below_counts(cx: &Cx) {
    let bundle = cx.bundle();
    let dirs = group_before(cx, &bundle);
    // One hierarchy is enough.
    let dir = if cx.is_v2() {
        dirs[0].clone()
    } else {
        cx.cgroup_dir("devices", &bundle.id)
    };
    let below = [dir.join("x/y"), dir.join("x")];
    fs::create_dir_all(&below[0]).unwrap();
    let foreign = Foreign::new(cx);
    foreign.enter(&below[0]);
    let output = cx.try_create(&bundle);
    let lives = alive(foreign.pid());
    if output.code == 0 {
        let _ = cx.call(&["delete", "--force", &bundle.id]);
    }
    foreign.end();
    remove(&below);
    remove(&dirs);
    assert!(lives, "a process of somebody else was killed");
    let output = output.is(1);
    if cx.is_rundlet() {
        output.says("is not empty: 1 process(es) found");
    }
}

fn a_frozen_parent_is_refused(cx: &Cx) {
    let mut bundle = cx.bundle();
    let top = format!("{}-top", bundle.id);
    let path = format!("/{CGROUP_PARENT}/{top}/{}", bundle.id);
    bundle.set("/linux/cgroupsPath", json!(path));
    let (dir, file, on, off) = if cx.is_v2() {
        (cx.cgroup_dir("", &top), "cgroup.freeze", "1", "0")
    } else {
        (
            cx.cgroup_dir("freezer", &top),
            "freezer.state",
            "FROZEN",
            "THAWED",
        )
    };
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(file), on).unwrap();
    let output = cx.try_create(&bundle);
    fs::write(dir.join(file), off).unwrap();
    let below = dir.join(&bundle.id);
    let left = below.exists();
    for controller in controllers(cx) {
        let _ = fs::remove_dir(cx.cgroup_dir(&controller, &top));
    }
    let output = output.is(1);
    if cx.is_rundlet() {
        output.says("unexpectedly frozen");
        assert!(!left, "{} is left", below.display());
    }
}

fn a_divided_group_is_refused(cx: &Cx) {
    let bundle = cx.bundle();
    let dir = cx.cgroup_dir("", &bundle.id);
    let (parent, top) = (dir.parent().unwrap(), Path::new("/sys/fs/cgroup"));
    let controller = ["memory", "hugetlb"]
        .into_iter()
        .find(|name| {
            let all = fs::read_to_string(top.join("cgroup.controllers")).unwrap();
            all.split_whitespace().any(|word| word == *name)
        })
        .unwrap_or_else(|| cx.skip("no controller for domains alone"));
    fs::create_dir_all(dir.join("below")).unwrap();
    for at in [top, parent, &dir] {
        fs::write(at.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    let output = cx.try_create(&bundle);
    remove(&[dir.join("below"), dir]);
    let output = output.is(1);
    if cx.is_rundlet() {
        output.says("passes controllers on to cgroups below it");
    }
}

/// A container below a cgroup that is the root of threaded ones, and the process that makes it so.
fn threaded(cx: &Cx) -> (Bundle, PathBuf) {
    let mut bundle = cx.bundle();
    let top = format!("{}-top", bundle.id);
    let dir = cx.cgroup_dir("", &top);
    fs::create_dir_all(dir.join("other")).unwrap();
    fs::write(dir.join("other/cgroup.type"), "threaded").unwrap();
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/{CGROUP_PARENT}/{top}/{}", bundle.id)),
    );
    (bundle, dir)
}

fn below_a_threaded_group(cx: &Cx) {
    let (mut bundle, top) = threaded(cx);
    if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .unwrap()
        .contains("pids")
    {
        bundle.set("/linux/resources/pids", json!({"limit": 50}));
    }
    let container = cx.start(&bundle);
    let group = top.join(&container.id);
    assert_eq!(
        fs::read_to_string(group.join("cgroup.type"))
            .unwrap()
            .trim(),
        "threaded"
    );
    container.exec(&["true"]).ok();
    let listed = cx.call(&["ps", "-f", "json", &container.id]).ok();
    assert_eq!(listed.text(), format!("[{}]", container.pid()));
    container.call("pause").ok();
    container.call("resume").ok();
    // cgroup.kill does not work here.
    cx.call(&["delete", "--force", &container.id]).ok();
    assert!(!group.exists());
    remove(&[top.join("other"), top]);
}

fn a_domain_limit_in_a_threaded_group(cx: &Cx) {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let (mut bundle, top) = threaded(cx);
    let field = if all.contains("memory") {
        bundle.set("/linux/resources/memory", json!({"limit": 64 * MIB}));
        "linux.resources.memory.limit"
    } else {
        bundle.set(
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 0}]),
        );
        "linux.resources.hugepageLimits"
    };
    let output = cx.try_create(&bundle);
    let left = top.join(&bundle.id).exists();
    remove(&[top.join("other"), top.clone()]);
    let output = output.is(1);
    assert!(!left, "a cgroup is left");
    if cx.is_rundlet() {
        output.says(field).says("cgroup.type");
    }
}

fn removed_underneath(cx: &Cx) {
    let container = cx.sleeper();
    let pid = container.pid();
    container.kill("KILL").ok();
    eventually("the init is gone", 10, || !alive(pid));
    remove(&groups(cx, &container.id));
    assert_eq!(container.status(), "stopped");
    let output = container.call("ps");
    assert!(output.code == 0 || !cx.is_rundlet(), "{output}");
    container.call("delete").ok();
}

/// Its cgroups are writable for the container; on v1 in a cgroup namespace too.
fn writable(cx: &Cx) -> Bundle {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    bundle
}

fn ended(container: &Container<'_>) {
    let dirs = groups(container.cx, &container.id);
    assert!(!dirs.is_empty());
    container
        .cx
        .call(&["delete", "--force", &container.id])
        .ok();
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}

fn groups_of_the_containers_root_go(cx: &Cx) {
    let container = cx.start(&writable(cx));
    let script = if cx.is_v2() {
        "cd /sys/fs/cgroup; mkdir -p a/b/c d e; sleep 1000 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup/a/b/c/cgroup.procs"
    } else {
        "for at in devices freezer pids; do mkdir -p /sys/fs/cgroup/$at/a/b /sys/fs/cgroup/$at/d; done; \
         sleep 1000 >/dev/null 2>&1 & for at in devices freezer pids; do echo $! >/sys/fs/cgroup/$at/a/b/cgroup.procs; done"
    };
    container.exec_sh(script).ok();
    ended(&container);
}

fn many_levels_of_groups_go(cx: &Cx) {
    // More than the runtime may open files here, or its stack could hold.
    let container = cx.start(&writable(cx));
    let at = if cx.is_v2() { "" } else { "/devices" };
    container
        .exec_sh(&format!(
            "cd /sys/fs/cgroup{at}; i=0; while [ $i -lt 150 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done"
        ))
        .ok();
    let dir = cx.cgroup_dir("devices", &container.id);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "ulimit -n 64; exec {} --root {} delete --force {}",
        cx.runtime.display(),
        cx.root().display(),
        container.id
    ));
    cx.spawn(command).wait().ok();
    assert!(!dir.exists());
}

fn frozen_by_the_container_itself(cx: &Cx) {
    if cx.is_v2() {
        cx.skip("SIGKILL reaches frozen processes on v2");
    }
    let container = cx.start(&writable(cx));
    container
        .exec_sh(
            "cd /sys/fs/cgroup/freezer; mkdir ice; sleep 1000 >/dev/null 2>&1 & \
             echo $! >ice/cgroup.procs; echo FROZEN >ice/freezer.state",
        )
        .ok();
    container.end();
}

/// A freezer of v1 that is not the container's, also where the test sees v2 alone.
fn freezer(cx: &Cx) -> PathBuf {
    let at = cx.dir.join("freezer");
    fs::create_dir(&at).unwrap();
    let output = cx.host(&format!("mount -t cgroup -o freezer none {}", at.display()));
    if output.code != 0 {
        cx.skip("no v1 freezer to make a process that does not die");
    }
    let dir = at.join(format!("{}-ice", cx.token));
    fs::create_dir(&dir).unwrap();
    dir
}

fn held_by_a_process_that_does_not_die(cx: &Cx) {
    let ice = freezer(cx);
    let container = cx.sleeper();
    let foreign = Foreign::new(cx);
    for dir in groups(cx, &container.id) {
        if !dir.starts_with("/sys/fs/cgroup/freezer") {
            foreign.enter(&dir);
        }
    }
    foreign.enter(&ice);
    fs::write(ice.join("freezer.state"), "FROZEN").unwrap();
    let pid = container.pid();
    container.kill("KILL").ok();
    eventually("the init is gone", 10, || !alive(pid));
    // More than once: the first time must not have taken away what the next one needs.
    let short: &[&str] = &["--timeout", "200ms"];
    let times: &[&[&str]] = if cx.is_rundlet() {
        &[&[], short]
    } else {
        &[&[], &[]]
    };
    for flags in times {
        let output = cx.call(&[&["delete"][..], flags, &[container.id.as_str()]].concat());
        assert_ne!(output.code, 0, "{output}");
        if cx.is_rundlet() {
            let dir = groups(cx, &container.id)[0].clone();
            output
                .says(&format!("/{CGROUP_PARENT}/{}", container.id))
                .says(&format!("{} (sleep, state ", foreign.pid()))
                .says("its state is kept");
            assert!(dir.exists());
        }
        assert_eq!(container.status(), "stopped");
    }
    fs::write(ice.join("freezer.state"), "THAWED").unwrap();
    foreign.end();
    container.call("delete").ok();
    assert!(groups(cx, &container.id).is_empty());
    remove(std::slice::from_ref(&ice));
    cx.host(&format!("umount {}", ice.parent().unwrap().display()))
        .ok();
}
