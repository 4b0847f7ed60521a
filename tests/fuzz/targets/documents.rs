//! config.json, process.json and the document of `update`: refused with a field, or taken, planned and translated for both
//! versions of cgroups, the same each time.

use std::path::{Component, Path};

use super::{FIELDS, refused};
use crate::cgroup::path::Wanted;
use crate::cgroup::systemd::annotations;
use crate::cgroup::systemd::properties::{self, IoFile, List, When};
use crate::cgroup::write::Write;
use crate::cgroup::{v1, v2};
use crate::plan::live_mounts;
use crate::plan::resources::Resources;
use crate::plan::rootfs::RootfsPlan;
use crate::plan::update;
use crate::plan::{self, Options, Plan};
use crate::spec::{self, validate};

const FACTS: validate::HostFacts = validate::HostFacts {
    apparmor: true,
    selinux: true,
    joined_network_is_own: false,
};

pub(super) fn config(bytes: &[u8]) {
    let path = Path::new("config.json");
    let spec = match spec::parse_config(bytes, path) {
        Ok(spec) => spec,
        Err(error) => return refused(&error, "config.json", &FIELDS),
    };
    let written = serde_json::to_vec(&spec).unwrap();
    let again =
        spec::parse_config(&written, path).expect("what was read is written and read again");
    let third = spec::parse_config(&serde_json::to_vec(&again).unwrap(), path).unwrap();
    // Not of the first: the crate leaves empty lists out.
    assert_eq!(again, third);
    let checked = spec::check_config(&spec, path, FACTS);
    if let Err(error) = checked.and_then(|()| validate::for_linux(&spec)) {
        return refused(&error, "config.json", &FIELDS);
    }
    let build = |spec| plan::build(spec, "id", Path::new("/bundle"), &Options::default());
    let planned = match build(&spec) {
        Ok(plan) => plan,
        Err(error) => return refused(&error, "config.json", &FIELDS),
    };
    let other = build(&again).expect("planned a moment before");
    assert_eq!(
        format!("{planned:?}"),
        format!("{other:?}"),
        "the plan of the same config"
    );
    paths(&planned);
    for value in [&planned.process.args, &planned.process.env] {
        assert!(value.iter().all(|text| !text.contains('\0')));
    }
    limits(&planned.resources);
    kept(&planned.process);
    kept(&planned.hooks);
    kept(&planned.resources);
    if let Err(error) = annotations::properties(&planned.state.annotations, &mut List::default()) {
        refused(&error, "config.json", &FIELDS);
    }
    match Wanted::new(planned.cgroups_path.as_deref(), "id") {
        Ok(Wanted::Absolute(path) | Wanted::Relative(path)) => {
            clean(Path::new("/").join(path).as_path());
        }
        Err(error) => refused(&error, "config.json", &FIELDS),
    }
    for version in 0..8 {
        match planned.landlock.clone().map(|rules| rules.fit(version)) {
            Some(Ok((fitted, _))) => kept(&fitted),
            Some(Err(error)) => refused(&error, "config.json", &FIELDS),
            None => break,
        }
    }
    added_live(&spec, &planned);
    if let Some(profile) = &planned.seccomp {
        kept(profile);
        super::filters::agree(profile, bytes);
    }
}

/// The mounts of the config, given to a container of it that runs: refused, or none that hides what the kernel shows.
fn added_live(spec: &oci_spec::runtime::Spec, planned: &Plan) {
    let container = live_mounts::Container {
        bundle: Path::new("/bundle"),
        has_user_namespace: planned.rootfs.namespaces.user,
        mount_label: None,
        masked: &planned.rootfs.masked,
        added: &[],
    };
    let given = spec.mounts().as_deref().unwrap_or_default();
    match live_mounts::add(given, &container) {
        Ok(plan) => {
            paths_of(&plan);
            for masked in &planned.rootfs.masked {
                let mut places = plan.mounts.iter().map(|op| &op.destination);
                assert!(!places.any(|place| masked.starts_with(place)));
            }
        }
        Err(error) => refused(&error, "config.json", &FIELDS),
    }
}

/// Nothing of a plan leads out of the root by its text.
fn paths(plan: &Plan) {
    paths_of(&plan.rootfs);
    let rootfs = &plan.rootfs;
    for path in rootfs.masked.iter().chain(&rootfs.read_only) {
        clean(path);
    }
    for node in rootfs.nodes.iter().flatten() {
        clean(&node.path);
    }
    // The kernel would read only what is before a null byte.
    let text = format!("{rootfs:?}").replace(r"\\", "");
    assert!(!text.contains(r"\0"), "{text}");
    for sysctl in &plan.sysctl {
        clean(&Path::new("/").join(&sysctl.path));
    }
}

fn paths_of(rootfs: &RootfsPlan) {
    for mount in &rootfs.mounts {
        clean(&mount.destination);
        assert_ne!(mount.destination, Path::new("/"));
    }
}

