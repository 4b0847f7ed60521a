//! Carries out one [`MountOp`]: source descriptor, attributes, target descriptor, attach (M1, P2).
//! Called by `prepare` for each mount, and by `sources.rs` for the sources of binds.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::pivot::propagate;
use super::sources::Sources;
use super::target::{Tree, checked, existing, links, target, target_error, target_in_base};
use super::{DIR_MODE, cgroup, copy_up, joined_proc, overlay};
use crate::fs::inroot;
use crate::fs::procfs;
use crate::plan::host::in_initial_user_namespace;
use crate::plan::mount_options::{SourceLink, TargetLink};
use crate::plan::mounts::{
    CgroupMounts, Change, FsMount, MountKind, MountOp, Propagation, Special,
};
use crate::plan::rootfs::{MountNamespace, Namespaces, RootfsPlan};
use crate::sys::fd::{Later, done, set_attribute};
use crate::sys::mount::{
    Attr, Depth, FsContext, MAX_STRING, attach, clone_tree, is_mount_root, set_attr,
};

/// Makes the mount. Returns it where it is still to be made read-only at the end.
pub(super) fn carry_out(
    op: &MountOp,
    plan: &RootfsPlan,
    tree: &mut Tree<'_>,
    sources: &mut Sources,
    cgroups: Option<&CgroupMounts>,
) -> Result<Option<OwnedFd>> {
    if !matches!(op.kind, MountKind::Remount) {
        tree.bases.before_mount(&op.destination, links(op));
    }
    match &op.kind {
        MountKind::Bind { source, recursive } => {
            let open = || {
                let tree = copy_source(op, source, *recursive)?;
                if plan.namespaces.mount == MountNamespace::Detached {
                    // Nothing has cut the host's mounts off: what is mounted on a copy of them must not come back to them (M5).
                    set_attr(tree.as_fd(), Depth::Recursive, propagate(libc::MS_SLAVE))
                        .context("set the propagation")?;
                }
                apply(tree.as_fd(), op, op.top).map(|()| tree)
            };
            let copy = if plan.opens_early(op) {
                sources.next_or(open)
            } else {
                open()
            }
            .with_context(|| format!("source `{}`", source.display()))?;
            bind(op, tree, copy.as_fd())?;
            done(copy);
            Ok(None)
        }
        MountKind::Remount => remount(op, plan, tree.root).map(|()| None),
        MountKind::Cgroup => cgroup::mount(op, plan, tree, cgroups).map(|()| None),
        MountKind::Fs(fs) => file_system(op, fs, plan, tree, sources.pid_namespace()),
    }
}

/// A detached copy of a bind's source, still with the attributes of the source. Path lookups of it are the host's.
pub(super) fn copy_source(op: &MountOp, source: &Path, recursive: bool) -> Result<OwnedFd> {
    let depth = if recursive {
        Depth::Recursive
    } else {
        Depth::Top
    };
    let copied = match op.links.source {
        SourceLink::Follow => clone_tree(AT_FDCWD, source, depth),
        SourceLink::Itself | SourceLink::Copy => {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            nix::fcntl::open(source, flags, Mode::empty())
                .and_then(|found| clone_tree(found.as_fd(), Path::new(""), depth))
        }
    };
    let tree = copied.map_err(|errno| source_error(errno, depth))?;
    if op.destination == Path::new("/proc")
        && !procfs::is_proc_root(tree.as_fd()).context("look at the source")?
    {
        bail!("only a proc file system may be mounted at `/proc`");
    }
    Ok(tree)
}

/// Mounts that a mount namespace got from one of another user's stay together: what one covers must not be shown.
fn source_error(errno: Errno, depth: Depth) -> Error {
    let text = match (errno, depth) {
        (Errno::EINVAL, Depth::Top) => {
            "open (in a user namespace, one with mounts of the host below it needs `rbind`)"
        }
        _ => "open",
    };
    Error::new(errno).context(text)
}

fn bind(op: &MountOp, tree: &Tree<'_>, copy: BorrowedFd<'_>) -> Result<()> {
    let kind = inroot::file_type(copy).context("look at the source")?;
    if op.links.source == SourceLink::Copy && kind == SFlag::S_IFLNK {
        return copy_link(op, tree.root, copy);
    }
    let is_dir = kind == SFlag::S_IFDIR;
    let target = Later::new(target(op, tree, is_dir)?);
    if !is_dir && inroot::file_type(target.as_fd()).context("look at the target")? == SFlag::S_IFDIR
    {
        // Known before the kernel is asked to attach it: a mount that fails costs a grace period.
        return Err(Errno::ENOTDIR).context("the target is a directory and the source is not");
    }
    attach(copy, target.as_fd()).context("attach")
}

