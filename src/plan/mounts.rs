//! `mounts[]` of config.json -> [`MountOp`]s, carried out in order by `rootfs/mount.rs`. Pure.
//! Decides what a mount is, which destinations are refused (P5) and what options mean (M4).

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime as oci;

use super::id_mounts::{self, IdMapped, UserNamespace};
use super::mount_options::{self, BindLinks, Parsed};

/// `MOUNT_ATTR_*` bits to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

/// `kind` is one of `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Propagation {
    pub(crate) kind: u64,
    pub(crate) recursive: bool,
}

/// One mount to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountOp {
    /// Its place in `mounts`, for messages.
    pub(crate) index: usize,
    /// Absolute, without `.`, `..` and doubled slashes; never `/`.
    pub(crate) destination: PathBuf,
    pub(crate) kind: MountKind,
    /// For this mount alone. Of a bind only what differs from the source's own attributes.
    pub(crate) top: Change,
    /// For this mount and all below it (`rro` and its kin).
    pub(crate) tree: Change,
    /// In the order of the options.
    pub(crate) propagation: Vec<Propagation>,
    /// Only of a bind.
    pub(crate) idmap: Option<IdMapped>,
    /// Only of a bind.
    pub(crate) links: BindLinks,
}

impl MountOp {
    /// Whether its file system may belong to the network namespace of who makes it, as sysfs and those of servers do.
    pub(crate) fn may_use_network(&self) -> bool {
        let MountKind::Fs(fs) = &self.kind else {
            return false;
        };
        let own = matches!(fs.special, Special::Proc | Special::Tmpfs { .. });
        !own && !["devpts", "mqueue"].contains(&fs.fstype.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// Only new attributes for what is already mounted at the destination.
    Remount,
    /// The container's view of its cgroups; which one, [`CgroupMounts`] tells.
    Cgroup,
    Fs(FsMount),
}

/// A file system to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FsMount {
    pub(crate) special: Special,
    pub(crate) fstype: String,
    pub(crate) source: Option<OsString>,
    /// Options without, then with a value, as the file system gets them.
    pub(crate) data: Vec<(String, Option<String>)>,
    /// The SELinux label of its root directory, where it takes none as an option.
    pub(crate) root_label: Option<String>,
}

/// File systems that need more than being mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Proc,
    Sysfs,
    Tmpfs { copy_up: bool },
    None,
}

/// Where the container's cgroups are. Made by the cgroup side of the parent, used for the cgroup mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CgroupMounts {
    /// `path`: the container's cgroup in the host's cgroup2 mount, absolute.
    V2 {
        path: PathBuf,
    },
    V1 {
        hierarchies: Vec<V1Hierarchy>,
    },
    /// None that the container may see (rootless without delegation): an empty read-only directory (G3).
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct V1Hierarchy {
    /// What mounting it takes: `cpu,cpuacct` or `name=systemd`.
    pub(crate) options: String,
    /// The directory it has below `/sys/fs/cgroup`: `cpu,cpuacct`, `systemd`.
    pub(crate) name: String,
    /// The container's cgroup in it, absolute on the host.
    pub(crate) path: PathBuf,
    /// Where the host has it mounted.
    pub(crate) mountpoint: PathBuf,
}

/// Facts of the whole config that decide about single mounts.
pub(crate) struct Facts<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) mount_label: Option<&'a str>,
    /// The group ids that exist inside: (first, count). `None` without a user namespace or where it is joined.
    pub(crate) gids: Option<&'a [(u32, u32)]>,
    /// For id-mapped mounts that take the container's mapping.
    pub(crate) user: Option<&'a UserNamespace>,
}

/// The files below /proc that may be mounted over: what lxcfs provides (P5).
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// `path` as seen from `/`, without `.`, `..` and doubled slashes. Lexical: for decisions and messages, while links
/// are a matter of the lookup below the root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Converts all mounts of the config.
pub(crate) fn plan(mounts: &[oci::Mount], context: &Facts<'_>) -> Result<Vec<MountOp>> {
    let mut ops = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        ops.push(convert(index, mount, context)?);
    }
    Ok(ops)
}

