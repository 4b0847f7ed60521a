//! A container being made: what to take back if it fails ([`Creating`]), and the runtime's half of the conversation with its
//! init ([`Ready`]). Used by `launch.rs`, `create.rs` and `run.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::record::{self, Record};
use super::status::Status;
use super::store::Slot;
use super::{Container, Live, delete, id_maps, listener, placement, status};
use crate::cgroup::Cgroup;
use crate::fs::{atomic, culprit};
use crate::plan::Plan;
use crate::plan::delegation::Delegation;
use crate::plan::hooks::longest;
use crate::plan::host::Host;
use crate::plan::namespaces::Kind;
use crate::plan::outside::Outside;
use crate::plan::rdt::Rdt;
use crate::plan::resources::Resources;
use crate::plan::state::Filtered;
use crate::proto::{ANSWER_LIMIT, FromInit, RuntimeEnd, ToInit};
use crate::sys::{pidfd, protect};
use crate::{hooks, log, net, rdt};

/// Measured by `conformance/memory/minimum.py`: the most that any shape of container needed on v1 or v2, rounded up.
const START_NEEDS: u32 = 160;

/// A container being made. Dropped before `committed` it leaves nothing behind.
pub(super) struct Creating {
    pub(super) slot: Slot,
    pub(super) record: Option<Record>,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) rdt: Option<rdt::Group>,
    pub(super) init: Option<(Pid, OwnedFd)>,
    /// The record with this init is written and waits to be put in its place.
    prepared: Option<Pid>,
    /// Network devices that the container has been given.
    pub(super) devices: Option<net::Moved>,
    pub(super) hooks_ran: bool,
    committed: bool,
}

impl Creating {
    pub(super) fn new(slot: Slot) -> Creating {
        Creating {
            slot,
            record: None,
            cgroup: None,
            rdt: None,
            init: None,
            prepared: None,
            devices: None,
            hooks_ran: false,
            committed: false,
        }
    }

    /// Makes the cgroup that was planned, and records that it is ours.
    pub(super) fn make_cgroup(
        &mut self,
        resources: &Resources,
        delegation: &Delegation,
    ) -> Result<&Cgroup> {
        let cgroup = self.cgroup.as_mut().context("no cgroup was planned")?;
        cgroup.make(resources, delegation)?;
        self.record_cgroup()?;
        self.cgroup.as_ref().context("no cgroup was planned")
    }

    /// Puts the first process into the cgroup. One that is made only with it is recorded as ours, also when it failed halfway.
    pub(super) fn place(&mut self, pid: Pid) -> Result<()> {
        let cgroup = self.cgroup.as_mut().context("no cgroup was planned")?;
        let placed = cgroup.place(pid);
        self.record_cgroup()?;
        placed
    }

    /// Writes down what has become of the cgroup, if something has.
    fn record_cgroup(&mut self) -> Result<()> {
        let cgroup = self.cgroup.as_ref().context("no cgroup was planned")?;
        let record = self
            .record
            .as_mut()
            .context("the container has no record")?;
        let now = cgroup.to_record();
        if record.cgroup != now {
            record.cgroup = now;
            self.slot.write_cgroup(&record.cgroup)?;
        }
        Ok(())
    }

    /// What a checkpoint will ask for, and nobody else: it need not be there before the init is.
    pub(super) fn note_outside(&mut self, plan: &Plan) -> Result<()> {
        let cgroup = self.cgroup.as_ref().context("no cgroup was planned")?;
        let outside = Outside {
            stdio: placement::standard_streams(&plan.process),
            ..Outside::of(plan, &cgroup.mount_info())
        };
        let record = self.record.as_mut();
        record.context("the container has no record")?.outside = Some(outside.into());
        Ok(())
    }

    /// Writes the record with the init beside the one that holds, while there is nothing else to do.
    fn prepare_record(&mut self) -> Result<()> {
        let (pid, _) = self.init.as_ref().context("the container has no init")?;
        let pid = *pid;
        let record = self.record.as_mut();
        let record = record.context("the container has no record")?;
        record.init = Some(status::identify(pid.as_raw())?);
        let written = record.write_created(self.slot.dir.as_fd());
        written.with_context(|| format!("state of container `{}`", self.slot.id))?;
        self.prepared = Some(pid);
        Ok(())
    }

