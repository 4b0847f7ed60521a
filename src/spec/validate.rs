//! Rules that no type can hold: fields that exclude, need or bound each other. Every message opens with the JSON
//! path. Called by `spec` on what was parsed; pure, what it must know of the host comes in as `HostFacts`.
//!
//! Also the one list of what this version does not support (`unsupported_*`): refused by name, never ignored.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{
    Hook, Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Process, Spec,
};

use super::validate_sysctl;

/// What the rules need to know of the machine. A fact nothing in the document asks for may be false.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostFacts {
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    /// The network namespace that is joined by path is the one rundlet itself runs in.
    pub(crate) joined_network_is_own: bool,
}

/// The kernel's limit on lines of a uid_map.
const MAPPINGS_LIMIT: usize = 340;
/// `__NEW_UTS_LEN`.
const HOST_NAME_LIMIT: usize = 64;

pub(crate) fn config(spec: &Spec, facts: HostFacts) -> Result<()> {
    version(spec.version())?;
    let Some(root) = spec.root() else {
        bail!("root: is required");
    };
    ensure!(
        !root.path().as_os_str().is_empty(),
        "root.path: must not be empty"
    );
    no_nul("root.path", root.path().as_os_str().as_encoded_bytes())?;
    let Some(given) = spec.process() else {
        bail!("process: is required");
    };
    process(given, "process.", facts)?;
    hooks(spec)?;
    let none = Linux::default_empty();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    unsupported_linux(linux)?;
    namespaces(linux)?;
    host_names(spec, linux)?;
    user_mappings(linux)?;
    validate_sysctl::check(linux, facts)?;
    devices(linux)?;
    restricted_paths(linux)?;
    let asks_label = linux
        .mount_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty());
    ensure!(
        !asks_label || facts.selinux,
        "linux.mountLabel: SELinux is disabled or not supported on this host"
    );
    Ok(())
}

/// `path` is the JSON path of the object with its dot (`process.`), or empty for a file of its own.
pub(crate) fn process(process: &Process, path: &str, facts: HostFacts) -> Result<()> {
    unsupported_process(process, path)?;
    arguments(process, path)?;
    ids(process, path)?;
    rlimits(process, path)?;
    if let Some(adjustment) = process.oom_score_adj() {
        ensure!(
            (-1000..=1000).contains(&adjustment),
            "{path}oomScoreAdj: {adjustment} is not between -1000 and 1000"
        );
    }
    labels(process, path, facts)
}

/// Every 1.x: engines write the newest number they know of, and the fields decide what is asked for.
fn version(version: &str) -> Result<()> {
    ensure!(!version.is_empty(), "ociVersion: is required");
    let mut parts = version.split(['.', '-', '+']);
    let major = parts.next().unwrap_or_default();
    let minor = parts.next().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        number(major) && number(minor),
        "ociVersion: `{version}` is not a version number"
    );
    ensure!(
        major == "1",
        "ociVersion: `{version}` is not supported (1.x is)"
    );
    Ok(())
}

fn arguments(process: &Process, path: &str) -> Result<()> {
    let cwd = process.cwd();
    ensure!(!cwd.as_os_str().is_empty(), "{path}cwd: must not be empty");
    ensure!(
        cwd.is_absolute(),
        "{path}cwd: `{}` must be an absolute path",
        cwd.display()
    );
    no_nul(&format!("{path}cwd"), cwd.as_os_str().as_encoded_bytes())?;
    let args = process.args().as_deref().unwrap_or_default();
    ensure!(!args.is_empty(), "{path}args: must not be empty");
    for (i, arg) in args.iter().enumerate() {
        no_nul(&format!("{path}args[{i}]"), arg.as_bytes())?;
    }
    for (i, variable) in process.env().iter().flatten().enumerate() {
        no_nul(&format!("{path}env[{i}]"), variable.as_bytes())?;
        match variable.split_once('=') {
            Some((name, _)) if !name.is_empty() => {}
            Some(_) => bail!("{path}env[{i}]: invalid environment variable: the name is empty"),
            None => bail!("{path}env[{i}]: invalid environment variable: missing '='"),
        }
    }
    Ok(())
}

/// A string with a NUL in it is cut there by the kernel: what was checked would not be what is run.
fn no_nul(path: &str, bytes: &[u8]) -> Result<()> {
    ensure!(!bytes.contains(&0), "{path}: contains a NUL byte");
    Ok(())
}

