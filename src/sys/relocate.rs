//! Relocates the program before libc starts, which then finds nothing left to do: libc's own loop looks at every bit of the table
//! of relative relocations (DT_RELR), some 50,000 instructions in each start; this one looks at those that are set, and takes
//! 8 us less. Called by the first instructions of the program, in `start.rs`.
//!
//! What must be true: as in `protect.rs`, and nobody has relocated the program before.

// elf.h.
const DT_NULL: usize = 0;
const DT_RELRSZ: usize = 35;
const DT_RELR: usize = 36;

/// Adds `base`, where the program lies, to each word that the table names, and empties the table.
///
/// # Safety
/// `dynamic` is the program's own dynamic section, ended by a tag of zero, and its words are as they lie in the file.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn rundlet_relocate(dynamic: *mut [usize; 2], base: usize) {
    let (mut table, mut size) = (0, std::ptr::null_mut::<usize>());
    let mut at = dynamic;
    loop {
        // SAFETY: not beyond the tag that ends it.
        let [tag, value] = unsafe { at.read() };
        if tag == DT_RELR {
            table = value;
        } else if tag == DT_RELRSZ {
            size = at.cast::<usize>().wrapping_add(1);
        } else if tag == DT_NULL {
            break;
        }
        at = at.wrapping_add(1);
    }
    if table == 0 || size.is_null() {
        return;
    }
    // SAFETY: the value beside the tag, which can be written until libc has started.
    let bytes = unsafe { size.replace(0) };
    let mut entry = std::ptr::with_exposed_provenance::<usize>(base.wrapping_add(table));
    let end = entry.wrapping_byte_add(bytes);
    let mut place = std::ptr::null_mut::<usize>();
    while entry != end {
        // SAFETY: within the table.
        let word = unsafe { entry.read() };
        if word & 1 == 0 {
            place = std::ptr::with_exposed_provenance_mut(base.wrapping_add(word));
            // SAFETY: the linker vouches for the table.
            unsafe { relocate(place, base) };
            place = place.wrapping_add(1);
        } else {
            let mut bits = word >> 1;
            while bits != 0 {
                let next = place.wrapping_add(bits.trailing_zeros() as usize);
                // SAFETY: the same.
                unsafe { relocate(next, base) };
                bits &= bits - 1;
            }
            place = place.wrapping_add(63);
        }
        entry = entry.wrapping_add(1);
    }
}

/// # Safety
/// `place` is a word of the program's data that is relative to where it lies.
#[inline]
unsafe fn relocate(place: *mut usize, base: usize) {
    // SAFETY: as the caller vouches.
    let value = unsafe { place.read() };
    // SAFETY: the same.
    unsafe { place.write(value.wrapping_add(base)) };
}
