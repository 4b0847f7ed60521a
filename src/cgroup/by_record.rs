//! What can be asked of a cgroup, or done to it, by its record alone, without opening it first. Called by `container` for what is
//! done at every `state`, `list` and `delete`.

use std::time::Duration;

use anyhow::Result;

use super::procs::Deadline;
use super::record::{Places, Record};
use super::tree::Left;
use super::{Cgroup, v2};

impl Cgroup {
    /// Whether the cgroup of a record is frozen, as [`Cgroup::is_frozen`] says it of an open one.
    pub(crate) fn is_frozen_by_record(record: &Record) -> Result<bool> {
        match &record.places {
            Places::V2(group) => v2::freeze::is_frozen_at(group),
            _ => Self::open(record)?.is_frozen(),
        }
    }

    /// Removes the cgroup of a record, as [`Cgroup::remove`] does it with an open one.
    pub(crate) fn remove_by_record(record: &Record, time: Duration) -> Result<()> {
        match &record.places {
            Places::V2(group) => v2::remove_at(group, left(record.made), Deadline::after(time)),
            _ => Self::open(record)?.remove(time),
        }
    }
}

/// What was only planned may be another container's.
pub(super) fn left(made: bool) -> Left {
    if made { Left::Kill } else { Left::Keep }
}