/// `copy-symlink`: what is there already must be that link.
fn copy_link(op: &MountOp, root: BorrowedFd<'_>, source: BorrowedFd<'_>) -> Result<()> {
    let text = nix::fcntl::readlinkat(source, "").context("read the link")?;
    let Some(link) = text.to_str() else {
        bail!("the text of the link is not UTF-8");
    };
    let (dir, name) =
        inroot::parent(root, &op.destination, DIR_MODE).map_err(|errno| target_error(op, errno))?;
    inroot::symlink(dir.as_fd(), name, link).context("make the link")?;
    let made = inroot::entry(dir.as_fd(), name).context("look at the target")?;
    if nix::fcntl::readlinkat(&made, "").ok() != Some(text.clone()) {
        bail!("the target exists and is not a link to `{link}`");
    }
    Ok(())
}

fn remount(op: &MountOp, plan: &RootfsPlan, root: BorrowedFd<'_>) -> Result<()> {
    let target = inroot::open(root, &op.destination, OFlag::O_PATH, links(op))
        .map_err(|errno| target_error(op, errno))?;
    if !is_mount_root(target.as_fd()).context("look at the target")? {
        bail!("remount: nothing is mounted there");
    }
    if plan.namespaces.mount == MountNamespace::Detached && op.destination != Path::new("/") {
        // There the kernel changes no attributes below the top: a copy with them covers it.
        let tree =
            clone_tree(target.as_fd(), Path::new(""), Depth::Recursive).context("copy it")?;
        apply(tree.as_fd(), op, op.top)?;
        return attach(tree.as_fd(), target.as_fd()).context("attach");
    }
    apply(target.as_fd(), op, op.top)
}

/// The attributes `top` for this mount, and what the plan says for the tree and the propagation, in as few calls as
/// they take.
pub(super) fn apply(mount: BorrowedFd<'_>, op: &MountOp, top: Change) -> Result<()> {
    let single = match op.propagation[..] {
        [one] => Some(one),
        _ => None,
    };
    for (depth, change) in [(Depth::Top, top), (Depth::Recursive, op.tree)] {
        let propagation = single
            .filter(|one| depth_of(*one) == depth)
            .map_or(0, |one| one.kind);
        let attr = Attr {
            set: change.set,
            clear: change.clear,
            propagation,
        };
        if attr != Attr::default() {
            set_attr(mount, depth, attr).map_err(|errno| attr_error(errno, attr))?;
        }
    }
    if single.is_none() {
        for one in &op.propagation {
            let attr = Attr {
                propagation: one.kind,
                ..Attr::default()
            };
            set_attr(mount, depth_of(*one), attr).context("set the propagation")?;
        }
    }
    Ok(())
}

fn depth_of(propagation: Propagation) -> Depth {
    if propagation.recursive {
        Depth::Recursive
    } else {
        Depth::Top
    }
}

fn attr_error(errno: Errno, attr: Attr) -> Error {
    let text = if errno == Errno::EPERM && attr.clear != 0 {
        "set attributes (one that an option takes away is locked by the host)"
    } else {
        "set attributes"
    };
    Error::new(errno).context(text)
}

