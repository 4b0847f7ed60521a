//! Runs hooks (config.md "POSIX-platform Hooks"; H1). Called by `container` (prestart, createRuntime, poststart, poststop) and, in
//! the container's namespaces, by `init` (createContainer, startContainer).
//!
//! A hook gets the state on stdin, a pipe as stdout and stderr, nothing else: every descriptor of the runtime is
//! close-on-exec. It keeps the working directory of its runner, has its own process group and an empty signal mask. It has
//! ended when its first process has; what it leaves behind is not waited for, even with the pipe still open.

mod process;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Whence, lseek, pipe2, write};

use crate::fs::culprit;
use crate::plan::hooks::Hook;
use crate::sys::process::default_signal;
use crate::sys::wait::Exit;
use process::{Watch, output_pipe, spawn};

/// How long a killed hook may take to be gone before it is left alone (uninterruptible sleep).
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Runs the hooks in order; the first failure ends it. The environment of each is exactly its `env`.
pub(crate) fn run(hooks: &[Hook], kind: &str, state: &[u8]) -> Result<()> {
    run_with_env(hooks, kind, state, &[])
}

/// The same, with the environment for hooks whose object has no `env`: `process.env` for startContainer, as with runc.
pub(crate) fn run_with_env(
    hooks: &[Hook],
    kind: &str,
    state: &[u8],
    default_env: &[String],
) -> Result<()> {
    if !hooks.is_empty() {
        // Inherited as ignored, it would make the kernel throw exit codes away.
        default_signal(libc::SIGCHLD).context("reset SIGCHLD")?;
    }
    for (index, hook) in hooks.iter().enumerate() {
        let env = hook.env.as_deref().unwrap_or(default_env);
        run_one(hook, env, state)
            .with_context(|| format!("hooks.{kind}[{index}]: `{}`", hook.path))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, env: &[String], state: &[u8]) -> Result<()> {
    let deadline = hook.timeout().map(|timeout| Instant::now() + timeout);
    let stdin = filled_stdin(state).context("hand over the container's state")?;
    let (output, write_end) = output_pipe().context("make a pipe for the hook's output")?;
    let pid = spawn(hook, env, stdin.as_fd(), write_end.as_fd())?;
    drop((stdin, write_end));

    let mut watch = Watch::new(pid, output);
    let exit = watch.until(deadline)?;
    if exit.is_none() {
        // The group exists as long as its leader is not reaped, so this hits nobody else.
        let _ = killpg(pid, Signal::SIGKILL);
        if watch.until(Some(Instant::now() + KILL_LIMIT))?.is_none() {
            let who = culprit::process_in_cgroup(pid.as_raw());
            bail!("ran past its timeout and could not be killed: {who}");
        }
    }
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        Some(exit) => Err(anyhow!("{exit}{}", watch.printed())),
        None => {
            let seconds = hook.timeout.unwrap_or_default();
            Err(anyhow!(
                "ran past its timeout of {seconds} s and was killed{}",
                watch.printed()
            ))
        }
    }
}

