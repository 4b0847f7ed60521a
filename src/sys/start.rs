//! The entry of the program: what Rust's own start-up does and a runtime needs, and no more. That one takes eleven calls and a
//! mapping for the words it says when the stack overflows; without its handlers such a fault ends the process as any other
//! does, also under a filter that refuses the calls which would take the handlers away. Called by libc before all else.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use super::{fd, process, protect};

static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();

// Where the shipped binary starts: the Makefile tells the linker so. Anywhere else it starts at `_start` of libc, which is where
// this goes on. First comes what needs no libc (`early.rs`). What every start writes to is asked for at once, a call instead of
// a fault for each page: the data that libc relocates and the first pages of the allocator behind it, then those of the stack;
// more for a verb that reads a config. Each page costs 1.5 us, whether it is used or not. A kernel that does not know the
// advice (before 5.14) refuses it, and all is as without. Then `relocate.rs`.
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
std::arch::global_asm!(
    ".pushsection .text.rundlet_start, \"ax\", @progbits",
    ".globl rundlet_start",
    ".type rundlet_start, @function",
    "rundlet_start:",
    "mov rdi, rsp",
    "call rundlet_protect",
    "imul r8d, eax, {more}",
    "lea rdi, [rip + __init_array_start]",
    "and rdi, -4096",
    "lea rsi, [rip + {block} + {heap}]",
    "add rsi, r8",
    "sub rsi, rdi",
    "mov edx, {populate_write}",
    "mov eax, {madvise}",
    "syscall",
    "lea rdi, [rsp - {stack}]",
    "sub rdi, r8",
    "and rdi, -4096",
    "lea esi, [r8d + {stack}]",
    "mov edx, {populate_write}",
    "mov eax, {madvise}",
    "syscall",
    "lea rdi, [rip + _DYNAMIC]",
    "lea rsi, [rip + __ehdr_start]",
    "call rundlet_relocate",
    "xor edx, edx",
    "jmp _start",
    ".popsection",
    block = sym super::arena::BLOCK,
    madvise = const libc::SYS_madvise,
    populate_write = const libc::MADV_POPULATE_WRITE,
    heap = const 3 * 4096,
    stack = const 3 * 4096,
    more = const 16 * 4096,
);

/// The process's arguments; musl does not give them to Rust's library, which asks the linker for them.
pub(crate) fn arguments() -> &'static [OsString] {
    ARGUMENTS.get_or_init(|| std::env::args_os().collect())
}

/// F1: 0, 1 and 2 are open before anything else can take their place. Writing to a pipe that nobody reads is an error, not
/// the end. False where the first cannot be had.
///
/// # Safety
/// `values` are `count` strings and live as long as the process, as main(3) gets them.
#[cfg_attr(test, allow(dead_code))]
pub(crate) unsafe fn begin(count: libc::c_int, values: *const *const libc::c_char) -> bool {
    let count = usize::try_from(count).unwrap_or(0);
    let collect = || {
        (0..count)
            .map(|index| {
                // SAFETY: the caller vouches for `count` values.
                let value = unsafe { values.add(index) };
                // SAFETY: the same.
                let value = unsafe { value.read() };
                // SAFETY: each is a string that ends in a null byte.
                let text = unsafe { CStr::from_ptr(value) };
                OsStr::from_bytes(text.to_bytes()).to_owned()
            })
            .collect()
    };
    ARGUMENTS.get_or_init(collect);
    if protect::PROTECTED.load(Relaxed) {
        protect::hold();
    }
    process::without_backtraces();
    process::ignore_pipe_signal();
    fd::ensure_stdio_open().is_ok()
}

/// Makes `$run`, which returns the exit code, what libc calls.
macro_rules! entry {
    ($run:path) => {
        #[cfg(not(test))]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(count: libc::c_int, values: *const *const libc::c_char) -> libc::c_int {
            // SAFETY: these are what libc gives to main.
            let code = if unsafe { $crate::sys::start::begin(count, values) } {
                $run()
            } else {
                1
            };
            // Not back to libc, which has nothing to do at the end: who prints has flushed by now.
            $crate::sys::process::exit_now(code)
        }
    };
}
pub(crate) use entry;
