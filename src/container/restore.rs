//! `restore`: a new container from a bundle whose processes come from the images of a checkpoint. What `create` decides and makes
//! is decided and made here, too, from the same config; CRIU stands in for the init's steps. Config and mounts are the bundle's:
//! the image says what runs, not where (R1), which is checked before anything of it runs.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::stat::{Mode, mkdirat, stat};
use nix::unistd::Pid;

use super::checkpoint::{CONFIG, DESCRIPTORS, namespace_key, require_root};
use super::create::detached_console;
use super::creating::Creating;
use super::launch::{Console, Launch};
use super::options::{Context, DeleteOptions, RestoreOptions};
use super::run::Foreground;
use super::{Container, Live, Stopped, delete, foreground, placement, status};
use crate::criu::restore::{self, Inherit, Restore};
use crate::criu::rpc::{Kind as Request, Notify};
use crate::criu::{Birth, Criu, Directory, LSM, Stdio, Worker};
use crate::fs::atomic;
use crate::plan::namespaces::Kind;
use crate::plan::outside::{self, Outside};
use crate::rootfs::restored;
use crate::sys::pidfd;
use crate::{console, hooks, log, net, sealed};

/// Where the root is mounted for CRIU, in its own mount namespace and below the state directory.
const ROOT: &str = "criu-root";
/// No descriptors.json of ours is longer.
const LONGEST: u64 = 64 * 1024;

/// Returns the exit code of the runtime, as `run`.
pub(crate) fn restore(context: &Context, options: &RestoreOptions) -> Result<i32> {
    sealed::ensure()?;
    require_root("restore")?;
    let images = Directory::open("--image-path", &options.images)?;
    let launch = Launch::prepare(context, &options.create)?;
    let criu = Criu::find()?;
    if options.flags.lsm_profile.is_some() || options.flags.lsm_mount_context.is_some() {
        criu.require(LSM, "--lsm-profile, --lsm-mount-context")?;
    }
    let work = match &options.work {
        Some(path) => Directory::make("--work-path", path)?,
        None => Directory::open("--image-path", &options.images)?,
    };
    work.check_log(restore::LOG)?;
    let terminal = launch.plan.process.terminal;
    let socket = options.create.console_socket.as_deref();
    let foreground = (!options.detach).then(|| Foreground::prepare(terminal && socket.is_none()));
    let mut foreground = foreground.transpose()?;
    let console = match foreground.as_mut().and_then(|own| own.console.take()) {
        Some(console) => Console::Socket(console),
        None => detached_console(terminal, socket)?,
    };
    if foreground.is_some() && !options.no_subreaper {
        foreground::become_subreaper()?;
    }
    let live = Restoring::begin(launch, options, console.into_socket())?
        .carry_out(&criu, &images, &work)
        .with_context(|| format!("restore container `{}`", options.create.id))?;
    let Some(mut foreground) = foreground else {
        return Ok(0);
    };
    let waited = foreground
        .attach()
        .and_then(|()| foreground.wait(Pid::from_raw(live.init.pid), live.pidfd(), None));
    match waited {
        Ok(code) => {
            Stopped(Container {
                status: status::Status::Stopped,
                ..live.container
            })
            .destroy()?;
            Ok(code)
        }
        Err(error) => {
            let force = DeleteOptions {
                id: options.create.id.clone(),
                force: true,
            };
            if let Err(error) = delete::delete(context, &force) {
                log::warn(format_args!("{}", crate::error::chain(&error)));
            }
            Err(error)
        }
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
        placement::keep_children_for_wait()?;
        if options.create.no_pivot {
            log::warn(format_args!(
                "--no-pivot: has no effect on restore: CRIU changes the root in its own way"
            ));
        }
        ensure!(
            !launch.plan.namespaces.joins(Kind::Cgroup),
            "linux.namespaces: CRIU cannot join a cgroup namespace"
        );
        let mut creating = launch.reserve()?;
        let record = creating.record.as_ref();
        let outside = record.and_then(|record| record.outside.clone());
        let outside = outside.context("the container has no record")?;
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
                None => join.push((criu_name(wanted.kind), wanted.path.as_path())),
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
            external: &external(&self.outside),
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
        restored::check(&plan.rootfs, pid)?;
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

/// The kind as setns(2)'s callers and CRIU call it.
fn criu_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "net",
        Kind::Mount => "mnt",
        other => other.name(),
    }
}

