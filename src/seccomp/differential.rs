//! The compiled filters of Docker's and Podman's default profiles against what libseccomp makes of them, on
//! every number of x86_64, x86 and x32 and around every value a condition names. libseccomp is a test aid alone: a
//! small C program (tests/tools/libseccomp-reference.c) is built against it here. Without a C compiler or the
//! library the tests say so and pass.
//!
//! The reference is libseccomp's program behind the ENOSYS stub that runc puts before it. Where rundlet is meant to
//! differ, `intended` says why. Only on x86_64, for which the fixtures are: libseccomp always covers the
//! architecture it runs on.
#![cfg(target_arch = "x86_64")]

use std::collections::{BTreeMap, BTreeSet};

use super::compile::compile;
use super::emulator::{Call, check, run};
use super::names::{Abi, X32_BIT, abi};
use super::random::{Random, condition};
use super::reference::Reference;
use crate::plan::seccomp::{self as plan, Action, Arch, Compare, Flags, Profile, Rule, SpecAllow};

const ENOSYS: u32 = 0x0005_0000 + 38;
const NATIVE: Arch = Arch::X86_64;

/// SCMP_ARCH_* of <seccomp.h>: AUDIT_ARCH_*, but x32 has an own one.
pub(super) fn token(arch: Arch) -> u32 {
    if arch == Arch::X32 {
        0x4000_003e
    } else {
        abi(arch, NATIVE).audit
    }
}

