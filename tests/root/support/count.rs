//! What a call of the runtime costs in numbers that do not depend on how busy the machine is: its system calls, those of every
//! process that it makes included, its page faults, and its peak of memory. By ptrace(2).

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::Cx;
use super::steps::{at_entry, request, trace};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) calls: u64,
    /// VmHWM of the runtime's own process, of its last program.
    pub(crate) peak_kib: u64,
    /// Pages it and the processes that it has waited for had to be given, without a disk.
    pub(crate) faults: u64,
}

impl Cx {
    /// Runs the runtime to its end, which must be a success. What it leaves running goes on, no longer traced: tracees
    /// belong to a thread, and that one ends here.
    pub(crate) fn cost(&self, args: &[&str]) -> Cost {
        std::thread::scope(|scope| scope.spawn(|| self.traced(args)).join().unwrap())
    }

    fn traced(&self, args: &[&str]) -> Cost {
        let mut command = self.command(args);
        trace(&mut command);
        let running = self.spawn(command);
        let main = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
        assert_eq!(
            waitpid(main, None),
            Ok(WaitStatus::Stopped(main, Signal::SIGTRAP))
        );
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_TRACEEXIT;
        let options = usize::try_from(options).unwrap();
        request(libc::PTRACE_SETOPTIONS, main, options);
        request(libc::PTRACE_SYSCALL, main, 0);
        // The execve(2) that it stands behind.
        let mut cost = Cost {
            calls: 1,
            peak_kib: 0,
            faults: 0,
        };
        let mut known = BTreeSet::from([main]);
        let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let ended = mine | WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        loop {
            let next = waitid(Id::All, ended).unwrap();
            if let WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) = next
                && pid == main
            {
                running.wait().ok();
                return cost;
            }
            let Some(pid) = next.pid() else { continue };
            let signal = match waitpid(pid, Some(mine)) {
                Ok(WaitStatus::PtraceSyscall(_)) => {
                    cost.calls += u64::from(at_entry(self, pid).is_some());
                    0
                }
                Ok(WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXIT)) if pid == main => {
                    cost.peak_kib = peak(pid);
                    cost.faults = faults(pid);
                    0
                }
                // How a new process begins.
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) if known.insert(pid) => 0,
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceEvent(..)) => 0,
                Ok(WaitStatus::Stopped(_, other)) => other as usize,
                _ => continue,
            };
            request(libc::PTRACE_SYSCALL, pid, signal);
        }
    }
}

fn peak(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

fn faults(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    // Fields 10 and 11 of proc(5); the first here is the second there.
    [8, 9]
        .map(|at| fields[at].parse::<u64>().unwrap())
        .iter()
        .sum()
}