/// U2: the highest number means "no id" to the kernel.
fn ids(process: &Process, path: &str) -> Result<()> {
    let user = process.user();
    ensure!(
        user.uid() != u32::MAX,
        "{path}user.uid: {} is not an id",
        u32::MAX
    );
    ensure!(
        user.gid() != u32::MAX,
        "{path}user.gid: {} is not an id",
        u32::MAX
    );
    for (i, gid) in user.additional_gids().iter().flatten().enumerate() {
        ensure!(
            *gid != u32::MAX,
            "{path}user.additionalGids[{i}]: {gid} is not an id"
        );
    }
    Ok(())
}

fn rlimits(process: &Process, path: &str) -> Result<()> {
    let mut seen = Vec::new();
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        let kind = limit.typ();
        ensure!(
            !seen.contains(&kind),
            "{path}rlimits[{i}].type: duplicate of {kind}"
        );
        seen.push(kind);
        ensure!(
            limit.soft() <= limit.hard(),
            "{path}rlimits[{i}].soft: {} is above the hard limit {} of {kind}",
            limit.soft(),
            limit.hard()
        );
    }
    Ok(())
}

/// L1: a label that can not be applied is an error, never dropped.
fn labels(process: &Process, path: &str, facts: HostFacts) -> Result<()> {
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    no_nul(&format!("{path}apparmorProfile"), profile.as_bytes())?;
    // "unconfined" asks for nothing that a host without AppArmor could not give.
    ensure!(
        profile.is_empty() || profile == "unconfined" || facts.apparmor,
        "{path}apparmorProfile: `{profile}` is asked for, but AppArmor is not enabled on this host"
    );
    let label = process.selinux_label().as_deref().unwrap_or_default();
    no_nul(&format!("{path}selinuxLabel"), label.as_bytes())?;
    ensure!(
        label.is_empty() || facts.selinux,
        "{path}selinuxLabel: `{label}` is asked for, but SELinux is disabled or not supported on this host"
    );
    Ok(())
}

#[allow(
    deprecated,
    reason = "prestart is deprecated in the specification, still used by engines"
)]
fn hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let points: [(&str, &Option<Vec<Hook>>); 6] = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (point, hooks) in points {
        for (i, hook) in hooks.iter().flatten().enumerate() {
            let at = format!("hooks.{point}[{i}]");
            let path = hook.path();
            ensure!(
                path.is_absolute(),
                "{at}.path: `{}` must be an absolute path",
                path.display()
            );
            no_nul(&format!("{at}.path"), path.as_os_str().as_encoded_bytes())?;
            if let Some(timeout) = hook.timeout() {
                ensure!(
                    timeout > 0,
                    "{at}.timeout: {timeout} must be greater than 0"
                );
            }
        }
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Result<()> {
    let mut seen = HashSet::new();
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = namespace.typ();
        ensure!(
            seen.insert(kind),
            "linux.namespaces[{i}].type: duplicate of `{}`",
            oci_name(kind)
        );
        if let Some(path) = namespace.path() {
            let empty = path.as_os_str().is_empty();
            ensure!(
                empty || path.is_absolute(),
                "linux.namespaces[{i}].path: `{}` must be an absolute path",
                path.display()
            );
            no_nul(
                &format!("linux.namespaces[{i}].path"),
                path.as_os_str().as_encoded_bytes(),
            )?;
        }
    }
    Ok(())
}

/// As config.json writes it; the crate's own names are those of /proc/PID/ns.
fn oci_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

pub(super) fn has_namespace(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == kind)
}

fn host_names(spec: &Spec, linux: &Linux) -> Result<()> {
    for (field, value) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        let name = value.as_deref().unwrap_or_default();
        ensure!(
            name.is_empty() || has_namespace(linux, LinuxNamespaceType::Uts),
            "{field}: unable to set {field} without a private UTS namespace"
        );
        ensure!(
            name.len() <= HOST_NAME_LIMIT,
            "{field}: longer than the kernel's {HOST_NAME_LIMIT} bytes"
        );
    }
    Ok(())
}

fn user_mappings(linux: &Linux) -> Result<()> {
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    let user = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|ns| ns.typ() == LinuxNamespaceType::User);
    for (field, mappings) in [("uidMappings", uids), ("gidMappings", gids)] {
        ensure!(
            mappings.is_empty() || user.is_some(),
            "linux.{field}: user namespace mappings specified, but no user namespace in linux.namespaces"
        );
        mapping_rules(&format!("linux.{field}"), mappings)?;
    }
    let joined = user.is_some_and(|user| {
        user.path()
            .as_ref()
            .is_some_and(|path| !path.as_os_str().is_empty())
    });
    if user.is_some() && !joined {
        ensure!(
            !uids.is_empty(),
            "linux.uidMappings: a new user namespace needs mappings"
        );
        ensure!(
            !gids.is_empty(),
            "linux.gidMappings: a new user namespace needs mappings"
        );
    }
    Ok(())
}

