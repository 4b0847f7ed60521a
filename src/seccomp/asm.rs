//! An assembler for classic BPF that writes a program from its end to its start. Pure. Called by `compile`.
//!
//! Backwards, every jump goes to code that is already placed, so its distance is known at once; and BPF jumps go
//! forward only, so nothing else is needed. Conditional jumps reach 255 instructions; beyond that they go through
//! an unconditional jump placed near.

use anyhow::{Context, Result, ensure};
use libc::sock_filter;

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// BPF_MAXINSNS: the kernel takes no longer program.
const LIMIT: usize = 4096;
/// How far a conditional jump may go here; less than 255 leaves room for the two jumps placed in between.
const REACH: usize = 250;

/// How a conditional jump compares the accumulator with its operand.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Equal = 0x15,     // BPF_JMP | BPF_JEQ | BPF_K
    AtLeast = 0x35,   // BPF_JMP | BPF_JGE | BPF_K
    AnyBitSet = 0x45, // BPF_JMP | BPF_JSET | BPF_K
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Default)]
pub(super) struct Assembler {
    /// The program, last instruction first.
    code: Vec<sock_filter>,
    /// The latest place of each return word.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(sock_filter { code, jt, jf, k });
        Label(self.code.len() - 1)
    }

    /// How many instructions lie between the next one written and `to`.
    fn distance(&self, to: Label) -> usize {
        self.code.len() - 1 - to.0
    }

    /// A place that returns `word`: an earlier one when a conditional jump can reach it.
    pub(super) fn ret(&mut self, word: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == word);
        let latest = known
            .and_then(|index| self.returns.get(index))
            .map(|(_, label)| *label);
        if let Some(label) = latest.filter(|label| self.distance(*label) < REACH) {
            return label;
        }
        let label = self.push(RETURN, 0, 0, word);
        match known.and_then(|index| self.returns.get_mut(index)) {
            Some(entry) => entry.1 = label,
            None => self.returns.push((word, label)),
        }
        label
    }

    /// A place within reach of a conditional jump from which the program goes on at `to`.
    fn near(&mut self, to: Label) -> Result<Label> {
        if self.distance(to) < REACH {
            Ok(to)
        } else {
            self.jump(to)
        }
    }

    fn jump(&mut self, to: Label) -> Result<Label> {
        let distance =
            u32::try_from(self.distance(to)).context("the seccomp filter is too long")?;
        Ok(self.push(JUMP, 0, 0, distance))
    }

    /// Goes to `yes` when the accumulator passes the test, else to `no`.
    pub(super) fn branch(
        &mut self,
        test: Test,
        operand: u32,
        yes: Label,
        no: Label,
    ) -> Result<Label> {
        let yes = self.near(yes)?;
        let no = self.near(no)?;
        let reach = |label| {
            u8::try_from(self.distance(label)).context("a jump of the seccomp filter is too long")
        };
        let (jt, jf) = (reach(yes)?, reach(no)?);
        Ok(self.push(test as u16, jt, jf, operand))
    }

    /// Makes the next instruction written run into `next`.
    fn adjoin(&mut self, next: Label) -> Result<()> {
        if self.code.len() - 1 != next.0 {
            let target = self
                .code
                .get(next.0)
                .copied()
                .context("a label outside the seccomp filter")?;
            // A return is as short as a jump to it.
            if target.code == RETURN {
                self.code.push(target);
            } else {
                self.jump(next).map(drop)?;
            }
        }
        Ok(())
    }

    /// Loads a word of `seccomp_data` and goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Result<Label> {
        self.adjoin(next)?;
        Ok(self.push(LOAD_WORD, 0, 0, offset))
    }

    /// Keeps only the bits of `mask` in the accumulator and goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Result<Label> {
        self.adjoin(next)?;
        Ok(self.push(AND, 0, 0, mask))
    }

    /// `conditions` is code that runs into its end when it holds and skips one instruction beyond it when not:
    /// returns `word` in the first case, goes on at `otherwise` in the second.
    pub(super) fn conditions(
        &mut self,
        conditions: impl DoubleEndedIterator<Item = sock_filter>,
        word: u32,
        otherwise: Label,
    ) -> Result<Label> {
        self.adjoin(otherwise)?;
        self.push(RETURN, 0, 0, word);
        self.code.extend(conditions.rev());
        Ok(Label(self.code.len() - 1))
    }

    /// The program, which starts at `entry`.
    pub(super) fn finish(mut self, entry: Label) -> Result<Vec<sock_filter>> {
        self.code.truncate(entry.0 + 1);
        self.code.reverse();
        ensure!(
            self.code.len() <= LIMIT,
            "linux.seccomp: the profile compiles to {} instructions, the kernel takes no more than {LIMIT}",
            self.code.len()
        );
        Ok(self.code)
    }
}

/// Whether an instruction loads a word of `seccomp_data`.
pub(super) fn is_load(instruction: sock_filter) -> bool {
    instruction.code == LOAD_WORD
}
