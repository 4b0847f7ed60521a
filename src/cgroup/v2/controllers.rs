//! Which controllers a cgroup has is written in those above it, `cgroup.subtree_control`: passing on what limits need, or all that
//! there is. Called by `v2` and `delegate`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::cgroup::dir::Dir;
use crate::cgroup::path;

/// Makes the needed controllers available in the container's cgroup: each ancestor must pass them on.
pub(super) fn enable(root: &Dir, path: &str, needed: &[(String, String)]) -> Result<()> {
    if needed.is_empty() {
        return Ok(());
    }
    let (parent, _) = path::split(path);
    let parent_dir = root
        .below(parent)
        .with_context(|| format!("open cgroup `{root}/{parent}`"))?;
    let passed = words(&parent_dir.read_named("cgroup.subtree_control")?);
    if needed
        .iter()
        .all(|(controller, _)| passed.contains(controller))
    {
        return Ok(());
    }
    let available = words(&root.read_named("cgroup.controllers")?);
    if let Some((controller, field)) = needed.iter().find(|(c, _)| !available.contains(c)) {
        bail!(
            "{field}: the {controller} controller is not available in cgroup v2 on this host \
             (`{root}/cgroup.controllers` does not list it: disabled, or in use by cgroup v1)"
        );
    }
    for ancestor in std::iter::once("").chain(path::ancestors(path)) {
        let dir = root
            .below(ancestor)
            .with_context(|| format!("open cgroup `{root}/{ancestor}`"))?;
        let passed = words(&dir.read_named("cgroup.subtree_control")?);
        for (controller, field) in needed.iter().filter(|(c, _)| !passed.contains(c)) {
            let reason = |errno| match errno {
                Errno::EBUSY => " (hint: it has processes of its own)",
                Errno::ENOENT => " (hint: its own parent does not pass it on)",
                _ => "",
            };
            dir.write("cgroup.subtree_control", &format!("+{controller}")).map_err(|errno| {
                let hint = reason(errno);
                anyhow::anyhow!(errno).context(format!(
                    "{field}: enable the {controller} controller in `{dir}/cgroup.subtree_control`{hint}"
                ))
            })?;
        }
    }
    Ok(())
}

/// Passes every controller on that can be passed on: what one has no use for, the container may.
pub(super) fn enable_all(root: &Dir, path: &str) -> Result<()> {
    for ancestor in std::iter::once("").chain(path::ancestors(path)) {
        let dir = root
            .below(ancestor)
            .with_context(|| format!("open cgroup `{root}/{ancestor}`"))?;
        pass_on_all(&dir)?;
    }
    Ok(())
}

pub(super) fn pass_on_all(dir: &Dir) -> Result<()> {
    let passed = words(&dir.read_named("cgroup.subtree_control")?);
    for controller in words(&dir.read_named("cgroup.controllers")?).difference(&passed) {
        // In use otherwise: then it is not there for the container.
        let _ = dir.write("cgroup.subtree_control", &format!("+{controller}"));
    }
    Ok(())
}

pub(super) fn words(text: &str) -> BTreeSet<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}
