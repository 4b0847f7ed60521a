//! Runs a device program as the kernel would. Only for tests and the fuzzer.

#![allow(clippy::unwrap_used)] // tests

use super::program::{Insn, op};

/// Runs a program as the kernel would; panics on anything it would not load.
pub(crate) fn run(program: &[Insn], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut r = [0u64; 11];
    let mut pc = 0;
    for _ in 0..100_000 {
        let i = program[pc];
        pc += 1;
        let (dst, src) = (usize::from(i.dst), usize::from(i.src));
        let imm = u64::from(i.imm.cast_unsigned());
        let low = u32::try_from(r[dst] & 0xffff_ffff).unwrap();
        let mut taken = false;
        match i.code {
            op::LOAD_U32 => {
                assert_eq!(i.src, 1);
                r[dst] = u64::from(context[usize::try_from(i.off).unwrap() / 4]);
            }
            op::MOV64_IMM => r[dst] = imm,
            op::MOV64_REG => r[dst] = r[src],
            op::AND64_IMM => r[dst] &= imm,
            op::RSH64_IMM => r[dst] >>= imm,
            op::JNE32_IMM => taken = low != i.imm.cast_unsigned(),
            op::JEQ32_IMM => taken = low == i.imm.cast_unsigned(),
            op::EXIT => return r[0] == 1,
            other => panic!("unknown operation {other:#x}"),
        }
        if taken {
            pc += usize::try_from(i.off).unwrap();
        }
    }
    panic!("does not end");
}
