//! mmap(2) of memory that a clone shares with its maker. Called by `timings`.

use std::sync::atomic::AtomicU64;

use super::Result;

/// Zeroed words for the rest of the life of both processes.
pub(crate) fn words(count: usize) -> Result<&'static [AtomicU64]> {
    // SAFETY: a new mapping; nothing that is there is replaced.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            count * size_of::<AtomicU64>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(nix::errno::Errno::last());
    }
    // SAFETY: so many zeroed words, aligned to a page, that are never unmapped and only used as atomics.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU64>(), count) })
}
