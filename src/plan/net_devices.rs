//! `linux.netDevices`: which network devices move into the container, and what they are called there. Pure. Carried out by
//! `net`.

use anyhow::{Result, ensure};
use oci_spec::runtime::Linux;

use super::namespaces::{Kind, Namespaces};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// In the runtime's network namespace; the key in config.json.
    pub(crate) name: String,
    /// In the container's.
    pub(crate) inside: String,
}

/// IFNAMSIZ less the closing null.
const LONGEST_NAME: usize = 15;

/// In the order of their names, as a map has none.
pub(super) fn plan(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let mut planned: Vec<NetDevice> = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        ensure!(
            namespaces.has(Kind::Network),
            "linux.netDevices: network devices without a network namespace in linux.namespaces"
        );
        ensure!(
            is_name(name),
            "linux.netDevices[{name:?}]: is not a name of a network device"
        );
        let inside = device
            .name()
            .as_deref()
            .filter(|inside| !inside.is_empty())
            .unwrap_or(name);
        ensure!(
            is_name(inside),
            "linux.netDevices[{name:?}].name: `{inside}` is not a name of a network device"
        );
        planned.push(NetDevice {
            name: name.clone(),
            inside: inside.to_owned(),
        });
    }
    planned.sort_by(|a, b| a.name.cmp(&b.name));
    for (index, device) in planned.iter().enumerate() {
        let twin = planned[..index]
            .iter()
            .find(|other| other.inside == device.inside);
        if let Some(other) = twin {
            anyhow::bail!(
                "linux.netDevices[{:?}].name: `{}` is also the name of {:?}",
                device.name,
                device.inside,
                other.name
            );
        }
    }
    Ok(planned)
}

/// The kernel's rule (dev_valid_name).
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|byte| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<NetDevice>> {
        let linux: Linux = serde_json::from_str(json).unwrap();
        plan(&linux, &super::super::namespaces::plan(&linux).unwrap())
    }

    #[test]
    fn devices_keep_their_name_or_get_another() {
        let json = r#"{"namespaces":[{"type":"network"}],"netDevices":{"eth1":{},"eth0":{"name":"lan0"},"eth2":{"name":""}}}"#;
        let planned = of(json).unwrap();
        let names: Vec<_> = planned
            .iter()
            .map(|device| (device.name.as_str(), device.inside.as_str()))
            .collect();
        assert_eq!(
            names,
            [("eth0", "lan0"), ("eth1", "eth1"), ("eth2", "eth2")]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (namespaces, devices, wanted) in [
            ("[]", r#"{"eth0":{}}"#, "linux.netDevices: "),
            (
                r#"[{"type":"network"}]"#,
                r#"{"a/b":{}}"#,
                "linux.netDevices[\"a/b\"]: ",
            ),
            (
                r#"[{"type":"network"}]"#,
                r#"{"..":{}}"#,
                "linux.netDevices[\"..\"]: ",
            ),
            (
                r#"[{"type":"network"}]"#,
                r#"{"sixteen-letters-":{}}"#,
                "linux.netDevices[\"sixteen-letters-\"]: ",
            ),
            (
                r#"[{"type":"network"}]"#,
                r#"{"eth0":{"name":"a b"}}"#,
                "linux.netDevices[\"eth0\"].name: ",
            ),
            (
                r#"[{"type":"network"}]"#,
                r#"{"eth0":{"name":"eth1"},"eth1":{}}"#,
                "linux.netDevices[\"eth1\"].name: `eth1` is also",
            ),
        ] {
            let json = format!(r#"{{"namespaces":{namespaces},"netDevices":{devices}}}"#);
            let text = of(&json).unwrap_err().to_string();
            assert!(text.starts_with(wanted), "{text}");
        }
    }
}
