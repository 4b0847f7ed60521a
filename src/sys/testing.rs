//! For tests only: runs a closure in a forked child with new namespaces, because a mount or user namespace cannot be
//! entered by a thread of the test harness.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getuid, pipe};

use super::mount::{Attr, Depth, attach, clone_tree, is_mount_root, set_attr};

/// Whether this process is a child that has [`isolate`]d itself.
static ISOLATED: AtomicBool = AtomicBool::new(false);

/// Id maps of a new user namespace: inside, outside, count.
const MAP: &str = "0 100000 65536";

/// What `body` returned in the child, or its error or panic as text.
pub(crate) fn in_child(
    flags: CloneFlags,
    body: impl FnOnce() -> anyhow::Result<String>,
) -> Result<String, String> {
    let (result_in, result_out) = pipe().unwrap();
    let (ready_in, ready_out) = pipe().unwrap();
    let (go_in, go_out) = pipe().unwrap();
    // SAFETY: the child runs only `body` and leaves by _exit; the C library makes its allocator usable after fork.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop((result_in, ready_in, go_out));
            let run = std::panic::AssertUnwindSafe(|| {
                unshare(flags).unwrap();
                // Not within another test child: it may play a host on which all is shared.
                if flags.contains(CloneFlags::CLONE_NEWNS) && !ISOLATED.swap(true, Relaxed) {
                    isolate();
                }
                std::fs::File::from(ready_out).write_all(b"r").unwrap();
                if flags.contains(CloneFlags::CLONE_NEWUSER) {
                    std::fs::File::from(go_in).read_exact(&mut [0]).unwrap();
                    nix::unistd::setresgid(0.into(), 0.into(), 0.into()).unwrap();
                    nix::unistd::setresuid(0.into(), 0.into(), 0.into()).unwrap();
                }
                if flags.contains(CloneFlags::CLONE_NEWPID) {
                    return second(body);
                }
                body().map_err(|error| format!("{error:#}"))
            });
            let result = quietly(run);
            leave(result_out, &result)
        }
        ForkResult::Parent { child } => {
            drop((result_out, ready_out, go_in));
            if flags.contains(CloneFlags::CLONE_NEWUSER) {
                std::fs::File::from(ready_in).read_exact(&mut [0]).unwrap();
                for map in ["uid_map", "gid_map"] {
                    let mut file = std::fs::OpenOptions::new();
                    let file = file.write(true).open(format!("/proc/{child}/{map}"));
                    file.unwrap().write_all(MAP.as_bytes()).unwrap();
                }
                std::fs::File::from(go_out).write_all(b"g").unwrap();
            }
            let result = receive(result_in);
            waitpid(child, None).unwrap();
            result
        }
    }
}

/// A test that mounts something must not show it to a host on which all is shared; and code that is wrong, which is
/// what tests are for, must not write to the host's `/` and `/dev` as root. Only the directory of the bundles stays
/// writable.
fn isolate() {
    let open = |path: &Path| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).unwrap()
    };
    let private = Attr {
        propagation: libc::MS_PRIVATE,
        ..Attr::default()
    };
    let read_only = Attr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attr::default()
    };
    let root = open(Path::new("/"));
    set_attr(root.as_fd(), Depth::Recursive, private).unwrap();
    let bundles = open(&std::env::temp_dir());
    let writable = clone_tree(bundles.as_fd(), Path::new(""), Depth::Recursive).unwrap();
    set_attr(root.as_fd(), Depth::Top, read_only).unwrap();
    attach(writable.as_fd(), bundles.as_fd()).unwrap();
    let dev = open(Path::new("/dev"));
    if is_mount_root(dev.as_fd()).unwrap() {
        set_attr(dev.as_fd(), Depth::Top, read_only).unwrap();
    }
}

/// The first process of the new pid namespace.
fn second(body: impl FnOnce() -> anyhow::Result<String>) -> Result<String, String> {
    let (result_in, result_out) = pipe().unwrap();
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(result_in);
            let run = std::panic::AssertUnwindSafe(|| body().map_err(|error| format!("{error:#}")));
            let result = quietly(run);
            leave(result_out, &result)
        }
        ForkResult::Parent { child } => {
            drop(result_out);
            let result = receive(result_in);
            waitpid(child, None).unwrap();
            result
        }
    }
}

/// A panic of the child as text. The hook of the harness is no use here: what it prints to was not forked with us.
fn quietly(
    run: impl FnOnce() -> Result<String, String> + std::panic::UnwindSafe,
) -> Result<String, String> {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn leave(pipe: OwnedFd, result: &Result<String, String>) -> ! {
    let (tag, text) = match result {
        Ok(text) => ("+", text),
        Err(text) => ("-", text),
    };
    let mut pipe = std::fs::File::from(pipe);
    let _ = pipe.write_all(tag.as_bytes());
    let _ = pipe.write_all(text.as_bytes());
    drop(pipe);
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(0) }
}

fn receive(pipe: OwnedFd) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
    match text.split_at_checked(1) {
        Some(("+", rest)) => Ok(rest.to_owned()),
        Some((_, rest)) => Err(rest.to_owned()),
        None => Err("the child died".to_owned()),
    }
}

/// Whether tests that need root can run; says why not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = getuid().is_root();
    if !root {
        println!("{test}: skipped, it needs root");
    }
    root
}
