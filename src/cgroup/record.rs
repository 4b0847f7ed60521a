//! What state.json keeps of a container's cgroup: enough to find it again, whatever the host looks like then.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The driver and the places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Record {
    V2(GroupRecord),
    V1(Vec<GroupRecord>),
}

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    /// As in `detect::Hierarchy`.
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
    /// Below the mount.
    pub(crate) path: String,
    /// The directories that were made for it, ancestors first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) made: Vec<String>,
}

impl GroupRecord {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        format!("cgroup `{}`", self.mount.join(&self.path).display())
    }
}
