//! Random small profiles: the compiled program against a direct reading of the profile, on several native
//! architectures. The seed is fixed, so a failure repeats.

#![allow(clippy::unwrap_used)] // tests

use super::compile::compile;
use super::direct::Reading;
use super::emulator::{Call, check, run};
use super::names::{self, X32_BIT, abi};
use super::tables::ROWS;
use crate::plan::seccomp::{Action, Arch, Compare, Condition, Flags, Profile, Rule, SpecAllow};

/// xorshift64*: enough to vary tests.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    40,
    0x7e02_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 1,
    (1 << 32) + 40,
    7 << 32,
    u64::MAX,
];
const NAMES: &[&str] = &[
    "read",
    "write",
    "openat",
    "socket",
    "send",
    "recv",
    "accept",
    "semop",
    "shmat",
    "socketcall",
    "ipc",
    "clone",
    "clone3",
    "rt_sigaction",
    "execveat",
    "set_tls",
    "cacheflush",
    "personality",
    "mmap2",
    "no_such_call",
    "uretprobe",
    "futex_waitv",
    "preadv2",
    "waitpid",
    "restart_syscall",
];
const ACTIONS: &[Action] = &[
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::KillProcess,
    Action::KillThread,
    Action::Trap,
    Action::Log,
    Action::Trace(5),
    Action::Notify,
];

pub(super) fn condition(random: &mut Random, arg: u8) -> Condition {
    let value = random.pick(VALUES);
    let mask = random.pick(&[1, 3, 0xff00_0000, 0xffff_ffff, u64::MAX, 1 << 40, 0]);
    let compare = random.pick(&[
        Compare::Ne,
        Compare::Lt,
        Compare::Le,
        Compare::Eq,
        Compare::Eq,
        Compare::Ge,
        Compare::Gt,
        Compare::MaskedEq { mask },
    ]);
    let value = if let Compare::MaskedEq { mask } = compare {
        value & mask
    } else {
        value
    };
    Condition {
        arg,
        compare,
        value,
    }
}

fn conditions(random: &mut Random) -> Vec<Vec<Condition>> {
    match random.below(6) {
        0 | 1 => Vec::new(),
        2 | 3 => vec![vec![condition(random, 0)]],
        4 => (0..=random.below(5))
            .map(|_| vec![condition(random, 1)])
            .collect(),
        _ => {
            let args: Vec<u8> = (0..6).filter(|_| random.below(3) == 0).collect();
            let all: Vec<_> = args.into_iter().map(|arg| condition(random, arg)).collect();
            if all.is_empty() {
                Vec::new()
            } else {
                vec![all]
            }
        }
    }
}

fn profile(random: &mut Random, natives: &[Arch]) -> Profile {
    let rules = (0..random.below(14)).map(|position| Rule {
        position,
        names: (0..=random.below(3))
            .map(|_| random.pick(NAMES).to_owned())
            .collect(),
        action: random.pick(ACTIONS),
        any_of: conditions(random),
    });
    Profile {
        rules: rules.collect(),
        default: random.pick(&[
            Action::Errno(1),
            Action::Allow,
            Action::KillProcess,
            Action::Log,
        ]),
        archs: natives
            .iter()
            .copied()
            .filter(|_| random.below(2) == 0)
            .collect(),
        flags: Flags {
            log: false,
            spec_allow: SpecAllow::Off,
            wait_killable_recv: false,
        },
        listener: None,
    }
}

