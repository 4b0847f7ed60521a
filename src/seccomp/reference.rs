//! libseccomp as a reference for the compiled filters: a small C program, built when the tests run, that is given a profile and
//! writes libseccomp's program for it. Only for tests (`differential`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)] // tests

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use libc::sock_filter;

use super::differential::token;
use super::names::{NATIVE, X32_BIT, abi};
use super::rules::word;
use crate::plan::seccomp::{Arch, Compare, Profile};

const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The built C program; goes away with the directory.
pub(super) struct Reference {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Reference {
    pub(super) fn build() -> Option<Self> {
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/tools/libseccomp-reference.c"
        );
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("reference");
        let built = Command::new("cc")
            .arg("-o")
            .arg(&program)
            .args([source, "-lseccomp"])
            .output();
        match built {
            Ok(output) if output.status.success() => Some(Self {
                _directory: directory,
                program,
            }),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skip(&error.to_string()),
        }
    }

    pub(super) fn ask(&self, what: &str, input: &str) -> Output {
        let mut child = Command::new(&self.program)
            .arg(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What comes back before all is read fits a pipe: a number a name.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// libseccomp's program; `None` when it finds a contradiction.
    pub(super) fn filter(&self, profile: &Profile) -> Option<Vec<sock_filter>> {
        self.filter_on(profile, NATIVE)
    }

    /// The same as on a machine of another architecture.
    pub(super) fn filter_on(&self, profile: &Profile, native: Arch) -> Option<Vec<sock_filter>> {
        let default = word(profile.default);
        let mut input = format!("default {default}\nnative {}\n", token(native));
        for arch in &profile.archs {
            writeln!(input, "arch {}", token(*arch)).unwrap();
        }
        for rule in profile
            .rules
            .iter()
            .filter(|rule| word(rule.action) != default)
        {
            for name in &rule.names {
                let head = format!("rule {} {name}", word(rule.action));
                if rule.any_of.is_empty() {
                    writeln!(input, "{head}").unwrap();
                }
                for conditions in &rule.any_of {
                    input += &head;
                    for one in conditions {
                        let (op, a, b) = match one.compare {
                            Compare::Ne => (1, one.value, 0),
                            Compare::Lt => (2, one.value, 0),
                            Compare::Le => (3, one.value, 0),
                            Compare::Eq => (4, one.value, 0),
                            Compare::Ge => (5, one.value, 0),
                            Compare::Gt => (6, one.value, 0),
                            Compare::MaskedEq { mask } => (7, mask, one.value),
                        };
                        write!(input, " {} {op} {a} {b}", one.arg).unwrap();
                    }
                    input += "\n";
                }
            }
        }
        let output = self.ask("filter", &input);
        if output.status.code() == Some(17) {
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        let words = output.stdout.chunks_exact(8);
        let big_endian = abi(native, NATIVE).big_endian;
        let half = |bytes| {
            let (big, little) = (u16::from_be_bytes(bytes), u16::from_le_bytes(bytes));
            if big_endian { big } else { little }
        };
        let whole = |bytes| {
            let (big, little) = (u32::from_be_bytes(bytes), u32::from_le_bytes(bytes));
            if big_endian { big } else { little }
        };
        let instruction = |insn: &[u8]| {
            let code = half([insn[0], insn[1]]);
            let k: [u8; 4] = insn[4..8].try_into().unwrap();
            let own = u32::from_ne_bytes(k);
            // For the other byte order libseccomp 2.5.4 writes the words of most returns in this machine's.
            let known = own == default || profile.rules.iter().any(|rule| word(rule.action) == own);
            let k = if code == RETURN && known {
                own
            } else {
                whole(k)
            };
            sock_filter {
                code,
                jt: insn[2],
                jf: insn[3],
                k,
            }
        };
        Some(words.map(instruction).collect())
    }

    /// The numbers of names on an architecture, `None` where the library has none of its own.
    pub(super) fn resolve(
        &self,
        arch: Arch,
        names: &BTreeSet<&str>,
    ) -> BTreeMap<String, Option<u32>> {
        let mut input = String::new();
        for name in names {
            writeln!(input, "{} {name}", token(arch)).unwrap();
        }
        let output = String::from_utf8(self.ask("resolve", &input).stdout).unwrap();
        let numbers = output.lines().map(|line| line.parse::<i64>().unwrap());
        let numbers =
            numbers.map(|number| u32::try_from(number).ok().map(|number| number & !X32_BIT));
        names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(numbers)
            .collect()
    }
}

pub(super) fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("skipped: no libseccomp to compare with: {}", reason.trim());
    None
}
