//! bpf(2) as far as device programs on a cgroup need it: load, attach, query, detach, and a program's name.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Result, check};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// `union bpf_attr`, always of full size and zeroed: kernels 6.17 to 7.1 write behind a short one (G5).
#[repr(C, align(8))]
struct Attr([u8; 256]);

impl Attr {
    fn new() -> Self {
        Self([0; 256])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: &impl AsFd) -> Self {
        self.u32(at, fd.as_fd().as_raw_fd().cast_unsigned())
    }

    /// Stores an address for the kernel. What it points to must live, and stay writable where the kernel writes,
    /// until the call has returned: that is what `call`'s callers promise.
    fn pointer<T>(mut self, at: usize, value: *const T) -> Self {
        self.0[at..at + 8].copy_from_slice(&(value.expose_provenance() as u64).to_ne_bytes());
        self
    }

    fn get_u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn call(&mut self, command: libc::c_long) -> Result<libc::c_long> {
        let at = (&raw mut self.0).cast::<u8>();
        // SAFETY: `at` covers all 256 bytes the size argument names, and every address inside was put there by a
        // function below from a buffer that it still borrows.
        check(unsafe { libc::syscall(libc::SYS_bpf, command, at, size_of::<Attr>()) })
    }

    fn call_fd(&mut self, command: libc::c_long) -> Result<OwnedFd> {
        let raw = RawFd::try_from(self.call(command)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor (close-on-exec) and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }
}

/// Why a program was not loaded: the errno, and what the verifier said where it said something.
#[derive(Debug)]
pub(crate) struct LoadError {
    pub(crate) errno: Errno,
    pub(crate) verifier: String,
}

/// Loads a device program. `name` is at most 15 bytes of letters, digits, `_` and `.`.
pub(crate) fn load_device_program(
    instructions: &[[u8; 8]],
    name: &str,
) -> std::result::Result<OwnedFd, LoadError> {
    let bare = |errno| LoadError {
        errno,
        verifier: String::new(),
    };
    let count = u32::try_from(instructions.len()).map_err(|_| bare(Errno::E2BIG))?;
    // The kernel wants the instructions aligned as its struct is.
    let aligned: Vec<u64> = instructions
        .iter()
        .map(|i| u64::from_ne_bytes(*i))
        .collect();
    let license = c"Apache-2.0";
    let attr = || {
        let mut attr = Attr::new()
            .u32(0, PROG_TYPE_CGROUP_DEVICE)
            .u32(4, count)
            .pointer(8, aligned.as_ptr())
            .pointer(16, license.as_ptr());
        let name = &name.as_bytes()[..name.len().min(15)];
        attr.0[48..48 + name.len()].copy_from_slice(name);
        attr
    };
    // EAGAIN: the verifier was interrupted by a signal; everything else is final.
    let mut result = Err(Errno::EAGAIN);
    for _ in 0..30 {
        result = attr().call_fd(PROG_LOAD);
        if !matches!(result, Err(Errno::EAGAIN)) {
            break;
        }
    }
    result.map_err(|errno| {
        if !matches!(errno, Errno::EINVAL | Errno::EACCES) {
            return bare(errno);
        }
        let mut log = vec![0u8; 16 * 1024];
        let size = u32::try_from(log.len()).unwrap_or(0);
        let again = attr()
            .u32(24, 1)
            .u32(28, size)
            .pointer(32, log.as_mut_ptr())
            .call_fd(PROG_LOAD);
        drop(again);
        let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
        LoadError {
            errno,
            verifier: String::from_utf8_lossy(&log[..end]).trim().to_owned(),
        }
    })
}

/// Attaches a device program to a cgroup beside those that are there; all of them must allow an access.
pub(crate) fn attach(cgroup: &impl AsFd, program: &impl AsFd) -> Result<()> {
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .fd(4, program)
        .u32(8, ATTACH_CGROUP_DEVICE)
        .u32(12, F_ALLOW_MULTI);
    attr.call(PROG_ATTACH).map(drop)
}

/// Puts a device program in the place of another one in one step.
pub(crate) fn replace(cgroup: &impl AsFd, program: &impl AsFd, old: &impl AsFd) -> Result<()> {
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .fd(4, program)
        .u32(8, ATTACH_CGROUP_DEVICE)
        .u32(12, F_ALLOW_MULTI | F_REPLACE)
        .fd(16, old);
    attr.call(PROG_ATTACH).map(drop)
}

/// Takes a device program off a cgroup.
pub(crate) fn detach(cgroup: &impl AsFd, program: &impl AsFd) -> Result<()> {
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .fd(4, program)
        .u32(8, ATTACH_CGROUP_DEVICE);
    attr.call(PROG_DETACH).map(drop)
}

/// The ids of the device programs attached to this very cgroup (not to its ancestors).
pub(crate) fn query(cgroup: &impl AsFd) -> Result<Vec<u32>> {
    // The kernel allows 64 programs of a type on one cgroup.
    let mut ids = vec![0u32; 64];
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .u32(4, ATTACH_CGROUP_DEVICE)
        .pointer(16, ids.as_mut_ptr())
        .u32(24, 64);
    attr.call(PROG_QUERY)?;
    ids.truncate(usize::try_from(attr.get_u32(24)).unwrap_or(0));
    Ok(ids)
}

/// The program of an id; ENOENT when it is gone.
pub(crate) fn program_by_id(id: u32) -> Result<OwnedFd> {
    Attr::new().u32(0, id).call_fd(PROG_GET_FD_BY_ID)
}

/// The name a program was loaded with.
pub(crate) fn program_name(program: &impl AsFd) -> Result<String> {
    // `struct bpf_prog_info`; the name is the 16 bytes at 64. Larger than any kernel's, the rest stays zero.
    let mut info = [0u64; 48];
    let size = u32::try_from(mem::size_of_val(&info)).unwrap_or(0);
    Attr::new()
        .fd(0, program)
        .u32(4, size)
        .pointer(8, info.as_mut_ptr())
        .call(OBJ_GET_INFO_BY_FD)?;
    let bytes: Vec<u8> = info[8..10]
        .iter()
        .flat_map(|w| w.to_ne_bytes())
        .take_while(|&b| b != 0)
        .collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G5: all that the kernel may write behind the fields is ours, and says nothing.
    #[test]
    fn the_attribute_is_of_full_size() {
        assert_eq!(size_of::<Attr>(), 256);
        assert_eq!(Attr::new().0, [0; 256]);
    }
}
