//! Rules for the linux object but its sysctls. Pure; called by `validate`.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, ensure};
use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType};

use super::{HostFacts, no_nul};

/// The kernel's limit on lines of a uid_map.
const MAPPINGS_LIMIT: usize = 340;

pub(super) fn check(linux: &Linux, facts: HostFacts) -> Result<()> {
    namespaces(linux)?;
    user_mappings(linux)?;
    devices(linux)?;
    restricted_paths(linux)?;
    let label = linux.mount_label().as_deref().unwrap_or_default();
    no_nul("linux.mountLabel", label.as_bytes())?;
    ensure!(
        label.is_empty() || facts.selinux,
        "linux.mountLabel: SELinux is disabled or not supported on this host"
    );
    Ok(())
}

/// `Linux::default()` of the crate is a whole example configuration; the rules need one with nothing in it.
pub(super) fn empty() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_namespaces(None)
        .set_resources(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    linux
}

fn namespaces(linux: &Linux) -> Result<()> {
    let mut seen = HashSet::new();
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = namespace.typ();
        ensure!(
            seen.insert(kind),
            "linux.namespaces[{i}].type: duplicate of `{}`",
            oci_name(kind)
        );
        if let Some(path) = namespace.path() {
            let empty = path.as_os_str().is_empty();
            ensure!(
                empty || path.is_absolute(),
                "linux.namespaces[{i}].path: `{}` must be an absolute path",
                path.display()
            );
            no_nul(
                format!("linux.namespaces[{i}].path"),
                path.as_os_str().as_encoded_bytes(),
            )?;
        }
    }
    Ok(())
}

/// As config.json writes it; the crate's own names are those of /proc/PID/ns.
fn oci_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

pub(in crate::spec) fn has_namespace(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == kind)
}

fn user_mappings(linux: &Linux) -> Result<()> {
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    let user = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|ns| ns.typ() == LinuxNamespaceType::User);
    for (field, mappings) in [("uidMappings", uids), ("gidMappings", gids)] {
        ensure!(
            mappings.is_empty() || user.is_some(),
            "linux.{field}: user namespace mappings specified, but no user namespace in linux.namespaces"
        );
        mapping_rules(&format!("linux.{field}"), mappings)?;
    }
    let joined = user.is_some_and(|user| {
        user.path()
            .as_ref()
            .is_some_and(|path| !path.as_os_str().is_empty())
    });
    if user.is_some() && !joined {
        ensure!(
            !uids.is_empty(),
            "linux.uidMappings: a new user namespace needs mappings"
        );
        ensure!(
            !gids.is_empty(),
            "linux.gidMappings: a new user namespace needs mappings"
        );
    }
    Ok(())
}

/// What the kernel demands of an id map, said before anything was started and with the entry's path.
pub(super) fn mapping_rules(path: &dyn Display, mappings: &[LinuxIdMapping]) -> Result<()> {
    ensure!(
        mappings.len() <= MAPPINGS_LIMIT,
        "{path}: {} entries, the kernel takes at most {MAPPINGS_LIMIT}",
        mappings.len()
    );
    for (i, mapping) in mappings.iter().enumerate() {
        let size = mapping.size();
        ensure!(size > 0, "{path}[{i}].size: must be greater than 0");
        for (field, first) in [
            ("containerID", mapping.container_id()),
            ("hostID", mapping.host_id()),
        ] {
            ensure!(
                first.checked_add(size).is_some(),
                "{path}[{i}].{field}: {first} with size {size} leaves the range of ids"
            );
        }
        for (j, other) in mappings[..i].iter().enumerate() {
            let sides = [
                ("containerID", mapping.container_id(), other.container_id()),
                ("hostID", mapping.host_id(), other.host_id()),
            ];
            for (field, a, b) in sides {
                let apart = u64::from(a) + u64::from(size) <= u64::from(b)
                    || u64::from(b) + u64::from(other.size()) <= u64::from(a);
                ensure!(apart, "{path}[{i}].{field}: overlaps with entry {j}");
            }
        }
    }
    Ok(())
}

fn devices(linux: &Linux) -> Result<()> {
    for (i, device) in linux.devices().iter().flatten().enumerate() {
        let at = format!("linux.devices[{i}]");
        let path: &Path = device.path();
        ensure!(
            path.is_absolute(),
            "{at}.path: `{}` must be an absolute path",
            path.display()
        );
        no_nul(format!("{at}.path"), path.as_os_str().as_encoded_bytes())?;
        ensure!(
            device.typ() != LinuxDeviceType::A,
            "{at}.type: `a` is not the type of a node"
        );
        for (field, number) in [("major", device.major()), ("minor", device.minor())] {
            let fits = u32::try_from(number).is_ok();
            ensure!(
                fits || device.typ() == LinuxDeviceType::P,
                "{at}.{field}: {number} is not a device number"
            );
        }
        for (field, id) in [("uid", device.uid()), ("gid", device.gid())] {
            ensure!(
                id != Some(u32::MAX),
                "{at}.{field}: {} is not an id",
                u32::MAX
            );
        }
    }
    Ok(())
}

/// Without a mount namespace these would be hidden on the host.
fn restricted_paths(linux: &Linux) -> Result<()> {
    let mount = has_namespace(linux, LinuxNamespaceType::Mount);
    for (field, paths) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        let none = paths.as_ref().is_none_or(Vec::is_empty);
        ensure!(
            none || mount,
            "linux.{field}: unable to restrict paths without a private mount namespace"
        );
        for (i, path) in paths.iter().flatten().enumerate() {
            no_nul(format_args!("linux.{field}[{i}]"), path.as_bytes())?;
        }
    }
    Ok(())
}
