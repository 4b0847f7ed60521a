//! What unit tests of several modules need: processes of their own, for those that change what belongs to the whole
//! process (descriptors, signal mask, children); the runtime-spec's schema.

use std::process::Command;

use crate::sys::wait::{Exit, wait_child};

#[path = "../tests/runtime_spec/mod.rs"]
pub(crate) mod runtime_spec;

/// The command that runs the ignored test `name` (its path below the crate) in a fresh process.
pub(crate) fn own_process(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
        name,
    ]);
    command
}

/// Runs it, and fails as it does.
pub(crate) fn in_own_process(name: &str) {
    let output = own_process(name).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {}\n{text}",
        output.status
    );
}

/// Runs `test` in a process with one thread: the harness keeps a second one even in a process of its own.
pub(crate) fn single_threaded(test: fn()) {
    let child = crate::sys::process::fork_for_test(test);
    assert_eq!(wait_child(child), Ok(Exit::Code(0)));
}
