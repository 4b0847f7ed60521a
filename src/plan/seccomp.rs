//! `linux.seccomp` of config.json as plain data, checked (N3). Pure. Built by `plan::plan`, kept in the container's
//! record for `exec`, compiled by `seccomp::compile`. Names of system calls stay names here: which exist is a
//! matter of the architecture tables below `seccomp`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction as OciAction, LinuxSeccompArg as OciArg,
    LinuxSeccompFilterFlag as OciFlag, LinuxSeccompOperator as OciOperator, LinuxSyscall,
};
use serde::{Deserialize, Serialize};

/// A whole profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// What a call gets that no rule names.
    pub(crate) default: Action,
    /// The architectures listed, without repetition. The native one counts as listed even when absent.
    pub(crate) archs: Vec<Arch>,
    pub(crate) flags: Flags,
    pub(crate) rules: Vec<Rule>,
    pub(crate) listener: Option<Listener>,
}

/// Flags of seccomp(2) that a profile controls. TSYNC is accepted and needs nothing: there is one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flags {
    pub(crate) log: bool,
    pub(crate) spec_allow: SpecAllow,
    pub(crate) wait_killable_recv: bool,
}

/// SPEC_ALLOW is on by default where the kernel has it; a profile that lists flags decides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpecAllow {
    Off,
    IfSupported,
    On,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// The place in `linux.seccomp.syscalls`, for messages.
    pub(crate) position: usize,
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    /// The rule matches when all conditions of one of these match; empty means always.
    pub(crate) any_of: Vec<Vec<Condition>>,
}

/// What happens to a call, with errno or tracer data resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    KillProcess,
    KillThread,
    Trap,
    Errno(u16),
    Notify,
    Trace(u16),
    Log,
    Allow,
}

/// A comparison of one argument (0 to 5) with `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    pub(crate) arg: u8,
    pub(crate) compare: Compare,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Compare {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `argument & mask == value & mask`.
    MaskedEq {
        mask: u64,
    },
}

/// Where the notify descriptor goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Option<String>,
}

/// The architectures of the runtime-spec. Little and big endian ones of a family share their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Arch {
    Native,
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Ppc,
    Ppc64,
    Ppc64le,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

impl Profile {
    /// Whether some rule hands calls to the listener.
    pub(crate) fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Notify)
    }
}

/// Checks and converts `linux.seccomp`. Unknown words were already refused when config.json was parsed.
pub(crate) fn plan(spec: &LinuxSeccomp) -> Result<Profile> {
    let default = action(spec.default_action(), spec.default_errno_ret())
        .context("linux.seccomp.defaultErrnoRet")?;
    // The runtime itself makes calls under the filter before anyone listens; each would wait forever.
    ensure!(
        default != Action::Notify,
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"
    );

    let mut archs = Vec::new();
    for &listed in spec.architectures().iter().flatten() {
        let arch = arch(listed);
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    let rules = spec
        .syscalls()
        .iter()
        .flatten()
        .enumerate()
        .map(|(position, entry)| rule(position, entry))
        .collect::<Result<Vec<_>>>()?;

    let profile = Profile {
        default,
        archs,
        flags: flags(spec.flags().as_deref()),
        rules,
        listener: listener(spec)?,
    };
    if let (Some(rule), None) = (
        profile.rules.iter().find(|r| r.action == Action::Notify),
        &profile.listener,
    ) {
        bail!(
            "linux.seccomp.listenerPath: not set, but linux.seccomp.syscalls[{}].action is SCMP_ACT_NOTIFY",
            rule.position
        );
    }
    Ok(profile)
}

fn listener(spec: &LinuxSeccomp) -> Result<Option<Listener>> {
    let path = spec
        .listener_path()
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty());
    let metadata = spec
        .listener_metadata()
        .as_ref()
        .filter(|text| !text.is_empty());
    ensure!(
        metadata.is_none() || path.is_some(),
        "linux.seccomp.listenerMetadata: linux.seccomp.listenerPath is not set"
    );
    Ok(path.map(|path| Listener {
        path: path.clone(),
        metadata: metadata.cloned(),
    }))
}

fn rule(position: usize, entry: &LinuxSyscall) -> Result<Rule> {
    let path = format_args!("linux.seccomp.syscalls[{position}]").to_string();
    let action =
        action(entry.action(), entry.errno_ret()).with_context(|| format!("{path}.errnoRet"))?;
    for (index, name) in entry.names().iter().enumerate() {
        ensure!(
            !name.is_empty(),
            "{path}.names[{index}]: empty string is not a valid syscall"
        );
        // What init writes between loading the filter and execve must not wait for an agent that gets the
        // descriptor only after it.
        ensure!(
            action != Action::Notify || name != "write",
            "{path}.names[{index}]: SCMP_ACT_NOTIFY cannot be used for the write syscall"
        );
    }
    let mut conditions = Vec::new();
    for (index, arg) in entry.args().iter().flatten().enumerate() {
        conditions.push(condition(arg, &format!("{path}.args[{index}]"))?);
    }
    Ok(Rule {
        position,
        names: entry.names().clone(),
        action,
        any_of: alternatives(conditions),
    })
}

