//! The config.json that `rundlet spec` writes: a container that drops most rights and runs `sh`.
//! Called by `cli::spec`. Written as text, so that order and layout are those users know from runc's file and
//! diff well; a test parses it and puts it through the validator.

use serde_json::json;

/// Which kind of configuration is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Root,
    /// For a user without privileges: one id mapped, nothing that needs the host's root.
    Rootless {
        uid: u32,
        gid: u32,
    },
}

/// Whether `/sys/fs/cgroup` is the unified hierarchy: only then a cgroup namespace hides what should be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupMode {
    Unified,
    Legacy,
}

const HEAD: &str = r#"{
	"ociVersion": "1.3.0",
	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "rundlet",
	"mounts": [
"#;

/// (destination, type, source, options); `gid=5` goes in a rootless file, where group 5 is not mapped.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &[]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// A sysfs of its own needs a network namespace of its own, which a rootless container has not.
const ROOTLESS_SYS: (&str, &str, &str, &[&str]) = (
    "/sys",
    "none",
    "/sys",
    &["rbind", "nosuid", "noexec", "nodev", "ro"],
);

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
    "/sys/devices/virtual/tpm",
];

const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The whole file, without a newline at its end, as runc writes it.
pub(crate) fn config(kind: Kind, cgroups: CgroupMode) -> String {
    let mut out = String::from(HEAD);
    let mounts: Vec<String> = MOUNTS.iter().map(|mount| mount_text(mount, kind)).collect();
    out.push_str(&mounts.join(",\n"));
    out.push_str("\n\t],\n\t\"linux\": {\n");
    out.push_str(&match kind {
        Kind::Root => String::from(
            "\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\
             \t\t\t\t\t\"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t},\n",
        ),
        Kind::Rootless { uid, gid } => mapping("uidMappings", uid) + &mapping("gidMappings", gid),
    });
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if cgroups == CgroupMode::Unified {
        namespaces.push("cgroup");
    }
    if kind != Kind::Root {
        namespaces.retain(|name| *name != "network");
        namespaces.push("user");
    }
    let namespaces: Vec<String> = namespaces
        .iter()
        .map(|name| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{name}\"\n\t\t\t}}"))
        .collect();
    out.extend([format!(
        "\t\t\"namespaces\": [\n{}\n\t\t],\n",
        namespaces.join(",\n")
    )]);
    out.extend([format!(
        "\t\t\"maskedPaths\": [\n{}\n\t\t],\n",
        strings(&MASKED, "\t\t\t")
    )]);
    out.extend([format!(
        "\t\t\"readonlyPaths\": [\n{}\n\t\t]\n\t}}\n}}",
        strings(&READONLY, "\t\t\t")
    )]);
    out
}

fn mount_text(mount: &(&str, &str, &str, &[&str]), kind: Kind) -> String {
    let rootless = kind != Kind::Root;
    let (destination, typ, source, options) = if rootless && mount.0 == "/sys" {
        &ROOTLESS_SYS
    } else {
        mount
    };
    let mut text = format!(
        "\t\t{{\n\t\t\t\"destination\": \"{destination}\",\n\t\t\t\"type\": \"{typ}\",\n\t\t\t\"source\": \"{source}\""
    );
    let kept: Vec<&str> = options
        .iter()
        .copied()
        .filter(|option| !(rootless && option.starts_with("gid=")))
        .collect();
    if !kept.is_empty() {
        text.extend([format!(
            ",\n\t\t\t\"options\": [\n{}\n\t\t\t]",
            strings(&kept, "\t\t\t\t")
        )]);
    }
    text + "\n\t\t}"
}

fn mapping(field: &str, host: u32) -> String {
    format!(
        "\t\t\"{field}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {host},\n\
         \t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
    )
}

fn strings(values: &[&str], indent: &str) -> String {
    let lines: Vec<String> = values
        .iter()
        .map(|value| format!("{indent}{}", json!(value)))
        .collect();
    lines.join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::validate;
    use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

    fn parsed(kind: Kind, cgroups: CgroupMode) -> Spec {
        let spec: Spec = serde_json::from_str(&config(kind, cgroups)).unwrap();
        validate::config(&spec, validate::HostFacts::default()).unwrap();
        spec
    }

    fn kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
        let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        namespaces.iter().map(LinuxNamespace::typ).collect()
    }

    #[test]
    fn the_file_is_valid_and_as_restrictive_as_it_should_be() {
        let spec = parsed(Kind::Root, CgroupMode::Unified);
        assert_eq!(spec.version(), "1.3.0");
        assert_eq!(spec.hostname().as_deref(), Some("rundlet"));
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 3);
        assert!(capabilities.ambient().is_none() && capabilities.inheritable().is_none());
        assert!(kinds(&spec).contains(&LinuxNamespaceType::Cgroup));
        assert!(
            !kinds(&parsed(Kind::Root, CgroupMode::Legacy)).contains(&LinuxNamespaceType::Cgroup)
        );
        let devices = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        assert!(!devices.devices().as_ref().unwrap()[0].allow());
    }

    #[test]
    fn the_rootless_file_maps_one_id_and_asks_for_nothing_privileged() {
        let spec = parsed(
            Kind::Rootless {
                uid: 1000,
                gid: 100,
            },
            CgroupMode::Unified,
        );
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().is_none());
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
        assert!(!kinds(&spec).contains(&LinuxNamespaceType::Network));
        assert!(kinds(&spec).contains(&LinuxNamespaceType::User));
        let mounts = spec.mounts().as_ref().unwrap();
        let sys = mounts
            .iter()
            .find(|mount| mount.destination().as_os_str() == "/sys")
            .unwrap();
        assert_eq!(sys.options().as_ref().unwrap()[0], "rbind");
        let gids = mounts
            .iter()
            .filter_map(|mount| mount.options().as_ref())
            .flatten();
        assert_eq!(gids.filter(|option| option.starts_with("gid=")).count(), 0);
    }
}
