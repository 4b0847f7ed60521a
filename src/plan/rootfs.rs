//! [`RootfsPlan`]: everything that happens to the container's file system, as plain data. Pure; made by the parent,
//! carried out by `rootfs/`. Without a mount namespace of its own a container mounts on a copy of its root that is attached
//! nowhere, so that nobody else's mounts change (M5); what that cannot give is refused.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;

use super::devices::{self, Node};
use super::id_mounts;
use super::mount_options;
use super::mounts::{self, Facts, MountKind, MountOp, Propagation, clean};

/// Whose mounts the container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountNamespace {
    /// Its own: all of the plan applies.
    New,
    /// The host's or that of others, which stays as it is: the root and what is mounted in it are a tree of the container's
    /// alone, attached nowhere.
    Detached,
    /// The same, with nothing to mount: only chroot(2) is left.
    Foreign,
}

/// The namespaces that decide how mounts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) mount: MountNamespace,
    pub(crate) user: bool,
    pub(crate) pid: bool,
    pub(crate) cgroup: bool,
}

/// A root file system assembled from layers in the container's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// Topmost first; never empty.
    pub(crate) lowers: Vec<PathBuf>,
    /// Directories for what is written and for the kernel's work; a private tmpfs where there are none, which leaves
    /// the layers untouched and is gone with the container.
    pub(crate) upper: Option<Upper>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upper {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RootfsPlan {
    pub(crate) root: PathBuf,
    pub(crate) readonly: bool,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<MountOp>,
    /// `None` where the config binds a /dev: then its nodes and links are the caller's matter.
    pub(crate) nodes: Option<Vec<Node>>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) mount_label: Option<String>,
}

const OVERLAY: &str = "org.rundlet.rootfs.overlay.";

/// Plans the file system of a container of this config in this (absolute) bundle directory.
pub(crate) fn plan(spec: &oci::Spec, bundle: &Path) -> Result<RootfsPlan> {
    let root = spec.root().as_ref().context("root: is missing")?;
    if root.path().as_os_str().is_empty() {
        bail!("root.path: is empty");
    }
    let path = bundle.join(root.path());
    let linux = spec.linux().as_ref();
    let namespaces = namespaces(linux);
    let mount_label = linux
        .and_then(|linux| linux.mount_label().clone())
        .filter(|label| !label.is_empty());
    let gids = container_gids(linux, namespaces);
    let user = id_mounts::user_namespace(linux);
    let context = Facts {
        bundle,
        mount_label: mount_label.as_deref(),
        gids: gids.as_deref(),
        user: user.as_ref(),
    };
    let mounts = mounts::plan(spec.mounts().as_deref().unwrap_or_default(), &context)?;
    let propagation = linux
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .filter(|word| !word.is_empty())
        .map(mount_options::root_propagation)
        .transpose()?;
    let requested = linux
        .and_then(|linux| linux.devices().as_deref())
        .unwrap_or_default();
    let nodes = devices::plan(requested)?;
    let bound_dev = mounts
        .iter()
        .any(|op| op.destination == Path::new("/dev") && matches!(op.kind, MountKind::Bind { .. }));
    let mut plan = RootfsPlan {
        overlay: overlay(spec, bundle, &path)?,
        root: path,
        readonly: root.readonly().unwrap_or(false),
        propagation,
        namespaces,
        mounts,
        nodes: (!bound_dev).then_some(nodes),
        masked: paths(
            "linux.maskedPaths",
            linux.and_then(|l| l.masked_paths().as_deref()),
        )?,
        read_only: paths(
            "linux.readonlyPaths",
            linux.and_then(|l| l.readonly_paths().as_deref()),
        )?,
        mount_label,
    };
    if plan.namespaces.mount != MountNamespace::New {
        plan.namespaces.mount = without_namespace(&plan)?;
    }
    Ok(plan)
}

impl RootfsPlan {
    /// Whether the parent opens the source of this bind: because the container's user may not reach it, or because only the
    /// host's root may map its ids.
    pub(crate) fn opens_early(&self, op: &MountOp) -> bool {
        self.namespaces.user || op.idmap.is_some()
    }

    /// Adds a bind mount of the runtime's own, after those of config.json.
    pub(crate) fn add_bind(
        &mut self,
        source: PathBuf,
        destination: &str,
        options: &[&str],
    ) -> Result<()> {
        if self.namespaces.mount == MountNamespace::Foreign {
            bail!("`{destination}` needs a new mount namespace, and linux.namespaces has none");
        }
        let index = self.mounts.len();
        self.mounts
            .push(mounts::bind(index, source, destination, options));
        Ok(())
    }
}