/// All conditions must hold, unless two look at the same argument: then, as libseccomp cannot express it and
/// runc never could, each stands alone and any one suffices.
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let repeated = conditions.iter().enumerate().any(|(i, one)| {
        conditions
            .iter()
            .skip(i + 1)
            .any(|other| other.arg == one.arg)
    });
    if repeated {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else if conditions.is_empty() {
        Vec::new()
    } else {
        vec![conditions]
    }
}

fn condition(arg: &OciArg, path: &str) -> Result<Condition> {
    let index = u8::try_from(arg.index()).ok().filter(|index| *index <= 5);
    let index = index
        .with_context(|| format!("{path}.index: {} is not an argument (0 to 5)", arg.index()))?;
    let (compare, value) = match arg.op() {
        OciOperator::ScmpCmpNe => (Compare::Ne, arg.value()),
        OciOperator::ScmpCmpLt => (Compare::Lt, arg.value()),
        OciOperator::ScmpCmpLe => (Compare::Le, arg.value()),
        OciOperator::ScmpCmpEq => (Compare::Eq, arg.value()),
        OciOperator::ScmpCmpGe => (Compare::Ge, arg.value()),
        OciOperator::ScmpCmpGt => (Compare::Gt, arg.value()),
        // `value` is the mask here and `valueTwo` the datum.
        OciOperator::ScmpCmpMaskedEq => (
            Compare::MaskedEq { mask: arg.value() },
            arg.value_two().unwrap_or(0) & arg.value(),
        ),
    };
    Ok(Condition {
        arg: index,
        compare,
        value,
    })
}

/// `errno` counts for ERRNO and TRACE alone and is EPERM when absent; with any other action it has no meaning and,
/// as in runc, no effect.
fn action(action: OciAction, errno: Option<u32>) -> Result<Action> {
    const EPERM: u32 = libc::EPERM.unsigned_abs();
    /// The kernel answers this for any larger errno.
    const MAX_ERRNO: u16 = 4095;

    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        // SCMP_ACT_KILL is the old name of KILL_THREAD.
        OciAction::ScmpActKill | OciAction::ScmpActKillThread => Action::KillThread,
        OciAction::ScmpActKillProcess => Action::KillProcess,
        OciAction::ScmpActTrap => Action::Trap,
        OciAction::ScmpActErrno => match u16::try_from(data) {
            Ok(errno) if errno <= MAX_ERRNO => Action::Errno(errno),
            _ => bail!("{data} is not an errno (0 to {MAX_ERRNO})"),
        },
        OciAction::ScmpActNotify => Action::Notify,
        OciAction::ScmpActTrace => Action::Trace(
            u16::try_from(data)
                .ok()
                .with_context(|| format!("{data} does not fit 16 bits"))?,
        ),
        OciAction::ScmpActLog => Action::Log,
        OciAction::ScmpActAllow => Action::Allow,
    })
}

fn flags(listed: Option<&[OciFlag]>) -> Flags {
    let has = |flag| listed.is_some_and(|flags| flags.contains(&flag));
    Flags {
        log: has(OciFlag::SeccompFilterFlagLog),
        spec_allow: match listed {
            None => SpecAllow::IfSupported,
            Some(_) if has(OciFlag::SeccompFilterFlagSpecAllow) => SpecAllow::On,
            Some(_) => SpecAllow::Off,
        },
        wait_killable_recv: has(OciFlag::SeccompFilterFlagWaitKillableRecv),
    }
}