fn fixture(name: &str) -> Profile {
    let path = format!(
        "{}/tests/fixtures/seccomp/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    plan::plan(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// One architecture as the two sides see it.
struct Side {
    abi: Abi,
    /// The newest call runc finds in the profile, and the one rundlet finds.
    runc_newest: u32,
    own_newest: u32,
    /// Calls of the profile that this libseccomp is too old to know.
    unknown: BTreeSet<u32>,
}

impl Side {
    fn new(reference: &Reference, profile: &Profile, arch: Arch) -> Self {
        let abi = abi(arch, NATIVE);
        let names: BTreeSet<&str> = profile
            .rules
            .iter()
            .flat_map(|rule| &rule.names)
            .map(String::as_str)
            .collect();
        let theirs = reference.resolve(arch, &names);
        let own = |name: &str| abi.number_of(name);
        let mut unknown = BTreeSet::new();
        for name in &names {
            match (own(name), theirs[*name]) {
                (Some(own), None) if super::names::multiplexed(name).is_none() => {
                    unknown.insert(own);
                }
                (Some(own), Some(theirs)) => assert_eq!(own, theirs, "{name} on {arch:?}"),
                (None, Some(theirs)) => panic!("{name} is {theirs} on {arch:?} for libseccomp"),
                _ => (),
            }
        }
        let newest = |numbers: &mut dyn Iterator<Item = u32>| numbers.max().unwrap();
        Self {
            abi,
            runc_newest: newest(&mut theirs.values().copied().flatten()),
            own_newest: newest(
                &mut names
                    .iter()
                    .filter_map(|name| own(name))
                    .filter(|number| abi.counts(*number)),
            ),
            unknown,
        }
    }

    fn runs(&self, call: &Call, x32: bool) -> bool {
        self.abi.audit == call.arch
            && (self.abi.arch == Arch::X32)
                == (x32 && call.arch == 0xc000_003e && call.nr & X32_BIT != 0)
    }
}

/// Every difference from libseccomp behind runc's stub that is meant to be.
fn intended(side: &Side, number: u32, x32: bool, ours: u32, theirs: u32) -> Option<&'static str> {
    if side.unknown.contains(&number) {
        return Some("the profile names a call that this libseccomp does not know yet");
    }
    if theirs == ENOSYS && number > side.runc_newest && number <= side.own_newest {
        return Some(
            "the newest call of the profile is one that this libseccomp does not know yet",
        );
    }
    if side.abi.arch == Arch::X32 && ours == ENOSYS && number > side.own_newest && number < 512 {
        // runc takes 547, the last of x32's own calls, for the newest, so that new calls get EPERM from it.
        return Some("ENOSYS for x32 calls between the newest common one and x32's own");
    }
    if side.abi.arch == Arch::X86_64
        && !x32
        && theirs == ENOSYS
        && (0x8000_0000..0xc000_0000).contains(&number)
    {
        return Some("a number with bit 31 is a foreign call as one with bit 30 is");
    }
    None
}

/// Compares all calls; returns how many and the intended differences seen.
fn compare(reference: &Reference, profile: &Profile) -> (usize, BTreeMap<&'static str, usize>) {
    let ours = compile(profile, NATIVE).unwrap();
    check(&ours);
    let theirs = reference
        .filter(profile)
        .expect("a profile without contradictions");
    eprintln!("{} instructions, libseccomp {}", ours.len(), theirs.len());
    let x32 = profile.archs.contains(&Arch::X32);
    let mut archs = profile.archs.clone();
    archs.retain(|arch| *arch != NATIVE);
    archs.insert(0, NATIVE);
    let sides: Vec<_> = archs
        .iter()
        .map(|arch| Side::new(reference, profile, *arch))
        .collect();
    let passes = matches!(
        profile.default,
        Action::Allow | Action::Log | Action::Trace(_)
    );

    let (mut compared, mut reasons) = (0, BTreeMap::new());
    for call in calls(profile) {
        let side = sides.iter().find(|side| side.runs(&call, x32));
        let libseccomp = run(&theirs, &call).0;
        let own = run(&ours, &call).0;
        compared += 1;
        let Some(side) = side else {
            assert_eq!(own, libseccomp, "{call:x?}");
            continue;
        };
        let number = if side.abi.arch == Arch::X32 {
            call.nr & !X32_BIT
        } else {
            call.nr
        };
        // runc's stub leaves numbers with bit 30 to libseccomp when x32 is not listed.
        let stub = !passes
            && number > side.runc_newest
            && (x32 || call.arch != 0xc000_003e || call.nr & X32_BIT == 0);
        let expected = if stub { ENOSYS } else { libseccomp };
        if own != expected {
            let Some(reason) = intended(side, number, x32, own, expected) else {
                panic!(
                    "{call:x?} on {:?}: {own:#x}, the reference says {expected:#x}",
                    side.abi.arch
                );
            };
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    (compared, reasons)
}

/// Every number up to 1024, those with bit 30, odd ones; and all of them around the values of conditions.
fn calls(profile: &Profile) -> Vec<Call> {
    let mut numbers: Vec<u32> = (0..=1024).collect();
    numbers.extend([
        4095,
        0xffff,
        0xf_0005,
        0x3fff_ffff,
        0x7fff_ffff,
        0x8000_0000,
        0xbfff_ffff,
        0xc000_0000,
        u32::MAX - 1,
        u32::MAX,
    ]);
    numbers.extend(numbers.clone().iter().map(|number| number | X32_BIT));
    numbers.sort_unstable();
    numbers.dedup();

    let conditions = profile
        .rules
        .iter()
        .flat_map(|rule| rule.any_of.iter().flatten());
    let mut values: BTreeSet<(u8, u64)> = BTreeSet::new();
    for condition in conditions {
        let mask = if let Compare::MaskedEq { mask } = condition.compare {
            mask
        } else {
            0
        };
        for value in [
            condition.value,
            mask,
            condition.value | mask,
            !mask,
            mask & mask.wrapping_neg(),
            0,
            u64::MAX,
        ] {
            for near in [value.wrapping_sub(1), value, value.wrapping_add(1)] {
                for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
                    values.insert((condition.arg, near | high));
                    values.insert((condition.arg, near & 0xffff_ffff | high));
                }
            }
        }
    }
    values.extend((0..32).map(|call| (0, call)));

    let mut calls = Vec::new();
    for arch in [0xc000_003e, 0x4000_0003] {
        for nr in &numbers {
            calls.push(Call {
                nr: *nr,
                arch,
                args: [0; 6],
            });
            for (arg, value) in &values {
                let mut args = [0; 6];
                args[usize::from(*arg)] = *value;
                calls.push(Call {
                    nr: *nr,
                    arch,
                    args,
                });
            }
        }
    }
    for arch in [0, 0x4000_0028, 0xc000_00b7] {
        calls.push(Call {
            nr: 0,
            arch,
            args: [0; 6],
        });
    }
    calls
}

const X32_GAP: &str = "ENOSYS for x32 calls between the newest common one and x32's own";

#[test]
fn docker_s_profile() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let (compared, reasons) = compare(&reference, &fixture("docker"));
    eprintln!("docker: {compared} calls compared, differences: {reasons:#?}");
    assert!(compared > 400_000);
    assert!(reasons.contains_key(X32_GAP));
}

#[test]
fn podman_s_profile() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let (compared, reasons) = compare(&reference, &fixture("podman"));
    eprintln!("podman: {compared} calls compared, differences: {reasons:#?}");
}

#[test]
fn docker_s_profile_without_x32() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut profile = fixture("docker");
    profile.archs.retain(|arch| *arch != Arch::X32);
    let (compared, reasons) = compare(&reference, &profile);
    eprintln!("docker without x32: {compared} calls compared, differences: {reasons:#?}");
    assert!(!reasons.contains_key(X32_GAP));
}

/// Docker's newer profiles allow address families one by one: many rules for one argument.
#[test]
fn an_allow_list_of_values() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut profile = fixture("docker");
    let is_socket = |rule: &&mut Rule| rule.names == ["socket"];
    let socket = profile.rules.iter_mut().find(is_socket).unwrap();
    let one = |compare, value| {
        vec![plan::Condition {
            arg: 0,
            compare,
            value,
        }]
    };
    socket.any_of = [
        13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43,
        44, 45,
    ]
    .map(|family| one(Compare::Eq, family))
    .into();
    socket.any_of.push(one(Compare::Lt, 12));
    let (compared, reasons) = compare(&reference, &profile);
    eprintln!("allow list: {compared} calls compared, differences: {reasons:#?}");
}

