//! A profile to a BPF program. Pure. Called by `seccomp::compile`, in the parent before the clone.
//!
//! Layout: dispatch on the architecture; per architecture a balanced tree over spans of numbers with the same
//! verdict; conditions on arguments only at its leaves. x32 shares the tree of x86_64, split at the leaves where the
//! two differ. Parts that are equal are placed once. Conditions are compiled by seccompiler, except runs of plain
//! comparisons of one argument, which are a tree as well: an allow list of address families is one search.
//!
//! Nothing here may load anything but `nr` and `arch` on the way to an unconditional verdict, or do arithmetic
//! other than AND: only then the kernel sees that a call is always allowed and skips the filter for it.

use anyhow::{Context, Result};
use libc::sock_filter;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::asm::{self, Assembler, Label, Test};
use super::lookup;
use super::names::{Abi, X32_BIT, abi};
use super::rules::{self, Chain, FOREIGN, Span, Verdict};
use super::segments::{self, Part};
use crate::plan::seccomp::{Arch, Compare, Condition, Profile};

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Compiles for a kernel whose own architecture is `native`.
pub(crate) fn compile(profile: &Profile, native: Arch) -> Result<Vec<sock_filter>> {
    let rules = lookup::look_up(profile);
    let abis = covered(profile, native);
    let x32 = abis.iter().find(|abi| abi.arch == Arch::X32).copied();
    let mut compiler = Compiler {
        asm: Assembler::default(),
        chains: Vec::new(),
        placed: Vec::new(),
    };
    let mut dispatch = Vec::new();
    // Written backwards: what comes last stands first, and the native architecture should.
    for abi in abis.iter().rev().filter(|abi| abi.arch != Arch::X32) {
        let x32 = x32.filter(|_| abi.arch == Arch::X86_64);
        let spans = rules::spans(profile, &rules, *abi, x32.is_some(), &mut compiler.chains)?;
        let entry = if let Some(x32) = x32 {
            let other = rules::spans(profile, &rules, x32, true, &mut compiler.chains)?;
            let tree = compiler.numbers(&fold(&spans, &other))?;
            compiler.asm.and(!X32_BIT, tree)?
        } else {
            compiler.numbers(&fold(&spans, &spans))?
        };
        dispatch.push((abi.audit, compiler.asm.load(NR, entry)?));
    }
    let mut entry = compiler.asm.ret(FOREIGN);
    for (audit, arch) in dispatch {
        entry = compiler.asm.branch(Test::Equal, audit, arch, entry)?;
    }
    entry = compiler.asm.load(ARCH, entry)?;
    compiler.asm.finish(entry)
}

/// The architectures to cover, the native one first. X32 needs x86_64, whose number it shares.
fn covered(profile: &Profile, native: Arch) -> Vec<Abi> {
    let mut abis = vec![abi(native, native)];
    for arch in profile.archs.iter().map(|arch| abi(*arch, native)) {
        if abis.iter().all(|known| known.arch != arch.arch) {
            abis.push(arch);
        }
    }
    if abis.iter().any(|abi| abi.arch == Arch::X32)
        && abis.iter().all(|abi| abi.arch != Arch::X86_64)
    {
        abis.push(abi(Arch::X86_64, native));
    }
    abis
}

/// The verdict on a number for x86_64 and for x32; elsewhere both are the same.
type Pair = (Verdict, Verdict);