fn arch(arch: OciArch) -> Arch {
    match arch {
        OciArch::ScmpArchNative => Arch::Native,
        OciArch::ScmpArchX86 => Arch::X86,
        OciArch::ScmpArchX86_64 => Arch::X86_64,
        OciArch::ScmpArchX32 => Arch::X32,
        OciArch::ScmpArchArm => Arch::Arm,
        OciArch::ScmpArchAarch64 => Arch::Aarch64,
        OciArch::ScmpArchMips => Arch::Mips,
        OciArch::ScmpArchMips64 => Arch::Mips64,
        OciArch::ScmpArchMips64n32 => Arch::Mips64n32,
        OciArch::ScmpArchMipsel => Arch::Mipsel,
        OciArch::ScmpArchMipsel64 => Arch::Mipsel64,
        OciArch::ScmpArchMipsel64n32 => Arch::Mipsel64n32,
        OciArch::ScmpArchPpc => Arch::Ppc,
        OciArch::ScmpArchPpc64 => Arch::Ppc64,
        OciArch::ScmpArchPpc64le => Arch::Ppc64le,
        OciArch::ScmpArchS390 => Arch::S390,
        OciArch::ScmpArchS390x => Arch::S390x,
        OciArch::ScmpArchParisc => Arch::Parisc,
        OciArch::ScmpArchParisc64 => Arch::Parisc64,
        OciArch::ScmpArchRiscv64 => Arch::Riscv64,
        OciArch::ScmpArchLoongarch64 => Arch::Loongarch64,
        OciArch::ScmpArchM68k => Arch::M68k,
        OciArch::ScmpArchSh => Arch::Sh,
        OciArch::ScmpArchSheb => Arch::Sheb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile> {
        plan(&serde_json::from_str(text)?)
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("must be refused"))
    }

    #[test]
    fn conditions_on_one_argument_become_alternatives() {
        let both = parse(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"},
                {"index":1,"value":3,"op":"SCMP_CMP_MASKED_EQ","valueTwo":6}]}]}"#,
        )
        .unwrap();
        let eq = |value| Condition {
            arg: 0,
            compare: Compare::Eq,
            value,
        };
        let masked = Condition {
            arg: 1,
            compare: Compare::MaskedEq { mask: 3 },
            value: 2,
        };
        assert_eq!(
            both.rules[0].any_of,
            [vec![eq(1)], vec![eq(2)], vec![masked]]
        );
        assert_eq!(both.default, Action::Errno(1));

        let distinct = parse(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":2,"value":2,"op":"SCMP_CMP_GT"}]}]}"#,
        )
        .unwrap();
        assert_eq!(distinct.rules[0].any_of.len(), 1);
        assert_eq!(distinct.rules[0].any_of[0].len(), 2);
    }

    #[test]
    fn errno_is_resolved_and_checked() {
        let profile = parse(
            r#"{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":65535,"syscalls":[
                {"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":38},{"names":["b"],"action":"SCMP_ACT_ERRNO"},
                {"names":["c"],"action":"SCMP_ACT_KILL","errnoRet":99999},{"names":["d"],"action":"SCMP_ACT_TRACE"}]}"#,
        )
        .unwrap();
        let actions: Vec<_> = profile.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(
            actions,
            [
                Action::Errno(38),
                Action::Errno(1),
                Action::KillThread,
                Action::Trace(1)
            ]
        );
        assert_eq!(profile.default, Action::Trace(65535));

        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}]}"#;
        assert_eq!(
            error(text),
            "linux.seccomp.syscalls[0].errnoRet: 4096 is not an errno (0 to 4095)"
        );
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#;
        assert_eq!(
            error(text),
            "linux.seccomp.defaultErrnoRet: 70000 is not an errno (0 to 4095)"
        );
    }

    #[test]
    fn refusals_name_the_path() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG"},
            {"names":["a"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert_eq!(
            error(text),
            "linux.seccomp.syscalls[1].args[0].index: 6 is not an argument (0 to 5)"
        );
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read",""],"action":"SCMP_ACT_LOG"}]}"#;
        assert_eq!(
            error(text),
            "linux.seccomp.syscalls[0].names[1]: empty string is not a valid syscall"
        );
        for unknown in [
            r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"SCMP_CMP_IN"}]}]}"#,
        ] {
            assert!(error(unknown).contains("unknown variant"), "{unknown}");
        }
    }

    #[test]
    fn notify_needs_a_listener_and_spares_the_runtime() {
        let text = r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/s"}"#;
        assert!(error(text).starts_with("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY"));
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        assert!(error(text).starts_with("linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY"));
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        assert!(error(text).starts_with("linux.seccomp.listenerPath: not set"));
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#;
        assert!(error(text).starts_with("linux.seccomp.listenerMetadata:"));

        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","listenerMetadata":"m","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let profile = parse(text).unwrap();
        assert_eq!(
            profile.listener,
            Some(Listener {
                path: "/s".into(),
                metadata: Some("m".into())
            })
        );
        assert!(profile.notifies());
    }

    #[test]
    fn flags_absent_and_empty_differ() {
        let of = |text: &str| parse(text).unwrap().flags;
        assert_eq!(
            of(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).spec_allow,
            SpecAllow::IfSupported
        );
        assert_eq!(
            of(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#).spec_allow,
            SpecAllow::Off
        );
        let all = of(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
        );
        assert_eq!(
            all,
            Flags {
                log: true,
                spec_allow: SpecAllow::On,
                wait_killable_recv: true
            }
        );
    }

    #[test]
    fn architectures_are_listed_once() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_MIPS64N32","SCMP_ARCH_X86_64"]}"#;
        assert_eq!(parse(text).unwrap().archs, [Arch::X86_64, Arch::Mips64n32]);
    }
}
