//! Hands the commit to the program as `RUNDLET_COMMIT`. A build outside of a repository says `unknown`;
//! packagers set the variable themselves.
#![allow(clippy::print_stdout, reason = "cargo reads a build script's stdout")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RUNDLET_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // The reflog's end moves with every commit; HEAD itself only with the branch.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let given = std::env::var("RUNDLET_COMMIT").ok();
    let commit = given.or_else(head).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=RUNDLET_COMMIT={commit}");
}

fn head() -> Option<String> {
    if !Path::new(".git").exists() {
        // Below somebody else's repository git would name a commit that is not ours.
        return None;
    }
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
