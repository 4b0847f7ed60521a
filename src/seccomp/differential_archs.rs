//! Every architecture against libseccomp: the numbers of all names, and filters compiled as if for a machine of it, with both
//! byte orders and both widths of arguments. As in `differential`, without the library the tests say so and pass.
#![cfg(target_arch = "x86_64")]

use std::collections::{BTreeMap, BTreeSet};

use super::compile::compile;
use super::emulator::{Call, check, run};
use super::names::{NATIVE, abi, multiplexed};
use super::random::{Random, condition};
use super::reference::Reference;
use super::tables::{ROWS, Row};
use crate::plan::seccomp::{Action, Arch, Compare, Condition, Flags, Profile, Rule, SpecAllow};

/// Those that libseccomp 2.5 knows: not loongarch64, m68k and sh.
const ARCHS: [Arch; 20] = [
    Arch::X86_64,
    Arch::X86,
    Arch::X32,
    Arch::Arm,
    Arch::Aarch64,
    Arch::Mips,
    Arch::Mipsel,
    Arch::Mips64,
    Arch::Mipsel64,
    Arch::Mips64n32,
    Arch::Mipsel64n32,
    Arch::Ppc,
    Arch::Ppc64,
    Arch::Ppc64le,
    Arch::S390,
    Arch::S390x,
    Arch::Parisc,
    Arch::Parisc64,
    Arch::Riscv64,
    Arch::Native,
];

/// Not to be compared: the two that multiplex others, and one that libseccomp 2.5.4 takes for switch_endian on ppc.
const LEFT_OUT: [&str; 3] = ["socketcall", "ipc", "sys_debug_setcontext"];

/// The names that both sides have on an architecture, with their number.
fn common(reference: &Reference, arch: Arch) -> Vec<(&'static str, u32)> {
    let theirs = resolve(reference, arch);
    let abi = abi(arch, NATIVE);
    ROWS.iter()
        .filter_map(|row| Some((row.name(), abi.number(row)?)))
        .filter(|(name, number)| theirs[*name] == Some(*number) && multiplexed(name).is_none())
        .filter(|(name, _)| !LEFT_OUT.contains(name))
        .collect()
}

fn resolve(reference: &Reference, arch: Arch) -> BTreeMap<String, Option<u32>> {
    let names: BTreeSet<&str> = ROWS.iter().map(Row::name).collect();
    reference.resolve(arch, &names)
}

#[test]
fn numbers_are_libseccomp_s() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut wrong = Vec::new();
    for arch in ARCHS {
        let abi = abi(arch, NATIVE);
        let theirs = resolve(&reference, abi.arch);
        let mut equal = 0;
        for row in ROWS {
            match (abi.number(row), theirs[row.name()]) {
                (Some(own), Some(theirs)) if own == theirs => equal += 1,
                // On parisc64 no kernel has it: the library reads one list for both widths.
                (None, Some(140)) if (arch, row.name()) == (Arch::Parisc64, "_llseek") => (),
                // Newer than the library, or a call that it reaches through socketcall(2) and ipc(2) only.
                (_, None) => (),
                (own, theirs) => wrong.push((arch, row.name(), own, theirs)),
            }
        }
        eprintln!("{arch:?}: {equal} numbers are the same");
        assert!(equal > 250, "{arch:?}: {equal}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One rule for each of 60 calls, most with conditions on several arguments.
fn profile(random: &mut Random, names: &[(&'static str, u32)]) -> Profile {
    let mut chosen: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < 60 {
        chosen.insert(random.pick(names).0);
    }
    let rules = chosen.into_iter().enumerate().map(|(position, name)| {
        let args: Vec<u8> = (0..6).filter(|_| random.below(4) == 0).collect();
        let mut all: Vec<Condition> = args.iter().map(|arg| condition(random, *arg)).collect();
        all.retain(|one| one.compare != Compare::MaskedEq { mask: 0 });
        Rule {
            position,
            names: vec![name.to_owned()],
            action: random.pick(&[
                Action::Errno(7),
                Action::Trap,
                Action::KillProcess,
                Action::Allow,
            ]),
            any_of: if all.is_empty() {
                Vec::new()
            } else {
                vec![all]
            },
        }
    });
    Profile {
        // A default that lets pass: no ENOSYS for newer calls, which is runc's addition and not the library's.
        default: Action::Log,
        rules: rules.collect(),
        archs: Vec::new(),
        flags: Flags {
            log: false,
            spec_allow: SpecAllow::Off,
            wait_killable_recv: false,
        },
        listener: None,
    }
}

#[test]
fn filters_are_libseccomp_s() {
    let Some(reference) = Reference::build() else {
        return;
    };
    let mut random = Random(0x0dd0_5eed_1234_5678);
    for native in ARCHS
        .into_iter()
        .filter(|arch| ![Arch::X32, Arch::Native].contains(arch))
    {
        let names = common(&reference, native);
        let abi = abi(native, native);
        let mut compared = 0;
        for _ in 0..12 {
            let profile = profile(&mut random, &names);
            let ours = compile(&profile, native).unwrap();
            check(&ours);
            let theirs = reference
                .filter_on(&profile, native)
                .expect("no contradictions");
            for rule in &profile.rules {
                let number = abi.number_of(&rule.names[0]).unwrap();
                for args in arguments(&mut random, rule) {
                    let call = Call {
                        nr: number,
                        arch: abi.audit,
                        args,
                    };
                    assert_eq!(
                        run(&ours, &call).0,
                        run(&theirs, &call).0,
                        "{native:?} {call:x?} of {rule:x?}"
                    );
                    compared += 1;
                }
            }
            let foreign = Call {
                nr: 1,
                arch: 0x1234,
                args: [0; 6],
            };
            assert_eq!(
                run(&ours, &foreign).0,
                run(&theirs, &foreign).0,
                "{native:?}"
            );
        }
        eprintln!("{native:?}: {compared} calls compared");
        assert!(compared > 10_000);
    }
}

/// Around the values of the rule, with the upper half as it is, changed and swapped with the lower.
fn arguments(random: &mut Random, rule: &Rule) -> Vec<[u64; 6]> {
    let conditions: Vec<&Condition> = rule.any_of.iter().flatten().collect();
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    for _ in 0..60 {
        let mut args = [0; 6];
        for one in &conditions {
            let near = one.value.wrapping_add(random.pick(&[0, 0, 0, 1, u64::MAX]));
            args[usize::from(one.arg)] = match random.below(6) {
                0 => near.rotate_left(32),
                1 => near ^ (1 << 40),
                2 => random.pick(&[0, 1, u64::MAX, 0xffff_ffff]),
                _ => near,
            };
        }
        all.push(args);
    }
    all
}
