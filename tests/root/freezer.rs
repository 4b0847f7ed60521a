//! A container that cannot be frozen. Its process waits in the kernel, uninterruptible, for a file system whose server does
//! not answer: a FUSE mount whose server is this test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::{Cx, eventually, tests};

tests! {
    both what_does_not_freeze_is_named_and_thawed = "runc 1.1.5 does not name it, and leaves it freezing on v2";
    both a_created_container_can_be_paused;
    both a_freeze_from_outside_is_paused;
    both a_killed_container_in_pause_ends_with_all_its_processes;
}

/// The kernel's side of the mount. Every look at the name `stuck` waits until `answer`.
struct Server {
    device: File,
    /// The request that waits.
    stuck: Arc<AtomicU64>,
}

const ROOT_DIRECTORY: u32 = 0o040_755;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;

fn reply(mut device: &File, unique: u64, errno: i32, body: &[u8]) {
    let mut out = Vec::new();
    out.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    out.extend((-errno).to_ne_bytes());
    out.extend(unique.to_ne_bytes());
    out.extend(body);
    // A request that was interrupted or aborted meanwhile takes no answer.
    let _ = device.write(&out);
}

/// fuse_init_out of protocol 7.31: the rest of its fields are 0.
fn init_body() -> Vec<u8> {
    let mut body = [7u32, 31].map(u32::to_ne_bytes).concat();
    body.resize(20, 0);
    body.extend(4096u32.to_ne_bytes());
    body.resize(64, 0);
    body
}

/// fuse_attr_out: valid for an hour, then fuse_attr of a directory.
fn attributes() -> Vec<u8> {
    let mut body = 3600u64.to_ne_bytes().to_vec();
    body.resize(16, 0);
    body.extend(1u64.to_ne_bytes());
    body.resize(16 + 60, 0);
    body.extend(ROOT_DIRECTORY.to_ne_bytes());
    body.extend(2u32.to_ne_bytes());
    body.resize(16 + 88, 0);
    body
}

impl Server {
    /// `None` where the kernel has no FUSE.
    fn mount_on(dir: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        mount(
            Some("stuck"),
            dir,
            Some("fuse"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .ok()?;
        let stuck = Arc::new(AtomicU64::new(0));
        let server = Self {
            device: device.try_clone().unwrap(),
            stuck: Arc::clone(&stuck),
        };
        std::thread::spawn(move || serve(&device, &stuck));
        Some(server)
    }

    fn is_waiting(&self) -> bool {
        self.stuck.load(Ordering::SeqCst) != 0
    }

    fn answer(&self) {
        reply(
            &self.device,
            self.stuck.load(Ordering::SeqCst),
            libc_enoent(),
            &[],
        );
    }
}

fn libc_enoent() -> i32 {
    nix::errno::Errno::ENOENT as i32
}

/// Until the mount is gone.
fn serve(mut device: &File, stuck: &AtomicU64) {
    let mut request = vec![0u8; 1 << 16];
    while let Ok(size) = device.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let unique = u64::from_ne_bytes(request[8..16].try_into().unwrap());
        match word(4) {
            INIT => reply(device, unique, 0, &init_body()),
            GETATTR => reply(device, unique, 0, &attributes()),
            LOOKUP if request[40..size].starts_with(b"stuck\0") => {
                stuck.store(unique, Ordering::SeqCst);
            }
            LOOKUP => reply(device, unique, libc_enoent(), &[]),
            FORGET | INTERRUPT => {}
            _ => reply(device, unique, nix::errno::Errno::ENOSYS as i32, &[]),
        }
    }
}

fn what_does_not_freeze_is_named_and_thawed(cx: &Cx) {
    let dir = cx.dir.join("stuck");
    std::fs::create_dir(&dir).unwrap();
    let Some(server) = Server::mount_on(&dir) else {
        cx.skip("no FUSE on this kernel");
    };
    let mut bundle = cx.script("cat /mnt/stuck; : >/tmp/after; exec sleep 1000");
    bundle.bind(&dir, "/mnt", &[]);
    let container = cx.start(&bundle);
    eventually("cat waits for the server", 15, || server.is_waiting());
    // The wait becomes uninterruptible with the first signal, which a v1 freezer sends and a v2 freezer does not need to.
    let start = Instant::now();
    let output = container.call("pause").is(1);
    let took = start.elapsed().as_secs_f64();
    println!("{took:.1} s: {output}");
    assert!((9.0..19.0).contains(&took), "{took} s");
    if cx.is_rundlet() {
        assert!(
            output.stderr.contains("did not freeze within 10 s"),
            "{output}"
        );
        assert!(output.stderr.contains("(cat, state D"), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    // Nothing stays half frozen: the next one runs.
    assert_eq!(container.status(), "running");
    container.exec(&["true"]).ok();
    server.answer();
    let after = bundle.rootfs().join("tmp/after");
    eventually("the shell goes on", 15, || after.exists());
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
}

fn a_created_container_can_be_paused(cx: &Cx) {
    let container = cx.create(&cx.bundle());
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("start").is(1).says("paused");
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.wait_for("running");
    container.end();
}

/// docker and systemd freeze by the same files.
fn a_freeze_from_outside_is_paused(cx: &Cx) {
    let container = cx.sleeper();
    let dir = cx.cgroup_dir("freezer", &container.id);
    let (file, on, off) = if cx.is_v2() {
        ("cgroup.freeze", "1", "0")
    } else {
        ("freezer.state", "FROZEN", "THAWED")
    };
    std::fs::write(dir.join(file), on).unwrap();
    container.wait_for("paused");
    container.exec(&["true"]).is(255).says("paused");
    std::fs::write(dir.join(file), off).unwrap();
    container.wait_for("running");
    container.exec(&["true"]).ok();
    container.end();
}

fn a_killed_container_in_pause_ends_with_all_its_processes(cx: &Cx) {
    let bundle = cx.script("sleep 1000 & sleep 1000 & : >/mnt/ready; wait");
    let container = cx.start(&bundle);
    let ready = bundle.rootfs().join("mnt/ready");
    eventually("its processes", 15, || ready.exists());
    let pids = || {
        let output = cx.call(&["ps", "--format", "json", &container.id]).ok();
        serde_json::from_str::<Option<Vec<i64>>>(&output.stdout).unwrap()
    };
    assert_eq!(pids().unwrap().len(), 3);
    container.call("pause").ok();
    container.kill("9").ok();
    container.wait_for("stopped");
    eventually("no process is left", 10, || pids().is_none());
    container.call("delete").ok();
}
