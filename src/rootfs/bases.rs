//! File systems of the container's own that have just been mounted: what lies directly in one of them is reached by its
//! descriptor, without a lookup from the root. Filled by `mount.rs`; asked by `target.rs` and `devices.rs`.
//!
//! What must be true: looked up from the root, a base's path still leads to the base. So it is forgotten as soon as something
//! is mounted that may have covered it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::fs::inroot::Links;
use crate::sys::fd::Later;

/// Each is an open file (M6).
const MOST: usize = 4;

#[derive(Default)]
pub(super) struct Bases(Vec<Base>);

struct Base {
    path: PathBuf,
    /// The root of the mount. None where nothing is looked up in it: only that what is mounted there covers no other base.
    root: Option<Later>,
}

impl Bases {
    /// Something is about to be mounted at `path`, to which links may lead the lookup or not.
    pub(super) fn before_mount(&mut self, path: &Path, links: Links) {
        let inside = path.parent().is_some_and(|parent| {
            let mut bases = self.0.iter();
            // No kernel file system has a link that leads out of it; of a tmpfs that is only known of its top.
            bases.any(|base| match base.root {
                Some(_) => base.path == parent,
                None => parent.starts_with(&base.path),
            })
        });
        if inside || links == Links::Refuse {
            self.0.retain(|base| !base.path.starts_with(path));
        } else {
            self.0.clear();
        }
    }

    /// An empty file system of the container's own is mounted at `path`.
    pub(super) fn add(&mut self, path: &Path, root: OwnedFd) {
        let root = Some(Later::new(root));
        self.push(path, root);
    }

    /// The same of one that the kernel fills.
    pub(super) fn add_closed(&mut self, path: &Path) {
        self.push(path, None);
    }

    fn push(&mut self, path: &Path, root: Option<Later>) {
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        let path = path.to_owned();
        self.0.push(Base { path, root });
    }

    /// The base that `path` lies directly in, and its name there.
    pub(super) fn parent_of<'a>(&self, path: &'a Path) -> Option<(BorrowedFd<'_>, &'a OsStr)> {
        let root = self.at(path.parent()?)?;
        Some((root, path.file_name()?))
    }

    /// The base at `path` itself.
    pub(super) fn at(&self, path: &Path) -> Option<BorrowedFd<'_>> {
        let base = self.0.iter().find(|base| base.path == path)?;
        base.root.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    #[test]
    fn a_base_is_known_until_something_may_cover_it() {
        let known = |mounts: &[(&str, Links)]| {
            let mut bases = Bases::default();
            bases.add(Path::new("/dev"), file());
            bases.add_closed(Path::new("/sys"));
            for (path, links) in mounts {
                bases.before_mount(Path::new(path), *links);
            }
            bases.parent_of(Path::new("/dev/shm")).is_some()
        };
        let (follow, refuse) = (Links::Follow, Links::Refuse);
        assert!(known(&[]));
        assert!(known(&[("/dev/pts", follow), ("/proc", refuse)]));
        assert!(known(&[("/sys/fs/cgroup", follow), ("/proc/x", refuse)]));
        for cover in ["/dev", "/", "/mnt", "/dev/pts/x", "/device"] {
            assert!(!known(&[(cover, follow)]), "{cover}");
        }
        assert!(!known(&[("/dev", refuse)]));
        // It is no longer the kernel's.
        assert!(!known(&[("/sys", refuse), ("/sys/fs/cgroup", follow)]));
    }

    #[test]
    fn only_what_lies_directly_in_it() {
        let mut bases = Bases::default();
        bases.add(Path::new("/dev"), file());
        assert!(bases.at(Path::new("/dev")).is_some());
        let found = bases.parent_of(Path::new("/dev/shm"));
        assert_eq!(found.map(|(_, name)| name), Some(OsStr::new("shm")));
        for path in ["/dev/a/b", "/dev", "/", "/x/dev/shm"] {
            assert!(bases.parent_of(Path::new(path)).is_none(), "{path}");
        }
    }
}
