//! Checkpoint and restore by CRIU. What needs a dump is skipped where CRIU or the kernel cannot make one; what is refused before
//! CRIU is asked is tested everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Bundle, Container, Cx, Output, eventually, tests};

tests! {
    both only_what_runs_is_saved;
    host without_criu_nothing_happens;
    host options_are_checked_first = "runc 1.1.5 takes some of these, and makes the image directory first";
    host names_that_criu_would_split_are_refused = "runc 1.1.5 hands them to CRIU";
    host what_cannot_be_restored_is_refused = "runc 1.1.5 knows no id-mapped mounts";
    host a_restore_that_fails_leaves_nothing;
    both a_container_goes_on_after_a_restore;
    host a_copy_is_made_of_a_running_one;
    host restored_in_the_foreground;
    host memory_is_saved_in_two_steps;
    host a_paused_container_is_saved;
    host a_terminal_comes_back;
    host what_criu_says_is_in_the_error = "runc 1.1.5 names the log alone";
}

/// A container that counts in a tmpfs, with /dev/null as its standard streams: CRIU saves no file of the host.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/count/new; mv /count/new /count/n; sleep 0.05; done";

pub(crate) fn counter(cx: &Cx) -> Bundle {
    let mut bundle = cx.script(COUNTER);
    bundle.mount("/count", "tmpfs", "tmpfs", &[]);
    bundle
}

/// `run --detach` or `restore --detach`, whose standard streams the container keeps.
#[track_caller]
fn detached(cx: &Cx, args: &[&str]) {
    let log = cx.dir.join("runtime.log");
    let mut command = cx.command(&[]);
    command.arg("--log").arg(&log).args(args);
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(
        status.success(),
        "{args:?}: {status}\n{said}{}",
        criu_log(cx)
    );
}

/// The errors in CRIU's logs of this test.
fn criu_log(cx: &Cx) -> String {
    cx.host(&format!(
        "grep -hB3 'Error (' {0}/images*/*.log {0}/work*/*.log 2>/dev/null | tail -40; true",
        cx.dir.display()
    ))
    .stdout
}

#[track_caller]
pub(crate) fn start<'a>(cx: &'a Cx, bundle: &Bundle) -> Container<'a> {
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    detached(cx, &["run", "--detach", "--bundle", path, &bundle.id]);
    cx.container(&bundle.id)
}

pub(crate) fn count(container: &Container<'_>) -> u64 {
    let output = container.exec_sh("cat /count/n 2>/dev/null || echo 0");
    output.text().parse().unwrap_or(0)
}

#[track_caller]
pub(crate) fn counts_on(container: &Container<'_>, from: u64) {
    eventually("the counter goes on", 20, || count(container) > from);
}

pub(crate) fn images(cx: &Cx, name: &str) -> String {
    cx.dir.join(name).to_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn checkpoint(cx: &Cx, id: &str, flags: &[&str]) -> Output {
    let images = images(cx, "images");
    let output = cx.call(&[&["checkpoint", "--image-path", &images], flags, &[id]].concat());
    if output.code != 0 {
        println!("{}", criu_log(cx));
    }
    output
}

#[track_caller]
pub(crate) fn restore<'a>(cx: &'a Cx, bundle: &Bundle, flags: &[&str]) -> Container<'a> {
    let (images, path) = (images(cx, "images"), bundle.path.to_str().unwrap());
    let args = [
        "restore",
        "--detach",
        "--image-path",
        &images,
        "--bundle",
        path,
    ];
    detached(cx, &[&args, flags, &[&bundle.id]].concat());
    cx.container(&bundle.id)
}

#[track_caller]
pub(crate) fn refused(cx: &Cx, bundle: &Bundle) -> Output {
    let (images, path) = (images(cx, "images"), bundle.path.to_str().unwrap());
    let id = bundle.id.as_str();
    let output = cx.call(&[
        "restore",
        "--detach",
        "--image-path",
        &images,
        "--bundle",
        path,
        id,
    ]);
    let output = output.is(1);
    cx.call(&["state", id]).is(1).says("does not exist");
    output
}

/// Leaves the test where no dump can be made.
pub(crate) fn need_criu(cx: &Cx) {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if cpu.contains("User Mode Linux") {
        cx.skip("CRIU dumps no process of user-mode Linux");
    }
    match Command::new("criu").arg("check").output() {
        Err(error) => cx.skip(&format!("no criu: {error}")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said.lines().last().unwrap_or("no reason");
            cx.skip(&format!("criu check: {last}"))
        }
        Ok(_) => {}
    }
}

fn only_what_runs_is_saved(cx: &Cx) {
    cx.call(&["checkpoint", &cx.id("none")])
        .is(1)
        .says("does not exist");
    let container = cx.create(&cx.script("sleep 1000"));
    let output = checkpoint(cx, &container.id, &[]).is(1);
    if cx.is_rundlet() {
        assert!(output.stderr.contains("created state"), "{output}");
    }
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    checkpoint(cx, &container.id, &[]).is(1);
    container.call("delete").ok();
}

