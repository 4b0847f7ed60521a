//! `exec`: one more process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::create::detached_console;
use super::launch::Console;
use super::options::{Context, ExecOptions, ExecProcess};
use super::record::Record;
use super::run::Foreground;
use super::status::Status;
use super::store::FILTER;
use super::{Container, Live, listener, placement};
use crate::cgroup::{Place, is_permission};
use crate::error::StepFailed;
use crate::fs::{atomic, culprit};
use crate::init::{self, Child, Groups};
use crate::plan::host::Host;
use crate::plan::namespaces::Kind;
use crate::plan::process::{Process, last_of_each};
use crate::plan::scheduling::CpuAffinity;
use crate::plan::state::Filtered;
use crate::proto::{self, ANSWER_LIMIT, FromInit, RuntimeEnd, ToInit};
use crate::seccomp::Program;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::pidfd;
use crate::{plan, rdt, sealed, spec, sys, timings};

/// Returns the exit code of the runtime: the process's own in the foreground, 0 when detached.
pub(crate) fn exec(context: &Context, options: &ExecOptions) -> Result<i32> {
    let id = options.id.as_str();
    sealed::ensure()?;
    let preserved = placement::preserve_descriptors(options.preserve_fds)?;
    let container = Container::open(context, id)?;
    match container.status {
        Status::Stopped => {
            bail!("cannot exec in a stopped container: `{id}`: container not running")
        }
        // Checked before anything is put into the frozen cgroup, where it would hang (X2).
        Status::Paused if !options.ignore_paused => {
            bail!("cannot exec in a paused container: `{id}` (use --ignore-paused)")
        }
        _ => {}
    }
    let host = Host::probe()?;
    // The init still has the runtime's memory, so it is not dumpable (E2) and lets only the host's root in.
    ensure!(
        !(host.is_unprivileged() && container.status == Status::Created),
        "cannot exec in the created container `{id}` as an unprivileged user: start it first"
    );
    let live = container.live()?;
    timings::phase("plan");
    let mut process = process(options, &live.container.record)?;
    if !live.container.record.has(Kind::User) {
        placement::restrict_capabilities(&mut process, &host);
    }
    let socket = options.console_socket.as_deref();
    let foreground =
        (!options.detach).then(|| Foreground::prepare(process.terminal && socket.is_none()));
    let mut foreground = foreground.transpose()?;
    let console = match foreground
        .as_mut()
        .and_then(|foreground| foreground.console.take())
    {
        Some(console) => Console::Socket(console),
        None => detached_console(process.terminal, socket)?,
    };
    timings::phase("clone");
    let tenant = Tenant::enter(context, &live, &process, options, &host, preserved, console)
        .map_err(|error| {
            // Whatever could not be done, this is why.
            if super::status::is_alive(live.init) && !is_ending(&live, &error) {
                return error;
            }
            error.context(format!("container not running: `{id}` has just stopped"))
        })?;
    if let Some(foreground) = foreground.as_mut() {
        foreground.attach()?;
    }
    timings::phase("wait for exec");
    let (pid, pidfd) = tenant.commit(options)?;
    timings::phase("process");
    match foreground {
        None => Ok(0),
        Some(foreground) => foreground.wait(pid, pidfd.as_fd(), None),
    }
}

/// The process asked for: `--process` as it stands, or the container's own process with what the flags say.
fn process(options: &ExecOptions, record: &Record) -> Result<Process> {
    let flags = match &options.process {
        ExecProcess::File(file) => {
            let mut process = plan::process::plan(&spec::load_process(file)?, "process")?;
            let container = record.process.get("process")?;
            inherit(&mut process, &container);
            return Ok(process);
        }
        ExecProcess::Flags(flags) => flags,
    };
    let mut process = record.process.get("process")?.into_owned();
    process.args.clone_from(&flags.args);
    process.terminal = flags.tty;
    process.console_size = None;
    if let Some(cwd) = &flags.cwd {
        ensure!(
            cwd.starts_with('/'),
            "--cwd: `{cwd}` is not an absolute path"
        );
        process.cwd.clone_from(cwd);
    }
    for variable in &flags.env {
        ensure!(
            variable.find('=').is_some_and(|at| at > 0),
            "--env: `{variable}` is not of the form NAME=VALUE"
        );
        process.env.push(variable.clone());
    }
    process.env = last_of_each(process.env);
    if let Some(uid) = flags.uid {
        process.user.uid = uid;
        process.user.gid = flags.gid.unwrap_or(0);
    }
    process.user.additional_gids.extend(&flags.additional_gids);
    process
        .capabilities
        .add(plan::process::mask_of_names(&flags.caps).context("--cap")?);
    if let Some(profile) = &flags.apparmor {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some(label) = &flags.process_label {
        process.selinux_label = Some(label.clone());
    }
    process.no_new_privileges = flags.no_new_privs.unwrap_or(process.no_new_privileges);
    Ok(process)
}

/// As with runc, a process object without these has the container's.
fn inherit(process: &mut Process, container: &Process) {
    if process.scheduler.is_none() {
        process.scheduler.clone_from(&container.scheduler);
    }
    process.io_priority = process.io_priority.or(container.io_priority);
    if process.cpu_affinity == CpuAffinity::default() {
        process.cpu_affinity.clone_from(&container.cpu_affinity);
    }
}

/// A process in the container that has not been told to go.
struct Tenant {
    end: RuntimeEnd,
    pid: Pid,
    pidfd: OwnedFd,
    /// Nothing is left to be done once the process is ready, so it need not wait for this runtime.
    goes_at_once: bool,
    committed: bool,
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if !self.committed {
            let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
            placement::reap(self.pid, self.pidfd.as_fd());
        }
    }
}

