//! The command line as callers see it: grammar, exit codes, help, error strings, log lines and the documents on stdout. Runs the
//! real binary; needs no root and makes no container. Where runc is installed, what both must answer alike is compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test"
)]

mod grammar;
mod output;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// The last line of stderr: what engines show.
    pub(crate) fn last(&self) -> &str {
        self.err.trim_end().lines().last().unwrap_or_default()
    }
}

pub(crate) fn ask(program: &str, args: &[impl AsRef<OsStr>], dir: &Path) -> Answer {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Answer {
        code: output.status.code().expect("not ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn rundlet(args: &[&str]) -> Answer {
    ask(env!("CARGO_BIN_EXE_rundlet"), args, Path::new("/"))
}

pub(crate) fn rundlet_in(dir: &TempDir, args: &[&str]) -> Answer {
    ask(env!("CARGO_BIN_EXE_rundlet"), args, dir.path())
}

/// With a state root of its own, so that nothing outside the test is seen.
pub(crate) fn with_root(args: &[&str]) -> Answer {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("state");
    let mut all = vec!["--root", root.to_str().unwrap()];
    all.extend(args);
    rundlet(&all)
}

pub(crate) fn runc(args: &[&str], dir: &Path) -> Option<Answer> {
    let found = Command::new("runc").arg("--version").output().is_ok();
    if !found {
        println!("skipped the comparison: runc is not installed");
        return None;
    }
    Some(ask("runc", args, dir))
}
