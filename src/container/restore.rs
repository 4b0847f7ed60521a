//! `restore`: a new container from a bundle whose processes come from the images of a checkpoint. What `create` decides and makes
//! is decided and made here, too, from the same config; CRIU stands in for the init's steps. Config and mounts are the bundle's:
//! the image says what runs, not where (R1), which is checked before anything of it runs.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;

use super::checkpoint::{CONFIG, require_root};
use super::creating::Creating;
use super::delete::Patience;
use super::image_check::{check_namespaces, is_shared};
use super::image_names::{namespace_key, read_descriptors, restored_mounts};
use super::launch::{Launch, keep_filter};
use super::options::{Context, RestoreOptions};
use super::run::{Foreground, removed_after};
use super::{Live, placement, status};
use crate::criu::restore::{self, Inherit, Restore};
use crate::criu::rpc::{Kind as Request, Notify};
use crate::criu::{Birth, Criu, Directory, LSM, Stdio, Worker};
use crate::fs::atomic;
use crate::plan::namespaces::Kind;
use crate::plan::outside::Outside;
use crate::rootfs::{restored, restored_check};
use crate::sys::pidfd;
use crate::{console, hooks, log, net, sealed, timings};

/// Where the root is mounted for CRIU, in its own mount namespace and below the state directory.
const ROOT: &str = "criu-root";

/// Returns the exit code of the runtime, as `run`.
pub(crate) fn restore(context: &Context, options: &RestoreOptions) -> Result<i32> {
    sealed::ensure()?;
    require_root("restore")?;
    timings::phase("image directory");
    let images = Directory::open("--image-path", &options.images)?;
    images.check_images()?;
    let create = &options.run.create;
    let launch = Launch::prepare(context, create)?;
    timings::phase("CRIU");
    let criu = Criu::find()?;
    if options.flags.lsm_profile.is_some() || options.flags.lsm_mount_context.is_some() {
        criu.require(LSM, "--lsm-profile, --lsm-mount-context")?;
    }
    let work = Directory::for_work(options.work.as_deref(), &options.images, &restore::FILES)?;
    let (foreground, console) =
        Foreground::or_detached(&options.run, launch.plan.process.terminal)?;
    let live = Restoring::begin(launch, options, console.into_socket())?
        .carry_out(&criu, &images, &work)
        .with_context(|| format!("restore container `{}`", create.id))?;
    let Some(mut foreground) = foreground else {
        return Ok(0);
    };
    let waited = foreground
        .attach()
        .and_then(|()| foreground.wait(Pid::from_raw(live.init.pid), live.pidfd(), None));
    match waited {
        Ok(code) => {
            live.container.ended().destroy(Patience::Usual)?;
            Ok(code)
        }
        Err(error) => Err(removed_after(context, &options.run, error)),
    }
}

/// A container being restored. Dropped before its end it leaves nothing behind.
struct Restoring<'a> {
    launch: Launch<'a>,
    options: &'a RestoreOptions,
    creating: Creating,
    outside: Outside,
    console: Option<OwnedFd>,
}

impl<'a> Restoring<'a> {
    /// The record and the cgroup, as for `create`.
    fn begin(
        mut launch: Launch<'a>,
        options: &'a RestoreOptions,
        console: Option<OwnedFd>,
    ) -> Result<Self> {
        placement::keep_children_for_wait(&launch.host)?;
        if options.run.create.no_pivot {
            log::warn(format_args!(
                "--no-pivot: has no effect on restore: CRIU changes the root in its own way"
            ));
        }
        ensure!(
            !launch.plan.namespaces.joins(Kind::Cgroup),
            "linux.namespaces: CRIU cannot join a cgroup namespace"
        );
        let mut creating = launch.reserve()?;
        keep_filter(&creating.slot, launch.filter())?;
        creating.note_outside(&launch.plan)?;
        let record = creating.record.as_ref();
        let outside = record.and_then(|record| record.outside.as_ref());
        let outside = outside.context("the container has no record")?;
        let outside = outside.get("outside")?.into_owned();
        outside.check()?;
        if let Some(rdt) = &launch.plan.rdt {
            creating.make_rdt(rdt)?;
        }
        creating.make_cgroup(&launch.plan.resources, &launch.plan.delegation)?;
        Ok(Restoring {
            launch,
            options,
            creating,
            outside,
            console,
        })
    }