fn low(condition: plan::Condition) -> plan::Condition {
    let compare = match condition.compare {
        Compare::MaskedEq { mask } => Compare::MaskedEq {
            mask: mask & 0xffff_ffff,
        },
        other => other,
    };
    plan::Condition {
        compare,
        value: condition.value & 0xffff_ffff,
        ..condition
    }
}

fn with_rules(rules: Vec<Rule>) -> Profile {
    Profile {
        rules,
        default: Action::Errno(1),
        archs: Vec::new(),
        flags: Flags {
            log: false,
            spec_allow: SpecAllow::Off,
            wait_killable_recv: false,
        },
        listener: None,
    }
}

/// Random rules with one condition each for one call: what decides is the order in which overlapping rules are
/// tried. Only values of 32 bits: libseccomp 2.5.4 errs about overlapping ranges of larger ones (for `< 2^32 + 1` and
/// `<= 1` it takes 2 for a match of the second).
#[test]
fn overlapping_rules() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut compared, mut different) = (0, 0);
    for _ in 0..400 {
        let rules = (0..4).map(|position| {
            let arg = u8::try_from(random.below(3)).unwrap();
            Rule {
                position,
                names: vec!["personality".to_owned()],
                action: random.pick(&[Action::Allow, Action::Errno(2), Action::Errno(3)]),
                any_of: vec![vec![low(condition(&mut random, arg))]],
            }
        });
        let profile = with_rules(rules.collect());
        let (ours, theirs) = (compile(&profile, NATIVE), reference.filter(&profile));
        let (Ok(ours), Some(theirs)) = (ours, theirs) else {
            continue;
        };
        let small = |call: &Call| call.args.iter().all(|arg| *arg < 1 << 32);
        for call in calls(&profile)
            .iter()
            .filter(|call| call.nr == 135 && call.arch == 0xc000_003e && small(call))
        {
            compared += 1;
            if run(&ours, call).0 != run(&theirs, call).0 {
                // The one known difference of order: see `rules::precedence`.
                let has = |compare| {
                    profile
                        .rules
                        .iter()
                        .any(|rule| rule.any_of[0][0].compare == compare)
                };
                let known = has(Compare::Ne) && has(Compare::Eq);
                assert!(known, "{call:x?} of {:x?}", profile.rules);
                different += 1;
            }
        }
    }
    assert!(
        compared > 10_000 && different < 10,
        "{compared} calls compared, {different} differ"
    );
    eprintln!("overlapping rules: {compared} calls compared, {different} differ");
}

/// Random rules with equalities of several arguments for one call: one that asks for less than an earlier one, and the other
/// way round.
#[test]
fn rules_that_say_more() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut random = Random(0x0dd0_beef_cafe_f00d);
    let (mut compared, mut refused, mut taken) = (0, 0, 0);
    for round in 0..300 {
        let rules = (0..5).map(|position| {
            let compare = Compare::Eq;
            let equal = |arg, value| plan::Condition {
                arg,
                compare,
                value,
            };
            let values = [0; 3].map(|_| u64::try_from(random.below(3)).unwrap());
            let conditions = (0..3).zip(values).filter(|(_, value)| *value != 0);
            Rule {
                position,
                names: vec!["personality".to_owned()],
                action: random.pick(&[Action::Allow, Action::Errno(2)]),
                any_of: vec![conditions.map(|(arg, value)| equal(arg, value)).collect()],
            }
        });
        let mut rules: Vec<Rule> = rules.collect();
        rules.retain(|rule| !rule.any_of[0].is_empty());
        let profile = with_rules(rules);
        let (ours, theirs) = (compile(&profile, NATIVE), reference.filter(&profile));
        let text = format!("round {round}: {:x?}", profile.rules);
        let (Ok(ours), Some(theirs)) = (&ours, &theirs) else {
            // It also looks at some rules that nothing reaches.
            assert!(theirs.is_none(), "{text}");
            refused += usize::from(ours.is_err());
            taken += usize::from(ours.is_ok());
            continue;
        };
        for packed in 0..27 {
            let args = [packed % 3, packed / 3 % 3, packed / 9, 0, 0, 0];
            let (nr, arch) = (135, 0xc000_003e);
            let call = Call { nr, arch, args };
            let (here, there) = (run(ours, &call).0, run(theirs, &call).0);
            assert_eq!(here, there, "{call:x?}, {text}");
            compared += 1;
        }
    }
    assert!(
        compared > 2000 && refused > 20 && taken < 10,
        "{compared} calls compared, {refused} profiles refused, {taken} by libseccomp alone"
    );
}
