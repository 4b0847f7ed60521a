//! landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2), and the question to execve(2) whether it would be
//! allowed. Called by `init`; `container` asks which version the kernel has.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::{Result, check};

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_uint = 1;
const RULE_NET_PORT: libc::c_uint = 2;
/// Of execveat(2), Linux 6.14: look whether, and do not.
const AT_EXECVE_CHECK: libc::c_int = 0x10000;

/// What a ruleset is about: `LANDLOCK_ACCESS_FS_*`, `LANDLOCK_ACCESS_NET_*` and `LANDLOCK_SCOPE_*` bits.
#[repr(C)]
struct RulesetAttr {
    fs: u64,
    net: u64,
    scope: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    access: u64,
    parent: i32,
}

#[repr(C)]
struct NetPortAttr {
    access: u64,
    port: u64,
}

/// The version of the interface, from 1 on. ENOSYS: not built; EOPNOTSUPP: switched off when the machine was booted.
pub(crate) fn version() -> Result<u32> {
    let nothing = ptr::null::<RulesetAttr>();
    // SAFETY: a null pointer with size 0 is what the flag asks for; no memory is read or written.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    check(ret).map(|version| u32::try_from(version).unwrap_or(0))
}

/// A ruleset without rules. A kernel that does not know the last fields takes them when they are 0.
pub(crate) fn create(fs: u64, net: u64, scope: u64) -> Result<OwnedFd> {
    let attr = RulesetAttr { fs, net, scope };
    let size = size_of::<RulesetAttr>();
    // SAFETY: `attr` is initialised, lives over the call and `size` is its size; the kernel only reads it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attr,
            size,
            0_u32,
        )
    };
    let raw = i32::try_from(check(ret)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: `raw` was returned by a successful system call a moment ago as a new descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Allows `access` to the file `parent`, or to what is below that directory.
pub(crate) fn allow_beneath(
    ruleset: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    access: u64,
) -> Result<()> {
    let attr = PathBeneathAttr {
        access,
        parent: parent.as_raw_fd(),
    };
    add_rule(ruleset, RULE_PATH_BENEATH, (&raw const attr).cast())
}

/// Allows `access` to a TCP port.
pub(crate) fn allow_port(ruleset: BorrowedFd<'_>, port: u16, access: u64) -> Result<()> {
    let port = u64::from(port);
    let attr = NetPortAttr { access, port };
    add_rule(ruleset, RULE_NET_PORT, (&raw const attr).cast())
}

fn add_rule(ruleset: BorrowedFd<'_>, kind: libc::c_uint, attr: *const libc::c_void) -> Result<()> {
    let fd = ruleset.as_raw_fd();
    // SAFETY: the callers above give the structure that belongs to `kind`, which lives over the call; the kernel only reads it.
    let ret = unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, kind, attr, 0_u32) };
    check(ret).map(drop)
}

/// From here on this process and its children are held to the rules. Needs CAP_SYS_ADMIN or no_new_privs.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    let fd = ruleset.as_raw_fd();
    // SAFETY: integers only.
    let ret = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0_u32) };
    check(ret).map(drop)
}

/// Whether execve(2) of `program` would be allowed; EINVAL before Linux 6.14.
pub(crate) fn may_execute(program: &CStr) -> Result<()> {
    let args = [program.as_ptr(), ptr::null()];
    let env = [ptr::null::<libc::c_char>()];
    // SAFETY: the strings are null-terminated, the lists end in null, and all of them outlive the call; the kernel only reads.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            libc::AT_FDCWD,
            program.as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            AT_EXECVE_CHECK,
        )
    };
    check(ret).map(drop)
}
