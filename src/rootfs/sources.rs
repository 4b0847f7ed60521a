//! What only the host can open, taken before a user namespace is entered: there the mapped root may not be able to
//! walk to a volume, and no longer owns the host's devices; nor may it map the ids of a mount, so id-mapped ones come from
//! here always. Called by the parent; read by `mount.rs` and `devices.rs` in the order of the plan, which is the order here.
//!
//! The mounts wait in a socket pair as messages, not as descriptors of the process: a config with thousands of mounts
//! works under a small limit of open files (M6). Without a user namespace nothing else is opened here, because the child
//! still reaches the host's paths until it pivots. Nor where the runtime is an unprivileged user's: copying a mount is a
//! right that only the child has, in its namespaces, and it walks to a source as the same user.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::idmap::UserNamespaces;
use super::{devices, mask, mount, pivot};
use crate::plan::devices::NodeKind;
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::rootfs::{MountNamespace, RootfsPlan};
use crate::sys::mount::{Depth, set_attr};
use crate::sys::scm;

/// Room for the messages; the kernel grants twice its `wmem_max` at most.
const BUFFER: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The parent has opened them; otherwise each is opened by the child when its turn comes.
    handed_over: bool,
    queue: Option<OwnedFd>,
    /// Received and not yet used.
    pending: VecDeque<OwnedFd>,
    null: Option<OwnedFd>,
    /// Whose processes a proc shows, where those are not the maker's own.
    pid_namespace: Option<OwnedFd>,
}

impl Sources {
    /// Opens them. Drop it in the parent after the clone; the child hands it to [`super::prepare`]. `joined` is the user
    /// namespace that the container joins by path.
    pub(crate) fn open(plan: &RootfsPlan, joined: Option<BorrowedFd<'_>>) -> Result<Self> {
        let user = plan.namespaces.user;
        let needed = user || plan.mounts.iter().any(|op| plan.opens_early(op));
        if !needed || plan.namespaces.mount == MountNamespace::Foreign {
            return Ok(Self::default());
        }
        let null = if !user || plan.masked.is_empty() {
            None
        } else {
            Some(mask::null_device().context("linux.maskedPaths")?)
        };
        let mut sender = Sender::new()?;
        let mut user_namespaces = UserNamespaces::new(joined);
        for op in plan.mounts.iter().filter(|op| plan.opens_early(op)) {
            if let MountKind::Bind { source, recursive } = &op.kind {
                let tree = source_of(plan, op, source, *recursive, &mut user_namespaces)
                    .with_context(|| {
                        format!("mounts[{}]: source `{}`", op.index, source.display())
                    })?;
                sender.push(tree)?;
            }
        }
        let nodes = plan.nodes.iter().flatten().filter(|_| user);
        for node in nodes.filter(|node| node.kind != NodeKind::Fifo) {
            sender.push(devices::host_node(node)?)?;
        }
        Ok(Self {
            handed_over: true,
            queue: sender.finish()?,
            pending: VecDeque::new(),
            null,
            pid_namespace: None,
        })
    }

    pub(crate) fn show_processes_of(&mut self, namespace: OwnedFd) {
        self.pid_namespace = Some(namespace);
    }

    pub(super) fn pid_namespace(&self) -> Option<BorrowedFd<'_>> {
        self.pid_namespace.as_ref().map(AsFd::as_fd)
    }

    /// The next mount of the plan's order, from the parent or, where that had nothing to open, by `open`.
    pub(super) fn next_or(&mut self, open: impl FnOnce() -> Result<OwnedFd>) -> Result<OwnedFd> {
        if self.handed_over {
            self.next()
        } else {
            open()
        }
    }

    fn next(&mut self) -> Result<OwnedFd> {
        if self.pending.is_empty()
            && let Some(queue) = &self.queue
        {
            self.pending
                .extend(scm::recv_fds(queue.as_fd()).context("receive the next source")?);
        }
        match self.pending.pop_front() {
            Some(fd) => Ok(fd),
            None => bail!("the source was not opened before the user namespace was entered"),
        }
    }

    pub(super) fn take_null(&mut self) -> Option<OwnedFd> {
        self.null.take()
    }
}

