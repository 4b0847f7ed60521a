//! What a cloned process carries, and the steps that only hand over to `rootfs`, `console` and `hooks`.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::sched::CloneFlags;

use super::{identity, namespaces};
use crate::hooks;
use crate::plan::Plan;
use crate::plan::landlock::Landlock;
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::mounts::CgroupMounts;
use crate::plan::process::Process;
use crate::plan::rootfs::MountNamespace;
use crate::proto::{FromInit, InitEnd, ToInit};
use crate::rootfs::{self, Root, RootChange, Sources};
use crate::seccomp::Program;
use crate::{console, sys};

/// Everything the steps work on. Descriptors in it were opened by the runtime before the clone.
pub(crate) struct Child<'a> {
    pub(crate) id: &'a str,
    pub(crate) process: &'a Process,
    pub(crate) end: Option<InitEnd>,
    pub(crate) filter: Option<&'a Program>,
    pub(crate) landlock: Option<&'a Landlock>,
    /// Where the master of the pty goes.
    pub(crate) console_socket: Option<OwnedFd>,
    /// Signals the caller of the runtime had ignored.
    pub(crate) ignored_signals: u64,
    /// Whether the ids of this process are those of a user namespace other than the host's.
    pub(crate) in_user_namespace: bool,
    /// The bounding set outside of a user namespace, until what the program is not to have has been dropped from it.
    pub(crate) bounding: Option<u64>,
    pub(crate) dumpable: Dumpable,
    pub(crate) groups: Groups,
    pub(crate) new_keyring: bool,
    /// Of the container, so for exec as well.
    pub(crate) memory_policy: Option<&'a MemoryPolicy>,
    pub(crate) personality: Option<i32>,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserved: u32,
    /// Only the init of a container has this.
    pub(crate) container: Option<ContainerPart<'a>>,
    /// Set by `find_program`.
    pub(crate) program: Option<CString>,
    /// Its arguments and environment. Set by `await_start`.
    pub(crate) strings: Option<(Vec<CString>, Vec<CString>)>,
    /// The working directory could not be entered as root and is tried again as the user.
    pub(crate) cwd_pending: bool,
    /// The user's, where it had to be looked up before the end.
    pub(crate) home: Option<String>,
}

/// Whether this process was born dumpable (E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dumpable {
    No,
    /// An unprivileged runtime could not make itself non-dumpable before the clone.
    UntilPlaced,
}

/// The supplementary groups that this process was born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// The runtime's, to be dropped before any of the container's files is touched.
    Inherited,
    /// The same, but they may be what opens the way to the sources of mounts: dropped right before the root is entered.
    UntilRoot,
    Dropped,
    /// They stay: setgroups(2) is denied in this user namespace.
    Denied,
}

impl Groups {
    /// What to do about them, from what is known of the runtime's own user namespace.
    pub(crate) fn at_birth(denied: bool) -> Groups {
        if denied {
            Groups::Denied
        } else {
            Groups::Inherited
        }
    }
}

/// What only a container's init has.
pub(crate) struct ContainerPart<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sources: Sources,
    pub(crate) cgroup: CgroupMounts,
    /// Namespaces to join in this process, in order.
    pub(crate) joins: Vec<(usize, OwnedFd)>,
    /// New namespaces that were not part of the clone.
    pub(crate) late: CloneFlags,
    pub(crate) pid_namespace: PidNamespace,
    /// The runtime makes the network namespace meanwhile and sends it.
    pub(crate) network_beside: bool,
    /// exec.fifo, held open for reading and writing; none with `run`, whose `Committed` means go.
    pub(crate) gate: Option<OwnedFd>,
    /// This process's pid in the runtime's pid namespace, for the state that hooks are given.
    pub(crate) host_pid: i32,
    pub(crate) root: Option<Root>,
}

/// How far the init is on its way into its pid namespace.
pub(crate) enum PidNamespace {
    /// It was born where it belongs.
    Entered,
    /// One of others, which it must not be seen in before it has the container's root (X3).
    ToJoin(OwnedFd),
    /// This process's children are born there.
    ForChildren,
}

impl<'a> Child<'a> {
    pub(crate) fn part(&mut self) -> Result<&mut ContainerPart<'a>> {
        self.container
            .as_mut()
            .context("a step of a container's init ran in another process")
    }

    pub(crate) fn end(&self) -> Result<&InitEnd> {
        self.end
            .as_ref()
            .context("the connection to the runtime is closed")
    }
}

