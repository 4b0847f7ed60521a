//! The device policy of a container put in force: an eBPF program on cgroup v2, `devices.allow`/`deny` on v1 (G4).
#[cfg(any(test, fuzzing))]
pub(crate) mod emulator;
pub(crate) mod program;
pub(crate) mod rules;

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::cgroup::dir::Dir;
use crate::plan::device_rule::{DeviceKind, DeviceRule};
use crate::plan::host::in_initial_user_namespace;
use crate::plan::resources::Resources;
use crate::sys::bpf;
use program::Insn;
use rules::Policy;

/// How our programs are told from those that others attached.
const NAME: &str = "rundlet_device";

/// Whether anything can be attached to the cgroup already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Made by this process: nothing is there, one call does.
    Fresh,
    /// Found: a program of ours is replaced, those of others stay.
    Found,
}

/// Puts the rules in force on a v2 cgroup.
pub(crate) fn set_v2(dir: &Dir, r: &Resources, group: Group) -> Result<()> {
    let policy = Policy::from_rules(r.device_rules())?;
    if group == Group::Fresh && policy.is_allow_all() {
        return Ok(());
    }
    tolerate_rootless(replace_program(dir, &policy, group)).with_context(|| {
        format!("linux.resources.devices: devices controller: device program of cgroup `{dir}`")
    })
}

fn replace_program(dir: &Dir, policy: &Policy, group: Group) -> Result<()> {
    let program = load(&program::assemble(policy)?)?;
    let old = if group == Group::Fresh {
        Vec::new()
    } else {
        ours(dir)?
    };
    let Some((first, rest)) = old.split_first() else {
        return bpf::attach(dir, &program).context("bpf(BPF_PROG_ATTACH)");
    };
    bpf::replace(dir, &program, first)
        .context("bpf(BPF_PROG_ATTACH) in place of the old program")?;
    for other in rest {
        bpf::detach(dir, other).context("bpf(BPF_PROG_DETACH)")?;
    }
    Ok(())
}

/// The programs of this runtime on the cgroup.
fn ours(dir: &Dir) -> Result<Vec<OwnedFd>> {
    let mut out = Vec::new();
    for id in bpf::query(dir).context("bpf(BPF_PROG_QUERY)")? {
        let program = match bpf::program_by_id(id) {
            Err(Errno::ENOENT) => continue,
            result => result.context("bpf(BPF_PROG_GET_FD_BY_ID)")?,
        };
        if bpf::program_name(&program).context("bpf(BPF_OBJ_GET_INFO_BY_FD)")? == NAME {
            out.push(program);
        }
    }
    Ok(out)
}

fn load(program: &[Insn]) -> Result<OwnedFd> {
    let bytes: Vec<[u8; 8]> = program.iter().map(|i| i.to_bytes()).collect();
    let result = match bpf::load_device_program(&bytes, NAME) {
        Err(error) if error.errno == Errno::EPERM => {
            with_lifted_memlock(|| bpf::load_device_program(&bytes, NAME)).unwrap_or(Err(error))
        }
        result => result,
    };
    result.map_err(|error| {
        let verifier = error.verifier.replace('\n', "; ");
        let said = if verifier.is_empty() {
            String::new()
        } else {
            format!(" (verifier: {verifier})")
        };
        anyhow!(error.errno).context(format!(
            "bpf(BPF_PROG_LOAD) of {} instructions{said}",
            program.len()
        ))
    })
}

/// Before 5.11 program memory counts against RLIMIT_MEMLOCK. Lifted only after a refusal, and put back: root may lack
/// CAP_SYS_RESOURCE, and the container must not inherit it (G5, X5). `None`: it could not be lifted.
fn with_lifted_memlock<T>(work: impl FnOnce() -> T) -> Option<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).ok()?;
    let out = work();
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard);
    Some(out)
}

/// Puts the rules in force on a v1 `devices` cgroup, by the fewest writes, and looks whether the kernel shows them.
pub(crate) fn set_v1(dir: &Dir, r: &Resources) -> Result<()> {
    let rules: Vec<&DeviceRule> = r.device_rules().collect();
    let target = Policy::from_rules(rules.iter().copied())?;
    tolerate_rootless(write_v1(dir, &target, &rules))
        .context("linux.resources.devices: devices controller")
}

