//! Files that readers must see whole or not at all: pid files and the state record.
//! Called by `container` and by `cli`. A reader that polls (containerd, conmon) never sees a half-written
//! file, and a link that somebody left at the temporary name is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::fd::done;

/// Writes `bytes` to `.NAME` in `dir`, then renames it to `name`; `mode` is still cut by the umask.
pub(crate) fn replace(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode, bytes: &[u8]) -> Result<()> {
    write_beside(dir, name, mode, bytes)?;
    put(dir, name, name)
}

/// The first half of [`replace`].
pub(crate) fn write_beside(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: Mode,
    bytes: &[u8],
) -> Result<()> {
    let temporary = beside(name);
    let written = write_new(dir, &temporary, mode, bytes);
    if written.is_err() {
        remove(dir, &temporary);
    }
    written
}

/// The second half: what was written beside `written` takes the name.
pub(crate) fn put(dir: BorrowedFd<'_>, written: &OsStr, name: &OsStr) -> Result<()> {
    let temporary = beside(written);
    let renamed = renameat(dir, temporary.as_os_str(), dir, name)
        .with_context(|| format!("rename `{}` into place", temporary.display()));
    if renamed.is_err() {
        remove(dir, &temporary);
    }
    renamed
}

fn beside(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary
}

/// The first error is the one to report; a left-over is replaced by the next try anyway.
fn remove(dir: BorrowedFd<'_>, temporary: &OsStr) {
    let _ = unlinkat(dir, temporary, UnlinkatFlags::NoRemoveDir);
}

/// The pid in decimal and nothing else: engines parse the whole content as an integer.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("pid file `{}` has no file name", path.display()))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = openat(AT_FDCWD, parent, flags, Mode::empty())
        .with_context(|| format!("open directory of pid file `{}`", path.display()))?;
    replace(
        std::os::fd::AsFd::as_fd(&dir),
        name,
        Mode::from_bits_truncate(0o666),
        pid.to_string().as_bytes(),
    )
    .with_context(|| format!("write pid file `{}`", path.display()))
}

fn write_new(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode, bytes: &[u8]) -> Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let opened = match openat(dir, name, flags, mode) {
        // What a killed runtime left behind must not make every later write fail.
        Err(Errno::EEXIST) => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
                .with_context(|| format!("remove stale `{}`", name.display()))?;
            openat(dir, name, flags, mode)
        }
        other => other,
    };
    let fd = opened.with_context(|| format!("create `{}`", name.display()))?;
    let mut file = File::from(fd);
    let written = file.write_all(bytes);
    done(file.into());
    written.with_context(|| format!("write `{}`", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_pid_file_holds_digits_only_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.pid");
        write_pid_file(&path, 4711).unwrap();
        write_pid_file(&path, 12).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"12");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_at_the_temporary_name_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        symlink(&victim, dir.path().join(".state")).unwrap();
        let fd = File::open(dir.path()).unwrap();
        replace(
            std::os::fd::AsFd::as_fd(&fd),
            OsStr::new("state"),
            Mode::from_bits_truncate(0o600),
            b"{}",
        )
        .unwrap();
        assert!(!victim.exists());
        let state = dir.path().join("state");
        assert!(state.symlink_metadata().unwrap().is_file());
        assert_eq!(
            state.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn the_error_names_the_file_and_the_errno() {
        let error = write_pid_file(Path::new("/nonexistent-dir/x.pid"), 1).unwrap_err();
        let text = format!("{error:#}").to_lowercase();
        assert!(text.contains("/nonexistent-dir/x.pid"), "{text}");
        assert!(text.contains("no such file or directory"), "{text}");
    }
}
