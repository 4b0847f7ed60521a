//! Root file systems that try to lead the runtime out: at every path that it touches stands each kind of thing that an image could
//! put there. A command ends, in success or with one clear error; nothing is left; and a tree of the host beside the bundle,
//! to which all of the links lead, is afterwards what it was before, to the nanosecond of its last change. A quarter of the kinds is
//! tried at a place, others at the next one; with `RUNDLET_TEST_STEPS` set all are.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::support::watched::{self, host};
use crate::support::{Bundle, Cx, Output, tests};

tests! {
    both hostile_dev = "runc 1.1.5 follows a link at /dev/null";
    host hostile_dev_without_a_mount = "runc 1.1.5 follows a link at /dev/null";
    host hostile_mount_points;
    host hostile_proc_and_sys;
    host hostile_proc_and_sys_without_a_mount = "runc 1.1.5 trusts a false /proc";
    host hostile_masks;
    host hostile_programs_and_users = "runc 1.1.5 waits for ever at some";
    host hostile_places_in_a_user_namespace = "runc 1.1.5 follows a link at /dev/null";
    host hostile_terminals = "runc 1.1.5 follows a link at /dev/console";
    host hostile_overlays = "runc has no overlay of its own";
}

/// What stands at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LinkToDirectory,
    LinkToFile,
    /// To a name in the watched tree that is not there: to be made through it.
    LinkToNothing,
    /// `../../..` and so on, of more levels than there are.
    LinkUp,
    Loop,
    /// Two links that lead to each other.
    Pair,
    LinkToRoot,
    MagicRoot,
    MagicDescriptor,
    MagicWorkingDirectory,
    LinkToDevice,
    Fifo,
    Socket,
    /// 1:3, which is null, and 5:1, which is the console.
    CharDevice,
    Console,
    BlockDevice,
    File,
    /// Of 4 GiB, none of it written.
    HugeFile,
    Directory,
    FullDirectory,
    Nothing,
}

const KINDS: [Kind; 21] = [
    Kind::LinkToDirectory,
    Kind::LinkToFile,
    Kind::LinkToNothing,
    Kind::LinkUp,
    Kind::Loop,
    Kind::Pair,
    Kind::LinkToRoot,
    Kind::MagicRoot,
    Kind::MagicDescriptor,
    Kind::MagicWorkingDirectory,
    Kind::LinkToDevice,
    Kind::Fifo,
    Kind::Socket,
    Kind::CharDevice,
    Kind::Console,
    Kind::BlockDevice,
    Kind::File,
    Kind::HugeFile,
    Kind::Directory,
    Kind::FullDirectory,
    Kind::Nothing,
];

impl Kind {
    fn make(self, at: &Path, watched: &Path) {
        let link = |to: &dyn AsRef<Path>| symlink(to, at).unwrap();
        let node = |kind, major, minor| {
            mknod(
                at,
                kind,
                Mode::from_bits_truncate(0o666),
                makedev(major, minor),
            )
            .unwrap();
        };
        let plain = watched.strip_prefix("/").unwrap();
        match self {
            Self::LinkToDirectory => link(&watched.join("directory")),
            Self::LinkToFile => link(&watched.join("file")),
            Self::LinkToNothing => link(&watched.join("made")),
            Self::LinkUp => link(&Path::new(&"../".repeat(40)).join(plain).join("directory")),
            Self::Loop => link(&at.file_name().unwrap()),
            Self::Pair => {
                let other = at.with_extension("other");
                symlink(at.file_name().unwrap(), &other).unwrap();
                link(&other.file_name().unwrap());
            }
            Self::LinkToRoot => link(&"/"),
            Self::MagicRoot => link(&Path::new("/proc/1/root").join(plain).join("directory")),
            Self::MagicDescriptor => link(&"/proc/self/fd/3"),
            Self::MagicWorkingDirectory => link(&"/proc/self/cwd"),
            Self::LinkToDevice => link(&"/dev/null"),
            Self::Fifo => node(SFlag::S_IFIFO, 0, 0),
            // The path of a socket may have 108 bytes; the name stays when the listener is gone.
            Self::Socket => {
                let directory = File::open(at.parent().unwrap()).unwrap();
                let name = at.file_name().unwrap().to_str().unwrap();
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&directory);
                drop(UnixListener::bind(format!("/proc/self/fd/{descriptor}/{name}")).unwrap());
            }
            Self::CharDevice => node(SFlag::S_IFCHR, 1, 3),
            Self::Console => node(SFlag::S_IFCHR, 5, 1),
            Self::BlockDevice => node(SFlag::S_IFBLK, 7, 0),
            Self::File => fs::write(at, "content\n").unwrap(),
            Self::HugeFile => File::create(at).unwrap().set_len(4 << 30).unwrap(),
            Self::Directory => fs::create_dir(at).unwrap(),
            Self::FullDirectory => {
                fs::create_dir(at).unwrap();
                fs::write(at.join("file"), "content\n").unwrap();
                symlink(watched.join("file"), at.join("null")).unwrap();
                symlink(watched.join("file"), at.join("ptmx")).unwrap();
                symlink(watched.join("directory"), at.join("self")).unwrap();
                symlink(watched.join("directory"), at.join("pts")).unwrap();
            }
            Self::Nothing => {}
        }
    }
}

