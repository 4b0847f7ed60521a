//! Runs a classic BPF program as the kernel runs a seccomp filter. Only for tests and the fuzzer.

#![allow(clippy::unwrap_used)] // tests

use libc::sock_filter;

/// `struct seccomp_data`, without the instruction pointer, which no filter here reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) nr: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

/// What the kernel checks before it takes a filter: jumps stay inside, the end is a return, the length.
pub(crate) fn check(filter: &[sock_filter]) {
    assert!(!filter.is_empty() && filter.len() <= 4096);
    assert_eq!(
        filter[filter.len() - 1].code,
        0x06,
        "must end with a return"
    );
    for (at, insn) in filter.iter().enumerate() {
        match insn.code {
            0x05 => assert!(
                at + 1 + (insn.k as usize) < filter.len(),
                "jump out of the program at {at}"
            ),
            0x15 | 0x25 | 0x35 | 0x45 => {
                let far = usize::from(insn.jt.max(insn.jf));
                assert!(
                    at + 1 + far < filter.len(),
                    "branch out of the program at {at}"
                );
            }
            0x20 => assert!(insn.k % 4 == 0 && insn.k < 64, "bad load at {at}"),
            0x06 | 0x54 => (),
            code => panic!("unexpected instruction {code:#x} at {at}"),
        }
    }
}

/// The word the filter returns and how many instructions it took.
pub(crate) fn run(filter: &[sock_filter], call: &Call) -> (u32, usize) {
    let mut accumulator = 0_u32;
    let (mut at, mut steps) = (0, 0);
    loop {
        let insn = filter[at];
        at += 1;
        steps += 1;
        let mut branch = |yes: bool| at += usize::from(if yes { insn.jt } else { insn.jf });
        match insn.code {
            0x06 => return (insn.k, steps),
            0x20 => accumulator = load(call, insn.k),
            0x54 => accumulator &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => branch(accumulator == insn.k),
            0x25 => branch(accumulator > insn.k),
            0x35 => branch(accumulator >= insn.k),
            0x45 => branch(accumulator & insn.k != 0),
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

/// AUDIT_ARCH_* of a big-endian machine lack bit 30; the halves of an argument lie there in that order.
fn load(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.nr,
        4 => call.arch,
        16.. => {
            let arg = call.args[(offset as usize - 16) / 8];
            let big_endian = call.arch & 0x4000_0000 == 0;
            let high = (offset % 8 == 4) != big_endian;
            u32::try_from(if high { arg >> 32 } else { arg & 0xffff_ffff }).unwrap()
        }
        _ => panic!("load of {offset}"),
    }
}
