//! A device policy as an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. Pure: makes instructions only.
//!
//! The kernel runs it at every mknod and open with a context of three u32: access<<16 | type, major, minor.
//! One exception is one group of compares that falls through to `exit`; registers: r0 answer, r1 scratch, r2 type,
//! r3 access, r4 major, r5 minor. Every open in the container pays for it, so there is nothing else in it.

use anyhow::{Context, Result};

use super::rules::{Match, Policy};
use crate::plan::device_rule::{Access, DeviceKind};

/// One eBPF instruction, as in `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    pub(crate) off: i16,
    pub(crate) imm: i32,
}

/// Operation codes used here: class, operation and source bits already put together.
pub(crate) mod op {
    /// dst = *(u32 *)(src + off)
    pub(crate) const LOAD_U32: u8 = 0x61;
    pub(crate) const MOV64_IMM: u8 = 0xb7;
    pub(crate) const MOV64_REG: u8 = 0xbf;
    pub(crate) const AND64_IMM: u8 = 0x57;
    pub(crate) const RSH64_IMM: u8 = 0x77;
    /// 32-bit compares: device numbers above `i32::MAX` would be sign-extended by the 64-bit ones.
    pub(crate) const JNE32_IMM: u8 = 0x56;
    pub(crate) const JEQ32_IMM: u8 = 0x16;
    pub(crate) const EXIT: u8 = 0x95;
}

const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;

impl Insn {
    /// The eight bytes the kernel reads. The two register nibbles change places with the byte order.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "little") {
            self.dst | self.src << 4
        } else {
            self.dst << 4 | self.src
        };
        let [o0, o1] = self.off.to_ne_bytes();
        let [i0, i1, i2, i3] = self.imm.to_ne_bytes();
        [self.code, registers, o0, o1, i0, i1, i2, i3]
    }
}

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn {
        code,
        dst,
        src,
        off,
        imm,
    }
}

/// The program that answers as `policy` does.
pub(crate) fn assemble(policy: &Policy) -> Result<Vec<Insn>> {
    let exception = i32::from(!policy.default_allow);
    let mut out = vec![
        insn(op::LOAD_U32, 2, 1, 0, 0),
        insn(op::MOV64_REG, 3, 2, 0, 0),
        insn(op::RSH64_IMM, 3, 0, 0, 16),
        insn(op::AND64_IMM, 2, 0, 0, 0xffff),
        insn(op::LOAD_U32, 4, 1, 4, 0),
        insn(op::LOAD_U32, 5, 1, 8, 0),
        insn(op::MOV64_IMM, 0, 0, 0, exception),
    ];
    for (kind, number) in [(DeviceKind::Char, DEV_CHAR), (DeviceKind::Block, DEV_BLOCK)] {
        let mut block = Vec::new();
        for (key, access) in policy.exceptions.iter().filter(|(key, _)| key.kind == kind) {
            push_exception(&mut block, *key, *access, policy.default_allow)?;
            // It covers the others, and the verifier takes nothing that cannot be reached.
            if (key.major, key.minor, *access) == (None, None, Access::ALL) {
                break;
            }
        }
        if !block.is_empty() {
            out.push(insn(op::JNE32_IMM, 2, 0, jump(block.len())?, number));
            out.append(&mut block);
        }
    }
    out.push(insn(op::MOV64_IMM, 0, 0, 0, 1 - exception));
    out.push(insn(op::EXIT, 0, 0, 0, 0));
    Ok(out)
}

/// Compares that jump behind themselves unless the exception applies, then `exit` with the answer already in r0.
fn push_exception(
    block: &mut Vec<Insn>,
    key: Match,
    access: Access,
    default_allow: bool,
) -> Result<()> {
    let mut tests = Vec::new();
    for (register, number) in [(4, key.major), (5, key.minor)] {
        if let Some(number) = number {
            tests.push(insn(op::JNE32_IMM, register, 0, 0, number.cast_signed()));
        }
    }
    if access != Access::ALL {
        // An allowed exception must cover all that is asked for; a denied one bites on any part of it.
        let (mask, leave) = if default_allow {
            (access, op::JEQ32_IMM)
        } else {
            (Access::ALL.without(access), op::JNE32_IMM)
        };
        tests.push(insn(op::MOV64_REG, 1, 3, 0, 0));
        tests.push(insn(op::AND64_IMM, 1, 0, 0, i32::from(mask.bits())));
        tests.push(insn(leave, 1, 0, 0, 0));
    }
    let len = tests.len();
    for (i, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, op::JNE32_IMM | op::JEQ32_IMM) {
            test.off = jump(len - i)?;
        }
    }
    block.append(&mut tests);
    block.push(insn(op::EXIT, 0, 0, 0, 0));
    Ok(())
}

