//! What the runtime does to a process it has cloned but that has not gone on yet, and what it does with the process's last
//! words. Used by `launch.rs` (create, run) and `exec.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Live;
use crate::error::StepFailed;
use crate::fs::{culprit, procfs};
use crate::init::{Dumpable, PidNamespace};
use crate::plan::Plan;
use crate::plan::host::{Host, in_initial_user_namespace};
use crate::plan::landlock::Landlock;
use crate::plan::namespaces::{Kind, Namespaces, offsets_text};
use crate::plan::process::{Process, Rlimit, names};
use crate::plan::rootfs::RootfsPlan;
use crate::proto::RuntimeEnd;
use crate::sys;
use crate::{console, log, net, sd_notify};

/// Number of descriptors from 3 on that the program is to inherit: the socket-activation ones first, then --preserve-fds.
/// All others are marked close-on-exec before anything else happens (F2).
pub(super) fn preserve_descriptors(asked: u32) -> Result<u32> {
    let activated = sd_notify::listen_fds();
    let count = activated + asked;
    if count > 0 {
        // Its number may be one that the caller has not opened.
        sys::protect::release();
    }
    for number in 3..3 + count {
        let number = i32::try_from(number).context("--preserve-fds")?;
        ensure!(
            sys::process::is_open(number),
            "--preserve-fds: descriptor {number} of {count} from 3 on is not open"
        );
    }
    sys::fd::close_range(3 + count, sys::fd::LAST, sys::fd::Fate::CloseOnExec)
        .context("mark the caller's descriptors close-on-exec")?;
    Ok(count)
}

/// What a container without a terminal of its own gets as its first descriptors: pipes are known by number to a checkpoint.
pub(super) fn standard_streams(process: &Process) -> Vec<String> {
    if process.terminal {
        return Vec::new();
    }
    let link = |number| std::fs::read_link(format!("/proc/self/fd/{number}"));
    (0..3)
        .map(|number| link(number).map_or_else(|_| String::new(), |to| to.display().to_string()))
        .collect()
}

/// Where the process stays in the runtime's user namespace, it can have no capability that the runtime lacks.
pub(super) fn restrict_capabilities(process: &mut Process, host: &Host) {
    let missing = process.capabilities.restrict(host.permitted);
    if missing != 0 {
        log::warn(format_args!(
            "process.capabilities: left out, for the runtime itself does not have them: {}",
            names(missing)
        ));
    }
}

/// Asks the kernel only where a container has rules.
pub(super) fn fit_landlock(rules: Option<Landlock>) -> Result<Option<Landlock>> {
    let Some(rules) = rules else { return Ok(None) };
    let (fitted, missing) = rules.fit(sys::landlock::version().unwrap_or(0))?;
    for text in missing {
        log::warn(format_args!("{text}"));
    }
    Ok(fitted)
}

/// Before the first clone. Inherited as ignored, SIGCHLD would make the kernel reap children before they are waited for.
pub(super) fn keep_children_for_wait(host: &Host) -> Result<()> {
    if !host.ignores(libc::SIGCHLD) {
        return Ok(());
    }
    sys::process::default_signal(libc::SIGCHLD).context("reset SIGCHLD")
}

/// LISTEN_FDS and LISTEN_PID as the container's init is to see them (sd_listen_fds(3)).
pub(super) fn listen_environment() -> Vec<String> {
    match sd_notify::listen_fds() {
        0 => Vec::new(),
        count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
    }
}

