//! The seccomp filter: `linux.seccomp`, already checked by `plan::seccomp`, to a BPF program, and its loading.
//! `compile` runs in the parent before the clone, `install` in the child; `features` prints what `supported` lists.
//!
//! Compiled filters are not cached: to read, check and compile Docker's profile takes 0.6 ms on a busy machine, and a cache would
//! still have to read it and to trust a file.

mod asm;
pub(crate) mod compile;
mod install;
mod lookup;
pub(crate) mod names;
mod rules;
mod segments;
mod stored;
mod tables;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod differential_archs;
#[cfg(any(test, fuzzing))]
pub(crate) mod direct;
#[cfg(any(test, fuzzing))]
pub(crate) mod emulator;
#[cfg(test)]
mod kernel;
#[cfg(any(test, fuzzing))]
pub(crate) mod random;
#[cfg(all(test, target_arch = "x86_64"))]
mod reference;

use anyhow::Result;

pub(crate) use install::install;

use crate::plan::seccomp::{Profile, SpecAllow};
use crate::sys::seccomp::{LOG, NEW_LISTENER, SPEC_ALLOW, WAIT_KILLABLE_RECV};

/// A filter ready to be loaded.
#[derive(Clone)]
#[cfg_attr(any(test, fuzzing), derive(Debug, PartialEq, Eq))]
pub(crate) struct Program {
    pub(crate) filter: Vec<libc::sock_filter>,
    /// SECCOMP_FILTER_FLAG_* of seccomp(2).
    pub(crate) flags: u32,
    /// Those of `flags` to do without where the kernel lacks them.
    pub(crate) optional_flags: u32,
    /// Whether loading gives a notify descriptor.
    pub(crate) notify: bool,
}

/// What a profile says of calls that may not be there: position in `linux.seccomp.syscalls` and name.
pub(crate) struct Uncertain<'a> {
    /// In no architecture's table: rules for them are skipped (N3).
    pub(crate) unknown: Vec<(usize, &'a str)>,
    /// Newer than Linux 5.1, so that the running kernel may lack them.
    pub(crate) new: Vec<(usize, &'a str)>,
}

pub(crate) fn uncertain_calls(profile: &Profile) -> Uncertain<'_> {
    let native = names::abi(names::NATIVE, names::NATIVE);
    let mut found = Uncertain {
        unknown: Vec::new(),
        new: Vec::new(),
    };
    for rule in &profile.rules {
        for name in &rule.names {
            match names::row(name).map(|row| native.number(row)) {
                None => found.unknown.push((rule.position, name)),
                Some(Some(number)) if number >= names::UNIFIED_NUMBERS => {
                    found.new.push((rule.position, name));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Compiles a profile for this machine. Pure.
pub(crate) fn compile(profile: &Profile) -> Result<Program> {
    let notify = profile.notifies();
    let mut flags = 0;
    if profile.flags.log {
        flags |= LOG;
    }
    if profile.flags.spec_allow != SpecAllow::Off {
        flags |= SPEC_ALLOW;
    }
    if notify {
        flags |= NEW_LISTENER;
        // Without a listener the kernel refuses this one, and there is nothing to wait for.
        if profile.flags.wait_killable_recv {
            flags |= WAIT_KILLABLE_RECV;
        }
    }
    let optional_flags = if profile.flags.spec_allow == SpecAllow::IfSupported {
        SPEC_ALLOW
    } else {
        0
    };
    Ok(Program {
        filter: compile::compile(profile, names::NATIVE)?,
        flags,
        optional_flags,
        notify,
    })
}

/// What `features` says of seccomp. Fixed when rundlet is built, as the runtime-spec wants it.
pub(crate) struct Supported {
    pub(crate) actions: &'static [&'static str],
    pub(crate) operators: &'static [&'static str],
    pub(crate) archs: &'static [&'static str],
    /// Known and, all of them, usable.
    pub(crate) flags: &'static [&'static str],
}

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

pub(crate) const SUPPORTED: Supported = Supported {
    actions: &[
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    ],
    operators: &[
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_LE",
        "SCMP_CMP_LT",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
    ],
    archs: &[
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",
        "SCMP_ARCH_MIPS",
        "SCMP_ARCH_MIPS64",
        "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",
        "SCMP_ARCH_MIPSEL64",
        "SCMP_ARCH_MIPSEL64N32",
        "SCMP_ARCH_PARISC",
        "SCMP_ARCH_PARISC64",
        "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_RISCV64",
        "SCMP_ARCH_S390",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_SH",
        "SCMP_ARCH_SHEB",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
    ],
    flags: FLAGS,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        compile(&crate::plan::seccomp::plan(&serde_json::from_str(text).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn flags_follow_profile_and_listener() {
        let plain = program(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
        assert_eq!(
            (plain.flags, plain.optional_flags, plain.notify),
            (SPEC_ALLOW, SPEC_ALLOW, false)
        );
        let none = program(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
        );
        assert_eq!((none.flags, none.optional_flags), (0, 0));
        let notify = program(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV","SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath":"/s","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#,
        );
        assert_eq!(notify.flags, LOG | NEW_LISTENER | WAIT_KILLABLE_RECV);
        assert!(notify.notify);
    }

    /// Every word `features` prints is one that a profile may use.
    #[test]
    fn supported_words_parse() {
        for action in SUPPORTED.actions {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{{"names":["mkdir"],"action":"{action}"}}]}}"#
            );
            program(&text);
        }
        for arch in SUPPORTED.archs {
            program(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["{arch}"]}}"#
            ));
        }
        for flag in SUPPORTED.flags {
            program(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["{flag}"]}}"#
            ));
        }
        for operator in SUPPORTED.operators {
            program(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_LOG","args":[{{"index":0,"value":1,"op":"{operator}"}}]}}]}}"#
            ));
        }
    }

    /// The kernel copies and checks every instruction at each start: these profiles list some 400 calls.
    #[test]
    fn the_filters_of_engines_are_short() {
        for (name, most) in [("docker", 240), ("podman", 240)] {
            let path = format!(
                "{}/tests/fixtures/seccomp/{name}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let length = program(&std::fs::read_to_string(path).unwrap())
                .filter
                .len();
            assert!(length <= most, "{name}: {length} instructions");
        }
    }
}