/// Puts two lists of spans, each covering everything, over each other.
fn fold(one: &[Span<Verdict>], other: &[Span<Verdict>]) -> Vec<Span<Pair>> {
    let mut folded: Vec<Span<Pair>> = Vec::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    let (Some(mut a), Some(mut b)) = (left.next(), right.next()) else {
        return folded;
    };
    loop {
        let (first, verdict) = (a.first.max(b.first), (a.verdict, b.verdict));
        if folded.last().is_none_or(|last| last.verdict != verdict) {
            folded.push(Span { first, verdict });
        }
        let (next_a, next_b) = (
            left.peek().map(|span| span.first),
            right.peek().map(|span| span.first),
        );
        match (next_a, next_b) {
            (None, None) => return folded,
            (Some(x), Some(y)) if x == y => {
                a = left.next().unwrap_or(a);
                b = right.next().unwrap_or(b);
            }
            (Some(x), y) if y.is_none_or(|y| x < y) => a = left.next().unwrap_or(a),
            _ => b = right.next().unwrap_or(b),
        }
    }
}

/// What has been placed already, to be placed once.
#[derive(PartialEq, Eq)]
enum Placed {
    Chain(u16),
    Split(Pair),
}

struct Compiler {
    asm: Assembler,
    chains: Vec<Chain>,
    placed: Vec<(Placed, Label)>,
}

impl Compiler {
    fn once(
        &mut self,
        what: Placed,
        place: impl FnOnce(&mut Self) -> Result<Label>,
    ) -> Result<Label> {
        if let Some((_, label)) = self.placed.iter().find(|(known, _)| *known == what) {
            return Ok(*label);
        }
        let label = place(self)?;
        self.placed.push((what, label));
        Ok(label)
    }

    fn numbers(&mut self, spans: &[Span<Pair>]) -> Result<Label> {
        tree(self, spans, &mut |compiler, pair| compiler.pair(pair))
    }

    fn pair(&mut self, pair: Pair) -> Result<Label> {
        if pair.0 == pair.1 {
            return self.verdict(pair.0);
        }
        self.once(Placed::Split(pair), |compiler| {
            let (x86_64, x32) = (compiler.verdict(pair.0)?, compiler.verdict(pair.1)?);
            let split = compiler.asm.branch(Test::AnyBitSet, X32_BIT, x32, x86_64)?;
            compiler.asm.load(NR, split)
        })
    }

    fn verdict(&mut self, verdict: Verdict) -> Result<Label> {
        match verdict {
            Verdict::Return(word) => Ok(self.asm.ret(word)),
            Verdict::Chain(index) => self.once(Placed::Chain(index), |compiler| {
                let chains = std::mem::take(&mut compiler.chains);
                let label = chains
                    .get(usize::from(index))
                    .context("a missing chain")
                    .and_then(|chain| compiler.chain(chain));
                compiler.chains = chains;
                label
            }),
        }
    }

    fn chain(&mut self, chain: &Chain) -> Result<Label> {
        let mut rest = self.asm.ret(chain.otherwise);
        for run in segments::runs(&chain.rules).into_iter().rev() {
            rest = match run {
                [(conditions, word)] => self.rule(chain, conditions, *word, rest)?,
                plain => self.search(chain, plain, rest)?,
            };
        }
        Ok(rest)
    }

    /// One rule: all conditions hold, or go on at `rest`.
    fn rule(
        &mut self,
        chain: &Chain,
        conditions: &[Condition],
        word: u32,
        rest: Label,
    ) -> Result<Label> {
        let length = if chain.wide {
            SeccompCmpArgLen::Qword
        } else {
            SeccompCmpArgLen::Dword
        };
        let conditions = conditions
            .iter()
            .map(|condition| {
                let compare = match condition.compare {
                    Compare::Ne => SeccompCmpOp::Ne,
                    Compare::Lt => SeccompCmpOp::Lt,
                    Compare::Le => SeccompCmpOp::Le,
                    Compare::Eq => SeccompCmpOp::Eq,
                    Compare::Ge => SeccompCmpOp::Ge,
                    Compare::Gt => SeccompCmpOp::Gt,
                    Compare::MaskedEq { mask } => SeccompCmpOp::MaskedEq(mask),
                };
                SeccompCondition::new(condition.arg, length.clone(), compare, condition.value)
            })
            .collect::<Result<_, _>>()
            .context("compile a seccomp condition")?;
        let code =
            BpfProgram::from(SeccompRule::new(conditions).context("compile a seccomp rule")?);
        // seccompiler starts a rule with two jumps that only its own chain of rules needs. It writes for
        // little-endian kernels; elsewhere the halves of an argument lie the other way round.
        let swap = if chain.big_endian { 4 } else { 0 };
        let code = code.into_iter().skip(2).map(|from| {
            let mut to = sock_filter {
                code: from.code,
                jt: from.jt,
                jf: from.jf,
                k: from.k,
            };
            if asm::is_load(to) {
                to.k ^= swap;
            }
            to
        });
        self.asm
            .conditions(code.collect::<Vec<_>>().into_iter(), word, rest)
    }

