//! What the shipped program does before libc has started: a verb that enters a container executes the program once more, protected
//! (E1). Called by the first instructions of the program, in `start.rs`; where this is not compiled in, where it fails, and where
//! the time is to be taken, `sealed` does the same later.
//!
//! What must be true: as in `protect.rs`.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use super::protect::{SELF, call, same, try_execute};

// statfs(2).
const OVERLAYFS: i64 = 0x794c_7630;
const TMPFS: i64 = 0x0102_1994;
const HUGETLBFS: i64 = 0x9584_58f6;

/// Called at the very first with the stack as the kernel has laid it out: the number of arguments, the arguments and the
/// environment, each ended by a null. Whether much is to be done: 1 or 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn rundlet_protect(stack: *const usize) -> u32 {
    // SAFETY: that is what lies there.
    let count = unsafe { stack.read() };
    // SAFETY: the same.
    let args = unsafe { stack.add(1) }.cast::<*const c_char>();
    // SAFETY: behind the null that ends the arguments.
    let env = unsafe { args.add(count + 1) };
    // SAFETY: two lists of strings.
    if !unsafe { wants_protection(args, env) } {
        return 0;
    }
    if !is_protected() {
        // What it could not do is done and explained by `sealed`.
        // SAFETY: the same.
        unsafe { try_execute(args, env) };
    }
    1
}

/// Whether some argument is the name of a verb that will ask for it. One that only looks like that costs a little time. Where
/// the time is taken it is done later, to be seen.
///
/// # Safety
/// Two lists of strings, each ended by a null.
unsafe fn wants_protection(args: *const *const c_char, env: *const *const c_char) -> bool {
    let mut found = false;
    let mut at = 1;
    // SAFETY: there is at least the program's name, or its null.
    if unsafe { args.read() }.is_null() {
        return false;
    }
    loop {
        // SAFETY: not beyond the null that ends them.
        let arg = unsafe { args.add(at).read() };
        if arg.is_null() {
            break;
        }
        // SAFETY: strings, all of them.
        unsafe {
            if starts(arg, c"--timings") {
                return false;
            }
            found |= same(arg, c"run".as_ptr())
                || same(arg, c"create".as_ptr())
                || same(arg, c"exec".as_ptr())
                || same(arg, c"restore".as_ptr());
        }
        at += 1;
    }
    at = 0;
    loop {
        // SAFETY: not beyond the null that ends them.
        let variable = unsafe { env.add(at).read() };
        if variable.is_null() {
            return found;
        }
        // SAFETY: a string.
        if unsafe { starts(variable, c"RUNDLET_TIMINGS=") } {
            return false;
        }
        at += 1;
    }
}

/// # Safety
/// `text` is a string.
unsafe fn starts(text: *const c_char, with: &CStr) -> bool {
    let mut at = 0;
    loop {
        // SAFETY: not beyond the null of `with`.
        let wanted = unsafe { with.as_ptr().add(at).read() };
        if wanted == 0 {
            return true;
        }
        // SAFETY: all before were equal to what is not null.
        if unsafe { text.add(at).read() } != wanted {
            return false;
        }
        at += 1;
    }
}

/// Whether this program runs from such an overlay, or from a file in memory, which `sealed` looks at.
fn is_protected() -> bool {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    let arguments = [SELF.as_ptr() as usize, stat.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads a string and writes one statfs.
    if unsafe { call(libc::SYS_statfs, arguments) } != 0 {
        return true;
    }
    // SAFETY: it was written.
    let stat = unsafe { stat.assume_init() };
    let read_only = stat.f_flags & libc::ST_RDONLY != 0;
    match stat.f_type as i64 {
        OVERLAYFS => read_only,
        TMPFS | HUGETLBFS => true,
        _ => false,
    }
}
