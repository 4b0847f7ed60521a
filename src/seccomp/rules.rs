//! What a profile means on one architecture: a verdict for every number. Pure. Called by `compile`.
//!
//! The meaning is libseccomp's as runc uses it, so that a profile decides the same under both:
//! - a rule without conditions beats those with conditions, the first of several wins;
//! - rules with conditions are tried in the order of `precedence`, not of the profile;
//! - the same conditions with another action are a contradiction and refused;
//! - a rule that says what happens anyway is no rule;
//! - calls newer than the newest one the profile names get ENOSYS, so that libc falls back (N3).

use std::cmp::Ordering;

use anyhow::{Context as _, Result, bail};

use super::lookup::Looked;
use super::names::{self, Abi};
use crate::plan::seccomp::{Action, Arch, Compare, Condition, Profile, Rule};

/// The answer to a number: a return word of the filter, or the index of a `Chain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Return(u32),
    Chain(u16),
}

/// Rules with conditions, in the order they are tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Compare all 64 bits of an argument, or the low 32.
    pub(super) wide: bool,
    pub(super) big_endian: bool,
    pub(super) rules: Vec<(Vec<Condition>, u32)>,
    /// The return word when none matches.
    pub(super) otherwise: u32,
}

/// Numbers from `first` up to the next span's first have this verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<V> {
    pub(super) first: u32,
    pub(super) verdict: V,
}

/// The word a filter returns for an action: SECCOMP_RET_* with its data.
pub(super) fn word(action: Action) -> u32 {
    match action {
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace(data) => libc::SECCOMP_RET_TRACE | u32::from(data),
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}

/// The answer to a call of an architecture the filter does not cover.
pub(super) const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// What a rule says of one of its lists of conditions.
struct Case<'p> {
    rule: &'p Rule,
    conditions: Vec<Condition>,
}

/// What the rules say of each number: a word with the number in its high half and the index of a case in the low one. Sorted, the
/// cases of a number stand in the order of the profile.
struct Entries<'p> {
    cases: Vec<Case<'p>>,
    words: Vec<u64>,
}

impl<'p> Entries<'p> {
    fn case(&mut self, rule: &'p Rule, conditions: Vec<Condition>) -> usize {
        self.cases.push(Case { rule, conditions });
        self.cases.len() - 1
    }

    fn push(&mut self, number: u32, case: usize) {
        self.words.push(u64::from(number) << 32 | case as u64);
    }

    fn of(&self, word: u64) -> Option<&Case<'p>> {
        let index = usize::try_from(word & u64::from(u32::MAX)).ok()?;
        self.cases.get(index)
    }
}

/// The verdicts of all numbers on an architecture. New chains are added to `chains`. `x32` says whether numbers
/// with bit 30 belong to an x32 table of their own (only meant for x86_64).
pub(super) fn spans(
    profile: &Profile,
    rules: &[Looked<'_>],
    abi: Abi,
    x32: bool,
    chains: &mut Vec<Chain>,
) -> Result<Vec<Span<Verdict>>> {
    let default = word(profile.default);
    let entries = entries(profile, rules, abi);
    let mut verdicts = Vec::with_capacity(entries.words.len());
    let mut group: Vec<&Case<'_>> = Vec::new();
    for words in entries
        .words
        .chunk_by(|one, other| one >> 32 == other >> 32)
    {
        let number = words
            .first()
            .and_then(|word| u32::try_from(word >> 32).ok());
        let Some(number) = number else { continue };
        group.clear();
        group.extend(words.iter().filter_map(|word| entries.of(*word)));
        let unconditional = group.iter().find(|case| case.conditions.is_empty());
        let verdict = if let Some(unconditional) = unconditional {
            Verdict::Return(word(unconditional.rule.action))
        } else {
            let chain = chain(&group, number, abi, default)?;
            let known = chains.iter().position(|known| *known == chain);
            let index = known.unwrap_or_else(|| {
                chains.push(chain);
                chains.len() - 1
            });
            Verdict::Chain(u16::try_from(index).context("too many seccomp conditions")?)
        };
        verdicts.push((number, verdict));
    }
    Ok(overlay(&base(profile, rules, abi, x32), &verdicts))
}

fn entries<'p>(profile: &Profile, rules: &[Looked<'p>], abi: Abi) -> Entries<'p> {
    let mut entries = Entries {
        cases: Vec::with_capacity(64),
        words: Vec::with_capacity(512),
    };
    let rules = rules.iter();
    for looked in rules.filter(|looked| looked.rule.action != profile.default) {
        let rule = looked.rule;
        let first = entries.cases.len();
        if rule.any_of.is_empty() {
            entries.case(rule, Vec::new());
        }
        for conditions in &rule.any_of {
            entries.case(rule, normal(conditions, abi));
        }
        let cases = first..entries.cases.len();
        for number in looked.rows.iter().filter_map(|row| abi.number(row)) {
            for case in cases.clone() {
                entries.push(number, case);
            }
        }
        for (by, call) in &looked.through {
            let Some(number) = abi.number(by) else {
                continue;
            };
            // The real arguments lie behind a pointer, out of a filter's reach: argument 0 is the call's number
            // here, and a condition on it gives way. What is said of the others stays, as in libseccomp.
            let is_call = Condition {
                arg: 0,
                compare: Compare::Eq,
                value: *call,
            };
            for direct in cases.clone() {
                let conditions = entries.cases.get(direct).map(|case| &case.conditions);
                let others = conditions.into_iter().flatten();
                let others = others.filter(|condition| condition.arg != 0).copied();
                let conditions = std::iter::once(is_call).chain(others).collect();
                let case = entries.case(rule, conditions);
                entries.push(number, case);
            }
        }
    }
    entries.words.sort_unstable();
    entries
}

