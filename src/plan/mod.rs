//! config.json plus facts of the host become a [`Plan`], plain data, before anything happens: after the clone nothing parses
//! and nothing decides. Pure but for `host`. Called by `container`.

pub(crate) mod delegation;
pub(crate) mod device_rule;
pub(crate) mod devices;
pub(crate) mod hooks;
pub(crate) mod host;
pub(crate) mod id_list;
pub(crate) mod id_mounts;
pub(crate) mod landlock;
pub(crate) mod live_mounts;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
pub(crate) mod outside;
pub(crate) mod process;
pub(crate) mod rdt;
pub(crate) mod resource_checks;
pub(crate) mod resources;
pub(crate) mod rootfs;
pub(crate) mod rootless;
pub(crate) mod scheduling;
#[cfg(test)]
mod schema_tests;
pub(crate) mod seccomp;
pub(crate) mod state;
pub(crate) mod update;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::runtime::{LinuxPersonalityDomain, Spec};

use self::delegation::Delegation;
use self::hooks::Hooks;
use self::landlock::Landlock;
use self::memory_policy::MemoryPolicy;
use self::namespaces::{Kind, Namespaces};
use self::net_devices::NetDevice;
use self::process::Process;
use self::resources::Resources;
use self::rootfs::RootfsPlan;
use self::state::State;
use crate::spec;

/// One container, decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) state: State,
    pub(crate) namespaces: Namespaces,
    pub(crate) rootfs: RootfsPlan,
    pub(crate) process: Process,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctl: Vec<Sysctl>,
    pub(crate) net_devices: Vec<NetDevice>,
    /// The execution domain as personality(2) takes it.
    pub(crate) personality: Option<i32>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) cgroups_path: Option<String>,
    pub(crate) delegation: Delegation,
    pub(crate) resources: Resources,
    pub(crate) rdt: Option<rdt::Rdt>,
    pub(crate) seccomp: Option<seccomp::Profile>,
    pub(crate) landlock: Option<Landlock>,
    pub(crate) hooks: Hooks,
    /// Whether init and exec get a session keyring of the container's.
    pub(crate) new_keyring: bool,
    /// The root is moved over instead of pivoted to.
    pub(crate) no_pivot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// As in config.json.
    pub(crate) key: String,
    /// Below /proc/sys.
    pub(crate) path: String,
    pub(crate) value: String,
}

/// What the command line decides beside the config.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) overlay: Overlay,
    pub(crate) no_pivot: bool,
    pub(crate) new_keyring: bool,
}

/// `--overlay` and `--overlay-upper`: the same as the annotations, and over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overlay {
    #[default]
    AsConfig,
    /// Over `root.path`; what is written goes away with the container.
    Temporary,
    /// Over `root.path`; what is written stays in this directory. The kernel's work directory lies beside it (`DIR.work`).
    Upper(PathBuf),
}

/// Makes the plan of container `id`. `bundle` is absolute and clean.
pub(crate) fn build(spec: &Spec, id: &str, bundle: &Path, options: &Options) -> Result<Plan> {
    let process = spec.process().as_ref().context("process: is required")?;
    let linux = spec.linux().clone().unwrap_or_default();
    let namespaces = namespaces::plan(&linux)?;
    let process = process::plan(process, "process")?;
    check_mapped(&process, &namespaces)?;
    let mut rootfs = rootfs::plan(spec, bundle)?;
    apply_overlay(&mut rootfs, &options.overlay)?;
    let seccomp = linux.seccomp().as_ref().map(seccomp::plan).transpose()?;
    let annotations = spec
        .annotations()
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(Plan {
        state: State {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            annotations,
        },
        rootfs,
        process,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        sysctl: sysctls(&linux)?,
        net_devices: net_devices::plan(&linux, &namespaces)?,
        personality: personality(&linux)?,
        memory_policy: memory_policy::plan(&linux)?,
        cgroups_path: linux
            .cgroups_path()
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        delegation: delegation::plan(spec, &namespaces)?,
        rdt: rdt::plan(&linux)?,
        resources: linux
            .resources()
            .as_ref()
            .map(resources::plan)
            .transpose()?
            .unwrap_or_default(),
        seccomp,
        landlock: landlock::plan(spec.annotations().as_ref())?,
        hooks: hooks::plan(spec.hooks().as_ref())?,
        new_keyring: options.new_keyring,
        no_pivot: options.no_pivot,
        namespaces,
    })
}

/// Ids that the user namespace does not map could not be become; said before anything is made.
fn check_mapped(process: &Process, namespaces: &Namespaces) -> Result<()> {
    if !namespaces.makes(Kind::User) {
        return Ok(());
    }
    let (uids, gids) = (&namespaces.uid_map, &namespaces.gid_map);
    let (uid, gid) = (process.user.uid, process.user.gid);
    let mapped = |map, id| namespaces::host_id(map, id).is_some();
    ensure!(
        mapped(uids, 0),
        "linux.uidMappings: container id 0 must be mapped: the container is set up as its root"
    );
    ensure!(
        mapped(gids, 0),
        "linux.gidMappings: container id 0 must be mapped: the container is set up as its root"
    );
    ensure!(
        mapped(uids, uid),
        "process.user.uid: {uid} is not mapped by linux.uidMappings"
    );
    ensure!(
        mapped(gids, gid),
        "process.user.gid: {gid} is not mapped by linux.gidMappings"
    );
    for (index, gid) in process.user.additional_gids.iter().enumerate() {
        ensure!(
            mapped(gids, *gid),
            "process.user.additionalGids[{index}]: {gid} is not mapped by linux.gidMappings"
        );
    }
    Ok(())
}

fn apply_overlay(rootfs: &mut RootfsPlan, flag: &Overlay) -> Result<()> {
    let upper = match flag {
        Overlay::AsConfig => return Ok(()),
        Overlay::Temporary => None,
        Overlay::Upper(directory) => {
            let mut work = directory.clone().into_os_string();
            work.push(".work");
            Some(rootfs::Upper {
                upper: directory.clone(),
                work: work.into(),
            })
        }
    };
    ensure!(
        rootfs.namespaces.mount == rootfs::MountNamespace::New,
        "--overlay: needs a new mount namespace in linux.namespaces"
    );
    let lowers = rootfs
        .overlay
        .take()
        .map_or_else(|| vec![rootfs.root.clone()], |overlay| overlay.lowers);
    rootfs.overlay = Some(rootfs::Overlay { lowers, upper });
    Ok(())
}

/// Keys were checked by `spec::validate` (Y1); here they become paths.
fn sysctls(linux: &oci_spec::runtime::Linux) -> Result<Vec<Sysctl>> {
    let mut planned = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let path = spec::validate_sysctl::components("linux.sysctl", key)?.join("/");
        planned.push(Sysctl {
            key: key.clone(),
            path,
            value: value.clone(),
        });
    }
    // A map has no order; files are written in one that is the same every time.
    planned.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(planned)
}

/// The numbers of linux/personality.h.
fn personality(linux: &oci_spec::runtime::Linux) -> Result<Option<i32>> {
    let Some(personality) = linux.personality() else {
        return Ok(None);
    };
    if personality.flags().iter().flatten().next().is_some() {
        bail!("linux.personality.flags: no flag is defined by the runtime-spec");
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// Resolves `.` and `..` by the text alone, as runc cleans paths.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    mounts::clean(path)
}