pub(super) fn await_placed(child: &mut Child<'_>) -> Result<()> {
    let pid = child.end()?.await_placed()?;
    hide(child)?;
    if let Some(part) = &mut child.container {
        part.host_pid = pid;
    }
    Ok(())
}

/// Of an unprivileged runtime: it has just written this process's files in /proc, which it could not were they root's (E2).
pub(super) fn hide(child: &Child<'_>) -> Result<()> {
    if child.dumpable == Dumpable::UntilPlaced {
        nix::sys::prctl::set_dumpable(false).context("make the process non-dumpable")?;
    }
    Ok(())
}

pub(super) fn prepare_root(child: &mut Child<'_>) -> Result<()> {
    let end = child.end.take();
    let (process, mut bounding) = (child.process, child.bounding.take());
    let part = child.part()?;
    let mut pending = part.network_beside;
    let mut join_network = || match &end {
        Some(end) if std::mem::take(&mut pending) => {
            // The kernel has still to do on the network for as long as this takes.
            if let Some(held) = bounding.take() {
                identity::drop_unwanted(held, process)?;
            }
            namespaces::join_network(end)
        }
        _ => Ok(()),
    };
    let sources = std::mem::take(&mut part.sources);
    let cgroups = Some(&part.cgroup);
    let root = rootfs::prepare(&part.plan.rootfs, sources, cgroups, &mut join_network)
        .and_then(|root| join_network().map(|()| root));
    (child.end, child.bounding) = (end, bounding);
    child.part()?.root = Some(root?);
    Ok(())
}

/// prestart and createRuntime hooks run in the runtime's namespaces, so the runtime runs them.
pub(super) fn await_hooks(child: &mut Child<'_>) -> Result<()> {
    if !child.part()?.plan.hooks.need_root_ready() {
        return Ok(());
    }
    let end = child.end()?;
    end.send(&FromInit::RootReady)?;
    end.expect(ToInit::HooksDone)
}

pub(super) fn create_container_hooks(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    let hooks = &part.plan.hooks.create_container;
    if hooks.is_empty() {
        return Ok(());
    }
    hooks::run(
        hooks,
        "createContainer",
        &part.plan.state.json("creating", part.host_pid)?,
    )
}

pub(super) fn enter_root(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    let change = if part.plan.no_pivot {
        RootChange::Move
    } else {
        RootChange::Pivot
    };
    part.root
        .as_ref()
        .context("the rootfs was not prepared")?
        .pivot(&part.plan.rootfs, change)
}

pub(super) fn finish_root(child: &mut Child<'_>) -> Result<()> {
    let part = child.part()?;
    part.root
        .take()
        .context("the rootfs was not prepared")?
        .finish(&part.plan.rootfs)
}

pub(super) fn console(child: &mut Child<'_>) -> Result<()> {
    if !child.process.terminal {
        return Ok(());
    }
    let socket = child
        .console_socket
        .take()
        .context("process.terminal: no socket to send the console to")?;
    // exec gets a pty but no /dev/console: that is the init's, and only where mounting it touches nobody else (M5).
    let mounts = child
        .container
        .as_ref()
        .map(|part| part.plan.rootfs.namespaces.mount);
    let target = match mounts {
        Some(MountNamespace::New | MountNamespace::Detached) => console::Target::DevConsole,
        Some(MountNamespace::Foreign) | None => console::Target::Plain,
    };
    let user = &child.process.user;
    console::set_up(target, child.process.console_size, user.uid, &socket)
}

pub(super) fn controlling_terminal(child: &mut Child<'_>) -> Result<()> {
    if child.process.terminal {
        console::take_over()?;
    }
    Ok(())
}

/// F3: nothing of the host stays open in the container but what the last steps need.
pub(super) fn close_host_descriptors(child: &mut Child<'_>) -> Result<()> {
    let mut keep: Vec<RawFd> = Vec::new();
    keep.extend(child.end.as_ref().map(|end| end.as_fd().as_raw_fd()));
    keep.extend(child.console_socket.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(
        child
            .container
            .as_ref()
            .and_then(|part| part.gate.as_ref())
            .map(AsRawFd::as_raw_fd),
    );
    sys::fd::close_all_but(3 + child.preserved, &keep).context("close descriptors of the runtime")
}