/// Conditions by argument, their values cut to what is compared. A mask of nothing is no condition.
fn normal(conditions: &[Condition], abi: Abi) -> Vec<Condition> {
    let cut = |value: u64| {
        if abi.wide {
            value
        } else {
            value & u64::from(u32::MAX)
        }
    };
    let mut conditions: Vec<_> = conditions
        .iter()
        .map(|condition| Condition {
            value: cut(condition.value),
            compare: match condition.compare {
                Compare::MaskedEq { mask } => Compare::MaskedEq { mask: cut(mask) },
                other => other,
            },
            ..*condition
        })
        .collect();
    conditions.retain(|condition| condition.compare != Compare::MaskedEq { mask: 0 });
    conditions.sort_by_key(|condition| condition.arg);
    conditions
}

/// Whether nothing reaches the rule `other`: it says all that `one` says, and `one` is tried first. Only where the conditions of
/// `one` stand together in `other`: that is what libseccomp looks for.
fn covers(one: &[Condition], other: &[Condition]) -> bool {
    (0..other.len()).any(|at| other.get(at..).is_some_and(|rest| rest.starts_with(one)))
}

fn chain(group: &[&Case<'_>], number: u32, abi: Abi, otherwise: u32) -> Result<Chain> {
    let mut sorted: Vec<&Case<'_>> = Vec::with_capacity(group.len());
    for &entry in group {
        let conditions = &entry.conditions;
        // One that says less than an earlier one would be tried before it, against the order of the profile.
        let against = sorted.iter().find(|known| {
            known.rule.action != entry.rule.action && known.conditions.starts_with(conditions)
        });
        if let Some(known) = against {
            bail!(
                "linux.seccomp.syscalls[{}].action: contradicts linux.seccomp.syscalls[{}], which has the same \
                 conditions{} for the same call (number {number} on {:?})",
                entry.rule.position,
                known.rule.position,
                if known.conditions.len() > conditions.len() {
                    " and more"
                } else {
                    ""
                },
                abi.arch
            );
        }
        if !sorted
            .iter()
            .any(|known| covers(&known.conditions, conditions))
        {
            sorted.retain(|known| !covers(conditions, &known.conditions));
            sorted.push(entry);
        }
    }
    sorted.sort_by(|one, other| precedence(&one.conditions, &other.conditions)); // stable
    let rules = sorted
        .iter()
        .map(|entry| (entry.conditions.clone(), word(entry.rule.action)))
        .collect();
    Ok(Chain {
        wide: abi.wide,
        big_endian: abi.big_endian,
        rules,
        otherwise,
    })
}

/// The order in which rules that may overlap are tried. By their first (lowest) argument, a higher one first;
/// then equality and inequality before below before above; then, of ranges, the inner first; then by the next
/// condition, and a rule that has none left goes first. Rules that are equal in all this keep the profile's order.
/// libseccomp differs in one thing: of an equality and an inequality on the same argument it tries that with the
/// larger value first.
pub(super) fn precedence(one: &[Condition], other: &[Condition]) -> Ordering {
    /// Smaller goes first.
    fn rank(condition: &Condition) -> (u8, u8, u64) {
        let (class, value) = match condition.compare {
            Compare::Eq | Compare::Ne | Compare::MaskedEq { .. } => (0, 0),
            Compare::Lt | Compare::Le => (1, condition.value),
            Compare::Gt | Compare::Ge => (2, !condition.value),
        };
        (u8::MAX - condition.arg, class, value)
    }
    one.iter().map(rank).cmp(other.iter().map(rank))
}

/// The verdicts where no rule applies: the default, and ENOSYS above the newest call named.
fn base(profile: &Profile, rules: &[Looked<'_>], abi: Abi, x32: bool) -> Vec<(u32, u32)> {
    let default = word(profile.default);
    let mut base = vec![(0, default)];
    // Where the default lets calls pass, the kernel itself answers for those it does not have.
    let passes = matches!(
        profile.default,
        Action::Allow | Action::Log | Action::Trace(_)
    );
    let newest = rules
        .iter()
        .flat_map(|looked| {
            let own = looked.rows.iter().filter_map(|row| abi.number(row));
            let through = looked.through.iter().filter_map(|(by, _)| abi.number(by));
            own.filter(|number| abi.counts(*number)).chain(through)
        })
        .max();
    if let (Some(newest), false) = (newest, passes) {
        match abi.arch {
            // s390 passes numbers it does not know as 0, through a call that no program makes otherwise.
            Arch::S390 | Arch::S390x => base = vec![(0, ENOSYS), (1, default)],
            _ => (),
        }
        base.push((newest + 1, ENOSYS));
        match abi.arch {
            Arch::X32 => base.extend([(512, default), (548, ENOSYS)]),
            Arch::Arm => base.extend([(0xf_0000, default), (0x10_0000, ENOSYS)]),
            _ => (),
        }
    }
    if abi.arch == Arch::X86_64 && !x32 {
        // A number with bit 30 is a call of an architecture not listed. All ones is none: a tracer that cancels
        // a call leaves it behind, and killing for that would kill every traced process.
        base.extend([(names::X32_BIT, FOREIGN), (u32::MAX, default)]);
    }
    base.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = later.1;
        }
        same
    });
    base
}

