//! The mounts of a container that is checkpointed or restored. Called by `container`: where its outside mounts are now
//! ([`mount_points`]), places for them in a root that has never had a container ([`make_points`]), and whether what an image
//! made of them is what config.json allows ([`check`]).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::fstatvfs;

use super::{DIR_MODE, FILE_MODE, ZeroUmask, pivot};
use crate::fs::inroot::{self, Links};
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::rootfs::RootfsPlan;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::mount::{Attr, Depth, attach, clone_tree, is_mount_root, set_attr};
use crate::sys::process::exit_now;
use crate::sys::wait::{Exit, wait_pidfd};

/// Attributes that are compared; the bits of statvfs(3) and of mount_setattr(2) are the same.
const ATTRIBUTES: [(u64, &str); 4] = [
    (libc::MOUNT_ATTR_RDONLY, "ro"),
    (libc::MOUNT_ATTR_NOSUID, "nosuid"),
    (libc::MOUNT_ATTR_NODEV, "nodev"),
    (libc::MOUNT_ATTR_NOEXEC, "noexec"),
];
const ALL_ATTRIBUTES: u64 = 15;

/// The mounts of one process, by the kernel's numbers of them.
struct Table(HashMap<u64, Line>);

struct Line {
    point: PathBuf,
    attributes: u64,
}

/// A process's mounts and its root.
pub(crate) struct Mounts {
    pid: i32,
    table: Table,
    root: OwnedFd,
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
            let table = std::fs::read(format!("/proc/{pid}/mountinfo"))?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty())?;
            Ok(Mounts {
                pid,
                table: Table::parse(&table),
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
    /// proc_pid_mountinfo(5): number, parent, device, root, mount point, options ...
    fn parse(text: &[u8]) -> Table {
        let line = |line: &[u8]| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let number = std::str::from_utf8(fields.first()?).ok()?.parse().ok()?;
            let options: Vec<&[u8]> = fields.get(5)?.split(|byte| *byte == b',').collect();
            let attributes = ATTRIBUTES
                .iter()
                .filter(|(_, word)| options.contains(&word.as_bytes()))
                .fold(0, |all, (bit, _)| all | bit);
            let point = PathBuf::from(OsStr::from_bytes(&unescape(fields.get(4)?)));
            Some((number, Line { point, attributes }))
        };
        Table(text.split(|byte| *byte == b'\n').filter_map(line).collect())
    }
}

/// Blanks, tabs, line feeds and backslashes are three octal digits there.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let (
            b'\\',
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ],
        ) = (first, tail)
        {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// The number of the mount that a descriptor is on.
fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .with_context(|| format!("no mnt_id in `{path}`"))
}

/// In a mount namespace made for it: the root at `place` as a mount of its own, with a place for every mount of the config. CRIU
/// makes mounts and not what they are mounted on. What is below a file system of the container comes with that one.
pub(crate) fn make_points(plan: &RootfsPlan, place: &Path) -> Result<()> {
    let _umask = ZeroUmask::new();
    let top = pivot::open_directory(Path::new("/"))?;
    set_attr(
        top.as_fd(),
        Depth::Recursive,
        pivot::propagate(libc::MS_SLAVE),
    )
    .context("cut the mounts for criu off from the host's")?;
    let attach_root = || -> Result<OwnedFd> {
        let root = pivot::open_directory(&plan.root)?;
        let tree = clone_tree(root.as_fd(), Path::new(""), Depth::Recursive).context("bind it")?;
        set_attr(tree.as_fd(), Depth::Top, pivot::propagate(libc::MS_PRIVATE))
            .context("make it private")?;
        attach(tree.as_fd(), pivot::open_directory(place)?.as_fd()).context("attach it")?;
        Ok(tree)
    };
    let at = || format!("root.path: prepare root `{}`", plan.root.display());
    // Once to make the places in, with binds that hold places of others; then all of these go at once.
    let root = attach_root().with_context(at)?;
    for (index, op) in plan.mounts.iter().enumerate() {
        make_point(plan, index, op, root.as_fd()).with_context(|| {
            let path = op.destination.display();
            format!(
                "mounts[{}].destination: make a place for `{path}`",
                op.index
            )
        })?;
    }
    drop(root);
    umount2(place, MntFlags::MNT_DETACH).with_context(at)?;
    attach_root().with_context(at).map(drop)
}

/// `root.readonly`, which CRIU neither restores nor could start with, for it makes directories there. By a process in the mount
/// namespace, as attributes are changed from within only; none of the container's runs yet.
pub(crate) fn make_root_read_only(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = std::fs::File::open(&path).with_context(|| format!("open `{path}`"))?;
    let change = || -> Result<()> {
        setns(&namespace, CloneFlags::CLONE_NEWNS)?;
        let root = pivot::open_directory(Path::new("/"))?;
        let attr = Attr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attr::default()
        };
        Ok(set_attr(root.as_fd(), Depth::Top, attr)?)
    };
    let request = CloneRequest {
        flags: CloneFlags::empty(),
        cgroup: None,
    };
    match clone3(&request).context("clone a process for the mount namespace")? {
        Cloned::Child => exit_now(i32::from(change().is_err())),
        Cloned::Parent { pidfd, .. } => {
            let exit = wait_pidfd(pidfd.as_fd()).context("wait for the root to be read-only")?;
            ensure!(
                exit == Exit::Code(0),
                "root.readonly: the restored root could not be made read-only"
            );
            Ok(())
        }
    }
}

