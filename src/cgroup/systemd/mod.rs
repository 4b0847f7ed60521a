//! The systemd driver: a container's cgroup is that of a transient unit, made and removed by systemd. Once it is there, all
//! else (limits, device program, freezer, signals, statistics) is the cgroup v2 code on the unit's directory.
//!
//! The unit is asked for with the limits and device rules as its properties, so that systemd, whenever it writes the cgroup
//! again, writes the same; then the same values go to the files, and the own device program is attached beside systemd's.
//! A scope has to be made with a process in it: it comes between the clone and the word that lets the child go on.

pub(crate) mod annotations;
pub(crate) mod dbus;
mod devices;
pub(crate) mod manager;
pub(crate) mod names;
pub(crate) mod properties;
mod unified;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::detect::{self, Layout};
use super::path::{self, SubPaths};
use super::procs;
use super::record::{GroupRecord, Places};
use super::tree::Left;
use super::v2::Unified;
use super::v2::resources::refuse_v1_only;
use super::{Place, procs::Deadline};
use crate::plan::delegation::{Delegation, Payload};
use crate::plan::resources::Resources;
use manager::{Manager, Which};
use names::{UnitName, is_slice};
use properties::{IoFile, List, When};
use wire::{Property, Value};

/// What state.json keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRecord {
    pub(crate) unit: String,
    pub(crate) manager: Which,
    pub(crate) group: GroupRecord,
}

/// A container's unit.
#[derive(Debug)]
pub(crate) struct Unit {
    /// As `docker-ID.scope`.
    name: String,
    which: Which,
    pub(crate) group: Unified,
    /// What it is to be made with; empty once it is there.
    properties: Vec<Property>,
    /// Set in place of others if the cgroup turns out to have io.bfq.weight.
    bfq_weights: Vec<Property>,
    payload: Payload,
}

