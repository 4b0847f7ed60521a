//! `events --follow-all`: what becomes of all containers of a state root, as it happens. One poll, no thread: inotify tells of
//! state directories, of what is written in them and of the freezers, a pidfd of each init's end, and the cgroups of OOM kills.
//!
//! What wakes it only says where to look; what is told is the difference between what a look finds and what was told before.
//! Watches are set before the look, so that nothing falls between. Called by `cli`.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::unistd::Pid;

use self::told::Told;
use super::options::Context;
use super::output::{ContainerData, EventOutput};
use super::record::{Brief, ProcessId};
use super::status::{self, Status};
use super::store::{GATE, Slot, Store, check_id};
use crate::cgroup::procs::{Deadline, timeout};
use crate::cgroup::watch::OomBell;
use crate::cgroup::{self, Cgroup};
use crate::error::NotExist;
use crate::sys::{fd, pidfd};
use crate::{log, timings};

/// Directories that come and go.
const ROOT: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// Records are renamed into place; the gate goes away at the start.
const STATE: AddWatchFlags = AddWatchFlags::IN_MOVED_TO
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// The statistics of all that live, once.
pub(crate) fn stats(
    context: &Context,
    mut report: impl FnMut(&EventOutput) -> Result<()>,
) -> Result<()> {
    let mut follow = Follow::begin(context)?;
    for event in follow.measure() {
        report(&event)?;
    }
    Ok(())
}

/// Happenings at once, and statistics at every interval; ends with an error alone.
pub(crate) fn follow(
    context: &Context,
    interval: Duration,
    mut report: impl FnMut(&EventOutput) -> Result<()>,
) -> Result<()> {
    let mut follow = Follow::begin(context)?;
    let mut tick = Deadline::after(interval);
    loop {
        for event in std::mem::take(&mut follow.told) {
            report(&event)?;
        }
        if tick.is_over() {
            tick = Deadline::after(interval);
            for event in follow.measure() {
                report(&event)?;
            }
        }
        follow.wait(tick)?;
    }
}

/// What has been told of one container.
struct Known {
    slot: Slot,
    /// Which one of this id: when and by whom it was made.
    who: (String, ProcessId),
    told: Told,
    data: ContainerData,
    /// While its init lives.
    live: Option<Live>,
}

struct Live {
    pidfd: OwnedFd,
    /// Opened when it is asked: on v1 it has a descriptor for each hierarchy.
    cgroup: cgroup::record::Record,
    bell: Option<OomBell>,
    freezer: Option<WatchDescriptor>,
}

impl Live {
    /// For want of memory, since it was asked last. A bell that cannot be asked would not be quiet any more.
    fn has_lost_a_process(&mut self) -> bool {
        let Some(bell) = &mut self.bell else {
            return false;
        };
        let cgroup = Cgroup::open(&self.cgroup);
        if cgroup.is_err() {
            self.bell = None;
            return false;
        }
        cgroup.is_ok_and(|cgroup| bell.has_rung(&cgroup))
    }
}

struct Follow {
    store: Store,
    notify: Inotify,
    root: WatchDescriptor,
    /// Whom a watch below the root is for.
    watches: BTreeMap<WatchDescriptor, String>,
    known: BTreeMap<String, Known>,
    told: Vec<EventOutput>,
}

impl Follow {
    /// What is there is told as `present`.
    fn begin(context: &Context) -> Result<Follow> {
        timings::phase("state");
        raise_descriptor_limit();
        let store = Store::new(context);
        let path = store.root()?;
        let notify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .context("make an inotify descriptor")?;
        let root = notify
            .add_watch(path, ROOT)
            .with_context(|| format!("--root: watch `{}`", path.display()))?;
        let mut follow = Follow {
            store,
            notify,
            root,
            watches: BTreeMap::new(),
            known: BTreeMap::new(),
            told: Vec::new(),
        };
        for id in follow.store.ids()? {
            follow.look(&id);
        }
        follow.told.clear();
        for (id, known) in &follow.known {
            if known.told.created {
                let event = EventOutput::of("present", id, Some(known.data.clone()));
                follow.told.push(event.now());
            }
        }
        timings::phase("statistics");
        Ok(follow)
    }

    fn measure(&mut self) -> Vec<EventOutput> {
        let live = self.known.iter().filter_map(|(id, known)| {
            // Of a cgroup that is going away there is nothing to tell; the next time may be better.
            let cgroup = Cgroup::open(&known.live.as_ref()?.cgroup).ok()?;
            let stats = cgroup.stats().ok()?;
            Some(EventOutput::stats(id, stats).now())
        });
        live.collect()
    }

