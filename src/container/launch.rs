//! What `create` and `run` share: from the bundle to a container whose init is ready to go. Everything that was made is owned
//! by [`Creating`] and taken back by its `Drop` unless the launch is committed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifoat;
use nix::unistd::Pid;

use super::options::{Context, CreateOptions, Overlay};
use super::record::{self, Record};
use super::status::Status;
use super::store::{FILTER, GATE, Slot, Store, check_id};
use super::{Container, Live, delete, placement, status};
use crate::cgroup::{Cgroup, Denied};
use crate::cgroup::detect::Layout;
use crate::fs::atomic;
use crate::init::{self, Child, ContainerPart};
use crate::plan::host::Host;
use crate::plan::namespaces::Kind;
use crate::plan::{self, Plan};
use crate::proto::{self, FromInit, RuntimeEnd, ToInit};
use crate::rootfs::Sources;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::pidfd;
use crate::{hooks, log, sd_notify, seccomp, spec};

/// What the init waits for once it is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// exec.fifo: `start` opens it.
    Fifo,
    /// Nothing but this runtime's word.
    Commit,
}

/// Where the master of the container's pty goes.
pub(super) enum Console {
    None,
    /// A connected socket: the caller's --console-socket, or this runtime's own.
    Socket(OwnedFd),
}

/// Everything decided, nothing made.
pub(super) struct Launch<'a> {
    context: &'a Context,
    host: Host,
    pub(super) plan: Plan,
    filter: Option<seccomp::Program>,
    preserved: u32,
    pid_file: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    /// Reads the bundle and makes the plan. Fails without having touched anything.
    pub(super) fn prepare(context: &'a Context, options: &CreateOptions) -> Result<Launch<'a>> {
        let id = options.id.as_str();
        check_id(id)?;
        let preserved = placement::preserve_descriptors(options.preserve_fds)?;
        let bundle = plan::clean_path(&options.bundle);
        // As with runc the bundle becomes the working directory: relative paths in config.json start there.
        std::env::set_current_dir(&bundle).with_context(|| format!("--bundle: chdir to `{}`", bundle.display()))?;
        let spec = spec::load_config(&options.config)?;
        let host = Host::probe()?;
        let mut plan = plan::build(&spec, id, &bundle, &plan_options(options))?;
        if !plan.namespaces.has(Kind::User) {
            let missing = plan.process.capabilities.restrict(host.permitted);
            if missing != 0 {
                let names = plan::process::names(missing);
                log::warn(format_args!("process.capabilities: left out, for the runtime itself does not have them: {names}"));
            }
        }
        plan.process.env.extend(placement::listen_environment());
        let filter = plan.seccomp.as_ref().map(seccomp::compile).transpose()?;
        Ok(Launch { context, host, plan, filter, preserved, pid_file: options.pid_file.clone(), pidfd_socket: options.pidfd_socket.clone() })
    }

    /// Makes the container up to the point where its init is ready.
    pub(super) fn start(self, gate: Gate, console: Console) -> Result<Ready> {
        let Launch { context, host, mut plan, filter, preserved, pid_file, pidfd_socket } = self;
        let slot = Store::new(&context.root).reserve(&plan.state.id)?;
        let mut creating = Creating { slot, record: None, cgroup: None, init: None, hooks_ran: false, committed: false };
        let slot = &creating.slot;
        if sd_notify::host_socket().is_some() {
            sd_notify::make_directory(slot.dir.as_fd())?;
            let mount = sd_notify::mount(slot.path());
            plan.rootfs.add_bind(mount.source, mount.destination, mount.options)?;
            plan.process.env.push(sd_notify::CONTAINER_ENV.to_owned());
        }
        let layout = Layout::detect()?;
        let denied = if context.ignores_cgroup_permissions() { Denied::GoWithout } else { Denied::Fail };
        let cgroup = Cgroup::plan(&layout, plan.cgroups_path.as_deref(), &plan.state.id, denied)?;
        let record = Record {
            version: record::VERSION,
            state: plan.state.clone(),
            rootfs: plan.rootfs.root.clone(),
            created: log::rfc3339(SystemTime::now()),
            creator: status::identify(Pid::this().as_raw())?,
            init: None,
            // What was only planned is never killed: another container may be in it.
            cgroup: cgroup.to_record(),
            namespaces: plan.namespaces.own(),
            process: plan.process.clone(),
            has_filter: filter.is_some(),
            hooks: plan.hooks.clone(),
            resources: plan.resources.clone(),
            new_keyring: plan.new_keyring,
        };
        // First of all a record: whatever happens from here on, delete finds what there is (Z2).
        slot.write(&record)?;
        let record = creating.record.insert(record);
        if let Some(filter) = &filter {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            atomic::replace(creating.slot.dir.as_fd(), OsStr::new(FILTER), mode, &filter.to_bytes())?;
        }
        let gate_fd = (gate == Gate::Fifo).then(|| make_gate(&creating.slot)).transpose()?;
        let cgroup = creating.cgroup.insert(cgroup);
        cgroup.make(&plan.resources)?;
        record.cgroup = cgroup.to_record();
        creating.slot.write_cgroup(&record.cgroup)?;
        placement::make_overlay_directories(&plan.rootfs)?;
        let sources = Sources::open(&plan.rootfs)?;
        let joins = placement::open_namespaces(&plan.namespaces)?;
        let stage = plan.namespaces.needs_stage();
        let in_clone = cgroup.clone_into_fd().is_some();
        let unshare_cgroup = plan.namespaces.makes(Kind::Cgroup) && !stage && !in_clone;
        let deferred: &[Kind] = if unshare_cgroup { &[Kind::Cgroup] } else { &[] };
        let flags = if stage { CloneFlags::empty() } else { plan.namespaces.new_flags(deferred) };
        let (end, init_end) = proto::pair()?;
        // Non-dumpable before anything of the container can see a process of ours (E2).
        nix::sys::prctl::set_dumpable(false).context("make the runtime non-dumpable")?;
        let (pid_namespace, joins) = placement::split_pid(&plan.namespaces, joins, stage);
        let restore = pid_namespace.map(|fd| enter_pid_namespace(&fd)).transpose()?;
        let request = CloneRequest { flags, cgroup: cgroup.clone_into_fd() };
        let cloned = clone3(&request).with_context(|| placement::clone_hint(flags))?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            drop(end);
            let console_socket = match console {
                Console::Socket(socket) => Some(socket),
                Console::None => None,
            };
            let child = Child {
                id: &plan.state.id,
                process: &plan.process,
                end: Some(init_end),
                filter: filter.as_ref(),
                console_socket,
                ignored_signals: host.ignored_signals,
                in_user_namespace: plan.namespaces.has(Kind::User),
                setgroups_denied: false,
                new_keyring: plan.new_keyring,
                preserved,
                container: Some(ContainerPart {
                    plan: &plan,
                    sources,
                    cgroup: cgroup.mount_info(),
                    joins,
                    unshare_cgroup,
                    gate: gate_fd,
                    host_pid: 0,
                    root: None,
                }),
                program: None,
                cwd_pending: false,
            };
            if stage { init::enter_staged(child) } else { init::enter_container(child) }
        };
        // The child has its own copies; what waits for end of file must not find one here.
        drop((init_end, sources, joins, gate_fd, console));
        creating.init = Some((pid, pidfd));
        if let Some(own) = restore {
            setns(own, CloneFlags::CLONE_NEWPID).context("return to the runtime's own pid namespace")?;
        }
        let mut ready = Ready { plan, end, creating, pid_file, pidfd_socket };
        ready.place(stage)?;
        ready.await_ready()?;
        Ok(ready)
    }
}

