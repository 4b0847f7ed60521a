//! The box of one test: a private mount namespace and a pid namespace, so that whatever a runtime
//! under test does to mounts and processes stays in there and ends with it.
//!
//! `--box` makes the namespaces and starts `--init` as pid 1; that one starts the test (`--one`),
//! reaps what is orphaned, and leaves with the test's exit code. The kernel then kills the rest.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};

use super::leak;

const NONE: Option<&str> = None;

/// `--box LABEL WORLD DIR TOKEN RUNTIME`
pub(crate) fn enter(args: &[String]) -> ExitCode {
    let _ = nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL));
    if args[2] == "systemd" {
        // What a failed test leaves running is in units of its own: `leak` has them stopped.
        let error = Command::new(std::env::current_exe().unwrap())
            .arg("--one")
            .args(&args[1..])
            .exec();
        panic!("start the test: {error}");
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .expect("unshare mount and pid namespace");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect("make / private");
    if args[2] == "v2" {
        mount(
            Some("none"),
            "/sys/fs/cgroup",
            Some("cgroup2"),
            MsFlags::empty(),
            NONE,
        )
        .expect("mount cgroup2");
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("--init")
        .args(&args[1..])
        .status()
        .expect("start the box's init");
    code(
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
    )
}

/// Pid 1 of the box.
#[allow(clippy::zombie_processes)] // the loop below waits for every child there is
pub(crate) fn init(args: &[String]) -> ExitCode {
    let _ = nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL));
    assert_eq!(std::process::id(), 1, "only as pid 1 of a box");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).expect("mount /proc");
    let test = Command::new(std::env::current_exe().unwrap())
        .arg("--one")
        .args(&args[1..])
        .spawn()
        .unwrap();
    let test = nix::unistd::Pid::from_raw(i32::try_from(test.id()).unwrap());
    let result = loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, status)) if pid == test => break status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == test => break 128 + signal as i32,
            Ok(_) => {}
            Err(error) => panic!("wait: {error}"),
        }
    };
    leak::thaw(&args[4]);
    code(result)
}

fn code(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(number).unwrap_or(1))
}
