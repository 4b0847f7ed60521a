//! Whether the namespaces that CRIU has made from images are those of config.json: the image says what runs, not where (R1).
//! Called by `restore` before anything of the image runs.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::stat;

use crate::plan::namespaces::{Kind, Namespaces};

fn same_namespace(one: &Path, other: &Path) -> Result<bool> {
    let of = |path: &Path| stat(path).with_context(|| format!("look at `{}`", path.display()));
    let (one, other) = (of(one)?, of(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Whether the process is in the runtime's own namespace of this kind.
pub(super) fn is_shared(kind: Kind, pid: i32) -> Result<bool> {
    let name = kind.file();
    let own = format!("/proc/self/ns/{name}");
    if !Path::new(&own).exists() {
        return Ok(true);
    }
    same_namespace(
        Path::new(&own),
        Path::new(&format!("/proc/{pid}/ns/{name}")),
    )
}

/// The images' processes must be as far from the host as the config says, and no farther from what they are to share.
pub(super) fn check_namespaces(namespaces: &Namespaces, pid: i32) -> Result<()> {
    // Time: see above. Cgroup: the image decides what is shown of a place that the runtime has chosen.
    for kind in [
        Kind::User,
        Kind::Ipc,
        Kind::Uts,
        Kind::Network,
        Kind::Pid,
        Kind::Mount,
    ] {
        let name = kind.name();
        let joined = namespaces.join.iter().find(|join| join.kind == kind);
        if let Some(join) = joined {
            let path = format!("/proc/{pid}/ns/{}", kind.file());
            ensure!(
                same_namespace(&join.path, Path::new(&path))?,
                "the image does not fit the bundle: linux.namespaces[{}]: process {pid} is not in {name} namespace `{}`",
                join.index,
                join.path.display()
            );
        } else {
            let (wanted, word) = if namespaces.makes(kind) {
                (false, "in")
            } else {
                (true, "not in")
            };
            ensure!(
                is_shared(kind, pid)? == wanted,
                "the image does not fit the bundle: linux.namespaces: process {pid} is {word} the host's {name} namespace"
            );
        }
    }
    if namespaces.makes(Kind::User) {
        check_id_maps(namespaces, pid)?;
    }
    Ok(())
}

fn check_id_maps(namespaces: &Namespaces, pid: i32) -> Result<()> {
    for (file, field, map) in [
        ("uid_map", "uidMappings", &namespaces.uid_map),
        ("gid_map", "gidMappings", &namespaces.gid_map),
    ] {
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
        let given: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
        let planned: Vec<u32> = map
            .iter()
            .flat_map(|line| [line.container, line.host, line.size])
            .collect();
        ensure!(
            given == planned,
            "the image does not fit the bundle: `{path}` is not what linux.{field} says"
        );
    }
    Ok(())
}