fn namespaces(linux: Option<&oci::Linux>) -> Namespaces {
    let list = linux
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default();
    let has = |typ: Type| list.iter().any(|namespace| namespace.typ() == typ);
    let own_mounts = list.iter().any(|namespace| {
        let joined = namespace
            .path()
            .as_ref()
            .is_some_and(|path| !path.as_os_str().is_empty());
        namespace.typ() == Type::Mount && !joined
    });
    Namespaces {
        mount: if own_mounts {
            MountNamespace::New
        } else {
            MountNamespace::Foreign
        },
        user: has(Type::User),
        pid: has(Type::Pid),
        cgroup: has(Type::Cgroup),
    }
}

/// The group ids of a user namespace that this config maps.
fn container_gids(linux: Option<&oci::Linux>, namespaces: Namespaces) -> Option<Vec<(u32, u32)>> {
    if !namespaces.user {
        return None;
    }
    let mappings = linux?.gid_mappings().as_deref()?;
    if mappings.is_empty() {
        return None;
    }
    Some(
        mappings
            .iter()
            .map(|map| (map.container_id(), map.size()))
            .collect(),
    )
}

fn paths(at: &str, list: Option<&[String]>) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for (index, path) in list.unwrap_or_default().iter().enumerate() {
        if !path.starts_with('/') {
            bail!("{at}[{index}]: `{path}` is not absolute");
        }
        out.push(clean(Path::new(path)));
    }
    Ok(out)
}

fn overlay(spec: &oci::Spec, bundle: &Path, root: &Path) -> Result<Option<Overlay>> {
    let get = |name: &str| {
        let annotations = spec.annotations().as_ref()?;
        annotations
            .get(&format!("{OVERLAY}{name}"))
            .map(String::as_str)
    };
    let (lower, upper, work) = (get("lower"), get("upper"), get("work"));
    if lower.is_none() && upper.is_none() && work.is_none() {
        return Ok(None);
    }
    for (name, value) in [("lower", lower), ("upper", upper), ("work", work)] {
        if value.is_some_and(|value| value.contains('\0')) {
            bail!("annotations[\"{OVERLAY}{name}\"]: contains a NUL byte");
        }
    }
    let lowers = match lower {
        None | Some("") => vec![root.to_owned()],
        Some(list) => {
            if list.split(':').any(str::is_empty) {
                bail!("annotations[\"{OVERLAY}lower\"]: a layer of `{list}` is empty");
            }
            list.split(':').map(|layer| bundle.join(layer)).collect()
        }
    };
    let upper = match (upper, work) {
        (None, None) => None,
        (Some(upper), Some(work)) if !upper.is_empty() && !work.is_empty() => Some(Upper {
            upper: bundle.join(upper),
            work: bundle.join(work),
        }),
        _ => bail!("annotations: `{OVERLAY}upper` and `{OVERLAY}work` are needed together"),
    };
    Ok(Some(Overlay { lowers, upper }))
}

