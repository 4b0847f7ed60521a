//! `checkpoint`: saves a running container to images by CRIU. Without `--leave-running` and `--pre-dump` the container is then
//! gone, as with runc: what is left of it is deleted, and `restore` makes it anew from its bundle.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::delete::{self, Patience};
use super::image_names::{dumped_mounts, dumped_namespaces, write_descriptors};
use super::options::{CheckpointOptions, Context};
use super::status::Status;
use super::{Container, Live};
use crate::criu::dump::{self, Dump};
use crate::criu::rpc::{Features, Notify};
use crate::criu::{Birth, Criu, Directory};
use crate::plan::outside::Outside;
use crate::{sys, timings};

/// The annotation that names CRIU's configuration file.
pub(super) const CONFIG: &str = "org.criu.config";

pub(crate) fn checkpoint(context: &Context, options: &CheckpointOptions) -> Result<()> {
    let id = options.id.as_str();
    let container = Container::open(context, id)?;
    match container.status {
        Status::Running | Status::Paused => {}
        other => bail!("container `{id}` cannot be checkpointed in {other} state"),
    }
    let live = container.live()?;
    let status_fd = status_fd(options)?;
    require_root("checkpoint")?;
    let outside = live.container.record.outside.as_ref().context(
        "the container was made by a rundlet that did not write down what a checkpoint needs",
    )?;
    let outside = outside.get("outside")?;
    outside
        .check()
        .with_context(|| format!("container `{id}` cannot be checkpointed"))?;
    if let Some(added) = live.container.record.added.first() {
        bail!(
            "container `{id}` cannot be checkpointed: config.json has no `{}`, which `mounts add` has made: `mounts remove` it first",
            added.destination.display()
        );
    }
    check_parent(options)?;
    let criu = Criu::find()?;
    if options.flags.pre_dump {
        let wanted = Features {
            mem_track: true,
            ..Features::default()
        };
        criu.require_features(wanted, "--pre-dump")?;
    }
    if options.common.lazy_pages {
        let wanted = Features {
            lazy_pages: true,
            ..Features::default()
        };
        criu.require_features(wanted, "--lazy-pages")?;
    }
    timings::phase("image directory");
    let images = Directory::make("--image-path", &options.images)?;
    images.check_images()?;
    if let Some(parent) = &options.flags.parent {
        Directory::open("--parent-path", &options.images.join(parent))?.check_images()?;
    }
    let work = Directory::for_work(options.work.as_deref(), &options.images, &dump::FILES)?;
    timings::phase("CRIU");
    // Two at once would stop each other's processes.
    let _lock = live.container.slot.lock()?;
    save(&live, &outside, options, &criu, &images, &work, status_fd)
        .with_context(|| format!("checkpoint container `{id}`"))?;
    if options.flags.leave_running || options.flags.pre_dump {
        return Ok(());
    }
    timings::phase("wait for the end");
    delete::await_death(&live, Patience::Usual)?;
    live.container.ended().destroy(Patience::Usual)
}

/// CRIU without root's rights is a matter of its own, which nobody here has tried.
pub(super) fn require_root(verb: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{verb}: CRIU needs root's rights"
    );
    Ok(())
}

fn status_fd(options: &CheckpointOptions) -> Result<Option<OwnedFd>> {
    let Some(number) = options.status_fd else {
        return Ok(None);
    };
    ensure!(
        options.common.lazy_pages,
        "--status-fd: says when lazy pages are ready, and there is no --lazy-pages"
    );
    let fd = sys::fd::take_passed(number)
        .with_context(|| format!("--status-fd: take descriptor {number}"))?;
    let mode = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    ensure!(
        mode != OFlag::O_RDONLY,
        "--status-fd: descriptor {number} is not open for writing"
    );
    Ok(Some(fd))
}

/// Relative, for the images keep it as a link.
fn check_parent(options: &CheckpointOptions) -> Result<()> {
    let Some(parent) = &options.flags.parent else {
        return Ok(());
    };
    ensure!(
        !parent.is_absolute(),
        "--parent-path: `{}` must be relative to the image path",
        parent.display()
    );
    Ok(())
}

fn save(
    live: &Live,
    outside: &Outside,
    options: &CheckpointOptions,
    criu: &Criu,
    images: &Directory,
    work: &Directory,
    mut status_fd: Option<OwnedFd>,
) -> Result<()> {
    let record = &live.container.record;
    let mut external = dumped_namespaces(outside, live.init.pid)?;
    if !options.flags.pre_dump {
        external.extend(dumped_mounts(outside, live.init.pid)?);
        write_descriptors(images, &outside.stdio)?;
    }
    let freezer = live.container.cgroup()?.freezer();
    let dump = Dump {
        common: &options.common,
        flags: &options.flags,
        images,
        work,
        init: live.init.pid,
        rootfs: &record.rootfs,
        config: record.state.annotations.get(CONFIG).map(String::as_str),
        freezer: freezer.as_deref(),
        external: &external,
    };
    let mut notified = |notify: &Notify, _: Option<OwnedFd>| -> Result<()> {
        if notify.script == "status-ready"
            && let Some(fd) = status_fd.take()
        {
            nix::unistd::write(&fd, b"\0").context("--status-fd: write")?;
        }
        Ok(())
    };
    let worker = criu.start(&Birth::default())?;
    worker
        .carry_out(dump.kind(), &dump.options(), &mut notified)
        .map_err(|error| work.explain(dump::LOG, error))?;
    if options.flags.pre_dump {
        // It would wait for the next one, and takes our leaving for a failure.
        return worker.finish().map(drop);
    }
    worker
        .finish_well()
        .map_err(|error| work.explain(dump::LOG, error))
}
