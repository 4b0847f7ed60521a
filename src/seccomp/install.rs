//! Loads a compiled filter into the calling process. Called by the init steps, which set no_new_privs themselves
//! and choose the moment (N2): after this call everything the process does passes the filter.

use std::os::fd::OwnedFd;

use anyhow::{Error, Result};
use nix::errno::Errno;

use super::Program;
use crate::sys;

/// One system call, or two on a kernel without a flag that is only wished for. Returns the notify descriptor of a
/// filter that has rules for a listener; nothing is called between the load and the return.
pub(crate) fn install(program: &Program) -> Result<Option<OwnedFd>> {
    let mut loaded = sys::seccomp::set_filter(&program.filter, program.flags);
    // EINVAL may mean the flag or the program; the program is ours and tested, so the flag it is.
    if loaded.as_ref().err() == Some(&Errno::EINVAL) && program.optional_flags != 0 {
        loaded = sys::seccomp::set_filter(&program.filter, program.flags & !program.optional_flags);
    }
    loaded.map_err(|errno| {
        let hint = if errno == Errno::EBUSY {
            Some(
                "rundlet itself runs under a filter with a listener, and the kernel takes one"
                    .to_owned(),
            )
        } else {
            demanded(program)
        };
        let text = match hint {
            Some(hint) => format!("load the seccomp filter (hint: {hint})"),
            None => "load the seccomp filter".to_owned(),
        };
        Error::new(errno).context(text)
    })
}

/// What the kernel may lack, when it was asked for more than a plain filter.
fn demanded(program: &Program) -> Option<String> {
    let required = program.flags & !program.optional_flags;
    (required != 0).then(|| format!("flags {required:#x}"))
}
