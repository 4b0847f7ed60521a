//! What of a container is not its own: mounts, nodes and namespaces that a checkpoint can only name, and that a restore must be
//! given again. Pure. Kept in the record by `container` for `checkpoint`; made from the bundle for `restore`.
//!
//! A mount is named by its destination in config.json, at the checkpoint as at the restore, and never by what a link of the image
//! makes of that (R1).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Plan;
use super::devices::NodeKind;
use super::mounts::{CgroupMounts, MountKind};
use super::namespaces::Kind;
use super::rootfs::MountNamespace;

/// The name of the host's null device, which covers masked files.
pub(crate) const NULL: &str = "/dev/null";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) mounts: Vec<OutsideMount>,
    pub(crate) masked: Vec<PathBuf>,
    /// Devices that may be binds of the host's.
    pub(crate) nodes: Vec<PathBuf>,
    /// Network and pid namespaces that were joined: they are the caller's and stay.
    pub(crate) joined: Vec<Kind>,
    /// Why there can be no checkpoint.
    pub(crate) refusal: Option<String>,
    /// What the first three descriptors were when the container was made: `pipe:[4711]`.
    pub(crate) stdio: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutsideMount {
    /// For messages: `mounts[2]`.
    pub(crate) field: String,
    pub(crate) destination: PathBuf,
    /// On the host.
    pub(crate) source: PathBuf,
}

impl Outside {
    pub(crate) fn of(plan: &Plan, cgroups: &CgroupMounts) -> Outside {
        let rootfs = &plan.rootfs;
        let mut mounts = Vec::new();
        for op in &rootfs.mounts {
            let field = format!("mounts[{}]", op.index);
            let mut add = |destination: PathBuf, source: &Path| {
                mounts.push(OutsideMount {
                    field: field.clone(),
                    destination,
                    source: source.to_owned(),
                });
            };
            match (&op.kind, cgroups) {
                (MountKind::Bind { source, .. }, _) => add(op.destination.clone(), source),
                // In a cgroup namespace they are file systems of the container; elsewhere binds.
                (MountKind::Cgroup, CgroupMounts::V2 { path }) if !rootfs.namespaces.cgroup => {
                    add(op.destination.clone(), path);
                }
                (MountKind::Cgroup, CgroupMounts::V1 { hierarchies })
                    if !rootfs.namespaces.cgroup =>
                {
                    for hierarchy in hierarchies {
                        add(op.destination.join(&hierarchy.name), &hierarchy.path);
                    }
                }
                _ => {}
            }
        }
        let nodes = rootfs.nodes.iter().flatten();
        let joined = [Kind::Network, Kind::Pid].into_iter();
        Outside {
            mounts,
            masked: rootfs.masked.clone(),
            nodes: nodes
                .filter(|node| node.kind != NodeKind::Fifo)
                .map(|node| node.path.clone())
                .collect(),
            joined: joined.filter(|kind| plan.namespaces.joins(*kind)).collect(),
            refusal: refusal(plan),
            stdio: Vec::new(),
        }
    }

    /// Every name that CRIU is told, checked.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(refusal) = &self.refusal {
            bail!("{refusal}");
        }
        for mount in &self.mounts {
            check_name(&format!("{}.destination", mount.field), &mount.destination)?;
            check_source(&format!("{}.source", mount.field), &mount.source)?;
        }
        for (index, path) in self.masked.iter().enumerate() {
            check_name(&format!("linux.maskedPaths[{index}]"), path)?;
        }
        for path in &self.nodes {
            check_name("linux.devices", path)?;
        }
        Ok(())
    }
}