    /// Makes or finds the resctrl group, and records which is ours.
    pub(super) fn make_rdt(&mut self, plan: &Rdt) -> Result<()> {
        let record = self
            .record
            .as_mut()
            .context("the container has no record")?;
        let group = rdt::Group::make(&rdt::mount_point()?, &self.slot.id, plan)?;
        record.rdt = Some(group.record().clone());
        self.rdt = Some(group);
        self.slot.write(record)
    }
}

impl Creating {
    /// The container stands: it is not taken back any more.
    pub(super) fn release(mut self, status: Status) -> Result<Live> {
        let (_, pidfd) = self.init.take().context("the container has no init")?;
        let record = self.record.take().context("the container has no record")?;
        let init = record.init.context("the container was not recorded")?;
        self.committed = true;
        if let Some(devices) = self.devices.take() {
            devices.keep();
        }
        let slot = self.slot.try_clone()?;
        Ok(Live {
            container: Container {
                slot,
                record,
                status,
            },
            init,
            pidfd,
        })
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // While their network namespace still exists.
        drop(self.devices.take());
        if let Some((pid, pidfd)) = &self.init {
            // ESRCH: it has died by itself; it is reaped all the same.
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
            placement::reap(*pid, pidfd.as_fd());
        }
        if let Some(group) = &mut self.rdt {
            group.undo();
        }
        let undone = self.cgroup.as_ref().map_or(Ok(()), |cgroup| {
            cgroup.kill_all(Signal::SIGKILL)?;
            cgroup.remove(delete::REMOVE_DEADLINE)
        });
        match undone {
            Ok(()) => {
                if let Err(error) = self.slot.remove() {
                    log::warn(format_args!(
                        "undo the creation: {}",
                        crate::error::chain(&error)
                    ));
                }
            }
            // The record stays, so that `delete --force` can go on where this stopped.
            Err(error) => log::warn(format_args!(
                "undo the creation: {}; the state is kept for delete --force",
                crate::error::chain(&error)
            )),
        }
        if let Some(record) = self.record.as_ref().filter(|_| self.hooks_ran) {
            delete::run_poststop(record);
        }
    }
}

/// A container whose init has reported that it is ready.
pub(super) struct Ready {
    pub(super) host: Host,
    pub(super) plan: Plan,
    pub(super) end: RuntimeEnd,
    pub(super) creating: Creating,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    /// The network namespace that is joined, if one is and devices are to be moved there.
    pub(super) network: Option<OwnedFd>,
    /// See [`placement::makes_network_beside`].
    pub(super) network_beside: bool,
}

impl Ready {
    fn init(&self) -> Result<(Pid, BorrowedFd<'_>)> {
        let (pid, pidfd) = self
            .creating
            .init
            .as_ref()
            .context("the container has no init")?;
        Ok((*pid, pidfd.as_fd()))
    }

    /// The init's, as this process sees it.
    pub(super) fn pid(&self) -> Result<Pid> {
        Ok(self.init()?.0)
    }

