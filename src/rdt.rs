//! Groups of resctrl, the kernel's interface to Intel RDT and its like: a share of cache and memory bandwidth (a class of
//! service), and monitoring. Called by `container` (create, exec, delete, update). The root is a mounted resctrl file system;
//! the unit tests use a plain directory.
//!
//! A group that was named by `closID` may be shared by others and stays; the container's own is removed with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::fs::mountinfo;
use crate::plan::rdt::{Monitoring, Rdt};

/// What the container's record keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    root: PathBuf,
    path: PathBuf,
    /// Below `path`, always the container's own.
    monitoring: Option<PathBuf>,
    /// Whether `path` goes with the container.
    own: bool,
}

/// The group of one container.
#[derive(Debug)]
pub(crate) struct Group {
    record: Record,
    /// Directories that were made just now, outermost first.
    made: Vec<PathBuf>,
}

/// What lies beside the groups in the root of resctrl.
const RESERVED: &[&str] = &["info", "mon_groups", "mon_data"];

/// Where resctrl is mounted.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let table = mountinfo::read_own()?;
    find_mount(&table).context(
        "linux.intelRdt: no resctrl file system is mounted: the CPU or the kernel has no resource control, or \
         `mount -t resctrl resctrl /sys/fs/resctrl` is missing",
    )
}

pub(crate) fn find_mount(table: &[u8]) -> Option<PathBuf> {
    mountinfo::lines(table)
        .find(|mount| mount.kind == b"resctrl")
        .map(|mount| mount.point())
}

