//! What a cgroup would be given, without making it: for `check` and for `create --dry-run`. Called by `container`.

use anyhow::Result;

use super::write::Write;
use super::{Cgroup, Kind, v1, v2};
use crate::plan::resources::Resources;

impl Cgroup {
    /// The writes of `apply_limits`, in their order; an error where this version of cgroups has nothing for a field.
    pub(crate) fn preview(&self, resources: &Resources) -> Result<Vec<Write>> {
        match &self.kind {
            Kind::None => Ok(Vec::new()),
            Kind::V1(_) => v1::preview(resources),
            Kind::V2(_) | Kind::Systemd(_) => {
                let mut writes = v2::resources::writes(resources)?;
                writes.extend(v2::resources::unified(resources));
                Ok(writes)
            }
        }
    }
}
