//! Runs of rules that each compare one and the same argument with a number, as spans of its values. Pure. Called
//! by `compile`.

use super::rules::Span;
use crate::plan::seccomp::{Compare, Condition};

type Rule = (Vec<Condition>, u32);
type Spans = Vec<Span<Option<u32>>>;

/// What the high half of an argument says: everything, or that the low half decides by the list of that index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole(Option<u32>),
    Low(usize),
}

/// Cuts a chain into runs: rules that can be searched together, and others alone.
pub(super) fn runs(rules: &[Rule]) -> Vec<&[Rule]> {
    rules
        .chunk_by(|one, other| plain(one).is_some() && plain(one) == plain(other))
        .collect()
}

/// The argument of a rule with a single comparison of its order or equality.
fn plain(rule: &Rule) -> Option<u8> {
    match rule.0.as_slice() {
        [
            Condition {
                compare: Compare::MaskedEq { .. },
                ..
            },
        ] => None,
        [only] => Some(only.arg),
        _ => None,
    }
}

fn holds(condition: &Condition, value: u64) -> bool {
    match condition.compare {
        Compare::Ne => value != condition.value,
        Compare::Lt => value < condition.value,
        Compare::Le => value <= condition.value,
        Compare::Eq => value == condition.value,
        Compare::Ge => value >= condition.value,
        Compare::Gt => value > condition.value,
        Compare::MaskedEq { mask } => value & mask == condition.value,
    }
}

/// The first value of each stretch up to `max` and the word of the first rule that holds there, `None` for none.
fn stretches(rules: &[Rule], max: u64) -> Vec<(u64, Option<u32>)> {
    let mut starts = vec![0];
    for (conditions, _) in rules {
        for condition in conditions {
            starts.push(condition.value);
            starts.extend(condition.value.checked_add(1));
        }
    }
    starts.retain(|start| *start <= max);
    starts.sort_unstable();
    starts.dedup();
    let word = |value| {
        let hit = rules
            .iter()
            .find(|(conditions, _)| conditions.iter().all(|condition| holds(condition, value)));
        hit.map(|(_, word)| *word)
    };
    let mut stretches: Vec<_> = starts
        .into_iter()
        .map(|start| (start, word(start)))
        .collect();
    stretches.dedup_by_key(|(_, word)| *word);
    stretches
}

/// The spans of an argument of 32 bits.
pub(super) fn narrow(rules: &[Rule]) -> Spans {
    let stretches = stretches(rules, u64::from(u32::MAX));
    stretches
        .into_iter()
        .map(|(first, verdict)| Span {
            first: half(first),
            verdict,
        })
        .collect()
}

/// The spans of the high half of an argument of 64 bits, and those of the low half where it decides.
pub(super) fn wide(rules: &[Rule]) -> (Vec<Span<Part>>, Vec<Spans>) {
    let stretches = stretches(rules, u64::MAX);
    let mut highs: Vec<u64> = Vec::new();
    for (first, _) in &stretches {
        let high = first >> 32;
        highs.push(high);
        if high < u64::from(u32::MAX) {
            highs.push(high + 1);
        }
    }
    highs.sort_unstable();
    highs.dedup();

    let at = |value: u64| {
        stretches
            .iter()
            .rev()
            .find(|(first, _)| *first <= value)
            .and_then(|(_, word)| *word)
    };
    let mut spans: Vec<Span<Part>> = Vec::new();
    let mut lows = Vec::new();
    for high in highs {
        let (start, end) = (high << 32, high << 32 | u64::from(u32::MAX));
        let inside = stretches
            .iter()
            .filter(|(first, _)| *first > start && *first <= end);
        let mut low = vec![Span {
            first: 0,
            verdict: at(start),
        }];
        low.extend(inside.map(|(first, verdict)| Span {
            first: half(*first),
            verdict: *verdict,
        }));
        let part = if let [only] = low.as_slice() {
            Part::Whole(only.verdict)
        } else {
            lows.push(low);
            Part::Low(lows.len() - 1)
        };
        if spans.last().is_none_or(|last| last.verdict != part) {
            spans.push(Span {
                first: half(high),
                verdict: part,
            });
        }
    }
    (spans, lows)
}

/// The low 32 bits.
fn half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(compare: Compare, value: u64, word: u32) -> Rule {
        (
            vec![Condition {
                arg: 0,
                compare,
                value,
            }],
            word,
        )
    }

    #[test]
    fn neighbouring_values_join() {
        let rules = [
            rule(Compare::Eq, 5, 1),
            rule(Compare::Eq, 4, 1),
            rule(Compare::Lt, 2, 1),
            rule(Compare::Gt, 9, 2),
        ];
        let spans: Vec<_> = narrow(&rules)
            .into_iter()
            .map(|span| (span.first, span.verdict))
            .collect();
        assert_eq!(
            spans,
            [
                (0, Some(1)),
                (2, None),
                (4, Some(1)),
                (6, None),
                (10, Some(2))
            ]
        );
    }

    #[test]
    fn the_high_half_decides_where_it_can() {
        let rules = [rule(Compare::Eq, 3, 1), rule(Compare::Ge, 7 << 32, 2)];
        let (spans, lows) = wide(&rules);
        let spans: Vec<_> = spans
            .into_iter()
            .map(|span| (span.first, span.verdict))
            .collect();
        assert_eq!(
            spans,
            [
                (0, Part::Low(0)),
                (1, Part::Whole(None)),
                (7, Part::Whole(Some(2)))
            ]
        );
        assert_eq!(lows.len(), 1);
        assert_eq!(
            lows[0].iter().map(|span| span.first).collect::<Vec<_>>(),
            [0, 3, 4]
        );
    }

    #[test]
    fn runs_keep_masks_and_other_arguments_apart() {
        let other = (
            vec![Condition {
                arg: 1,
                compare: Compare::Eq,
                value: 0,
            }],
            1,
        );
        let rules = [
            other,
            rule(Compare::Eq, 1, 1),
            rule(Compare::Ne, 2, 1),
            rule(Compare::MaskedEq { mask: 1 }, 0, 1),
            rule(Compare::MaskedEq { mask: 2 }, 0, 1),
        ];
        assert_eq!(
            runs(&rules).iter().map(|run| run.len()).collect::<Vec<_>>(),
            [1, 2, 1, 1]
        );
    }
}
