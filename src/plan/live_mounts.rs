//! What `mounts` may do to a container that runs: which of the mounts given to it can be added, under the rules of config.json's own
//! and some more, and what has been. Pure. Called by `container/mounts.rs`; carried out by `rootfs/live.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use super::id_mounts::UserNamespace;
use super::mount_options::SourceLink;
use super::mounts::{self, Facts, MountKind, MountOp, Special};
use super::rootfs::{MountNamespace, Namespaces, RootfsPlan};

/// More are not taken in one call: they are added all or none, so all are open at once.
const MOST: usize = 100;

/// Mount points of the kernel's views and of devices. What a process needs of them is made with the container.
const KEPT: [&str; 3] = ["/proc", "/sys", "/dev"];

/// One mount that was added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Added {
    /// As it was given.
    pub(crate) mount: serde_json::Value,
    pub(crate) destination: PathBuf,
    /// The kernel's numbers of it: see `sys::mount::mount_numbers`.
    pub(crate) numbers: (u64, u64),
}

/// What has to be known of the container.
pub(crate) struct Container<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) has_user_namespace: bool,
    pub(crate) mount_label: Option<&'a str>,
    /// `linux.maskedPaths`
    pub(crate) masked: &'a [PathBuf],
    pub(crate) added: &'a [Added],
}

/// The mounts as a plan that has nothing else.
pub(crate) fn add(given: &[oci::Mount], container: &Container<'_>) -> Result<RootfsPlan> {
    ensure!(!given.is_empty(), "mounts: names no mount");
    ensure!(
        given.len() <= MOST,
        "mounts: {} are more than the {MOST} that can be added at once",
        given.len()
    );
    // Its mapping is found by its descriptor, as that of a joined one.
    let user = container.has_user_namespace.then(|| UserNamespace {
        joined: true,
        uids: Vec::new(),
        gids: Vec::new(),
    });
    let facts = Facts {
        bundle: container.bundle,
        mount_label: container.mount_label,
        gids: None,
        user: user.as_ref(),
    };
    let mounts = mounts::plan(given, &facts)?;
    for (place, op) in mounts.iter().enumerate() {
        check(op, container)?;
        let again = mounts[..place]
            .iter()
            .any(|other| other.destination == op.destination);
        ensure!(
            !again,
            "mounts[{place}].destination: `{}` is there twice",
            op.destination.display()
        );
    }
    Ok(RootfsPlan {
        root: PathBuf::from("/"),
        readonly: false,
        overlay: None,
        propagation: None,
        namespaces: Namespaces {
            mount: MountNamespace::New,
            user: container.has_user_namespace,
            pid: false,
            cgroup: false,
        },
        mounts,
        nodes: None,
        masked: Vec::new(),
        read_only: Vec::new(),
        mount_label: container.mount_label.map(str::to_owned),
    })
}

fn check(op: &MountOp, container: &Container<'_>) -> Result<()> {
    let at = format!("mounts[{}]", op.index);
    let shown = op.destination.display();
    match &op.kind {
        MountKind::Bind { .. } => {}
        MountKind::Fs(fs) if matches!(fs.special, Special::Tmpfs { .. }) => {}
        MountKind::Remount => bail!(
            "{at}.options: a mount of a running container cannot be remounted: remove it and add it again"
        ),
        MountKind::Cgroup => bail!("{at}.type: {}", only("cgroup")),
        MountKind::Fs(fs) => bail!("{at}.type: {}", only(&fs.fstype)),
    }
    ensure!(
        op.links.source != SourceLink::Copy,
        "{at}.options: `copy-symlink` makes a link, which could not be removed again"
    );
    ensure!(
        !KEPT.iter().any(|kept| op.destination == Path::new(kept)),
        "{at}.destination: nothing can be mounted on `{shown}` of a running container"
    );
    if let Some(masked) = first_below(container.masked, &op.destination) {
        bail!(
            "{at}.destination: `{shown}` would cover `{}` of linux.maskedPaths",
            masked.display()
        );
    }
    let known = container.added.iter();
    ensure!(
        !known
            .map(|added| &added.destination)
            .any(|known| *known == op.destination),
        "{at}.destination: `{shown}` was added already: remove it first"
    );
    Ok(())
}

fn only(fstype: &str) -> String {
    format!("`{fstype}` cannot be mounted in a running container: bind mounts and tmpfs can")
}

fn first_below<'a>(paths: &'a [PathBuf], top: &Path) -> Option<&'a PathBuf> {
    paths.iter().find(|path| path.starts_with(top))
}

/// What is to be kept of the mounts once they are there.
pub(crate) fn added(
    given: &[oci::Mount],
    plan: &RootfsPlan,
    numbers: &[(u64, u64)],
) -> Result<Vec<Added>> {
    ensure!(
        numbers.len() == plan.mounts.len(),
        "{} of {} mounts were reported",
        numbers.len(),
        plan.mounts.len()
    );
    let each = given.iter().zip(&plan.mounts).zip(numbers);
    each.map(|((mount, op), numbers)| {
        Ok(Added {
            mount: serde_json::to_value(mount).context("write the mount as JSON")?,
            destination: op.destination.clone(),
            numbers: *numbers,
        })
    })
    .collect()
}

