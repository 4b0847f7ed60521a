//! Executes this program once more from a file that nobody can write: a detached overlay of its directory without an upper
//! layer (E1). Called by `early.rs` before libc has started, which spares a command a whole start, and by `sealed` where that
//! was not done.
//!
//! What must be true, for the first of the two: nothing that it calls needs the heap, relocated data or a thread's own, nothing can
//! panic, and nothing calls into libc, which is done by addresses that are relocated: no clearing of arrays, no strlen(3), no
//! comparing of texts of unknown length. What fails is left as it was and said by a number, for the other caller to deal with.

use std::ffi::{CStr, CString, c_char, c_long, c_uint};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;

use super::process::pointers;

/// The name of the program's own file.
pub(crate) const SELF: &CStr = c"/proc/self/exe";
/// An overlay without an upper layer needs two lower ones; this one is never looked into, it only has to be a directory of
/// every host.
const SECOND_LAYER: &CStr = c"/etc";
/// The second layer for a program that lies in the first of these.
const ROOT: &CStr = c"/";
/// This process has been seen to be the protected one; otherwise it has to be looked at.
pub(crate) static PROTECTED: AtomicBool = AtomicBool::new(false);
/// Descriptors below this are the standard streams.
const STDIO: usize = 3;
/// The longest path of the program; fsconfig(2) takes no longer ones than a quarter of it.
const LONGEST: usize = 1024;

/// Executes the protected program with these arguments and this environment. Returns only on failure.
pub(crate) fn execute(args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both are lists of live strings, ended by a null.
    Errno::from_raw(unsafe { try_execute(args.as_ptr(), env.as_ptr()) })
}

/// The same. Returns the number of the error.
///
/// # Safety
/// Both are lists of strings ended by a null, as execve(2) takes them.
pub(super) unsafe fn try_execute(args: *const *const c_char, env: *const *const c_char) -> i32 {
    let mut path = MaybeUninit::<[u8; LONGEST]>::uninit();
    let path = path.as_mut_ptr().cast::<u8>();
    let own = SELF.as_ptr().addr();
    let room = [own, path.expose_provenance(), LONGEST - 1, 0, 0];
    // SAFETY: the kernel reads a string and writes at most so many bytes.
    let length = match unsafe { call(libc::SYS_readlink, room) } {
        Ok(length) => length,
        Err(error) => return error,
    };
    // SAFETY: the kernel has written all of it.
    let text = unsafe { std::slice::from_raw_parts(path, length) };
    let Some(slash) = text.iter().rposition(|byte| *byte == b'/') else {
        return libc::ENOENT;
    };
    let second = if text.get(..slash) == Some(SECOND_LAYER.to_bytes()) {
        ROOT
    } else {
        SECOND_LAYER
    };
    // SAFETY: there is one more than the kernel was told of.
    unsafe { path.wrapping_add(length).write(0) };
    // SAFETY: within what was written.
    unsafe { path.wrapping_add(slash).write(0) };
    let name = path.wrapping_add(slash + 1).addr();
    let directory = if slash == 0 {
        ROOT.as_ptr().addr()
    } else {
        path.addr()
    };
    // SAFETY: the caller vouches for both lists, and both names are strings now.
    unsafe { from_overlay([directory, second.as_ptr().addr()], name, args, env) }
}

/// The overlay stays open in what is executed, see [`release`], unless it would stand in the place of a standard stream (F1).
///
/// # Safety
/// As [`try_execute`]; layers and name are addresses of strings.
unsafe fn from_overlay(
    layers: [usize; 2],
    name: usize,
    args: *const *const c_char,
    env: *const *const c_char,
) -> i32 {
    // SAFETY: the caller vouches for the layers.
    let tree = match unsafe { overlay(layers) } {
        Ok(tree) => tree,
        Err(error) => return error,
    };
    if tree < STDIO {
        let cloexec = libc::FD_CLOEXEC.cast_unsigned() as usize;
        let arguments = [tree, libc::F_SETFD.cast_unsigned() as usize, cloexec, 0, 0];
        // SAFETY: the call takes integers.
        let _ = unsafe { call(libc::SYS_fcntl, arguments) };
    }
    let flags = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned() as usize;
    let arguments = [tree, name, args.addr(), env.addr(), flags];
    // SAFETY: a string and lists of strings, as the caller vouches. It does not return on success.
    let error = unsafe { call(libc::SYS_execveat, arguments) };
    let error = error.err().unwrap_or(libc::EIO);
    close(tree);
    error
}

