//! Device nodes and links in the container's /dev (D1). Called by `prepare` after the mounts, so what the
//! config mounted at the place of a node stays. Everything by descriptor: a hostile `dev` leads nowhere but into the
//! container's root, and what was there before is never trusted, opened or given other rights.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, makedev, mknodat};
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::sources::Sources;
use super::target::Tree;
use super::{DIR_MODE, FILE_MODE};
use crate::fs::inroot::{self, Links};
use crate::plan::devices::{LINKS, Node, NodeKind};
use crate::plan::rootfs::{MountNamespace, RootfsPlan};
use crate::sys::fd::Later;
use crate::sys::mount::{Attr, Depth, attach, chmod_by_fd, clone_tree, is_mount_root, set_attr};

pub(super) fn make_all(
    nodes: &[Node],
    plan: &RootfsPlan,
    tree: &Tree<'_>,
    sources: &mut Sources,
) -> Result<()> {
    let path = Path::new("/dev");
    let opened;
    let dev = if let Some(base) = tree.bases.at(path) {
        base
    } else {
        let found = inroot::mkdir_all(tree.root, path, DIR_MODE, Links::Follow);
        opened = Later::new(found.context("open `/dev`")?);
        opened.as_fd()
    };
    let mut proven = None;
    for node in nodes {
        make_one(node, plan, tree.root, dev, sources, &mut proven)
            .with_context(|| format!("{} `{}`", node.label, node.path.display()))?;
    }
    links(tree.root, dev)
}

fn make_one(
    node: &Node,
    plan: &RootfsPlan,
    root: BorrowedFd<'_>,
    dev: BorrowedFd<'_>,
    sources: &mut Sources,
    proven: &mut Option<Rights>,
) -> Result<()> {
    let other;
    let mut elsewhere = None;
    let mut proven = proven;
    let (dir, name) = if node.path.parent() == Some(Path::new("/dev")) {
        (dev, node.path.file_name().unwrap_or_default())
    } else {
        let (parent, name) =
            inroot::parent(root, &node.path, DIR_MODE).context("open its directory")?;
        other = Later::new(parent);
        proven = &mut elsewhere;
        (other.as_fd(), name)
    };
    let own_mounts = plan.namespaces.mount != MountNamespace::Foreign;
    if plan.namespaces.user && own_mounts && node.kind != NodeKind::Fifo {
        return bind(&sources.next_or(|| host_node(node))?, dir, name);
    }
    match make_node(node, dir, name, proven)? {
        Made::Yes => Ok(()),
        // Root without CAP_MKNOD, in a container itself.
        Made::NotPermitted if own_mounts && node.kind != NodeKind::Fifo => {
            bind(&host_node(node)?, dir, name)
        }
        Made::NotPermitted => Err(Errno::EPERM).context("mknod"),
    }
}

/// Owner, group and mode that a new node in a directory has got by itself: another one made there with the same gets them too.
type Rights = (u32, u32, u32);

enum Made {
    Yes,
    NotPermitted,
}

fn type_of(kind: NodeKind) -> SFlag {
    match kind {
        NodeKind::Char => SFlag::S_IFCHR,
        NodeKind::Block => SFlag::S_IFBLK,
        NodeKind::Fifo => SFlag::S_IFIFO,
    }
}

/// Whether this is the very device, whatever its name.
fn is_same(node: &Node, stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == type_of(node.kind).bits()
        && (node.kind == NodeKind::Fifo || stat.st_rdev == makedev(node.major, node.minor))
}