fn file_system(
    op: &MountOp,
    fs: &FsMount,
    plan: &RootfsPlan,
    tree: &mut Tree<'_>,
    pid_namespace: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>> {
    if let Special::Tmpfs { copy_up } = fs.special {
        let made = tmpfs(op, fs, copy_up, tree)?;
        if op.top.set & libc::MOUNT_ATTR_RDONLY != 0 {
            return Ok(Some(made));
        }
        if copy_up {
            done(made);
        } else {
            tree.bases.add(&op.destination, made);
        }
        return Ok(None);
    }
    let made = match pid_namespace.filter(|_| fs.special == Special::Proc) {
        Some(namespace) => joined_proc::make(fs, op.top.set, namespace),
        None => make(fs, op.top.set),
    };
    let (made, own) = match made {
        Ok(made) => (made, true),
        Err(error) => (instead(op, fs, plan.namespaces, error)?, false),
    };
    let made = Later::new(made);
    apply(made.as_fd(), op, Change::default())?;
    let target = Later::new(target(op, tree, true)?);
    attach(made.as_fd(), target.as_fd()).context("attach")?;
    if own && matches!(fs.special, Special::Proc | Special::Sysfs) {
        tree.bases.add_closed(&op.destination);
    }
    Ok(None)
}

/// A user namespace may not make a sysfs of a network namespace, nor a proc of a pid namespace, that is not its own;
/// the host's is then what it would have shown.
fn instead(op: &MountOp, fs: &FsMount, own: Namespaces, error: Error) -> Result<OwnedFd> {
    let refused = error.downcast_ref::<Errno>() == Some(&Errno::EPERM)
        && (own.user || !in_initial_user_namespace());
    let source = match fs.special {
        Special::Sysfs if refused => "/sys",
        Special::Proc if refused && !own.pid => "/proc",
        Special::Proc if refused => {
            return Err(error.context(
                "a user namespace gets no new proc where parts of the host's `/proc` are covered",
            ));
        }
        _ => return Err(error),
    };
    // With what is mounted below: the kernel does not show a user namespace what was covered. So the attributes are
    // for all of it, above all read-only.
    let tree = clone_tree(AT_FDCWD, Path::new(source), Depth::Recursive)
        .with_context(|| format!("copy the host's `{source}`"))?;
    let attr = Attr {
        set: op.top.set,
        ..Attr::default()
    };
    set_attr(tree.as_fd(), Depth::Recursive, attr).context("set attributes")?;
    Ok(tree)
}

/// A tmpfs takes the mode of the directory that it covers. It stays writable until the end, for what is mounted in it.
pub(super) fn tmpfs(op: &MountOp, fs: &FsMount, copy_up: bool, tree: &Tree<'_>) -> Result<OwnedFd> {
    let has_mode = fs.data.iter().any(|(key, _)| key == "mode");
    let in_base = if has_mode && !copy_up {
        target_in_base(op, tree)
    } else {
        None
    };
    let mut fs = fs.clone();
    let mut covered = false;
    let target = match in_base {
        Some(target) => target,
        None => match existing(op, tree.root)? {
            Some(existing) => {
                if !has_mode {
                    let mode = fstat(&existing).context("look at the target")?.st_mode & 0o7777;
                    fs.data.push(("mode".to_owned(), Some(format!("{mode:o}"))));
                }
                covered = true;
                checked(op, tree, existing)?
            }
            None if op.links.target == TargetLink::Itself => target(op, tree, true)?,
            None => {
                let made = inroot::make_all(tree.root, &op.destination, DIR_MODE, links(op));
                checked(op, tree, made.map_err(|errno| target_error(op, errno))?)?
            }
        },
    };
    let made = make(&fs, op.top.set & !libc::MOUNT_ATTR_RDONLY)?;
    if copy_up && covered {
        copy_up::copy(target.as_fd(), made.as_fd()).context("tmpcopyup")?;
    }
    apply(made.as_fd(), op, Change::default())?;
    attach(made.as_fd(), target.as_fd()).context("attach")?;
    done(target);
    Ok(made)
}

/// A new file system as a detached mount with these attributes.
pub(super) fn make(fs: &FsMount, attrs: u64) -> Result<OwnedFd> {
    let tree = configure(&open(fs)?, fs, attrs)?;
    if let Some(label) = &fs.root_label {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::openat(&tree, ".", flags, Mode::empty()).context("open its root")?;
        set_attribute(root.as_fd(), c"security.selinux", label.as_bytes())
            .with_context(|| format!("linux.mountLabel: set label `{label}`"))?;
    }
    Ok(tree)
}

pub(super) fn open(fs: &FsMount) -> Result<FsContext> {
    FsContext::open(&fs.fstype).with_context(|| format!("file system type `{}`", fs.fstype))
}

pub(super) fn configure(context: &FsContext, fs: &FsMount, attrs: u64) -> Result<OwnedFd> {
    if let Some(source) = &fs.source {
        set(context, "source", Some(source))?;
    }
    for (key, value) in &fs.data {
        let value = value.as_ref().map(OsStr::new);
        match value {
            Some(value) if fs.fstype == "overlay" && overlay::is_layer_option(key) => {
                overlay::set_layer_option(context, key, value)?;
            }
            _ => set(context, key, value)?,
        }
    }
    // As mount(2) does: the superblock, too. Not for others, which are still to be filled.
    if fs.special == Special::Sysfs && attrs & libc::MOUNT_ATTR_RDONLY != 0 {
        set(context, "ro", None)?;
    }
    created(context, attrs)
}

/// Creates the configured file system and mounts it, detached.
pub(super) fn created(context: &FsContext, attrs: u64) -> Result<OwnedFd> {
    context
        .create()
        .map_err(|errno| explained(context, errno).context("create the file system"))?;
    context
        .mount(attrs)
        .map_err(|errno| explained(context, errno).context("mount the file system"))
}

/// The SELinux label of everything in a file system that keeps none (`linux.mountLabel`).
pub(super) fn set_label(context: &FsContext, label: Option<&str>) -> Result<()> {
    match label {
        Some(label) => set(context, "context", Some(OsStr::new(label))),
        None => Ok(()),
    }
}

/// One option of a file system.
pub(super) fn set(context: &FsContext, key: &str, value: Option<&OsStr>) -> Result<()> {
    let done = match value {
        None => context.set_flag(key),
        Some(value) if value.len() > MAX_STRING => {
            bail!("option `{key}`: its value is longer than {MAX_STRING} bytes");
        }
        Some(value) => context.set_string(key, value),
    };
    done.map_err(|errno| explained(context, errno).context(format!("option `{key}`")))
}

/// The errno with what the kernel says about it, where it says something.
fn explained(context: &FsContext, errno: Errno) -> Error {
    let error = Error::new(errno);
    match context.message() {
        Some(message) => error.context(message),
        None => error,
    }
}
