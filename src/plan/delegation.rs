//! What a container may do to its own cgroup: who owns it, and where the payload sits in it. Pure. Used by `container`, which hands
//! it to `cgroup`; cgroup v2 only, by the runtime-spec (config-linux.md, "Cgroup ownership") and by need.

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::Spec;

use super::namespaces::{Kind, Namespaces, host_id};

/// `true`: the container gets a cgroup that it may divide further.
const ANNOTATION: &str = "org.rundlet.cgroup.delegate";

/// Decided for one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delegation {
    /// The host's uid that the cgroup is given to; `None` leaves it root's.
    pub(crate) owner: Option<u32>,
    pub(crate) payload: Payload,
}

/// Where the container's processes are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Into the container's cgroup.
    #[default]
    InGroup,
    /// Into a leaf two levels below: the container's cgroup has the limits and is the host's, the one below it is the
    /// container's own, and has no processes so that it can pass controllers on.
    InLeaf,
}

pub(crate) fn plan(spec: &Spec, namespaces: &Namespaces) -> Result<Delegation> {
    let payload = payload(spec)?;
    let own_view = namespaces.makes(Kind::Cgroup);
    ensure!(
        payload == Payload::InGroup || own_view,
        "annotations[\"{ANNOTATION}\"]: needs a new cgroup namespace in linux.namespaces"
    );
    let delegated = payload == Payload::InLeaf || (own_view && has_writable_view(spec));
    let owner = delegated.then(|| owner(spec, namespaces)).flatten();
    Ok(Delegation { owner, payload })
}

fn payload(spec: &Spec) -> Result<Payload> {
    let value = spec.annotations().as_ref().and_then(|a| a.get(ANNOTATION));
    match value.map(String::as_str) {
        None | Some("false") => Ok(Payload::InGroup),
        Some("true") => Ok(Payload::InLeaf),
        Some(other) => {
            bail!("annotations[\"{ANNOTATION}\"]: `{other}` is neither `true` nor `false`")
        }
    }
}

/// The condition of the runtime-spec for a change of the owner, beside the new cgroup namespace.
fn has_writable_view(spec: &Spec) -> bool {
    spec.mounts().iter().flatten().any(|mount| {
        let kind = mount.typ().as_deref();
        super::clean_path(mount.destination()).as_os_str() == "/sys/fs/cgroup"
            && matches!(kind, Some("cgroup" | "cgroup2"))
            && mount
                .options()
                .iter()
                .flatten()
                .rfind(|option| matches!(option.as_str(), "ro" | "rro" | "rw" | "rrw"))
                .is_none_or(|last| last.ends_with('w'))
    })
}

/// Who runs the process, as the host knows it. Root of the host owns the cgroup anyway.
fn owner(spec: &Spec, namespaces: &Namespaces) -> Option<u32> {
    let uid = spec.process().as_ref().map_or(0, |p| p.user().uid());
    // A joined user namespace without mappings in the config: which id it is there is not known.
    if namespaces.joins(Kind::User) && namespaces.uid_map.is_empty() {
        return None;
    }
    host_id(&namespaces.uid_map, uid).filter(|uid| *uid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn planned(uid: u32, value: &str, options: Value, namespaces: Value) -> Result<Delegation> {
        let mut annotations = json!({});
        if !value.is_empty() {
            annotations[ANNOTATION] = json!(value);
        }
        let spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "annotations": annotations,
            "process": {"user": {"uid": uid, "gid": 0}, "args": ["x"], "cwd": "/"},
            "mounts": [{"destination": "/sys/fs//cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {"namespaces": namespaces,
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
                "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}]}
        }))
        .unwrap();
        let namespaces = crate::plan::namespaces::plan(&spec.linux().clone().unwrap()).unwrap();
        plan(&spec, &namespaces)
    }

    fn owner_of(uid: u32, options: Value, namespaces: Value) -> Option<u32> {
        planned(uid, "", options, namespaces).unwrap().owner
    }

    #[test]
    fn the_owner_is_who_runs_the_process() {
        let own = json!([{"type": "cgroup"}]);
        let user = json!([{"type": "cgroup"}, {"type": "user"}]);
        assert_eq!(owner_of(7, json!(["rw"]), user.clone()), Some(100_007));
        assert_eq!(owner_of(0, json!([]), user.clone()), Some(100_000));
        assert_eq!(owner_of(7, json!([]), own.clone()), Some(7));
        assert_eq!(owner_of(0, json!([]), own), None);
        // Not mapped, not writable, or the host's view: it stays root's.
        assert_eq!(owner_of(5000, json!(["rw"]), user.clone()), None);
        assert_eq!(owner_of(7, json!(["nosuid", "ro"]), user), None);
        assert_eq!(owner_of(7, json!(["rw"]), json!([{"type": "user"}])), None);
    }

    #[test]
    fn the_annotation() {
        let own = json!([{"type": "cgroup"}]);
        let of =
            |value: &str, namespaces: &Value| planned(3, value, json!(["ro"]), namespaces.clone());
        let leaf = Delegation {
            owner: Some(3),
            payload: Payload::InLeaf,
        };
        assert_eq!(of("true", &own).unwrap(), leaf);
        assert_eq!(of("false", &own).unwrap().payload, Payload::InGroup);
        let text = of("1", &own).unwrap_err().to_string();
        assert!(text.contains("neither `true` nor `false`"), "{text}");
        let text = of("true", &json!([])).unwrap_err().to_string();
        assert!(text.contains("needs a new cgroup namespace"), "{text}");
    }
}