/// A descriptor from which `state` is read to its end. A pipe where it fits into one: nothing is then left to be written when
/// the hook runs, so one that does not read can neither block this process nor send it SIGPIPE. Else a sealed memory file.
fn filled_stdin(state: &[u8]) -> nix::Result<OwnedFd> {
    let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    if write(&write_end, state) == Ok(state.len()) {
        return Ok(read_end);
    }
    let file = memfd_create(
        c"state",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    let mut rest = state;
    while !rest.is_empty() {
        let written = write(&file, rest)?;
        rest = &rest[written..];
    }
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    lseek(&file, 0, Whence::SeekSet)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::unistd::Pid;

    use super::process::TAIL;
    use super::*;

    const PATH: &str = "PATH=/usr/bin:/bin";

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook {
            path: "/bin/sh".into(),
            args,
            env: Some(vec![PATH.to_owned()]),
            timeout: None,
        }
    }

    fn failure(hook: Hook, state: &[u8]) -> String {
        format!(
            "{:#}",
            run(&[shell(":"), hook], "prestart", state).unwrap_err()
        )
    }

    fn alive(file: &Path) -> bool {
        let pid = std::fs::read_to_string(file).unwrap();
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn the_state_comes_on_stdin_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 10, 65_536, 65_537, 1_000_000] {
            let out = dir.path().join(size.to_string());
            let state: Vec<u8> = (0..size)
                .map(|i| b'a' + u8::try_from(i % 26).unwrap())
                .collect();
            run(
                &[shell(&format!("cat > {}", out.display()))],
                "poststop",
                &state,
            )
            .unwrap();
            assert!(std::fs::read(out).unwrap() == state, "{size}");
            // Unread: no SIGPIPE, no blocking.
            run(&[shell("exec <&-; true")], "poststop", &state).unwrap();
        }
    }

    #[test]
    fn the_environment_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let env = |env: Option<&[&str]>, default: &[&str]| {
            let owned = |list: &[&str]| {
                list.iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>()
            };
            // `$$` is the shell, whose environ file shows what execve got.
            let script = format!("tr '\\0' , < /proc/$$/environ > {}", out.display());
            let hook = Hook {
                env: env.map(owned),
                ..shell(&script)
            };
            run_with_env(&[hook], "startContainer", b"{}", &owned(default)).unwrap();
            std::fs::read_to_string(&out).unwrap()
        };
        assert_eq!(env(Some(&[PATH, "A=1"]), &["B=2"]), format!("{PATH},A=1,"));
        assert_eq!(env(None, &[PATH, "B=2"]), format!("{PATH},B=2,"));
    }

    #[test]
    fn no_descriptor_but_stdio_is_given() {
        // Alone, because other tests open descriptors that are not close-on-exec.
        crate::testing::in_own_process("hooks::tests::no_descriptor_but_stdio_is_given_alone");
    }

    #[test]
    #[ignore = "run by no_descriptor_but_stdio_is_given in a process of its own"]
    fn no_descriptor_but_stdio_is_given_alone() {
        // What this process itself was given is F2's matter.
        crate::sys::fd::close_range(3, crate::sys::fd::LAST, crate::sys::fd::Fate::CloseOnExec)
            .unwrap();
        // `ls` has one more, the directory.
        let text = failure(
            shell("ls /proc/self/fd; readlink /proc/self/fd/0 /proc/self/fd/2; exit 1"),
            b"{}",
        );
        let (fds, kinds) = text
            .split_once("output: ")
            .unwrap()
            .1
            .split_at("0; 1; 2; 3; ".len());
        assert_eq!(fds, "0; 1; 2; 3; ");
        assert_eq!(kinds.matches("pipe:[").count(), 2, "{kinds}");
    }

    #[test]
    fn failures_tell_which_why_and_what_was_printed() {
        assert_eq!(
            failure(shell("echo one; echo two >&2; exit 3"), b"{}"),
            "hooks.prestart[1]: `/bin/sh`: exit status 3, output: one; two"
        );
        assert_eq!(
            failure(shell("kill -9 $$"), b"{}"),
            "hooks.prestart[1]: `/bin/sh`: killed by SIGKILL"
        );
        let missing = Hook {
            path: "/no/such".into(),
            ..shell("")
        };
        let text = failure(missing, b"{}");
        assert!(
            text.starts_with("hooks.prestart[1]: `/no/such`: execute: ENOENT: No such file"),
            "{text}"
        );
        let text = failure(
            Hook {
                path: "/etc/passwd".into(),
                ..shell("")
            },
            b"{}",
        );
        assert!(text.contains("Permission denied"), "{text}");
    }

    #[test]
    fn endless_output_is_bounded() {
        let flood =
            "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; echo END; exit 1";
        let text = failure(shell(flood), b"{}");
        assert!(
            text.ends_with("END") && text.len() < 2 * TAIL,
            "{}",
            text.len()
        );
    }

    #[test]
    fn a_timeout_kills_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let (leader, grandchild) = (dir.path().join("leader"), dir.path().join("grandchild"));
        let script = format!(
            "echo $$ > {}; sleep 100 & echo $! > {}; echo late; wait",
            leader.display(),
            grandchild.display()
        );
        let begun = Instant::now();
        let text = failure(
            Hook {
                timeout: Some(1),
                ..shell(&script)
            },
            b"{}",
        );
        assert_eq!(
            text,
            "hooks.prestart[1]: `/bin/sh`: ran past its timeout of 1 s and was killed, output: late"
        );
        assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&begun.elapsed()));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!alive(&leader) && !alive(&grandchild));
    }

    #[test]
    fn a_timeout_holds_against_a_flood() {
        let hook = Hook {
            timeout: Some(1),
            ..shell("while :; do echo x; done")
        };
        let begun = Instant::now();
        assert!(failure(hook, b"{}").contains("ran past its timeout of 1 s"));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let grandchild = dir.path().join("grandchild");
        let hook = shell(&format!("sleep 60 & echo $! > {}", grandchild.display()));
        let begun = Instant::now();
        run(&[hook], "poststart", b"{}").unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(
            alive(&grandchild),
            "what a hook leaves behind is not killed"
        );
        let pid = std::fs::read_to_string(&grandchild)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
}
