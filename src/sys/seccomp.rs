//! seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use libc::sock_filter;
use nix::errno::Errno;

use super::{Result, check};

/// Loads a filter for the calling thread. Needs CAP_SYS_ADMIN in the user namespace or no_new_privs. With
/// SECCOMP_FILTER_FLAG_NEW_LISTENER the notify descriptor comes back, close-on-exec from birth.
pub(crate) fn set_filter(filter: &[sock_filter], flags: u32) -> Result<Option<OwnedFd>> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        // The kernel only reads through it; the type of the field has no const.
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` describes the live slice `filter`, which the kernel copies before returning.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    let ret = check(ret)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(ret).map_err(|_| Errno::EBADF)?;
    // SAFETY: with this flag a success returns a new descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Flags of SECCOMP_SET_MODE_FILTER, whose type differs between libc's targets.
pub(crate) const LOG: u32 = 1 << 1;
pub(crate) const SPEC_ALLOW: u32 = 1 << 2;
pub(crate) const NEW_LISTENER: u32 = 1 << 3;
pub(crate) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Any system call, to see what a loaded filter does to it.
#[cfg(test)]
pub(crate) fn raw_call(number: libc::c_long, args: [usize; 6]) -> Result<libc::c_long> {
    // SAFETY: the tests pass calls and arguments that touch no memory of the process.
    check(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_libc_s() {
        assert_eq!(libc::c_ulong::from(LOG), libc::SECCOMP_FILTER_FLAG_LOG);
        assert_eq!(
            libc::c_ulong::from(SPEC_ALLOW),
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        );
        assert_eq!(
            libc::c_ulong::from(NEW_LISTENER),
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        );
        assert_eq!(
            libc::c_ulong::from(WAIT_KILLABLE_RECV),
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        );
    }
}