fn without_criu_nothing_happens(cx: &Cx) {
    let container = cx.sleeper();
    let bundle = cx.named_bundle("other");
    bundle.write();
    let images = images(cx, "images");
    let path = bundle.path.to_str().unwrap();
    for args in [
        [
            "checkpoint",
            "--image-path",
            &images,
            "--leave-running",
            &container.id,
        ],
        [
            "restore",
            "--image-path",
            cx.dir.to_str().unwrap(),
            "--detach",
            &bundle.id,
        ],
    ] {
        let mut command = cx.command(&args);
        command.env("PATH", "/nonexistent").current_dir(path);
        cx.spawn(command).wait().is(1).says("criu");
    }
    assert_eq!(container.status(), "running");
    if cx.is_rundlet() {
        assert!(!Path::new(&images).exists(), "the image directory was made");
    }
    cx.call(&["state", &bundle.id]).is(1);
    container.end();
}

fn options_are_checked_first(cx: &Cx) {
    let container = cx.sleeper();
    let cases: [(&[&str], &str); 8] = [
        (&["--manage-cgroups-mode", "some"], "manage-cgroups-mode"),
        (&["--network-lock", "none"], "network-lock"),
        (&["--empty-ns", "ipc"], "--empty-ns"),
        (&["--page-server", "host"], "page-server"),
        (&["--page-server", "host:99999"], "page-server"),
        (&["--parent-path", "/absolute"], "--parent-path"),
        (&["--status-fd", "1"], "--status-fd"),
        (&["--lazy-pages", "--status-fd", "77"], "--status-fd"),
    ];
    for (flags, word) in cases {
        checkpoint(cx, &container.id, flags).is(1).says(word);
    }
    assert!(!cx.dir.join("images").exists());
    assert_eq!(container.status(), "running");
    container.end();
}

/// R1: CRIU would end the name at the bracket, and take the rest for the path of another mount.
fn names_that_criu_would_split_are_refused(cx: &Cx) {
    let mut bundle = cx.script("sleep 1000");
    let source = cx.file("source", "text");
    bundle.bind(&source, "/x]:/etc", &[]);
    let container = cx.start(&bundle);
    let output = checkpoint(cx, &container.id, &[]).is(1);
    let output = output.says("destination");
    assert!(output.stderr.contains("/x]:/etc"), "{output}");
    assert_eq!(container.status(), "running");
    container.end();
    fs::create_dir_all(images(cx, "images")).unwrap();
    refused(cx, &bundle);
}