/// The descriptor of the overlay that this program was executed from, by the name under which the kernel executes such a file
/// (AT_EXECFN: /dev/fd/NUMBER/NAME). It is only ever closed: a caller that gives it another loses that one.
fn tree() -> Option<RawFd> {
    // SAFETY: the call reads what the kernel has laid beside the stack.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let name = std::ptr::with_exposed_provenance::<c_char>(usize::try_from(name).ok()?);
    if name.is_null() {
        return None;
    }
    // SAFETY: the kernel's string lies there for as long as the process lives.
    let name = unsafe { CStr::from_ptr(name) };
    let rest = name.to_str().ok()?.strip_prefix("/dev/fd/")?;
    let number: usize = rest.split_once('/')?.0.parse().ok()?;
    RawFd::try_from(number).ok().filter(|_| number >= STDIO)
}

/// This process is the protected one. What it will execute does not get the overlay.
pub(crate) fn hold() {
    PROTECTED.store(true, Relaxed);
    if let Some(tree) = tree() {
        // SAFETY: the call takes integers.
        unsafe { libc::fcntl(tree, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes the overlay, once; the program goes on in it. Who closes it last waits for all CPUs (some 70 us: an RCU grace period), so
/// a clone does it at once, and the runtime when it has nothing else to do.
pub(crate) fn release() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    if PROTECTED.load(Relaxed)
        && !RELEASED.swap(true, Relaxed)
        && let Some(tree) = tree()
    {
        // SAFETY: nobody else knows of it.
        unsafe { libc::close(tree) };
    }
}

/// The descriptor of the mount.
///
/// # Safety
/// The layers are addresses of strings.
unsafe fn overlay(layers: [usize; 2]) -> Result<usize, i32> {
    let cloexec = libc::FSOPEN_CLOEXEC as usize;
    let arguments = [c"overlay".as_ptr().addr(), cloexec, 0, 0, 0];
    // SAFETY: the kernel reads one string.
    let context = unsafe { call(libc::SYS_fsopen, arguments) }?;
    let configure = |command: c_uint, key, value| {
        let arguments = [context, command as usize, key, value, 0];
        // SAFETY: the kernel reads two strings, or none where both are null.
        unsafe { call(libc::SYS_fsconfig, arguments) }
    };
    let mount = || {
        for layer in layers {
            configure(
                libc::FSCONFIG_SET_STRING,
                c"lowerdir+".as_ptr().addr(),
                layer,
            )?;
        }
        configure(libc::FSCONFIG_CMD_CREATE, 0, 0)?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        // Where a number is too small for them no such mount is made.
        let attributes = usize::try_from(attributes).unwrap_or(usize::MAX);
        // SAFETY: the call takes integers.
        unsafe { call(libc::SYS_fsmount, [context, 0, attributes, 0, 0]) }
    };
    let mounted = mount();
    close(context);
    mounted
}

fn close(fd: usize) {
    // SAFETY: one that was opened here.
    let _ = unsafe { call(libc::SYS_close, [fd, 0, 0, 0, 0]) };
}

/// A system call by itself, for libc's keeps the error in memory that a thread has to have been given. The error is its number.
///
/// # Safety
/// What `arguments` point to is what that call takes.
pub(super) unsafe fn call(number: c_long, arguments: [usize; 5]) -> Result<usize, i32> {
    // SAFETY: as the caller vouches.
    let returned = unsafe { raw(number, arguments) };
    usize::try_from(returned).map_err(|_| i32::try_from(-returned).unwrap_or(libc::EIO))
}

/// # Safety
/// As [`call`].
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: c_long, [rdi, rsi, rdx, r10, r8]: [usize; 5]) -> isize {
    let returned;
    // SAFETY: the instruction changes these registers and what the call writes to, for which the caller vouches.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => returned,
            in("rdi") rdi, in("rsi") rsi, in("rdx") rdx, in("r10") r10, in("r8") r8,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

/// Where the program starts with libc.
///
/// # Safety
/// As [`call`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn raw(number: c_long, [first, second, third, fourth, fifth]: [usize; 5]) -> isize {
    // SAFETY: as the caller vouches.
    let returned = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
    if returned < 0 {
        -(Errno::last_raw() as isize)
    } else {
        returned as isize
    }
}
