//! A compiled filter as bytes, kept beside the container's record so that `exec` loads the very filter that init has,
//! whatever became of config.json. Pure. Called by `container`. The file never leaves the machine and does not
//! outlive a boot, so its layout may change with `MAGIC`.

use anyhow::{Context, Result, ensure};
use libc::sock_filter;

use super::Program;

/// Names the layout: this, then flags, optional flags, notify and the number of instructions as words of 32 bits,
/// then the instructions as in memory; everything little-endian.
const MAGIC: &[u8; 8] = b"rlbpf\0\0\x01";
/// BPF_MAXINSNS.
const LIMIT: usize = 4096;

impl Program {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + 8 * self.filter.len());
        bytes.extend(MAGIC);
        // `compile` keeps to LIMIT.
        let count = u32::try_from(self.filter.len()).unwrap_or(u32::MAX);
        for word in [
            self.flags,
            self.optional_flags,
            u32::from(self.notify),
            count,
        ] {
            bytes.extend(word.to_le_bytes());
        }
        for instruction in &self.filter {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// Takes back what `to_bytes` made. The kernel checks the instructions themselves when they are loaded.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .context("not a filter of this version of rundlet")?;
        let (header, code) = rest.split_at_checked(16).context("the header is cut off")?;
        let word = |index: usize| {
            header
                .get(4 * index..)
                .and_then(|at| at.first_chunk())
                .map(|at| u32::from_le_bytes(*at))
        };
        let [Some(flags), Some(optional_flags), Some(notify), Some(count)] = [0, 1, 2, 3].map(word)
        else {
            unreachable!("16 bytes are four words");
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        ensure!(
            (1..=LIMIT).contains(&count) && notify <= 1,
            "the header is damaged"
        );
        ensure!(
            code.len() == 8 * count,
            "{} bytes of instructions instead of {}",
            code.len(),
            8 * count
        );
        let (instructions, _) = code.as_chunks::<8>();
        let filter = instructions
            .iter()
            .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| sock_filter {
                code: u16::from_le_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_le_bytes([k0, k1, k2, k3]),
            })
            .collect();
        Ok(Self {
            filter,
            flags,
            optional_flags,
            notify: notify == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let text = include_str!("../../tests/fixtures/seccomp/docker.json");
        super::super::compile(
            &crate::plan::seccomp::plan(&serde_json::from_str(text).unwrap()).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn a_program_comes_back_as_it_was() {
        let program = Program {
            notify: true,
            ..program()
        };
        assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = program().to_bytes();
        for cut in [0, 7, 8, 23, 24, 31, bytes.len() - 1] {
            assert!(Program::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Program::from_bytes(&longer).is_err());
        let mut other = bytes.clone();
        other[7] = 2;
        assert!(
            Program::from_bytes(&other)
                .unwrap_err()
                .to_string()
                .contains("this version")
        );
        let mut empty = bytes[..24].to_vec();
        empty[20..].fill(0);
        assert!(
            Program::from_bytes(&empty)
                .unwrap_err()
                .to_string()
                .contains("header")
        );
    }
}
