//! The few errors code branches on, and the form in which every other one, an `anyhow` chain, is printed once: by `cli`, or
//! on its way out of the container by `init`.
//!
//! What must be true of a chain, because [`report`] reads it: a part that concerns config.json begins with the JSON path of the
//! field (`linux.namespaces[0].path: ...`), and what to do about it stands behind it as `(hint: ...)`. Traps that any step can
//! fall into are in `hints`.

mod hints;

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

/// A step of the container's process failed; this is what it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepFailed {
    /// Name of the step, as in the step tables of `init`.
    pub(crate) step: String,
    /// errno at the root of the error, 0 if there was none.
    pub(crate) errno: i32,
    /// The whole chain, outermost first.
    pub(crate) chain: String,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain)
    }
}

impl std::error::Error for StepFailed {}

/// An error as it is told: the line for people and engines, and its parts for programs that read the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// One line: what was done, with which field, the kernel's reason, what to do.
    pub(crate) message: String,
    /// JSON path into config.json.
    pub(crate) field: Option<String>,
    /// Of the step tables of `init`. What the runtime does itself has the phase of `timings`, which `cli` fills in.
    pub(crate) step: Option<String>,
    /// `ENOENT`
    pub(crate) errno: Option<String>,
    pub(crate) hint: Option<String>,
}

pub(crate) fn report(error: &anyhow::Error) -> Report {
    let failed = error.downcast_ref::<StepFailed>();
    let errno = match failed {
        Some(failed) => (failed.errno != 0).then(|| Errno::from_raw(failed.errno)),
        None => error.chain().find_map(errno_of),
    };
    let mut message = chain(error);
    let mut hint = hint_in(&message);
    if hint.is_none()
        && let Some(known) = hints::of(&message, errno)
    {
        message.push_str(" (hint: ");
        message.push_str(known);
        message.push(')');
        hint = Some(known.to_owned());
    }
    Report {
        field: field_in(&message),
        step: failed.map(|failed| failed.step.clone()),
        errno: errno.map(|errno| format!("{errno:?}")),
        hint,
        message,
    }
}

/// The first part of a message that begins with a JSON path into config.json. A bare name of the top level is one only where
/// it is the whole part: `root: is required`, but not `process 12 has ended`.
fn field_in(message: &str) -> Option<String> {
    const TOP: [&str; 14] = [
        "ociVersion",
        "process",
        "root",
        "hostname",
        "domainname",
        "mounts",
        "hooks",
        "annotations",
        "linux",
        "vm",
        "zos",
        "windows",
        "solaris",
        "freebsd",
    ];
    message.split(": ").find_map(|part| {
        let name = part.split(['.', '[', ' ']).next()?;
        if !TOP.contains(&name) || (name == part.split(' ').next()? && name != part) {
            return None;
        }
        let mut quoted = false;
        let end = part.find(|c: char| {
            quoted ^= c == '"';
            !quoted && !c.is_ascii_alphanumeric() && !"._-[]\"".contains(c)
        });
        Some(part[..end.unwrap_or(part.len())].to_owned())
    })
}

/// The words of `(hint: words)`.
fn hint_in(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("(hint: ")?;
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some(rest[..end].to_owned())
}

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

    #[test]
    fn fields_are_json_paths_and_nothing_else() {
        for (message, field) in [
            ("root: is required", Some("root")),
            (
                "load config: linux.namespaces[0].type: duplicate of `pid`",
                Some("linux.namespaces[0].type"),
            ),
            ("mounts[3]: mount `/x`: invalid argument", Some("mounts[3]")),
            (
                "linux.resources.unified[\"a b.c\"]: no",
                Some("linux.resources.unified[\"a b.c\"]"),
            ),
            (
                "process.args[0]: exec: \"x\": executable file not found in $PATH",
                Some("process.args[0]"),
            ),
            ("linux.memoryPolicy set", Some("linux.memoryPolicy")),
            ("process 12 has ended: no such process", None),
            ("root of the container: no such file or directory", None),
            ("rooted.x: no", None),
        ] {
            assert_eq!(field_in(message).as_deref(), field, "{message}");
        }
    }

    #[test]
    fn a_report_has_the_parts_of_the_chain() {
        let failed = StepFailed {
            step: "rootfs".into(),
            errno: libc::EINVAL,
            chain:
                "mounts[1]: map (hint: this file system (or one below) does not): invalid argument"
                    .into(),
        };
        let told = report(&anyhow::Error::new(failed).context("container init, step `rootfs`"));
        assert_eq!(told.field.as_deref(), Some("mounts[1]"));
        assert_eq!(told.step.as_deref(), Some("rootfs"));
        assert_eq!(told.errno.as_deref(), Some("EINVAL"));
        assert_eq!(
            told.hint.as_deref(),
            Some("this file system (or one below) does not")
        );
        assert!(
            told.message
                .starts_with("container init, step `rootfs`: mounts[1]: map (hint: ")
        );
        let known = report(&Err::<(), _>(Errno::EMFILE).context("open `x`").unwrap_err());
        assert!(
            known.hint.is_some() && known.message.contains("too many open files (hint: "),
            "{known:?}"
        );
        let plain = report(&anyhow::anyhow!("no"));
        assert_eq!(
            plain,
            Report {
                message: "no".into(),
                ..Report::default()
            }
        );
    }
}