fn convert(index: usize, mount: &oci::Mount, context: &Facts<'_>) -> Result<MountOp> {
    let at = format!("mounts[{index}]");
    if mount.destination().as_os_str().is_empty() {
        bail!("{at}.destination: is empty");
    }
    let destination = clean(mount.destination());
    if destination == Path::new("/") {
        bail!(
            "{at}.destination: `{}` is the root of the container",
            mount.destination().display()
        );
    }
    let words = mount.options().iter().flatten().map(String::as_str);
    let parsed = mount_options::parse(words);
    let fstype = mount.typ().as_deref().unwrap_or("");
    let kind = kind(&at, fstype, mount, &parsed, context)?;
    check_proc(&at, &destination, &kind)?;
    let idmap = id_mounts::plan(&at, mount, parsed.idmap.as_ref(), context.user)?;
    if idmap.is_some() && !matches!(kind, MountKind::Bind { .. }) {
        bail!("{at}.uidMappings: only a bind mount can be id-mapped");
    }
    if parsed.links != BindLinks::default() && !matches!(kind, MountKind::Bind { .. }) {
        bail!(
            "{at}.options: `copy-symlink`, `src-nofollow` and `dest-nofollow` are for bind mounts"
        );
    }
    let (top, tree) = (parsed.top, parsed.tree);
    let top = if matches!(kind, MountKind::Bind { .. }) {
        bind_change(top)
    } else {
        top
    };
    Ok(MountOp {
        index,
        destination,
        kind,
        top,
        tree,
        propagation: parsed.propagation,
        idmap,
        links: parsed.links,
    })
}

/// A bind mount that the runtime adds to those of the config; `options` in the words of config.json.
pub(super) fn bind(index: usize, source: PathBuf, destination: &str, options: &[&str]) -> MountOp {
    let parsed = mount_options::parse(options.iter().copied());
    let kind = MountKind::Bind {
        source,
        recursive: false,
    };
    let (top, tree) = (bind_change(parsed.top), parsed.tree);
    MountOp {
        index,
        destination: clean(Path::new(destination)),
        kind,
        top,
        tree,
        propagation: parsed.propagation,
        idmap: None,
        links: parsed.links,
    }
}

/// `rw` alone, which engines write on every volume that is not `ro`, does not make a read-only source writable.
/// Together with other attributes it means what it says (runc).
fn bind_change(change: Change) -> Change {
    if change.set == 0 && change.clear == libc::MOUNT_ATTR_RDONLY {
        return Change::default();
    }
    change
}

fn kind(
    at: &str,
    fstype: &str,
    mount: &oci::Mount,
    parsed: &Parsed,
    context: &Facts<'_>,
) -> Result<MountKind> {
    if parsed.copy_up && (fstype != "tmpfs" || parsed.bind.is_some() || parsed.remount) {
        bail!("{at}.options: `tmpcopyup` is for a mount of type `tmpfs`");
    }
    if parsed.remount {
        no_data(at, "a remount", parsed)?;
        return Ok(MountKind::Remount);
    }
    let recursive = match parsed.bind {
        Some(recursive) => Some(recursive),
        None if fstype == "bind" => Some(false),
        None => None,
    };
    if let Some(recursive) = recursive {
        no_data(at, "a bind mount", parsed)?;
        let source = mount
            .source()
            .as_deref()
            .filter(|source| !source.as_os_str().is_empty())
            .with_context(|| format!("{at}.source: a bind mount needs one"))?;
        let source = context.bundle.join(source);
        return Ok(MountKind::Bind { source, recursive });
    }
    match fstype {
        "" => bail!("{at}.type: is missing, and the options name no bind mount"),
        "cgroup" | "cgroup2" => {
            // The superblock is the host's, and which hierarchies there are is not for the config to say.
            no_data(at, "the cgroup mount", parsed)?;
            Ok(MountKind::Cgroup)
        }
        _ => Ok(MountKind::Fs(file_system(fstype, mount, parsed, context))),
    }
}

/// M4: neither changes the superblock, so an option for it would be dropped without a word.
fn no_data(at: &str, what: &str, parsed: &Parsed) -> Result<()> {
    if let Some(word) = parsed.superblock.first() {
        bail!("{at}.options: `{word}` is for a file system, {what} has none of its own");
    }
    if let Some((key, _)) = parsed.data.first() {
        bail!("{at}.options: `{key}` is unknown, and {what} takes no data of a file system");
    }
    Ok(())
}

