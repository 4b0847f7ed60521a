//! What the command line changes about the processes around a container: the session keyring, the subreaper, and who gets
//! the pidfd. (`--no-pivot` is in `mounts`, NOTIFY_SOCKET in `fds`.)

use std::fs;
use std::os::fd::AsRawFd;

use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    host a_session_keyring_of_its_own;
    host a_keyring_of_another_users_namespace;
    host without_a_new_keyring;
    host orphans_come_to_the_foreground;
    host orphans_do_not_come_without_subreaper;
    host pidfd_of_the_container = "runc has it since 1.2";
    host pidfd_of_exec = "runc has it since 1.2";
    host nobody_waits_for_the_pidfd;
}

fn needs_keys(cx: &Cx) {
    if !std::path::Path::new("/proc/keys").exists() {
        cx.skip("a kernel without keyrings");
    }
}

/// The template masks the list of keys.
fn unmasked(bundle: &mut Bundle) {
    bundle.set("/linux/maskedPaths", serde_json::json!([]));
}

/// Serial and permissions of the session keyring, to the container's own eyes.
const OWN_KEYRING: &str = "awk '$9 ~ /^_ses[.]/ { print $9 }' /proc/keys | sort -u";

fn a_session_keyring_of_its_own(cx: &Cx) {
    needs_keys(cx);
    let mut bundle = cx.bundle();
    unmasked(&mut bundle);
    let container = cx.start(&bundle);
    let name = format!("_ses.{}", container.id);
    let output = container.exec_sh(OWN_KEYRING).ok();
    assert!(output.stdout.contains(&format!("{name}:")), "{output}");
    // exec has joined the one that there is: it is there once.
    let lines = fs::read_to_string("/proc/keys").unwrap();
    let lines: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains(&format!("{name}:")))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    // Its users may search it (0x8 of the byte of the user).
    let permissions = u32::from_str_radix(lines[0].split_whitespace().nth(4).unwrap(), 16).unwrap();
    assert_eq!(permissions & 0x8_0000, 0x8_0000, "{lines:?}");
    container.end();
}

/// There its users are others, who need the right of others.
fn a_keyring_of_another_users_namespace(cx: &Cx) {
    needs_keys(cx);
    let mut bundle = cx.bundle();
    unmasked(&mut bundle);
    bundle.user_namespace();
    let container = cx.start(&bundle);
    let name = format!("_ses.{}:", container.id);
    let lines = fs::read_to_string("/proc/keys").unwrap();
    let line = lines.lines().find(|line| line.contains(&name));
    // Of the caller's keys those of another namespace are not shown; then there is nothing to see.
    if let Some(line) = line {
        let permissions = u32::from_str_radix(line.split_whitespace().nth(4).unwrap(), 16).unwrap();
        assert_eq!(permissions & 0x8, 0x8, "{line}");
    }
    container.exec(&["true"]).ok();
    container.end();
}

fn without_a_new_keyring(cx: &Cx) {
    needs_keys(cx);
    let mut bundle = cx.bundle();
    unmasked(&mut bundle);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    cx.call(&["create", "--no-new-keyring", "--bundle", path, &bundle.id])
        .ok();
    let container = cx.container(&bundle.id);
    container.call("start").ok();
    container.exec(&["true"]).ok();
    let name = format!("_ses.{}:", container.id);
    assert!(!fs::read_to_string("/proc/keys").unwrap().contains(&name));
    container.end();
}

/// `run` in the foreground of a container without a pid namespace, which leaves an orphan. Whose child it is then.
fn parent_of_an_orphan(cx: &Cx, flags: &[&str]) -> (u32, u32) {
    let mut bundle =
        cx.script("(sleep 1000 & echo $! >/mnt/orphan); : >/mnt/ready; exec sleep 1000");
    bundle.without_namespace("pid");
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let mut args = vec!["run", "--bundle", path];
    args.extend(flags);
    args.push(&bundle.id);
    let running = cx.spawn(cx.command(&args));
    let mnt = bundle.rootfs().join("mnt");
    eventually("the program runs", 10, || mnt.join("ready").exists());
    let orphan = fs::read_to_string(mnt.join("orphan")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", orphan.trim())).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    let found = (parent.parse().unwrap(), running.child.id());
    let container = cx.container(&bundle.id);
    cx.call(&["kill", "--all", &bundle.id, "KILL"]);
    running.wait().is(137);
    // `run` deletes what has ended.
    let _ = container;
    found
}

fn orphans_come_to_the_foreground(cx: &Cx) {
    let (parent, runtime) = parent_of_an_orphan(cx, &[]);
    assert_eq!(parent, runtime);
}

fn orphans_do_not_come_without_subreaper(cx: &Cx) {
    let (parent, runtime) = parent_of_an_orphan(cx, &["--no-subreaper"]);
    assert_ne!(parent, runtime);
}

/// The process that a pidfd is of.
fn pid_of(pidfd: &impl AsRawFd) -> i64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.expect("a pidfd").trim().parse().unwrap()
}

fn pidfd_of_the_container(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let socket = cx.console_socket();
    let (path, listening) = (bundle.path.to_str().unwrap(), socket.path.to_str().unwrap());
    cx.call(&[
        "create",
        "--pidfd-socket",
        listening,
        "--bundle",
        path,
        &bundle.id,
    ])
    .ok();
    let received = socket.receive();
    assert_eq!(received.fds.len(), 1);
    assert_eq!(received.data, b"standard");
    let container = cx.container(&bundle.id);
    assert_eq!(pid_of(&received.fds[0]), container.pid());
    container.call("start").ok();
    container.end();
    // The process is gone, and the descriptor does not stand for another.
    assert_eq!(pid_of(&received.fds[0]), -1);
}

fn pidfd_of_exec(cx: &Cx) {
    let container = cx.sleeper();
    let socket = cx.console_socket();
    let pid_file = cx.dir.join("pid");
    let flags = [
        "--detach",
        "--pidfd-socket",
        socket.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    container.exec_with(&flags, &["sleep", "1000"]).ok();
    let received = socket.receive();
    assert_eq!(received.fds.len(), 1);
    assert_eq!(received.data, b"setns");
    let pid: i64 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(pid_of(&received.fds[0]), pid);
    container.end();
}

fn nobody_waits_for_the_pidfd(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let (path, none) = (bundle.path.to_str().unwrap(), cx.dir.join("none"));
    let none = none.to_str().unwrap();
    let output = cx.call(&[
        "create",
        "--pidfd-socket",
        none,
        "--bundle",
        path,
        &bundle.id,
    ]);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        !cx.is_rundlet() || output.stderr.contains("--pidfd-socket"),
        "{output}"
    );
}
