//! The step that asks AppArmor and SELinux for the labels of `process` (L1). That the module is active was checked before the
//! clone, so a failure here is the kernel's word on the label itself.

use anyhow::{Context as _, Result};

use super::Child;
use crate::fs::procfs::{ProcHandle, Scope};

/// Before the session keyring is joined: it is made with this label. The next execve takes it back.
pub(super) fn of_keys(child: &Child<'_>) -> Result<()> {
    let Some(label) = &child.process.selinux_label else {
        return Ok(());
    };
    let proc = ProcHandle::open(Scope::Processes)?;
    proc.write_self("attr/keycreate", label.as_bytes())
        .with_context(|| {
            format!("process.selinuxLabel: set key label `{label}` in `/proc/self/attr/keycreate`")
        })
}

pub(super) fn apply(child: &mut Child<'_>) -> Result<()> {
    let process = child.process;
    if process.apparmor_profile.is_none() && process.selinux_label.is_none() {
        return Ok(());
    }
    let proc = ProcHandle::open(Scope::Processes)?;
    if let Some(label) = &process.selinux_label {
        proc.write_self("attr/exec", label.as_bytes())
            .with_context(|| {
                format!("process.selinuxLabel: set exec label `{label}` in `/proc/self/attr/exec`")
            })?;
    }
    if let Some(profile) = &process.apparmor_profile {
        let text = format!("exec {profile}");
        // The directory of AppArmor's own exists since Linux 5.8; before, and where it is the only module, attr/exec is its.
        proc.write_self("attr/apparmor/exec", text.as_bytes())
            .or_else(|_| proc.write_self("attr/exec", text.as_bytes()))
            .with_context(|| format!("process.apparmorProfile: set profile `{profile}` in `/proc/self/attr/apparmor/exec`"))?;
    }
    Ok(())
}
