//! Mounts: kinds, options, propagation, mount points, and links in the way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::support::{Cx, tests};

tests! {
    host standard_mounts;
    host mqueue_works;
    host devpts_is_private;
    host sys_is_read_only;
    host bind_of_a_directory;
    host bind_of_a_file;
    host bind_read_only;
    host bind_flags;
    host bind_is_not_recursive;
    host rbind_is_recursive;
    host read_only_rbind_is_flat;
    host recursively_read_only_bind;
    host bind_source_relative_to_the_bundle;
    host bind_of_a_socket_and_a_fifo;
    host tmpfs_options;
    host tmpfs_copies_up;
    host tmpfs_keeps_the_mode_of_its_mount_point;
    host atime_flags;
    host propagation_private_by_default;
    host propagation_slave;
    host propagation_shared;
    host rootfs_propagation = "runc 1.1.5 sets it before the rootfs is bound, so it is lost";
    host rootfs_is_the_root;
    host root_read_only;
    host root_from_a_relative_path;
    host no_pivot;
    host overlay_mount;
    host proc_with_options;
}

/// A directory of the host that is itself a mount, so that what is below it can have propagation.
fn mounted(cx: &Cx, name: &str) -> PathBuf {
    let dir = cx.dir.join(name);
    fs::create_dir(&dir).unwrap();
    tmpfs_on(&dir);
    dir
}

const NONE: Option<&str> = None;

fn tmpfs_on(dir: &Path) {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
}

pub(crate) fn make(dir: &Path, flags: MsFlags) {
    mount(NONE, dir, NONE, flags, NONE).unwrap();
}

/// Takes the test's own mounts away so that the leak check sees only the runtime's.
fn clean(cx: &Cx, dirs: &[&Path]) {
    for dir in dirs {
        nix::mount::umount2(*dir, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    let _ = cx;
}

/// A directory with a file.
pub(crate) fn directory(cx: &Cx, name: &str) -> PathBuf {
    let dir = cx.dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "content\n").unwrap();
    dir
}

/// `awk` words of the mountinfo line of a mount point: options, optional fields, type.
pub(crate) fn info(point: &str) -> String {
    format!("awk '$5 == \"{point}\" {{print}}' /proc/self/mountinfo")
}

fn standard_mounts(cx: &Cx) {
    let output = cx.sh("awk '{print $5}' /proc/self/mountinfo | sort -u", |_| ());
    for point in [
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    ] {
        assert!(
            output.stdout.lines().any(|line| line == point),
            "{point} in {output}"
        );
    }
    assert!(
        !output.stdout.contains(&cx.token),
        "paths of the host are seen: {output}"
    );
}

fn mqueue_works(cx: &Cx) {
    cx.sh(
        &format!(
            "touch /dev/mqueue/q && ls /dev/mqueue; {} | grep -o 'mqueue mqueue'",
            info("/dev/mqueue")
        ),
        |_| (),
    )
    .prints("q\nmqueue mqueue");
}

fn devpts_is_private(cx: &Cx) {
    cx.sh(
        "ls /dev/pts; stat -c %a /dev/pts/ptmx; grep -o 'devpts rw.*' /proc/mounts | cut -d' ' -f2",
        |_| (),
    )
    .prints("ptmx\n666\nrw,nosuid,noexec,relatime,mode=620,ptmxmode=666");
}

fn sys_is_read_only(cx: &Cx) {
    // Some kernels put tunnel devices into each network namespace beside lo.
    cx.sh("ls /sys/kernel >/dev/null && echo seen; mkdir /sys/x 2>/dev/null || echo refused; ls /sys/class/net | grep -vE '^(sit|tunl|ip6tnl|gre)0$'", |_| ())
        .prints("seen\nrefused\nlo");
}

fn bind_of_a_directory(cx: &Cx) {
    let dir = directory(cx, "data");
    cx.sh("cat /data/file; echo new >/data/new", |b| {
        b.bind(&dir, "/data", &["rw"])
    })
    .prints("content");
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "new\n");
}

