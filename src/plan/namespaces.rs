//! Which namespaces a container makes, which it joins by path, and whether that needs a stage process. Pure.
//! Built by `plan::plan`; used by `container/create.rs` (clone flags) and `init` (joining).

use std::path::PathBuf;

use anyhow::{Result, ensure};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use serde::{Deserialize, Serialize};

/// A kind of namespace, in the order in which they are joined: user first, for the rights that it brings; mount last, for
/// the paths that it takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    User,
    Ipc,
    Uts,
    Network,
    Pid,
    Cgroup,
    Time,
    Mount,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::User,
        Kind::Ipc,
        Kind::Uts,
        Kind::Network,
        Kind::Pid,
        Kind::Cgroup,
        Kind::Time,
        Kind::Mount,
    ];

    /// The flag of clone(2) and setns(2).
    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // Unknown to `nix`.
            Kind::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
            Kind::Mount => CloneFlags::CLONE_NEWNS,
        }
    }

    /// The word of config.json.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Network => "network",
            Kind::Pid => "pid",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
            Kind::Mount => "mount",
        }
    }

    /// What its file below /proc/PID/ns is called, and what CRIU calls it.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Mount => "mnt",
            other => other.name(),
        }
    }
}

/// A namespace to join.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// Place in `linux.namespaces`, for messages.
    pub(crate) index: usize,
}

/// One line of uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMap {
    pub(crate) container: u32,
    pub(crate) host: u32,
    pub(crate) size: u32,
}

/// What a clock of a new time namespace is ahead of the host's (time_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub(crate) clock: String,
    pub(crate) secs: i64,
    pub(crate) nanosecs: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Namespaces {
    /// Kinds to make anew.
    pub(crate) new: Vec<Kind>,
    /// Kinds to join, in joining order.
    pub(crate) join: Vec<Join>,
    pub(crate) uid_map: Vec<IdMap>,
    pub(crate) gid_map: Vec<IdMap>,
    /// Only of a new time namespace, and only what is not 0.
    pub(crate) time_offsets: Vec<TimeOffset>,
}

impl Namespaces {
    pub(crate) fn makes(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    pub(crate) fn joins(&self, kind: Kind) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Whether the container does not share the runtime's namespace of this kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// Every kind the container does not share with the runtime.
    pub(crate) fn own(&self) -> Vec<Kind> {
        let mut own: Vec<Kind> = self
            .new
            .iter()
            .copied()
            .chain(self.join.iter().map(|join| join.kind))
            .collect();
        own.sort_unstable();
        own
    }

    /// Clone flags of everything new. Not of a time namespace with offsets: who is born in one finds its clocks fixed, so the
    /// init makes it, waits for the offsets and then enters it.
    pub(crate) fn new_flags(&self) -> CloneFlags {
        self.new
            .iter()
            .filter(|kind| **kind != Kind::Time || self.time_offsets.is_empty())
            .fold(CloneFlags::empty(), |flags, kind| flags | kind.flag())
    }

    /// Whether the init must come of a process that has joined namespaces first. A new user namespace takes the rights to
    /// join the host's namespaces away, and a joined one must own the namespaces that are new (user_namespaces(7)); in both
    /// cases joining comes before what is new is made.
    pub(crate) fn needs_stage(&self) -> bool {
        !self.join.is_empty() && self.has(Kind::User)
    }
}

fn kind_of(name: LinuxNamespaceType) -> Kind {
    match name {
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Network => Kind::Network,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Time => Kind::Time,
    }
}

pub(super) fn id_map(mappings: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let convert = |map: &LinuxIdMapping| IdMap {
        container: map.container_id(),
        host: map.host_id(),
        size: map.size(),
    };
    mappings.into_iter().flatten().map(convert).collect()
}

/// Plans `linux.namespaces`, `linux.uidMappings` and `linux.gidMappings` (whose shape `spec::validate` has checked).
pub(crate) fn plan(linux: &Linux) -> Result<Namespaces> {
    let mut planned = Namespaces::default();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = kind_of(namespace.typ());
        match namespace
            .path()
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty())
        {
            Some(path) => {
                ensure!(
                    path.is_absolute(),
                    "linux.namespaces[{index}].path: `{}` is not absolute",
                    path.display()
                );
                planned.join.push(Join {
                    kind,
                    path: path.clone(),
                    index,
                });
            }
            None => planned.new.push(kind),
        }
    }
    planned.join.sort_by_key(|join| join.kind);
    if planned.has(Kind::User) {
        planned.uid_map = id_map(linux.uid_mappings().as_ref());
        planned.gid_map = id_map(linux.gid_mappings().as_ref());
    }
    if planned.makes(Kind::User) {
        ensure!(
            !planned.uid_map.is_empty(),
            "linux.uidMappings: a new user namespace needs at least one mapping"
        );
        ensure!(
            !planned.gid_map.is_empty(),
            "linux.gidMappings: a new user namespace needs at least one mapping"
        );
    }
    planned.time_offsets = time_offsets(linux, &planned)?;
    Ok(planned)
}

/// `linux.timeOffsets`. Those of a namespace that is joined were fixed when it got its first process.
fn time_offsets(linux: &Linux, planned: &Namespaces) -> Result<Vec<TimeOffset>> {
    let given = linux.time_offsets().iter().flatten();
    let mut offsets = Vec::new();
    for (clock, offset) in given {
        ensure!(
            planned.has(Kind::Time),
            "linux.timeOffsets: time offsets without a time namespace in linux.namespaces"
        );
        ensure!(
            planned.makes(Kind::Time),
            "linux.timeOffsets: the time namespace is joined by path: its offsets cannot be set any more"
        );
        ensure!(
            ["monotonic", "boottime"].contains(&clock.as_str()),
            "linux.timeOffsets[{clock:?}]: is not a clock that can be offset (`monotonic`, `boottime`)"
        );
        let nanosecs = offset.nanosecs().unwrap_or(0);
        ensure!(
            nanosecs < 1_000_000_000,
            "linux.timeOffsets[{clock:?}].nanosecs: {nanosecs} is not below 1000000000"
        );
        let secs = offset.secs().unwrap_or(0);
        if (secs, nanosecs) != (0, 0) {
            offsets.push(TimeOffset {
                clock: clock.clone(),
                secs,
                nanosecs,
            });
        }
    }
    offsets.sort_by(|a, b| a.clock.cmp(&b.clock));
    Ok(offsets)
}

