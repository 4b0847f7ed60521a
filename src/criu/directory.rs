//! The directories that CRIU works in: opened once, and looked at before CRIU opens files in them by name. Called by the rest of
//! `criu` and by `container`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::Pid;

/// CRIU's name in a directory of images for the link to the one before it.
const PARENT: &str = "parent";
/// Nobody makes more steps before a checkpoint.
const MOST_PARENTS: usize = 1000;

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

    /// Where CRIU's own files go, which it opens by these names for writing: the images' directory unless there is another.
    pub(crate) fn for_work(
        work: Option<&Path>,
        images: &Path,
        names: &[&str],
    ) -> Result<Directory> {
        let directory = match work {
            Some(path) => Directory::make("--work-path", path)?,
            None => Directory::open("--image-path", images)?,
        };
        for name in names {
            directory.check_file(name)?;
        }
        Ok(directory)
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The same directory in the mount namespace of a worker, which could not mount anything in one of another. By its own path:
    /// an absolute link on the way (containerd's work directory is one) leads back into this process's namespace.
    pub(crate) fn seen_by(&self, worker: Pid) -> Result<Directory> {
        let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let path = std::fs::read_link(&own).with_context(|| format!("read `{own}`"))?;
        let path = path.strip_prefix("/").unwrap_or(&path);
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

    /// A link or a device there would lead CRIU away.
    fn check_file(&self, name: &str) -> Result<()> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(stat) if stat.st_mode & libc::S_IFMT == SFlag::S_IFREG.bits() => Ok(()),
            Ok(_) => bail!(
                "{}: `{}` is not a regular file",
                self.option,
                self.path_of(name).display()
            ),
            Err(errno) => Err(errno).with_context(|| format!("{}: look at `{name}`", self.option)),
        }
    }

    /// An image from elsewhere may hold a link where CRIU reads or writes one of its files, and so the host's; a fifo would
    /// keep it for ever. This directory and its parents have neither; `parent` itself is a link (R1).
    pub(crate) fn check_images(&self) -> Result<()> {
        let mut at = self.check_files()?;
        let mut path = self.path.clone();
        for _ in 0..MOST_PARENTS {
            let Some(parent) = at else {
                return Ok(());
            };
            path.push(PARENT);
            let parent = Directory {
                fd: parent,
                path: path.clone(),
                option: self.option,
            };
            at = parent.check_files()?;
        }
        bail!(
            "{}: `{}` has more than {MOST_PARENTS} parents",
            self.option,
            self.path.display()
        )
    }

    /// The directory that `parent` leads to.
    fn check_files(&self) -> Result<Option<OwnedFd>> {
        let read = || format!("{}: read `{}`", self.option, self.path.display());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut parent = None;
        for entry in Dir::openat(&self.fd, ".", flags, Mode::empty())
            .with_context(read)?
            .iter()
        {
            let entry = entry.with_context(read)?;
            let name = entry.file_name();
            let kind = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => {
                    SFlag::from_bits_truncate(other.with_context(read)?.st_mode & libc::S_IFMT)
                }
            };
            if kind == SFlag::S_IFLNK && name.to_bytes() == PARENT.as_bytes() {
                let path = || format!("{}: open `{}/{PARENT}`", self.option, self.path.display());
                let fd = openat(&self.fd, PARENT, flags, Mode::empty()).with_context(path)?;
                parent = Some(fd);
                continue;
            }
            // Sockets: of a page server that is still there.
            ensure!(
                [SFlag::S_IFREG, SFlag::S_IFDIR, SFlag::S_IFSOCK].contains(&kind),
                "{}: `{}/{}` is not a regular file",
                self.option,
                self.path.display(),
                name.to_string_lossy()
            );
        }
        Ok(parent)
    }

    /// A regular file in it, never what a link there points to.
    pub(crate) fn open_file(&self, name: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        openat(&self.fd, name, flags, Mode::empty())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_log_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("restore.log")).unwrap();
        let work = Directory::open("--work-path", dir.path()).unwrap();
        assert!(work.check_file("restore.log").is_err());
        assert!(work.check_file("dump.log").is_ok());
        assert_eq!(work.open_file("restore.log").unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn links_and_fifos_are_no_images() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        for path in [&old, &new] {
            std::fs::create_dir(path).unwrap();
            std::fs::File::create_new(path.join("core-1.img")).unwrap();
        }
        symlink("../old", new.join("parent")).unwrap();
        let images = Directory::open("--image-path", &new).unwrap();
        images.check_images().unwrap();
        let secret = old.join("pages-1.img");
        symlink("/etc/shadow", &secret).unwrap();
        let error = images.check_images().unwrap_err().to_string();
        let wanted = format!(
            "--image-path: `{}/parent/pages-1.img` is not",
            new.display()
        );
        assert!(error.starts_with(&wanted), "{error}");
        std::fs::remove_file(&secret).unwrap();
        nix::unistd::mkfifo(&secret, Mode::S_IRWXU).unwrap();
        assert!(images.check_images().is_err());
        std::fs::remove_file(&secret).unwrap();
        images.check_images().unwrap();
        // One that leads to itself.
        symlink("../new", old.join("parent")).unwrap();
        let error = images.check_images().unwrap_err().to_string();
        assert!(error.contains("parents"), "{error}");
    }
}