fn make_node(
    node: &Node,
    dir: BorrowedFd<'_>,
    name: &OsStr,
    proven: &mut Option<Rights>,
) -> Result<Made> {
    let mode = Mode::from_bits_truncate(node.mode);
    let device = makedev(node.major, node.minor);
    for _ in 0..2 {
        match mknodat(dir, name, type_of(node.kind), mode, device) {
            Ok(()) => {
                let wanted = (node.uid, node.gid, node.mode);
                if *proven != Some(wanted) && set_rights(node, dir, name)? {
                    *proven = Some(wanted);
                }
                return Ok(Made::Yes);
            }
            Err(Errno::EPERM) => return Ok(Made::NotPermitted),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).context("mknod"),
        }
        let existing = inroot::entry(dir, name).context("open what is there")?;
        let stat = fstat(&existing).context("look at what is there")?;
        // The device already, or a mount that the config wants there.
        if is_same(node, &stat)
            || is_mount_root(existing.as_fd()).context("look at what is there")?
        {
            return Ok(Made::Yes);
        }
        remove(dir, name)?;
    }
    Err(Errno::EEXIST).context("mknod")
}

fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).context("remove what is there instead")
}

/// Owner and mode of the node just made, by the descriptor of it and only where they are not right yet. Whether they were.
fn set_rights(node: &Node, dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    let right = |stat: &FileStat| {
        (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (node.uid, node.gid, node.mode)
    };
    let seen = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("look at it")?;
    if is_same(node, &seen) && right(&seen) {
        return Ok(true);
    }
    let made = inroot::entry(dir, name).context("open it again")?;
    let stat = fstat(&made).context("look at it")?;
    if !is_same(node, &stat) {
        bail!("it was exchanged while it was being made");
    }
    if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
        let (uid, gid) = (Some(node.uid.into()), Some(node.gid.into()));
        fchownat(&made, "", uid, gid, AtFlags::AT_EMPTY_PATH)
            .with_context(|| format!("set its owner {}:{}", node.uid, node.gid))?;
    }
    if stat.st_mode & 0o7777 != node.mode {
        chmod_by_fd(made.as_fd(), node.mode)
            .with_context(|| format!("set its mode {:#o}", node.mode))?;
    }
    Ok(false)
}

/// The host's node of the same path as a detached mount, verified to be the device that was asked for.
pub(super) fn host_node(node: &Node) -> Result<OwnedFd> {
    let open = || -> Result<OwnedFd> {
        let tree =
            clone_tree(AT_FDCWD, &node.path, Depth::Top).context("open the host's device")?;
        let stat = fstat(&tree).context("look at the host's device")?;
        if !is_same(node, &stat) {
            bail!("the host's is not the device {}:{}", node.major, node.minor);
        }
        let private = Attr {
            propagation: libc::MS_PRIVATE,
            ..Attr::default()
        };
        set_attr(tree.as_fd(), Depth::Top, private).context("detach it from the host")?;
        Ok(tree)
    };
    open().with_context(|| format!("{} `{}`", node.label, node.path.display()))
}

fn bind(tree: &OwnedFd, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let existing = match inroot::entry(dir, name) {
        Ok(fd) => Some(fd),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno).context("open what is there"),
    };
    if let Some(existing) = existing {
        if is_mount_root(existing.as_fd()).context("look at what is there")? {
            return Ok(());
        }
        remove(dir, name)?;
    }
    let target = inroot::create_file(dir, name, FILE_MODE).context("make a file to mount on")?;
    attach(tree.as_fd(), target.as_fd()).context("attach the host's device")
}

fn links(root: BorrowedFd<'_>, dev: BorrowedFd<'_>) -> Result<()> {
    for (name, target) in LINKS {
        inroot::symlink(dev, OsStr::new(name), target)
            .with_context(|| format!("link `/dev/{name}`"))?;
    }
    let kcore = Path::new("/proc/kcore");
    if inroot::open(root, kcore, OFlag::O_PATH, Links::Refuse).is_ok() {
        inroot::symlink(dev, OsStr::new("core"), "/proc/kcore").context("link `/dev/core`")?;
    }
    match symlinkat("pts/ptmx", dev, "ptmx") {
        Err(Errno::EEXIST) => {}
        other => return other.context("link `/dev/ptmx`"),
    }
    match unlinkat(dev, "ptmx", UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        // The config has mounted one.
        Err(Errno::EBUSY) => return Ok(()),
        Err(errno) => return Err(errno).context("replace `/dev/ptmx`"),
    }
    symlinkat("pts/ptmx", dev, "ptmx").context("link `/dev/ptmx`")
}
