//! Rules that no type can hold: fields that exclude, need or bound each other. Every message opens with the JSON
//! path. Called by `spec` on what was parsed; pure, what it must know of the host comes in as `HostFacts`.

pub(crate) mod linux;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{Hook, Linux, LinuxNamespaceType, Spec};

use super::validate_sysctl;

/// What the rules need to know of the machine. A fact nothing in the document asks for may be false.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostFacts {
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    /// The network namespace that is joined by path is the one rundlet itself runs in.
    pub(crate) joined_network_is_own: bool,
}

/// `__NEW_UTS_LEN`.
const HOST_NAME_LIMIT: usize = 64;

pub(crate) fn config(spec: &Spec, facts: HostFacts) -> Result<()> {
    version(spec.version())?;
    let Some(root) = spec.root() else {
        bail!("root: is required");
    };
    ensure!(
        !root.path().as_os_str().is_empty(),
        "root.path: must not be empty"
    );
    no_nul("root.path", root.path().as_os_str().as_encoded_bytes())?;
    if let Some(given) = spec.process() {
        process::check(given, "process.", facts)?;
    }
    hooks(spec)?;
    let none = linux::empty();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    linux::check(linux, facts)?;
    mounts(spec)?;
    validate_sysctl::check(linux, facts)
}

/// What `create` needs on this platform beside a valid document.
pub(crate) fn for_linux(spec: &Spec) -> Result<()> {
    ensure!(spec.process().is_some(), "process: is required");
    let none = linux::empty();
    host_names(spec, spec.linux().as_ref().unwrap_or(&none))
}

/// Every 1.x: engines write the newest number they know of, and the fields decide what is asked for. And 0.x, of before the
/// first release: the specification's own examples have it, and what is no longer a field is not asked for.
fn version(version: &str) -> Result<()> {
    ensure!(!version.is_empty(), "ociVersion: is required");
    let mut parts = version.split(['.', '-', '+']);
    let major = parts.next().unwrap_or_default();
    let minor = parts.next().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        number(major) && number(minor),
        "ociVersion: `{version}` is not a version number"
    );
    ensure!(
        major == "1" || major == "0",
        "ociVersion: `{version}` is not supported (1.x is)"
    );
    Ok(())
}

/// A string with a NUL in it is cut there by the kernel: what was checked would not be what is run.
fn no_nul(path: impl Display, bytes: &[u8]) -> Result<()> {
    ensure!(!bytes.contains(&0), "{path}: contains a NUL byte");
    Ok(())
}

#[allow(
    deprecated,
    reason = "prestart is deprecated in the specification, still used by engines"
)]
fn hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let points: [(&str, &Option<Vec<Hook>>); 6] = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (point, hooks) in points {
        for (i, hook) in hooks.iter().flatten().enumerate() {
            let at = format!("hooks.{point}[{i}]");
            let path = hook.path();
            ensure!(
                path.is_absolute(),
                "{at}.path: `{}` must be an absolute path",
                path.display()
            );
            no_nul(format!("{at}.path"), path.as_os_str().as_encoded_bytes())?;
            if let Some(timeout) = hook.timeout() {
                ensure!(
                    timeout > 0,
                    "{at}.timeout: {timeout} must be greater than 0"
                );
            }
        }
    }
    Ok(())
}

fn mounts(spec: &Spec) -> Result<()> {
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        for (field, text) in [
            ("destination", mount.destination().as_os_str()),
            ("type", mount.typ().as_deref().unwrap_or_default().as_ref()),
            ("source", source.as_os_str()),
        ] {
            no_nul(format_args!("mounts[{i}].{field}"), text.as_encoded_bytes())?;
        }
        for (j, option) in mount.options().iter().flatten().enumerate() {
            no_nul(format_args!("mounts[{i}].options[{j}]"), option.as_bytes())?;
        }
        for (field, mappings) in [
            ("uidMappings", mount.uid_mappings()),
            ("gidMappings", mount.gid_mappings()),
        ] {
            let mappings = mappings.as_deref().unwrap_or_default();
            linux::mapping_rules(&format_args!("mounts[{i}].{field}"), mappings)?;
        }
    }
    Ok(())
}

fn host_names(spec: &Spec, linux: &Linux) -> Result<()> {
    for (field, value) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        let name = value.as_deref().unwrap_or_default();
        no_nul(field, name.as_bytes())?;
        ensure!(
            name.is_empty() || linux::has_namespace(linux, LinuxNamespaceType::Uts),
            "{field}: unable to set {field} without a private UTS namespace"
        );
        ensure!(
            name.len() <= HOST_NAME_LIMIT,
            "{field}: longer than the kernel's {HOST_NAME_LIMIT} bytes"
        );
    }
    Ok(())
}
