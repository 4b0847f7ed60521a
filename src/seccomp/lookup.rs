//! The names of a profile, looked up once for all architectures. Pure. Called by `compile`, read by `rules`.

use super::names::{self, Abi};
use super::tables::Row;
use crate::plan::seccomp::{Profile, Rule};

/// A rule of the profile with its names looked up.
pub(super) struct Looked<'p> {
    pub(super) rule: &'p Rule,
    pub(super) calls: Vec<Call>,
}

/// A system call, and which call of socketcall(2) or ipc(2) does the same.
pub(super) struct Call {
    row: &'static Row,
    through: Option<(&'static Row, u64)>,
}

impl Call {
    pub(super) fn number(&self, abi: Abi) -> Option<u32> {
        abi.number(self.row)
    }

    /// The number of socketcall(2) or ipc(2), on architectures that have it, and the call's number there.
    pub(super) fn through(&self, abi: Abi) -> Option<(u32, u64)> {
        let (by, call) = self.through?;
        Some((abi.number(by)?, call))
    }
}

/// Names no architecture knows fall away (N3).
pub(super) fn look_up(profile: &Profile) -> Vec<Looked<'_>> {
    let looked = |rule| Looked {
        rule,
        calls: calls(rule),
    };
    profile.rules.iter().map(looked).collect()
}

fn calls(rule: &Rule) -> Vec<Call> {
    let mut calls = Vec::with_capacity(rule.names.len());
    let mut last = 0;
    for name in &rule.names {
        // Profiles list their calls by the alphabet.
        let Some((place, row)) = names::row_from(last, name) else {
            continue;
        };
        last = place;
        let through = names::multiplexed(name).and_then(|(by, call)| Some((names::row(by)?, call)));
        calls.push(Call { row, through });
    }
    calls
}