fn file_system(fstype: &str, mount: &oci::Mount, parsed: &Parsed, context: &Facts<'_>) -> FsMount {
    let special = match fstype {
        "proc" => Special::Proc,
        "sysfs" => Special::Sysfs,
        "tmpfs" => Special::Tmpfs {
            copy_up: parsed.copy_up,
        },
        _ => Special::None,
    };
    let mut data: Vec<(String, Option<String>)> = parsed
        .superblock
        .iter()
        .map(|word| (word.clone(), None))
        .collect();
    // A superblock of its own is read-only as a whole (no journal replay). Not the ones shared by a namespace: the
    // attribute of the mount is enough there and leaves other mounts of the same file system alone.
    if parsed.top.set & libc::MOUNT_ATTR_RDONLY != 0
        && special == Special::None
        && !matches!(fstype, "mqueue" | "devpts")
    {
        data.push(("ro".to_owned(), None));
    }
    data.extend(parsed.data.iter().cloned());
    if fstype == "devpts" {
        data.retain(|(key, value)| key != "gid" || group_exists(context.gids, value.as_deref()));
    }
    let label = context.mount_label.map(str::to_owned);
    let root_label = match fstype {
        // proc, sysfs and cgroups are labelled by the policy, file by file.
        "proc" | "sysfs" | "cgroup" | "cgroup2" => None,
        // Its superblock came with the ipc namespace, and a second label for that is refused.
        "mqueue" => label,
        _ => {
            if label.is_some() && !data.iter().any(|(key, _)| key == "context") {
                data.push(("context".to_owned(), label));
            }
            None
        }
    };
    let source = mount
        .source()
        .as_ref()
        .map(|source| source.clone().into_os_string());
    FsMount {
        special,
        fstype: fstype.to_owned(),
        source,
        data,
        root_label,
    }
}

/// `gid=5`, which every default config has, is refused by the kernel where the group is not mapped: then the
/// terminals keep the group of who opens them.
fn group_exists(gids: Option<&[(u32, u32)]>, gid: Option<&str>) -> bool {
    let (Some(gids), Some(Ok(gid))) = (gids, gid.map(str::parse::<u32>)) else {
        return true;
    };
    gids.iter()
        .any(|&(first, count)| gid.checked_sub(first).is_some_and(|offset| offset < count))
}