/// Opens each namespace file once and checks that it is one of the wanted kind, before anything is made (U5). In joining
/// order, with the index into `namespaces.join`.
pub(super) fn open_namespaces(namespaces: &Namespaces) -> Result<Vec<(usize, OwnedFd)>> {
    let mut opened = Vec::new();
    for (place, join) in namespaces.join.iter().enumerate() {
        let at = || {
            format!(
                "linux.namespaces[{}].path: {} namespace `{}`",
                join.index,
                join.kind.name(),
                join.path.display()
            )
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let fd =
            open(&join.path, flags, Mode::empty()).with_context(|| format!("{}: open", at()))?;
        match sys::ioctl::namespace_type(fd.as_fd()) {
            Ok(kind) if kind == join.kind.flag().bits() => opened.push((place, fd)),
            Ok(_) => return Err(anyhow!("{}: is a namespace of another type", at())),
            Err(errno) => {
                return Err(anyhow!(errno).context(format!("{}: is not a namespace", at())));
            }
        }
    }
    Ok(opened)
}

/// A namespace of a process that the runtime has cloned.
pub(super) fn namespace_of(pid: Pid, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{name}");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).with_context(|| format!("open `{path}`"))
}

/// Separates a pid namespace to be joined, which the init enters by its birth, from what it or its stage joins.
pub(super) fn split_pid(
    namespaces: &Namespaces,
    joins: Vec<(usize, OwnedFd)>,
) -> (PidNamespace, Vec<(usize, OwnedFd)>) {
    let (mut pid, others): (Vec<_>, Vec<_>) = joins
        .into_iter()
        .partition(|(place, _)| namespaces.join[*place].kind == Kind::Pid);
    let pid = pid
        .pop()
        .map_or(PidNamespace::Entered, |(_, fd)| PidNamespace::ToJoin(fd));
    (pid, others)
}

/// Whether the runtime makes the container's network namespace while the init mounts, which takes the kernel as long as all of that.
/// Not where it is to belong to a user namespace, where the runtime could not come back from it, as in a user namespace that does not
/// own its network namespace, or where something else is done with it before the init has gone on.
pub(super) fn makes_network_beside(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    namespaces.makes(Kind::Network)
        && !namespaces.has(Kind::User)
        && in_initial_user_namespace()
        && namespaces.time_offsets.is_empty()
        && plan.net_devices.is_empty()
        && plan.hooks.create_container.is_empty()
}

/// Makes it and gives it to the init.
pub(super) fn make_network(end: &RuntimeEnd) -> Result<()> {
    net::make_namespace(|made| end.give(made)).context("linux.namespaces")
}

/// The most processes of the runtime's own at once in a container that is being made: the builder, its sibling, and the two that
/// make a proc on older kernels.
const BUILDERS: i64 = 4;

/// The limit of processes while the container is made, where not only its init is in its cgroup then and the wanted one is too
/// low for that. The wanted one has to follow.
pub(super) fn pids_while_made(plan: &Plan) -> Option<i64> {
    let alone = !plan.namespaces.needs_stage() && !plan.namespaces.joins(Kind::Pid);
    let limit = plan.resources.pids?;
    (!alone && (0..BUILDERS).contains(&limit)).then_some(BUILDERS)
}

/// Non-dumpable before anything of the container can see a process of ours (E2). The process cloned next inherits it, and its
/// files in /proc belong to root from then on. An unprivileged runtime still has to write some of them, so there the clone
/// stays as it is until it has been placed, and then becomes non-dumpable itself, before it enters anything. Until then it is
/// visible to processes of this same user outside of containers and to nobody else: the new user namespace has no other
/// process, and one to be joined is not joined yet.
pub(super) fn hide_from_container(host: &Host) -> Result<()> {
    if host.is_unprivileged() {
        return Ok(());
    }
    nix::sys::prctl::set_dumpable(false).context("make the runtime non-dumpable")
}

/// What [`hide_from_container`] has left to the process that is cloned next.
pub(super) fn born_dumpable(host: &Host) -> Dumpable {
    if host.is_unprivileged() {
        Dumpable::UntilPlaced
    } else {
        Dumpable::No
    }
}

/// Writes the offsets of the time namespace that the init has made and not yet entered.
pub(super) fn write_time_offsets(pid: Pid, namespaces: &Namespaces) -> Result<()> {
    let text = offsets_text(&namespaces.time_offsets);
    procfs::write_of_process(pid, "timens_offsets", &text).with_context(|| {
        let hint = match Errno::last() {
            Errno::ERANGE => {
                " (hint: no clock of a container can be before its start or centuries on)"
            }
            _ => "",
        };
        let offsets = text.trim_end().replace('\n', ", ");
        format!("linux.timeOffsets: set `{offsets}`{hint}")
    })
}

/// By the runtime and not by the process itself, whose /proc files belong to root as it is not dumpable (E2).
pub(super) fn set_oom_score(pid: Pid, score: i32, field: &str) -> Result<()> {
    procfs::write_of_process(pid, "oom_score_adj", &score.to_string())
        .with_context(|| format!("{field}: set {score} (hint: lowering it needs CAP_SYS_RESOURCE)"))
}

/// Raises hard limits that are to be higher than this process's own, which only the runtime has the right to do. The exact
/// limits are set by the process itself when it has nothing left to do that a low one could break.
pub(super) fn raise_rlimits(pid: Pid, limits: &[Rlimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let Rlimit {
            name, soft, hard, ..
        } = limit;
        let at = || format!("process.rlimits[{index}]: set {name} to {soft}:{hard}");
        let own = sys::process::hard_limit(limit.resource).with_context(at)?;
        if *hard > own {
            sys::process::set_rlimit(pid, limit.resource, own, *hard).with_context(|| {
                format!(
                    "{} (raising the hard limit {own} needs CAP_SYS_RESOURCE)",
                    at()
                )
            })?;
        }
    }
    Ok(())
}

/// The error a failed step becomes. The kernel's words stay in it: engines derive exit codes from them.
pub(super) fn failure(failure: &StepFailed) -> anyhow::Error {
    let step = format!("container init, step `{}`", failure.step);
    anyhow::Error::new(failure.clone()).context(step)
}

/// How long a process that was killed, or has nothing left to do, may take to be gone.
pub(super) const END_LIMIT: Duration = Duration::from_secs(10);

/// Reaps a process that was killed. One that does not die is left to its reaper, with a word about it.
pub(super) fn reap(pid: Pid, pidfd: BorrowedFd<'_>) {
    if sys::pidfd::await_end(pidfd, END_LIMIT) == Ok(false) {
        log::warn(format_args!(
            "killed, but not gone within {} s: {}",
            END_LIMIT.as_secs(),
            culprit::process_in_cgroup(pid.as_raw())
        ));
        return;
    }
    let _ = waitpid(pid, None);
}

/// The stage has said its last word.
pub(super) fn await_stage(stage: Pid, pidfd: BorrowedFd<'_>) -> Result<()> {
    let ended = sys::pidfd::await_end(pidfd, END_LIMIT).context("wait for the stage process")?;
    ensure!(
        ended,
        "the stage process is not gone within {} s: {}",
        END_LIMIT.as_secs(),
        culprit::process_in_cgroup(stage.as_raw())
    );
    waitpid(stage, None).context("wait for the stage process")?;
    Ok(())
}

/// Reaps a process that died unasked and says how.
pub(super) fn describe_death(pid: Pid, pidfd: BorrowedFd<'_>) -> String {
    // Its end of the socket may be closed a moment before.
    if sys::pidfd::await_end(pidfd, END_LIMIT) == Ok(false) {
        let who = culprit::process_in_cgroup(pid.as_raw());
        return format!("it closed its socket and is still there: {who}");
    }
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, code)) => format!("it exited with code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("it was killed by {signal}"),
        Ok(other) => format!("{other:?}"),
        Err(errno) => format!("it could not be waited for: {errno}"),
    }
}

