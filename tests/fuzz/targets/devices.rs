//! Device rules: the eBPF program of a list and the writes to a v1 cgroup against the kernel's own rules for such a list
//! (security/device_cgroup.c), written down here once more.

use crate::cgroup::devices::program::assemble;
use crate::cgroup::devices::rules::Policy;
use crate::cgroup::devices::{emulator, in_listed_order};
use crate::plan::device_rule::{DeviceKind, DeviceRule};
use crate::sys::bpf;

const NUMBERS: [u32; 8] = [0, 1, 3, 5, 136, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe];

/// As the kernel keeps them: a behaviour and a list of exceptions.
#[derive(Clone, Default)]
struct Kernel {
    allows: bool,
    exceptions: Vec<(bool, Option<u32>, Option<u32>, u8)>,
}

impl Kernel {
    fn write(&mut self, rule: &DeviceRule) {
        let access = rule.access.bits();
        let block = match rule.kind {
            DeviceKind::All if (rule.major, rule.minor, access) == (None, None, 7) => {
                self.allows = rule.allow;
                self.exceptions.clear();
                return;
            }
            // What rundlet makes of it: both kinds, and never more than was written.
            DeviceKind::All => {
                for kind in [DeviceKind::Block, DeviceKind::Char] {
                    self.write(&DeviceRule {
                        kind,
                        ..rule.clone()
                    });
                }
                return;
            }
            DeviceKind::Block => true,
            DeviceKind::Char => false,
        };
        let same = |e: &&mut (bool, Option<u32>, Option<u32>, u8)| {
            (e.0, e.1, e.2) == (block, rule.major, rule.minor)
        };
        let found = self.exceptions.iter_mut().find(same);
        match (rule.allow == self.allows, found) {
            (true, Some(exception)) => exception.3 &= !access,
            (true, None) => {}
            (false, Some(exception)) => exception.3 |= access,
            (false, None) => self
                .exceptions
                .push((block, rule.major, rule.minor, access)),
        }
        self.exceptions.retain(|exception| exception.3 != 0);
    }

    fn answers(&self, block: bool, access: u8, major: u32, minor: u32) -> bool {
        let hit = self.exceptions.iter().any(|exception| {
            exception.0 == block
                && exception.1.is_none_or(|number| number == major)
                && exception.2.is_none_or(|number| number == minor)
                && if self.allows {
                    exception.3 & access != 0
                } else {
                    access & !exception.3 == 0
                }
        });
        self.allows != hit
    }
}

/// Three bytes a rule: kind, access and whether it allows; major; minor.
fn decode(bytes: &[u8]) -> Vec<DeviceRule> {
    let number = |byte: u8| match byte % 16 {
        9.. => None,
        8 => Some(u32::from(byte)),
        known => Some(NUMBERS[usize::from(known)]),
    };
    let rule = |bytes: &[u8]| {
        let kind = ["a", "b", "c", "c"][usize::from(bytes[0] & 3)];
        let text = |byte| number(byte).map_or("*".to_owned(), |number| number.to_string());
        let access: String = ['m', 'r', 'w']
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| bytes[0] >> (2 + bit) & 1 == 1)
            .map(|(_, letter)| letter)
            .collect();
        let text = format!("{kind} {}:{} {access}", text(bytes[1]), text(bytes[2]));
        DeviceRule::parse_match(bytes[0] & 0x80 != 0, &text).ok()
    };
    bytes.chunks_exact(3).filter_map(rule).collect()
}

pub(super) fn rules(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Policy::from_list(text));
    }
    let rules = decode(bytes);
    for rule in &rules {
        assert_eq!(
            DeviceRule::try_from(String::from(rule.clone())).unwrap(),
            *rule
        );
    }
    let (first, second) = rules.split_at(rules.len() / 2);
    let (Some(old), Some(new)) = (check(first), check(second)) else {
        return;
    };
    moved(&old, &new, second);
}

/// The policy and what the kernel makes of the same list.
fn check(rules: &[DeviceRule]) -> Option<(Policy, Kernel)> {
    let policy = match Policy::from_rules(rules) {
        Ok(policy) => policy,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("linux.resources.devices: ")
                    && text.contains("takes back a part of")
            );
            return None;
        }
    };
    let mut kernel = Kernel::default();
    for rule in rules {
        kernel.write(rule);
    }
    let program = assemble(&policy).unwrap();
    each(|block, access, major, minor| {
        let kind = if block { 1 } else { 2 };
        let (ours, theirs) = (
            emulator::run(&program, kind, access.into(), major, minor),
            kernel.answers(block, access, major, minor),
        );
        assert_eq!(
            ours, theirs,
            "block {block} access {access} {major}:{minor} of {rules:?}"
        );
    });
    // The verifier's word, now and then: it takes much longer than all the rest.
    if rules.len() > 3 && rules.len() % 16 == 5 {
        let bytes: Vec<[u8; 8]> = program.iter().map(|insn| insn.to_bytes()).collect();
        match bpf::load_device_program(&bytes, "rundlet_fuzz") {
            Ok(_) => {}
            Err(error) if matches!(error.errno, nix::Error::EPERM | nix::Error::ENOMEM) => {}
            Err(error) => panic!("{error:?} of {rules:?}"),
        }
    }
    Some((policy, kernel))
}

/// The writes that lead from one list to another lead there, and deny nothing on the way that both allow.
fn moved((old, before): &(Policy, Kernel), (new, after): &(Policy, Kernel), rules: &[DeviceRule]) {
    // What the kernel shows of one that allows by default: no exception.
    let shown = if old.default_allow {
        Policy {
            default_allow: true,
            ..Policy::default()
        }
    } else {
        old.clone()
    };
    let mut kernel = before.clone();
    let rules: Vec<&DeviceRule> = rules.iter().collect();
    let writes = in_listed_order(shown.transition(new), &rules);
    let resets = writes
        .first()
        .is_some_and(|write| write.kind == DeviceKind::All);
    for write in &writes {
        kernel.write(write);
        if !resets {
            each(|block, access, major, minor| {
                let both = before.answers(block, access, major, minor)
                    && after.answers(block, access, major, minor);
                let single = access.is_power_of_two();
                assert!(
                    !(both && single) || kernel.answers(block, access, major, minor),
                    "block {block} access {access} {major}:{minor}: {old:?} to {new:?}, at {write}"
                );
            });
        }
    }
    each(|block, access, major, minor| {
        assert_eq!(
            kernel.answers(block, access, major, minor),
            after.answers(block, access, major, minor),
            "block {block} access {access} {major}:{minor}: {old:?} to {new:?}"
        );
    });
}

fn each(mut look: impl FnMut(bool, u8, u32, u32)) {
    for block in [false, true] {
        for access in 1..8 {
            for major in NUMBERS.into_iter().chain([7, u32::MAX]) {
                for minor in NUMBERS.into_iter().chain([7, u32::MAX]) {
                    look(block, access, major, minor);
                }
            }
        }
    }
}