/// What cannot be made again, said before anything is saved.
fn refusal(plan: &Plan) -> Option<String> {
    if plan.rootfs.namespaces.mount != MountNamespace::New {
        let why = "without a new mount namespace the mounts are not the container's";
        return Some(format!(
            "linux.namespaces: {why}, and cannot be saved and restored"
        ));
    }
    if plan.rootfs.overlay.is_some() {
        let why = "an overlay root made by the runtime cannot be saved and restored";
        return Some(format!("root: {why}"));
    }
    if plan.landlock.is_some() {
        let why = "CRIU does not save what Landlock restricts, and the container would be restored without it";
        return Some(format!("annotations: org.rundlet.landlock.*: {why}"));
    }
    let mapped = plan.rootfs.mounts.iter().find(|op| op.idmap.is_some())?;
    Some(format!(
        "mounts[{}].uidMappings: CRIU cannot save and restore an id-mapped mount",
        mapped.index
    ))
}

/// R1. CRIU splits `mnt[NAME]:VALUE` at the brackets and the colon.
pub(crate) fn check_name(field: &str, path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let bad = |byte: &u8| matches!(byte, b'[' | b']' | b':') || byte.is_ascii_control();
    ensure!(
        !bytes.iter().any(bad),
        "{field}: `{}` has a bracket, colon or control character, which cannot be named to CRIU",
        path.display()
    );
    Ok(())
}

/// The value ends where the string does.
fn check_source(field: &str, path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    ensure!(
        !bytes.iter().any(u8::is_ascii_control),
        "{field}: `{}` has a control character, which cannot be named to CRIU",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn outside(mounts: &str, linux: &str) -> Outside {
        let json = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"r"}},"process":{{"user":{{"uid":0,"gid":0}},"args":["a"],"cwd":"/"}},
               "mounts":[{mounts}],"linux":{linux}}}"#
        );
        let spec: oci_spec::runtime::Spec = serde_json::from_str(&json).unwrap();
        let plan = plan::build(&spec, "c", Path::new("/b"), &plan::Options::default()).unwrap();
        let cgroups = CgroupMounts::V2 {
            path: "/sys/fs/cgroup/c".into(),
        };
        Outside::of(&plan, &cgroups)
    }

    const OWN: &str = r#"{"namespaces":[{"type":"mount"}]}"#;

    #[test]
    fn binds_and_cgroups_are_named_by_their_destination() {
        let mounts = r#"{"destination":"/proc","type":"proc"},{"destination":"/x/../data/","source":"vol","options":["bind"]},
            {"destination":"/sys/fs/cgroup","type":"cgroup"}"#;
        let got = outside(mounts, OWN);
        got.check().unwrap();
        let named: Vec<_> = got
            .mounts
            .iter()
            .map(|mount| {
                (
                    mount.destination.to_str().unwrap(),
                    mount.source.to_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            named,
            [("/data", "/b/vol"), ("/sys/fs/cgroup", "/sys/fs/cgroup/c")]
        );
        assert_eq!(got.nodes.len(), 6);
        let own =
            r#"{"namespaces":[{"type":"mount"},{"type":"cgroup"},{"type":"network","path":"/n"}]}"#;
        let got = outside(mounts, own);
        assert_eq!(got.mounts.len(), 1);
        assert_eq!(got.joined, [Kind::Network]);
    }

    #[test]
    fn names_that_criu_would_split_are_refused() {
        for bad in ["/a]b", "/a[b", "/a:b", "/a\\nb", "/a]:/etc", "/\\u007f"] {
            let mounts = format!(r#"{{"destination":"{bad}","source":"/s","options":["bind"]}}"#);
            let error = outside(&mounts, OWN).check().unwrap_err().to_string();
            assert!(error.starts_with("mounts[0].destination: "), "{error}");
        }
        let mounts = r#"{"destination":"/a","source":"/s:]\n","options":["bind"]}"#;
        let error = outside(mounts, OWN).check().unwrap_err().to_string();
        assert!(error.starts_with("mounts[0].source: "), "{error}");
        let masked = r#"{"namespaces":[{"type":"mount"}],"maskedPaths":["/proc/a:b"]}"#;
        let error = outside("", masked).check().unwrap_err().to_string();
        assert!(error.starts_with("linux.maskedPaths[0]: "), "{error}");
    }

    #[test]
    fn what_cannot_be_restored_is_refused() {
        let error = outside("", "{}").check().unwrap_err().to_string();
        assert!(error.starts_with("linux.namespaces: "), "{error}");
    }
}
