//! Waits for long with little memory: a process gives the kernel back what it does not need meanwhile, the program's code, which is
//! read from the page cache again when it goes on, and memory that was asked for and never used. Called by the init of a created
//! container, of which a host may have hundreds.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::Result;
use super::protect::call;

/// Reads one byte, or less at the end of file. From the last that is given back on nothing is called but the kernel, so that no
/// more code is read again than the page of this.
pub(crate) fn read_idle(file: BorrowedFd<'_>) -> Result<usize> {
    let mut byte = 0_u8;
    let at = (&raw mut byte).expose_provenance();
    let number = usize::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    give_back();
    // SAFETY: the kernel writes one byte at most.
    unsafe { call(libc::SYS_read, [number, at, 1, 0, 0]) }.map_err(Errno::from_raw)
}

/// Best effort: what is not given back is only kept (madvise(2), MADV_DONTNEED).
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
fn give_back() {
    const PAGE: usize = 4096;
    /// Below this frame: what the frames to come will use, and what they and those before may have used.
    const STACK: (usize, usize) = (4 * PAGE, 64 * PAGE);
    let frame = 0_u8;
    let frame = (&raw const frame).addr();
    // Code and constants; then come the data that were relocated.
    let program = (
        (&raw const __ehdr_start).addr(),
        (&raw const __init_array_start).addr(),
    );
    let stack = (frame - STACK.1, frame - STACK.0);
    let advice = libc::MADV_DONTNEED.cast_unsigned() as usize;
    for (from, to) in [super::arena::unused(), stack, program] {
        let (from, to) = (from.next_multiple_of(PAGE), to & !(PAGE - 1));
        if from < to {
            // SAFETY: constants that lie in the file as well, a part of a block that nobody has, and a stack below its end: nobody
            // reads there what was written.
            let _ = unsafe { call(libc::SYS_madvise, [from, to - from, advice, 0, 0]) };
        }
    }
}

// SAFETY: the linker gives both a place; nothing is read there.
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
unsafe extern "C" {
    static __ehdr_start: u8;
    static __init_array_start: u8;
}

/// Other builds lie in memory in other ways.
#[cfg(not(all(not(test), target_arch = "x86_64", target_env = "musl")))]
fn give_back() {}