/// A jump over `count` instructions.
fn jump(count: usize) -> Result<i16> {
    i16::try_from(count).context("linux.resources.devices: too many rules for one device program")
}

#[cfg(test)]
mod tests {
    use super::super::emulator::run;
    use super::super::rules::tests::rules;
    use super::*;
    use crate::plan::device_rule::DeviceRule;

    /// The kernel's own v1 rule, written down independently: default deny wants one exception that covers the whole
    /// access, default allow is broken by any exception that touches it.
    fn direct(policy: &Policy, kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let hit = policy.exceptions.iter().any(|(key, granted)| {
            let kinds = if key.kind == DeviceKind::Block { 1 } else { 2 };
            let bits = u32::from(granted.bits());
            kinds == kind
                && key.major.is_none_or(|m| m == major)
                && key.minor.is_none_or(|m| m == minor)
                && if policy.default_allow {
                    bits & access != 0
                } else {
                    access & !bits == 0
                }
        });
        policy.default_allow != hit
    }

    fn agree(rules: &[DeviceRule]) {
        let policy = Policy::from_rules(rules).unwrap();
        let program = assemble(&policy).unwrap();
        for kind in [1, 2] {
            for access in 1..8 {
                for major in [0, 1, 2, 5, 7, 10, 136, u32::MAX] {
                    for minor in [0, 1, 3, 5, 200, 0x8000_0000] {
                        assert_eq!(
                            run(&program, kind, access, major, minor),
                            direct(&policy, kind, access, major, minor),
                            "{policy:?}: type {kind} access {access} {major}:{minor}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn programs_answer_as_the_policy() {
        agree(&[]);
        agree(&DeviceRule::STANDARD);
        for lines in [
            vec!["allow a *:* rwm"],
            vec![
                "allow a *:* rwm",
                "deny c 1:3 w",
                "deny b 7:* m",
                "deny c *:200 rw",
            ],
            vec![
                "allow b 7:* rw",
                "allow c *:3 m",
                "allow c 4294967295:2147483648 r",
            ],
            vec![
                "allow c 1:3 rwm",
                "deny c 1:3 w",
                "allow c 1:5 w",
                "allow b *:* m",
            ],
            vec!["allow a 10:200 r"],
            // The first covers the second, which would be out of reach.
            vec!["allow c *:* rwm", "allow c 1:3 rwm", "allow b 8:0 r"],
        ] {
            agree(&rules(&lines));
        }
    }

    /// What covers a whole kind is the last of it: the verifier refuses instructions that nothing reaches.
    #[test]
    fn nothing_is_out_of_reach() {
        let all = Policy::from_rules(&rules(&["allow c *:* rwm", "allow c 1:3 rwm"])).unwrap();
        let one = Policy::from_rules(&rules(&["allow c *:* rwm"])).unwrap();
        assert_eq!(assemble(&all).unwrap(), assemble(&one).unwrap());
    }

    #[test]
    fn known_answers() {
        let program = assemble(&Policy::from_rules(&DeviceRule::STANDARD).unwrap()).unwrap();
        let (block, char) = (1, 2);
        assert!(
            run(&program, char, 6, 1, 3),
            "open /dev/null for reading and writing"
        );
        assert!(!run(&program, char, 2, 1, 1), "read /dev/mem");
        assert!(run(&program, char, 1, 1, 1), "mknod of /dev/mem's node");
        assert!(!run(&program, block, 2, 8, 0), "read a disk");
        assert!(run(&program, char, 7, 136, 17), "any pts");
        assert!(!run(&program, char, 2, 5, 1), "read the host's console");
        // The size is paid at every open; a growth must be seen.
        assert_eq!(program.len(), 45);
    }

    #[test]
    fn bytes_are_the_kernels() {
        if cfg!(target_endian = "little") {
            assert_eq!(
                insn(op::LOAD_U32, 4, 1, 4, 0).to_bytes(),
                [0x61, 0x14, 4, 0, 0, 0, 0, 0]
            );
            assert_eq!(
                insn(op::JNE32_IMM, 2, 0, -1, 2).to_bytes(),
                [0x56, 2, 0xff, 0xff, 2, 0, 0, 0]
            );
        }
    }

    #[test]
    fn too_many_rules_are_an_error() {
        let many: Vec<DeviceRule> = (0..20_000)
            .map(|n| rules(&[&format!("allow c 1:{n} r")]).remove(0))
            .collect();
        let policy = Policy::from_rules(&many).unwrap();
        assert!(assemble(&policy).is_err());
    }
}
