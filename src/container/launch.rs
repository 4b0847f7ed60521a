//! What `create` and `run` share: from the bundle to a container whose init is ready to go. Everything that was made is owned
//! by [`Creating`] and taken back by its `Drop` unless the launch is committed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use nix::unistd::mkfifoat;

use super::creating::{Creating, Ready};
use super::kept::Kept;
use super::options::{Context, CreateOptions, Overlay};
use super::record::{self, Record};
use super::store::{FILTER, GATE, Slot, Store, check_id};
use super::{placement, status};
use crate::cgroup::detect::Layout;
use crate::cgroup::{Cgroup, Denied, Driver};
use crate::fs::atomic;
use crate::init::{self, Child, ContainerPart, Groups, PidNamespace};
use crate::plan::host::{Host, in_initial_user_namespace};
use crate::plan::namespaces::Kind;
use crate::plan::rootfs::MountNamespace;
use crate::plan::{self, Plan};
use crate::proto::{self, InitEnd, RuntimeEnd};
use crate::rootfs::Sources;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::{log, sd_notify, seccomp, spec, timings};

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

impl Console {
    pub(super) fn into_socket(self) -> Option<OwnedFd> {
        match self {
            Console::None => None,
            Console::Socket(socket) => Some(socket),
        }
    }
}

