//! keyctl(2) for the session keyring of a container (L2).

use std::ffi::CStr;

use super::{Result, check};

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
const KEYCTL_DESCRIBE: libc::c_int = 6;

/// Joins the session keyring `name`, making it if need be, and gives up the one inherited. Returns the keyring's serial.
pub(crate) fn join_session(name: &CStr) -> Result<i32> {
    // SAFETY: `name` is null-terminated and outlives the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(ret).map(|serial| i32::try_from(serial).unwrap_or(i32::MAX))
}

/// The permission mask of key `serial`: four bytes possessor, user, group, other (keyctl_setperm(3)).
pub(crate) fn permissions(serial: i32) -> Result<u32> {
    let mut text = [0_u8; 512];
    // SAFETY: the kernel writes at most `text.len()` bytes into the live buffer.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            serial,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    let len = usize::try_from(check(ret)?).unwrap_or(0).min(text.len());
    // type;uid;gid;perm(hex);description
    let text = String::from_utf8_lossy(&text[..len]);
    text.split(';')
        .nth(3)
        .and_then(|perm| u32::from_str_radix(perm, 16).ok())
        .ok_or(nix::errno::Errno::EINVAL)
}

/// keyctl_setperm(3).
pub(crate) fn set_permissions(serial: i32, mask: u32) -> Result<()> {
    // SAFETY: integers only.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, mask) };
    check(ret).map(drop)
}