/// The text of timens_offsets, one line a clock.
pub(crate) fn offsets_text(offsets: &[TimeOffset]) -> String {
    offsets.iter().fold(String::new(), |text, offset| {
        text + &format!("{} {} {}\n", offset.clock, offset.secs, offset.nanosecs)
    })
}

/// The text of a map file, one line a mapping.
pub(crate) fn map_text(map: &[IdMap]) -> String {
    map.iter().fold(String::new(), |text, line| {
        text + &format!("{} {} {}\n", line.container, line.host, line.size)
    })
}

/// Whether a map is nothing but this id of the host: the one that the kernel takes from a user without rights.
pub(crate) fn is_own_alone(map: &[IdMap], own: u32) -> bool {
    matches!(map, [only] if only.size == 1 && only.host == own)
}

/// The host's id of a container's id, `None` where it is not mapped. Without mappings ids are the host's.
pub(crate) fn host_id(map: &[IdMap], id: u32) -> Option<u32> {
    if map.is_empty() {
        return Some(id);
    }
    map.iter()
        .find(|line| id >= line.container && id - line.container < line.size)
        .map(|line| line.host + (id - line.container))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Namespaces> {
        plan(&serde_json::from_str::<Linux>(json).unwrap())
    }

    #[test]
    fn joins_come_user_first_and_mount_last() {
        let planned = parse(
            r#"{"namespaces":[{"type":"mount","path":"/m"},{"type":"pid"},{"type":"user","path":"/u"},
            {"type":"network","path":"/n"}]}"#,
        )
        .unwrap();
        let kinds: Vec<Kind> = planned.join.iter().map(|join| join.kind).collect();
        assert_eq!(kinds, [Kind::User, Kind::Network, Kind::Mount]);
        assert!(planned.needs_stage());
        assert_eq!(planned.new_flags(), CloneFlags::CLONE_NEWPID);
    }

    #[test]
    fn plain_joins_need_no_stage() {
        let planned =
            parse(r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/n"}]}"#).unwrap();
        assert!(!planned.needs_stage());
        assert_eq!(planned.new_flags(), CloneFlags::CLONE_NEWNS);
    }

    #[test]
    fn ids_are_mapped_line_by_line() {
        let map = [
            IdMap {
                container: 0,
                host: 1000,
                size: 10,
            },
            IdMap {
                container: 10,
                host: 5000,
                size: 5,
            },
        ];
        assert_eq!(host_id(&map, 9), Some(1009));
        assert_eq!(host_id(&map, 10), Some(5000));
        assert_eq!(host_id(&map, 15), None);
        assert_eq!(host_id(&[], 15), Some(15));
        assert_eq!(map_text(&map), "0 1000 10\n10 5000 5\n");
    }

    #[test]
    fn only_the_own_id_alone_needs_no_helper() {
        let line = |container, host, size| IdMap {
            container,
            host,
            size,
        };
        assert!(is_own_alone(&[line(0, 1000, 1)], 1000));
        assert!(is_own_alone(&[line(7, 1000, 1)], 1000));
        assert!(!is_own_alone(&[line(0, 1000, 2)], 1000));
        assert!(!is_own_alone(&[line(0, 1001, 1)], 1000));
        assert!(!is_own_alone(
            &[line(0, 1000, 1), line(1, 100_000, 1)],
            1000
        ));
    }

    #[test]
    fn offsets_are_for_a_new_time_namespace_alone() {
        let planned = parse(
            r#"{"namespaces":[{"type":"time"}],"timeOffsets":{"monotonic":{"secs":-5,"nanosecs":7},"boottime":{"secs":86400}}}"#,
        )
        .unwrap();
        assert!(planned.new_flags().is_empty());
        assert_eq!(
            offsets_text(&planned.time_offsets),
            "boottime 86400 0\nmonotonic -5 7\n"
        );
        let planned = parse(r#"{"namespaces":[{"type":"time"}],"timeOffsets":{"boottime":{}}}"#);
        assert_eq!(planned.unwrap().new_flags(), Kind::Time.flag());
        for (json, wanted) in [
            (
                r#"{"namespaces":[{"type":"time","path":"/t"}],"timeOffsets":{"boottime":{"secs":1}}}"#,
                "joined by path",
            ),
            (
                r#"{"namespaces":[],"timeOffsets":{"boottime":{"secs":1}}}"#,
                "without a time namespace",
            ),
            (
                r#"{"namespaces":[{"type":"time"}],"timeOffsets":{"realtime":{"secs":1}}}"#,
                "[\"realtime\"]: is not a clock",
            ),
            (
                r#"{"namespaces":[{"type":"time"}],"timeOffsets":{"boottime":{"nanosecs":1000000000}}}"#,
                ".nanosecs: 1000000000",
            ),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(
                error.starts_with("linux.timeOffsets") && error.contains(wanted),
                "{error}"
            );
        }
    }

    #[test]
    fn a_new_user_namespace_needs_mappings() {
        let error = parse(r#"{"namespaces":[{"type":"user"}]}"#)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("linux.uidMappings"), "{error}");
    }
}