    /// Rules that each compare the same argument with a number: a search for the value.
    fn search(
        &mut self,
        chain: &Chain,
        rules: &[(Vec<Condition>, u32)],
        rest: Label,
    ) -> Result<Label> {
        let Some(arg) = rules
            .first()
            .and_then(|(conditions, _)| conditions.first())
            .map(|first| first.arg)
        else {
            return Ok(rest);
        };
        let offset = ARGS + 8 * u32::from(arg);
        let (low, high) = if chain.big_endian {
            (offset + 4, offset)
        } else {
            (offset, offset + 4)
        };
        let mut leaf = |compiler: &mut Self, word: Option<u32>| {
            Ok(word.map_or(rest, |word| compiler.asm.ret(word)))
        };
        if !chain.wide {
            let tree = tree(self, &segments::narrow(rules), &mut leaf)?;
            return self.asm.load(low, tree);
        }
        let (spans, lows) = segments::wide(rules);
        let mut places = Vec::with_capacity(lows.len());
        for low_spans in &lows {
            let tree = tree(self, low_spans, &mut leaf)?;
            places.push(self.asm.load(low, tree)?);
        }
        let tree = tree(self, &spans, &mut |compiler, part| match part {
            Part::Whole(word) => leaf(compiler, word),
            Part::Low(index) => places.get(index).copied().context("a missing search"),
        })?;
        self.asm.load(high, tree)
    }
}

/// A balanced search over spans that start at 0, on the accumulator. `leaf` gives the place of a verdict.
fn tree<V: Copy + PartialEq>(
    compiler: &mut Compiler,
    spans: &[Span<V>],
    leaf: &mut dyn FnMut(&mut Compiler, V) -> Result<Label>,
) -> Result<Label> {
    let mut items: Vec<&[Span<V>]> = Vec::with_capacity(spans.len());
    let mut rest = spans;
    while !rest.is_empty() {
        // One number with another verdict than both its neighbours takes one comparison instead of two.
        let taken = match rest {
            [a, hole, b, ..] if a.verdict == b.verdict && b.first - hole.first == 1 => 3,
            _ => 1,
        };
        let (item, others) = rest.split_at(taken);
        items.push(item);
        rest = others;
    }
    search_tree(compiler, &items, leaf)
}

fn search_tree<V: Copy + PartialEq>(
    compiler: &mut Compiler,
    items: &[&[Span<V>]],
    leaf: &mut dyn FnMut(&mut Compiler, V) -> Result<Label>,
) -> Result<Label> {
    match items {
        [[around, hole, ..]] => {
            let (hit, miss) = (
                leaf(compiler, hole.verdict)?,
                leaf(compiler, around.verdict)?,
            );
            compiler.asm.branch(Test::Equal, hole.first, hit, miss)
        }
        [[span, ..]] => leaf(compiler, span.verdict),
        _ => {
            let (below, above) = items.split_at(items.len() / 2);
            let first = above
                .first()
                .and_then(|item| item.first())
                .context("an empty seccomp table")?
                .first;
            let above = search_tree(compiler, above, leaf)?;
            let below = search_tree(compiler, below, leaf)?;
            compiler.asm.branch(Test::AtLeast, first, above, below)
        }
    }
}
