//! The directories that CRIU works in, and the last words of its log for an error. Called by the rest of `criu` and `container`.

use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::Pid;

/// So many error lines of the log go into an error.
const LINES: usize = 4;
/// And so many bytes of each.
const WIDTH: usize = 300;

/// What CRIU gives as the reason, or how it ended: an error that its log explains.
#[derive(Debug)]
pub(super) struct Failed(pub(super) String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "criu failed: {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// A directory of images or of CRIU's own files, opened once.
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    path: PathBuf,
    option: &'static str,
}

impl Directory {
    /// `option` is the flag that named it.
    pub(crate) fn open(option: &'static str, path: &Path) -> Result<Directory> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .with_context(|| format!("{option}: open `{}`", path.display()))?;
        Ok(Directory {
            fd,
            path: path.to_owned(),
            option,
        })
    }

    /// Made for its owner alone where it is not there: images hold the memory of the processes.
    pub(crate) fn make(option: &'static str, path: &Path) -> Result<Directory> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("{option}: make `{}`", path.display()))?;
        Directory::open(option, path)
    }

    /// Where CRIU's log goes: the images' directory unless there is another.
    pub(crate) fn for_log(work: Option<&Path>, images: &Path, log: &str) -> Result<Directory> {
        let directory = match work {
            Some(path) => Directory::make("--work-path", path)?,
            None => Directory::open("--image-path", images)?,
        };
        directory.check_log(log)?;
        Ok(directory)
    }

    /// The same directory in the mount namespace of a worker, which could not mount anything in one of another.
    pub(crate) fn seen_by(&self, worker: Pid) -> Result<Directory> {
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        let there = Path::new("/proc").join(worker.to_string()).join("root");
        let seen = Directory {
            path: self.path.clone(),
            ..Directory::open(self.option, &there.join(path))?
        };
        let (here, there) = (fstat(&self.fd)?, fstat(&seen.fd)?);
        ensure!(
            (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino),
            "{}: `{}` has just become another directory",
            self.option,
            self.path.display()
        );
        Ok(seen)
    }

    /// CRIU opens its log by name for writing: a link or a device there, of an image from elsewhere, would lead it away.
    fn check_log(&self, name: &str) -> Result<()> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(stat) if stat.st_mode & libc::S_IFMT == SFlag::S_IFREG.bits() => Ok(()),
            Ok(_) => bail!(
                "{}: `{}` is not a regular file",
                self.option,
                self.path.join(name).display()
            ),
            Err(errno) => Err(errno).with_context(|| format!("{}: look at `{name}`", self.option)),
        }
    }

    /// A regular file in it, never what a link there points to.
    pub(crate) fn open_file(&self, name: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        openat(&self.fd, name, flags, Mode::empty())
    }

    /// An error of CRIU's with the last error lines of its log, and where the whole of it is; any other as it is.
    pub(crate) fn explain(&self, name: &str, error: Error) -> Error {
        let Some(Failed(reason)) = error.downcast_ref::<Failed>() else {
            return error;
        };
        let mut lines = self.last_errors(name).unwrap_or_default();
        // CRIU's answer often has one of these lines.
        if !lines.iter().any(|line| reason.contains(line)) {
            lines.insert(0, reason.clone());
        }
        let path = self.path.join(name);
        anyhow!(
            "criu failed: {} (its log is `{}`)",
            lines.join("; "),
            path.display()
        )
    }

    fn last_errors(&self, name: &str) -> Result<Vec<String>> {
        let file = std::fs::File::from(self.open_file(name)?);
        Ok(error_lines(&mut BufReader::new(file)))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The last lines that CRIU marks as errors, without what could do harm on a terminal.
fn error_lines(log: &mut impl std::io::BufRead) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut line = Vec::new();
    while log
        .by_ref()
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line);
        // `(00.52) Error (criu/mount.c:12): what is wrong`
        if let Some((_, place_and_text)) = text.split_once("Error (") {
            let text = place_and_text
                .split_once("): ")
                .map_or("", |(_, text)| text);
            let shown = text.chars().filter(|c| !c.is_control()).take(WIDTH);
            if found.len() == LINES {
                found.remove(0);
            }
            found.push(shown.collect::<String>().trim().to_owned());
        }
        line.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_a_log() {
        let lines: Vec<_> = (0..6)
            .map(|line| {
                format!("(00.2) Error (criu/mount.c:{line}): no\x1b[2J mapping\n(00.3) fine\n")
            })
            .collect();
        let log = lines.concat();
        let found = error_lines(&mut log.as_bytes());
        assert_eq!(found.len(), LINES);
        assert_eq!(found[3], "no[2J mapping");
        assert!(error_lines(&mut &b"all well\n\xff\xfe"[..]).is_empty());
    }

    #[test]
    fn a_log_that_is_a_link_is_refused_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("restore.log")).unwrap();
        let work = Directory::open("--work-path", dir.path()).unwrap();
        assert!(work.check_log("restore.log").is_err());
        assert!(work.check_log("dump.log").is_ok());
        assert_eq!(work.open_file("restore.log").unwrap_err(), Errno::ELOOP);
        let error = work.explain("restore.log", Failed("no reason".to_owned()).into());
        let text = format!("{error:#}");
        assert!(
            text.starts_with("criu failed: no reason (its log is `"),
            "{text}"
        );
        let own = work.explain("restore.log", Error::msg("hooks.prestart[0]"));
        assert_eq!(format!("{own:#}"), "hooks.prestart[0]");
    }
}
