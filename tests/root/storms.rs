//! Many at once, and a host that has run out of something: exactly one wins, the others say why, nothing is left behind.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::support::runtime::Running;
use crate::support::{Bundle, Cx, Output, alive, eventually, leak, tests};

tests! {
    host two_hundred_creates_of_one_id = "now and then a loser of runc 1.1.5 takes the winner's directory away";
    both all_verbs_at_once = "a late start of runc 1.1.5 waits on the fifo";
    host a_state_root_that_is_full = "runc 1.1.5 leaves what a create made that could not write its state";
    host a_state_root_without_inodes = "runc 1.1.5 leaves what a create made that could not write its state";
    host a_read_only_state_root;
    host five_thousand_mounts_with_few_descriptors = "runc needs more";
    host a_megabyte_of_args_and_env;
    host a_config_of_sixty_megabytes = "runc has no limit";
    host a_reused_pid_is_not_the_init = "runc has another state file";
}

fn spawn(cx: &Cx, args: &[&str]) -> Running {
    cx.spawn(cx.command(args))
}

fn create_args(bundle: &Bundle) -> [&str; 4] {
    [
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]
}

fn nothing_left(cx: &Cx) {
    let left = leak::settle(cx);
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

fn two_hundred_creates_of_one_id(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let args = create_args(&bundle);
    let mut winners = 0;
    // Fifty at a time are enough to be at once, and the machine stays usable.
    for _ in 0..4 {
        let running: Vec<_> = (0..50).map(|_| spawn(cx, &args)).collect();
        for output in running.into_iter().map(Running::wait) {
            if output.code == 0 {
                winners += 1;
            } else {
                output.is(1).says("already exists");
            }
        }
    }
    assert_eq!(winners, 1);
    let container = cx.container(&bundle.id);
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.exec(&["true"]).ok();
    container.end();
    nothing_left(cx);
}

/// Each verb may win or lose against the others; it answers, and never with anything but a word about the state.
fn answered(output: &Output) {
    let words = [
        "does not exist",
        "not running",
        // On v1 for the moment in which all are killed.
        "paused container",
        "paused state",
        "not stopped: paused",
        "has stopped",
        "already running",
        "is not stopped",
        "not stopped",
        "died before",
        "stopped container",
        "has just stopped",
        "no such process",
        "no longer",
        "is gone",
        "runtime has gone",
        "already exists",
    ];
    let known = words.iter().any(|word| output.stderr.contains(word));
    assert!(output.code == 0 || output.code == 137 || known, "{output}");
}

fn all_verbs_at_once(cx: &Cx) {
    for round in 0..6 {
        let container = cx.create(&cx.named_bundle(&format!("s{round}")));
        let id = container.id.clone();
        let mut running = Vec::new();
        for number in 0..4 {
            running.push(spawn(cx, &["start", &id]));
            running.push(spawn(cx, &["exec", &id, "true"]));
            running.push(spawn(cx, &["state", &id]));
            running.push(spawn(cx, &["exec", "-d", &id, "sleep", "100"]));
            running.push(spawn(cx, &["kill", &id, "TERM"]));
            running.push(spawn(cx, &["list"]));
            if number == 2 {
                running.push(spawn(cx, &["kill", &id, "KILL"]));
                running.push(spawn(cx, &["delete", &id]));
                running.push(spawn(cx, &["delete", "--force", &id]));
                running.push(spawn(cx, &["delete", "--force", &id]));
            }
        }
        for output in running.into_iter().map(Running::wait) {
            answered(&output);
        }
        cx.call(&["delete", "--force", &id]).ok();
        nothing_left(cx);
    }
}

/// A tmpfs as the state root, until the test ends.
fn state_root(cx: &Cx, options: &str) -> PathBuf {
    let root = cx.root();
    std::fs::create_dir_all(&root).unwrap();
    let flags = MsFlags::empty();
    mount(Some("tmpfs"), &root, Some("tmpfs"), flags, Some(options)).unwrap();
    root
}

fn release(root: &PathBuf) {
    umount2(root, MntFlags::MNT_DETACH).unwrap();
}

/// A create that fails leaves nothing, a container that was made before can be used and deleted.
fn nothing_fits(
    cx: &Cx,
    name: &str,
    options: &str,
    fill: impl Fn(&PathBuf),
    empty: impl Fn(&PathBuf),
) {
    let root = state_root(cx, options);
    let first = cx.start(&cx.named_bundle(&format!("first{name}")));
    fill(&root);
    let bundle = cx.named_bundle(&format!("second{name}"));
    cx.try_create(&bundle).is(1).says("no space left on device");
    assert!(!root.join(&bundle.id).exists());
    assert!(!cx.cgroup_dir("pids", &bundle.id).exists());
    first.exec(&["true"]).ok();
    cx.call(&["list"]).ok().has(&first.id);
    let pid = first.pid();
    cx.call(&["delete", "--force", &first.id]).ok();
    assert!(!alive(pid));
    empty(&root);
    cx.start(&bundle).end();
    release(&root);
    nothing_left(cx);
}

fn a_state_root_that_is_full(cx: &Cx) {
    let file = |root: &PathBuf| root.join("filler");
    nothing_fits(
        cx,
        "",
        "size=256k",
        |root| {
            let _ = std::fs::write(file(root), vec![0; 1 << 20]);
        },
        |root| std::fs::remove_file(file(root)).unwrap(),
    );
}

fn a_state_root_without_inodes(cx: &Cx) {
    // However many are left: none, or so few that the create fails somewhere in between.
    for spare in 0..3 {
        nothing_fits(
            cx,
            &spare.to_string(),
            "nr_inodes=20",
            |root| {
                let mut made = Vec::new();
                for number in 0.. {
                    let path = root.join(format!("filler-{number}"));
                    match std::fs::write(&path, "") {
                        Ok(()) => made.push(path),
                        Err(_) => break,
                    }
                }
                for path in made.iter().take(spare) {
                    std::fs::remove_file(path).unwrap();
                }
            },
            |root| {
                for entry in std::fs::read_dir(root).unwrap().flatten() {
                    let _ = std::fs::remove_file(entry.path());
                }
            },
        );
    }
}

fn a_read_only_state_root(cx: &Cx) {
    let root = state_root(cx, "size=1m");
    let first = cx.start(&cx.named_bundle("first"));
    let remount = |flags| {
        mount(
            None::<&str>,
            &root,
            None::<&str>,
            MsFlags::MS_REMOUNT | flags,
            None::<&str>,
        )
    };
    // Busy as long as the new container's init has its fifo open for writing.
    eventually("nobody writes", 30, || remount(MsFlags::MS_RDONLY).is_ok());
    let bundle = cx.named_bundle("second");
    cx.try_create(&bundle).is(1).says("read-only file system");
    assert!(!cx.cgroup_dir("pids", &bundle.id).exists());
    assert_eq!(first.status(), "running");
    first.exec(&["true"]).ok();
    first.kill("KILL").ok();
    first.wait_for("stopped");
    // It says so and can be repeated.
    first.call("delete").is(1).says("read-only file system");
    remount(MsFlags::empty()).unwrap();
    first.call("delete").ok();
    release(&root);
    nothing_left(cx);
}

fn five_thousand_mounts_with_few_descriptors(cx: &Cx) {
    let mut bundle = cx.script("grep -c ' /mnt/' /proc/mounts");
    let source = cx.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    for number in 0..5000 {
        bundle.bind(&source, &format!("/mnt/{number}"), &["ro"]);
    }
    bundle.set("/process/rlimits", json!([]));
    bundle.write();
    let runtime = cx.runtime.display();
    let (root, path, id) = (cx.root(), bundle.path.display(), &bundle.id);
    cx.host(&format!(
        "ulimit -n 64; exec {runtime} --root {} run --bundle {path} {id}",
        root.display()
    ))
    .ok()
    .prints("5000");
}

fn a_megabyte_of_args_and_env(cx: &Cx) {
    let mut bundle = cx.bundle();
    // One string may have 128 KiB (execve(2)).
    let long = "x".repeat(100_000);
    bundle.args(&["sh", "-c", "echo $# ${#5} ${#LONG3}; exec sleep 1000", "sh"]);
    for number in 0..6 {
        bundle.push("/process/args", json!(long));
        bundle.push("/process/env", json!(format!("LONG{number}={long}")));
    }
    let mut once = bundle.config.clone();
    once["process"]["args"][2] = json!("echo $# ${#5} ${#LONG3}");
    let sleeping = std::mem::replace(&mut bundle.config, once);
    cx.run(&bundle).ok().prints("6 100000 100000");
    bundle.config = sleeping;
    let container = cx.start(&bundle);
    // exec has the same environment, out of the state.
    container.exec_sh("echo ${#LONG5}").ok().prints("100000");
    assert!(container.call("state").ok().stdout.len() < 10_000);
    container.end();
    // More than the kernel takes is its error, and leaves nothing.
    bundle.push("/process/args", json!("x".repeat(200_000)));
    let output = cx.run(&bundle);
    assert_ne!(output.code, 0);
    output.says("argument list too long");
    nothing_left(cx);
}

/// V1: 64 MB are the limit. Blanks are as good as anything to fill it.
fn a_config_of_sixty_megabytes(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["true"]);
    let mut text = serde_json::to_vec(&bundle.config).unwrap();
    let mut call = |size: usize, verb| {
        text.resize(size << 20, b' ');
        std::fs::write(bundle.path.join("config.json"), &text).unwrap();
        let mut args = create_args(&bundle);
        args[0] = verb;
        cx.call(&args)
    };
    call(60, "run").ok();
    call(65, "create").is(1).says("larger than");
    nothing_left(cx);
}

/// Z5: the pid in the record lives, but it is not the process that was recorded.
fn a_reused_pid_is_not_the_init(cx: &Cx) {
    let container = cx.sleeper();
    let mut innocent = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = container.pid();
    let file = cx.root().join(&container.id).join("state.json");
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(state["init"]["pid"], json!(pid));
    state["init"]["pid"] = json!(innocent.id());
    std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();
    assert_eq!(container.status(), "stopped");
    assert_eq!(container.state()["pid"], 0);
    container.kill("KILL").is(1).says("not running");
    container.exec(&["true"]).says("not running");
    // What is left in the cgroup is the container's all the same.
    container.call("delete").ok();
    assert!(!alive(pid));
    assert!(
        innocent.try_wait().unwrap().is_none(),
        "a stranger was killed"
    );
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}