fn clean(path: &Path) {
    let mut parts = path.components();
    assert_eq!(parts.next(), Some(Component::RootDir), "{}", path.display());
    assert!(
        parts.all(|part| matches!(part, Component::Normal(_))),
        "{} is not clean",
        path.display()
    );
    assert!(!path.as_os_str().as_encoded_bytes().contains(&0));
}

/// What is kept in the record comes out of it as it was.
fn kept<T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_vec(value).unwrap();
    let again: T = serde_json::from_slice(&written).expect("the record is read again");
    assert_eq!(format!("{value:?}"), format!("{again:?}"));
}

/// Each limit is a value for a file of the cgroup's own directory, or refused by name.
fn limits(resources: &Resources) {
    let plain = |list: Vec<Write>| {
        for write in list {
            for (file, value) in write.targets() {
                assert!(
                    !file.is_empty()
                        && !file.contains('/')
                        && !file.contains('\0')
                        && !file.starts_with('.'),
                    "{file:?} is no file of a cgroup"
                );
                assert!(!value.contains('\0'), "{file}: {value:?}");
            }
        }
    };
    match v2::resources::refuse_v1_only(resources).and_then(|()| v2::resources::writes(resources)) {
        Ok(list) => plain(list),
        Err(error) => refused(&error, "config.json", &FIELDS),
    }
    plain(v2::resources::unified(resources));
    for (controller, field) in v2::resources::controllers(resources) {
        assert!(
            !controller.contains(['/', ' ', '\0', '\n']),
            "{field}: {controller:?}"
        );
    }
    if let Err(error) = v1::limits::refuse_v2_only(resources) {
        refused(&error, "config.json", &FIELDS);
    }
    for controller in [
        "cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma",
    ] {
        plain(v1::limits::writes(controller, resources));
    }
    plain(v1::memory::writes(&resources.memory));
    plain(v1::limits::realtime(&resources.cpu));
    plain(v1::limits::cpuset(&resources.cpu));
    for io in [IoFile::Weight, IoFile::BfqWeight] {
        let rounded = properties::rounded(resources);
        let again = properties::rounded(&rounded).into_owned();
        assert_eq!(*rounded, again, "rounded twice");
        let mut list = List::default();
        if let Err(error) = properties::limits(&rounded, When::Creation, io, &mut list) {
            refused(&error, "config.json", &FIELDS);
        }
    }
}

pub(super) fn process(bytes: &[u8]) {
    let fields = [
        "user",
        "args",
        "env",
        "cwd",
        "capabilities",
        "rlimits",
        "terminal",
        "consoleSize",
        "commandLine",
        "noNewPrivileges",
        "apparmorProfile",
        "oomScoreAdj",
        "selinuxLabel",
        "ioPriority",
        "scheduler",
        "execCPUAffinity",
        "process",
    ];
    let path = Path::new("process.json");
    let process = match spec::parse_process(bytes, path) {
        Ok(process) => process,
        Err(error) => return refused(&error, "process.json", &fields),
    };
    let written = serde_json::to_vec(&process).unwrap();
    let again = spec::parse_process(&written, path).expect("read again");
    let written = serde_json::to_vec(&again).unwrap();
    assert_eq!(again, spec::parse_process(&written, path).unwrap());
    if let Err(error) = validate::process::check(&process, "", FACTS) {
        return refused(&error, "process.json", &fields);
    }
    match plan::process::plan(&process, "process") {
        Ok(plan) => kept(&plan),
        Err(error) => refused(&error, "process.json", &fields),
    }
}

pub(super) fn resources(bytes: &[u8]) {
    let fields = [
        "devices",
        "memory",
        "cpu",
        "pids",
        "blockIO",
        "hugepageLimits",
        "network",
        "rdma",
        "unified",
        "linux",
    ];
    let path = Path::new("resources.json");
    let asked = match spec::parse_resources(bytes, path) {
        Ok(asked) => asked,
        Err(error) => return refused(&error, "resources.json", &fields),
    };
    let written = serde_json::to_vec(&asked).unwrap();
    let again = spec::parse_resources(&written, path).expect("read again");
    let written = serde_json::to_vec(&again).unwrap();
    assert_eq!(again, spec::parse_resources(&written, path).unwrap());
    let planned = match plan::resources::plan(&asked) {
        Ok(planned) => planned,
        Err(error) => return refused(&error, "resources.json", &fields),
    };
    limits(&planned);
    kept(&planned);
    let change = update::change(&asked).expect("planned a moment before");
    let first = match update::merge(&Resources::default(), &change) {
        Ok(first) => first,
        Err(error) => return refused(&error, "resources.json", &fields),
    };
    limits(&first.write);
    limits(&first.stored);
    kept(&first.stored);
    // Asked for once more it changes nothing.
    let second = update::merge(&first.stored, &change).expect("the same change once more");
    assert_eq!(second.stored, first.stored);
}