/// A bundle like the suite's, made anew for each case: what a case has put there is gone.
fn fresh(cx: &Cx) -> Bundle {
    drop(fs::remove_dir_all(cx.dir.join("bundle-c")));
    let mut bundle = cx.bundle();
    for name in ["work", "tmp/in", "masked", "opt"] {
        fs::create_dir_all(bundle.rootfs().join(name)).unwrap();
    }
    for name in ["tmp/file", "secret", "constant"] {
        fs::write(bundle.rootfs().join(name), "of the image\n").unwrap();
    }
    let (source, file) = (cx.dir.join("source"), cx.dir.join("source-file"));
    fs::create_dir_all(&source).unwrap();
    fs::write(&file, "source\n").unwrap();
    bundle.set("/process/cwd", json!("/work"));
    bundle.bind(&source, "/mnt/in/deep", &["rw"]);
    bundle.bind(&file, "/tmp/file", &["ro"]);
    bundle.mount("/tmp/in", "tmpfs", "tmpfs", &["size=64k"]);
    bundle.mount("/opt", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]);
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]),
    );
    for (field, more) in [
        ("maskedPaths", ["/masked", "/secret"]),
        ("readonlyPaths", ["/constant", "/work"]),
    ] {
        for path in more {
            bundle.push(&format!("/linux/{field}"), json!(path));
        }
    }
    bundle
}

/// One line that says what was wrong.
fn clear(output: &Output, case: &str) {
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(
        output.code != 0
            && lines.len() == 1
            && !lines[0].contains("panicked")
            && lines[0].len() > 20,
        "{case}: {output}"
    );
}

/// create, start, exec and delete of every kind at every place.
fn all(cx: &Cx, places: &[&str], edit: impl Fn(&mut Bundle)) {
    let watched = watched::make(cx);
    let (mut made, mut refused) = (0, 0);
    let every = std::env::var_os("RUNDLET_TEST_STEPS").is_some();
    for (row, place) in places.iter().enumerate() {
        for (column, kind) in KINDS.into_iter().enumerate() {
            if !every && (row + column) % 4 != 0 {
                continue;
            }
            let mut bundle = fresh(cx);
            edit(&mut bundle);
            let at = bundle.rootfs().join(place);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            drop(fs::remove_dir_all(&at));
            drop(fs::remove_file(&at));
            kind.make(&at, &watched);
            let case = format!("{kind:?} at /{place}");
            let before = host(&watched);
            if one(cx, &bundle, &case) {
                made += 1;
            } else {
                refused += 1;
            }
            assert_eq!(before, host(&watched), "{case}");
            let state = fs::read_dir(cx.root())
                .into_iter()
                .flatten()
                .flatten()
                .count();
            assert_eq!(state, 0, "{case}: a state directory is left");
        }
    }
    println!("{made} containers made, {refused} refused");
    assert!(made > 0, "nothing of it was made");
}

