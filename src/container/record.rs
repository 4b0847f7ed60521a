//! state.json: everything a later verb needs to know, so that nothing is read from the bundle again (V2). Written whole and
//! renamed (Z1); the first one is written before a cgroup or a process exists (Z2). Used by `container` alone.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::fs::atomic;
use crate::plan::hooks::Hooks;
use crate::plan::namespaces::Kind;
use crate::plan::process::Process;
use crate::plan::resources::Resources;
use crate::plan::state::State;

/// Raised when an older rundlet could not understand the record any more.
const VERSION: u32 = 1;
const FILE: &str = "state.json";

/// A process that stays the same one: pids are reused, start times with them are not (Z5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat (proc(5)).
    pub(crate) start_time: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) state: State,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    /// The runtime process that makes the container; alive means `creating`.
    pub(crate) creator: ProcessId,
    /// The container's init; none while the container is being made.
    pub(crate) init: Option<ProcessId>,
    pub(crate) cgroup: cgroup::Record,
    /// Namespaces not shared with the host.
    pub(crate) namespaces: Vec<Kind>,
    pub(crate) process: Process,
    /// `NAME=VALUE` that exec adds too.
    pub(crate) has_filter: bool,
    pub(crate) hooks: Hooks,
    pub(crate) resources: Resources,
    pub(crate) new_keyring: bool,
    /// Whether the container was made with NOTIFY_SOCKET to be relayed.
    pub(crate) notify_socket: Option<PathBuf>,
}

/// Everything but the version.
pub(crate) struct NewRecord {
    pub(crate) state: State,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) creator: ProcessId,
    pub(crate) cgroup: cgroup::Record,
    pub(crate) namespaces: Vec<Kind>,
    pub(crate) process: Process,
    pub(crate) has_filter: bool,
    pub(crate) hooks: Hooks,
    pub(crate) resources: Resources,
    pub(crate) new_keyring: bool,
    pub(crate) notify_socket: Option<PathBuf>,
}

impl From<NewRecord> for Record {
    fn from(new: NewRecord) -> Record {
        Record {
            version: VERSION,
            state: new.state,
            rootfs: new.rootfs,
            created: new.created,
            creator: new.creator,
            init: None,
            cgroup: new.cgroup,
            namespaces: new.namespaces,
            process: new.process,
            has_filter: new.has_filter,
            hooks: new.hooks,
            resources: new.resources,
            new_keyring: new.new_keyring,
            notify_socket: new.notify_socket,
        }
    }
}
