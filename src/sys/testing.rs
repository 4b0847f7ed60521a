//! For tests only: runs a closure in a forked child with new namespaces, because a mount or user namespace cannot be
//! entered by a thread of the test harness.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getuid, pipe};

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
            let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("panic".to_owned()));
            leave(result_out, result)
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

/// The first process of the new pid namespace.
fn second(body: impl FnOnce() -> anyhow::Result<String>) -> Result<String, String> {
    let (result_in, result_out) = pipe().unwrap();
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(result_in);
            let run = std::panic::AssertUnwindSafe(|| body().map_err(|error| format!("{error:#}")));
            let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("panic".to_owned()));
            leave(result_out, result)
        }
        ForkResult::Parent { child } => {
            drop(result_out);
            let result = receive(result_in);
            waitpid(child, None).unwrap();
            result
        }
    }
}

fn leave(pipe: OwnedFd, result: Result<String, String>) -> ! {
    let (tag, text) = match &result {
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
