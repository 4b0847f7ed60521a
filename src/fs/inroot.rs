//! Files below a root descriptor: open, create directories and files, links and nodes. Called by `rootfs/` and by
//! the steps of init that touch the container's root (its cwd). The root may be hostile: every lookup is openat2(2)
//! with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, every creation happens in a directory that is already open (P1).
//! Modes are given exactly, so the caller has set the umask to 0 where it matters.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::symlinkat;

use crate::sys::fd::Later;

/// Symbolic links the kernel follows in one lookup; the same here.
const MAX_LINKS: usize = 40;

/// How often a lookup that raced with a rename or mount elsewhere (EAGAIN, see openat2(2)) or with a creation is repeated.
const MAX_TRIES: usize = 128;

/// Whether symbolic links of the root may lead a lookup, inside the root, or make it fail with ELOOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

#[derive(Clone, Copy)]
enum Leaf {
    Directory(Mode),
    File(Mode),
}

/// openat2(2), repeated while the kernel cannot tell whether a `..` stayed below the root.
fn openat2_retry(
    dir: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).mode(mode).resolve(resolve);
    for _ in 1..MAX_TRIES {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    openat2(dir, path, how)
}

/// Opens what exists at `path` below `root`. O_CREAT is not for this function.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    links: Links,
) -> nix::Result<OwnedFd> {
    let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    // "/" below a root is the root: openat2 takes the absolute form under RESOLVE_IN_ROOT, but not an empty one.
    let path = if path.as_os_str().is_empty() {
        OsStr::new(".")
    } else {
        path.as_os_str()
    };
    openat2_retry(root, path, flags, Mode::empty(), resolve)
}

/// The same where it is known to be missing.
pub(crate) fn make_all(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: Mode,
    links: Links,
) -> nix::Result<OwnedFd> {
    Walk::new(root, path, links).run(Leaf::Directory(mode))
}

/// The directory at `path` as an O_PATH descriptor, made with all its parents where it is missing.
pub(crate) fn mkdir_all(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: Mode,
    links: Links,
) -> nix::Result<OwnedFd> {
    match open(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, links) {
        Err(Errno::ENOENT) => make_all(root, path, mode, links),
        other => other,
    }
}

/// The directory `name` of an open directory as an O_PATH descriptor, made where it is missing; a link is refused.
pub(crate) fn mkdir(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> nix::Result<OwnedFd> {
    match mkdirat(dir, name, mode) {
        Ok(()) | Err(Errno::EEXIST) => directory(dir, name),
        Err(errno) => Err(errno),
    }
}

/// What is at `path`, of whatever type, as an O_PATH descriptor; an empty file where nothing is, with its parents.
pub(crate) fn ensure_file(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: Mode,
    links: Links,
) -> nix::Result<OwnedFd> {
    match open(root, path, OFlag::O_PATH, links) {
        Err(Errno::ENOENT) => Walk::new(root, path, links).run(Leaf::File(mode)),
        other => other,
    }
}

/// The directory that holds the last component of `path`, made where missing, and that component.
pub(crate) fn parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a Path,
    mode: Mode,
) -> nix::Result<(OwnedFd, &'a OsStr)> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok((mkdir_all(root, parent, mode, Links::Follow)?, name))
}

/// The entry `name` of an open directory itself, not what it links to, as an O_PATH descriptor.
pub(crate) fn entry(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    openat2_retry(dir, name, flags, Mode::empty(), resolve)
}

/// The same where it is a directory.
fn directory(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    openat2_retry(dir, name, flags, Mode::empty(), resolve)
}

/// Makes the empty file `name` in an open directory; it must not be there. The descriptor is O_PATH.
pub(crate) fn create_file(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    // Closed at once: a mount with a file that is open for writing cannot be made read-only.
    openat2_retry(dir, name, flags, mode, resolve).map(drop)?;
    entry(dir, name)
}

