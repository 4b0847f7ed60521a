//! What `rundlet features` prints: the runtime-spec's features document (features.md of runtime-spec 1.3).
//! Called by `cli::features`. Fixed at compile time, never probed from the host, and true: a feature is listed
//! when this version carries it out, because engines decide by it what to ask for.

use serde::Serialize;

pub(crate) use crate::plan::state::SPEC_VERSION;
use crate::seccomp;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this binary was built from, `unknown` outside of a repository.
pub(crate) const COMMIT: &str = match option_env!("RUNDLET_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

type List = &'static [&'static str];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: List,
    mount_options: List,
    linux: Linux,
    annotations: Annotations,
    potentially_unsafe_config_annotations: List,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: List,
    capabilities: List,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "the document's own shape")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: List,
    operators: List,
    archs: List,
    known_flags: List,
    supported_flags: List,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: List,
    flags: List,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "org.rundlet.commit")]
    commit: &'static str,
    #[serde(rename = "org.rundlet.version")]
    version: &'static str,
}

/// Pretty JSON with four blanks, as runc prints it, and a newline.
pub(crate) fn document() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    FEATURES.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, layout,
    ))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

static FEATURES: Features = Features {
    oci_version_min: "1.0.0",
    oci_version_max: SPEC_VERSION,
    hooks: &[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ],
    mount_options: MOUNT_OPTIONS,
    linux: Linux {
        namespaces: &[
            "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
        ],
        capabilities: CAPABILITIES,
        cgroup: Cgroup {
            v1: true,
            v2: true,
            systemd: true,
            systemd_user: true,
            rdma: true,
        },
        seccomp: Seccomp {
            enabled: true,
            actions: seccomp::SUPPORTED.actions,
            operators: seccomp::SUPPORTED.operators,
            archs: seccomp::SUPPORTED.archs,
            known_flags: seccomp::SUPPORTED.flags,
            supported_flags: seccomp::SUPPORTED.flags,
        },
        apparmor: Enabled { enabled: true },
        selinux: Enabled { enabled: true },
        intel_rdt: IntelRdt {
            enabled: true,
            schemata: true,
            monitoring: true,
        },
        memory_policy: MemoryPolicy {
            modes: &[
                "MPOL_BIND",
                "MPOL_DEFAULT",
                "MPOL_INTERLEAVE",
                "MPOL_LOCAL",
                "MPOL_PREFERRED",
                "MPOL_PREFERRED_MANY",
                "MPOL_WEIGHTED_INTERLEAVE",
            ],
            flags: &[
                "MPOL_F_NUMA_BALANCING",
                "MPOL_F_RELATIVE_NODES",
                "MPOL_F_STATIC_NODES",
            ],
        },
        mount_extensions: MountExtensions {
            idmap: Enabled { enabled: true },
        },
        net_devices: Enabled { enabled: true },
    },
    annotations: Annotations {
        commit: COMMIT,
        version: VERSION,
    },
    potentially_unsafe_config_annotations: &[
        "bundle",
        "org.criu.config",
        "org.rundlet.",
        "org.systemd.property.",
    ],
};

const MOUNT_OPTIONS: List = &[
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "src-nofollow",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

const CAPABILITIES: List = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::runtime_spec::{Schema, find, words};

    /// Nothing that the schema of 1.3 knows is left out, and where it has a list of words all of them are carried out.
    #[test]
    fn every_field_of_the_schema_is_there_and_no_other() {
        let mut document: serde_json::Value = serde_json::from_str(&document().unwrap()).unwrap();
        let (fields, _) = Schema::load().features();
        assert!(fields.len() > 25, "{}", fields.len());
        for field in &fields {
            let Some((value, _)) = find(&mut document, &field.path) else {
                panic!("{} is missing", field.path);
            };
            let known = words(field.schema.get("enum"));
            if !known.is_empty() {
                let mut ours = words(Some(value));
                let mut all = known.clone();
                ours.sort();
                all.sort();
                assert_eq!(ours, all, "{}", field.path);
            }
            *value = serde_json::Value::Null;
        }
        let left = document.to_string();
        let open =
            |at: usize| left[at + 1..].starts_with("null") || left[at + 1..].starts_with('{');
        assert!(left.match_indices(':').all(|(at, _)| open(at)), "{left}");
    }

    #[test]
    fn the_document_is_the_specifications_and_lists_are_sorted_where_they_are_sets() {
        let value: serde_json::Value = serde_json::from_str(&document().unwrap()).unwrap();
        assert_eq!(value["ociVersionMin"], "1.0.0");
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(
            value["linux"]["seccomp"]["knownFlags"]
                .as_array()
                .unwrap()
                .len(),
            4
        );
        for list in [MOUNT_OPTIONS, seccomp::SUPPORTED.archs] {
            assert!(list.is_sorted() && list.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn every_capability_is_one_the_capability_crate_can_set() {
        let known = caps::all();
        assert_eq!(known.len(), CAPABILITIES.len());
        assert!(
            known
                .iter()
                .all(|cap| CAPABILITIES.contains(&cap.to_string().as_str()))
        );
    }
}
