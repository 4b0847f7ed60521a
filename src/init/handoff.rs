//! The last steps: find the program, report, wait for `start`, close everything, become the program.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, access};

use super::{Child, landlock};
use crate::proto::{FromInit, ToInit};
use crate::{fs, hooks, seccomp, sys, timings};

/// Where programs are looked for when `process.env` has no PATH: nowhere, as with runc, so that the error names the cause.
const NO_PATH: &str = "";

/// When the filter is loaded (N2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// While root: without no_new_privs it needs a right that is dropped soon.
    WithPrivileges,
    /// Before `Ready`: the runtime, which hands the notify descriptor on, does not wait for `start`.
    BeforeStart,
    /// Right before execve(2), with no step under it.
    Last,
}

fn loading(child: &Child<'_>) -> Option<Loading> {
    let filter = child.filter?;
    Some(if !child.process.no_new_privileges {
        Loading::WithPrivileges
    } else if filter.notify {
        Loading::BeforeStart
    } else {
        Loading::Last
    })
}

pub(super) fn seccomp_with_privileges(child: &mut Child<'_>) -> Result<()> {
    load_filter_if(child, Loading::WithPrivileges)
}

pub(super) fn seccomp_with_listener(child: &mut Child<'_>) -> Result<()> {
    load_filter_if(child, Loading::BeforeStart)
}

fn load_filter_if(child: &Child<'_>, now: Loading) -> Result<()> {
    if loading(child) != Some(now) {
        return Ok(());
    }
    // Now and not in `execute`: a profile older than close_range(2) refuses it.
    close_for_program(child)?;
    load_filter(child)
}

fn load_filter(child: &Child<'_>) -> Result<()> {
    let Some(filter) = child.filter else {
        return Ok(());
    };
    // From here to the agent's first answer nothing may be called that the filter may hand to it: see `give_listener`.
    if let Some(listener) = seccomp::install(filter)? {
        child.end()?.give_listener(listener.as_fd())?;
        // Closed here: with a copy in the container calls would wait for ever for an agent that has ended.
    }
    Ok(())
}

/// Looks `process.args[0]` up with the container's PATH and as the container's user, so that `create` fails and not `start`.
/// The host's descriptors are closed by now, so none of them is a way to a program (W2).
/// Engines turn the wording into exit codes: `executable file not found` and `no such file or directory` into 127,
/// `permission denied` and `is a directory` into 126.
pub(super) fn find_program(child: &mut Child<'_>) -> Result<()> {
    let name = child.process.args[0].as_str();
    let found = if name.contains('/') {
        runnable(name).with_context(|| format!("process.args[0]: exec: {name:?}"))?;
        name.to_owned()
    } else {
        let path = child
            .process
            .env
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH="));
        search(name, path.unwrap_or(NO_PATH))?
    };
    let found = CString::new(found)?;
    // A filter that is loaded by now may not take the question.
    if loading(child) != Some(Loading::WithPrivileges) {
        landlock::check_program(child, &found)?;
    }
    child.program = Some(found);
    Ok(())
}

/// As Go's LookPath and so as runc: a file that may not be executed counts as not found.
fn search(name: &str, path: &str) -> Result<String> {
    let mut unfit = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty()) {
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(_) if Path::new(&candidate).exists() => unfit = Some(candidate),
            Err(_) => {}
        }
    }
    let hint = unfit
        .map(|file| format!(" (hint: `{file}` is there but may not be executed)"))
        .unwrap_or_default();
    bail!("process.args[0]: exec: {name:?}: executable file not found in $PATH{hint}")
}

fn runnable(path: &str) -> Result<()> {
    let kind = SFlag::from_bits_truncate(
        stat(Path::new(path))
            .with_context(|| format!("stat {path}"))?
            .st_mode,
    );
    // Both of the words that callers know for it.
    ensure!(
        kind & SFlag::S_IFMT != SFlag::S_IFDIR,
        "is a directory: permission denied"
    );
    access(Path::new(path), AccessFlags::X_OK).map_err(Into::into)
}

