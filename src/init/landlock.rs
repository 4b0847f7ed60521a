//! Holds the container's program to the annotations `org.rundlet.landlock.*`: a step of both tables, and what the last steps say when
//! the rules are in their way. By then the process has the container's root and no descriptor of the host.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::SFlag;

use super::Child;
use super::handoff::{has_home, home_of};
use crate::fs::inroot::file_type;
use crate::plan::landlock::{Absence, Landlock, PathRule};
use crate::sys;

pub(super) fn confine(child: &mut Child<'_>) -> Result<()> {
    let Some(rules) = child.landlock else {
        return Ok(());
    };
    let process = child.process;
    // The rules are the program's, and need not let /etc/passwd be read.
    if !has_home(&process.env) {
        child.home = Some(home_of(process.user.uid));
    }
    let ruleset = sys::landlock::create(rules.fs, rules.net, rules.scope)
        .context("make the Landlock ruleset")?;
    let ruleset = ruleset.as_fd();
    for rule in &rules.paths {
        allow(ruleset, rules, rule)
            .with_context(|| format!("{}: `{}`", rule.field(), rule.path))?;
    }
    for rule in &rules.ports {
        sys::landlock::allow_port(ruleset, rule.port, rule.access)
            .with_context(|| format!("{}: port {}", rule.field(), rule.port))?;
    }
    sys::landlock::restrict_self(ruleset).context("put the process under the Landlock rules")
}

/// The path is the very one: through a link the image could widen what was meant (P1).
fn allow(ruleset: BorrowedFd<'_>, rules: &Landlock, rule: &PathRule) -> Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = match openat2(AT_FDCWD, rule.path.as_str(), how) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::ELOOP) if rule.absence == Absence::Ignored => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let is_directory = file_type(file.as_fd())? == SFlag::S_IFDIR;
    let rights = rules.rights(rule.access, is_directory);
    sys::landlock::allow_beneath(ruleset, file.as_fd(), rights).context("add the rule")
}

/// So that `create` fails and not `start`. A kernel that does not take the question says so at `start`.
pub(super) fn check_program(child: &Child<'_>, program: &CStr) -> Result<()> {
    if child.landlock.is_none() {
        return Ok(());
    }
    match sys::landlock::may_execute(program) {
        Err(Errno::EACCES) => Err(Errno::EACCES).with_context(|| exec_message(child, program)),
        _ => Ok(()),
    }
}

pub(super) fn exec_message(child: &Child<'_>, program: &CStr) -> String {
    let under = if child.landlock.is_some() {
        " under Landlock"
    } else {
        ""
    };
    let program = program.to_string_lossy();
    format!("process.args[0]: exec `{program}`{under}")
}
