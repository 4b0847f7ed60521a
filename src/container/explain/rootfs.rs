//! The part of a dry run about the container's file system. Called by the parent module.

use std::path::Path;

use serde_json::json;

use super::Action;
use crate::plan::Plan;
use crate::plan::devices::NodeKind;
use crate::plan::mounts::{Change, MountKind, MountOp, Propagation};

/// Steps of `init` that this file tells of.
#[cfg(test)]
pub(super) const TOLD: [&str; 3] = ["rootfs", "pivot", "read-only and masked paths"];

pub(super) fn of_step(name: &'static str, plan: &Plan) -> Vec<Action> {
    match name {
        "rootfs" => root(name, plan),
        "pivot" => {
            let how = if plan.no_pivot {
                "move the root over the old one"
            } else {
                "pivot_root, and detach the old root"
            };
            vec![Action::new(name, how, json!({"pivot": !plan.no_pivot}))]
        }
        _ => protected(name, plan),
    }
}

fn root(step: &'static str, plan: &Plan) -> Vec<Action> {
    let rootfs = &plan.rootfs;
    let mut actions = Vec::new();
    match &rootfs.overlay {
        None => {
            let root = rootfs.root.display();
            actions.push(Action::new(
                step,
                format!("bind the root `{root}`"),
                json!({"root": rootfs.root}),
            ));
        }
        Some(overlay) => {
            let lowers: Vec<String> = overlay
                .lowers
                .iter()
                .map(|lower| lower.display().to_string())
                .collect();
            let upper = overlay.upper.as_ref().map(|upper| &upper.upper);
            let writes = upper.map_or_else(
                || "a tmpfs".to_owned(),
                |upper| format!("`{}`", upper.display()),
            );
            let text = format!(
                "mount an overlay of `{}`, written to {writes}",
                lowers.join("`, `")
            );
            actions.push(Action::new(
                step,
                text,
                json!({"lowers": lowers, "upper": upper}),
            ));
        }
    }
    actions.extend(rootfs.mounts.iter().map(|op| mount(step, op)));
    for node in rootfs.nodes.iter().flatten() {
        let kind = match node.kind {
            NodeKind::Char => "c",
            NodeKind::Block => "b",
            NodeKind::Fifo => "p",
        };
        let (path, mode) = (node.path.display(), format!("{:04o}", node.mode));
        let text = format!(
            "node `{path}` {kind} {}:{} mode {mode} owner {}:{}",
            node.major, node.minor, node.uid, node.gid
        );
        let detail = json!({"node": node.path, "type": kind, "major": node.major, "minor": node.minor, "mode": mode, "uid": node.uid, "gid": node.gid});
        actions.push(Action::new(step, text, detail));
    }
    actions
}

fn mount(step: &'static str, op: &MountOp) -> Action {
    let destination = op.destination.display();
    let mut words: Vec<String> = flags(op.top, "");
    words.extend(flags(op.tree, "recursively "));
    words.extend(op.propagation.iter().map(|given| propagation(*given)));
    if op.idmap.is_some() {
        words.push("id-mapped".to_owned());
    }
    let (kind, source) = match &op.kind {
        MountKind::Bind { source, recursive } => (
            if *recursive { "rbind" } else { "bind" },
            source.display().to_string(),
        ),
        MountKind::Remount => ("remount", String::new()),
        MountKind::Cgroup => ("cgroup", String::new()),
        MountKind::Fs(fs) => {
            words.extend(fs.data.iter().map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            }));
            (fs.fstype.as_str(), String::new())
        }
    };
    let from = if source.is_empty() {
        String::new()
    } else {
        format!(" of `{source}`")
    };
    let with = if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(", "))
    };
    Action::new(
        step,
        format!(
            "mounts[{}]: {kind}{from} on `{destination}`{with}",
            op.index
        ),
        json!({"field": format!("mounts[{}]", op.index), "type": kind, "source": Some(source).filter(|s| !s.is_empty()),
               "destination": op.destination, "flags": words}),
    )
}

/// Names of mount_setattr(2)'s bits as the options of config.json call them.
fn flags(change: Change, before: &str) -> Vec<String> {
    const BITS: [(u64, &str, &str); 6] = [
        (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
        (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut words = Vec::new();
    for (bit, set, clear) in BITS {
        if change.set & bit != 0 {
            words.push(format!("{before}{set}"));
        } else if change.clear & bit != 0 {
            words.push(format!("{before}{clear}"));
        }
    }
    if (change.set | change.clear) & libc::MOUNT_ATTR__ATIME != 0 {
        let mode = match change.set & libc::MOUNT_ATTR__ATIME {
            libc::MOUNT_ATTR_NOATIME => "noatime",
            libc::MOUNT_ATTR_STRICTATIME => "strictatime",
            _ => "relatime",
        };
        words.push(format!("{before}{mode}"));
    }
    words
}

fn propagation(given: Propagation) -> String {
    let kind = match given.kind {
        libc::MS_SHARED => "shared",
        libc::MS_SLAVE => "slave",
        libc::MS_UNBINDABLE => "unbindable",
        _ => "private",
    };
    let recursive = if given.recursive { "r" } else { "" };
    format!("{recursive}{kind}")
}

fn protected(step: &'static str, plan: &Plan) -> Vec<Action> {
    let rootfs = &plan.rootfs;
    let path = |what: &str, path: &Path| {
        Action::new(
            step,
            format!("{what} `{}`", path.display()),
            json!({"what": what, "path": path}),
        )
    };
    let mut actions: Vec<Action> = rootfs
        .read_only
        .iter()
        .map(|given| path("make read-only", given))
        .collect();
    actions.extend(rootfs.masked.iter().map(|given| path("mask", given)));
    if rootfs.readonly {
        actions.push(path("make read-only", Path::new("/")));
    }
    if let Some(given) = rootfs.propagation {
        let word = propagation(given);
        actions.push(Action::new(
            step,
            format!("propagation of the root: {word}"),
            json!({"propagation": word}),
        ));
    }
    actions
}
