//! What `state` and `list` say about one container. Filled by `container`, printed by `cli`.

use std::collections::BTreeMap;

use serde::Serialize;

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
