//! sched_setattr(2), ioprio_set(2), set_mempolicy(2) and sched_setaffinity(2), which `nix` lacks or bounds at 1024 CPUs.
//! Called by `init/attributes.rs` for the process itself, by `container/placement.rs` for the one it has cloned.

use std::mem::size_of_val;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Result, check};

/// `struct sched_attr` as of Linux 5.3. An older kernel takes it while what it does not know is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

/// Sets policy and parameters of the calling process; `size` is filled in here.
pub(crate) fn set_attr(mut attr: Attr) -> Result<()> {
    attr.size = u32::try_from(size_of_val(&attr)).map_err(|_| Errno::E2BIG)?;
    // SAFETY: the kernel reads `size` bytes, the whole structure, which outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check(ret).map(drop)
}

/// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_SHIFT` of linux/ioprio.h.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_SHIFT: u32 = 13;

/// Sets the I/O class and priority of the calling process.
pub(crate) fn set_io_priority(class: u32, priority: u32) -> Result<()> {
    let value = class << CLASS_SHIFT | priority;
    // SAFETY: the call takes integers alone.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    check(ret).map(drop)
}

/// Sets the NUMA memory policy of the calling process. `nodes` is a bit mask, lowest node first; empty for none.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one off what it is told (set_mempolicy(2), BUGS), even off 0, so none is a null pointer.
    let (mask, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (nodes.as_ptr(), size_of_val(nodes) * 8 + 1)
    };
    // SAFETY: the kernel reads at most `bits - 1` bits, all of which are in the live slice; of a null pointer nothing.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check(ret).map(drop)
}

/// Binds a process to the CPUs of a bit mask of any length, lowest CPU first. What its cpuset does not have is left out.
pub(crate) fn set_affinity(pid: Pid, cpus: &[u64]) -> Result<()> {
    // SAFETY: length and pointer describe the same live slice.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid.as_raw(),
            size_of_val(cpus),
            cpus.as_ptr(),
        )
    };
    check(ret).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_what_is_built() {
        assert_eq!(size_of::<Attr>(), 56);
        let pid = crate::sys::process::fork_for_test(|| {
            set_attr(Attr {
                nice: 5,
                ..Attr::default()
            })
            .unwrap();
            let unknown = Attr {
                policy: 99,
                ..Attr::default()
            };
            assert_eq!(set_attr(unknown), Err(Errno::EINVAL));
            set_io_priority(2, 7).unwrap();
            set_memory_policy(0, &[]).unwrap();
            assert_eq!(set_memory_policy(99, &[1]), Err(Errno::EINVAL));
            // Far more CPUs than any machine has.
            set_affinity(Pid::from_raw(0), &[u64::MAX; 256]).unwrap();
            assert_eq!(
                set_affinity(Pid::from_raw(0), &[0; 256]),
                Err(Errno::EINVAL)
            );
        });
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }
}
