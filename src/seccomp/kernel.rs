//! Filters under the real kernel. Each case is this test binary once more, as a child that runs one test: there
//! the filter is loaded, and what it does to calls is seen from inside or, when it kills, by the parent.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{compile, install};
use crate::plan::seccomp::{Profile, plan};
use crate::sys::seccomp::raw_call;

/// Set in the child to the case it plays.
const CASE: &str = "RUNDLET_TEST_SECCOMP_CASE";

fn parse(text: &str) -> Profile {
    plan(&serde_json::from_str(text).unwrap()).unwrap()
}

fn load(profile: &Profile) -> Option<std::os::fd::OwnedFd> {
    let program = compile(profile).unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    install(&program).unwrap()
}

fn docker() -> Profile {
    parse(include_str!("../../tests/fixtures/seccomp/docker.json"))
}

/// Plays a case; a plain pass when nobody asks for one.
#[test]
fn child() {
    match std::env::var(CASE).as_deref() {
        Ok("conditions") => {
            let none = load(&parse(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"},
                {"names":["getpriority"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
                {"names":["alarm"],"action":"SCMP_ACT_ERRNO","errnoRet":71,"args":[{"index":0,"value":7,"op":"SCMP_CMP_GT"}]},
                {"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":95,"args":[{"index":0,"value":4294967295,"op":"SCMP_CMP_NE"}]}]}"#,
            ));
            assert!(none.is_none());
            assert_eq!(raw_call(libc::SYS_mkdirat, [0; 6]), Err(Errno::EPERM));
            assert_eq!(raw_call(libc::SYS_getpriority, [0; 6]), Err(Errno::ENOSYS));
            assert!(raw_call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]).is_ok());
            assert_eq!(
                raw_call(libc::SYS_personality, [0, 0, 0, 0, 0, 0]),
                Err(Errno::EOPNOTSUPP)
            );
            assert!(raw_call(libc::SYS_getpid, [0; 6]).is_ok());
        }
        Ok("docker") => {
            load(&docker());
            assert_eq!(raw_call(libc::SYS_mount, [0; 6]), Err(Errno::EPERM));
            assert_eq!(
                raw_call(libc::SYS_socket, [40, 1, 0, 0, 0, 0]),
                Err(Errno::EPERM)
            );
            assert_eq!(raw_call(libc::SYS_clone3, [0; 6]), Err(Errno::ENOSYS));
            // Numbers no kernel has: newer than all the profile names.
            assert_eq!(raw_call(511, [0; 6]), Err(Errno::ENOSYS));
            assert!(raw_call(libc::SYS_getpid, [0; 6]).is_ok());
        }
        Ok("kill") => {
            let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getppid"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
            load(&parse(text));
            let survived = raw_call(libc::SYS_getppid, [0; 6]);
            panic!("{survived:?}");
        }
        Ok("notify") => {
            let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/none","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "syscalls":[{"names":["getppid"],"action":"SCMP_ACT_NOTIFY"}]}"#;
            let fd = load(&parse(text)).expect("a notify descriptor");
            let flags = fcntl(&fd, FcntlArg::F_GETFD).unwrap();
            assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
            drop(fd);
            // A listener that went away: the kernel answers instead of waiting.
            assert_eq!(raw_call(libc::SYS_getppid, [0; 6]), Err(Errno::ENOSYS));
        }
        Ok("unprivileged") => {
            // Neither no_new_privs nor privilege: the error must say what failed and why.
            nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
            let error = install(&compile(&docker()).unwrap()).expect_err("must be refused");
            assert_eq!(
                format!("{error:#}"),
                "load the seccomp filter: EACCES: Permission denied"
            );
        }
        Ok(other) => panic!("no case {other}"),
        Err(_) => (),
    }
}

fn play(case: &str) -> ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "seccomp::kernel::child", "--nocapture"])
        .env(CASE, case)
        .output()
        .unwrap();
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status
}

#[test]
fn conditions_and_errnos_reach_the_caller() {
    assert!(play("conditions").success());
}

#[test]
fn docker_s_profile_denies_and_answers_enosys() {
    assert!(play("docker").success());
}

#[test]
fn a_killing_rule_kills() {
    assert_eq!(play("kill").signal(), Some(libc::SIGSYS));
}

#[test]
fn a_notify_rule_gives_a_descriptor() {
    assert!(play("notify").success());
}

#[test]
fn without_privilege_the_kernel_refuses() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root to give up root");
        return;
    }
    assert!(play("unprivileged").success());
}
