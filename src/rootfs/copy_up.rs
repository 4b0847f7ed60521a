//! `tmpcopyup`: a tmpfs starts with a copy of the directory that it covers. Called by `mount.rs`. The directory is the
//! image's, so hostile: entries are opened without following links, nothing but a regular file is ever read.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, futimens, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{fchownat, symlinkat};

use crate::fs::inroot;

/// Directories below each other that are copied; each level holds two descriptors.
const MAX_DEPTH: usize = 128;

/// Copies what is in `from` (and its owner) to the empty `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    copy_entries(from, to, MAX_DEPTH)?;
    set_owner(to, &fstat(from).context("stat")?)
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth == 0 {
        bail!("more than {MAX_DEPTH} directories below each other");
    }
    for name in names(from)? {
        copy_entry(from, to, &name, depth).with_context(|| format!("copy `{}`", name.display()))?;
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = openat(directory, ".", flags, Mode::empty()).context("open the directory")?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd).context("read the directory")?.iter() {
        let entry = entry.context("read the directory")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<()> {
    let source = inroot::entry(from, name).context("open")?;
    let stat = fstat(&source).context("stat")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).context("mkdir")?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let made = openat(to, name, flags, Mode::empty()).context("open the copy")?;
            copy_entries(source.as_fd(), made.as_fd(), depth - 1)?;
            set_all(&made, &stat)
        }
        SFlag::S_IFREG => copy_file(from, to, name, &stat),
        SFlag::S_IFLNK => {
            let target = readlinkat(&source, "").context("readlink")?;
            symlinkat(target.as_os_str(), to, name).context("symlink")?;
            set_owner(
                inroot::entry(to, name).context("open the copy")?.as_fd(),
                &stat,
            )
        }
        // Devices, fifos, sockets: the umask is 0, so the mode is exact.
        _ => {
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
            mknodat(to, name, kind, mode, stat.st_rdev).context("mknod")?;
            set_owner(
                inroot::entry(to, name).context("open the copy")?.as_fd(),
                &stat,
            )
        }
    }
}

fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    stat: &FileStat,
) -> Result<()> {
    // The name may have become a fifo since it was looked at: that must not block.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let source = openat(from, name, flags, Mode::empty()).context("open")?;
    let again = fstat(&source).context("stat")?;
    if (again.st_dev, again.st_ino) != (stat.st_dev, stat.st_ino) {
        bail!("it was exchanged while it was being copied");
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).context("create the copy")?;
    let mut made = File::from(made);
    std::io::copy(&mut File::from(source), &mut made).context("copy its content")?;
    set_all(&OwnedFd::from(made), stat)
}

fn set_owner(fd: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
    let (uid, gid) = (Some(stat.st_uid.into()), Some(stat.st_gid.into()));
    fchownat(fd, "", uid, gid, AtFlags::AT_EMPTY_PATH).context("chown the copy")
}

/// Owner first: changing it takes away the set-user-id bit.
fn set_all(fd: &OwnedFd, stat: &FileStat) -> Result<()> {
    set_owner(fd.as_fd(), stat)?;
    fchmod(fd, Mode::from_bits_truncate(stat.st_mode & 0o7777)).context("chmod the copy")?;
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    futimens(fd, &accessed, &modified).context("set the times of the copy")
}