/// Whether the way to these rules goes by "nothing is allowed" or "everything is".
pub(crate) fn resets_v1(dir: &Dir, r: &Resources) -> Result<bool> {
    let target = Policy::from_rules(r.device_rules())?;
    let shown = Policy::from_list(&dir.read_named("devices.list")?)?;
    let writes = shown.transition(&target);
    Ok(writes.len() > 1 && writes.first().is_some_and(is_reset))
}

fn is_reset(write: &DeviceRule) -> bool {
    write.kind == DeviceKind::All
}

fn write_v1(dir: &Dir, target: &Policy, rules: &[&DeviceRule]) -> Result<()> {
    let shown = || Policy::from_list(&dir.read_named("devices.list")?);
    for rule in in_listed_order(shown()?.transition(target), rules) {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        dir.write_named(file, &rule.to_string())?;
    }
    let now = shown()?;
    let matches = if target.default_allow {
        now.default_allow
    } else {
        now == *target
    };
    ensure!(
        matches,
        "`{dir}/devices.list` does not show the rules that were written"
    );
    Ok(())
}

/// The writes in the order of the rules they come from: the runtime-spec asks for it, and the kernel shows it. First the new
/// default, last what no rule allows any more: what old and new rules both allow is not denied for a moment.
pub(crate) fn in_listed_order(
    mut writes: Vec<DeviceRule>,
    rules: &[&DeviceRule],
) -> Vec<DeviceRule> {
    let place = |write: &DeviceRule| {
        rules.iter().position(|rule| {
            rule.allow == write.allow
                && (rule.kind == write.kind || rule.kind == DeviceKind::All)
                && (rule.major, rule.minor) == (write.major, write.minor)
        })
    };
    // The reset is the first of the writes, and the sort is stable.
    let resets = usize::from(writes.first().is_some_and(is_reset));
    writes[resets..].sort_by_key(|write| {
        // Without a reset both lists deny by default, and a denial only takes back what the old one allowed.
        let takes_back = resets == 0 && !write.allow;
        let place = place(write);
        (takes_back, place.is_none(), place)
    });
    writes
}

/// Without the rights of the host's root device rules can not be changed, and need not be: devices can not be made or opened
/// beyond what the user of the runtime may do anyway.
fn tolerate_rootless(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.downcast_ref() == Some(&Errno::EPERM) && is_rootless() => Ok(()),
        result => result,
    }
}

/// Looked at only after a refusal.
fn is_rootless() -> bool {
    !nix::unistd::geteuid().is_root() || !in_initial_user_namespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_follow_the_order_of_the_rules() {
        let rules = rules::tests::rules(&[
            "deny a *:* rwm",
            "allow c 10:229 rwm",
            "allow b 8:20 rw",
            "allow b 10:200 r",
            "allow c *:* m",
        ]);
        let rules: Vec<&DeviceRule> = rules.iter().collect();
        let target = Policy::from_rules(rules.iter().copied()).unwrap();
        let of = |list: &str| {
            let old = Policy::from_list(list).unwrap();
            in_listed_order(old.transition(&target), &rules)
                .into_iter()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("a *:* rwm"),
            [
                "deny a *:* rwm",
                "allow c 10:229 rwm",
                "allow b 8:20 rw",
                "allow b 10:200 r",
                "allow c *:* m",
            ]
        );
        assert_eq!(
            of("c 10:229 rwm\nc 1:3 rwm\nc *:* m\n"),
            ["allow b 8:20 rw", "allow b 10:200 r", "deny c 1:3 rwm"]
        );
        // The rule that denies everything is no reason to deny first what others of the list allow.
        assert_eq!(
            of("c *:* rwm\n"),
            [
                "allow c 10:229 rwm",
                "allow b 8:20 rw",
                "allow b 10:200 r",
                "deny c *:* rw",
            ]
        );
    }
}
