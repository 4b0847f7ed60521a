//! Calls about the calling process that `nix` lacks or wraps in a way unfit for a cloned child.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Result, check};

/// Leaves at once: no destructors, no atexit handlers, which belong to the process this one was cloned from.
///
/// A seccomp filter of the container may refuse exit_group(2); libc's _exit would then try again for ever. This dies of a
/// trapping instruction instead, which no filter can refuse.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes an integer and touches no memory; it returns only when a filter refuses it.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    // SAFETY: the same.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    std::process::abort()
}

/// Takes the two switches for backtraces out of the environment. Whoever sets them for an engine sets them for its runtime,
/// and collecting one under a lock is what a container's init under a seccomp filter may not be able to end: it would wait
/// for itself for ever. Called before anything else is done, while there is one thread.
pub(crate) fn without_backtraces() {
    debug_assert!(is_single_threaded());
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// SIGPIPE off: what a write then fails with is told like any other error.
pub(crate) fn ignore_pipe_signal() {
    // SAFETY: it installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Whether /proc/self/task has one entry. Only for debug assertions; `true` when it cannot be read.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

/// prlimit(2): sets the soft and hard limit of another process. `resource` is a `RLIMIT_*` number.
pub(crate) fn set_rlimit(pid: Pid, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is a whole rlimit64 that outlives the call; no old value is asked for.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid.as_raw(),
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    check(ret).map(drop)
}

/// The calling process's hard limit of a resource.
pub(crate) fn hard_limit(resource: u32) -> Result<u64> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one rlimit64, which lives here; no new value is given.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut limit,
        )
    };
    check(ret).map(|_| limit.rlim_max)
}

/// setdomainname(2) of the calling process's UTS namespace.
pub(crate) fn set_domain_name(name: &str) -> Result<()> {
    // SAFETY: pointer and length describe the same live string.
    let ret = unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) };
    check(ret).map(drop)
}

/// getcwd(2) itself, not libc's, which hides the kernel's `(unreachable)` prefix (CVE-2024-21626, W1).
pub(crate) fn raw_cwd() -> Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: the kernel writes at most `buffer.len()` bytes into the live buffer.
    let ret = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    let len = usize::try_from(check(ret)?).map_err(|_| Errno::EOVERFLOW)?;
    buffer.truncate(len.saturating_sub(1));
    Ok(buffer)
}

/// Pointers to `strings` with the closing null that execve(2) wants.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// execve(2). Returns only on failure.
pub(crate) fn exec(program: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(args), pointers(env));
    // SAFETY: all three are null-terminated and outlive the call; on success the call does not return.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// execveat(2) of an open file (`AT_EMPTY_PATH`). Returns only on failure.
pub(crate) fn exec_fd(program: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(args), pointers(env));
    // SAFETY: the descriptor is open, all strings are null-terminated and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// rt_sigaction(2): sets the disposition of `signal` to the default. By the system call itself, for libc refuses the two
/// signals that it keeps to itself and that a caller may have left ignored all the same.
pub(crate) fn default_signal(signal: i32) -> Result<()> {
    // A kernel sigaction: handler (SIG_DFL is 0), flags, restorer, mask; all-zero asks for the default.
    let action = [0_u64; 4];
    let set_size = std::mem::size_of::<u64>();
    // SAFETY: `action` has the size of the kernel's structure and outlives the call; SIG_DFL installs no handler code.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            set_size,
        )
    };
    check(ret).map(drop)
}

/// PR_SET_NAME: what `ps` and /proc/PID/comm show; at most 15 bytes are kept.
pub(crate) fn set_name(name: &CStr) {
    // nix's wrapper fails only for a bad pointer; a name is a courtesy.
    let _ = nix::sys::prctl::set_name(name);
}

/// ioctl(SIOCGIFFLAGS, SIOCSIFFLAGS): brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: ifreq is plain data, all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(libc::c_short::MAX);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives here; the socket is open.
    let ret = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    };
    check(libc::c_long::from(ret)).map(drop)
}

/// Whether a raw descriptor number is open in this process.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Runs `test` in a forked child, whose exit code tells whether it panicked.
#[cfg(test)]
pub(crate) fn fork_for_test(test: fn()) -> Pid {
    // SAFETY: the other thread of a test process only waits, so no lock stays locked in the child.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            exit_now(i32::from(std::panic::catch_unwind(test).is_err()))
        }
    }
}
