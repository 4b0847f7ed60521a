//! The few errors code branches on, and the form in which every other one, an `anyhow` chain, is printed once: by `cli`, or
//! on its way out of the container by `init`.

use std::fmt;

use nix::errno::Errno;

/// No container of this id is in the state root. Engines match `does not exist`.
#[derive(Debug)]
pub(crate) struct NotExist(pub(crate) String);

impl fmt::Display for NotExist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container `{}` does not exist", self.0)
    }
}

impl std::error::Error for NotExist {}

/// An error's whole chain on one line, outermost first. The kernel's reasons read as callers of runc know and match them:
/// `no such file or directory`, without number or capital letter.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let words = error.chain().map(|cause| match errno_of(cause) {
        Some(errno) => reason(errno),
        None => cause.to_string(),
    });
    words.collect::<Vec<_>>().join(": ").replace('\n', " ")
}

/// The errno that an error is, if it is nothing more.
pub(crate) fn errno_of(cause: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    if let Some(errno) = cause.downcast_ref::<Errno>() {
        return Some(*errno);
    }
    let io = cause.downcast_ref::<std::io::Error>()?;
    io.raw_os_error().map(Errno::from_raw)
}

fn reason(errno: Errno) -> String {
    let text = errno.desc();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    // "RPC version ..." and the like stay as they are.
    if letters
        .clone()
        .next()
        .is_some_and(|second| second.is_ascii_uppercase())
    {
        return text.to_owned();
    }
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn reasons_read_as_callers_match_them() {
        let nix = Err::<(), _>(Errno::ENOENT).context("open `x`").unwrap_err();
        assert_eq!(chain(&nix), "open `x`: no such file or directory");
        let io = std::io::Error::from_raw_os_error(libc::EACCES);
        let io = Err::<(), _>(io)
            .context("write `y`")
            .context("step")
            .unwrap_err();
        assert_eq!(chain(&io), "step: write `y`: permission denied");
        assert_eq!(chain(&anyhow::anyhow!("two\nlines")), "two lines");
    }
}
