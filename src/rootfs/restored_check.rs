//! Whether the mounts that CRIU has made from images are those of config.json: the image says what runs, not where (R1). Called by
//! `container` when all processes are made and none runs yet.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;

use super::mount_table::{ALL_ATTRIBUTES, ATTRIBUTES, Line, Mounts, Table, mount_id};
use crate::fs::inroot::{self, Links};
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::outside;
use crate::plan::rootfs::RootfsPlan;

/// Views of the kernel, of which the container may have the host's instance. Of any other kind it gets one of its own.
const VIEWS: [&str; 14] = [
    "proc",
    "sysfs",
    "mqueue",
    "cgroup",
    "cgroup2",
    "devpts",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "pstore",
    "configfs",
    "efivarfs",
    "binfmt_misc",
];

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

/// Whatever the image says: no mount shows a part of the host that the config does not name, and no mount of a host's source, and
/// no read-only root, has lost an attribute that the config gives it.
pub(crate) fn check(plan: &RootfsPlan, pid: i32) -> Result<()> {
    let mounts = Mounts::of(pid)?;
    check_origins(plan, &mounts)?;
    check_attributes(plan, &mounts)
}

/// A directory or file of a file system of the host.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    device: String,
    root: PathBuf,
}

/// What a path of the host shows, with what is mounted below it.
fn parts(host: &Table, path: &Path) -> Result<Vec<Part>> {
    let read = || -> Result<(OwnedFd, PathBuf)> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let place = std::fs::read_link(link)?;
        Ok((fd, place))
    };
    let at = || format!("look at the mount of `{}`", path.display());
    let (fd, place) = read().with_context(at)?;
    let own = host.0.get(&mount_id(fd.as_fd())?).with_context(at)?;
    let below = place.strip_prefix(&own.point).with_context(at)?;
    let part = |line: &Line, root| Part {
        device: line.device.clone(),
        root,
    };
    let lines = host
        .0
        .values()
        .filter(|line| line.point.starts_with(&place));
    let mut all: Vec<_> = lines.map(|line| part(line, line.root.clone())).collect();
    all.push(part(own, own.root.join(below)));
    Ok(all)
}

/// The first mount of a file system that the host has mounted, too, which is in none of these parts and no view of these kinds.
fn stranger<'a>(
    found: &'a Table,
    host: &Table,
    named: &[Part],
    views: &[&str],
) -> Option<&'a Line> {
    found.0.values().find(|line| {
        let of_host = host.0.values().any(|other| other.device == line.device);
        let mut same = named.iter().filter(|part| part.device == line.device);
        of_host
            && !views.contains(&line.kind.as_str())
            && !same.any(|part| line.root.starts_with(&part.root))
    })
}

fn check_origins(plan: &RootfsPlan, mounts: &Mounts) -> Result<()> {
    let host = Table::of("self").context("read the mount table")?;
    let binds = plan.mounts.iter().filter_map(|op| match &op.kind {
        MountKind::Bind { source, .. } => Some(source.as_path()),
        _ => None,
    });
    let nodes = plan.nodes.iter().flatten().map(|node| node.path.as_path());
    let null = Path::new(outside::NULL);
    let mut named = Vec::new();
    for path in binds.chain([plan.root.as_path(), null]) {
        named.extend(parts(&host, path)?);
    }
    // Not all of these are on the host.
    for path in nodes.filter(|path| path.exists()) {
        named.extend(parts(&host, path)?);
    }
    let mut views: Vec<&str> = Vec::new();
    for op in &plan.mounts {
        match &op.kind {
            MountKind::Cgroup => views.extend(["cgroup", "cgroup2"]),
            MountKind::Fs(fs) => views.extend(VIEWS.iter().filter(|kind| **kind == fs.fstype)),
            _ => {}
        }
    }
    if let Some(line) = stranger(&mounts.table, &host, &named, &views) {
        bail!(
            "the image does not fit the bundle: `{}` in process {} is {} `{}` of the host, which config.json does not name",
            line.point.display(),
            mounts.pid,
            line.kind,
            line.root.display()
        );
    }
    Ok(())
}

fn check_attributes(plan: &RootfsPlan, mounts: &Mounts) -> Result<()> {
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
        "the image does not fit the bundle: root.readonly: the root is writable in process {}",
        mounts.pid
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:20 / /proc rw - proc proc rw\n\
        3 1 0:30 / /run rw shared:4 - tmpfs t rw\n4 1 8:2 /data /srv/deep rw - xfs /dev/sdb rw\n";

    #[test]
    fn a_part_of_the_host_that_nobody_named_is_found() {
        let host = Table::parse(HOST);
        let part = |device: &str, root: &str| Part {
            device: device.to_owned(),
            root: root.into(),
        };
        let named = [
            part("8:1", "/root/fs"),
            part("8:1", "/vol"),
            part("8:2", "/data"),
        ];
        let look = |line: &str, views: &[&str]| {
            stranger(&Table::parse(line.as_bytes()), &host, &named, views).is_some()
        };
        for good in [
            "9 8 8:1 /root/fs / rw - ext4 /dev/sda rw",
            "9 8 8:1 /vol/sub /x rw - ext4 /dev/sda rw",
            "9 8 8:2 /data /y rw - xfs /dev/sdb rw",
            "9 8 0:99 / /tmp rw - tmpfs t rw",
            "9 8 0:20 / /proc rw - proc proc rw",
        ] {
            assert!(!look(good, &["proc"]), "{good}");
        }
        for bad in [
            "9 8 8:1 / /x rw - ext4 /dev/sda rw",
            "9 8 8:1 /volume /x rw - ext4 /dev/sda rw",
            "9 8 8:1 /etc/shadow /x rw - ext4 /dev/sda rw",
            "9 8 8:2 / /x rw - xfs /dev/sdb rw",
            "9 8 0:30 / /run rw - tmpfs t rw",
            "9 8 0:20 / /proc rw - proc proc rw",
        ] {
            assert!(look(bad, &[]), "{bad}");
        }
    }

    #[test]
    fn what_a_path_shows() {
        let host = Table::of("self").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let parts = parts(&host, dir.path()).unwrap();
        let fd = open(dir.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        let line = &host.0[&mount_id(fd.as_fd()).unwrap()];
        assert_eq!(parts.len(), 1, "{parts:?}");
        assert_eq!(parts[0].device, line.device);
        assert!(parts[0].root.ends_with(dir.path().file_name().unwrap()));
        assert!(super::parts(&host, Path::new("/none/such")).is_err());
    }
}