fn bind_of_a_file(cx: &Cx) {
    let file = cx.file("one-file", "of the host\n");
    cx.sh(
        "cat /etc/new-file /etc/passwd; echo more >>/etc/new-file",
        |b| {
            b.bind(&file, "/etc/new-file", &[]);
            b.bind(&file, "/etc/passwd", &["ro"]);
        },
    )
    .prints("of the host\nof the host");
    assert_eq!(fs::read_to_string(file).unwrap(), "of the host\nmore\n");
}

fn bind_read_only(cx: &Cx) {
    let dir = directory(cx, "data");
    let output = cx.sh("cat /data/file; touch /data/x 2>&1 || echo refused", |b| {
        b.bind(&dir, "/data", &["ro"])
    });
    assert!(
        output.stdout.contains("Read-only file system\nrefused"),
        "{output}"
    );
    assert!(!dir.join("x").exists());
}

fn bind_flags(cx: &Cx) {
    let dir = directory(cx, "data");
    fs::write(dir.join("run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    cx.sh("awk '$5 == \"/data\" {print $6}' /proc/self/mountinfo; /data/run 2>/dev/null || echo refused", |b| {
        b.bind(&dir, "/data", &["nosuid", "nodev", "noexec", "ro"]);
    })
    .prints("ro,nosuid,nodev,noexec,relatime\nrefused");
}

/// A tree with a mount inside: TOP/file, TOP/sub (tmpfs) with TOP/sub/inner.
fn tree(cx: &Cx) -> PathBuf {
    let top = mounted(cx, "tree");
    fs::write(top.join("file"), "").unwrap();
    fs::create_dir(top.join("sub")).unwrap();
    tmpfs_on(&top.join("sub"));
    fs::write(top.join("sub/inner"), "").unwrap();
    top
}

fn bind_is_not_recursive(cx: &Cx) {
    let top = tree(cx);
    cx.sh("ls /data /data/sub", |b| b.bind(&top, "/data", &[]))
        .prints("/data:\nfile\nsub\n\n/data/sub:");
    clean(cx, &[&top]);
}

fn rbind_is_recursive(cx: &Cx) {
    let top = tree(cx);
    let mut bundle = cx.script("ls /data/sub; touch /data/sub/new && echo written");
    bundle.mount("/data", "bind", top.to_str().unwrap(), &["rbind", "rw"]);
    cx.run(&bundle).ok().prints("inner\nwritten");
    clean(cx, &[&top]);
}

fn read_only_rbind_is_flat(cx: &Cx) {
    // "ro" is of the top mount alone: that is what "rro" is for.
    let top = tree(cx);
    let mut bundle =
        cx.script("touch /data/x 2>/dev/null || echo refused; touch /data/sub/x && echo written");
    bundle.mount("/data", "bind", top.to_str().unwrap(), &["rbind", "ro"]);
    cx.run(&bundle).ok().prints("refused\nwritten");
    clean(cx, &[&top]);
}

fn recursively_read_only_bind(cx: &Cx) {
    let top = tree(cx);
    let mut bundle = cx.script(
        "touch /data/x 2>/dev/null || echo refused; touch /data/sub/x 2>/dev/null || echo refused",
    );
    bundle.mount("/data", "bind", top.to_str().unwrap(), &["rbind", "rro"]);
    cx.run(&bundle).ok().prints("refused\nrefused");
    clean(cx, &[&top]);
}

fn bind_source_relative_to_the_bundle(cx: &Cx) {
    let mut bundle = cx.script("cat /data/file");
    fs::create_dir(bundle.path.join("rel")).unwrap();
    fs::write(bundle.path.join("rel/file"), "relative").unwrap();
    bundle.mount("/data", "bind", "rel", &["bind"]);
    cx.run(&bundle).ok().prints("relative");
}

fn bind_of_a_socket_and_a_fifo(cx: &Cx) {
    // M6: opening a fifo would block, opening a socket fails.
    let fifo = cx.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = cx.dir.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    cx.sh("stat -c %F /run/fifo /run/socket", |b| {
        b.bind(&fifo, "/run/fifo", &[]);
        b.bind(&socket, "/run/socket", &[]);
    })
    .prints("fifo\nsocket");
    drop(listener);
}

