//! A profile read directly, the answer to one call at a time: what a compiled program is compared with. Shares the tables of
//! names and the order of conditions with the compiler, nothing else. Only for tests and the fuzzer.

use super::emulator::Call;
use super::names::{self, Abi, X32_BIT, abi};
use super::rules::{FOREIGN, precedence, word};
use crate::plan::seccomp::{Action, Arch, Compare, Condition, Profile, Rule};

pub(crate) struct Reading<'p> {
    profile: &'p Profile,
    x32: bool,
    abis: Vec<(Abi, Vec<Named<'p>>)>,
}

/// A name in a rule. Looked up once: hundreds of calls are asked about, and the fuzzer follows every comparison.
struct Named<'p> {
    rule: &'p Rule,
    direct: Option<u32>,
    /// The number of socketcall(2) or ipc(2), and which call of it this is.
    through: Option<(u32, u64)>,
}

impl<'p> Reading<'p> {
    pub(crate) fn new(profile: &'p Profile, native: Arch) -> Self {
        let mut archs = profile.archs.clone();
        archs.push(native);
        let x32 = archs.contains(&Arch::X32);
        if x32 {
            archs.push(Arch::X86_64);
        }
        let named = |arch| {
            let abi = abi(arch, native);
            let names = profile.rules.iter().flat_map(|rule| {
                rule.names.iter().map(move |name| Named {
                    rule,
                    direct: abi.number_of(name),
                    through: names::multiplexed(name)
                        .and_then(|(by, call)| Some((abi.number_of(by)?, call))),
                })
            });
            (abi, names.collect())
        };
        Self {
            profile,
            x32,
            abis: archs.into_iter().map(named).collect(),
        }
    }

    /// The answer to a call: a return word of the filter.
    pub(crate) fn decide(&self, call: &Call) -> u32 {
        let default = word(self.profile.default);
        let is_x32 = call.arch == 0xc000_003e && call.nr & X32_BIT != 0 && self.x32;
        let Some((abi, names)) = self
            .abis
            .iter()
            .find(|(abi, _)| abi.audit == call.arch && (abi.arch == Arch::X32) == is_x32)
        else {
            return FOREIGN;
        };
        let number = if is_x32 { call.nr & !X32_BIT } else { call.nr };
        if abi.arch == Arch::X86_64 && !self.x32 && number >= X32_BIT {
            return if number == u32::MAX { default } else { FOREIGN };
        }
        self.matched(*abi, names, number, &call.args)
            .unwrap_or_else(|| self.unmatched(*abi, names, number))
    }

    /// The action of the rule that the call meets.
    fn matched(&self, abi: Abi, names: &[Named<'_>], number: u32, args: &[u64; 6]) -> Option<u32> {
        let always = vec![Vec::new()];
        let mut matching: Vec<(Vec<Condition>, u32)> = Vec::new();
        for named in names {
            let action = word(named.rule.action);
            if action == word(self.profile.default) {
                continue;
            }
            let any_of = if named.rule.any_of.is_empty() {
                &always
            } else {
                &named.rule.any_of
            };
            if named.direct == Some(number) {
                matching.extend(any_of.iter().map(|all| (all.clone(), action)));
            }
            if let Some((_, value)) = named.through.filter(|(by, _)| *by == number) {
                let is_call = Condition {
                    arg: 0,
                    compare: Compare::Eq,
                    value,
                };
                matching.extend(any_of.iter().map(|conditions| {
                    let others = conditions.iter().filter(|condition| condition.arg != 0);
                    let all = std::iter::once(is_call).chain(others.copied());
                    (all.collect(), action)
                }));
            }
        }
        for (conditions, _) in &mut matching {
            if !abi.wide {
                for condition in &mut *conditions {
                    condition.value &= 0xffff_ffff;
                    if let Compare::MaskedEq { mask } = &mut condition.compare {
                        *mask &= 0xffff_ffff;
                    }
                }
            }
            conditions.retain(|condition| condition.compare != Compare::MaskedEq { mask: 0 });
            conditions.sort_by_key(|condition| condition.arg);
        }
        let unconditional = matching
            .iter()
            .find(|(conditions, _)| conditions.is_empty());
        if let Some((_, word)) = unconditional {
            return Some(*word);
        }
        matching.sort_by(|one, other| precedence(&one.0, &other.0));
        let hit = matching
            .iter()
            .find(|(conditions, _)| conditions.iter().all(|one| holds(one, args, abi.wide)));
        hit.map(|(_, word)| *word)
    }

    /// The answer where no rule is met: ENOSYS for what is newer than all that the profile names.
    fn unmatched(&self, abi: Abi, names: &[Named<'_>], number: u32) -> u32 {
        let default = word(self.profile.default);
        let newest = names.iter().fold(None, |newest: Option<u32>, named| {
            newest
                .max(named.direct.filter(|number| abi.counts(*number)))
                .max(named.through.map(|(by, _)| by))
        });
        let passes = matches!(
            self.profile.default,
            Action::Allow | Action::Log | Action::Trace(_)
        );
        let enosys = 0x0005_0000 + 38;
        match newest {
            Some(_) if passes => default,
            Some(newest) if number > newest => match (abi.arch, number) {
                (Arch::X32, 512..=547) | (Arch::Arm, 0xf_0000..=0xf_ffff) => default,
                _ => enosys,
            },
            Some(_) if matches!(abi.arch, Arch::S390 | Arch::S390x) && number == 0 => enosys,
            _ => default,
        }
    }
}

fn holds(condition: &Condition, args: &[u64; 6], wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (arg, value) = (cut(args[usize::from(condition.arg)]), cut(condition.value));
    match condition.compare {
        Compare::Ne => arg != value,
        Compare::Lt => arg < value,
        Compare::Le => arg <= value,
        Compare::Eq => arg == value,
        Compare::Ge => arg >= value,
        Compare::Gt => arg > value,
        Compare::MaskedEq { mask } => arg & cut(mask) == value & cut(mask),
    }
}
