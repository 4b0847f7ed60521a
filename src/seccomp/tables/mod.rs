//! The shape of the generated table in `rows.rs`. Only `seccomp/names.rs` reads it.

use std::cmp::Ordering;

mod rows;

/// Columns of a row; which is which stands in `names::abi`.
pub(super) const COLUMNS: usize = 18;
/// No such call on this architecture.
pub(super) const NO: u32 = u32::MAX;

/// Longest name of a system call.
const LONGEST: usize = 31;

/// The name of a system call and its numbers. The name stands in the row itself: a pointer to it would have to be relocated at
/// each start of the program, and 500 of them are eleven pages that are then written to.
pub(super) struct Row {
    name: [u8; LONGEST],
    length: u8,
    numbers: [u32; COLUMNS],
}

/// Sorted by name.
pub(super) static ROWS: &[Row] = &TABLE;

static TABLE: [Row; rows::ROWS.len()] = {
    let mut all = [const { Row::new("", [NO; COLUMNS]) }; rows::ROWS.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = Row::new(rows::ROWS[index].0, rows::ROWS[index].1);
        index += 1;
    }
    all
};

impl Row {
    // A name that is too long does not compile.
    #[allow(clippy::cast_possible_truncation)]
    const fn new(text: &str, numbers: [u32; COLUMNS]) -> Row {
        let mut row = Row {
            name: [0; LONGEST],
            length: text.len() as u8,
            numbers,
        };
        let mut at = 0;
        while at < text.len() {
            row.name[at] = text.as_bytes()[at];
            at += 1;
        }
        row
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        self.name.get(..self.length.into()).unwrap_or_default()
    }

    /// How its name stands to another.
    pub(super) fn order(&self, name: &str) -> Ordering {
        self.bytes().cmp(name.as_bytes())
    }

    /// The number in a column, where there is such a call.
    pub(super) fn number(&self, column: usize) -> Option<u32> {
        self.numbers
            .get(column)
            .copied()
            .filter(|number| *number != NO)
    }
}