/// Lays the verdicts of single numbers over the base and joins neighbours of the same verdict.
fn overlay(base: &[(u32, u32)], singles: &[(u32, Verdict)]) -> Vec<Span<Verdict>> {
    let mut spans: Vec<Span<Verdict>> = Vec::new();
    let mut put = |first: u64, verdict: Verdict| {
        if let (Ok(first), false) = (
            u32::try_from(first),
            spans.last().is_some_and(|last| last.verdict == verdict),
        ) {
            spans.push(Span { first, verdict });
        }
    };
    let mut singles = singles.iter().peekable();
    for (index, &(first, default)) in base.iter().enumerate() {
        let end = base
            .get(index + 1)
            .map_or(1 << 32, |next| u64::from(next.0));
        let mut at = u64::from(first);
        while let Some((number, verdict)) = singles.next_if(|(number, _)| u64::from(*number) < end)
        {
            if u64::from(*number) > at {
                put(at, Verdict::Return(default));
            }
            put(u64::from(*number), *verdict);
            at = u64::from(*number) + 1;
        }
        if at < end {
            put(at, Verdict::Return(default));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(arg: u8, compare: Compare, value: u64) -> Condition {
        Condition {
            arg,
            compare,
            value,
        }
    }

    #[test]
    fn overlay_joins_neighbours_and_covers_everything() {
        let allow = Verdict::Return(7);
        let spans = overlay(
            &[(0, 1), (100, 2)],
            &[
                (0, allow),
                (1, allow),
                (3, allow),
                (99, allow),
                (u32::MAX, allow),
            ],
        );
        let firsts: Vec<_> = spans
            .iter()
            .map(|span| (span.first, span.verdict))
            .collect();
        let (low, high) = (Verdict::Return(1), Verdict::Return(2));
        assert_eq!(
            firsts,
            [
                (0, allow),
                (2, low),
                (3, allow),
                (4, low),
                (99, allow),
                (100, high),
                (u32::MAX, allow)
            ]
        );
    }

    #[test]
    fn precedence_prefers_high_arguments_and_inner_ranges() {
        let mut rules = [
            vec![condition(0, Compare::Ge, 5)],
            vec![condition(0, Compare::Ge, 9)],
            vec![condition(0, Compare::Lt, 3)],
            vec![condition(0, Compare::Lt, 1)],
            vec![condition(0, Compare::Ne, 8)],
            vec![condition(0, Compare::Eq, 4)],
            vec![condition(0, Compare::Eq, 4), condition(1, Compare::Eq, 0)],
            vec![condition(2, Compare::Ne, 0)],
        ];
        rules.sort_by(|one, other| precedence(one, other));
        let order: Vec<_> = rules
            .iter()
            .map(|rule| (rule[0].arg, rule[0].value, rule.len()))
            .collect();
        assert_eq!(
            order,
            [
                (2, 0, 1),
                (0, 8, 1),
                (0, 4, 1),
                (0, 4, 2),
                (0, 1, 1),
                (0, 3, 1),
                (0, 9, 1),
                (0, 5, 1)
            ]
        );
    }
}