/// What the kernel demands of an id map, said before anything was started and with the entry's path.
pub(crate) fn mapping_rules(path: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    ensure!(
        mappings.len() <= MAPPINGS_LIMIT,
        "{path}: {} entries, the kernel takes at most {MAPPINGS_LIMIT}",
        mappings.len()
    );
    for (i, mapping) in mappings.iter().enumerate() {
        let size = mapping.size();
        ensure!(size > 0, "{path}[{i}].size: must be greater than 0");
        for (field, first) in [
            ("containerID", mapping.container_id()),
            ("hostID", mapping.host_id()),
        ] {
            ensure!(
                first.checked_add(size).is_some(),
                "{path}[{i}].{field}: {first} with size {size} leaves the range of ids"
            );
        }
        for (j, other) in mappings[..i].iter().enumerate() {
            let sides = [
                ("containerID", mapping.container_id(), other.container_id()),
                ("hostID", mapping.host_id(), other.host_id()),
            ];
            for (field, a, b) in sides {
                let apart = u64::from(a) + u64::from(size) <= u64::from(b)
                    || u64::from(b) + u64::from(other.size()) <= u64::from(a);
                ensure!(apart, "{path}[{i}].{field}: overlaps with entry {j}");
            }
        }
    }
    Ok(())
}

fn devices(linux: &Linux) -> Result<()> {
    for (i, device) in linux.devices().iter().flatten().enumerate() {
        let at = format!("linux.devices[{i}]");
        let path: &Path = device.path();
        ensure!(
            path.is_absolute(),
            "{at}.path: `{}` must be an absolute path",
            path.display()
        );
        no_nul(&format!("{at}.path"), path.as_os_str().as_encoded_bytes())?;
        ensure!(
            device.typ() != LinuxDeviceType::A,
            "{at}.type: `a` is not the type of a node"
        );
        for (field, number) in [("major", device.major()), ("minor", device.minor())] {
            let fits = u32::try_from(number).is_ok();
            ensure!(
                fits || device.typ() == LinuxDeviceType::P,
                "{at}.{field}: {number} is not a device number"
            );
        }
        for (field, id) in [("uid", device.uid()), ("gid", device.gid())] {
            ensure!(
                id != Some(u32::MAX),
                "{at}.{field}: {} is not an id",
                u32::MAX
            );
        }
    }
    Ok(())
}

/// Without a mount namespace these would be hidden on the host.
fn restricted_paths(linux: &Linux) -> Result<()> {
    let mount = has_namespace(linux, LinuxNamespaceType::Mount);
    for (field, paths) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        let none = paths.as_ref().is_none_or(Vec::is_empty);
        ensure!(
            none || mount,
            "linux.{field}: unable to restrict paths without a private mount namespace"
        );
    }
    Ok(())
}

fn unsupported_process(process: &Process, path: &str) -> Result<()> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let affinity =
        affinity.is_some_and(|a| a.initial().is_some() || a.cpu_affinity_final().is_some());
    for (field, used) in [
        ("scheduler", process.scheduler().is_some()),
        ("ioPriority", process.io_priority().is_some()),
        ("execCPUAffinity", affinity),
    ] {
        ensure!(
            !used,
            "{path}{field}: not supported by this version of rundlet"
        );
    }
    Ok(())
}

fn unsupported_linux(linux: &Linux) -> Result<()> {
    let time = linux
        .namespaces()
        .iter()
        .flatten()
        .position(|ns| ns.typ() == LinuxNamespaceType::Time);
    if let Some(i) = time {
        bail!("linux.namespaces[{i}].type: `time` is not supported by this version of rundlet");
    }
    for (field, used) in [
        ("intelRdt", linux.intel_rdt().is_some()),
        ("memoryPolicy", linux.memory_policy().is_some()),
        (
            "netDevices",
            linux
                .net_devices()
                .as_ref()
                .is_some_and(|map| !map.is_empty()),
        ),
        (
            "timeOffsets",
            linux
                .time_offsets()
                .as_ref()
                .is_some_and(|map| !map.is_empty()),
        ),
    ] {
        ensure!(
            !used,
            "linux.{field}: not supported by this version of rundlet"
        );
    }
    Ok(())
}