fn same_namespace(one: &Path, other: &Path) -> Result<bool> {
    let of = |path: &Path| stat(path).with_context(|| format!("look at `{}`", path.display()));
    let (one, other) = (of(one)?, of(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Whether the process is in the runtime's own namespace of this kind.
fn is_shared(kind: Kind, pid: i32) -> Result<bool> {
    let name = criu_name(kind);
    let own = format!("/proc/self/ns/{name}");
    if !Path::new(&own).exists() {
        return Ok(true);
    }
    same_namespace(
        Path::new(&own),
        Path::new(&format!("/proc/{pid}/ns/{name}")),
    )
}

/// The images' processes must be as far from the host as the config says, and no farther from what they are to share.
fn check_namespaces(namespaces: &crate::plan::namespaces::Namespaces, pid: i32) -> Result<()> {
    // Time: see above. Cgroup: the image decides what is shown of a place that the runtime has chosen.
    for kind in [
        Kind::User,
        Kind::Ipc,
        Kind::Uts,
        Kind::Network,
        Kind::Pid,
        Kind::Mount,
    ] {
        let name = kind.name();
        let joined = namespaces.join.iter().find(|join| join.kind == kind);
        if let Some(join) = joined {
            let path = format!("/proc/{pid}/ns/{}", criu_name(kind));
            ensure!(
                same_namespace(&join.path, Path::new(&path))?,
                "the image does not fit the bundle: linux.namespaces[{}]: process {pid} is not in {name} namespace `{}`",
                join.index,
                join.path.display()
            );
        } else {
            let (wanted, word) = if namespaces.makes(kind) {
                (false, "in")
            } else {
                (true, "not in")
            };
            ensure!(
                is_shared(kind, pid)? == wanted,
                "the image does not fit the bundle: linux.namespaces: process {pid} is {word} the host's {name} namespace"
            );
        }
    }
    if namespaces.makes(Kind::User) {
        for (file, map) in [
            ("uid_map", &namespaces.uid_map),
            ("gid_map", &namespaces.gid_map),
        ] {
            let path = format!("/proc/{pid}/{file}");
            let text = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
            let given: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
            let planned: Vec<u32> = map
                .iter()
                .flat_map(|line| [line.container, line.host, line.size])
                .collect();
            ensure!(
                given == planned,
                "the image does not fit the bundle: `{path}` is not what linux.{} says",
                if file == "uid_map" {
                    "uidMappings"
                } else {
                    "gidMappings"
                }
            );
        }
    }
    Ok(())
}

/// `mnt[NAME]:SOURCE` of everything that may be in the image under that name; all from the bundle.
fn external(outside: &Outside) -> Vec<Vec<u8>> {
    let one = |name: &Path, source: &Path| {
        let (name, source) = (name.as_os_str().as_bytes(), source.as_os_str().as_bytes());
        [b"mnt[", name, b"]:", source].concat()
    };
    let null = Path::new(outside::NULL);
    let mut all: Vec<(&Path, &Path)> = Vec::new();
    for mount in &outside.mounts {
        // A later one covers an earlier one.
        all.retain(|(name, _)| *name != mount.destination);
        all.push((&mount.destination, &mount.source));
    }
    let nodes = outside
        .nodes
        .iter()
        .map(|path| (path.as_path(), path.as_path()));
    let masks = (!outside.masked.is_empty()).then_some((null, null));
    for (name, source) in nodes.chain(masks) {
        if !all.iter().any(|(taken, _)| *taken == name) {
            all.push((name, source));
        }
    }
    all.into_iter()
        .map(|(name, source)| one(name, source))
        .collect()
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

/// Which of the standard streams were pipes that the image names. Only that is taken from it: any other key would put a
/// descriptor in a place that was not meant for it.
fn read_descriptors(images: &Directory) -> Result<Vec<(String, i32)>> {
    let read = || -> Result<Vec<String>> {
        let file = std::fs::File::from(images.open_file(DESCRIPTORS)?);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LONGEST), &mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let names = read().with_context(|| {
        format!("--image-path: read `{DESCRIPTORS}` (is it the image of a checkpoint?)")
    })?;
    let pipes = (0..3).zip(names).filter(|(_, name)| is_pipe(name));
    Ok(pipes.map(|(number, name)| (name, number)).collect())
}

fn is_pipe(name: &str) -> bool {
    name.strip_prefix("pipe:[")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inode| !inode.is_empty() && inode.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::outside::OutsideMount;

    #[test]
    fn only_pipes_are_taken_from_an_image() {
        assert!(is_pipe("pipe:[4711]"));
        for bad in [
            "pipe:[]",
            "pipe:[4]x",
            "extRootNetNS",
            "pipe:[4",
            "/dev/null",
            "pipe:[a]",
        ] {
            assert!(!is_pipe(bad), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let images = Directory::open("--image-path", dir.path()).unwrap();
        assert!(read_descriptors(&images).is_err());
        let json = r#"["/dev/null","pipe:[7]","extRootNetNS","pipe:[8]"]"#;
        let mode = Mode::S_IRUSR;
        atomic::replace(images.as_fd(), DESCRIPTORS.as_ref(), mode, json.as_bytes()).unwrap();
        assert_eq!(
            read_descriptors(&images).unwrap(),
            [("pipe:[7]".to_owned(), 1)]
        );
    }

    #[test]
    fn names_of_outside_mounts() {
        let mount = |destination: &str, source: &str| OutsideMount {
            field: "mounts[0]".to_owned(),
            destination: destination.into(),
            source: source.into(),
        };
        let outside = Outside {
            mounts: vec![
                mount("/a", "/x"),
                mount("/dev/null", "/y"),
                mount("/a", "/z:]"),
            ],
            masked: vec!["/proc/kcore".into()],
            nodes: vec!["/dev/null".into(), "/dev/zero".into()],
            ..Outside::default()
        };
        let names: Vec<_> = external(&outside)
            .into_iter()
            .map(|name| String::from_utf8(name).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "mnt[/dev/null]:/y",
                "mnt[/a]:/z:]",
                "mnt[/dev/zero]:/dev/zero"
            ]
        );
    }
}