/// Reports that all is set, waits until the runtime has recorded it, then (with `create`) until `start` opens the gate. What can
/// not fail any more is done while the runtime does that.
pub(super) fn await_start(child: &mut Child<'_>) -> Result<()> {
    child.end()?.send(&FromInit::Ready)?;
    child.strings = Some(strings_of(child)?);
    child.end()?.expect(ToInit::Committed)?;
    // It stays open until the program runs: that is how `start` sees when to run poststart hooks.
    let Some(gate) = child.container.as_ref().and_then(|part| part.gate.as_ref()) else {
        return Ok(());
    };
    // The runtime that made this container ends now; from here on `start` is the only one to talk to.
    child.end = None;
    // A filter that is loaded by now may not take the calls to wait with little memory.
    let idle = matches!(loading(child), None | Some(Loading::Last));
    loop {
        // Held open for writing as well, so this blocks until a byte comes, and never sees an end of file.
        let read = if idle {
            sys::memory::read_idle(gate.as_fd())
        } else {
            nix::unistd::read(gate, &mut [0_u8; 1])
        };
        match read {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait on exec.fifo"),
        }
    }
}

pub(super) fn start_container_hooks(child: &mut Child<'_>) -> Result<()> {
    let process_env = &child.process.env;
    let Some(part) = child.container.as_mut() else {
        return Ok(());
    };
    let plan = part.plan;
    let hooks = &plan.hooks.start_container;
    if hooks.is_empty() {
        return Ok(());
    }
    hooks::run_with_env(
        hooks,
        "startContainer",
        &plan.state.json("created", part.host_pid)?,
        process_env,
    )
}

/// Closes what the program is not to have, for execve(2) resolves its path before close-on-exec acts (F2); loads the filter if
/// no_new_privs allows to do that last (N2); becomes the program.
pub(super) fn execute(child: &mut Child<'_>) -> Result<()> {
    let program = child
        .program
        .take()
        .context("the program was not looked up")?;
    let (args, env) = child.strings.take().context("the program was not ready")?;
    // Where the filter is loaded already, so was this done, and no step since has opened anything.
    if matches!(loading(child), None | Some(Loading::Last)) {
        close_for_program(child)?;
    }
    for fd in 0..child.preserved {
        sys::fd::clear_cloexec(3 + fd)
            .with_context(|| format!("preserve descriptor {}", 3 + fd))?;
    }
    if loading(child) == Some(Loading::Last) {
        load_filter(child)?;
    }
    timings::phase("execve");
    let errno = sys::process::exec(&program, &args, &env);
    Err(errno).with_context(|| landlock::exec_message(child, &program))
}

/// Arguments and environment of the program, as execve(2) takes them.
fn strings_of(child: &mut Child<'_>) -> Result<(Vec<CString>, Vec<CString>)> {
    let process = child.process;
    let mut env = process.env.clone();
    set_home(&mut env, process.user.uid, child.home.take());
    let strings = |list: Vec<String>| {
        list.into_iter()
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()
    };
    let args = strings(process.args.clone()).context("process.args")?;
    Ok((args, strings(env).context("process.env")?))
}

/// Closes all but stdio, what was to be preserved, the socket and the fifo. Both of these are close-on-exec, and neither is
/// anything to execve by (F2).
fn close_for_program(child: &Child<'_>) -> Result<()> {
    let gate = child
        .container
        .as_ref()
        .and_then(|part| part.gate.as_ref())
        .map(AsRawFd::as_raw_fd);
    let keep: Vec<_> = child
        .end
        .iter()
        .map(|end| end.as_fd().as_raw_fd())
        .chain(gate)
        .collect();
    sys::fd::close_all_but(3 + child.preserved, &keep).context("close descriptors")
}

/// HOME out of the container's /etc/passwd where it is unset or empty (U1), `/` where that has no answer.
fn set_home(env: &mut Vec<String>, uid: u32, known: Option<String>) {
    if has_home(env) {
        return;
    }
    env.retain(|variable| variable != "HOME=");
    let home = known.unwrap_or_else(|| home_of(uid));
    env.push(format!("HOME={home}"));
}

pub(super) fn has_home(env: &[String]) -> bool {
    env.iter().any(|variable| {
        variable
            .strip_prefix("HOME=")
            .is_some_and(|home| !home.is_empty())
    })
}

pub(super) fn home_of(uid: u32) -> String {
    fs::passwd::home_of(uid).unwrap_or_else(|| "/".to_owned())
}
