//! The shape of the generated table in `rows.rs`. Only `seccomp/names.rs` reads it.

mod rows;

pub(super) use rows::ROWS;

/// Columns of a row; which is which stands in `names::abi`.
pub(super) const COLUMNS: usize = 18;
/// No such call on this architecture.
pub(super) const NO: u32 = u32::MAX;

/// The name of a system call and its numbers.
pub(super) type Row = (&'static str, [u32; COLUMNS]);
