//! Everything that happens to the container's file system, from a [`RootfsPlan`]. Called by init only:
//!
//! 1. [`Sources::open`] by the parent, before the clone: what only the host can open;
//! 2. [`prepare`] in the new namespaces: propagation, root, mounts in their order, devices. The root is then a mount
//!    at its host path, where hooks of the runtime and of createContainer find it;
//! 3. [`Root::pivot`] makes it `/`; in between and after it init does the console and the cwd;
//! 4. [`Root::finish`]: root propagation, read-only mounts and paths, masks, at last the read-only root.
//!
//! The one rule: after the root was opened, nothing in it is named by a string with a path of the host
//! (P1); a target is a descriptor, and a mount has its final attributes before anybody can see it (M1).

mod bases;
mod cgroup;
mod copy_up;
mod detached;
mod devices;
mod idmap;
mod joined_proc;
pub(crate) mod live;
mod mask;
mod mount;
pub(crate) mod mount_table;
mod overlay;
pub(crate) mod pivot;
pub(crate) mod restored;
pub(crate) mod restored_check;
mod sources;
mod target;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::stat::Mode;

use crate::plan::mounts::CgroupMounts;
use crate::plan::rootfs::{MountNamespace, RootfsPlan};
use crate::sys::fd::done;
use crate::sys::mount::{Attr, Depth, set_attr};

use bases::Bases;
use pivot::Outer;
pub(crate) use pivot::{RootChange, enter};
pub(crate) use sources::Sources;

/// Directories made for mount points.
const DIR_MODE: Mode = Mode::from_bits_truncate(0o755);
/// Files made for mount points of files.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o644);

/// The container's root: prepared, then pivoted into, then finished.
pub(crate) struct Root {
    /// O_PATH, the root directory of the root mount.
    fd: OwnedFd,
    /// Of a mount namespace of the container's own: what is to be left behind.
    outer: Option<Outer>,
    /// tmpfs mounts that become read-only at the end: /dev still gets its console.
    read_only_later: Vec<OwnedFd>,
    /// The host's null device for masks (K1), taken while it could be reached.
    null: Option<OwnedFd>,
}

/// Builds the container's file system. All namespaces are joined, the process is root in its user namespace.
/// `cgroups` is needed where the plan has a cgroup mount. `join_network` is called, perhaps often, before what shows the network
/// namespace or is reached through it is mounted. The umask is 0: modes of files are meant as they stand.
pub(crate) fn prepare(
    plan: &RootfsPlan,
    mut sources: Sources,
    cgroups: Option<&CgroupMounts>,
    join_network: &mut dyn FnMut() -> Result<()>,
) -> Result<Root> {
    let outer = match plan.namespaces.mount {
        // The kernel makes no user namespace in a chroot, and for a joined one `refuse_chroot` was asked.
        MountNamespace::New if plan.namespaces.user => Some(Outer::own()?),
        MountNamespace::New => Some(Outer::find().context("look for a chroot")?),
        MountNamespace::Detached | MountNamespace::Foreign => None,
    };
    let mut root = Root {
        fd: open_root(plan, outer.as_ref())?,
        outer,
        read_only_later: Vec::new(),
        null: None,
    };
    let mut tree = target::Tree {
        root: root.fd.as_fd(),
        bases: Bases::default(),
        known: target::Known::of(plan.mounts.len()),
    };
    for op in &plan.mounts {
        if op.may_use_network() {
            join_network()?;
        }
        let later =
            mount::carry_out(op, plan, &mut tree, &mut sources, cgroups).with_context(|| {
                format!("mounts[{}]: mount `{}`", op.index, op.destination.display())
            })?;
        root.read_only_later.extend(later);
    }
    if let Some(nodes) = &plan.nodes {
        devices::make_all(nodes, plan, &tree, &mut sources)?;
    }
    if !plan.masked.is_empty() {
        root.null = match sources.take_null() {
            Some(null) => Some(null),
            None => Some(mask::null_device().context("linux.maskedPaths")?),
        };
    }
    Ok(root)
}

/// For a container that joins a user namespace, before it does: its root may not be able to come back to the bundle, as looking
/// for a chroot asks for.
pub(crate) fn refuse_chroot() -> Result<()> {
    match Outer::find() {
        Ok(outer) if !outer.chrooted => Ok(()),
        Ok(_) => bail!(
            "linux.namespaces: the runtime was called in a chroot, where no user namespace can be joined"
        ),
        // An unprivileged runtime has no right to look, and nothing but its user's to lose.
        Err(error) if error.downcast_ref() == Some(&Errno::EPERM) => Ok(()),
        Err(error) => Err(error.context("look for a chroot")),
    }
}

fn open_root(plan: &RootfsPlan, outer: Option<&Outer>) -> Result<OwnedFd> {
    match (plan.namespaces.mount, outer) {
        (MountNamespace::Foreign, _) => pivot::open_directory(&plan.root),
        (_, None) => detached::detached_root(plan),
        (_, Some(outer)) => {
            pivot::set_propagation(outer, plan.propagation)?;
            match &plan.overlay {
                None => pivot::attach_root(plan),
                Some(overlay) => overlay::attach_root(plan, overlay),
            }
        }
    }
    .with_context(|| format!("root.path: prepare root `{}`", plan.root.display()))
}

impl Root {
    /// The root directory: after [`Root::pivot`] it is `/`. Further files in it are made below this descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes the prepared root `/` and the working directory.
    pub(crate) fn pivot(&self, plan: &RootfsPlan, change: RootChange) -> Result<()> {
        pivot::change_root(self.fd(), self.outer.as_ref(), plan, change)
            .context("change the root directory")
    }

    /// Takes away what the container must not write or see. The last thing done to its file system.
    pub(crate) fn finish(self, plan: &RootfsPlan) -> Result<()> {
        if plan.namespaces.mount == MountNamespace::Foreign {
            return Ok(());
        }
        if let Some(propagation) = plan.propagation {
            pivot::set_root_propagation(self.fd(), propagation)?;
        }
        let read_only = Attr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attr::default()
        };
        for mount in &self.read_only_later {
            match plan.namespaces.mount {
                MountNamespace::Detached => mask::cover_read_only(mount.as_fd()),
                _ => set_attr(mount.as_fd(), Depth::Top, read_only).map_err(Into::into),
            }
            .context("make a tmpfs read-only")?;
        }
        for (index, path) in plan.read_only.iter().enumerate() {
            mask::make_read_only(self.fd(), path)
                .with_context(|| format!("linux.readonlyPaths[{index}]: `{}`", path.display()))?;
        }
        let null = self.null.as_ref().map(AsFd::as_fd);
        let mut masks = mask::Masks::new(null, plan.mount_label.as_deref());
        for (index, path) in plan.masked.iter().enumerate() {
            masks
                .mask(self.fd(), path)
                .with_context(|| format!("linux.maskedPaths[{index}]: `{}`", path.display()))?;
        }
        if plan.readonly {
            // The root itself by its descriptor (K3).
            set_attr(self.fd(), Depth::Top, read_only)
                .context("root.readonly: make the root read-only")?;
        }
        let Root {
            fd,
            outer,
            read_only_later,
            null,
        } = self;
        let outer = outer.map(|outer| outer.fd);
        let rest = outer.into_iter().chain(read_only_later).chain(null);
        std::iter::once(fd).chain(rest).for_each(done);
        Ok(())
    }
}
