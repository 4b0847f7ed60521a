//! The runtime's side of every verb, one file each. A verb takes the state it needs as a type, so that the error for a wrong
//! state is made here, once. Called by `cli`.

pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod creating;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod foreground;
pub(crate) mod id_maps;
mod image_check;
mod image_names;
pub(crate) mod kept;
pub(crate) mod kill;
pub(crate) mod launch;
pub(crate) mod list;
mod listener;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod pause;
pub(crate) mod placement;
pub(crate) mod ps;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod update;
pub(crate) mod usage;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::unistd::Pid;

use self::options::Context;
use self::record::{ProcessId, Record};
use self::status::Status;
use self::store::{Slot, Store};
use crate::cgroup::Cgroup;
use crate::sys::pidfd;
use crate::timings;

/// A container that exists, as its record and the kernel describe it at the time of opening.
pub(crate) struct Container {
    pub(crate) slot: Slot,
    pub(crate) record: Record,
    pub(crate) status: Status,
}

/// A container whose init has not yet been told to start.
pub(crate) struct Created(Live);

/// A container whose init lives: created, running or paused.
pub(crate) struct Live {
    pub(crate) container: Container,
    pub(crate) init: ProcessId,
    pidfd: OwnedFd,
}

/// A container without processes of its own.
pub(crate) struct Stopped(pub(crate) Container);

impl Container {
    pub(crate) fn open(context: &Context, id: &str) -> Result<Container> {
        timings::phase("state");
        Container::load(Store::new(context).slot(id)?)
    }

    pub(crate) fn load(slot: Slot) -> Result<Container> {
        let record = slot.read()?;
        Container::of(slot, record)
    }

    pub(crate) fn of(slot: Slot, record: Record) -> Result<Container> {
        let status = status::of(&slot, &record)?;
        Ok(Container {
            slot,
            record,
            status,
        })
    }

    pub(crate) fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::open(&self.record.cgroup)
    }

    /// The init by pidfd, with its identity checked after the descriptor was opened (Z5).
    pub(crate) fn live(self) -> Result<Live> {
        match self.live_or_stopped()? {
            Ok(live) => Ok(live),
            // Engines look for these words.
            Err(Stopped(container)) => {
                bail!(
                    "container not running: `{}` is {}",
                    container.slot.id,
                    container.status
                )
            }
        }
    }

    /// The same for those to whom a container that has just stopped is as good.
    pub(crate) fn live_or_stopped(self) -> Result<std::result::Result<Live, Stopped>> {
        let Some(init) = self.record.init.filter(|_| self.status != Status::Stopped) else {
            return Ok(Err(Stopped(self)));
        };
        let pidfd = match pidfd::open(Pid::from_raw(init.pid)) {
            Err(Errno::ESRCH) => None,
            other => {
                Some(other.with_context(|| format!("open pidfd of init process {}", init.pid))?)
            }
        };
        Ok(match pidfd.filter(|_| status::is_alive(init)) {
            Some(pidfd) => Ok(Live {
                container: self,
                init,
                pidfd,
            }),
            None => Err(self.ended()),
        })
    }

    /// Once its processes are known to have ended.
    pub(crate) fn ended(self) -> Stopped {
        Stopped(Container {
            status: Status::Stopped,
            ..self
        })
    }

    pub(crate) fn created(self) -> Result<Created> {
        let id = &self.slot.id;
        match self.status {
            Status::Created => Ok(Created(self.live()?)),
            Status::Stopped => bail!("cannot start a container that has stopped: `{id}`"),
            Status::Running => bail!("cannot start an already running container: `{id}`"),
            other => bail!("cannot start a container in the {other} state: `{id}`"),
        }
    }

    pub(crate) fn stopped(self) -> Result<Stopped> {
        match self.status {
            Status::Stopped => Ok(Stopped(self)),
            other => bail!(
                "cannot delete container `{}` that is not stopped: {other}",
                self.slot.id
            ),
        }
    }
}

impl Live {
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Created {
    pub(crate) fn live(&self) -> &Live {
        &self.0
    }
}
