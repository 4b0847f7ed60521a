//! The runtime under test, stopped before any system call of its that changes something: to be killed there, or to be left
//! standing while others go on. By ptrace(2), so the runtime needs no switch for it; only the runtime itself is traced, never
//! what it clones.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::runtime::Running;
use super::{Cx, Output};

/// A runtime that stands before a step.
pub(crate) struct Standing {
    running: Running,
    pid: Pid,
}

pub(crate) enum Reached {
    Step(Standing),
    /// It had only so many steps.
    End(usize, Output),
}

/// struct ptrace_syscall_info (ptrace(2)) as of a stop on entry, with room for the longer kinds.
#[repr(C)]
#[derive(Default)]
pub(super) struct CallInfo {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction: u64,
    stack: u64,
    number: u64,
    args: [u64; 6],
    more: [u64; 4],
}

/// The C libraries do not agree on it.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

const GET_SYSCALL_INFO: Request = 0x420e;
const ENTRY: u8 = 1;

impl Cx {
    /// Runs the runtime up to its step `step`, counted from 0.
    pub(crate) fn run_to(&self, args: &[&str], step: usize) -> Reached {
        let mut command = self.command(args);
        trace(&mut command);
        let running = self.spawn(command);
        let pid = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
        assert_eq!(
            waitpid(pid, None),
            Ok(WaitStatus::Stopped(pid, Signal::SIGTRAP))
        );
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        request(
            libc::PTRACE_SETOPTIONS,
            pid,
            usize::try_from(options).unwrap(),
        );
        let mut steps = 0;
        let mut signal = 0;
        loop {
            request(libc::PTRACE_SYSCALL, pid, signal);
            signal = 0;
            let ended = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(pid), ended).unwrap() {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    return Reached::End(steps, running.wait());
                }
                _ => {}
            }
            match waitpid(pid, None).unwrap() {
                WaitStatus::PtraceSyscall(_) if changes_something(self, pid) => {
                    if steps == step {
                        return Reached::Step(Standing { running, pid });
                    }
                    steps += 1;
                }
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, other) => signal = other as usize,
                _ => {}
            }
        }
    }
}

impl Cx {
    /// Runs the runtime to its end, and calls `look` with each process of its, cloned ones too, before and behind every system call.
    pub(crate) fn run_traced(&self, args: &[&str], mut look: impl FnMut(Pid)) -> Output {
        let mut command = self.command(args);
        trace(&mut command);
        let running = self.spawn(command);
        let main = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
        assert!(waitpid(main, None).is_ok());
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK;
        request(
            libc::PTRACE_SETOPTIONS,
            main,
            usize::try_from(options).unwrap(),
        );
        request(libc::PTRACE_SYSCALL, main, 0);
        loop {
            let all = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
            let status = waitid(Id::All, all | WaitPidFlag::__WALL).unwrap();
            let pid = status.pid().unwrap();
            if let WaitStatus::Exited(..) | WaitStatus::Signaled(..) = status {
                if pid == main {
                    return running.wait();
                }
                let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
                continue;
            }
            let signal = match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => {
                    look(pid);
                    0
                }
                // A new one's first stop, and what execve says.
                WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGTRAP) => 0,
                WaitStatus::Stopped(_, other) => other as usize,
                _ => 0,
            };
            // SAFETY: the request takes numbers. ESRCH: it was killed meanwhile.
            unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid.as_raw(), 0, signal) };
        }
    }
}

impl Standing {
    /// The step is not done.
    pub(crate) fn kill(self) -> Output {
        kill(self.pid, Signal::SIGKILL).unwrap();
        self.running.wait()
    }

    /// Kills what the runtime has cloned so far; whether there was anything.
    pub(crate) fn kill_children(&self) -> bool {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for child in text.split_ascii_whitespace() {
            // A zombie is one until the runtime goes on.
            kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
        !text.trim().is_empty()
    }

    /// The step is done, and all that come after it. What was killed meanwhile has ended.
    pub(crate) fn go_on(self) -> Output {
        self.release().wait()
    }

    /// The same, not waited for.
    pub(crate) fn release(self) -> Running {
        // SAFETY: PTRACE_DETACH takes numbers. ESRCH: it was killed.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid.as_raw(), 0, 0) };
        self.running
    }
}

pub(super) fn trace(command: &mut Command) {
    // SAFETY: between fork and exec `trace_me` makes one system call and nothing else.
    unsafe { command.pre_exec(trace_me) };
}

fn trace_me() -> std::io::Result<()> {
    // SAFETY: the request takes no argument.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

pub(super) fn request(what: Request, pid: Pid, data: usize) {
    // SAFETY: the requests made here take a number as data and no address.
    let ret = unsafe { libc::ptrace(what, pid.as_raw(), 0, data) };
    assert_eq!(ret, 0, "ptrace: {}", std::io::Error::last_os_error());
}

/// The call that the process stands before; `None` where it stands behind one.
pub(super) fn at_entry(cx: &Cx, pid: Pid) -> Option<CallInfo> {
    let mut info = CallInfo::default();
    let size = size_of::<CallInfo>();
    // SAFETY: `info` is `size` bytes that the kernel may write.
    let ret = unsafe { libc::ptrace(GET_SYSCALL_INFO, pid.as_raw(), size, &raw mut info) };
    if ret <= 0 {
        cx.skip("this kernel does not tell the system call of a traced process");
    }
    (info.op == ENTRY).then_some(info)
}

/// Whether the call it stands before matters to anybody but the process itself: one that only reads or asks does not.
fn changes_something(cx: &Cx, pid: Pid) -> bool {
    let Some(info) = at_entry(cx, pid) else {
        return false;
    };
    let number = libc::c_long::try_from(info.number).unwrap_or(-1);
    let creates = |flags: u64| flags & u64::try_from(libc::O_CREAT).unwrap() != 0;
    !PASSIVE.contains(&number) && (number != libc::SYS_openat || creates(info.args[2]))
}

const PASSIVE: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ppoll,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_prlimit64,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_prctl,
    libc::SYS_socketpair,
    libc::SYS_pidfd_open,
    libc::SYS_rseq,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];