fn plan_options(options: &CreateOptions) -> plan::Options {
    plan::Options {
        overlay: match &options.overlay {
            None => plan::Overlay::AsConfig,
            Some(Overlay::Temporary) => plan::Overlay::Temporary,
            Some(Overlay::Upper(directory)) => plan::Overlay::Upper(directory.clone()),
        },
        no_pivot: options.no_pivot,
        new_keyring: !options.no_new_keyring,
    }
}

/// Children of this process are born in the joined namespace until it is restored; the process itself stays where it is.
fn enter_pid_namespace(fd: &OwnedFd) -> Result<std::fs::File> {
    let own = std::fs::File::open("/proc/self/ns/pid").context("open the runtime's own pid namespace")?;
    setns(fd, CloneFlags::CLONE_NEWPID).context("linux.namespaces: join pid namespace")?;
    Ok(own)
}

/// Opened for reading and writing, so that the init neither blocks on opening nor ever reads an end of file.
fn make_gate(slot: &Slot) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    mkfifoat(slot.dir.as_fd(), GATE, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("make `{GATE}`"))?;
    openat(slot.dir.as_fd(), GATE, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
        .with_context(|| format!("open `{GATE}`"))
}

/// A container being made. Dropped before `committed` it leaves nothing behind.
struct Creating {
    slot: Slot,
    record: Option<Record>,
    cgroup: Option<Cgroup>,
    init: Option<(Pid, OwnedFd)>,
    hooks_ran: bool,
    committed: bool,
}

impl Drop for Creating {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        if let Some((pid, pidfd)) = &self.init {
            // ESRCH: it has died by itself; it is reaped all the same.
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = nix::sys::wait::waitpid(*pid, None);
        }
        let undone = self.cgroup.as_ref().map_or(Ok(()), |cgroup| {
            cgroup.kill_all(Signal::SIGKILL)?;
            cgroup.remove(delete::REMOVE_DEADLINE)
        });
        match undone {
            Ok(()) => {
                if let Err(error) = self.slot.remove() {
                    log::warn(format_args!("undo the creation: {}", crate::error::chain(&error)));
                }
            }
            // The record stays, so that `delete --force` can go on where this stopped.
            Err(error) => log::warn(format_args!("undo the creation: {}; the state is kept for delete --force", crate::error::chain(&error))),
        }
        if let Some(record) = self.record.as_ref().filter(|_| self.hooks_ran) {
            delete::run_poststop(record);
        }
    }
}

