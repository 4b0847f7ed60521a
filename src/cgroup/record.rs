//! What state.json keeps of a container's cgroup: enough to find it again, whatever the host looks like then. It is
//! known, and written, before the cgroup is made (Z2).

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::dir::{Dir, is_gone};
use super::path;
use super::systemd::UnitRecord;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) places: Places,
    /// False in the record that is written before the cgroup is made: what is there may be another container's.
    pub(crate) made: bool,
}

/// The driver and the places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", content = "at", rename_all = "lowercase")]
pub(crate) enum Places {
    /// The container has none: it stays in the runtime's.
    None,
    V2(GroupRecord),
    V1(Vec<GroupRecord>),
    /// A unit of systemd, on cgroup v2.
    Systemd(UnitRecord),
}

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    /// As in `detect::Hierarchy`.
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
    /// Below the mount.
    pub(crate) path: String,
    /// A child of it that the container manages itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delegated: Option<String>,
}

impl GroupRecord {
    /// The directory, if it is there.
    pub(crate) fn open(&self) -> Result<(Self, Option<Dir>)> {
        let at = Self {
            path: path::clean(&self.path),
            ..self.clone()
        };
        let dir = match Dir::mount(&at.mount)?.below(&at.path) {
            Ok(dir) => Some(dir),
            Err(errno) if is_gone(errno) => None,
            Err(errno) => return Err(errno).with_context(|| format!("open {}", at.name())),
        };
        Ok((at, dir))
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        format!("cgroup `{}`", self.mount.join(&self.path).display())
    }
}