/// Makes the link `name` -> `target` in an open directory; an entry that is already there stays as it is.
pub(crate) fn symlink(dir: BorrowedFd<'_>, name: &OsStr, target: &str) -> nix::Result<()> {
    match symlinkat(target, dir, name) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// The type bits of an open file.
pub(crate) fn file_type(fd: BorrowedFd<'_>) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & libc::S_IFMT))
}

/// A lookup in user space, one component at a time, which creates what is missing. `..` goes back to the directory
/// that was opened before, never through the kernel's `..`, so no rename in the root can lead it out; links are read
/// and their text is walked below the same root. Links to missing places are so created where they point to, which
/// images rely on (`/var/run` -> `/run` without `/run`).
struct Walk<'a> {
    root: BorrowedFd<'a>,
    links: Links,
    stack: Vec<Later>,
    todo: Vec<OsString>,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &Path, links: Links) -> Self {
        let mut walk = Self {
            root,
            links,
            stack: Vec::new(),
            todo: Vec::new(),
        };
        walk.push_path(path);
        walk
    }

    fn push_path(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.todo.push(name.to_owned()),
                Component::ParentDir => self.todo.push("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, AsFd::as_fd)
    }

    fn run(mut self, leaf: Leaf) -> nix::Result<OwnedFd> {
        let mut links = 0;
        let mut tries = 0;
        while let Some(name) = self.todo.pop() {
            if name == ".." {
                self.stack.pop();
                continue;
            }
            let last = self.todo.is_empty();
            // The lookup of the whole path has failed, so most often this is what is missing.
            if last && tries == 0 {
                tries += 1;
                self.create(&name, leaf, last)?;
                self.todo.push(name);
                continue;
            }
            let found = if last && matches!(leaf, Leaf::File(_)) {
                entry(self.current(), &name)
            } else {
                // Most often that is what it is or will be: one call, and anything else is looked at below.
                match directory(self.current(), &name) {
                    Ok(fd) => {
                        self.stack.push(Later::new(fd));
                        continue;
                    }
                    Err(Errno::ENOENT) => Err(Errno::ENOENT),
                    Err(_) => entry(self.current(), &name),
                }
            };
            let fd = match found {
                Ok(fd) => fd,
                Err(Errno::ENOENT) => {
                    tries += 1;
                    if tries > MAX_TRIES {
                        return Err(Errno::ELOOP);
                    }
                    self.create(&name, leaf, last)?;
                    self.todo.push(name);
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            match file_type(fd.as_fd())? {
                SFlag::S_IFLNK => {
                    links += 1;
                    if self.links == Links::Refuse || links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    let text = readlinkat(&fd, "")?;
                    if Path::new(&text).is_absolute() {
                        self.stack.clear();
                    }
                    self.push_path(Path::new(&text));
                }
                SFlag::S_IFDIR => self.stack.push(Later::new(fd)),
                _ if last && matches!(leaf, Leaf::File(_)) => return Ok(fd),
                _ => return Err(Errno::ENOTDIR),
            }
        }
        match self.stack.pop() {
            Some(fd) => Ok(fd.into_inner()),
            None => open(self.root, Path::new("."), OFlag::O_PATH, Links::Refuse),
        }
    }

    /// Someone else may create the same name at the same moment: that is as good, the caller looks again.
    fn create(&self, name: &OsStr, leaf: Leaf, last: bool) -> nix::Result<()> {
        let made = match leaf {
            Leaf::File(mode) if last => create_file(self.current(), name, mode).map(drop),
            Leaf::Directory(mode) => mkdirat(self.current(), name, mode),
            Leaf::File(_) => mkdirat(self.current(), name, Mode::from_bits_truncate(0o755)),
        };
        match made {
            Err(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink as link};

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        let path = dir.path().join("root");
        let fd = nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        (dir, fd)
    }

    const DIR: Mode = Mode::from_bits_truncate(0o755);

    #[test]
    fn creates_below_the_root_through_dangling_absolute_links() {
        let (dir, fd) = root();
        let base = dir.path().join("root");
        std::fs::create_dir(base.join("var")).unwrap();
        link("/run", base.join("var/run")).unwrap();
        mkdir_all(
            fd.as_fd(),
            Path::new("/var/run/secrets/x"),
            DIR,
            Links::Follow,
        )
        .unwrap();
        assert!(base.join("run/secrets/x").is_dir());
        let mode = std::fs::metadata(base.join("run"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o700, 0o700);
    }

    #[test]
    fn dots_in_links_stay_inside() {
        let (dir, fd) = root();
        let base = dir.path().join("root");
        link("../../../../escape", base.join("up")).unwrap();
        mkdir_all(fd.as_fd(), Path::new("/up/a"), DIR, Links::Follow).unwrap();
        ensure_file(fd.as_fd(), Path::new("/up/f"), DIR, Links::Follow).unwrap();
        assert!(base.join("escape/a").is_dir());
        assert!(base.join("escape/f").is_file());
        assert!(!dir.path().join("escape").exists());
    }

    #[test]
    fn links_are_refused_where_asked() {
        let (dir, fd) = root();
        let base = dir.path().join("root");
        std::fs::create_dir(base.join("real")).unwrap();
        link("real", base.join("proc")).unwrap();
        link("missing", base.join("sys")).unwrap();
        for path in ["/proc", "/proc/x", "/sys", "/sys/x"] {
            let got = mkdir_all(fd.as_fd(), Path::new(path), DIR, Links::Refuse);
            assert_eq!(got.err(), Some(Errno::ELOOP), "{path}");
        }
        assert!(!base.join("missing").exists());
    }

    #[test]
    fn a_loop_of_links_ends() {
        let (dir, fd) = root();
        let base = dir.path().join("root");
        link("b", base.join("a")).unwrap();
        link("a", base.join("b")).unwrap();
        let got = mkdir_all(fd.as_fd(), Path::new("/a/x"), DIR, Links::Follow);
        assert_eq!(got.err(), Some(Errno::ELOOP));
        // A link to itself below a missing place reaches the walk, not only the kernel's own count.
        link("gone/../self", base.join("self")).unwrap();
        let got =
            Walk::new(fd.as_fd(), Path::new("/self"), Links::Follow).run(Leaf::Directory(DIR));
        assert_eq!(got.err(), Some(Errno::ELOOP));
    }

    #[test]
    fn a_file_in_the_way_is_not_a_directory() {
        let (dir, fd) = root();
        std::fs::File::create_new(dir.path().join("root/f")).unwrap();
        let got = mkdir_all(fd.as_fd(), Path::new("/f/x"), DIR, Links::Follow);
        assert_eq!(got.err(), Some(Errno::ENOTDIR));
        let fifo = dir.path().join("root/fifo");
        nix::unistd::mkfifo(&fifo, DIR).unwrap();
        // An O_PATH open of a fifo must not wait for a writer (M6).
        ensure_file(fd.as_fd(), Path::new("/fifo"), DIR, Links::Follow).unwrap();
    }

    #[test]
    fn the_root_is_its_own_parent() {
        let (_dir, fd) = root();
        let here = fstat(&fd).unwrap();
        for path in ["/", "", "/..", "../.."] {
            let got = mkdir_all(fd.as_fd(), Path::new(path), DIR, Links::Follow).unwrap();
            assert_eq!(fstat(&got).unwrap().st_ino, here.st_ino, "{path:?}");
        }
    }
}
