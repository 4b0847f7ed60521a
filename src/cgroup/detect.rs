//! Which cgroup hierarchies the host has and where the runtime itself is in them. Looked at once per command.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::fs::mountinfo;
use crate::fs::small::read_text;

use super::path;

const ROOT: &str = "/sys/fs/cgroup";

/// The host's hierarchies.
#[derive(Debug)]
pub(crate) enum Layout {
    /// cgroup v2 alone.
    Unified { mount: PathBuf },
    /// v1 hierarchies; on a hybrid host the v2 one is among them, with no controllers (`""`).
    Legacy { hierarchies: Vec<Hierarchy> },
}

/// One hierarchy of a v1 or hybrid host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// As in /proc/self/cgroup: `["cpu", "cpuacct"]`, `["name=systemd"]`; `[""]` is the v2 one.
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
    /// Which cgroup the mount shows as its root; not `/` inside containers.
    pub(crate) root: String,
    /// The runtime's own cgroup, a clean path below the mount.
    pub(crate) own: String,
}

impl Layout {
    pub(crate) fn detect() -> Result<Self> {
        let root = Path::new(ROOT);
        let kind = statfs(root)
            .with_context(|| format!("statfs `{ROOT}`"))?
            .filesystem_type();
        if kind == CGROUP2_SUPER_MAGIC {
            // mountinfo is as long as the host has mounts: on v2 nothing of it is needed.
            return Ok(Self::Unified {
                mount: root.to_owned(),
            });
        }
        let cgroups =
            std::fs::read_to_string("/proc/self/cgroup").context("read `/proc/self/cgroup`")?;
        let hierarchies = parse(&mountinfo::read_own()?, &cgroups);
        ensure!(
            hierarchies.iter().any(|h| h.controllers != [""]),
            "no cgroup hierarchy is mounted below `{ROOT}`"
        );
        Ok(Self::Legacy { hierarchies })
    }
}

/// The runtime's own cgroup in the v2 hierarchy, a clean path.
pub(crate) fn own_unified() -> Result<String> {
    unified_path("/proc/self/cgroup")
}

/// The v2 line of a /proc/PID/cgroup file, a clean path.
pub(crate) fn unified_path(file: &str) -> Result<String> {
    let text = read_text(file).with_context(|| format!("read `{file}`"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("0::"));
    let path = line.with_context(|| format!("`{file}` has no cgroup v2 line"))?;
    // ` (deleted)` marks a cgroup that is no more; its name can not be used.
    ensure!(!path.ends_with(" (deleted)"), "`{file}`: cgroup `{path}`");
    Ok(path::clean(path))
}

/// Puts the mounts below /sys/fs/cgroup together with the process's own cgroups. The first mount of a hierarchy counts.
pub(crate) fn parse(table: &[u8], cgroups: &str) -> Vec<Hierarchy> {
    let own: Vec<(&str, &str)> = cgroups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .collect();
    let mut out: Vec<Hierarchy> = Vec::new();
    for line in mountinfo::lines(table) {
        let found = own
            .iter()
            .find(|(controllers, _)| is_of(&line, controllers));
        let Some((controllers, own_path)) = found else {
            continue;
        };
        let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
        let mount = line.point();
        if !mount.starts_with(ROOT) || out.iter().any(|h| h.controllers == controllers) {
            continue;
        }
        let root = path::clean(&line.root().to_string_lossy());
        let own = path::clean(own_path);
        let own = strip(&own, &root).unwrap_or_default().to_owned();
        out.push(Hierarchy {
            controllers,
            mount,
            root: format!("/{root}"),
            own,
        });
    }
    out
}

/// Whether it is a mount of the hierarchy with these controllers.
fn is_of(mount: &mountinfo::Line<'_>, controllers: &str) -> bool {
    match mount.kind {
        b"cgroup2" => controllers.is_empty(),
        b"cgroup" => !controllers.is_empty() && controllers.split(',').all(|c| mount.super_has(c)),
        _ => false,
    }
}

/// `path` relative to `base`, both clean, by components.
fn strip<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(base)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 30 0:23 / /proc rw shared:5 - proc proc rw
32 31 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
34 32 0:30 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
35 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
36 32 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
37 32 0:33 / /sys/fs/cgroup/odd\\040name rw - cgroup cgroup rw,pids
38 32 0:31 / /mnt/cpu rw - cgroup cgroup rw,cpu,cpuacct
";

    const OWN: &str = "\
12:pids:/user.slice
5:cpu,cpuacct:/
4:memory:/docker/abc/x
2:net_cls,net_prio:/
1:name=systemd:/init.scope
0::/init.scope
";

    #[test]
    fn hybrid_host() {
        let found = parse(HYBRID.as_bytes(), OWN);
        let of = |controller: &str| {
            found
                .iter()
                .find(|h| h.controllers[0] == controller)
                .unwrap()
        };
        assert_eq!(found.len(), 5);
        assert_eq!(of("cpu").controllers, ["cpu", "cpuacct"]);
        assert_eq!(of("cpu").mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(of("").mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(of("").own, "init.scope");
        assert_eq!(of("memory").root, "/docker/abc");
        assert_eq!(of("memory").own, "x");
        assert_eq!(of("pids").mount, Path::new("/sys/fs/cgroup/odd name"));
        assert_eq!(of("name=systemd").own, "init.scope");
    }

    #[test]
    fn stripping_is_by_components() {
        assert_eq!(strip("a/b/c", "a/b"), Some("c"));
        assert_eq!(strip("a/bc", "a/b"), None);
        assert_eq!(strip("a/b", "a/b"), Some(""));
        assert_eq!(strip("a", ""), Some("a"));
    }
}
