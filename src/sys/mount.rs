//! The descriptor-based mount API of Linux: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2),
//! mount_setattr(2), and the part of statx(2) that tells a mount's root. Called by `rootfs/` and `fs/procfs.rs`.
//! Every descriptor made here is close-on-exec at birth. Targets are always descriptors, never names (P2).

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::NixPath;
use nix::errno::Errno;

use super::fd::Later;
use super::{Result, check};

/// Whether a call means one mount or also all mounts below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Top,
    Recursive,
}

/// What mount_setattr(2) changes: `MOUNT_ATTR_*` bits to set and to clear, and one of `MS_SHARED`, `MS_SLAVE`,
/// `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

/// Longest value that FSCONFIG_SET_STRING takes (the kernel copies 256 bytes with the NUL).
pub(crate) const MAX_STRING: usize = 255;

/// Turns the descriptor a system call returned into its owner.
fn owned(ret: libc::c_long) -> Result<OwnedFd> {
    let raw = i32::try_from(ret).map_err(|_| Errno::EBADF)?;
    // SAFETY: `raw` was returned by a successful system call a moment ago as a new descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn cstring(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// A file system being configured; becomes a detached mount with [`FsContext::mount`].
pub(crate) struct FsContext(Later);

impl FsContext {
    pub(crate) fn open(fstype: &str) -> Result<Self> {
        let name = cstring(fstype.as_bytes())?;
        // SAFETY: `name` is NUL-terminated and outlives the call; the kernel only reads it.
        let ret = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
        Ok(Self(Later::new(owned(check(ret)?)?)))
    }

    /// An option without a value (`ro`, `newinstance`).
    pub(crate) fn set_flag(&self, key: &str) -> Result<()> {
        let key = cstring(key.as_bytes())?;
        self.config(libc::FSCONFIG_SET_FLAG, Some(&key), ptr::null(), 0)
    }

    /// An option with a value of at most [`MAX_STRING`] bytes.
    pub(crate) fn set_string(&self, key: &str, value: &OsStr) -> Result<()> {
        let key = cstring(key.as_bytes())?;
        let value = cstring(value.as_bytes())?;
        self.config(
            libc::FSCONFIG_SET_STRING,
            Some(&key),
            value.as_ptr().cast(),
            0,
        )
    }

    /// An option whose value is an open file.
    pub(crate) fn set_fd(&self, key: &str, fd: BorrowedFd<'_>) -> Result<()> {
        let key = cstring(key.as_bytes())?;
        self.config(
            libc::FSCONFIG_SET_FD,
            Some(&key),
            ptr::null(),
            fd.as_raw_fd(),
        )
    }

    /// Makes the superblock (or finds the existing one, where the file system has one a namespace).
    pub(crate) fn create(&self) -> Result<()> {
        self.config(libc::FSCONFIG_CMD_CREATE, None, ptr::null(), 0)
    }

    /// The detached mount of the created superblock, with these `MOUNT_ATTR_*` from its first moment (M1).
    pub(crate) fn mount(&self, attrs: u64) -> Result<OwnedFd> {
        let fd = self.0.as_raw_fd();
        // SAFETY: fsmount takes a descriptor and two integers; no memory of ours is read or written.
        let ret = unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, attrs) };
        owned(check(ret)?)
    }

    /// What the kernel has to say about the last failure: the context keeps the text that mount(2) would have
    /// sent to the kernel log.
    pub(crate) fn message(&self) -> Option<String> {
        let mut text = [0_u8; 512];
        let len = nix::unistd::read(self.0.as_fd(), &mut text).ok()?;
        let line = String::from_utf8_lossy(text.get(..len)?);
        // Each message starts with its level: "e ", "w " or "i ".
        let line = line.trim().get(2..)?.trim().to_owned();
        (!line.is_empty()).then_some(line)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CString>,
        value: *const libc::c_void,
        aux: i32,
    ) -> Result<()> {
        let key = key.map_or(ptr::null(), |k| k.as_ptr());
        let fd = self.0.as_raw_fd();
        // SAFETY: `key` and `value` are null or point to NUL-terminated strings that the callers above keep alive
        // over the call; the kernel only reads them.
        let ret = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, aux) };
        check(ret).map(drop)
    }
}

/// A detached copy of the mount at `path` (relative to `dir`; the empty path is `dir` itself).
pub(crate) fn clone_tree(dir: BorrowedFd<'_>, path: &Path, depth: Depth) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    if path.as_os_str().is_empty() {
        flags |= libc::AT_EMPTY_PATH.cast_unsigned();
    }
    let dir = dir.as_raw_fd();
    let ret = path.with_nix_path(|path| {
        // SAFETY: `path` is NUL-terminated for the time of the call; the kernel only reads it.
        unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) }
    })?;
    owned(check(ret)?)
}