/// M5: what cannot be done without touching the mounts of others is refused, not done to them and not left out.
fn without_namespace(plan: &RootfsPlan) -> Result<MountNamespace> {
    let refused = [
        (plan.overlay.is_some(), "annotations: an overlay root"),
        // What a mount that is attached nowhere passes on, nobody gets.
        (plan.propagation.is_some(), "linux.rootfsPropagation"),
    ];
    let mounted = [
        (!plan.mounts.is_empty(), "mounts"),
        (plan.readonly, "root.readonly"),
        (!plan.masked.is_empty(), "linux.maskedPaths"),
        (!plan.read_only.is_empty(), "linux.readonlyPaths"),
    ];
    let first = |fields: &[(bool, &'static str)]| {
        let found = fields.iter().find(|(is_wanted, _)| *is_wanted);
        found.map(|(_, field)| *field)
    };
    // Mounting is a right over the mount namespace, which the root of another user namespace does not have.
    let denied = first(&mounted).filter(|_| plan.namespaces.user);
    if let Some(field) = first(&refused).or(denied) {
        bail!(
            "{field}: needs a new mount namespace, and linux.namespaces has none (a joined one belongs to others)"
        );
    }
    Ok(match first(&mounted) {
        Some(_) => MountNamespace::Detached,
        None => MountNamespace::Foreign,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn of(json: &str) -> Result<RootfsPlan> {
        let spec: oci::Spec = serde_json::from_str(json).unwrap();
        plan(&spec, Path::new("/bundle"))
    }

    fn with(root: &str, linux: &str, more: &str) -> String {
        format!(r#"{{"ociVersion":"1.0.2","root":{root},"linux":{linux}{more}}}"#)
    }

    const ROOT: &str = r#"{"path":"rootfs","readonly":false}"#;
    const MNT: &str = r#"{"namespaces":[{"type":"mount"}]}"#;

    #[test]
    fn paths_start_at_the_bundle() {
        let got = of(&with(ROOT, MNT, "")).unwrap();
        assert_eq!(got.root, Path::new("/bundle/rootfs"));
        assert_eq!(got.namespaces.mount, MountNamespace::New);
        assert_eq!(got.nodes.unwrap().len(), 6);
        assert_eq!(got.overlay, None);
    }

    #[test]
    fn a_bound_dev_has_no_nodes_of_ours() {
        let mounts = r#","mounts":[{"destination":"/dev","source":"/dev","options":["rbind"]}]"#;
        assert_eq!(of(&with(ROOT, MNT, mounts)).unwrap().nodes, None);
    }

    #[test]
    fn overlay_annotations() {
        let note = |body: &str| with(ROOT, MNT, &format!(r#","annotations":{{{body}}}"#));
        let lower = r#""org.rundlet.rootfs.overlay.lower":"top:/abs/base""#;
        let got = of(&note(lower)).unwrap().overlay.unwrap();
        let lowers = ["/bundle/top", "/abs/base"].map(PathBuf::from).to_vec();
        assert_eq!(
            got,
            Overlay {
                lowers,
                upper: None
            }
        );
        let dirs =
            r#""org.rundlet.rootfs.overlay.upper":"u","org.rundlet.rootfs.overlay.work":"w""#;
        let got = of(&note(dirs)).unwrap().overlay.unwrap();
        assert_eq!(got.lowers, [Path::new("/bundle/rootfs")]);
        assert_eq!(got.upper.unwrap().work, Path::new("/bundle/w"));
        let half = r#""org.rundlet.rootfs.overlay.upper":"u""#;
        assert!(
            of(&note(half))
                .unwrap_err()
                .to_string()
                .contains("together")
        );
        let hole = r#""org.rundlet.rootfs.overlay.lower":"a::b""#;
        assert!(of(&note(hole)).is_err());
        let null = r#""org.rundlet.rootfs.overlay.lower":"a\u0000b""#;
        assert_eq!(
            of(&note(null)).unwrap_err().to_string(),
            r#"annotations["org.rundlet.rootfs.overlay.lower"]: contains a NUL byte"#
        );
    }

    #[test]
    fn without_a_mount_namespace_the_root_is_detached() {
        let none = r#"{"namespaces":[{"type":"pid"}]}"#;
        let joined =
            r#"{"namespaces":[{"type":"mount","path":"/ns"}],"maskedPaths":["/proc/kcore"]}"#;
        let tmpfs = r#","mounts":[{"destination":"/p","type":"tmpfs"}]"#;
        let read_only = r#"{"path":"r","readonly":true}"#;
        let cases = [
            (with(ROOT, none, ""), MountNamespace::Foreign),
            (with(ROOT, none, tmpfs), MountNamespace::Detached),
            (with(read_only, none, ""), MountNamespace::Detached),
            (with(ROOT, joined, ""), MountNamespace::Detached),
        ];
        for (json, mount) in cases {
            assert_eq!(of(&json).unwrap().namespaces.mount, mount, "{json}");
        }
    }

    #[test]
    fn refused_without_a_mount_namespace() {
        let none = r#"{"namespaces":[{"type":"pid"}]}"#;
        let user = r#"{"namespaces":[{"type":"user"}]}"#;
        let shared =
            r#"{"namespaces":[{"type":"mount","path":"/ns"}],"rootfsPropagation":"shared"}"#;
        let tmpfs = r#","mounts":[{"destination":"/p","type":"tmpfs"}]"#;
        let overlay = r#","annotations":{"org.rundlet.rootfs.overlay.lower":""}"#;
        let cases = [
            (with(ROOT, user, tmpfs), "mounts"),
            (with(ROOT, shared, ""), "linux.rootfsPropagation"),
            (with(ROOT, none, overlay), "annotations"),
        ];
        for (json, field) in cases {
            let error = of(&json).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn relative_masks_are_refused() {
        let linux =
            r#"{"namespaces":[{"type":"mount"}],"maskedPaths":["/proc/kcore","proc/keys"]}"#;
        let error = of(&with(ROOT, linux, "")).unwrap_err().to_string();
        assert!(error.starts_with("linux.maskedPaths[1]"), "{error}");
    }
}