impl Group {
    /// Finds or makes the group of container `id`. What was made for a group that then fails is removed again.
    pub(crate) fn make(root: &Path, id: &str, plan: &Rdt) -> Result<Group> {
        check_support(root, &plan.schemata)?;
        ensure!(
            plan.monitoring == Monitoring::Off || root.join("info/L3_MON").is_dir(),
            "linux.intelRdt.enableMonitoring: this machine cannot monitor cache or bandwidth (`{}/info/L3_MON`)",
            root.display()
        );
        let name = plan.class.as_deref().unwrap_or(id);
        ensure!(
            !RESERVED.contains(&name),
            "linux.intelRdt.closID: `{name}` is a directory of resctrl itself, not a group"
        );
        let path = match plan.class.as_deref() {
            None => root.join(id),
            Some("/") => root.to_owned(),
            Some(class) => root.join(class),
        };
        let monitoring =
            (plan.monitoring == Monitoring::On).then(|| path.join("mon_groups").join(id));
        let mut group = Group {
            record: Record {
                root: root.to_owned(),
                path: path.clone(),
                monitoring,
                own: false,
            },
            made: Vec::new(),
        };
        match group.fill(plan) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.undo();
                Err(error)
            }
        }
    }

    fn fill(&mut self, plan: &Rdt) -> Result<()> {
        let path = self.record.path.clone();
        if path.is_dir() {
            if plan.class.is_some() && !plan.schemata.is_empty() {
                self.compare(&plan.schemata)?;
            } else {
                self.apply(&plan.schemata)?;
            }
        } else {
            ensure!(
                plan.class.is_none() || !plan.schemata.is_empty(),
                "linux.intelRdt.closID: there is no group `{}`, and without a schema none is made",
                path.display()
            );
            self.make_directory(&path)?;
            self.record.own = plan.class.is_none();
            self.apply(&plan.schemata)?;
        }
        match self.record.monitoring.clone() {
            Some(monitoring) => self.make_directory(&monitoring),
            None => Ok(()),
        }
    }

    fn make_directory(&mut self, path: &Path) -> Result<()> {
        std::fs::create_dir(path).with_context(|| {
            let why = last_status(&self.record.root);
            format!(
                "linux.intelRdt: make resctrl group `{}`{why}",
                path.display()
            )
        })?;
        self.made.push(path.to_owned());
        Ok(())
    }

    pub(crate) fn open(record: &Record) -> Group {
        Group {
            record: record.clone(),
            made: Vec::new(),
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Puts a process into the group, and what it clones from then on. The group first: the kernel takes into a monitoring
    /// group only who is in the group above.
    pub(crate) fn place(&self, pid: Pid) -> Result<()> {
        let groups = std::iter::once(&self.record.path).chain(&self.record.monitoring);
        for group in groups {
            self.write(&group.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Writes lines of the schemata file, in one write as the kernel wants it. Without lines nothing is written.
    pub(crate) fn apply(&self, schemata: &[String]) -> Result<()> {
        if schemata.is_empty() {
            return Ok(());
        }
        let text = schemata.join("\n") + "\n";
        self.write(&self.record.path.join("schemata"), &text)
            .with_context(|| format!("linux.intelRdt: set `{}`", schemata.join("`, `")))
    }

    /// For `update`: other lines for a group that is there. Returns what they were.
    pub(crate) fn change(&self, schemata: &[String]) -> Result<Vec<String>> {
        check_support(&self.record.root, schemata)?;
        let old = self.schemata()?;
        self.apply(schemata)?;
        Ok(old.lines().map(|line| line.trim().to_owned()).collect())
    }

    fn schemata(&self) -> Result<String> {
        let file = self.record.path.join("schemata");
        std::fs::read_to_string(&file).with_context(|| format!("read `{}`", file.display()))
    }

    /// A group that others use as well is not changed: it must already be what is asked for.
    fn compare(&self, schemata: &[String]) -> Result<()> {
        let found = self.schemata().context("linux.intelRdt.closID")?;
        for line in schemata {
            ensure!(
                has_line(&found, line),
                "linux.intelRdt.closID: the group `{}` is there, but its schemata does not match `{}`",
                self.record.path.display(),
                line.trim()
            );
        }
        Ok(())
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .open(file)
            .and_then(|mut opened| opened.write_all(text.as_bytes()))
            .with_context(|| {
                let why = last_status(&self.record.root);
                format!("write resctrl file `{}`{why}", file.display())
            })
    }

    /// Removes what is the container's own; what is gone is no error, so that it can be repeated.
    pub(crate) fn remove(&self) -> Result<()> {
        let own = self.record.own.then_some(&self.record.path);
        for group in self.record.monitoring.iter().chain(own) {
            match std::fs::remove_dir(group) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("remove resctrl group `{}`", group.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes back what `make` made, a group named by `closID` included: nobody was told of it yet.
    pub(crate) fn undo(&mut self) {
        for group in self.made.drain(..).rev() {
            // Whatever stands in the way now stood in the way of the container too, and that is being reported.
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// resctrl makes a directory of `info` for each thing it can do.
fn check_support(root: &Path, schemata: &[String]) -> Result<()> {
    let has = |name: &str| root.join("info").join(name).is_dir();
    for line in schemata {
        let resource = line.split(':').next().unwrap_or_default().trim();
        ensure!(
            has(resource),
            "linux.intelRdt: `{}`: this machine has no control of `{resource}` (`{}/info`)",
            line.trim(),
            root.display()
        );
    }
    Ok(())
}

/// The kernel's own words on the last failure.
fn last_status(root: &Path) -> String {
    match std::fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(text) if !text.trim().is_empty() && text.trim() != "ok" => {
            format!(" ({})", text.trim().replace('\n', "; "))
        }
        _ => String::new(),
    }
}

/// Whether a schemata file says of each id what a line says: the kernel pads with blanks and zeros and sorts.
fn has_line(schemata: &str, line: &str) -> bool {
    let Some((resource, wanted)) = line.split_once(':') else {
        return false;
    };
    let of_resource = schemata.lines().find_map(|found| {
        let (name, rest) = found.split_once(':')?;
        (name.trim() == resource.trim()).then(|| values(rest))
    });
    of_resource.is_some_and(|found| values(wanted).iter().all(|value| found.contains(value)))
}

fn values(text: &str) -> Vec<(&str, &str)> {
    text.split(';')
        .filter_map(|part| part.split_once('='))
        .map(|(id, value)| (id.trim(), value.trim().trim_start_matches('0')))
        .collect()
}

#[cfg(test)]
#[path = "rdt/tests.rs"]
mod tests;
