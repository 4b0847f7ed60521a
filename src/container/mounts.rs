//! `mounts`: bind mounts and tmpfs that a running container is given, and that are taken away again. The work is done by a process that
//! joins the container's mount namespace (`init/live.rs`); what it has made is written down before it is told that it may stay.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::options::{Context, MountsOptions};
use super::store::{Lock, Store};
use super::{Container, Live, placement};
use crate::init::{self, Joined, MountChange};
use crate::plan::host::Host;
use crate::plan::live_mounts;
use crate::plan::namespaces::Kind;
use crate::plan::rootfs::RootfsPlan;
use crate::proto::{self, FromInit, RuntimeEnd, ToInit};
use crate::rootfs::live;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::pidfd;
use crate::{sealed, spec, sys, timings};

/// A file system of the container's, which has the places to mount on, may not answer. With the time for the end of the process it is
/// less than others wait for the lock.
const LIMIT: Duration = Duration::from_secs(15);

/// What both changes begin with.
struct Change {
    given: Vec<spec::Mount>,
    live: Live,
    host: Host,
    /// Of two at once the second knows what the first has added.
    _lock: Lock,
}

impl Change {
    fn begin(context: &Context, options: &MountsOptions) -> Result<Change> {
        sealed::ensure()?;
        sys::protect::release();
        timings::phase("list of mounts");
        let given = spec::load_mounts(&options.from)?;
        timings::phase("state");
        let slot = Store::new(context).slot(&options.id)?;
        let lock = slot.lock()?;
        let live = Container::load(slot)?.live()?;
        let host = Host::probe()?;
        check_container(&live, &host)?;
        timings::phase("plan");
        Ok(Change {
            given,
            live,
            host,
            _lock: lock,
        })
    }
}

pub(crate) fn add(context: &Context, options: &MountsOptions) -> Result<()> {
    let mut change = Change::begin(context, options)?;
    let record = &change.live.container.record;
    let outside = record.outside.as_ref();
    let outside = outside.map(|kept| kept.get("outside")).transpose()?;
    let plan = live_mounts::add(
        &change.given,
        &live_mounts::Container {
            bundle: &record.state.bundle,
            has_user_namespace: record.has(Kind::User),
            mount_label: record.mount_label.as_deref(),
            masked: outside
                .as_ref()
                .map_or(&[], |outside| outside.masked.as_slice()),
            added: &record.added,
        },
    )?;
    timings::phase("sources");
    let user = user_namespace(&change.live, &plan)?;
    let trees = live::open_sources(&plan, user.as_ref().map(OwnedFd::as_fd))?;
    drop(user);
    timings::phase("mount");
    let helper = Helper::start(&change.host, &change.live, MountChange::Add(&plan, trees))?;
    let FromInit::Mounted(numbers) = helper.hear()? else {
        bail!("the process that mounts sent a message of another kind");
    };
    let added = live_mounts::added(&change.given, &plan, &numbers)?;
    let container = &mut change.live.container;
    container.record.added.extend(added);
    // Should this fail, or this process be killed, the mounts are taken away again.
    container.slot.write(&container.record)?;
    helper.commit()
}

pub(crate) fn remove(context: &Context, options: &MountsOptions) -> Result<()> {
    let mut change = Change::begin(context, options)?;
    let known = &change.live.container.record.added;
    let places = live_mounts::remove(&change.given, known)?;
    let going: Vec<_> = places.iter().map(|place| &known[*place]).collect();
    timings::phase("unmount");
    let helper = Helper::start(&change.host, &change.live, MountChange::Remove(&going))?;
    let answer = helper.hear()?;
    ensure!(
        answer == FromInit::Ready,
        "the process that unmounts sent a message of another kind"
    );
    helper.finish()?;
    let container = &mut change.live.container;
    for place in places {
        container.record.added.remove(place);
    }
    container.slot.write(&container.record)
}

/// What was added, as it was given, so that it can be given to `remove`.
pub(crate) fn list(context: &Context, id: &str) -> Result<Vec<serde_json::Value>> {
    timings::phase("state");
    let container = Container::open(context, id)?;
    let added = container.record.added.into_iter();
    Ok(added.map(|added| added.mount).collect())
}

fn check_container(live: &Live, host: &Host) -> Result<()> {
    ensure!(
        !host.is_unprivileged(),
        "mounts: only root can give mounts of the host to a running container"
    );
    ensure!(
        !live.container.record.chrooted,
        "linux.namespaces: the container has no mount namespace of its own, and what is mounted for it would be so for others"
    );
    Ok(())
}

/// Where a mount is to show the container's ids.
fn user_namespace(live: &Live, plan: &RootfsPlan) -> Result<Option<OwnedFd>> {
    let wanted = plan.namespaces.user && plan.mounts.iter().any(|op| op.idmap.is_some());
    if !wanted {
        return Ok(None);
    }
    let namespace = placement::namespace_of(Pid::from_raw(live.init.pid), "user")?;
    // The pid was the init's all the time, or this fails (Z5).
    pidfd::send_signal(live.pidfd(), 0).context("look for the container's init")?;
    Ok(Some(namespace))
}

/// The process in the container's mount namespace. Dropped without a word it takes back what it has mounted.
struct Helper {
    /// None once there is nothing left to be said.
    end: Option<RuntimeEnd>,
    pid: Pid,
    pidfd: OwnedFd,
    finished: bool,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.end = None;
        if pidfd::await_end(self.pidfd.as_fd(), placement::END_LIMIT) == Ok(false) {
            let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        }
        placement::reap(self.pid, self.pidfd.as_fd());
    }
}

impl Helper {
    fn start(host: &Host, live: &Live, change: MountChange<'_>) -> Result<Helper> {
        placement::keep_children_for_wait(host)?;
        let (end, helper_end) = proto::pair()?;
        placement::hide_from_container(host)?;
        let request = CloneRequest {
            flags: CloneFlags::empty(),
            cgroup: None,
        };
        let cloned = clone3(&request).context("clone a process for the container's mounts")?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            drop(end);
            let joined = if live.container.record.has(Kind::User) {
                Joined::UserAndMount
            } else {
                Joined::Mount
            };
            init::change_mounts(change, joined, live.pidfd(), &helper_end)
        };
        drop((helper_end, change));
        Ok(Helper {
            end: Some(end),
            pid,
            pidfd,
            finished: false,
        })
    }

    /// Its one message; what went wrong there is the error.
    fn hear(&self) -> Result<FromInit> {
        let end = self.end.as_ref().context("nobody is left to answer")?;
        let heard = end.receive(Some(self.pidfd.as_fd()), Some(LIMIT));
        match heard.context("the process that changes mounts")? {
            Some(FromInit::Failed(failure)) => Err(failure.into()),
            Some(message) => Ok(message),
            None => bail!(
                "the process that changes mounts died: {}",
                placement::describe_death(self.pid, self.pidfd.as_fd())
            ),
        }
    }

    fn commit(self) -> Result<()> {
        if let Some(end) = &self.end {
            end.send(ToInit::Committed)?;
        }
        self.finish()
    }

    fn finish(mut self) -> Result<()> {
        self.finished = true;
        placement::await_stage(self.pid, self.pidfd.as_fd())
    }
}