pub(crate) fn probes(random: &mut Random, profile: &Profile, native: Arch) -> Vec<Call> {
    let mut numbers = vec![
        0,
        1,
        335,
        472,
        511,
        512,
        547,
        548,
        1024,
        4000,
        0xf_0005,
        0xf_0100,
        0x10_0000,
        X32_BIT,
        0x8000_0000,
        u32::MAX,
    ];
    let names: Vec<&String> = profile.rules.iter().flat_map(|rule| &rule.names).collect();
    let mut archs = vec![abi(native, native)];
    archs.extend(profile.archs.iter().map(|arch| abi(*arch, native)));
    for abi in &archs {
        for name in &names {
            for by in [
                Some(name.as_str()),
                names::multiplexed(name).map(|(by, _)| by),
            ]
            .into_iter()
            .flatten()
            {
                numbers.extend(
                    abi.number_of(by)
                        .iter()
                        .flat_map(|number| [*number, number + 1, number.wrapping_sub(1)]),
                );
            }
        }
    }
    numbers.extend(numbers.clone().iter().map(|number| number | X32_BIT));
    numbers.sort_unstable();
    numbers.dedup();
    let mut calls = Vec::new();
    for abi in archs {
        for nr in &numbers {
            for _ in 0..4 {
                let args = std::array::from_fn(|_| match random.below(3) {
                    0 => random.pick(VALUES),
                    1 => random.pick(VALUES).wrapping_add(1),
                    _ => u64::try_from(random.below(25)).unwrap(),
                });
                calls.push(Call {
                    nr: *nr,
                    arch: abi.audit,
                    args,
                });
            }
        }
    }
    calls.push(Call {
        nr: 0,
        arch: 0x1234,
        args: [0; 6],
    });
    calls
}

#[test]
fn programs_decide_what_profiles_say() {
    let families: &[&[Arch]] = &[
        &[Arch::X86_64, Arch::X86, Arch::X32],
        &[Arch::Aarch64, Arch::Arm],
        &[Arch::S390x, Arch::S390],
        &[Arch::Mipsel64, Arch::Mipsel, Arch::Mipsel64n32],
        &[Arch::Ppc64, Arch::Ppc],
        &[Arch::Riscv64],
        &[Arch::Parisc64, Arch::Parisc],
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut compared, mut refused) = (0_u32, 0_u32);
    for round in 0..600 {
        let family = if round % 2 == 0 {
            families[0]
        } else {
            random.pick(families)
        };
        let profile = profile(&mut random, family);
        let filter = match compile(&profile, family[0]) {
            Ok(filter) => filter,
            Err(error) => {
                assert!(error.to_string().contains("contradicts"), "{error:#}");
                refused += 1;
                continue;
            }
        };
        check(&filter);
        let reading = Reading::new(&profile, family[0]);
        for call in probes(&mut random, &profile, family[0]) {
            let (ours, direct) = (run(&filter, &call).0, reading.decide(&call));
            assert_eq!(ours, direct, "round {round}: {call:x?} of {profile:#?}");
            compared += 1;
        }
    }
    assert!(
        compared > 300_000 && refused < 120,
        "{compared} calls compared, {refused} profiles refused"
    );
}

/// A program too long for short jumps: 1,000 rules for one call and conditions for every call there is.
#[test]
fn long_programs_jump_far_and_end_at_the_limit() {
    let condition = |arg, value| Condition {
        arg,
        compare: Compare::MaskedEq { mask: u64::MAX },
        value,
    };
    let rule = |position, name: &str, conditions| Rule {
        position,
        names: vec![name.to_owned()],
        action: Action::Errno(u16::try_from(position % 4000).unwrap() + 2),
        any_of: vec![conditions],
    };
    let mut profile = profile(&mut Random(1), &[]);
    profile.default = Action::Errno(1);
    profile.archs = vec![Arch::X86, Arch::X32];
    profile.rules = ROWS
        .iter()
        .take(150)
        .enumerate()
        .map(|(i, row)| rule(i, row.name(), vec![condition(0, 7 + i as u64)]))
        .collect();
    let filter = compile(&profile, Arch::X86_64).unwrap();
    check(&filter);
    assert!(filter.len() > 1000, "{}", filter.len());
    let reading = Reading::new(&profile, Arch::X86_64);
    for call in probes(&mut Random(2), &profile, Arch::X86_64) {
        for arg in [call.args[0], 7, 100, 156] {
            let call = Call {
                args: [arg; 6],
                ..call
            };
            assert_eq!(run(&filter, &call).0, reading.decide(&call), "{call:x?}");
        }
    }

    profile.rules = (0..1000)
        .map(|i| rule(i, "openat", vec![condition(0, i as u64)]))
        .collect();
    let error = compile(&profile, Arch::X86_64)
        .expect_err("longer than the kernel takes")
        .to_string();
    assert!(
        error.starts_with("linux.seccomp: the profile compiles to "),
        "{error}"
    );
    assert!(
        error.ends_with("the kernel takes no more than 4096"),
        "{error}"
    );
}