    pub(super) fn state_dir(&self) -> BorrowedFd<'_> {
        self.creating.slot.dir.as_fd()
    }

    fn cgroup(&self) -> Result<&Cgroup> {
        self.creating
            .cgroup
            .as_ref()
            .context("the container has no cgroup")
    }

    /// Puts the clone where it belongs and tells it so; with a stage, first the stage and then the init that it clones.
    pub(super) fn place(&mut self, stage: bool) -> Result<()> {
        let (pid, _) = self.init()?;
        self.creating.place(pid)?;
        // Both are inherited by what a stage clones.
        if let Some(score) = self.plan.process.oom_score_adj {
            placement::set_oom_score(pid, score, "process.oomScoreAdj")?;
        }
        placement::raise_rlimits(pid, &self.plan.process.rlimits)?;
        if stage {
            self.end.send(ToInit::Placed(pid.as_raw()))?;
            self.adopt_init()?;
        }
        let (pid, _) = self.init()?;
        if !self.cgroup()?.delegates_late(&self.plan.delegation) {
            self.cgroup()?.delegate(pid, &self.plan.delegation)?;
        }
        if self.plan.namespaces.makes(Kind::User) {
            id_maps::write(pid, &self.plan.namespaces, &self.host)?;
        }
        if let Some(group) = &self.creating.rdt {
            group.place(pid)?;
        }
        if !self.plan.net_devices.is_empty() {
            self.creating.devices = Some(self.move_devices(pid)?);
        }
        self.cgroup()?.apply_before_init(&self.plan.resources)?;
        placement::reset_affinity(pid);
        self.end.send(ToInit::Placed(pid.as_raw()))?;
        if self.network_beside {
            placement::make_network(&self.end)?;
        }
        self.cgroup()?.apply_beside_init(&self.plan.resources)?;
        self.creating.note_outside(&self.plan)?;
        self.creating.prepare_record()
    }

    fn move_devices(&self, init: Pid) -> Result<net::Moved> {
        let made;
        let namespace = if let Some(joined) = &self.network {
            joined
        } else {
            made = placement::namespace_of(init, "net")?;
            &made
        };
        net::move_all(&self.plan.net_devices, namespace.as_fd())
    }

    /// The stage has cloned the init as its sibling, so it is this process's child, and ends; or it has become the init.
    fn adopt_init(&mut self) -> Result<()> {
        match self.receive()? {
            FromInit::InitPid(pid) => self.adopt(Pid::from_raw(pid)),
            other => bail!("expected the init's pid, got {other:?}"),
        }
    }

    fn adopt(&mut self, pid: Pid) -> Result<()> {
        if self.pid()? == pid {
            return Ok(());
        }
        let pidfd =
            pidfd::open(pid).with_context(|| format!("open pidfd of init process {pid}"))?;
        match self.creating.init.replace((pid, pidfd)) {
            Some((stage, pidfd)) => placement::await_stage(stage, pidfd.as_fd()),
            None => Ok(()),
        }
    }

    /// The next message; a failure or a death becomes the error.
    fn receive(&self) -> Result<FromInit> {
        let (pid, pidfd) = self.init()?;
        let hooks = &self.plan.hooks.create_container;
        let limit = longest(hooks).map(|hooks| hooks + ANSWER_LIMIT);
        let message = self.end.receive(Some(pidfd), limit);
        match message.with_context(|| culprit::process_in_cgroup(pid.as_raw()))? {
            Some(FromInit::Failed(failure)) => Err(placement::failure(&failure)),
            Some(message) => Ok(message),
            None => Err(self.death(pid, pidfd)),
        }
    }

    fn death(&self, pid: Pid, pidfd: BorrowedFd<'_>) -> anyhow::Error {
        let how = placement::describe_death(pid, pidfd);
        let killed = self
            .creating
            .cgroup
            .as_ref()
            .and_then(|cgroup| cgroup.oom_kill_count().ok())
            .unwrap_or(0);
        if killed > 0 {
            let limit = self.plan.resources.memory.limit;
            let limit = limit.map_or_else(String::new, |limit| format!("{limit} bytes are "));
            return anyhow!(
                "container init was OOM-killed before the program was started ({how}): linux.resources.memory.limit: {limit}too low \
                 (hint: the runtime needs up to {START_NEEDS} KiB of it to start a small program)"
            );
        }
        // Loaded early, it stands in the way of the init itself, even of its last words.
        let unprivileged = self.plan.process.no_new_privileges;
        let early_filter =
            (self.plan.seccomp.as_ref()).is_some_and(|profile| !unprivileged || profile.notifies());
        let hint = if early_filter {
            " (hint: linux.seccomp without process.noNewPrivileges, or with SCMP_ACT_NOTIFY, must also allow what the runtime does last: \
             setresuid, capset, sendmsg, execve and the like)"
        } else {
            ""
        };
        anyhow!("container init died before it was ready: {how}{hint}")
    }

    pub(super) fn await_ready(&mut self) -> Result<()> {
        // While the init is at work.
        protect::release();
        loop {
            match self.receive()? {
                FromInit::TimeReady => {
                    let (pid, _) = self.init()?;
                    placement::write_time_offsets(pid, &self.plan.namespaces)?;
                    self.end.send(ToInit::OffsetsSet)?;
                }
                FromInit::RootReady => self.run_hooks()?,
                FromInit::Listener(number) => self.hand_over_listener(number)?,
                FromInit::InitPid(pid) => {
                    self.adopt(Pid::from_raw(pid))?;
                    self.end.send(ToInit::Placed(pid))?;
                }
                FromInit::Ready => break,
                other @ (FromInit::Failed(_) | FromInit::Mounted(_)) => {
                    bail!("unexpected message {other:?} from init")
                }
            }
        }
        if self.cgroup()?.delegates_late(&self.plan.delegation) {
            let (pid, _) = self.init()?;
            self.cgroup()?.delegate(pid, &self.plan.delegation)?;
        }
        Ok(())
    }

    /// Once the init is the only process: see [`placement::pids_while_made`].
    pub(super) fn limit_pids(&self, pids: Option<i64>) -> Result<()> {
        self.cgroup()?.apply_limits(&Resources {
            pids,
            ..Resources::default()
        })
    }

    fn hand_over_listener(&self, number: i32) -> Result<()> {
        let (pid, pidfd) = self.init()?;
        let listener = self
            .plan
            .seccomp
            .as_ref()
            .and_then(|profile| profile.listener.as_ref())
            .context("init has a seccomp notify descriptor that nobody asked for")?;
        let process = Filtered {
            pid: pid.as_raw(),
            init: pid.as_raw(),
            status: Status::Creating.as_str(),
            metadata: listener.metadata.as_deref(),
        };
        listener::hand_over(listener, &self.plan.state, &process, pidfd, number)?;
        self.end.send(ToInit::ListenerTaken)
    }

    fn run_hooks(&mut self) -> Result<()> {
        self.creating.hooks_ran = true;
        let (pid, _) = self.init()?;
        let state = self.plan.state.json("creating", pid.as_raw())?;
        hooks::run(&self.plan.hooks.prestart, "prestart", &state)?;
        hooks::run(&self.plan.hooks.create_runtime, "createRuntime", &state)?;
        self.end.send(ToInit::HooksDone)
    }

    /// Records the container and lets the init go on: to the gate with `create`, to the program with `run`.
    pub(super) fn commit(&mut self) -> Result<()> {
        let (pid, pidfd) = self.init()?;
        if let Some(socket) = &self.pidfd_socket {
            placement::send_pidfd(socket, pidfd, "standard")?;
        }
        if self.creating.prepared != Some(pid) {
            self.creating.prepare_record()?;
        }
        record::put_created(self.state_dir())?;
        if let Some(path) = &self.pid_file {
            atomic::write_pid_file(path, pid.as_raw()).context("--pid-file")?;
        }
        self.end.send(ToInit::Committed)
    }

    /// After `commit` without a gate: waits until the init has become the user's program.
    pub(super) fn await_exec(&self) -> Result<()> {
        let (pid, pidfd) = self.init()?;
        let hooks = &self.plan.hooks.start_container;
        let limit = longest(hooks).map(|hooks| hooks + ANSWER_LIMIT);
        let message = self.end.receive(Some(pidfd), limit);
        match message.with_context(|| culprit::process_in_cgroup(pid.as_raw()))? {
            // The socket was closed by execve, or by a program that has already ended.
            None => Ok(()),
            Some(FromInit::Failed(failure)) => Err(placement::failure(&failure)),
            Some(other) => bail!("unexpected message {other:?} from init"),
        }
    }

    pub(super) fn release(self, status: Status) -> Result<Live> {
        self.creating.release(status)
    }
}
