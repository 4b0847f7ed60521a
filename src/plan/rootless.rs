//! What a user without root's rights can not have, said before anything is made. Pure. Called by `container`.

use anyhow::{Result, bail, ensure};

use super::Plan;
use super::host::Host;
use super::mounts::MountKind;
use super::namespaces::{IdMap, Kind, host_id, is_own_alone};

/// Checks the plan of a runtime that runs as an unprivileged user.
pub(crate) fn check(plan: &Plan, host: &Host) -> Result<()> {
    ensure!(
        plan.namespaces.has(Kind::User),
        "linux.namespaces: rootless container requires user namespaces (rundlet runs as uid {})",
        host.euid
    );
    if let Some(op) = plan.rootfs.mounts.iter().find(|op| op.idmap.is_some()) {
        bail!(
            "mounts[{}].uidMappings: id-mapped mounts take the rights of root on the host",
            op.index
        );
    }
    if !plan.namespaces.makes(Kind::User) {
        // Its maps are known to the kernel alone.
        return Ok(());
    }
    for op in &plan.rootfs.mounts {
        let MountKind::Fs(fs) = &op.kind else {
            continue;
        };
        for (key, value) in &fs.data {
            let at = format!("mounts[{}].options", op.index);
            match key.as_str() {
                "uid" => mapped(&at, key, value.as_deref(), &plan.namespaces.uid_map)?,
                "gid" => mapped(&at, key, value.as_deref(), &plan.namespaces.gid_map)?,
                _ => {}
            }
        }
    }
    let groups = &plan.process.user.additional_gids;
    // More ids than the own one come from newgidmap(1), which leaves setgroups(2) allowed.
    let own_alone = is_own_alone(&plan.namespaces.gid_map, host.egid);
    if !groups.is_empty() && (own_alone || host.setgroups_denied) {
        bail!(
            "process.user.additionalGids: cannot set any additional groups in a rootless container \
             whose only group is the user's own"
        );
    }
    Ok(())
}

fn mapped(at: &str, key: &str, value: Option<&str>, map: &[IdMap]) -> Result<()> {
    let Some(id) = value.and_then(|value| value.parse().ok()) else {
        return Ok(());
    };
    ensure!(
        host_id(map, id).is_some(),
        "{at}: cannot specify {key}={id} mount options for unmapped {key} in rootless containers"
    );
    Ok(())
}