fn tmpfs_options(cx: &Cx) {
    cx.sh(
        "stat -c '%a %u %g' /t; df -k /t | awk 'NR==2 {print $2}'; awk '$2 == \"/t\" {print $4}' /proc/mounts; \
         dd if=/dev/zero of=/t/f bs=1024 count=2000 2>/dev/null || echo full",
        |b| b.mount("/t", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "mode=1770", "size=1024k", "uid=5", "gid=6"]),
    )
    .prints("1770 5 6\n1024\nrw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770,uid=5,gid=6\nfull");
}

fn tmpfs_copies_up(cx: &Cx) {
    let mut bundle = cx.script("cat /seed/dir/f; readlink /seed/l; stat -c '%a %u %g' /seed/dir/f /seed/dir; echo x >/seed/dir/f");
    let seed = bundle.rootfs().join("seed");
    fs::create_dir_all(seed.join("dir")).unwrap();
    fs::write(seed.join("dir/f"), "copied\n").unwrap();
    fs::set_permissions(seed.join("dir/f"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(seed.join("dir"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(seed.join("dir/f"), Some(3), Some(4)).unwrap();
    symlink("dir/f", seed.join("l")).unwrap();
    bundle.mount("/seed", "tmpfs", "tmpfs", &["tmpcopyup"]);
    cx.run(&bundle)
        .ok()
        .prints("copied\ndir/f\n640 3 4\n750 0 0");
    assert_eq!(
        fs::read_to_string(seed.join("dir/f")).unwrap(),
        "copied\n",
        "the image was written to"
    );
}

fn tmpfs_keeps_the_mode_of_its_mount_point(cx: &Cx) {
    let mut bundle = cx.script("stat -c %a /sticky");
    let dir = bundle.rootfs().join("sticky");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
    bundle.mount("/sticky", "tmpfs", "tmpfs", &[]);
    cx.run(&bundle).ok().prints("1777");
}

fn atime_flags(cx: &Cx) {
    let output = cx.sh(
        "awk '$5 ~ /^.[abc]$/ {print $5, $6}' /proc/self/mountinfo",
        |b| {
            b.mount("/a", "tmpfs", "tmpfs", &["noatime"]);
            b.mount("/b", "tmpfs", "tmpfs", &["strictatime"]);
            b.mount("/c", "tmpfs", "tmpfs", &["nodiratime"]);
        },
    );
    output.prints("/a rw,noatime\n/b rw\n/c rw,nodiratime,relatime");
}

/// A sleeping container with `options` on /data from `top`.
fn with_shared_source<'a>(
    cx: &'a Cx,
    top: &Path,
    options: &[&str],
) -> crate::support::Container<'a> {
    make(top, MsFlags::MS_SHARED);
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/rootfsPropagation",
        json!(if options.contains(&"rshared") {
            "shared"
        } else {
            "rslave"
        }),
    );
    bundle.mount("/data", "bind", top.to_str().unwrap(), options);
    cx.start(&bundle)
}

fn propagation_private_by_default(cx: &Cx) {
    let top = mounted(cx, "top");
    make(&top, MsFlags::MS_SHARED);
    fs::create_dir(top.join("late")).unwrap();
    let mut bundle = cx.bundle();
    bundle.mount(
        "/data",
        "bind",
        top.to_str().unwrap(),
        &["rbind", "rprivate"],
    );
    let container = cx.start(&bundle);
    tmpfs_on(&top.join("late"));
    fs::write(top.join("late/f"), "").unwrap();
    container.exec(&["ls", "/data/late"]).ok().prints("");
    container.end();
    clean(cx, &[&top.join("late"), &top]);
}

fn propagation_slave(cx: &Cx) {
    let top = mounted(cx, "top");
    fs::create_dir(top.join("late")).unwrap();
    let container = with_shared_source(cx, &top, &["rbind", "rslave"]);
    tmpfs_on(&top.join("late"));
    fs::write(top.join("late/f"), "").unwrap();
    container.exec(&["ls", "/data/late"]).ok().prints("f");
    container
        .exec_sh(&format!("{} | grep -c master:", info("/data")))
        .ok()
        .prints("1");
    container.end();
    clean(cx, &[&top.join("late"), &top]);
}

fn propagation_shared(cx: &Cx) {
    let top = mounted(cx, "top");
    fs::create_dir(top.join("late")).unwrap();
    let mut bundle = cx.bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    bundle.set("/linux/rootfsPropagation", json!("shared"));
    make(&top, MsFlags::MS_SHARED);
    bundle.mount(
        "/data",
        "bind",
        top.to_str().unwrap(),
        &["rbind", "rshared"],
    );
    let container = cx.start(&bundle);
    container
        .exec_sh("mount -t tmpfs t /data/late && touch /data/late/from-inside")
        .ok();
    assert!(
        top.join("late/from-inside").exists(),
        "the mount does not reach the host"
    );
    container.end();
    clean(cx, &[&top.join("late"), &top]);
}

fn rootfs_propagation(cx: &Cx) {
    for (name, wanted) in [
        ("private", ""),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.sh("awk '$5 == \"/\" {print $7}' /proc/self/mountinfo");
        bundle.set("/linux/rootfsPropagation", json!(name));
        let output = cx.run(&bundle).ok();
        if wanted.is_empty() {
            assert_eq!(output.text(), "-", "{output}");
        } else {
            assert!(output.text().starts_with(wanted), "{output}");
        }
    }
}

fn rootfs_is_the_root(cx: &Cx) {
    // Nothing of the host is reachable or left mounted under another name.
    let output = cx.sh("ls / | sort | tr '\\n' ' '; awk '$5 == \"/\"' /proc/self/mountinfo | wc -l; ls /../.. | wc -l", |_| ());
    output.prints("bin dev etc mnt proc root sys tmp 1\n8");
}

fn root_read_only(cx: &Cx) {
    cx.sh("touch /x 2>/dev/null || echo refused; touch /dev/x && echo dev; awk '$5 == \"/\" {print $6}' /proc/self/mountinfo", |b| {
        b.set("/root/readonly", json!(true));
    })
    .prints("refused\ndev\nro,relatime");
}

fn root_from_a_relative_path(cx: &Cx) {
    let mut bundle = cx.script("ls /mnt");
    fs::rename(bundle.rootfs(), bundle.path.join("other")).unwrap();
    fs::write(bundle.path.join("other/mnt/here"), "").unwrap();
    bundle.set("/root/path", json!("other"));
    cx.run(&bundle).ok().prints("here");
    bundle.set("/root/path", json!(bundle.path.join("other")));
    cx.run(&bundle).ok().prints("here");
}

fn no_pivot(cx: &Cx) {
    let bundle = cx.script("ls / | sort | tr '\\n' ' '");
    cx.run_with(&bundle, &["--no-pivot"])
        .ok()
        .prints("bin dev etc mnt proc root sys tmp");
}

fn overlay_mount(cx: &Cx) {
    let lower = directory(cx, "lower");
    let (upper, work) = (cx.dir.join("upper"), cx.dir.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let data = [
        format!("lowerdir={}", lower.display()),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let mut bundle = cx.script("cat /data/file; echo changed >/data/file");
    bundle.mount(
        "/data",
        "overlay",
        "overlay",
        &[&data[0], &data[1], &data[2]],
    );
    cx.run(&bundle).ok().prints("content");
    assert_eq!(fs::read_to_string(lower.join("file")).unwrap(), "content\n");
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "changed\n");
}

fn proc_with_options(cx: &Cx) {
    cx.sh(
        "awk '$5 == \"/proc\" {print $6}' /proc/self/mountinfo",
        |b| {
            b.config["mounts"][0]["options"] = json!(["nosuid", "noexec", "nodev"]);
        },
    )
    .prints("rw,nosuid,nodev,noexec,relatime");
}