/// A container whose init has reported that it is ready.
pub(super) struct Ready {
    plan: Plan,
    end: RuntimeEnd,
    creating: Creating,
    pid_file: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
}

impl Ready {
    fn init(&self) -> Result<(Pid, BorrowedFd<'_>)> {
        let (pid, pidfd) = self.creating.init.as_ref().context("the container has no init")?;
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
        self.creating.cgroup.as_ref().context("the container has no cgroup")
    }

    /// Puts the clone where it belongs and tells it so; with a stage, first the stage and then the init that it clones.
    fn place(&mut self, stage: bool) -> Result<()> {
        let (pid, _) = self.init()?;
        self.cgroup()?.place(pid)?;
        if stage {
            self.end.send(ToInit::Placed(pid.as_raw()))?;
            self.adopt_init(pid)?;
        }
        let (pid, _) = self.init()?;
        if self.plan.namespaces.makes(Kind::User) {
            placement::write_id_maps(pid, &self.plan.namespaces)?;
        }
        if let Some(score) = self.plan.process.oom_score_adj {
            placement::set_oom_score(pid, score, "process.oomScoreAdj")?;
        }
        placement::raise_rlimits(pid, &self.plan.process.rlimits)?;
        self.end.send(ToInit::Placed(pid.as_raw()))?;
        // Meanwhile the init mounts; the limits stand before a hook or the user's program runs.
        self.cgroup()?.apply(&self.plan.resources)
    }

    /// The stage has cloned the init as its sibling, so it is this process's child; the stage itself ends.
    fn adopt_init(&mut self, stage: Pid) -> Result<()> {
        match self.receive()? {
            FromInit::InitPid(pid) => {
                let pidfd = pidfd::open(Pid::from_raw(pid)).with_context(|| format!("open pidfd of init process {pid}"))?;
                self.creating.init = Some((Pid::from_raw(pid), pidfd));
                nix::sys::wait::waitpid(stage, None).context("wait for the stage process")?;
                Ok(())
            }
            other => bail!("expected the init's pid, got {other:?}"),
        }
    }

    /// The next message; a failure or a death becomes the error.
    fn receive(&self) -> Result<FromInit> {
        let (pid, pidfd) = self.init()?;
        match self.end.receive(Some(pidfd))? {
            Some(FromInit::Failed(failure)) => Err(placement::failure(&failure)),
            Some(message) => Ok(message),
            None => Err(self.death(pid)),
        }
    }

    fn death(&self, pid: Pid) -> anyhow::Error {
        let how = placement::describe_death(pid);
        let killed = self.creating.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kill_count().ok()).unwrap_or(0);
        if killed > 0 {
            return anyhow!(
                "container init was OOM-killed before the program was started ({how}): \
                 linux.resources.memory.limit is too low"
            );
        }
        anyhow!("container init died before it was ready: {how}")
    }

    fn await_ready(&mut self) -> Result<()> {
        loop {
            match self.receive()? {
                FromInit::RootReady => self.run_hooks()?,
                FromInit::Ready => return Ok(()),
                other @ (FromInit::InitPid(_) | FromInit::Failed(_)) => bail!("unexpected message {other:?} from init"),
            }
        }
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
        let init = status::identify(pid.as_raw())?;
        let record = self.creating.record.as_mut().context("the container has no record")?;
        record.init = Some(init);
        self.creating.slot.write(record)?;
        if let Some(path) = &self.pid_file {
            atomic::write_pid_file(path, pid.as_raw()).context("--pid-file")?;
        }
        self.end.send(ToInit::Committed)
    }

    /// After `commit` without a gate: waits until the init has become the user's program.
    pub(super) fn await_exec(&self) -> Result<()> {
        let (_, pidfd) = self.init()?;
        match self.end.receive(Some(pidfd))? {
            // The socket was closed by execve, or by a program that has already ended.
            None => Ok(()),
            Some(FromInit::Failed(failure)) => Err(placement::failure(&failure)),
            Some(other) => bail!("unexpected message {other:?} from init"),
        }
    }

    /// The container stands: it is not taken back any more.
    pub(super) fn release(mut self, status: Status) -> Result<Live> {
        let (_, pidfd) = self.creating.init.take().context("the container has no init")?;
        let record = self.creating.record.take().context("the container has no record")?;
        let init = record.init.context("the container was not recorded")?;
        self.creating.committed = true;
        let slot = self.creating.slot.try_clone()?;
        Ok(Live { container: Container { slot, record, status }, init, pidfd })
    }
}
