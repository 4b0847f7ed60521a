//! Executes this program once more from a file that nobody can write: a detached overlay of its directory without an upper
//! layer (E1). Called by `start.rs` before libc has started, which spares a command a whole start, and by `sealed` where that
//! was not done.
//!
//! What must be true, for the first of the two: nothing here needs memory, relocated data or libc, and nothing can panic. What
//! fails is left as it was and said by a number, for the other caller to deal with.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;

use nix::errno::Errno;

use super::process::pointers;

/// The name of the program's own file.
pub(crate) const SELF: &CStr = c"/proc/self/exe";
/// An overlay without an upper layer needs two lower ones; this one is never looked into, it only has to be a directory of
/// every host.
const SECOND_LAYER: &CStr = c"/etc";
/// The second layer of a program in the first one.
const OTHER_LAYER: &CStr = c"/";
/// The longest path that readlink(2) is asked for, and the longest that fsconfig(2) takes is far below.
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
    // SAFETY: the kernel writes at most so many bytes, and one is left for the null.
    let length = unsafe {
        call(
            libc::SYS_readlink,
            [SELF.as_ptr() as usize, path as usize, LONGEST - 1, 0, 0],
        )
    };
    let Ok(mut slash) = usize::try_from(length) else {
        return -error_of(length);
    };
    // SAFETY: within the array, as `length` is below its size.
    unsafe { path.add(slash).write(0) };
    loop {
        let Some(before) = slash.checked_sub(1) else {
            return libc::ENOENT;
        };
        slash = before;
        // SAFETY: below `length`.
        if unsafe { path.add(slash).read() } == b'/' {
            break;
        }
    }
    // SAFETY: at most the place of the null.
    let name = unsafe { path.add(slash + 1) };
    // SAFETY: as above. It ends the directory's name there.
    unsafe { path.add(slash).write(0) };
    let directory = if slash == 0 {
        OTHER_LAYER.as_ptr()
    } else {
        path.cast_const().cast::<c_char>()
    };
    // SAFETY: `directory` and `name` are strings, and the rest is the caller's word.
    unsafe { from_overlay(directory, name.cast_const().cast(), args, env) }
}

/// # Safety
/// As [`try_execute`]; `directory` and `name` are strings.
unsafe fn from_overlay(
    directory: *const c_char,
    name: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
) -> i32 {
    // SAFETY: both are strings.
    let second = if unsafe { same(directory, SECOND_LAYER.as_ptr()) } {
        OTHER_LAYER
    } else {
        SECOND_LAYER
    };
    let (overlay, cloexec) = (c"overlay", libc::FSOPEN_CLOEXEC as usize);
    // SAFETY: the kernel reads one string.
    let context = unsafe {
        call(
            libc::SYS_fsopen,
            [overlay.as_ptr() as usize, cloexec, 0, 0, 0],
        )
    };
    let Ok(context) = usize::try_from(context) else {
        return -error_of(context);
    };
    let config = |command: libc::c_uint, key: *const c_char, value: *const c_char| {
        let arguments = [context, command as usize, key as usize, value as usize, 0];
        // SAFETY: `key` and `value` are null or strings, as the callers below give them.
        unsafe { call(libc::SYS_fsconfig, arguments) }
    };
    let layer =
        |path: *const c_char| config(libc::FSCONFIG_SET_STRING, c"lowerdir+".as_ptr(), path);
    let none = std::ptr::null::<c_char>();
    let mut done = layer(directory);
    if done == 0 {
        done = layer(second.as_ptr());
    }
    if done == 0 {
        done = config(libc::FSCONFIG_CMD_CREATE, none, none);
    }
    if done == 0 {
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        let arguments = [
            context,
            libc::FSMOUNT_CLOEXEC as usize,
            attributes as usize,
            0,
            0,
        ];
        // SAFETY: the call takes integers.
        done = unsafe { call(libc::SYS_fsmount, arguments) };
    }
    if let Ok(tree) = usize::try_from(done)
        && done > 0
    {
        let flags = (libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW) as usize;
        // SAFETY: the kernel reads one string.
        done = unsafe { call(libc::SYS_openat, [tree, name as usize, flags, 0, 0]) };
        if let Ok(file) = usize::try_from(done) {
            let here = libc::AT_EMPTY_PATH as usize;
            let empty = c"".as_ptr() as usize;
            let arguments = [file, empty, args as usize, env as usize, here];
            // SAFETY: lists and strings, as the caller vouches. It does not return on success.
            done = unsafe { call(libc::SYS_execveat, arguments) };
            // SAFETY: opened above, and nobody else's.
            unsafe { call(libc::SYS_close, [file, 0, 0, 0, 0]) };
        }
        // SAFETY: the same.
        unsafe { call(libc::SYS_close, [tree, 0, 0, 0, 0]) };
    }
    // SAFETY: the same.
    unsafe { call(libc::SYS_close, [context, 0, 0, 0, 0]) };
    -error_of(done)
}

/// # Safety
/// Both are strings.
pub(super) unsafe fn same(one: *const c_char, other: *const c_char) -> bool {
    let mut at = 0;
    loop {
        // SAFETY: not beyond the first null of either, as all before were equal and not null.
        let (a, b) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if a != b {
            return false;
        }
        if a == 0 {
            return true;
        }
        at += 1;
    }
}

fn error_of(returned: isize) -> i32 {
    // A kernel's error number is at most 4095.
    returned as i32
}

/// A system call by itself, for libc's keeps the error in memory that a thread has to have been given. Returns the negative
/// number of an error.
///
/// # Safety
/// What `arguments` point to is what that call takes.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [a, b, c, d, e] = arguments;
    let returned;
    // SAFETY: the instruction changes these registers and what the call writes to, for which the caller vouches.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

/// The same where the program starts with libc.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [a, b, c, d, e] = arguments;
    // SAFETY: as the caller vouches.
    let returned = unsafe { libc::syscall(number, a, b, c, d, e) };
    if returned < 0 {
        -(Errno::last_raw() as isize)
    } else {
        returned as isize
    }
}
