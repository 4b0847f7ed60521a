//! The only unsafe code of rundlet: thin, safe, errno-typed wrappers of system calls that `nix` lacks.
//! Knows nothing of OCI. Called by every layer above; each file states the man page it wraps.

pub(crate) mod arena;
pub(crate) mod bpf;
pub(crate) mod clone;
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
mod early;
pub(crate) mod fd;
pub(crate) mod identity;
pub(crate) mod ioctl;
pub(crate) mod keyring;
pub(crate) mod landlock;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod protect;
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
mod relocate;
pub(crate) mod sched;
pub(crate) mod scm;
pub(crate) mod seccomp;
pub(crate) mod shared;
pub(crate) mod start;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod time;
pub(crate) mod unix;
pub(crate) mod wait;

use nix::errno::Errno;

/// The result of a raw system call: what it returned, or the errno it failed with.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Turns the return value of `libc::syscall` (-1 and `errno`) into a `Result`.
pub(crate) fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
