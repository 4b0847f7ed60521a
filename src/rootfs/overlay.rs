//! The root assembled from layers by overlayfs, in the container's own mount namespace: no mount of the host is
//! needed, and without directories for the upper layer the bundle stays as it was. Called by `prepare`; the options
//! for layers are also used for `mounts[]` of type overlay, whose lists are longer than fsconfig(2) takes.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::fchownat;

use super::{mount, pivot};
use crate::fs::inroot::{self, Links};
use crate::plan::rootfs::{Overlay, RootfsPlan};
use crate::sys::mount::{FsContext, MAX_STRING, attach};

/// Assembles the overlay and mounts it on the root's path. The returned descriptor is the root of the new mount.
pub(super) fn attach_root(plan: &RootfsPlan, overlay: &Overlay) -> Result<OwnedFd> {
    let root = pivot::open_directory(&plan.root)?;
    pivot::isolate_parent(plan, root.as_fd())?;
    let lowers = open_all(&overlay.lowers)?;
    let context = FsContext::open("overlay").context("file system type `overlay`")?;
    mount::set(&context, "source", Some(OsStr::new("overlay")))?;
    set_lowers(&context, &lowers)?;
    let (base, upper, work) = match &overlay.upper {
        Some(dirs) => {
            let upper = pivot::open_directory(&dirs.upper)?;
            (root, upper, pivot::open_directory(&dirs.work)?)
        }
        None => private_upper(plan, &root, lowers.first())?,
    };
    set_directory(&context, "upperdir", upper.as_fd())?;
    set_directory(&context, "workdir", work.as_fd())?;
    if plan.namespaces.user {
        // The marks of whiteouts are `trusted.` attributes, which only the host's root may write.
        mount::set(&context, "userxattr", None)?;
    }
    mount::set_label(&context, plan.mount_label.as_deref())?;
    let tree = mount::created(&context, 0).context("overlay")?;
    attach(tree.as_fd(), base.as_fd()).context("attach the overlay")?;
    Ok(tree)
}

/// A tmpfs of this container alone for what it writes. It is attached where the overlay will cover it (older kernels
/// take no directory of a detached mount), so nobody can reach it, and goes with the old root.
fn private_upper(
    plan: &RootfsPlan,
    root: &OwnedFd,
    top: Option<&OwnedFd>,
) -> Result<(OwnedFd, OwnedFd, OwnedFd)> {
    let context = FsContext::open("tmpfs").context("file system type `tmpfs`")?;
    mount::set(&context, "source", Some(OsStr::new("overlay-upper")))?;
    mount::set(&context, "mode", Some(OsStr::new("700")))?;
    mount::set_label(&context, plan.mount_label.as_deref())?;
    let tmpfs = mount::created(&context, 0).context("tmpfs for the upper layer")?;
    attach(tmpfs.as_fd(), root.as_fd()).context("attach the tmpfs for the upper layer")?;
    // The container's `/` is the upper directory: owner and mode are those of the topmost layer's root.
    let stat = fstat(top.unwrap_or(root)).context("look at the topmost layer")?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    let upper = make_directory(&tmpfs, "upper", mode)?;
    let (uid, gid) = (Some(stat.st_uid.into()), Some(stat.st_gid.into()));
    match fchownat(&upper, "", uid, gid, AtFlags::AT_EMPTY_PATH) {
        // An owner that does not exist in the user namespace cannot be given.
        Err(Errno::EINVAL | Errno::EPERM) if plan.namespaces.user => {}
        other => other.context("set the owner of the upper layer")?,
    }
    let work = make_directory(&tmpfs, "work", Mode::S_IRWXU)?;
    Ok((tmpfs, upper, work))
}

