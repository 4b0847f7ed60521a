//! Rules for the process object, of config.json and of `exec`. Pure; called by `validate` and `spec`.

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::Process;

use super::{HostFacts, no_nul};

/// `path` is the JSON path of the object with its dot (`process.`), or empty for a file of its own.
pub(crate) fn check(process: &Process, path: &str, facts: HostFacts) -> Result<()> {
    arguments(process, path)?;
    ids(process, path)?;
    rlimits(process, path)?;
    if let Some(adjustment) = process.oom_score_adj() {
        ensure!(
            (-1000..=1000).contains(&adjustment),
            "{path}oomScoreAdj: {adjustment} is not between -1000 and 1000"
        );
    }
    labels(process, path, facts)
}

fn arguments(process: &Process, path: &str) -> Result<()> {
    let cwd = process.cwd();
    ensure!(!cwd.as_os_str().is_empty(), "{path}cwd: must not be empty");
    ensure!(
        cwd.is_absolute(),
        "{path}cwd: `{}` must be an absolute path",
        cwd.display()
    );
    no_nul(format!("{path}cwd"), cwd.as_os_str().as_encoded_bytes())?;
    let args = process.args().as_deref().unwrap_or_default();
    ensure!(!args.is_empty(), "{path}args: must not be empty");
    for (i, arg) in args.iter().enumerate() {
        no_nul(format!("{path}args[{i}]"), arg.as_bytes())?;
    }
    for (i, variable) in process.env().iter().flatten().enumerate() {
        no_nul(format!("{path}env[{i}]"), variable.as_bytes())?;
        match variable.split_once('=') {
            Some((name, _)) if !name.is_empty() => {}
            Some(_) => bail!("{path}env[{i}]: invalid environment variable: the name is empty"),
            None => bail!("{path}env[{i}]: invalid environment variable: missing '='"),
        }
    }
    Ok(())
}

/// U2: the highest number means "no id" to the kernel.
fn ids(process: &Process, path: &str) -> Result<()> {
    let user = process.user();
    ensure!(
        user.uid() != u32::MAX,
        "{path}user.uid: {} is not an id",
        u32::MAX
    );
    ensure!(
        user.gid() != u32::MAX,
        "{path}user.gid: {} is not an id",
        u32::MAX
    );
    for (i, gid) in user.additional_gids().iter().flatten().enumerate() {
        ensure!(
            *gid != u32::MAX,
            "{path}user.additionalGids[{i}]: {gid} is not an id"
        );
    }
    Ok(())
}

fn rlimits(process: &Process, path: &str) -> Result<()> {
    let mut seen = Vec::new();
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        let kind = limit.typ();
        ensure!(
            !seen.contains(&kind),
            "{path}rlimits[{i}].type: duplicate of {kind}"
        );
        seen.push(kind);
        ensure!(
            limit.soft() <= limit.hard(),
            "{path}rlimits[{i}].soft: {} is above the hard limit {} of {kind}",
            limit.soft(),
            limit.hard()
        );
    }
    Ok(())
}

/// L1: a label that can not be applied is an error, never dropped.
fn labels(process: &Process, path: &str, facts: HostFacts) -> Result<()> {
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    no_nul(format!("{path}apparmorProfile"), profile.as_bytes())?;
    // "unconfined" asks for nothing that a host without AppArmor could not give.
    ensure!(
        profile.is_empty() || profile == "unconfined" || facts.apparmor,
        "{path}apparmorProfile: `{profile}` is asked for, but AppArmor is not enabled on this host"
    );
    let label = process.selinux_label().as_deref().unwrap_or_default();
    no_nul(format!("{path}selinuxLabel"), label.as_bytes())?;
    ensure!(
        label.is_empty() || facts.selinux,
        "{path}selinuxLabel: `{label}` is asked for, but SELinux is disabled or not supported on this host"
    );
    Ok(())
}