/// For a container that runs: the detached copy of each bind's source, in the plan's order.
pub(super) fn open_all(
    plan: &RootfsPlan,
    joined: Option<BorrowedFd<'_>>,
) -> Result<Vec<Option<OwnedFd>>> {
    let mut user_namespaces = UserNamespaces::new(joined);
    let mut trees = Vec::with_capacity(plan.mounts.len());
    for op in &plan.mounts {
        let tree = match &op.kind {
            MountKind::Bind { source, recursive } => {
                let tree = source_of(plan, op, source, *recursive, &mut user_namespaces);
                let at = || format!("mounts[{}]: source `{}`", op.index, source.display());
                Some(tree.with_context(at)?)
            }
            _ => None,
        };
        trees.push(tree);
    }
    Ok(trees)
}

/// A detached copy of a bind's source, with the ids, the propagation and the attributes that it will have.
fn source_of<'a>(
    plan: &RootfsPlan,
    op: &'a MountOp,
    source: &Path,
    recursive: bool,
    user_namespaces: &mut UserNamespaces<'a>,
) -> Result<OwnedFd> {
    let tree = mount::copy_source(op, source, recursive)?;
    // As the kernel does when it copies a mount namespace for another user: nothing flows back to the host. In the host's
    // user namespace, what the container's mount namespace does to its copies of the host's mounts.
    let (depth, kind) = if plan.namespaces.user {
        (Depth::Recursive, libc::MS_SLAVE)
    } else {
        pivot::namespace_propagation(plan.propagation)
    };
    if depth == Depth::Recursive {
        set_attr(tree.as_fd(), depth, pivot::propagate(kind)).context("set the propagation")?;
    }
    if let Some(idmap) = &op.idmap {
        user_namespaces.apply(tree.as_fd(), idmap)?;
    }
    mount::apply(tree.as_fd(), op, op.top)?;
    Ok(tree)
}

struct Sender {
    ends: Option<(OwnedFd, OwnedFd)>,
    batch: Vec<OwnedFd>,
    batch_size: usize,
}

impl Sender {
    fn new() -> Result<Self> {
        // A quarter of the limit of open files at once, on both sides.
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit `RLIMIT_NOFILE`")?;
        let quarter = usize::try_from(soft / 4).unwrap_or(scm::MAX_FDS);
        Ok(Self {
            ends: None,
            batch: Vec::new(),
            batch_size: quarter.clamp(1, scm::MAX_FDS),
        })
    }

    fn push(&mut self, fd: OwnedFd) -> Result<()> {
        self.batch.push(fd);
        if self.batch.len() >= self.batch_size {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let ends = match self.ends.take() {
            Some(ends) => ends,
            None => pair().context("make a socket pair for the sources of mounts")?,
        };
        let sent = scm::send_fds(ends.0.as_fd(), &self.batch);
        self.ends = Some(ends);
        match sent {
            Ok(()) => self.batch.clear(),
            Err(errno @ (Errno::EAGAIN | Errno::ETOOMANYREFS)) => {
                return Err(errno).context("mounts: more than can be handed to a user namespace");
            }
            Err(errno) => return Err(errno).context("queue the sources of mounts"),
        }
        Ok(())
    }

    /// The receiving end; the sending one is closed, so a reader meets the end instead of waiting.
    fn finish(mut self) -> Result<Option<OwnedFd>> {
        self.flush()?;
        Ok(self.ends.take().map(|(_, receiver)| receiver))
    }
}

fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let ends = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    setsockopt(&ends.0, sockopt::SndBuf, &BUFFER)?;
    Ok(ends)
}