/// `Linux::default()` of the crate is a whole example configuration; the rules need one with nothing in it.
trait DefaultEmpty {
    fn default_empty() -> Self;
}

impl DefaultEmpty for Linux {
    fn default_empty() -> Self {
        let mut linux = Linux::default();
        linux
            .set_namespaces(None)
            .set_resources(None)
            .set_masked_paths(None)
            .set_readonly_paths(None);
        linux
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"], "env": ["A=b"]},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]}
        })
    }

    /// The refusal of the base document with `value` put at the JSON pointer; empty when it is accepted.
    fn refusal_with(facts: HostFacts, changes: &[(&str, Value)]) -> String {
        let mut document = base();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = document.pointer_mut(parent).unwrap();
            if value.is_null() {
                parent.as_object_mut().unwrap().remove(key);
            } else {
                parent[key] = value.clone();
            }
        }
        let spec: Spec = serde_json::from_value(document).unwrap();
        config(&spec, facts)
            .err()
            .map_or(String::new(), |error| format!("{error:#}"))
    }

    fn refusal(pointer: &str, value: Value) -> String {
        refusal_with(HostFacts::default(), &[(pointer, value)])
    }

    #[test]
    fn the_base_document_and_foreign_platforms_pass() {
        assert_eq!(refusal_with(HostFacts::default(), &[]), "");
        assert_eq!(refusal("/windows", json!({"layerFolders": ["c:"]})), "");
        assert_eq!(refusal("/annotations", json!({"a": "b"})), "");
        assert_eq!(
            refusal("/linux/personality", json!({"domain": "LINUX"})),
            ""
        );
        assert_eq!(refusal("/linux/timeOffsets", json!({})), "");
    }

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "1.0.0-rc5-dev", "1.3.0", "1.9.0+x"] {
            assert_eq!(refusal("/ociVersion", json!(good)), "", "{good}");
        }
        for bad in ["", "2.0.0", "0.6.0", "one", "1", "1.x", "10.0.0"] {
            assert!(
                refusal("/ociVersion", json!(bad)).starts_with("ociVersion: "),
                "{bad}"
            );
        }
        assert_eq!(
            refusal("/ociVersion", Value::Null),
            "ociVersion: is required"
        );
    }

    #[test]
    fn each_rule_names_its_path() {
        let long = "h".repeat(65);
        let cases = [
            ("/root", Value::Null, "root: is required"),
            ("/root/path", json!(""), "root.path: "),
            ("/process", Value::Null, "process: is required"),
            ("/process/args", json!([]), "process.args: "),
            ("/process/args", Value::Null, "process.args: "),
            (
                "/process/args",
                json!(["sh", "a\u{0}b"]),
                "process.args[1]: contains a NUL",
            ),
            (
                "/process/cwd",
                json!("tmp"),
                "process.cwd: `tmp` must be an absolute path",
            ),
            ("/process/cwd", json!(""), "process.cwd: must not be empty"),
            (
                "/process/env",
                json!(["A=b", "novalue"]),
                "process.env[1]: invalid environment variable: missing '='",
            ),
            ("/process/env", json!(["=b"]), "process.env[0]: "),
            ("/process/user/uid", json!(u32::MAX), "process.user.uid: "),
            (
                "/process/user/additionalGids",
                json!([1, u32::MAX]),
                "process.user.additionalGids[1]: ",
            ),
            ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: "),
            (
                "/process/apparmorProfile",
                json!("docker-default"),
                "process.apparmorProfile: ",
            ),
            (
                "/process/selinuxLabel",
                json!("system_u:x"),
                "process.selinuxLabel: ",
            ),
            (
                "/linux/mountLabel",
                json!("system_u:x"),
                "linux.mountLabel: ",
            ),
            ("/hostname", json!(long), "hostname: longer"),
            (
                "/hooks",
                json!({"poststop": [{"path": "/a"}, {"path": "b"}]}),
                "hooks.poststop[1].path: ",
            ),
            (
                "/hooks",
                json!({"prestart": [{"path": "/a", "timeout": 0}]}),
                "hooks.prestart[0].timeout: ",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "pid"}, {"type": "pid"}]),
                "linux.namespaces[1].type: duplicate of `pid`",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "pid", "path": "ns"}]),
                "linux.namespaces[0].path: ",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "user"}]),
                "linux.uidMappings: ",
            ),
            (
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 0, "size": 1}]),
                "linux.uidMappings: ",
            ),
            (
                "/linux/devices",
                json!([{"path": "null", "type": "c"}]),
                "linux.devices[0].path: ",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "a"}]),
                "linux.devices[0].type: ",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "c", "major": -1}]),
                "linux.devices[0].major: ",
            ),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
                "process.rlimits[1].type: duplicate of RLIMIT_CPU",
            ),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
                "process.rlimits[0].soft: ",
            ),
        ];
        for (pointer, value, start) in cases {
            let text = refusal(pointer, value.clone());
            assert!(text.starts_with(start), "{pointer} {value}: `{text}`");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            (
                "/process/scheduler",
                json!({"policy": "SCHED_OTHER"}),
                "process.scheduler",
            ),
            (
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE"}),
                "process.ioPriority",
            ),
            (
                "/process/execCPUAffinity",
                json!({"initial": "0"}),
                "process.execCPUAffinity",
            ),
            ("/linux/intelRdt", json!({}), "linux.intelRdt"),
            ("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices"),
            (
                "/linux/memoryPolicy",
                json!({"mode": "MPOL_BIND", "nodes": "0"}),
                "linux.memoryPolicy",
            ),
            (
                "/linux/timeOffsets",
                json!({"boottime": {"secs": 1}}),
                "linux.timeOffsets",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "pid"}, {"type": "time"}]),
                "linux.namespaces[1].type",
            ),
        ];
        for (pointer, value, field) in cases {
            let text = refusal(pointer, value);
            assert!(
                text.starts_with(&format!("{field}: ")) && text.contains("not supported"),
                "{text}"
            );
        }
    }

    #[test]
    fn labels_need_their_security_module() {
        let apparmor = HostFacts {
            apparmor: true,
            ..HostFacts::default()
        };
        let selinux = HostFacts {
            selinux: true,
            ..HostFacts::default()
        };
        assert_eq!(
            refusal_with(apparmor, &[("/process/apparmorProfile", json!("p"))]),
            ""
        );
        assert_eq!(
            refusal_with(
                selinux,
                &[
                    ("/process/selinuxLabel", json!("l")),
                    ("/linux/mountLabel", json!("m"))
                ]
            ),
            ""
        );
        assert_eq!(refusal("/process/apparmorProfile", json!("unconfined")), "");
    }

    #[test]
    fn host_names_and_hidden_paths_need_their_namespace() {
        let none = ("/linux/namespaces", json!([{"type": "pid"}]));
        for (pointer, value, start) in [
            (
                "/hostname",
                json!("h"),
                "hostname: unable to set hostname without",
            ),
            ("/domainname", json!("h"), "domainname: unable"),
            (
                "/linux/maskedPaths",
                json!(["/proc/kcore"]),
                "linux.maskedPaths: ",
            ),
            (
                "/linux/readonlyPaths",
                json!(["/proc/sys"]),
                "linux.readonlyPaths: ",
            ),
        ] {
            assert_eq!(refusal(pointer, value.clone()), "");
            let text = refusal_with(HostFacts::default(), &[none.clone(), (pointer, value)]);
            assert!(text.starts_with(start), "{text}");
        }
    }

    #[test]
    fn id_maps() {
        let map = |entries: &[(u32, u32, u32)]| {
            let entries: Vec<Value> = entries
                .iter()
                .map(|(c, h, s)| json!({"containerID": c, "hostID": h, "size": s}))
                .collect();
            refusal_with(
                HostFacts::default(),
                &[
                    ("/linux/namespaces", json!([{"type": "user"}])),
                    (
                        "/linux/gidMappings",
                        json!([{"containerID": 0, "hostID": 5, "size": 1}]),
                    ),
                    ("/linux/uidMappings", json!(entries)),
                ],
            )
        };
        assert_eq!(map(&[(0, 1000, 1), (1, 100_000, 65_535)]), "");
        assert_eq!(map(&[(0, 0, u32::MAX)]), "");
        assert!(map(&[(0, 0, 0)]).starts_with("linux.uidMappings[0].size: "));
        assert!(map(&[(1, 0, u32::MAX)]).starts_with("linux.uidMappings[0].containerID: "));
        assert!(
            map(&[(0, 0, 10), (9, 50, 1)])
                .starts_with("linux.uidMappings[1].containerID: overlaps")
        );
        assert!(
            map(&[(0, 40, 10), (20, 30, 11)]).starts_with("linux.uidMappings[1].hostID: overlaps")
        );
        let many: Vec<(u32, u32, u32)> = (0..341).map(|i| (i, i, 1)).collect();
        assert!(map(&many).contains("at most 340"));
        assert_eq!(map(&many[..340]), "");
    }
}
