//! Steps that set attributes of the process or of its namespaces: session, signals, keyring, names, loopback, sysctl,
//! scheduling, memory policy, personality.

use std::ffi::CString;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, sethostname, setsid};

use super::Child;
use crate::fs::procfs::{ProcHandle, Scope};
use crate::net;
use crate::plan::namespaces::Kind;
use crate::plan::process::Rlimit;
use crate::sys;

/// A session of its own, no blocked and no ignored signals (X5). The umask stays 0 until the identity is taken, so that
/// modes given in the plan are the modes made.
pub(super) fn session(child: &mut Child<'_>) -> Result<()> {
    setsid().context("make a session")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .context("unblock signals")?;
    for signal in 1..=64 {
        if child.ignored_signals & (1 << (signal - 1)) != 0 {
            sys::process::default_signal(signal)
                .with_context(|| format!("reset ignored signal {signal}"))?;
        }
    }
    umask(Mode::empty());
    Ok(())
}

/// The exact limits, as root and before anything that a filter could deny; lowering needs no right.
pub(super) fn resource_limits(child: &mut Child<'_>) -> Result<()> {
    for (index, limit) in child.process.rlimits.iter().enumerate() {
        let Rlimit {
            name,
            resource,
            soft,
            hard,
        } = limit;
        sys::process::set_rlimit(Pid::from_raw(0), *resource, *soft, *hard)
            .with_context(|| format!("process.rlimits[{index}]: set {name} to {soft}:{hard}"))?;
    }
    Ok(())
}

/// Key permissions (keyctl_setperm(3)): search by the owning user, and by everyone where the container's users are others.
const USER_SEARCH: u32 = 0x8_0000;
const OTHER_SEARCH: u32 = 0x8;

pub(super) fn keyring(child: &mut Child<'_>) -> Result<()> {
    if !child.new_keyring {
        return Ok(());
    }
    super::labels::of_keys(child)?;
    let name = CString::new(format!("_ses.{}", child.id))?;
    let serial = match sys::keyring::join_session(&name) {
        // A kernel without keyrings has no keys to protect (L2).
        Err(Errno::ENOSYS) => return Ok(()),
        other => {
            other.with_context(|| format!("join session keyring `{}`", name.to_string_lossy()))?
        }
    };
    let search = if child.in_user_namespace {
        OTHER_SEARCH
    } else {
        USER_SEARCH
    };
    let mask =
        sys::keyring::permissions(serial).context("read the session keyring's permissions")?;
    sys::keyring::set_permissions(serial, mask | search)
        .context("set the session keyring's permissions")
}

pub(super) fn host_name(child: &mut Child<'_>) -> Result<()> {
    let plan = child.part()?.plan;
    if let Some(name) = &plan.hostname {
        sethostname(name).with_context(|| format!("hostname: set host name `{name}`"))?;
    }
    if let Some(name) = &plan.domainname {
        sys::process::set_domain_name(name)
            .with_context(|| format!("domainname: set domain name `{name}`"))?;
    }
    Ok(())
}

/// Brings `lo` of a new network namespace up, unless the runtime does.
pub(super) fn loopback(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    if part.network_beside || !part.plan.namespaces.makes(Kind::Network) {
        return Ok(());
    }
    net::loopback_up()
}

pub(super) fn sysctl(child: &mut Child<'_>) -> Result<()> {
    let plan = child.part()?.plan;
    if plan.sysctl.is_empty() {
        return Ok(());
    }
    let proc = ProcHandle::open(Scope::Everything)?;
    for sysctl in &plan.sysctl {
        proc.write_sysctl(&sysctl.path, &sysctl.value)
            .with_context(|| format!("linux.sysctl[{:?}]: write `{}`", sysctl.key, sysctl.value))?;
    }
    Ok(())
}

/// With the runtime's rights: what the policy allows is no matter of the container's capabilities.
pub(super) fn scheduler(child: &mut Child<'_>) -> Result<()> {
    let Some(wanted) = &child.process.scheduler else {
        return Ok(());
    };
    let set = sys::sched::set_attr(sys::sched::Attr {
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..Default::default()
    });
    let name = wanted.name.as_str();
    set.with_context(|| format!("process.scheduler: set {name}{}", scheduler_hint(set, name)))
}

/// The kernel has one word for many reasons.
fn scheduler_hint(set: sys::Result<()>, name: &str) -> &'static str {
    match (set, name) {
        (Err(Errno::EPERM), "SCHED_DEADLINE") => {
            " (hint: needs CAP_SYS_NICE and a cpuset of all CPUs: it cannot be used together with linux.resources.cpu.cpus)"
        }
        (Err(Errno::EPERM), "SCHED_FIFO" | "SCHED_RR") => {
            " (hint: needs CAP_SYS_NICE, and on cgroup v1 a share of real time: linux.resources.cpu.realtimeRuntime)"
        }
        (Err(Errno::EPERM), _) => " (hint: needs CAP_SYS_NICE)",
        (Err(Errno::EBUSY), _) => " (hint: the machine has not that much time left for deadlines)",
        (Err(Errno::EINVAL), "SCHED_ISO") => " (hint: Linux does not have this policy)",
        (Err(Errno::EOPNOTSUPP), _) => " (hint: a flag that this kernel was built without)",
        _ => "",
    }
}

pub(super) fn io_priority(child: &mut Child<'_>) -> Result<()> {
    let Some(wanted) = child.process.io_priority else {
        return Ok(());
    };
    let set = sys::sched::set_io_priority(wanted.class, wanted.priority);
    set.with_context(|| {
        let hint = match set {
            Err(Errno::EPERM) => " (hint: IOPRIO_CLASS_RT needs CAP_SYS_NICE)",
            _ => "",
        };
        format!(
            "process.ioPriority: set class {} priority {}{hint}",
            wanted.class, wanted.priority
        )
    })
}

pub(super) fn memory_policy(child: &mut Child<'_>) -> Result<()> {
    let Some(wanted) = child.memory_policy else {
        return Ok(());
    };
    let set = sys::sched::set_memory_policy(wanted.mode, &wanted.nodes);
    set.with_context(|| {
        let hint = match set {
            Err(Errno::EINVAL) => {
                " (hint: this kernel does not know the mode, or none of the nodes is there with memory and in the cpuset)"
            }
            Err(Errno::ENOSYS) => " (hint: this kernel was built without NUMA)",
            _ => "",
        };
        format!("linux.memoryPolicy: set {}{hint}", wanted.name)
    })
}

pub(super) fn personality(child: &mut Child<'_>) -> Result<()> {
    if let Some(domain) = child.personality {
        let domain = nix::sys::personality::Persona::from_bits_retain(domain);
        nix::sys::personality::set(domain)
            .context("linux.personality.domain: set the execution domain")?;
    }
    Ok(())
}
