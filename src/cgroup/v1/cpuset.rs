//! The cpuset controller of cgroup v1: a new cgroup has neither CPUs nor memory nodes and takes no process until it
//! has both, so they are copied down from the parents where the config names none.

use anyhow::{Context, Result};

use super::limits;
use crate::cgroup::dir::Dir;
use crate::cgroup::path;
use crate::cgroup::write::write_all;
use crate::plan::resources::Cpu;

/// Fills the cgroup at `path` and its ancestors.
pub(crate) fn fill(root: &Dir, path: &str, cpu: &Cpu) -> Result<()> {
    let mut parent: Option<Dir> = None;
    for ancestor in path::ancestors(path) {
        let dir = open(root, ancestor)?;
        inherit(parent.as_ref().unwrap_or(root), &dir)?;
        parent = Some(dir);
    }
    let leaf = open(root, path)?;
    write_all(&leaf, &limits::cpuset(cpu))?;
    inherit(parent.as_ref().unwrap_or(root), &leaf)
}

fn open(root: &Dir, path: &str) -> Result<Dir> {
    root.below(path)
        .with_context(|| format!("open cgroup `{root}/{path}`"))
}

fn inherit(parent: &Dir, dir: &Dir) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if dir.read_named(file)?.trim().is_empty() {
            dir.write_named(file, parent.read_named(file)?.trim())?;
        }
    }
    Ok(())
}
