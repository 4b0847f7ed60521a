//! The names of a profile, looked up once for all architectures. Pure. Called by `compile`, read by `rules`.

use super::names;
use super::tables::Row;
use crate::plan::seccomp::{Profile, Rule};

/// A rule of the profile with its names looked up.
pub(super) struct Looked<'p> {
    pub(super) rule: &'p Rule,
    pub(super) rows: Vec<&'static Row>,
    /// For those that socketcall(2) or ipc(2) do as well, on architectures that have it: which of the two, and the call's number
    /// there.
    pub(super) through: Vec<(&'static Row, u64)>,
}

/// Names no architecture knows fall away (N3).
pub(super) fn look_up(profile: &Profile) -> Vec<Looked<'_>> {
    profile.rules.iter().map(looked).collect()
}

fn looked(rule: &Rule) -> Looked<'_> {
    let mut rows = Vec::with_capacity(rule.names.len());
    let mut through = Vec::new();
    let mut last = 0;
    for name in &rule.names {
        // Profiles list their calls by the alphabet.
        let Some((place, row)) = names::row_from(last, name) else {
            continue;
        };
        last = place;
        rows.push(row);
        let by = names::multiplexed(name);
        through.extend(by.and_then(|(by, call)| Some((names::row(by)?, call))));
    }
    Looked {
        rule,
        rows,
        through,
    }
}