impl Tenant {
    fn enter(
        context: &Context,
        live: &Live,
        process: &Process,
        options: &ExecOptions,
        host: &Host,
        preserved: u32,
        console: Console,
    ) -> Result<Tenant> {
        placement::keep_children_for_wait(host)?;
        let record = &live.container.record;
        let landlock = record.landlock.as_ref();
        let landlock = landlock.map(|kept| kept.get("landlock")).transpose()?;
        let memory_policy = record.memory_policy.as_ref();
        let memory_policy = memory_policy.map(|kept| kept.get("memory_policy"));
        let memory_policy = memory_policy.transpose()?;
        let filter = record.has_filter.then(|| read_filter(live)).transpose()?;
        let cgroup = live.container.cgroup()?.for_exec(&options.cgroups)?;
        let namespaces = record
            .namespaces
            .iter()
            .fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
        let root = placement::root_of_init(live)?;
        let affinity = &process.cpu_affinity;
        if !affinity.initial.is_empty() {
            // Inherited by the clone, which on cgroup v2 is born in the container's cgroup.
            placement::set_affinity(Pid::from_raw(0), &affinity.initial, "initial")?;
        }
        let (end, tenant_end) = proto::pair()?;
        placement::hide_from_container(host)?;
        let (cloned, cgroup) = clone_into(context, live, options, cgroup)?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            drop(end);
            let child = Child {
                id: &record.state.id,
                process,
                end: Some(tenant_end),
                filter: filter.as_ref(),
                landlock: landlock.as_deref(),
                console_socket: console.into_socket(),
                ignored_signals: host.ignored_signals,
                in_user_namespace: record.has(Kind::User),
                bounding: Some(host.bounding),
                dumpable: placement::born_dumpable(host),
                groups: Groups::at_birth(host.setgroups_denied),
                new_keyring: record.new_keyring,
                memory_policy: memory_policy.as_deref(),
                personality: record.personality,
                preserved,
                container: None,
                program: None,
                strings: None,
                cwd_pending: false,
                home: None,
            };
            init::enter_running(child, live.pidfd(), namespaces, root)
        };
        drop((tenant_end, console));
        timings::phase("placement and limits");
        let mut tenant = Tenant {
            end,
            pid,
            pidfd,
            goes_at_once: options.pidfd_socket.is_none()
                && !process.terminal
                && record.listener.is_none(),
            committed: false,
        };
        if cgroup.clone_into_fd().is_none() {
            match cgroup.attach(pid) {
                Err(error) if is_permission(&error) && may_stay_outside(context, options) => {}
                other => other?,
            }
        }
        if let Some(group) = &record.rdt {
            rdt::Group::open(group).place(pid)?;
        }
        if !affinity.after.is_empty() {
            placement::set_affinity(pid, &affinity.after, "final")?;
        } else if affinity.initial.is_empty() {
            placement::reset_affinity(pid);
        }
        if let Some(score) = process.oom_score_adj {
            placement::set_oom_score(pid, score, "process.oomScoreAdj")?;
        }
        placement::raise_rlimits(pid, &process.rlimits)?;
        tenant.end.send(ToInit::Placed(pid.as_raw()))?;
        tenant.adopt()?;
        timings::phase("wait for the process");
        sys::protect::release();
        loop {
            match tenant.receive()? {
                FromInit::Listener(number) => tenant.hand_over_listener(live, number)?,
                FromInit::Ready => return Ok(tenant),
                other => bail!("unexpected message {other:?} from the process"),
            }
        }
    }

    fn hand_over_listener(&self, live: &Live, number: i32) -> Result<()> {
        let record = &live.container.record;
        let listener = record
            .listener
            .as_ref()
            .context("the process has a seccomp notify descriptor that nobody asked for")?
            .get("listener")?;
        let process = Filtered {
            pid: self.pid.as_raw(),
            init: live.init.pid,
            status: live.container.status.as_str(),
            metadata: listener.metadata.as_deref(),
        };
        listener::hand_over(
            &listener,
            &record.state,
            &process,
            self.pidfd.as_fd(),
            number,
        )?;
        self.end.send(ToInit::ListenerTaken)
    }

    /// The stage has cloned the process as its sibling, which goes on while the stage ends.
    fn adopt(&mut self) -> Result<()> {
        match self.receive()? {
            FromInit::InitPid(pid) => {
                let stage = std::mem::replace(&mut self.pid, Pid::from_raw(pid));
                let pidfd = pidfd::open(Pid::from_raw(pid))
                    .with_context(|| format!("open pidfd of process {pid}"))?;
                let of_stage = std::mem::replace(&mut self.pidfd, pidfd);
                self.end.send(ToInit::Placed(pid))?;
                if self.goes_at_once {
                    self.end.send(ToInit::Committed)?;
                }
                placement::await_stage(stage, of_stage.as_fd())
            }
            other => bail!("expected the process's pid, got {other:?}"),
        }
    }

    /// A message, or the end of the conversation; no hook runs in between.
    fn hear(&self) -> Result<Option<FromInit>> {
        let message = self
            .end
            .receive(Some(self.pidfd.as_fd()), Some(ANSWER_LIMIT));
        message.with_context(|| culprit::process_in_cgroup(self.pid.as_raw()))
    }

    fn receive(&self) -> Result<FromInit> {
        match self.hear()? {
            Some(FromInit::Failed(failure)) => Err(placement::failure(&failure)),
            Some(message) => Ok(message),
            None => bail!(
                "the process died before it was ready: {}",
                placement::describe_death(self.pid, self.pidfd.as_fd())
            ),
        }
    }

    /// Lets the process go and waits until it has become the program: the pid file says that it runs, so it is written only
    /// then.
    fn commit(mut self, options: &ExecOptions) -> Result<(Pid, OwnedFd)> {
        if let Some(socket) = &options.pidfd_socket {
            placement::send_pidfd(socket, self.pidfd.as_fd(), "setns")?;
        }
        if !self.goes_at_once {
            self.end.send(ToInit::Committed)?;
        }
        match self.hear()? {
            None => {}
            Some(FromInit::Failed(failure)) => return Err(placement::failure(&failure)),
            Some(other) => bail!("unexpected message {other:?} from the process"),
        }
        if let Some(path) = &options.pid_file {
            atomic::write_pid_file(path, self.pid.as_raw()).context("--pid-file")?;
        }
        self.committed = true;
        let pidfd =
            sys::fd::duplicate(self.pidfd.as_fd()).context("duplicate the process's pidfd")?;
        Ok((self.pid, pidfd))
    }
}