/// clone3 says only EINVAL, EPERM or ENOSPC; this says what that means here.
pub(super) fn clone_hint(flags: CloneFlags) -> String {
    let hint = match Errno::last() {
        Errno::EPERM if flags.contains(CloneFlags::CLONE_NEWUSER) => {
            " (hint: user namespaces are not allowed to this user: see /proc/sys/kernel/unprivileged_userns_clone \
             and apparmor_restrict_unprivileged_userns there; nor to anybody in a chroot)"
        }
        Errno::EPERM => {
            " (hint: not allowed to make these namespaces: run as root or with a user namespace)"
        }
        Errno::EACCES => {
            " (hint: the caller's cgroup and the container's are not both below one that belongs to the user: \
             `systemd-run --user --scope` calls from one that is)"
        }
        Errno::ENOSPC => " (hint: a limit of user namespaces: see /proc/sys/user/max_*_namespaces)",
        Errno::EINVAL => " (hint: the kernel lacks one of these namespaces)",
        _ => "",
    };
    format!("linux.namespaces: clone the container's init with {flags:?}{hint}")
}

/// The directories of `--overlay-upper` and of its annotations, where they are missing. They are the user's and stay.
pub(super) fn make_overlay_directories(rootfs: &RootfsPlan) -> Result<()> {
    let Some(upper) = rootfs
        .overlay
        .as_ref()
        .and_then(|overlay| overlay.upper.as_ref())
    else {
        return Ok(());
    };
    for directory in [&upper.upper, &upper.work] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("overlay: make directory `{}`", directory.display()))?;
    }
    Ok(())
}

/// More CPUs than any machine has; the kernel leaves out what is not there or not in the process's cpuset.
const ALL_CPUS: [u64; 128] = [u64::MAX; 128];

/// The CPUs of the caller (of taskset, of a systemd unit) are not the container's, which are those of its cpuset: since
/// Linux 6.2 moving to a cgroup no longer forgets what was asked for before. As runc, best effort.
pub(super) fn reset_affinity(pid: Pid) {
    if let Err(errno) = sys::sched::set_affinity(pid, &ALL_CPUS) {
        log::debug(format_args!("reset the CPU affinity of {pid}: {errno}"));
    }
}

/// `execCPUAffinity`; `field` is its part.
pub(super) fn set_affinity(pid: Pid, cpus: &[u64], field: &str) -> Result<()> {
    let set = sys::sched::set_affinity(pid, cpus);
    set.with_context(|| {
        let hint = match set {
            Err(Errno::EINVAL) => " (hint: none of these CPUs is there and in the cpuset)",
            _ => "",
        };
        format!("process.execCPUAffinity.{field}: set{hint}")
    })
}

/// Hands a pidfd to `--pidfd-socket`; `kind` says whose it is.
pub(super) fn send_pidfd(socket: &Path, pidfd: BorrowedFd<'_>, kind: &str) -> Result<()> {
    let socket = console::connect("--pidfd-socket", socket)?;
    console::send_pidfd(socket.as_fd(), pidfd, kind)
}

/// The root directory of the container's init, where exec does not come to it by the mount namespace (X1).
pub(super) fn root_of_init(live: &Live) -> Result<Option<OwnedFd>> {
    if !live.container.record.chrooted {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", live.init.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root =
        open(path.as_str(), flags, Mode::empty()).with_context(|| format!("open `{path}`"))?;
    // The pid was the init's all the time, or this fails.
    sys::pidfd::send_signal(live.pidfd(), 0).context("look for the container's init")?;
    Ok(Some(root))
}
