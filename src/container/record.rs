//! state.json: everything a later verb needs to know, so that nothing is read from the bundle again (V2). Written whole and
//! renamed (Z1); the first one is written before a cgroup or a process exists (Z2). Used by `container` alone.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::cgroup;
use crate::fs::{atomic, small};
use crate::plan::hooks::Hooks;
use crate::plan::landlock::Landlock;
use crate::plan::live_mounts::Added;
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::namespaces::Kind;
use crate::plan::outside::Outside;
use crate::plan::process::Process;
use crate::plan::resources::Resources;
use crate::plan::seccomp::Listener;
use crate::plan::state::State;
use crate::rdt;
use crate::sys::fd::Later;

/// Raised when an older rundlet could not understand the record any more.
pub(crate) const VERSION: u32 = 1;
pub(super) const FILE: &str = "state.json";
const CREATED: &str = "state.json.created";

/// A process that stays the same one: pids are reused, start times with them are not (Z5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat (proc(5)).
    pub(crate) start_time: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) state: State,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    /// The runtime process that makes the container; while it lives and there is no init the status is `creating`.
    pub(crate) creator: ProcessId,
    /// The container's init; none while the container is being made.
    pub(crate) init: Option<ProcessId>,
    pub(crate) cgroup: cgroup::record::Record,
    /// Namespaces not shared with the host.
    pub(crate) namespaces: Vec<Kind>,
    /// The container's root is not that of a mount namespace, so exec finds it by the init alone.
    #[serde(default)]
    pub(crate) chrooted: bool,
    pub(crate) process: Kept<Process>,
    /// Whether a compiled seccomp filter lies beside the record.
    pub(crate) has_filter: bool,
    /// Where the notify descriptors of exec's processes go.
    #[serde(default)]
    pub(crate) listener: Option<Kept<Listener>>,
    /// For exec, as it fits this kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) landlock: Option<Kept<Landlock>>,
    pub(crate) hooks: Kept<Hooks>,
    pub(crate) resources: Kept<Resources>,
    /// exec joins the container's session keyring.
    pub(crate) new_keyring: bool,
    /// For exec, as is the personality.
    #[serde(default)]
    pub(crate) memory_policy: Option<Kept<MemoryPolicy>>,
    #[serde(default)]
    pub(crate) personality: Option<i32>,
    /// The resctrl group, once it is made.
    #[serde(default)]
    pub(crate) rdt: Option<rdt::Record>,
    /// What `mounts add` has made and `mounts remove` may take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added: Vec<Added>,
    /// For `mounts add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mount_label: Option<String>,
    /// For checkpoint.
    #[serde(default)]
    pub(crate) outside: Option<Kept<Outside>>,
}

/// What `state` and `list` show of it: the rest is passed over and takes no memory.
#[derive(Deserialize)]
pub(crate) struct Brief {
    version: u32,
    pub(super) state: State,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) creator: ProcessId,
    pub(super) init: Option<ProcessId>,
    pub(super) cgroup: cgroup::record::Record,
}

/// What both forms have to be asked before anything is believed.
pub(crate) trait Stored: DeserializeOwned {
    fn version(&self) -> u32;
    fn state(&self) -> &State;
    fn creator(&self) -> ProcessId;
    fn init(&self) -> Option<ProcessId>;
}

macro_rules! stored {
    ($form:ty) => {
        impl Stored for $form {
            fn version(&self) -> u32 {
                self.version
            }
            fn state(&self) -> &State {
                &self.state
            }
            fn creator(&self) -> ProcessId {
                self.creator
            }
            fn init(&self) -> Option<ProcessId> {
                self.init
            }
        }
    };
}

stored!(Record);
stored!(Brief);

fn read<T: Stored>(dir: BorrowedFd<'_>, id: &str) -> Result<T> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = openat(dir, FILE, flags, Mode::empty()).context("open `state.json`")?;
    let bytes = small::read_open(Later::new(file)).context("read `state.json`")?;
    parse(&bytes, id)
}

/// Refuses what is another container's record, and numbers that are no process: to the kernel they are a group, or all.
pub(crate) fn parse<T: Stored>(bytes: &[u8], id: &str) -> Result<T> {
    let record: T = serde_json::from_slice(bytes).context("parse `state.json`")?;
    ensure!(
        record.version() == VERSION,
        "`state.json` has format {}, this rundlet knows {VERSION}: use the rundlet that made the container",
        record.version()
    );
    ensure!(
        record.state().id == id,
        "`state.json` is of container `{}`",
        record.state().id.escape_debug()
    );
    for (field, process) in [("creator", Some(record.creator())), ("init", record.init())] {
        let pid = process.map_or(1, |process| process.pid);
        ensure!(pid > 0, "`state.json`: {field}.pid: {pid} is no process");
    }
    Ok(record)
}

/// From now on what [`Record::write_created`] has written holds.
pub(crate) fn put_created(dir: BorrowedFd<'_>) -> Result<()> {
    atomic::put(dir, OsStr::new(CREATED), OsStr::new(FILE))
}

impl Brief {
    pub(crate) fn read(dir: BorrowedFd<'_>, id: &str) -> Result<Brief> {
        read(dir, id)
    }
}

impl Record {
    pub(crate) fn read(dir: BorrowedFd<'_>, id: &str) -> Result<Record> {
        read(dir, id)
    }

    pub(crate) fn write(&self, dir: BorrowedFd<'_>) -> Result<()> {
        self.write_beside(dir, FILE)?;
        atomic::put(dir, OsStr::new(FILE), OsStr::new(FILE))
    }

    /// What holds once the container is created, for [`put_created`]. Under a name of its own: a hook, or somebody else, may change
    /// the record meanwhile.
    pub(crate) fn write_created(&self, dir: BorrowedFd<'_>) -> Result<()> {
        self.write_beside(dir, CREATED)
    }

    fn write_beside(&self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("write `state.json`")?;
        atomic::write_beside(dir, OsStr::new(name), Mode::S_IRUSR | Mode::S_IWUSR, &bytes)
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.namespaces.contains(&kind)
    }
}