/// Whether it was made. Each command has the suite's deadline.
fn one(cx: &Cx, bundle: &Bundle, case: &str) -> bool {
    let created = create(cx, bundle);
    if created.code != 0 {
        clear(&created, case);
        return false;
    }
    let started = cx.call(&["start", &bundle.id]);
    if started.code != 0 {
        clear(&started, case);
    }
    // HOME comes out of the image's /etc/passwd.
    let output = cx.call(&["exec", "--user", "1000", &bundle.id, "true"]);
    assert!(!output.stderr.contains("panicked"), "{case}: {output}");
    cx.call(&["delete", "--force", &bundle.id]).ok();
    true
}

fn create(cx: &Cx, bundle: &Bundle) -> Output {
    if bundle.config["process"]["terminal"] != json!(true) {
        return cx.try_create(bundle);
    }
    drop(fs::remove_file(cx.dir.join("tty.sock")));
    let socket = cx.console_socket();
    crate::tty::create_on(cx, bundle, &socket.path)
}

fn bare(bundle: &mut Bundle, tops: &[&str]) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| {
        let destination = Path::new(mount["destination"].as_str().unwrap());
        !tops.iter().any(|top| destination.starts_with(top))
    });
}

fn hostile_dev(cx: &Cx) {
    all(cx, &["dev", "dev/null", "dev/pts"], |_| ());
}

fn hostile_dev_without_a_mount(cx: &Cx) {
    let places = [
        "dev",
        "dev/null",
        "dev/console",
        "dev/ptmx",
        "dev/pts",
        "dev/fd",
        "dev/stdin",
        "dev/net",
        "dev/net/tun",
    ];
    all(cx, &places, |bundle| bare(bundle, &["/dev"]));
}

fn hostile_mount_points(cx: &Cx) {
    all(
        cx,
        &[
            "mnt",
            "mnt/in",
            "mnt/in/deep",
            "tmp",
            "tmp/file",
            "tmp/in",
            "opt",
            "opt/inner",
        ],
        |_| (),
    );
}

fn hostile_proc_and_sys(cx: &Cx) {
    all(
        cx,
        &["proc", "proc/self", "sys", "sys/fs", "sys/fs/cgroup"],
        |_| (),
    );
}

/// A false /proc of the image, where the runtime writes labels, sysctls and scores.
fn hostile_proc_and_sys_without_a_mount(cx: &Cx) {
    all(
        cx,
        &["proc", "proc/self", "proc/sys", "proc/thread-self", "sys"],
        |bundle| {
            bare(bundle, &["/proc", "/sys"]);
            bundle.set("/process/oomScoreAdj", json!(500));
            bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        },
    );
}

fn hostile_masks(cx: &Cx) {
    all(cx, &["masked", "secret", "constant"], |_| ());
}

fn hostile_programs_and_users(cx: &Cx) {
    let places = [
        "work",
        "bin",
        "bin/sleep",
        "bin/busybox",
        "etc",
        "etc/passwd",
        "etc/group",
        "root",
    ];
    all(cx, &places, |_| ());
}

fn hostile_places_in_a_user_namespace(cx: &Cx) {
    all(
        cx,
        &[
            "dev/null",
            "dev/net/tun",
            "mnt/in",
            "tmp/file",
            "masked",
            "proc",
        ],
        |bundle| {
            bundle.user_namespace();
            // The image is its own; what is put there stays the host's.
            let mut chown = std::process::Command::new("chown");
            chown.args(["-Rh", "100000:200000"]).arg(bundle.rootfs());
            assert!(chown.status().unwrap().success());
            bare(bundle, &["/dev"]);
        },
    );
}

fn hostile_terminals(cx: &Cx) {
    all(
        cx,
        &["dev", "dev/console", "dev/ptmx", "dev/pts"],
        |bundle| {
            bundle.set("/process/terminal", json!(true));
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            // What stands there is the image's; /dev/pts has to be mounted, or there is no terminal.
            mounts.retain(|mount| mount["destination"] != "/dev");
        },
    );
}

fn hostile_overlays(cx: &Cx) {
    all(cx, &["dev", "mnt/in", "tmp/file", "etc/passwd"], |bundle| {
        bundle.set(
            "/annotations",
            json!({"org.rundlet.rootfs.overlay.lower": "rootfs"}),
        );
    });
}
