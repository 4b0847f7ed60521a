//! One cgroup directory as a descriptor, and the small file operations in it. Everything below a mount point is
//! looked up beneath that mount without following links or crossing mounts (G1).

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};

use super::path;
use crate::fs::small;
use crate::sys::fd::Later;

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// A cgroup directory. `O_PATH`: it costs nothing, and clone3 and bpf take it.
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    fd: Rc<Later>,
    /// For messages, and for the bind mounts of a v1 container; never given to a file operation here.
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// A directory was removed: looked up by name it is missing, by descriptor its files answer ENODEV.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

impl Dir {
    /// The root of a hierarchy. The mount point is the host's and trusted.
    pub(crate) fn mount(path: &Path) -> Result<Self> {
        let fd = openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
            .with_context(|| format!("open cgroup mount `{}`", path.display()))?;
        Ok(Self {
            fd: Rc::new(Later::new(fd)),
            path: path.to_owned(),
        })
    }

    /// An existing cgroup by its clean path below this one.
    pub(crate) fn below(&self, rel: &str) -> nix::Result<Self> {
        let name = if rel.is_empty() { "." } else { rel };
        let fd = self.open_below(name, DIRECTORY)?;
        Ok(Self {
            fd: Rc::new(Later::new(fd)),
            path: if rel.is_empty() {
                self.path.clone()
            } else {
                self.path.join(rel)
            },
        })
    }

