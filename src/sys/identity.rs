//! setgroups(2), setresgid(2), setresuid(2) and capset(2) themselves. libc's wrappers of the first three change every thread
//! of the process, with three calls around each to stop signals; the callers, a process cloned by `clone3`, have one thread.
//! Called by the steps of `init`.

use nix::unistd::{Gid, Uid};

use super::{Result, check};

pub(crate) fn setgroups(groups: &[Gid]) -> Result<()> {
    let ids: Vec<libc::gid_t> = groups.iter().map(|gid| gid.as_raw()).collect();
    // SAFETY: pointer and length describe one live list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, ids.len(), ids.as_ptr()) }).map(drop)
}

pub(crate) fn setresgid(real: Gid, effective: Gid, saved: Gid) -> Result<()> {
    let [real, effective, saved] = [real, effective, saved].map(Gid::as_raw);
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, real, effective, saved) }).map(drop)
}

pub(crate) fn setresuid(real: Uid, effective: Uid, saved: Uid) -> Result<()> {
    let [real, effective, saved] = [real, effective, saved].map(Uid::as_raw);
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) }).map(drop)
}

/// prctl(PR_CAPBSET_DROP) of the capability of that number. EINVAL: this kernel has none.
pub(crate) fn drop_bounding(number: u32) -> Result<()> {
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) })
        .map(drop)
}

/// prctl(PR_CAPBSET_READ): whether that capability is in the bounding set.
pub(crate) fn is_bounding(number: u32) -> Result<bool> {
    // SAFETY: the call takes integers.
    let ret = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_READ, number, 0, 0, 0) };
    check(ret).map(|ret| ret != 0)
}

/// linux/capability.h: two 32-bit halves of each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// capset(2) of the calling thread: all three sets in one step, which the kernel checks against the sets of before.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| {
        [effective, permitted, inheritable]
            .map(|set| u32::try_from(set >> shift & u64::from(u32::MAX)).unwrap_or(u32::MAX))
    };
    let data = [half(0), half(32)];
    // SAFETY: both structures are whole, have the kernel's layout and outlive the call.
    let ret = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(ret).map(drop)
}