    fn carry_out(mut self, criu: &Criu, images: &Directory, work: &Directory) -> Result<Live> {
        let place = self.creating.slot.path().join(ROOT);
        mkdirat(self.creating.slot.dir.as_fd(), ROOT, Mode::S_IRWXU)
            .with_context(|| format!("make `{}`", place.display()))?;
        let keys = read_descriptors(images)?;
        let namespaces = &self.launch.plan.namespaces;
        let mut inherit: Vec<_> = keys
            .iter()
            .map(|(key, number)| (key.clone(), Inherit::Stdio(*number)))
            .collect();
        let (mut joined, mut join) = (Vec::new(), Vec::new());
        for (index, fd) in placement::open_namespaces(namespaces)? {
            let wanted = &namespaces.join[index];
            match namespace_key(wanted.kind) {
                Some((_, key)) => joined.push((key, fd)),
                None => join.push((wanted.kind.file(), wanted.path.as_path())),
            }
        }
        let (joined_keys, joined): (Vec<_>, Vec<_>) = joined.into_iter().unzip();
        let named = joined_keys.into_iter().zip(&joined);
        inherit.extend(named.map(|(key, fd)| (key.to_owned(), Inherit::Fd(fd))));
        let rootfs = &self.launch.plan.rootfs;
        let prepare = || restored::make_points(rootfs, &place);
        let cgroup = self
            .creating
            .cgroup
            .as_ref()
            .context("no cgroup was planned")?;
        let worker = criu.start(&Birth {
            cgroup: cgroup.clone_into_fd(),
            stdio: Stdio::Inherited,
            inherit: &joined,
            prepare: Some(&prepare),
        })?;
        // As for an init, before it goes on: what CRIU makes is born with the limits and the device rules of the container.
        self.creating.place(worker.pid)?;
        let cgroup = self
            .creating
            .cgroup
            .as_ref()
            .context("no cgroup was planned")?;
        cgroup.apply(&self.launch.plan.resources)?;
        let cgroups = cgroups_of(worker.pid)?;
        let annotations = &self.launch.plan.state.annotations;
        // CRIU takes them from this process by number when it has got the request.
        let images_there = images.seen_by(worker.pid)?;
        let work_there = work.seen_by(worker.pid)?;
        let request = Restore {
            common: &self.options.common,
            flags: &self.options.flags,
            images: &images_there,
            work: &work_there,
            root: &place,
            config: annotations.get(CONFIG).map(String::as_str),
            external: &restored_mounts(&self.outside),
            cgroups: &cgroups,
            inherit: &inherit,
            join: &join,
        }
        .options();
        self.run_criu(worker, &request)
            .map_err(|error| work.explain(restore::LOG, error))?;
        nix::unistd::unlinkat(
            self.creating.slot.dir.as_fd(),
            ROOT,
            nix::unistd::UnlinkatFlags::RemoveDir,
        )
        .with_context(|| format!("remove `{}`", place.display()))?;
        self.creating.release(status::Status::Running)
    }

    fn run_criu(&mut self, worker: Worker, request: &crate::criu::rpc::Message) -> Result<()> {
        let mut notified = |notify: &Notify, fd: Option<OwnedFd>| match notify.script.as_str() {
            "setup-namespaces" => self.set_up_namespaces(notify.pid),
            "post-restore" => self.take_over(notify.pid),
            "orphan-pts-master" => self.hand_over_master(fd),
            _ => Ok(()),
        };
        worker.carry_out(Request::Restore, request, &mut notified)?;
        worker.finish_well()?;
        ensure!(
            self.creating.init.is_some(),
            "criu has restored nothing that it told of"
        );
        Ok(())
    }

    /// The namespaces are made and empty: what the runtime and the hooks put into them.
    fn set_up_namespaces(&mut self, pid: i32) -> Result<()> {
        let plan = &self.launch.plan;
        if plan.namespaces.makes(Kind::Network) {
            let namespace = placement::namespace_of(Pid::from_raw(pid), "net")?;
            net::raise_loopback(namespace.as_fd())?;
        }
        if !plan.net_devices.is_empty() {
            let namespace = placement::namespace_of(Pid::from_raw(pid), "net")?;
            let moved = net::move_all(&plan.net_devices, namespace.as_fd())?;
            self.creating.devices = Some(moved);
        }
        if plan.hooks.prestart.is_empty() && plan.hooks.create_runtime.is_empty() {
            return Ok(());
        }
        self.creating.hooks_ran = true;
        let state = plan.state.json("creating", pid)?;
        hooks::run(&plan.hooks.prestart, "prestart", &state)?;
        hooks::run(&plan.hooks.create_runtime, "createRuntime", &state)
    }

    /// All processes are made and none runs yet.
    fn take_over(&mut self, pid: i32) -> Result<()> {
        let process = Pid::from_raw(pid);
        let fd = pidfd::open(process).with_context(|| format!("open pidfd of process {pid}"))?;
        self.creating.init = Some((process, fd));
        let plan = &self.launch.plan;
        check_namespaces(&plan.namespaces, pid)?;
        if plan.rootfs.readonly {
            restored::make_root_read_only(pid)?;
        }
        restored_check::check(&plan.rootfs, pid)?;
        let cgroup = self
            .creating
            .cgroup
            .as_ref()
            .context("no cgroup was planned")?;
        cgroup.delegate(process, &plan.delegation)?;
        if let Some(group) = &self.creating.rdt {
            group.place(process)?;
        }
        let record = self.creating.record.as_mut();
        let record = record.context("the container has no record")?;
        // CRIU gives clocks that go on where they were by a time namespace, which exec then has to join.
        if !record.namespaces.contains(&Kind::Time) && !is_shared(Kind::Time, pid)? {
            record.namespaces.push(Kind::Time);
            record.namespaces.sort_unstable();
        }
        record.init = Some(status::identify(pid)?);
        self.creating.slot.write(record)?;
        if let Some(path) = &self.launch.pid_file {
            atomic::write_pid_file(path, pid).context("--pid-file")?;
        }
        Ok(())
    }

    fn hand_over_master(&mut self, master: Option<OwnedFd>) -> Result<()> {
        let master = master.context("criu sent no terminal")?;
        let Some(socket) = self.console.take() else {
            bail!("the image has a terminal, and process.terminal is false or it was sent already");
        };
        console::send_master(socket.as_fd(), &master)
    }
}

/// The cgroups of a process as (controllers, path), one a hierarchy: cgroups(7).
fn cgroups_of(pid: Pid) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}