/// Everything decided, nothing made.
pub(super) struct Launch<'a> {
    context: &'a Context,
    pub(super) host: Host,
    pub(super) plan: Plan,
    filter: Option<seccomp::Program>,
    preserved: u32,
    /// Made before any other descriptor; none where nothing is to be made.
    ends: Option<(RuntimeEnd, InitEnd)>,
    pub(super) pid_file: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    /// Reads the bundle and makes the plan. Fails without having touched anything.
    pub(super) fn prepare(context: &'a Context, options: &CreateOptions) -> Result<Launch<'a>> {
        let id = options.id.as_str();
        check_id(id)?;
        let preserved = placement::preserve_descriptors(options.preserve_fds)?;
        let ends = proto::pair()?;
        let bundle = plan::clean_path(&options.bundle);
        // As with runc the bundle becomes the working directory: relative paths in config.json start there.
        std::env::set_current_dir(&bundle)
            .with_context(|| format!("--bundle: chdir to `{}`", bundle.display()))?;
        timings::phase("config.json");
        let spec = spec::load_config(&options.config)?;
        let launch = Launch::decide(context, options, &spec, preserved)?;
        Ok(Launch {
            ends: Some(ends),
            ..launch
        })
    }

    /// What follows from a config that was read. Looks at the host, changes nothing.
    pub(super) fn decide(
        context: &'a Context,
        options: &CreateOptions,
        spec: &spec::Config,
        preserved: u32,
    ) -> Result<Launch<'a>> {
        let bundle = plan::clean_path(&options.bundle);
        let host = Host::probe()?;
        timings::phase("plan");
        let mut plan = plan::build(spec, &options.id, &bundle, &plan_options(options))?;
        if host.is_unprivileged() {
            plan::rootless::check(&plan, &host)?;
        }
        if !plan.namespaces.has(Kind::User) {
            placement::restrict_capabilities(&mut plan.process, &host);
        }
        ensure!(
            plan.net_devices.is_empty() || (host.euid == 0 && in_initial_user_namespace()),
            "linux.netDevices: only the root of the host may move network devices"
        );
        plan.landlock = placement::fit_landlock(plan.landlock.take())?;
        timings::phase("seccomp filter");
        let filter = plan.seccomp.as_ref().map(seccomp::compile).transpose()?;
        Ok(Launch {
            context,
            host,
            plan,
            filter,
            preserved,
            ends: None,
            pid_file: options.pid_file.clone(),
            pidfd_socket: options.pidfd_socket.clone(),
        })
    }

    pub(super) fn filter(&self) -> Option<&seccomp::Program> {
        self.filter.as_ref()
    }

    /// Makes the container up to the point where its init is ready.
    pub(super) fn start(mut self, gate: Gate, console: Console) -> Result<Ready> {
        let ends = self.ends.take().context("nothing was prepared")?;
        placement::keep_children_for_wait(&self.host)?;
        timings::phase("state directory");
        let mut creating = self.reserve()?;
        let gate = (gate == Gate::Fifo)
            .then(|| make_gate(&creating.slot))
            .transpose()?;
        if let Some(rdt) = &self.plan.rdt {
            creating.make_rdt(rdt)?;
        }
        let wanted_pids = self.plan.resources.pids;
        let pids_while_made = placement::pids_while_made(&self.plan);
        self.plan.resources.pids = pids_while_made.or(wanted_pids);
        timings::phase("cgroup");
        let cgroup = creating.make_cgroup(&self.plan.resources, &self.plan.delegation)?;
        placement::make_overlay_directories(&self.plan.rootfs)?;
        let namespaces = &self.plan.namespaces;
        let stage = namespaces.needs_stage();
        let mut late = CloneFlags::empty();
        if !stage && cgroup.clone_into_fd().is_none() {
            late |= CloneFlags::CLONE_NEWCGROUP;
        }
        if namespaces.makes(Kind::User) {
            late |= CloneFlags::CLONE_NEWIPC;
        }
        let new = namespaces.new_flags();
        let late = late.intersection(new);
        let network_beside = placement::makes_network_beside(&self.plan);
        let new = if network_beside {
            new.difference(CloneFlags::CLONE_NEWNET)
        } else {
            new
        };
        let flags = if stage {
            CloneFlags::empty()
        } else {
            new.difference(late)
        };
        timings::phase("namespaces and sources");
        let joins = placement::open_namespaces(namespaces)?;
        let network = self.joined_network(&joins)?;
        let (pid_namespace, joins) = placement::split_pid(namespaces, joins);
        let joined_user = joins
            .iter()
            .find(|(place, _)| namespaces.join[*place].kind == Kind::User)
            .map(|(_, fd)| fd.as_fd());
        let mut sources = if self.host.is_unprivileged() {
            Sources::default()
        } else {
            Sources::open(&self.plan.rootfs, joined_user)?
        };
        if let PidNamespace::ToJoin(namespace) = &pid_namespace {
            let copy = namespace.try_clone();
            sources.show_processes_of(copy.context("duplicate the pid namespace")?);
        }
        let part = ContainerPart {
            plan: &self.plan,
            sources,
            cgroup: cgroup.mount_info(),
            joins,
            late,
            pid_namespace,
            network_beside,
            gate,
            host_pid: 0,
            root: None,
        };
        let request = CloneRequest {
            flags,
            cgroup: cgroup.clone_into_fd(),
        };
        let (end, pid, pidfd) = self.clone_init(&request, part, stage, console, ends)?;
        creating.init = Some((pid, pidfd));
        let Launch {
            host,
            plan,
            filter,
            pid_file,
            pidfd_socket,
            ..
        } = self;
        let mut ready = Ready {
            host,
            plan,
            end,
            creating,
            pid_file,
            pidfd_socket,
            network,
            network_beside,
        };
        timings::phase("placement and limits");
        ready.place(stage)?;
        keep_filter(&ready.creating.slot, filter.as_ref())?;
        timings::phase("wait for init");
        ready.await_ready()?;
        if pids_while_made.is_some() {
            ready.limit_pids(wanted_pids)?;
        }
        Ok(ready)
    }

    /// Takes the id and writes down, before there is anything to clean up, what will have to be cleaned up (Z2).
    pub(super) fn reserve(&mut self) -> Result<Creating> {
        let plan = &mut self.plan;
        let slot = Store::new(self.context).reserve(&plan.state.id)?;
        let mut creating = Creating::new(slot);
        let slot = &creating.slot;
        let layout = Layout::detect()?;
        let denied = if self.context.ignores_cgroup_permissions() {
            Denied::GoWithout
        } else {
            Denied::Fail
        };
        let driver = if self.context.systemd_cgroup {
            Driver::Systemd {
                annotations: &plan.state.annotations,
            }
        } else {
            Driver::Cgroupfs
        };
        let cgroup = Cgroup::plan(
            &layout,
            driver,
            plan.cgroups_path.as_deref(),
            &plan.state.id,
            denied,
        )?;
        let notifies = sd_notify::host_socket().is_some();
        if notifies {
            let mount = sd_notify::mount(slot.path());
            plan.rootfs
                .add_bind(mount.source, mount.destination, mount.options)?;
        }
        let record = Record {
            version: record::VERSION,
            state: plan.state.clone(),
            rootfs: plan.rootfs.root.clone(),
            created: log::rfc3339(SystemTime::now()),
            creator: status::own_identity()?,
            init: None,
            // What was only planned is never killed: another container may be in it.
            cgroup: cgroup.to_record(),
            namespaces: plan.namespaces.own(),
            chrooted: plan.rootfs.namespaces.mount != MountNamespace::New,
            process: plan.process.clone().into(),
            has_filter: self.filter.is_some(),
            listener: plan
                .seccomp
                .as_ref()
                .and_then(|profile| profile.listener.clone())
                .map(Kept::from),
            landlock: plan.landlock.clone().map(Kept::from),
            hooks: plan.hooks.clone().into(),
            resources: plan.resources.clone().into(),
            new_keyring: plan.new_keyring,
            memory_policy: plan.memory_policy.clone().map(Kept::from),
            personality: plan.personality,
            rdt: None,
            added: Vec::new(),
            mount_label: plan.rootfs.mount_label.clone(),
            outside: None,
        };
        slot.write(&record)?;
        // For the init alone, not for what exec starts later, hence not in the record.
        plan.process.env.extend(placement::listen_environment());
        if notifies {
            sd_notify::make_directory(slot.dir.as_fd())?;
            plan.process.env.push(sd_notify::CONTAINER_ENV.to_owned());
        }
        creating.record = Some(record);
        creating.cgroup = Some(cgroup);
        Ok(creating)
    }

    /// Another descriptor of the network namespace that is joined, for devices to be moved there.
    fn joined_network(&self, joins: &[(usize, OwnedFd)]) -> Result<Option<OwnedFd>> {
        if self.plan.net_devices.is_empty() {
            return Ok(None);
        }
        let planned = &self.plan.namespaces.join;
        let network = joins
            .iter()
            .find(|(place, _)| planned[*place].kind == Kind::Network);
        let copy = network.map(|(_, fd)| fd.try_clone()).transpose();
        copy.context("duplicate the network namespace")
    }

    /// The one clone. The child never comes back from here.
    fn clone_init(
        &self,
        request: &CloneRequest<'_>,
        part: ContainerPart<'_>,
        stage: bool,
        console: Console,
        (end, init_end): (RuntimeEnd, InitEnd),
    ) -> Result<(RuntimeEnd, Pid, OwnedFd)> {
        timings::phase("clone");
        placement::hide_from_container(&self.host)?;
        let cloned = clone3(request).with_context(|| placement::clone_hint(request.flags))?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            drop(end);
            let child = Child {
                id: &self.plan.state.id,
                process: &self.plan.process,
                end: Some(init_end),
                filter: self.filter.as_ref(),
                landlock: self.plan.landlock.as_ref(),
                console_socket: console.into_socket(),
                ignored_signals: self.host.ignored_signals,
                in_user_namespace: self.plan.namespaces.has(Kind::User),
                bounding: Some(self.host.bounding),
                dumpable: placement::born_dumpable(&self.host),
                groups: match Groups::at_birth(self.host.setgroups_denied) {
                    Groups::Inherited if self.host.is_unprivileged() => Groups::UntilRoot,
                    groups => groups,
                },
                new_keyring: self.plan.new_keyring,
                memory_policy: self.plan.memory_policy.as_ref(),
                personality: self.plan.personality,
                preserved: self.preserved,
                container: Some(part),
                program: None,
                strings: None,
                cwd_pending: false,
                home: None,
            };
            if stage {
                init::enter_staged(child)
            } else {
                init::enter_container(child)
            }
        };
        // The child has its own copies; what waits for end of file must not find one here.
        drop((init_end, part, console));
        Ok((end, pid, pidfd))
    }
}

/// For `exec`, hence any time before the container counts as created.
pub(super) fn keep_filter(slot: &Slot, filter: Option<&seccomp::Program>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let (directory, name) = (slot.dir.as_fd(), OsStr::new(FILTER));
    atomic::replace(directory, name, mode, &filter.to_bytes())
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

/// Opened for reading and writing, so that the init neither blocks on opening nor ever reads an end of file.
fn make_gate(slot: &Slot) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    mkfifoat(slot.dir.as_fd(), GATE, Mode::S_IRUSR | Mode::S_IWUSR)
        .with_context(|| format!("make `{GATE}`"))?;
    openat(
        slot.dir.as_fd(),
        GATE,
        OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )
    .with_context(|| format!("open `{GATE}`"))
}