impl Unit {
    pub(crate) fn plan(
        layout: &Layout,
        cgroups_path: Option<&str>,
        id: &str,
        which: Which,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Self> {
        ensure!(
            manager::is_running(),
            "systemd not running on this host, cannot use systemd cgroups manager"
        );
        let Layout::Unified { mount } = layout else {
            bail!(
                "the systemd cgroup driver needs a host with cgroup v2 alone, and this one has cgroup v1 hierarchies: \
                 set the engine's cgroup driver to cgroupfs"
            );
        };
        let name = UnitName::new(cgroups_path, id, which)?;
        let mut list = List::default();
        describe(&name, id, &mut list);
        annotations::properties(wanted, &mut list)?;
        let own = match which {
            Which::System => String::new(),
            Which::User => path::clean(&Manager::connect(which)?.control_group()?),
        };
        Ok(Self {
            name: name.unit,
            which,
            group: Unified::at_path(mount, path::join(&own, &name.path)),
            properties: list.done(),
            bfq_weights: Vec::new(),
            payload: Payload::InGroup,
        })
    }

    pub(crate) fn open(record: &UnitRecord) -> Result<Self> {
        Ok(Self {
            name: record.unit.clone(),
            which: record.manager,
            group: Unified::open(&record.group)?,
            properties: Vec::new(),
            bfq_weights: Vec::new(),
            payload: Payload::InGroup,
        })
    }

    pub(crate) fn places(&self) -> Places {
        Places::Systemd(UnitRecord {
            unit: self.name.clone(),
            manager: self.which,
            group: self.group.at().clone(),
        })
    }

    /// Checks what can be checked before there is a process.
    pub(crate) fn make(&mut self, r: &Resources, delegation: &Delegation) -> Result<()> {
        refuse_v1_only(r)?;
        self.payload = delegation.payload;
        if self.payload == Payload::InLeaf {
            self.group.plan_division();
        }
        let mut list = List::default();
        properties::limits(r, When::Creation, IoFile::Weight, &mut list)?;
        self.devices(r, When::Creation, &mut list)?;
        self.properties.splice(0..0, list.done());
        let mut list = List::default();
        properties::io_weights(&r.block_io, IoFile::BfqWeight, &mut list);
        self.bfq_weights = list.done();
        Ok(())
    }

    fn devices(&self, r: &Resources, when: When, out: &mut List) -> Result<()> {
        match self.which {
            Which::System => devices::properties(r, when, out),
            // A user's systemd may not load device programs.
            Which::User => Ok(()),
        }
    }

    /// Makes the unit with the process in it. `made` becomes true as soon as systemd has taken it on: from then on it is
    /// this container's, also if it fails.
    pub(crate) fn start(&mut self, pid: Pid, made: &mut bool) -> Result<()> {
        let mut list = std::mem::take(&mut self.properties);
        let slice = is_slice(&self.name);
        if !slice {
            list.push(Property {
                name: "PIDs",
                value: Value::U32s(vec![number(pid)?]),
            });
        }
        let mut manager = Manager::connect(self.which)?;
        let job = manager.start(&self.name, &list)?;
        *made = true;
        manager.wait(&job, &format!("start unit `{}`", self.name))?;
        self.group.adopt()?;
        if !self.bfq_weights.is_empty() && self.io_file() == IoFile::BfqWeight {
            manager.set_properties(&self.name, &self.bfq_weights)?;
        }
        if slice && self.payload == Payload::InGroup {
            // A slice takes no process by itself.
            let dir = self.group.dir().context("the slice has no cgroup")?;
            return procs::attach(dir, pid);
        }
        if !slice {
            self.check_place(pid)?;
        }
        match self.payload {
            Payload::InGroup => Ok(()),
            Payload::InLeaf => self.group.divide(pid),
        }
    }

    fn check_place(&self, pid: Pid) -> Result<()> {
        let found = detect::unified_path(&format!("/proc/{pid}/cgroup"))?;
        ensure!(
            found == self.group.at().path,
            "systemd: unit `{}` is at cgroup `/{found}`, expected `/{}`",
            self.name,
            self.group.at().path
        );
        Ok(())
    }

    fn io_file(&self) -> IoFile {
        match self.group.dir() {
            Some(dir) if dir.has("io.bfq.weight") => IoFile::BfqWeight,
            _ => IoFile::Weight,
        }
    }

    /// Sets other limits, or for all of `r` the same again.
    pub(crate) fn update_limits(&self, r: &Resources) -> Result<()> {
        let mut list = List::default();
        properties::limits(r, When::Update, self.io_file(), &mut list)?;
        self.update(list)?;
        self.apply_limits(r)
    }

    /// What `update_limits` will change of the unit.
    pub(crate) fn saved_properties(&self, r: &Resources) -> Result<Vec<Property>> {
        let mut list = List::default();
        properties::limits(r, When::Update, self.io_file(), &mut list)?;
        let names: BTreeSet<_> = list.done().iter().map(|property| property.name).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Manager::connect(self.which)?.properties(&self.name, &names)
    }

    pub(crate) fn restore_properties(&self, saved: Vec<Property>) -> Result<()> {
        let mut list = List::default();
        for property in saved {
            if let Value::Rates(_) = property.value {
                // Added to what is there, unless it is empty.
                list.push(property.name, Value::Rates(Vec::new()));
            }
            list.push(property.name, property.value);
        }
        self.update(list)
    }

    pub(crate) fn update_devices(&self, r: &Resources) -> Result<()> {
        let mut list = List::default();
        self.devices(r, When::Update, &mut list)?;
        self.update(list)?;
        self.group.apply_devices(r)
    }

    fn update(&self, list: List) -> Result<()> {
        let list = list.done();
        if list.is_empty() {
            return Ok(());
        }
        Manager::connect(self.which)?.set_properties(&self.name, &list)
    }

    /// To the cgroup's files alone.
    pub(crate) fn apply_limits(&self, r: &Resources) -> Result<()> {
        self.group.apply_limits(&properties::rounded(r))
    }

    /// Where a user has no right to move processes, the user's systemd has.
    pub(crate) fn for_exec(&self, sub: &SubPaths) -> Result<Place> {
        let place = self.group.for_exec(sub)?;
        Ok(match self.which {
            Which::System => place,
            Which::User => place.by_unit(Member {
                unit: self.name.clone(),
                which: self.which,
                sub: format!("/{}", self.group.below(sub)),
            }),
        })
    }

    /// Stops the unit and removes what is left of its cgroup.
    pub(crate) fn remove(&self, left: Left, time: Duration) -> Result<()> {
        if left == Left::Kill {
            // At once: systemd would first ask its processes to end, and a frozen one would never.
            if let Some(dir) = self.group.dir() {
                procs::kill_left_over(dir)?;
            }
            Manager::connect(self.which)?.stop(&self.name)?;
        }
        self.group.remove(left, Deadline::after(time))
    }
}

/// A unit, or a cgroup below its own.
#[derive(Debug)]
pub(crate) struct Member {
    unit: String,
    which: Which,
    sub: String,
}

impl Member {
    pub(crate) fn attach(&self, pid: Pid) -> Result<()> {
        Manager::connect(self.which)?.attach(&self.unit, &self.sub, number(pid)?)
    }
}

fn number(pid: Pid) -> Result<u32> {
    u32::try_from(pid.as_raw()).context("process id")
}

/// What every container's unit is.
fn describe(name: &UnitName, id: &str, out: &mut List) {
    out.set("Description", Value::Str(format!("rundlet container {id}")));
    if is_slice(&name.unit) {
        out.set("Wants", Value::Strs(vec![name.slice.clone()]));
    } else {
        out.set("Slice", Value::Str(name.slice.clone()));
        // The cgroups below belong to the container, and systemd attaches its own device program so that others count too.
        out.set("Delegate", Value::Bool(true));
    }
    out.set("DefaultDependencies", Value::Bool(false));
    for accounting in [
        "CPUAccounting",
        "MemoryAccounting",
        "IOAccounting",
        "TasksAccounting",
    ] {
        out.set(accounting, Value::Bool(true));
    }
}