/// The places in `added` of the mounts to be removed, the one that was added last first. Only their destinations count.
pub(crate) fn remove(given: &[oci::Mount], added: &[Added]) -> Result<Vec<usize>> {
    ensure!(!given.is_empty(), "mounts: names no mount");
    let mut places = Vec::new();
    for (index, mount) in given.iter().enumerate() {
        let destination = mounts::clean(mount.destination());
        let found = added
            .iter()
            .position(|known| known.destination == destination);
        let place = found.with_context(|| {
            format!(
                "mounts[{index}].destination: `{}` is not one that `mounts add` has made",
                destination.display()
            )
        })?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.sort_unstable_by(|one, other| other.cmp(one));
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(json: &str) -> Vec<oci::Mount> {
        serde_json::from_str(json).unwrap()
    }

    fn known(destinations: &[&str]) -> Vec<Added> {
        let one = |path: &&str| Added {
            mount: serde_json::Value::Null,
            destination: PathBuf::from(path),
            numbers: (1, 2),
        };
        destinations.iter().map(one).collect()
    }

    fn planned(json: &str) -> Result<RootfsPlan> {
        add(
            &given(json),
            &Container {
                bundle: Path::new("/b"),
                has_user_namespace: true,
                mount_label: None,
                masked: &[PathBuf::from("/sys/firmware"), PathBuf::from("/opt/a/b")],
                added: &known(&["/taken"]),
            },
        )
    }

    #[test]
    fn binds_and_tmpfs_can_be_added() {
        let got = planned(
            r#"[{"destination":"/x","source":"vol","options":["rbind","ro"]},
            {"destination":"/y","type":"tmpfs","options":["size=1m"]},
            {"destination":"/proc/meminfo","source":"/m","options":["bind"]},
            {"destination":"/z","source":"/z","options":["bind","idmap"]}]"#,
        )
        .unwrap();
        assert_eq!(got.mounts.len(), 4);
        assert!(got.namespaces.user && got.mounts[3].idmap.is_some());
        let bind = MountKind::Bind {
            source: "/b/vol".into(),
            recursive: true,
        };
        assert_eq!(got.mounts[0].kind, bind);
    }

    #[test]
    fn what_a_running_container_cannot_have_is_refused() {
        for (json, wanted) in [
            ("[]", "mounts: names no mount"),
            (
                r#"[{"destination":"/x","type":"proc"}]"#,
                "mounts[0].type: `proc` cannot be",
            ),
            (
                r#"[{"destination":"/x","type":"cgroup"}]"#,
                "mounts[0].type: `cgroup` cannot be",
            ),
            (
                r#"[{"destination":"/x","type":"ext4","source":"/dev/x"}]"#,
                "mounts[0].type: `ext4`",
            ),
            (
                r#"[{"destination":"/x","options":["bind","remount","ro"]}]"#,
                "mounts[0].options: a mount of",
            ),
            (
                r#"[{"destination":"/x","source":"/s","options":["bind","copy-symlink"]}]"#,
                "mounts[0].options: `copy-symlink`",
            ),
            (
                r#"[{"destination":"/x/..","type":"tmpfs"}]"#,
                "mounts[0].destination: `/x/..` is the root",
            ),
            (
                r#"[{"destination":"/dev/","type":"tmpfs"}]"#,
                "mounts[0].destination: nothing can be",
            ),
            (
                r#"[{"destination":"/proc","source":"/proc","options":["bind"]}]"#,
                "mounts[0].destination: nothing can be",
            ),
            (
                r#"[{"destination":"/proc/sys","type":"tmpfs"}]"#,
                "mounts[0].destination: `/proc/sys` is inside",
            ),
            (
                r#"[{"destination":"/opt/a","type":"tmpfs"}]"#,
                "mounts[0].destination: `/opt/a` would cover `/opt/a/b`",
            ),
            (
                r#"[{"destination":"/sys/firmware","type":"tmpfs"}]"#,
                "mounts[0].destination: `/sys/firmware` would cover",
            ),
            (
                r#"[{"destination":"//taken","type":"tmpfs"}]"#,
                "mounts[0].destination: `/taken` was added already",
            ),
            (
                r#"[{"destination":"/x","type":"tmpfs"},{"destination":"/x/","type":"tmpfs"}]"#,
                "mounts[1].destination: `/x` is there twice",
            ),
        ] {
            let error = planned(json).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
        let many = vec![r#"{"destination":"/x","type":"tmpfs"}"#; MOST + 1].join(",");
        let error = planned(&format!("[{many}]")).unwrap_err().to_string();
        assert!(error.starts_with("mounts: 101 are more than"), "{error}");
    }

    #[test]
    fn the_last_added_goes_first() {
        let added = known(&["/a", "/a/b", "/c"]);
        let places = |json| remove(&given(json), &added);
        let both = r#"[{"destination":"/a"},{"destination":"/a/b/"},{"destination":"//a"}]"#;
        assert_eq!(places(both).unwrap(), [1, 0]);
        let error = places(r#"[{"destination":"/etc"}]"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("mounts[0].destination: `/etc` is not one"),
            "{error}"
        );
        assert!(places("[]").is_err());
    }
}
