//! The program's allocator: takes from one block and frees only what was taken last, for a runtime lives for milliseconds.
//! musl's allocator asks the kernel for every size class anew, some 35 calls in a `run`. What does not fit any more goes to
//! it all the same, so a `run` that waits for days or a config of a megabyte cost what they did before, and no more than
//! [`SIZE`] bytes are ever kept.
//!
//! The block is zero pages of the program's data: only what is used becomes memory, and a clone inherits it like any other. The
//! linker puts it behind all other data (.cargo/order.ld), so that what a start asks for (`start.rs`) lies in one piece.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Four times what a `run` of a default container takes.
const SIZE: usize = 512 * 1024;
/// Of the block, and so the highest that is served from it.
const ALIGN: usize = 4096;
/// What is larger goes to the system's at once: a list that grows so far would leave as much behind with each step, and the system
/// moves it without a copy.
const LARGEST: usize = 32 << 10;
/// Of everything, as with the system's allocator: control messages of sockets are read and written in a list of bytes.
const LEAST_ALIGN: usize = align_of::<libc::cmsghdr>();

#[repr(C, align(4096))]
pub(crate) struct Block(UnsafeCell<[u8; SIZE]>);

// SAFETY: a byte of the block belongs to who was given it by its one arena.
unsafe impl Sync for Block {}

impl Block {
    // It only ever is a static.
    #[allow(clippy::large_stack_arrays)]
    pub(crate) const fn new() -> Block {
        Block(UnsafeCell::new([0; SIZE]))
    }
}

/// Of the program's allocator.
// SAFETY: a section for data that the program begins with as zero, and nothing else is in it.
#[cfg(not(test))]
#[unsafe(link_section = ".bss.rundlet_arena")]
pub(super) static BLOCK: Block = Block::new();

/// Unit tests run in threads for long: they keep the system's.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: Arena = Arena::new(&BLOCK);

/// The part of the block that nobody has been given, from where and to where.
#[cfg(all(not(test), target_arch = "x86_64", target_env = "musl"))]
pub(super) fn unused() -> (usize, usize) {
    let start = ALLOCATOR.start().addr();
    (start + ALLOCATOR.used.load(Relaxed), start + SIZE)
}

/// `used` bytes from the start are given out; atomic, so that nothing has to be known about threads.
pub(crate) struct Arena {
    block: &'static Block,
    used: AtomicUsize,
    /// The most that was ever given out: what lies behind is still as the kernel gave it, zero and no memory yet.
    touched: AtomicUsize,
}

impl Arena {
    /// The only one of that block.
    pub(crate) const fn new(block: &'static Block) -> Arena {
        Arena {
            block,
            used: AtomicUsize::new(0),
            touched: AtomicUsize::new(0),
        }
    }

    fn start(&self) -> *mut u8 {
        self.block.0.get().cast()
    }