fn what_cannot_be_restored_is_refused(cx: &Cx) {
    let mut bundle = cx.script("sleep 1000");
    bundle.bind(&cx.dir, "/mapped", &["ro"]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    for field in ["uidMappings", "gidMappings"] {
        bundle.set(&format!("/mounts/{last}/{field}"), map.clone());
    }
    let container = cx.start(&bundle);
    let field = format!("mounts[{last}].uidMappings");
    checkpoint(cx, &container.id, &[]).is(1).says(&field);
    assert_eq!(container.status(), "running");
    container.end();
}

fn a_restore_that_fails_leaves_nothing(cx: &Cx) {
    let bundle = cx.script("sleep 1000");
    bundle.write();
    // No images at all, and a directory without any.
    if cx.is_rundlet() {
        refused(cx, &bundle).says("--image-path");
    }
    fs::create_dir_all(images(cx, "images")).unwrap();
    refused(cx, &bundle);
    let container = cx.start(&bundle);
    let path = bundle.path.to_str().unwrap();
    let images = images(cx, "images");
    cx.call(&[
        "restore",
        "--image-path",
        &images,
        "--bundle",
        path,
        &bundle.id,
    ])
    .is(1);
    assert_eq!(container.status(), "running");
    container.end();
}

fn a_container_goes_on_after_a_restore(cx: &Cx) {
    need_criu(cx);
    let bundle = counter(cx);
    let container = start(cx, &bundle);
    counts_on(&container, 2);
    let before = count(&container);
    checkpoint(cx, &container.id, &[]).ok();
    container.call("state").is(1).says("does not exist");
    let pid_file = cx.dir.join("pid");
    let container = restore(cx, &bundle, &["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(container.status(), "running");
    let pid = container.pid();
    assert_eq!(fs::read_to_string(pid_file).unwrap(), pid.to_string());
    counts_on(&container, before);
    let group = fs::read_to_string(cx.cgroup_dir("pids", &bundle.id).join("cgroup.procs"));
    let inside: Vec<i64> = group.unwrap().lines().flat_map(str::parse).collect();
    assert!(
        inside.contains(&pid),
        "{pid} is not in its cgroup: {inside:?}"
    );
    // Everything else still works on it.
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
}

fn a_copy_is_made_of_a_running_one(cx: &Cx) {
    need_criu(cx);
    let bundle = counter(cx);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    // As containerd gives it: by a link.
    let work = images(cx, "work");
    fs::create_dir(images(cx, "work-of")).unwrap();
    std::os::unix::fs::symlink(images(cx, "work-of"), &work).unwrap();
    checkpoint(
        cx,
        &container.id,
        &["--leave-running", "--work-path", &work],
    )
    .ok();
    assert!(Path::new(&work).join("dump.log").exists());
    let pid = container.pid();
    counts_on(&container, count(&container));
    assert_eq!(container.pid(), pid);
    container.end();
    let container = restore(cx, &bundle, &["--work-path", &work]);
    assert!(Path::new(&work).join("restore.log").exists());
    // And once more of what was restored.
    checkpoint(cx, &container.id, &[]).ok();
    restore(cx, &bundle, &[]).end();
}

fn restored_in_the_foreground(cx: &Cx) {
    need_criu(cx);
    let mut bundle = cx.script(": >/mnt/ready; until [ -e /mnt/go ]; do sleep 0.05; done; exit 7");
    let dir = cx.dir.join("shared");
    fs::create_dir(&dir).unwrap();
    bundle.bind(&dir, "/mnt", &["rw"]);
    let container = start(cx, &bundle);
    eventually("it is ready", 10, || dir.join("ready").exists());
    checkpoint(cx, &container.id, &[]).ok();
    let (images, path) = (images(cx, "images"), bundle.path.to_str().unwrap());
    let running = cx.spawn(cx.command(&[
        "restore",
        "-no-subreaper",
        "--image-path",
        &images,
        "--bundle",
        path,
        &bundle.id,
    ]));
    eventually("it runs again", 20, || {
        let output = cx.call(&["state", &bundle.id]);
        output.code == 0 && output.stdout.contains("\"running\"")
    });
    fs::write(dir.join("go"), "").unwrap();
    running.wait().is(7);
    container.call("state").is(1);
}

fn memory_is_saved_in_two_steps(cx: &Cx) {
    need_criu(cx);
    let bundle = counter(cx);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    let (first, second) = (images(cx, "images-1"), images(cx, "images"));
    let id = container.id.as_str();
    let pre = ["checkpoint", "--pre-dump", "--image-path", &first, id];
    cx.call(&pre).ok();
    assert_eq!(container.status(), "running");
    let before = count(&container);
    counts_on(&container, before);
    let after = |parent| {
        cx.call(&[
            "checkpoint",
            "--parent-path",
            parent,
            "--image-path",
            &second,
            id,
        ])
    };
    after("../missing").is(1).says("--parent-path");
    after("../images-1").ok();
    let parent = fs::read_link(Path::new(&second).join("parent")).unwrap();
    assert_eq!(parent, PathBuf::from("../images-1"));
    let container = restore(cx, &bundle, &[]);
    counts_on(&container, before);
    container.end();
}

fn a_paused_container_is_saved(cx: &Cx) {
    need_criu(cx);
    let bundle = counter(cx);
    let container = start(cx, &bundle);
    counts_on(&container, 1);
    container.call("pause").ok();
    checkpoint(cx, &container.id, &[]).ok();
    let container = restore(cx, &bundle, &[]);
    if container.status() == "paused" {
        container.call("resume").ok();
    }
    counts_on(&container, 1);
    container.end();
}

fn a_terminal_comes_back(cx: &Cx) {
    need_criu(cx);
    let mut bundle = cx.script("while read line; do echo \"got $line\"; done");
    bundle.set("/process/terminal", json!(true));
    bundle.write();
    let socket = cx.console_socket();
    let path = bundle.path.to_str().unwrap();
    let name = socket.path.to_str().unwrap().to_owned();
    detached(
        cx,
        &[
            "run",
            "--detach",
            "--bundle",
            path,
            "--console-socket",
            &name,
            &bundle.id,
        ],
    );
    let mut terminal = socket.terminal();
    terminal.write("one\n");
    terminal.expect("got one");
    checkpoint(cx, &bundle.id, &[]).ok();
    drop(terminal);
    let container = restore(cx, &bundle, &["--console-socket", &name]);
    let mut terminal = socket.terminal();
    terminal.write("two\n");
    terminal.expect("got two");
    container.end();
}

fn what_criu_says_is_in_the_error(cx: &Cx) {
    need_criu(cx);
    // A standard stream that is a file of the host. Not a program of one call: CRIU interrupts it.
    let bundle = counter(cx);
    let container = cx.start(&bundle);
    counts_on(&container, 0);
    let output = checkpoint(cx, &container.id, &[]).is(1);
    assert!(output.stderr.contains("Can't lookup mount"), "{output}");
    assert!(output.stderr.contains("dump.log"), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert_eq!(container.status(), "running");
    counts_on(&container, count(&container));
    container.end();
}
