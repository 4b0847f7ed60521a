//! The runtime called in a chroot: the container gets all of its mount namespace, and exec enters the container.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::joined_pid::join_user;
use crate::support::{Bundle, Cx, Output, tests};

tests! {
    both called_in_a_chroot_that_is_a_mount = "exec of runc 1.1.5 enters the host's root";
    host called_in_a_chroot_that_is_no_mount = "runc 1.1.5 cannot mount there";
    host called_in_a_chroot_with_shared_mounts = "runc 1.1.5 cannot pivot there";
    host called_in_a_chroot_with_a_user_namespace;
    host called_in_a_chroot_without_pivot = "exec of runc 1.1.5 enters the host's root";
}

const NONE: Option<&str> = None;

fn bind(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, NONE, flags, NONE).unwrap();
}

/// The runtime with `jail` as its root directory.
fn call(cx: &Cx, jail: &Path, args: &[&str]) -> Output {
    let runtime = cx.command(args);
    let mut command = Command::new("chroot");
    command.arg(jail);
    command.arg(runtime.get_program()).args(runtime.get_args());
    cx.spawn(command).wait()
}

/// A container made by a runtime in `jail`, where all that it needs is found by the same names as outside.
fn lives_in(cx: &Cx, jail: &Path, flags: &[&str]) {
    let hold = cx.dir.join("hold");
    let hold = hold.display();
    let mut bundle = cx.bundle();
    let before = mounts();
    // The jail, and what lies outside of it.
    fs::write(cx.dir.join("outside"), "").unwrap();
    let look = format!(
        "[ -e {hold} -o -e {} ] && echo the host; [ -e /etc/container ] && echo the container; awk '$5 == \"/\"' /proc/self/mountinfo | wc -l",
        cx.dir.join("outside").display()
    );
    fs::write(bundle.rootfs().join("etc/container"), "").unwrap();
    let hook =
        serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("pwd >{hold}")]}]);
    bundle.set("/hooks/createContainer", hook);
    bundle.sh(&format!("({look}) >/mnt/seen; : >/mnt/ready; sleep 1000"));
    bundle.write();
    let mut args = vec!["create", "--bundle", bundle.path.to_str().unwrap()];
    args.extend(flags);
    args.push(&bundle.id);
    call(cx, jail, &args).ok();
    call(cx, jail, &["start", &bundle.id]).ok();
    let container = cx.container(&bundle.id);
    let mnt = bundle.rootfs().join("mnt");
    crate::support::eventually("the program has looked", 10, || mnt.join("ready").exists());
    let expected = "the container\n1\n";
    assert_eq!(fs::read_to_string(mnt.join("seen")).unwrap(), expected);
    let exec = ["exec", &bundle.id, "sh", "-c", look.as_str()];
    call(cx, jail, &exec).ok().prints(expected.trim());
    cx.call(&exec).ok().prints(expected.trim());
    // Hooks keep the bundle as their working directory.
    let dir = fs::read_to_string(cx.dir.join("hold")).unwrap();
    assert_eq!(dir.trim(), bundle.path.to_str().unwrap());
    assert_eq!(mounts(), before);
    container.end();
}

/// All mounts, less the options of their file systems: a cgroup2 that another test mounts anywhere sets the host's.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

fn called_in_a_chroot_that_is_a_mount(cx: &Cx) {
    let jail = cx.dir.join("jail");
    bind(Path::new("/"), &jail);
    lives_in(cx, &jail, &[]);
    umount2(&jail, MntFlags::MNT_DETACH).unwrap();
}

/// A directory with the parts of a system in it.
fn called_in_a_chroot_that_is_no_mount(cx: &Cx) {
    let jail = cx.dir.join("jail");
    let runtime = cx.runtime.canonicalize().unwrap();
    let dirs = ["/proc", "/sys", "/dev", "/bin", "/lib", "/lib64", "/usr"].map(Path::new);
    let needed = dirs.into_iter().chain([runtime.parent().unwrap(), &cx.dir]);
    let mut mounted = Vec::new();
    for dir in needed.filter(|dir| dir.is_dir()) {
        let target = jail.join(dir.strip_prefix("/").unwrap());
        bind(dir, &target);
        mounted.push(target);
    }
    lives_in(cx, &jail, &[]);
    for target in mounted.iter().rev() {
        umount2(target, MntFlags::MNT_DETACH).unwrap();
    }
}

/// What is taken out of the container's namespace stays on the host.
fn called_in_a_chroot_with_shared_mounts(cx: &Cx) {
    let jail = cx.dir.join("jail");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).unwrap();
    bind(Path::new("/"), &jail);
    lives_in(cx, &jail, &[]);
    umount2(&jail, MntFlags::MNT_DETACH).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
}

fn called_in_a_chroot_without_pivot(cx: &Cx) {
    let jail = cx.dir.join("jail");
    bind(Path::new("/"), &jail);
    lives_in(cx, &jail, &["--no-pivot"]);
    umount2(&jail, MntFlags::MNT_DETACH).unwrap();
}

/// The kernel makes none there. Joining one is refused, for exec would enter the host's root.
fn called_in_a_chroot_with_a_user_namespace(cx: &Cx) {
    let jail = cx.dir.join("jail");
    bind(Path::new("/"), &jail);
    let mut first = cx.named_bundle("first");
    first.user_namespace();
    let refused = |bundle: &Bundle, text: &str| {
        bundle.write();
        let args = ["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id];
        let output = call(cx, &jail, &args).is(1);
        if cx.is_rundlet() {
            output.says(text);
        }
    };
    refused(&first, "in a chroot");
    if cx.is_rundlet() {
        let first = cx.start(&first);
        let mut second = cx.named_bundle("second");
        join_user(&mut second, &first);
        second.args(&["true"]);
        cx.run(&second).ok();
        refused(&second, "called in a chroot");
        first.end();
    }
    umount2(&jail, MntFlags::MNT_DETACH).unwrap();
}
