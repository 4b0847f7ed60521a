//! What the shipped program does before libc has started: a verb that enters a container executes the program once more, protected
//! (E1). Called by the first instructions of the program, in `start.rs`; where this is not compiled in, where it fails, and where
//! the time is to be taken, `sealed` does the same later.
//!
//! What must be true: as in `protect.rs`.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;

use super::protect::{PROTECTED, SELF, call, try_execute};

// statfs(2).
const OVERLAYFS: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Called at the very first with the stack as the kernel has laid it out: the number of arguments, the arguments and the
/// environment, each ended by a null. Whether much is to be done: 1 or 0.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn rundlet_protect(stack: *const usize) -> u32 {
    // SAFETY: that is what lies there.
    let count = unsafe { stack.read() };
    let args = stack.wrapping_add(1).cast::<*const c_char>();
    // Behind the null that ends the arguments.
    let env = args.wrapping_add(count + 1);
    // SAFETY: two lists of strings, each ended by a null.
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

/// Whether some argument is the name of such a verb. One that only looks like that costs a little time. Where the time is taken it
/// is done later, to be seen.
///
/// # Safety
/// Two lists of strings, each ended by a null.
unsafe fn wants_protection(args: *const *const c_char, env: *const *const c_char) -> bool {
    let mut found = false;
    let mut timed = false;
    let mut look = |text| {
        // SAFETY: a string, as the caller vouches.
        let is = |word: &CStr| unsafe { starts(text, word.to_bytes_with_nul()) };
        found |= is(c"run") || is(c"create") || is(c"exec") || is(c"restore") || is(c"mounts");
        // SAFETY: the same.
        timed |= unsafe { starts(text, b"--timings") };
    };
    // SAFETY: as the caller vouches.
    unsafe { for_each(args, &mut look) };
    if !found {
        return false;
    }
    // SAFETY: a string, as the caller vouches.
    let mut look = |text| timed |= unsafe { starts(text, b"RUNDLET_TIMINGS=") };
    // SAFETY: as the caller vouches.
    unsafe { for_each(env, &mut look) };
    !timed
}

/// # Safety
/// A list of strings, ended by a null.
unsafe fn for_each(list: *const *const c_char, with: &mut impl FnMut(*const c_char)) {
    let mut at = list;
    loop {
        // SAFETY: not beyond the null that ends them.
        let text = unsafe { at.read() };
        if text.is_null() {
            return;
        }
        with(text);
        at = at.wrapping_add(1);
    }
}

/// # Safety
/// `text` is a string.
unsafe fn starts(text: *const c_char, with: &[u8]) -> bool {
    let mut at = text.cast::<u8>();
    for wanted in with {
        // SAFETY: all before were equal to what stands in `with`, where a null is the last.
        if unsafe { at.read() } != *wanted {
            return false;
        }
        at = at.wrapping_add(1);
    }
    true
}

/// Whether this program runs from such an overlay, or from a file in memory, which `sealed` looks at. True as well where that can
/// not be known.
fn is_protected() -> bool {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    let arguments = [SELF.as_ptr().addr(), stat.as_mut_ptr().addr(), 0, 0, 0];
    // SAFETY: the kernel reads a string and writes one statfs.
    if unsafe { call(libc::SYS_statfs, arguments) }.is_err() {
        return true;
    }
    // SAFETY: it was written.
    let stat = unsafe { stat.assume_init() };
    match stat.f_type {
        OVERLAYFS => {
            let is = stat.f_flags & libc::ST_RDONLY != 0;
            PROTECTED.store(is, Relaxed);
            is
        }
        TMPFS | HUGETLBFS => true,
        _ => false,
    }
}
