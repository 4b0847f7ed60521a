//! The mounts of a process as its mount table and its root show them. Called by `container`, which asks where the outside mounts of
//! a container are now, and by `restored_check`.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};

use crate::fs::inroot::{self, Links};
use crate::fs::mountinfo;
use crate::sys::mount::is_mount_root;

/// Attributes that are compared; the bits of statvfs(3) and of mount_setattr(2) are the same.
pub(crate) const ATTRIBUTES: [(u64, &str); 4] = [
    (libc::MOUNT_ATTR_RDONLY, "ro"),
    (libc::MOUNT_ATTR_NOSUID, "nosuid"),
    (libc::MOUNT_ATTR_NODEV, "nodev"),
    (libc::MOUNT_ATTR_NOEXEC, "noexec"),
];
pub(super) const ALL_ATTRIBUTES: u64 = 15;

/// The mounts of one process, by the kernel's numbers of them.
pub(crate) struct Table(pub(crate) HashMap<u64, Line>);

#[derive(Debug)]
pub(crate) struct Line {
    /// `8:1`
    pub(crate) device: String,
    /// What of that file system is mounted.
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) attributes: u64,
    pub(crate) kind: String,
}

/// A process's mounts and its root.
pub(crate) struct Mounts {
    pub(super) pid: i32,
    pub(super) table: Table,
    pub(super) root: OwnedFd,
}

/// What is at a path in a container.
pub(crate) struct Found {
    /// Of its mount, as the container's mount table has it.
    pub(crate) point: PathBuf,
    pub(crate) is_dir: bool,
    pub(crate) is_mount: bool,
}

impl Mounts {
    pub(crate) fn of(pid: i32) -> Result<Mounts> {
        let read = || -> Result<Mounts> {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty())?;
            Ok(Mounts {
                pid,
                table: Table::of(&pid.to_string())?,
                root,
            })
        };
        read().with_context(|| format!("look at the mounts of process {pid}"))
    }

    /// None where nothing is, or nothing that the table knows.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Found>> {
        let fd = match inroot::open(self.root.as_fd(), path, OFlag::O_PATH, Links::Follow) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => {
                other.with_context(|| format!("open `{}` in the container", path.display()))?
            }
        };
        let Some(line) = self.table.0.get(&mount_id(fd.as_fd())?) else {
            return Ok(None);
        };
        Ok(Some(Found {
            point: line.point.clone(),
            is_dir: inroot::file_type(fd.as_fd())? == SFlag::S_IFDIR,
            is_mount: is_mount_root(fd.as_fd())?,
        }))
    }
}

impl Table {
    pub(super) fn of(pid: &str) -> std::io::Result<Table> {
        Ok(Table::parse(&std::fs::read(format!(
            "/proc/{pid}/mountinfo"
        ))?))
    }

    /// Of an open mountinfo.
    pub(super) fn read(file: OwnedFd) -> Result<Table> {
        let mut text = Vec::new();
        std::fs::File::from(file).read_to_end(&mut text)?;
        Ok(Table::parse(&text))
    }

    pub(crate) fn parse(text: &[u8]) -> Table {
        let line = |line: mountinfo::Line<'_>| {
            let attributes = ATTRIBUTES
                .iter()
                .filter(|(_, word)| line.has(word))
                .fold(0, |all, (bit, _)| all | bit);
            let parsed = Line {
                device: String::from_utf8_lossy(line.device).into_owned(),
                root: line.root(),
                point: line.point(),
                attributes,
                kind: String::from_utf8_lossy(line.kind).into_owned(),
            };
            (line.number, parsed)
        };
        Table(mountinfo::lines(text).map(line).collect())
    }
}

/// The number of the mount that a descriptor is on.
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .with_context(|| format!("no mnt_id in `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table() {
        let text = b"22 1 8:1 / / ro,relatime - ext4 /dev/sda rw\n\
            23 22 0:5 /a\\040b /x\\040y\\134z rw,nosuid,nodev - tmpfs t rw\nrubbish\n\n";
        let table = Table::parse(text);
        assert_eq!(table.0.len(), 2);
        assert_eq!(table.0[&22].attributes, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(table.0[&23].point, Path::new("/x y\\z"));
        let two = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        assert_eq!(table.0[&23].attributes, two);
        assert_eq!(table.0[&23].root, Path::new("/a b"));
        assert_eq!(
            (&*table.0[&23].device, &*table.0[&23].kind),
            ("0:5", "tmpfs")
        );
    }

    #[test]
    fn the_own_mounts_are_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mounts = Mounts::of(pid).unwrap();
        let proc = mounts.find(Path::new("/proc")).unwrap().unwrap();
        assert!(proc.is_dir && proc.is_mount);
        assert_eq!(proc.point, Path::new("/proc"));
        let file = mounts
            .find(Path::new("/proc/self/status"))
            .unwrap()
            .unwrap();
        assert!(!file.is_dir && !file.is_mount);
        assert!(mounts.find(Path::new("/none/such")).unwrap().is_none());
    }

    #[test]
    fn the_bits_are_the_same_in_both_calls() {
        let of = |flag: libc::c_ulong| -> u64 { flag };
        assert_eq!(libc::MOUNT_ATTR_RDONLY, of(libc::ST_RDONLY));
        assert_eq!(libc::MOUNT_ATTR_NOSUID, of(libc::ST_NOSUID));
        assert_eq!(libc::MOUNT_ATTR_NODEV, of(libc::ST_NODEV));
        assert_eq!(libc::MOUNT_ATTR_NOEXEC, of(libc::ST_NOEXEC));
        assert_eq!(
            ATTRIBUTES.iter().fold(0, |all, (bit, _)| all | bit),
            ALL_ATTRIBUTES
        );
    }
}