    /// Where in the block a pointer lies.
    fn place(&self, pointer: *mut u8) -> Option<usize> {
        let at = pointer.addr().wrapping_sub(self.start().addr());
        (at < SIZE).then_some(at)
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        // A block of no bytes would lie where the next one does.
        if layout.align() > ALIGN || layout.size() == 0 || layout.size() > LARGEST {
            return None;
        }
        let mut used = self.used.load(Relaxed);
        loop {
            let at = used.checked_next_multiple_of(layout.align().max(LEAST_ALIGN))?;
            let end = at.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            match self.used.compare_exchange_weak(used, end, Relaxed, Relaxed) {
                // SAFETY: `at` is within the block.
                Ok(_) => return Some(unsafe { self.start().add(at) }),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of what was given out last; false where something else was.
    fn move_end(&self, from: usize, to: usize) -> bool {
        let moved = to <= SIZE
            && self
                .used
                .compare_exchange(from, to, Relaxed, Relaxed)
                .is_ok();
        if moved {
            self.touched.fetch_max(to, Relaxed);
        }
        moved
    }

    /// As `take`, and how many of its bytes somebody may have written to.
    fn take_new(&self, layout: Layout) -> Option<(*mut u8, usize)> {
        let pointer = self.take(layout)?;
        let at = self.place(pointer)?;
        let before = self.touched.fetch_max(at + layout.size(), Relaxed);
        Some((pointer, before.saturating_sub(at).min(layout.size())))
    }
}

// SAFETY: what `take` gives is aligned, within the block and given to nobody else until `dealloc` has it back, which only the
// last block is; everything else is the system allocator's, told apart by its address.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take_new(layout) {
            Some((pointer, _)) => pointer,
            // SAFETY: the caller's duties are the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((pointer, used)) = self.take_new(layout) else {
            // SAFETY: the caller's duties are the same.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: at most what has just been given out.
        unsafe { pointer.write_bytes(0, used) };
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(at) = self.place(pointer) {
            self.move_end(at + layout.size(), at);
        } else {
            // SAFETY: it is not of the block, so the system allocator gave it.
            unsafe { System.dealloc(pointer, layout) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(at) = self.place(pointer) else {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        let end = at.checked_add(size);
        let fits = end.is_some_and(|end| self.move_end(at + layout.size(), end));
        if fits || size <= layout.size() {
            return pointer;
        }
        // SAFETY: the caller vouches for size and alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the layout is valid and not empty.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: two different allocations, of which the old one is the shorter.
            unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn takes_aligned_and_gives_back_the_last() {
        // Static: it is longer than a test's stack likes.
        static BLOCK: Block = Block::new();
        static ARENA: Arena = Arena::new(&BLOCK);
        let arena = &ARENA;
        let one = arena.take(layout(3, 1)).unwrap();
        let two = arena.take(layout(8, 64)).unwrap();
        assert_eq!((arena.place(one), arena.place(two)), (Some(0), Some(64)));
        assert!(!arena.move_end(3, 0), "not the last");
        assert!(arena.move_end(72, 64));
        assert_eq!(arena.take(layout(1, 1)), Some(two));
    }

    #[test]
    fn zeroed_is_zero_where_something_was() {
        // Static: it is longer than a test's stack likes.
        static BLOCK: Block = Block::new();
        static ARENA: Arena = Arena::new(&BLOCK);
        let arena = &ARENA;
        let zero = |bytes: usize| {
            // SAFETY: used as the trait asks, within what was asked for.
            let given = unsafe { arena.alloc_zeroed(layout(bytes, 1)) };
            // SAFETY: so many bytes were given.
            let given = unsafe { std::slice::from_raw_parts_mut(given, bytes) };
            assert!(given.iter().all(|byte| *byte == 0), "{bytes}");
            given.fill(7);
            // SAFETY: it has that layout.
            unsafe { arena.dealloc(given.as_mut_ptr(), layout(bytes, 1)) };
        };
        for bytes in [64, 32, 100, 1, 5000, LARGEST] {
            zero(bytes);
        }
        // SAFETY: used as the trait asks.
        let grown = unsafe { arena.alloc(layout(8, 8)) };
        // SAFETY: it has that layout.
        let grown = unsafe { arena.realloc(grown, layout(8, 8), 64) };
        // SAFETY: 64 bytes were given.
        unsafe { grown.write_bytes(7, 64) };
        // SAFETY: it has that layout.
        unsafe { arena.dealloc(grown, layout(64, 8)) };
        zero(64);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        // Static: it is longer than a test's stack likes.
        static BLOCK: Block = Block::new();
        static ARENA: Arena = Arena::new(&BLOCK);
        let arena = &ARENA;
        assert!(arena.take(layout(LARGEST + 1, 1)).is_none());
        assert!(arena.take(layout(8, 2 * ALIGN)).is_none());
        assert!(arena.take(layout(0, 1)).is_none());
        for _ in 1..SIZE / LARGEST {
            assert!(arena.take(layout(LARGEST, 1)).is_some());
        }
        assert!(arena.take(layout(LARGEST - 9, 1)).is_some());
        assert!(arena.take(layout(9, 1)).is_none());
        let last = arena.take(layout(1, 1)).unwrap();
        assert_eq!(arena.place(last), Some(SIZE - 8), "aligned all the same");
        assert!(!arena.move_end(SIZE, SIZE + 1));
    }

    #[test]
    fn grows_in_place_moves_and_goes_to_the_system() {
        // Static: it is longer than a test's stack likes.
        static BLOCK: Block = Block::new();
        static ARENA: Arena = Arena::new(&BLOCK);
        let arena = &ARENA;
        let small = layout(16, 8);
        // SAFETY: used as the trait asks, within what was asked for.
        let first = unsafe { arena.alloc(small) };
        // SAFETY: 16 bytes were given.
        unsafe { first.write_bytes(7, 16) };
        // SAFETY: it has that layout.
        let grown = unsafe { arena.realloc(first, small, 32) };
        assert_eq!(grown, first);
        // SAFETY: it has that layout.
        let less = unsafe { arena.realloc(grown, layout(32, 8), 24) };
        assert_eq!((less, arena.used.load(Relaxed)), (first, 24));
        // SAFETY: it has that layout.
        let grown = unsafe { arena.realloc(less, layout(24, 8), 32) };
        // SAFETY: a second one, to be in the way.
        let _ = unsafe { arena.alloc(small) };
        // SAFETY: it has 32 bytes now.
        let moved = unsafe { arena.realloc(grown, layout(32, 8), SIZE) };
        assert!(arena.place(moved).is_none(), "the system's");
        // SAFETY: the first 16 bytes were written and copied.
        let copied = unsafe { std::slice::from_raw_parts(moved, 16) };
        assert_eq!(copied, [7; 16]);
        // SAFETY: it has that layout.
        unsafe { arena.dealloc(moved, layout(SIZE, 8)) };
    }
}
