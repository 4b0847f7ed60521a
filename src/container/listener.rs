//! The notify descriptor of a filter with SCMP_ACT_NOTIFY: taken out of the process that has loaded the filter and handed to
//! the agent at `linux.seccomp.listenerPath`. Called by `creating.rs` and `exec.rs` when the process says that it is there.
//!
//! The process may be waiting for the agent from that moment on, in whatever call it makes: nothing here waits for it.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};

use crate::console;
use crate::plan::seccomp::Listener;
use crate::plan::state::{Filtered, State};
use crate::sys::{pidfd, unix};

/// Takes descriptor `number` of the process and sends it with the process's state, in one message. No copy stays.
pub(super) fn hand_over(
    listener: &Listener,
    state: &State,
    process: &Filtered<'_>,
    pidfd: BorrowedFd<'_>,
    number: i32,
) -> Result<()> {
    let descriptor = pidfd::take_fd(pidfd, number).with_context(|| {
        format!(
            "linux.seccomp: take the notify descriptor out of process {} (needs CAP_SYS_PTRACE)",
            process.pid
        )
    })?;
    let document = state.process_json(process)?;
    // A relative path starts at the bundle, for exec as well.
    let path = state.bundle.join(&listener.path);
    let socket = console::connect("linux.seccomp.listenerPath", &path)?;
    unix::send(socket.as_fd(), &document, Some(descriptor.as_fd()))
        .with_context(|| format!("linux.seccomp.listenerPath: send to `{}`", path.display()))
}