    fn open_below(&self, rel: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
        loop {
            match openat2(self, rel, how) {
                // EAGAIN: something was renamed meanwhile and the kernel could not be sure to be still beneath.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    /// The whole of a file of a cgroup below this one.
    pub(crate) fn read_below(&self, rel: &str) -> nix::Result<String> {
        let file = Later::new(self.open_below(rel, OFlag::O_RDONLY)?);
        let bytes = small::read_open(file)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The parent of a cgroup that was reached by `below`: cgroups never move to another parent.
    fn up(&self) -> nix::Result<Self> {
        let fd = openat(self, "..", DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
        let path = self.path.parent().unwrap_or(&self.path).to_owned();
        Ok(Self {
            fd: Rc::new(Later::new(fd)),
            path,
        })
    }

    /// Goes through this cgroup and all below it, `enter` on the way down and `leave(parent, name)` on the way up. A container
    /// decides how deep its cgroups are, so neither the stack nor the number of descriptors grows with them. What vanishes
    /// meanwhile is passed over.
    pub(crate) fn walk(
        &self,
        enter: &mut dyn FnMut(&Dir) -> nix::Result<()>,
        leave: &mut dyn FnMut(&Dir, &str) -> nix::Result<()>,
    ) -> nix::Result<()> {
        let children = |dir: &Dir| match dir.children() {
            Err(errno) if is_gone(errno) => Ok(Vec::new()),
            result => result,
        };
        enter(self)?;
        let mut here = self.below("")?;
        let mut names: Vec<String> = Vec::new();
        let mut pending = vec![children(self)?];
        loop {
            let next = pending.last_mut().and_then(Vec::pop);
            if let Some(name) = next {
                match here.below(&name) {
                    Ok(child) => {
                        enter(&child)?;
                        pending.push(children(&child)?);
                        names.push(name);
                        here = child;
                    }
                    Err(errno) if is_gone(errno) => {}
                    Err(errno) => return Err(errno),
                }
            } else {
                let Some(name) = names.pop() else {
                    return Ok(());
                };
                pending.pop();
                here = here.up()?;
                leave(&here, &name)?;
            }
        }
    }

    /// The cgroup of a clean path below this one, made where missing. `made` gets the paths of what was made,
    /// ancestors first; on an error too.
    pub(crate) fn make_below(&self, rel: &str, made: &mut Vec<String>) -> Result<Self> {
        let (parent, name) = path::split(rel);
        if name.is_empty() {
            return self
                .below(rel)
                .with_context(|| self.doing("open cgroup", rel));
        }
        let opened;
        let parent_dir = if parent.is_empty() {
            self
        } else {
            opened = match self.below(parent) {
                Err(Errno::ENOENT) => self.make_below(parent, made)?,
                result => result.with_context(|| self.doing("open cgroup", parent))?,
            };
            &opened
        };
        match mkdirat(parent_dir, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => made.push(rel.to_owned()),
            Err(Errno::EEXIST) => {}
            // Also of one that is there, where this user has no right on the directory or it is read-only.
            Err(errno) => {
                let found = self.below(rel);
                return found
                    .map_err(|_| errno)
                    .with_context(|| self.doing("create cgroup", rel));
            }
        }
        self.below(rel)
            .with_context(|| self.doing("open cgroup", rel))
    }

    fn doing(&self, what: &str, rel: &str) -> String {
        format!("{what} `{}`", self.path.join(rel).display())
    }

    /// Removes a direct child that has no children and no processes.
    pub(crate) fn rmdir(&self, name: &str) -> nix::Result<()> {
        unlinkat(self, name, UnlinkatFlags::RemoveDir)
    }

    /// The names of the child cgroups.
    pub(crate) fn children(&self) -> nix::Result<Vec<String>> {
        self.names(nix::dir::Type::Directory)
    }

    /// The names of the cgroup's own files.
    pub(crate) fn files(&self) -> nix::Result<Vec<String>> {
        self.names(nix::dir::Type::File)
    }

    fn names(&self, kind: nix::dir::Type) -> nix::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(self, ".", flags, Mode::empty())?;
        let mut out = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type() == Some(kind) && name != "." && name != ".." {
                out.push(name);
            }
        }
        Ok(out)
    }

    pub(crate) fn open_file(&self, file: &str, mode: OFlag) -> nix::Result<OwnedFd> {
        openat(
            self,
            file,
            mode | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
    }

    /// The whole of a file.
    pub(crate) fn read(&self, file: &str) -> nix::Result<String> {
        let bytes = small::read_open(Later::new(self.open_file(file, OFlag::O_RDONLY)?))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `read` with the object in the error.
    pub(crate) fn read_named(&self, file: &str) -> Result<String> {
        self.read(file)
            .with_context(|| format!("read `{self}/{file}`"))
    }

    /// One value, in one write: cgroup files take each write as a whole command.
    pub(crate) fn write(&self, file: &str, value: &str) -> nix::Result<()> {
        let fd = Later::new(self.open_file(file, OFlag::O_WRONLY)?);
        loop {
            match write(&fd, value.as_bytes()) {
                Err(Errno::EINTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// `write` with the object in the error.
    pub(crate) fn write_named(&self, file: &str, value: &str) -> Result<()> {
        self.write(file, value)
            .with_context(|| format!("write `{value}` to `{self}/{file}`"))
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.open_file(file, OFlag::O_PATH).map(Later::new).is_ok()
    }
}

/// Reads a descriptor from where it stands to the end.
pub(crate) fn read_all(fd: &OwnedFd) -> nix::Result<String> {
    let mut out = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&out).into_owned()),
            Ok(n) => out.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The value of a `key value` line, as in `cgroup.events` or `memory.events`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_values() {
        let text = "populated 1\nfrozen 0\n";
        assert_eq!(keyed(text, "populated"), Some(1));
        assert_eq!(keyed(text, "frozen"), Some(0));
        assert_eq!(keyed(text, "pop"), None);
        assert_eq!(keyed("oom 3\noom_kill 2\n", "oom_kill"), Some(2));
    }

    #[test]
    fn lookups_stay_beneath() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/", tmp.path().join("a/link")).unwrap();
        let dir = Dir::mount(tmp.path()).unwrap();
        assert!(dir.below("a/b").is_ok());
        assert_eq!(dir.below("a/link/etc").unwrap_err(), Errno::ELOOP);
        assert_eq!(dir.below("../x").unwrap_err(), Errno::EXDEV);
        let mut made = Vec::new();
        assert!(dir.make_below("a/link/etc/x", &mut made).is_err());
        assert!(made.is_empty());
        dir.make_below("a/c/d", &mut made).unwrap();
        assert_eq!(made, ["a/c", "a/c/d"]);
        assert_eq!(dir.below("a").unwrap().children().unwrap().len(), 2);
    }
}