    /// Until something has happened or the time is over.
    fn wait(&mut self, until: Deadline) -> Result<()> {
        // One of a removed container would keep the kernel from telling that the root has gone, too.
        fd::close_done();
        let mut polled = vec![PollFd::new(self.notify.as_fd(), PollFlags::POLLIN)];
        let mut whose = Vec::new();
        for (id, known) in &self.known {
            let Some(live) = &known.live else { continue };
            polled.push(PollFd::new(live.pidfd.as_fd(), PollFlags::POLLIN));
            whose.push((id.clone(), true));
            if let Some(bell) = &live.bell {
                polled.push(bell.poll_fd());
                whose.push((id.clone(), false));
            }
        }
        match poll(&mut polled, timeout(until.left())) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            other => other.context("poll what is watched")?,
        };
        let mut ids = BTreeSet::new();
        let mut ended = Vec::new();
        let mut rung = Vec::new();
        for (fd, (id, has_ended)) in polled[1..].iter().zip(whose) {
            if fd.any() == Some(true) {
                let list = if has_ended { &mut ended } else { &mut rung };
                list.push(id.clone());
                ids.insert(id);
            }
        }
        for id in rung {
            let live = self
                .known
                .get_mut(&id)
                .and_then(|known| known.live.as_mut());
            if live.is_some_and(Live::has_lost_a_process) {
                self.told.push(EventOutput::oom(&id).now());
            }
        }
        self.read_notes(&mut ids)?;
        for id in ids {
            self.look(&id);
        }
        for id in ended {
            self.ended(&id);
        }
        Ok(())
    }

    /// Its init has ended, and what a look goes by may be gone already: a delete takes the record first.
    fn ended(&mut self, id: &str) {
        let Some(mut known) = self.known.remove(id) else {
            return;
        };
        if known.live.is_some() {
            self.end(&mut known);
            known.data.status = Status::Stopped.as_str();
            known.data.pid = 0;
            let at_gate = !known.told.started;
            for kind in known.told.advance(Status::Stopped, at_gate) {
                self.tell(kind, id, &known.data);
            }
        }
        self.known.insert(id.to_owned(), known);
    }

    /// Whom inotify speaks of. A directory that has gone is told at once: there is nothing to be found any more.
    fn read_notes(&mut self, ids: &mut BTreeSet<String>) -> Result<()> {
        let notes = match self.notify.read_events() {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            other => other.context("read what inotify has to tell")?,
        };
        for note in notes {
            if note.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // Some was lost, and with it who it was about.
                ids.extend(self.store.ids()?);
                let known: Vec<String> = self.known.keys().cloned().collect();
                for id in known {
                    self.gone(&id);
                }
            } else if note.wd == self.root {
                self.note_of_root(&note, ids)?;
            } else if let Some(id) = self.watches.get(&note.wd) {
                ids.insert(id.clone());
                if note.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watches.remove(&note.wd);
                }
            }
        }
        Ok(())
    }

    fn note_of_root(&mut self, note: &InotifyEvent, ids: &mut BTreeSet<String>) -> Result<()> {
        let own = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        if note.mask.intersects(own | AddWatchFlags::IN_IGNORED) {
            bail!("--root: the state root is gone");
        }
        let name = note.name.as_ref().and_then(|name| name.to_str());
        let Some(id) = name.filter(|id| check_id(id).is_ok()) else {
            return Ok(());
        };
        if !note.mask.contains(AddWatchFlags::IN_ISDIR) {
            return Ok(());
        }
        let leaves = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        if note.mask.intersects(leaves) && !self.gone(id) && !self.known.contains_key(id) {
            // It was gone before anybody could look, or was never more than tried.
            self.told.push(EventOutput::of("deleted", id, None).now());
        }
        ids.insert(id.to_owned());
        Ok(())
    }

    /// Tells the end of a container whose directory is no longer at its name; false if there is nothing to tell.
    fn gone(&mut self, id: &str) -> bool {
        let here = |known: &Known| known.slot.is_current().unwrap_or(false);
        if self.known.get(id).is_none_or(here) {
            return false;
        }
        if let Some(mut known) = self.known.remove(id) {
            self.end(&mut known);
            let stopped = known.told.created && known.told.status != Some(Status::Stopped);
            known.data.status = Status::Stopped.as_str();
            known.data.pid = 0;
            if stopped {
                self.tell("stopped", id, &known.data);
            }
            self.tell("deleted", id, &known.data);
        }
        true
    }

    fn tell(&mut self, kind: &'static str, id: &str, data: &ContainerData) {
        let event = EventOutput::of(kind, id, Some(data.clone()));
        self.told.push(event.now());
    }

    fn look(&mut self, id: &str) {
        match self.look_at(id) {
            // Its directory's end comes with a note of its own.
            Err(error) if error.is::<NotExist>() => {}
            Err(error) => log::warn(format_args!("skipped: {}", crate::error::chain(&error))),
            Ok(()) => {}
        }
    }

    fn look_at(&mut self, id: &str) -> Result<()> {
        let slot = self.store.slot(id)?;
        match self.notify.add_watch(slot.path(), STATE) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            other => {
                let watch = other.with_context(|| format!("watch `{}`", slot.path().display()))?;
                self.watches.insert(watch, id.to_owned());
            }
        }
        let brief = slot.read_brief()?;
        let who = (brief.created.clone(), brief.creator);
        if self.known.get(id).is_some_and(|known| known.who != who) {
            self.gone(id);
        }
        let mut known = self.known.remove(id).unwrap_or_else(|| Known {
            slot,
            who,
            told: Told::default(),
            data: ContainerData::default(),
            live: None,
        });
        let outcome = self.compare(id, &brief, &mut known);
        self.known.insert(id.to_owned(), known);
        outcome
    }

    /// Tells what is new of it.
    fn compare(&mut self, id: &str, brief: &Brief, known: &mut Known) -> Result<()> {
        let stopped = known.told.status == Some(Status::Stopped);
        if let Some(init) = brief.init.filter(|_| known.live.is_none() && !stopped) {
            known.live = self.arm(id, init, brief);
        }
        let status = status::from(&known.slot, brief.creator, brief.init, &brief.cgroup)?;
        let pid = brief.init.filter(|_| status != Status::Stopped);
        known.data = ContainerData {
            status: status.as_str(),
            pid: pid.map_or(0, |init| init.pid),
            bundle: brief.state.bundle.to_string_lossy().into_owned(),
        };
        if brief.init.is_none() {
            return Ok(());
        }
        // Before the end that it may have caused.
        if known.live.as_mut().is_some_and(Live::has_lost_a_process) {
            self.told.push(EventOutput::oom(id).now());
        }
        // `start` takes the gate away; before it an init that is dying leaves it behind without anybody at it. A delete takes
        // it, too, but the record first: then nobody knows any more.
        let has = |name| known.slot.path().join(name).exists();
        let at_gate = status == Status::Created || has(GATE) || !has(super::record::FILE);
        for kind in known.told.advance(status, at_gate) {
            self.tell(kind, id, &known.data);
        }
        if status == Status::Stopped {
            self.end(known);
        }
        Ok(())
    }

    /// What can be watched of a container that lives; what cannot is left out.
    fn arm(&mut self, id: &str, init: ProcessId, brief: &Brief) -> Option<Live> {
        let pidfd = pidfd::open(Pid::from_raw(init.pid)).ok()?;
        if !status::is_alive(init) {
            return None;
        }
        let cgroup = Cgroup::open(&brief.cgroup).ok().filter(Cgroup::exists);
        let freezer = cgroup.as_ref().and_then(Cgroup::freezer).and_then(|dir| {
            // A write is noticed as in any file.
            let watch = |file| {
                let modified = AddWatchFlags::IN_MODIFY;
                self.notify.add_watch(&dir.join(file), modified).ok()
            };
            watch("cgroup.freeze").or_else(|| watch("freezer.state"))
        });
        if let Some(watch) = freezer {
            self.watches.insert(watch, id.to_owned());
        }
        let bell = cgroup.as_ref().and_then(|cgroup| {
            let bell = cgroup.oom_bell();
            bell.unwrap_or_else(|error| {
                log::debug(format_args!("{id}: {}", crate::error::chain(&error)));
                None
            })
        });
        Some(Live {
            pidfd,
            cgroup: brief.cgroup.clone(),
            bell,
            freezer,
        })
    }

    /// Its init has ended. A watch would keep what the kernel has of the freezer's file.
    fn end(&mut self, known: &mut Known) {
        let freezer = known.live.take().and_then(|live| live.freezer);
        if let Some(watch) = freezer {
            // ENOENT: the kernel has taken it away with the file.
            let _ = self.notify.rm_watch(watch);
            self.watches.remove(&watch);
        }
    }
}

/// Each container takes up to three. Where there can be no more, what cannot be watched is left out.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
