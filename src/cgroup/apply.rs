//! Device rules and limits of a container that is being made. Called by `container`.

use anyhow::Result;

use super::{Cgroup, Kind};
use crate::plan::resources::Resources;

impl Cgroup {
    /// Sets the device rules and all limits of a container that is being made, at once.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<()> {
        self.apply_before_init(resources)?;
        self.apply_beside_init(resources)
    }

    /// Sets the limits, and device rules where they cannot wait: on v1 they are written one
    /// by one, and between the first, which denies all, and the one that allows it again, the init could open no ptmx.
    pub(crate) fn apply_before_init(&self, resources: &Resources) -> Result<()> {
        match &self.kind {
            // systemd has got them with the unit.
            Kind::Systemd(c) => {
                c.group.apply_devices(resources)?;
                return c.apply_limits(resources);
            }
            Kind::V1(c) => c.apply_devices(resources)?,
            Kind::None | Kind::V2(_) => {}
        }
        self.apply_limits(resources)
    }

    /// The rest, while the init makes its mounts: on v2 the device rules come in one step, and only the container's own
    /// programs are held by them, none of which runs before this has succeeded (G4).
    pub(crate) fn apply_beside_init(&self, resources: &Resources) -> Result<()> {
        match &self.kind {
            Kind::V2(c) => c.apply_devices(resources),
            Kind::None | Kind::V1(_) | Kind::Systemd(_) => Ok(()),
        }
    }
}