fn make_point(plan: &RootfsPlan, index: usize, op: &MountOp, root: BorrowedFd<'_>) -> Result<()> {
    let on_own = plan.mounts[..index].iter().any(|earlier| {
        !matches!(earlier.kind, MountKind::Bind { .. } | MountKind::Remount)
            && op.destination.starts_with(&earlier.destination)
    });
    if on_own {
        return Ok(());
    }
    match &op.kind {
        MountKind::Remount => Ok(()),
        MountKind::Cgroup | MountKind::Fs(_) => {
            inroot::mkdir_all(root, &op.destination, DIR_MODE, Links::Follow)?;
            Ok(())
        }
        MountKind::Bind { source, .. } => {
            let tree = clone_tree(AT_FDCWD, source, Depth::Top)
                .with_context(|| format!("open source `{}`", source.display()))?;
            let is_dir = inroot::file_type(tree.as_fd())? == SFlag::S_IFDIR;
            let target = if is_dir {
                inroot::mkdir_all(root, &op.destination, DIR_MODE, Links::Follow)?
            } else {
                inroot::ensure_file(root, &op.destination, FILE_MODE, Links::Follow)?
            };
            set_attr(tree.as_fd(), Depth::Top, pivot::propagate(libc::MS_PRIVATE))?;
            attach(tree.as_fd(), target.as_fd()).context("attach")
        }
    }
}

/// What a bind of the config may be at least: the attributes of its source and those of its options.
struct Allowed<'a> {
    op: &'a MountOp,
    inode: (u64, u64),
    attributes: u64,
}

fn allowed(op: &MountOp) -> Result<Option<Allowed<'_>>> {
    let MountKind::Bind { source, .. } = &op.kind else {
        return Ok(None);
    };
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let fd = open(source, flags, Mode::empty())
        .with_context(|| format!("mounts[{}].source: open `{}`", op.index, source.display()))?;
    let stat = fstat(&fd)?;
    let own = fstatvfs(&fd)?.flags().bits() & ALL_ATTRIBUTES;
    let (set, clear) = (op.top.set | op.tree.set, op.top.clear | op.tree.clear);
    Ok(Some(Allowed {
        op,
        inode: (stat.st_dev, stat.st_ino),
        attributes: (own & !clear) | (set & ALL_ATTRIBUTES),
    }))
}

/// Before a restored process runs: no mount of a host's source, and no read-only root, may have lost an attribute that the
/// config gives it, whatever the image says (R1).
pub(crate) fn check(plan: &RootfsPlan, pid: i32) -> Result<()> {
    let mounts = Mounts::of(pid)?;
    let allowed: Vec<_> = plan
        .mounts
        .iter()
        .filter_map(|op| allowed(op).transpose())
        .collect::<Result<_>>()?;
    for (number, line) in &mounts.table.0 {
        let fd = match inroot::open(
            mounts.root.as_fd(),
            &line.point,
            OFlag::O_PATH,
            Links::Refuse,
        ) {
            Ok(fd) => fd,
            // Covered by another mount: out of the container's reach.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => continue,
            Err(errno) => {
                return Err(errno)
                    .with_context(|| format!("open mount `{}`", line.point.display()));
            }
        };
        if mount_id(fd.as_fd())? != *number {
            continue;
        }
        let stat = fstat(&fd)?;
        let inode = (stat.st_dev, stat.st_ino);
        let here = allowed.iter().filter(|allowed| allowed.inode == inode);
        let Some((op, needed)) = here
            .map(|allowed| (allowed.op, allowed.attributes))
            .reduce(|(op, one), (_, other)| (op, one & other))
        else {
            continue;
        };
        let missing = ATTRIBUTES
            .iter()
            .find(|(bit, _)| needed & !line.attributes & bit != 0);
        if let Some((_, word)) = missing {
            bail!(
                "the image does not fit the bundle: mounts[{}]: `{}` is not {word} in process {}",
                op.index,
                line.point.display(),
                mounts.pid
            );
        }
    }
    let root = mounts.table.0.get(&mount_id(mounts.root.as_fd())?);
    ensure!(
        !plan.readonly || root.is_some_and(|line| line.attributes & libc::MOUNT_ATTR_RDONLY != 0),
        "the image does not fit the bundle: root.readonly: the root is writable in process {pid}"
    );
    Ok(())
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
        assert_eq!(unescape(b"\\9\\04\\999"), b"\\9\\04\\999");
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