/// P5: /proc is a fresh procfs or, as `rootfs/mount.rs` verifies, the root of another; below it only known files.
fn check_proc(at: &str, destination: &Path, kind: &MountKind) -> Result<()> {
    let shown = destination.display();
    if destination == Path::new("/proc") {
        let is_proc = matches!(kind, MountKind::Fs(fs) if fs.special == Special::Proc);
        if !is_proc && !matches!(kind, MountKind::Bind { .. } | MountKind::Remount) {
            bail!("{at}.destination: only a mount of type `proc` may be at `/proc`");
        }
    } else if destination.starts_with("/proc")
        && !PROC_FILES.iter().any(|file| destination == Path::new(file))
    {
        bail!("{at}.destination: `{shown}` is inside `/proc`, where mounts are not allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Result<MountOp> {
        one_in(json, None)
    }

    fn one_in(json: &str, gids: Option<&[(u32, u32)]>) -> Result<MountOp> {
        let mount: oci::Mount = serde_json::from_str(json).unwrap();
        let context = Facts {
            bundle: Path::new("/bundle"),
            mount_label: None,
            gids,
            user: None,
        };
        convert(2, &mount, &context)
    }

    #[test]
    fn a_label_goes_to_what_has_no_labels_of_its_own() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let context = Facts {
            bundle: Path::new("/bundle"),
            mount_label: Some(label),
            gids: None,
            user: None,
        };
        let by_option = vec![("context".to_owned(), Some(label.to_owned()))];
        let of_root = Some(label.to_owned());
        for (fstype, data, root) in [
            ("tmpfs", by_option.clone(), None),
            ("devpts", by_option.clone(), None),
            ("ext4", by_option, None),
            ("mqueue", vec![], of_root),
            ("proc", vec![], None),
            ("sysfs", vec![], None),
        ] {
            let json = format!(r#"{{"destination":"/{fstype}","type":"{fstype}"}}"#);
            let destination = match fstype {
                "sysfs" => json.replace("/sysfs", "/sys"),
                _ => json,
            };
            let mount: oci::Mount = serde_json::from_str(&destination).unwrap();
            let MountKind::Fs(fs) = convert(0, &mount, &context).unwrap().kind else {
                panic!("{fstype}")
            };
            assert_eq!((fs.data, fs.root_label), (data, root), "{fstype}");
        }
    }

    fn error(json: &str) -> String {
        format!("{:#}", one(json).unwrap_err())
    }

    #[test]
    fn destinations_are_cleaned() {
        assert_eq!(clean(Path::new("//proc/")), Path::new("/proc"));
        assert_eq!(clean(Path::new("/a/../../b/./c//")), Path::new("/b/c"));
        assert_eq!(clean(Path::new("data")), Path::new("/data"));
        assert_eq!(clean(Path::new("../..")), Path::new("/"));
        let got = error(r#"{"destination":"/x/..","type":"tmpfs"}"#);
        assert!(got.starts_with("mounts[2].destination:"), "{got}");
    }

    #[test]
    fn binds() {
        let got = one(r#"{"destination":"v","source":"vol","options":["rbind","rw","rprivate"]}"#);
        let got = got.unwrap();
        let kind = MountKind::Bind {
            source: "/bundle/vol".into(),
            recursive: true,
        };
        assert_eq!(
            (got.kind, got.destination.as_path()),
            (kind, Path::new("/v"))
        );
        assert_eq!(got.top, Change::default());
        let got =
            one(r#"{"destination":"/v","type":"bind","source":"/s","options":["rw","nodev"]}"#);
        let got = got.unwrap();
        assert_eq!(
            got.kind,
            MountKind::Bind {
                source: "/s".into(),
                recursive: false
            }
        );
        assert_eq!(got.top.clear, libc::MOUNT_ATTR_RDONLY);
        assert!(error(r#"{"destination":"/v","type":"bind"}"#).contains("mounts[2].source"));
    }

    #[test]
    fn data_on_a_bind_is_an_error() {
        for word in ["size=5", "sync", "idmapped", "tmpcopyup"] {
            let json = format!(
                r#"{{"destination":"/v","source":"/s","type":"bind","options":["bind","{word}"]}}"#
            );
            let text = error(&json);
            assert!(text.starts_with("mounts[2].options: "), "{text}");
        }
    }

    #[test]
    fn proc_is_guarded() {
        assert!(one(r#"{"destination":"//proc/","type":"proc"}"#).is_ok());
        assert!(one(r#"{"destination":"/proc","source":"/proc","options":["rbind"]}"#).is_ok());
        assert!(one(r#"{"destination":"/proc/uptime","source":"/u","options":["bind"]}"#).is_ok());
        for bad in ["/proc/", "/x/../proc"] {
            let json = format!(r#"{{"destination":"{bad}","type":"tmpfs"}}"#);
            assert!(error(&json).contains("`proc`"), "{bad}");
        }
        for bad in [
            "/proc/net/dev",
            "/proc/self/attr",
            "/proc/sys",
            "//proc/sys/kernel/../kernel",
        ] {
            let json = format!(r#"{{"destination":"{bad}","source":"/u","options":["bind"]}}"#);
            assert!(error(&json).contains("inside `/proc`"), "{bad}");
        }
        assert!(one(r#"{"destination":"/process","type":"tmpfs"}"#).is_ok());
    }

    #[test]
    fn a_group_that_is_not_mapped_is_left_out_of_devpts() {
        let json =
            r#"{"destination":"/dev/pts","type":"devpts","options":["newinstance","gid=5"]}"#;
        let data = |gids: Option<&[(u32, u32)]>| match one_in(json, gids).unwrap().kind {
            MountKind::Fs(fs) => fs.data.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(data(None), 2);
        assert_eq!(data(Some(&[(0, 1)])), 1);
        assert_eq!(data(Some(&[(0, 5)])), 1);
        assert_eq!(data(Some(&[(0, 1), (5, 1)])), 2);
    }

    #[test]
    fn read_only_reaches_the_superblock_only_of_private_ones() {
        let data = |fstype: &str| {
            let json = format!(r#"{{"destination":"/m","type":"{fstype}","options":["ro"]}}"#);
            match one(&json).unwrap().kind {
                MountKind::Fs(fs) => fs.data,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(data("ext4"), [("ro".to_owned(), None)]);
        for shared in ["sysfs", "proc", "tmpfs", "mqueue"] {
            let json = format!(r#"{{"destination":"/m","type":"{shared}","options":["ro"]}}"#);
            if let MountKind::Fs(fs) = one(&json).unwrap().kind {
                assert_eq!(fs.data, [], "{shared}");
            }
        }
    }

    #[test]
    fn only_binds_are_id_mapped() {
        let maps = r#""uidMappings":[{"hostID":1,"containerID":0,"size":1}],
            "gidMappings":[{"hostID":1,"containerID":0,"size":1}]"#;
        let json =
            format!(r#"{{"destination":"/v","source":"/s","options":["bind","ro"],{maps}}}"#);
        let got = one(&json).unwrap();
        assert!(got.idmap.is_some() && got.top.set == libc::MOUNT_ATTR_RDONLY);
        for other in [
            r#""type":"tmpfs""#,
            r#""type":"overlay","options":["lowerdir=/a"]"#,
            r#""options":["bind","remount","ro"]"#,
        ] {
            let text = error(&format!(r#"{{"destination":"/v",{other},{maps}}}"#));
            assert!(
                text.starts_with("mounts[2].uidMappings: only a bind"),
                "{text}"
            );
        }
    }
}
