//! What `state`, `list` and `events` say about one container. Filled by `container`, printed by `cli`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cgroup::stats::Stats;

/// The fields and their order are runc's: engines decode them by name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateOutput {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// 0 when the container is stopped.
    pub(crate) pid: i32,
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub(crate) status: String,
    pub(crate) bundle: String,
    pub(crate) rootfs: String,
    /// RFC 3339: CRI-O decodes it as a time stamp.
    pub(crate) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Empty for `state`. For `list` the name of the user who owns the state directory.
    pub(crate) owner: String,
}

/// One line of `events`; the fields and their order are runc's, but for those of `--follow-all`.
#[derive(Debug, Serialize)]
pub(crate) struct EventOutput {
    /// `stats` or `oom`, with `--follow-all` also what becomes of a container.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    /// RFC 3339, with `--follow-all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<EventData>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum EventData {
    Stats(Box<StatsData>),
    Container(ContainerData),
}

/// What a happening has to say of its container.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ContainerData {
    pub(crate) status: &'static str,
    /// 0 when there is none any more.
    pub(crate) pid: i32,
    pub(crate) bundle: String,
}

#[derive(Debug, Serialize)]
struct StatsData {
    #[serde(flatten)]
    cgroup: Stats,
    /// Always empty: what a class of service has used is not read.
    intel_rdt: IntelRdt,
    /// Always null. runc prints the interfaces it has made for a container, and it has not made any for years.
    network_interfaces: (),
}

#[derive(Debug, Serialize)]
struct IntelRdt {}

impl EventOutput {
    pub(super) fn stats(id: &str, cgroup: Stats) -> Self {
        let data = StatsData {
            cgroup,
            intel_rdt: IntelRdt {},
            network_interfaces: (),
        };
        Self {
            kind: "stats",
            id: id.to_owned(),
            time: None,
            data: Some(EventData::Stats(Box::new(data))),
        }
    }

    /// Something that has become of a container; `data` is as it is now.
    pub(super) fn of(kind: &'static str, id: &str, data: Option<ContainerData>) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            time: None,
            data: data.map(EventData::Container),
        }
    }

    /// The same with the time.
    pub(super) fn now(self) -> Self {
        Self {
            time: Some(crate::log::rfc3339(std::time::SystemTime::now())),
            ..self
        }
    }

    pub(super) fn oom(id: &str) -> Self {
        Self {
            kind: "oom",
            id: id.to_owned(),
            time: None,
            data: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_events() {
        let text = |event: &EventOutput| serde_json::to_string(event).unwrap();
        assert_eq!(text(&EventOutput::oom("a")), r#"{"type":"oom","id":"a"}"#);
        let stats = text(&EventOutput::stats("a", Stats::default()));
        assert!(
            stats.starts_with(r#"{"type":"stats","id":"a","data":{"cpu":{"usage":{"#),
            "{stats}"
        );
        assert!(
            stats.ends_with(r#""hugetlb":{},"intel_rdt":{},"network_interfaces":null}}"#),
            "{stats}"
        );
    }
}