/// Attaches the mount `tree` on what `target` refers to. Both are descriptors, so no name is looked up again (P2).
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    let (tree, target) = (tree.as_raw_fd(), target.as_raw_fd());
    // SAFETY: both paths are the static empty string; the kernel only reads them.
    let ret = unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, target, empty, flags) };
    check(ret).map(drop)
}

/// Changes attributes of the mount whose root `fd` is, and of those below it with [`Depth::Recursive`].
pub(crate) fn set_attr(fd: BorrowedFd<'_>, depth: Depth, attr: Attr) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    mount_setattr(fd, depth, attr)
}

/// Maps the ids of a detached mount as the user namespace `userns` does. Once a mount; the caller must be root of the initial
/// user namespace.
pub(crate) fn id_map(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, depth: Depth) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(userns.as_raw_fd().cast_unsigned()),
    };
    mount_setattr(mount, depth, attr)
}

fn mount_setattr(fd: BorrowedFd<'_>, depth: Depth, attr: libc::mount_attr) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let fd = fd.as_raw_fd();
    let empty = c"".as_ptr();
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `attr` is initialised, lives over the call and `size` is its size; the path is the static empty string.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            empty,
            flags,
            &raw const attr,
            size,
        )
    };
    check(ret).map(drop)
}

/// Whether `fd` is the root of a mount, so something was mounted exactly there.
pub(crate) fn is_mount_root(fd: BorrowedFd<'_>) -> Result<bool> {
    let attributes = statx(fd, 0)?.stx_attributes;
    Ok(attributes & u64::from(libc::STATX_ATTR_MOUNT_ROOT.cast_unsigned()) != 0)
}

/// The numbers of the mount that `fd` is on: the one in mount tables, which the kernel uses again, and the one that it never does
/// (0 before Linux 6.8).
pub(crate) fn mount_numbers(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    /// linux/stat.h; missing from `libc` on musl.
    const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;
    let number = statx(fd, libc::STATX_MNT_ID)?.stx_mnt_id;
    let found = statx(fd, STATX_MNT_ID_UNIQUE)?;
    let is_unique = found.stx_mask & STATX_MNT_ID_UNIQUE != 0;
    Ok((number, if is_unique { found.stx_mnt_id } else { 0 }))
}

/// Whether both are the same file of the same mount.
pub(crate) fn is_same_place(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool> {
    let mask = libc::STATX_INO | libc::STATX_MNT_ID;
    let (one, other) = (statx(one, mask)?, statx(other, mask)?);
    Ok((one.stx_mnt_id, one.stx_ino) == (other.stx_mnt_id, other.stx_ino))
}

/// Whether it is the root directory of this process.
pub(crate) fn is_own_root(fd: BorrowedFd<'_>) -> Result<bool> {
    let mask = libc::STATX_INO | libc::STATX_MNT_ID;
    let (one, other) = (statx(fd, mask)?, statx_at(fd, c"/", mask)?);
    Ok((one.stx_mnt_id, one.stx_ino) == (other.stx_mnt_id, other.stx_ino))
}

fn statx(fd: BorrowedFd<'_>, mask: libc::c_uint) -> Result<libc::statx> {
    statx_at(fd, c"", mask)
}

fn statx_at(dir: BorrowedFd<'_>, path: &CStr, mask: libc::c_uint) -> Result<libc::statx> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let raw = dir.as_raw_fd();
    // SAFETY: `stat` is a whole `struct statx` that the kernel may write; the path is null-terminated and outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_statx,
            raw,
            path.as_ptr(),
            libc::AT_EMPTY_PATH,
            mask,
            stat.as_mut_ptr(),
        )
    };
    check(ret)?;
    // SAFETY: the memory was zeroed, and every bit pattern is a valid `struct statx` (integers only).
    Ok(unsafe { stat.assume_init() })
}

/// chmod of what an O_PATH descriptor refers to: fchmodat2(2), kernel 6.6.
pub(crate) fn chmod_by_fd(fd: BorrowedFd<'_>, mode: libc::mode_t) -> Result<()> {
    const SYS_FCHMODAT2: libc::c_long = 452;
    let empty = c"".as_ptr();
    let raw = fd.as_raw_fd();
    // SAFETY: the path is the static empty string; the kernel writes nothing.
    let ret = unsafe { libc::syscall(SYS_FCHMODAT2, raw, empty, mode, libc::AT_EMPTY_PATH) };
    check(ret).map(drop)
}
