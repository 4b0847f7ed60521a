//! Protection of the runtime's own binary (E1, CVE-2019-5736). A process that the container can see must never have a
//! /proc/PID/exe through which the host's binary could be written. So verbs that enter a container first execute themselves
//! again from a file that cannot be written whatever rights are held: a detached overlay of the binary's directory without an
//! upper layer, or, where that cannot be had, a sealed copy in memory. Called by `container::{create, run, exec, restore}` first
//! of all, and by `cli` before it looks at the rest of the command line, so that nothing is done twice. In the shipped program
//! that has mostly been done already, before libc's start (`sys/early.rs`).
//!
//! The overlay has no writable layer at all, so there is nothing to remount or unwrap, and no byte is copied: about 0.1 ms
//! against 0.7 ms for copying 2.5 MB (measured on Linux 6.18).

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context as _, Result, anyhow};
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, open, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statfs::{HUGETLBFS_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;

use crate::sys::protect::{PROTECTED, SELF};
use crate::{sys, timings};

/// linux/memfd.h; missing from nix.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// Returns at once in the protected process; otherwise executes the protected one in place of this.
pub(crate) fn ensure() -> Result<()> {
    if PROTECTED.load(Relaxed) {
        return Ok(());
    }
    execute_protected().inspect_err(|_| timings::phase("protect"))
}

fn execute_protected() -> Result<()> {
    if is_protected()? {
        sys::protect::hold();
        return Ok(());
    }
    let args = sys::start::arguments()
        .iter()
        .map(|arg| CString::new(arg.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let env = std::env::vars_os()
        .filter(|(name, _)| name != timings::BEGAN)
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .chain(timings::began().map(CString::new))
        .collect::<Result<Vec<_>, _>>()?;
    // On a file system without overlays, for instance, or in a user namespace.
    let failed = sys::protect::execute(&args, &env);
    let copy = sealed_copy().with_context(|| {
        format!("protect the runtime's binary from the container (by an overlay: {failed})")
    })?;
    Err(anyhow!(sys::process::exec_fd(copy.as_fd(), &args, &env))
        .context("execute the protected runtime binary"))
}

fn open_own() -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, SELF, flags, Mode::empty())
        .with_context(|| format!("open `{}`", SELF.to_string_lossy()))
}

/// A read-only overlay, or a memory file with every seal. Nothing of it comes from the environment or the arguments, which a
/// container could forge.
fn is_protected() -> Result<bool> {
    let on = statfs(SELF).context("statfs of the runtime's binary")?;
    if on.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
        return Ok(on.flags().contains(FsFlags::ST_RDONLY));
    }
    if ![TMPFS_MAGIC, HUGETLBFS_MAGIC].contains(&on.filesystem_type()) {
        return Ok(false);
    }
    let wanted = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    // EINVAL: a file that knows no seals.
    Ok(fcntl(&open_own()?, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(wanted)))
}

fn sealed_copy() -> Result<OwnedFd> {
    let own = open_own()?;
    let copy = memfd_create(
        c"rundlet",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFD_EXEC,
    )
    // MFD_EXEC is refused by kernels before 6.3, where every memory file may be executed.
    .or_else(|_| {
        memfd_create(
            c"rundlet",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )
    })
    .context("make a memory file")?;
    let mut target = std::fs::File::from(copy);
    std::io::copy(&mut std::fs::File::from(own), &mut target)
        .context("copy the binary into memory")?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&target, FcntlArg::F_ADD_SEALS(seals)).context("seal the copy")?;
    // Executing needs a descriptor that is not open for writing.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    open(
        path.as_str(),
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .context("reopen the sealed copy")
}