fn make_directory(tmpfs: &OwnedFd, name: &str, mode: Mode) -> Result<OwnedFd> {
    mkdirat(tmpfs, name, mode).with_context(|| format!("mkdir `{name}`"))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    inroot::open(tmpfs.as_fd(), Path::new(name), flags, Links::Refuse)
        .with_context(|| format!("open `{name}`"))
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    paths
        .iter()
        .map(|path| pivot::open_directory(path))
        .collect()
}

/// Whether the value of this option is one or several directories.
pub(super) fn is_layer_option(key: &str) -> bool {
    matches!(key, "lowerdir" | "upperdir" | "workdir")
}

/// An option of `mounts[]` with directories. As a string where that fits, else as descriptors.
pub(super) fn set_layer_option(context: &FsContext, key: &str, value: &OsStr) -> Result<()> {
    if value.len() <= MAX_STRING {
        return mount::set(context, key, Some(value));
    }
    if key == "lowerdir" {
        let lowers = split(value).and_then(|layers| open_all(&layers));
        return set_lowers(context, &lowers.with_context(|| format!("option `{key}`"))?);
    }
    let directory = pivot::open_directory(Path::new(value))?;
    set_directory(context, key, directory.as_fd())
}

/// The layers of a `lowerdir` value, topmost first; a backslash takes the meaning from a colon.
fn split(value: &OsStr) -> Result<Vec<PathBuf>> {
    let mut layers = vec![Vec::new()];
    let mut bytes = value.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, layers.last_mut()) {
            (b':', _) => layers.push(Vec::new()),
            (b'\\', Some(layer)) => layer.extend(bytes.next()),
            (_, Some(layer)) => layer.push(byte),
            (_, None) => {}
        }
    }
    if layers.iter().any(Vec::is_empty) {
        bail!("an empty layer (data-only layers are not supported in lists this long)");
    }
    Ok(layers
        .into_iter()
        .map(|layer| OsString::from_vec(layer).into())
        .collect())
}

/// Layers one by one (kernel 6.8), else in one list of the names that open descriptors have.
fn set_lowers(context: &FsContext, lowers: &[OwnedFd]) -> Result<()> {
    for (index, lower) in lowers.iter().enumerate() {
        match try_directory(context, "lowerdir+", lower.as_fd()) {
            Err(Errno::EINVAL) if index == 0 => return set_lower_list(context, lowers),
            other => other.context("option `lowerdir+`")?,
        }
    }
    Ok(())
}

fn set_lower_list(context: &FsContext, lowers: &[OwnedFd]) -> Result<()> {
    let names: Vec<String> = lowers.iter().map(|lower| name_of(lower.as_fd())).collect();
    let list = names.join(":");
    if list.len() > MAX_STRING {
        bail!(
            "{} layers are too many for this kernel (6.8 and later have no limit)",
            lowers.len()
        );
    }
    mount::set(context, "lowerdir", Some(OsStr::new(&list)))
}

fn set_directory(context: &FsContext, key: &str, directory: BorrowedFd<'_>) -> Result<()> {
    try_directory(context, key, directory).with_context(|| format!("option `{key}`"))
}

/// By descriptor, else by the name that it has: kernels before 6.13 take no descriptor here, and before 6.15 none at all that was
/// opened with O_PATH.
fn try_directory(context: &FsContext, key: &str, directory: BorrowedFd<'_>) -> nix::Result<()> {
    match context.set_fd(key, directory) {
        Err(Errno::EINVAL | Errno::EBADF) => {
            // What the kernel says about it would be taken for the reason of a later failure.
            let _ = context.message();
            context.set_string(key, OsStr::new(&name_of(directory)))
        }
        other => other,
    }
}

/// A name for kernels that take nothing else. It is read before the root changes, so /proc is the host's.
fn name_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_layers() {
        let got = split(OsStr::new(r"/a:/b\:c:/d\\e")).unwrap();
        assert_eq!(got, ["/a", "/b:c", r"/d\e"].map(PathBuf::from));
        assert!(split(OsStr::new("/a::/data")).is_err());
    }
}
