//! A process that neither freezes nor dies: it waits in the kernel, uninterruptible, for a file system whose server does not
//! answer, a FUSE mount whose server is the test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Cx;

/// The server's side of the mount. Every look at the name `stuck` waits until `answer`.
pub(crate) struct Server {
    /// Where it is mounted.
    pub(crate) dir: PathBuf,
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
    /// Skips the test where the kernel has no FUSE.
    pub(crate) fn mount(cx: &Cx) -> Self {
        let dir = cx.dir.join("stuck");
        std::fs::create_dir(&dir).unwrap();
        Self::mount_on(dir).unwrap_or_else(|| cx.skip("no FUSE on this kernel"))
    }

    fn mount_on(dir: PathBuf) -> Option<Self> {
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
            &dir,
            Some("fuse"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .ok()?;
        let stuck = Arc::new(AtomicU64::new(0));
        let server = Self {
            dir,
            device: device.try_clone().unwrap(),
            stuck: Arc::clone(&stuck),
        };
        std::thread::spawn(move || serve(&device, &stuck));
        Some(server)
    }

    /// Somebody waits in the kernel.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stuck.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn answer(&self) {
        reply(
            &self.device,
            self.stuck.load(Ordering::SeqCst),
            libc_enoent(),
            &[],
        );
    }

    pub(crate) fn end(self) {
        umount2(&self.dir, MntFlags::MNT_DETACH).unwrap();
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