/// How long an init that ends may take to be gone.
const ENDING: Duration = Duration::from_secs(2);

/// Whether the init is on its way out: its pid namespace then takes no process any more, for which clone(2) has the word ENOMEM.
fn is_ending(live: &Live, error: &anyhow::Error) -> bool {
    let failed: Option<&StepFailed> = error.downcast_ref();
    failed.is_some_and(|failed| failed.errno == libc::ENOMEM)
        && pidfd::await_end(live.pidfd(), ENDING) == Ok(true)
}

/// Clones a process into the cgroup or, where that cannot be, into another place; which one it became.
fn clone_into(
    context: &Context,
    live: &Live,
    options: &ExecOptions,
    mut place: Place,
) -> Result<(Cloned, Place)> {
    let clone = |place: &Place| {
        clone3(&CloneRequest {
            flags: CloneFlags::empty(),
            cgroup: place.clone_into_fd(),
        })
    };
    let mut cloned = clone(&place);
    // The container has given its own cgroup children with controllers, as systemd in it does: no process can be put
    // there any more, so it goes where the init has gone.
    if matches!(cloned, Err(Errno::EBUSY | Errno::EOPNOTSUPP)) && options.cgroups.is_empty() {
        let cgroup = live.container.cgroup()?;
        place = cgroup.for_exec_beside(Pid::from_raw(live.init.pid))?;
        cloned = clone(&place);
    }
    // From a session that is not below what was delegated to the user: as with runc it stays where it is.
    if matches!(cloned, Err(Errno::EACCES | Errno::EPERM)) && may_stay_outside(context, options) {
        place = Place::nowhere();
        cloned = clone(&place);
    }
    let cloned = cloned.context("clone a process for the container's cgroup")?;
    Ok((cloned, place))
}

/// Asked only after a refusal.
fn may_stay_outside(context: &Context, options: &ExecOptions) -> bool {
    options.cgroups.is_empty() && context.ignores_cgroup_permissions()
}

fn read_filter(live: &Live) -> Result<Program> {
    let path: PathBuf = live.container.slot.path().join(FILTER);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("read seccomp filter `{}`", path.display()))?;
    Program::from_bytes(&bytes).with_context(|| format!("seccomp filter `{}`", path.display()))
}
