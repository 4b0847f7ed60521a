//! CRIU, the program that saves processes to files and makes them again: finds it, starts it as a worker (`criu swrk`), and talks
//! to it over a socket. Called by `container::{checkpoint, restore}`. What is asked for is written by [`dump`] and [`restore`].
//!
//! CRIU runs with all rights of the runtime. It is told paths of config.json and of the command line only, never of an image (R1).

mod directory;
pub(crate) mod dump;
pub(crate) mod log;
pub(crate) mod options;
pub(crate) mod restore;
pub(crate) mod rpc;

use std::ffi::{CString, OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, pipe2};

use self::log::Failed;
use self::rpc::{Features, Kind, Message, Notify, Response};
use crate::sys;
use crate::sys::clone::{CloneRequest, Cloned, clone3};
use crate::sys::wait::{Exit, wait_pidfd};
use crate::sys::{pidfd, unix};

/// As crun: external pid namespaces, the freezer of cgroup v2 and `status-ready` are there since then.
const OLDEST: u32 = 31500;
/// The first that can change the LSM profile.
pub(crate) const LSM: u32 = 31600;
/// Where programs are looked for when the caller has no PATH; CRIU itself needs one for tar, ip and iptables.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No answer of CRIU is longer.
const BUFFER: usize = 40 * 1024;

/// The program, found and asked for its version.
pub(crate) struct Criu {
    program: CString,
    pub(crate) version: u32,
}

/// What a worker is born with.
#[derive(Default)]
pub(crate) struct Birth<'a> {
    /// cgroup v2 directory to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Its standard streams are the caller's, for restored processes to inherit; otherwise /dev/null.
    pub(crate) stdio: Stdio,
    /// Descriptors that it inherits under their numbers.
    pub(crate) inherit: &'a [OwnedFd],
    /// Run in it, in a mount namespace of its own whose mounts are slaves of the host's, before CRIU is executed.
    #[allow(clippy::type_complexity, reason = "one closure")]
    pub(crate) prepare: Option<&'a dyn Fn() -> Result<()>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stdio {
    #[default]
    Null,
    Inherited,
}

/// A running `criu swrk`. Dropped before [`Worker::finish`] it is killed.
pub(crate) struct Worker {
    socket: Option<OwnedFd>,
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
    ended: bool,
}

/// What becomes of a notification, which may carry a descriptor.
pub(crate) type Notified<'a> = &'a mut dyn FnMut(&Notify, Option<OwnedFd>) -> Result<()>;

impl Criu {
    pub(crate) fn find() -> Result<Criu> {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
        let program = search(&path).with_context(|| {
            format!(
                "find `criu` in PATH ({}): install CRIU 3.15 or later (https://criu.org)",
                path.display()
            )
        })?;
        let program =
            CString::new(program.into_os_string().into_vec()).context("the path of criu")?;
        let mut criu = Criu {
            program,
            version: 0,
        };
        criu.version = criu
            .ask(&rpc::request(Kind::Version, None))
            .context("ask criu for its version")?
            .version;
        criu.require(OLDEST, "checkpoint and restore")?;
        Ok(criu)
    }

    pub(crate) fn require(&self, least: u32, what: &str) -> Result<()> {
        let text = |version: u32| {
            let (major, minor) = (version / 10_000, version / 100 % 100);
            format!("{major}.{minor}.{}", version % 100)
        };
        ensure!(
            self.version >= least,
            "{what}: needs CRIU {} or later, `{}` is {}",
            text(least),
            self.program.to_string_lossy(),
            text(self.version)
        );
        Ok(())
    }

    /// Whether this kernel and CRIU can do what an option asks for.
    pub(crate) fn require_features(&self, wanted: Features, option: &str) -> Result<()> {
        let has = self
            .ask(&rpc::feature_request(wanted))
            .with_context(|| format!("{option}: ask criu for its features"))?
            .features;
        ensure!(
            (!wanted.mem_track || has.mem_track) && (!wanted.lazy_pages || has.lazy_pages),
            "{option}: CRIU says that this kernel cannot do it"
        );
        Ok(())
    }

    /// One question to a worker of its own.
    fn ask(&self, request: &Message) -> Result<Response> {
        let worker = self.start(&Birth::default())?;
        worker.send(request)?;
        let response = worker.receive()?.0;
        ensure!(response.success, Failed(reason(&response)));
        Ok(response)
    }

    pub(crate) fn start(&self, birth: &Birth<'_>) -> Result<Worker> {
        let none = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, none)
            .context("make a socket pair for criu")?;
        let (failure, fail) = pipe2(OFlag::O_CLOEXEC).context("make a pipe for criu")?;
        let mut flags = CloneFlags::empty();
        if birth.prepare.is_some() {
            flags |= CloneFlags::CLONE_NEWNS;
        }
        let request = CloneRequest {
            flags,
            cgroup: birth.cgroup,
        };
        let Cloned::Parent { pid, pidfd } = clone3(&request).context("clone a process for criu")?
        else {
            let error = self.become_criu(birth, theirs.as_fd());
            let text = crate::error::chain(&error);
            // The reader gets what fits; there is nobody else to tell.
            let _ = nix::unistd::write(&fail, text.as_bytes());
            sys::process::exit_now(1)
        };
        drop((theirs, fail));
        let worker = Worker {
            socket: Some(ours),
            pid,
            pidfd,
            ended: false,
        };
        let mut text = String::new();
        std::fs::File::from(failure)
            .read_to_string(&mut text)
            .context("wait for criu to start")?;
        ensure!(text.is_empty(), "{text}");
        Ok(worker)
    }

    /// In the clone. Comes back only with an error.
    fn become_criu(&self, birth: &Birth<'_>, socket: BorrowedFd<'_>) -> anyhow::Error {
        let run = || -> Result<Errno> {
            if let Some(prepare) = birth.prepare {
                prepare()?;
            }
            // It handles signals itself, and waits for children.
            for signal in [libc::SIGCHLD, libc::SIGPIPE] {
                sys::process::default_signal(signal).context("reset signals for criu")?;
            }
            SigSet::empty()
                .thread_set_mask()
                .context("unblock signals for criu")?;
            if birth.stdio == Stdio::Null {
                let mut both = std::fs::File::options();
                let null = both.read(true).write(true).open("/dev/null");
                let null = null.context("open `/dev/null`")?;
                for number in 0..3 {
                    sys::fd::replace_stdio(null.as_fd(), number).context("stdio of criu")?;
                }
            }
            let inherit = birth.inherit.iter().map(AsRawFd::as_raw_fd);
            for fd in inherit.chain([socket.as_raw_fd()]) {
                sys::fd::clear_cloexec(fd.cast_unsigned()).context("hand a descriptor to criu")?;
            }
            let number = socket.as_raw_fd().to_string();
            let args = ["criu", "swrk", &number].map(|arg| CString::new(arg).unwrap_or_default());
            Ok(sys::process::exec(&self.program, &args, &environment()))
        };
        match run() {
            Ok(errno) => anyhow!(errno).context(format!("execute {:?}", self.program)),
            Err(error) => error,
        }
    }
}

/// The first executable file of that name, as execvp(3) would choose.
fn search(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("criu"))
        .find(|file| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

fn environment() -> Vec<CString> {
    let mut all: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if !all
        .iter()
        .any(|(key, value)| key == "PATH" && !value.is_empty())
    {
        all.retain(|(key, _)| key != "PATH");
        all.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    all.into_iter()
        .filter_map(|(key, value)| {
            CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect()
}

fn reason(response: &Response) -> String {
    let mut text = response.message.clone();
    if response.errno != 0 {
        let errno = Errno::from_raw(response.errno.saturating_abs());
        let separator = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{separator}{}", errno.desc().to_lowercase());
    }
    if text.is_empty() {
        return "no reason given".to_owned();
    }
    text
}

impl Worker {
    fn send(&self, message: &Message) -> Result<()> {
        let socket = self.socket.as_ref().context("criu was left")?;
        unix::send(socket.as_fd(), message.as_bytes(), None).context("talk to criu")
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let socket = self.socket.as_ref().context("criu was left")?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.context("wait for criu")?,
            };
            let (length, fd) = match unix::receive(socket.as_fd(), &mut buffer) {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => (0, None),
                other => other.context("listen to criu")?,
            };
            ensure!(length > 0, Failed("it ended without an answer".to_owned()));
            ensure!(length < BUFFER, "an answer of criu is too long");
            return Ok((Response::read(&buffer[..length])?, fd));
        }
    }

    /// Sends a request and answers notifications until it is done or has failed. A notification that fails here fails the
    /// request, and that is then the error.
    pub(crate) fn carry_out(
        &self,
        kind: Kind,
        options: &Message,
        notified: Notified<'_>,
    ) -> Result<()> {
        self.send(&rpc::request(kind, Some(options)))?;
        loop {
            let (response, fd) = self.receive()?;
            if response.kind != Kind::Notify as u64 {
                ensure!(response.success, Failed(reason(&response)));
                ensure!(
                    response.kind == kind as u64,
                    "an answer of criu to something else ({})",
                    response.kind
                );
                return Ok(());
            }
            let notify = response.notify.unwrap_or_default();
            crate::log::debug(format_args!("criu: {}", notify.script));
            let outcome = notified(&notify, fd);
            self.send(&rpc::notified(outcome.is_ok()))?;
            if let Err(error) = outcome {
                // Until it has undone what it can, so that nothing of it is still running.
                while let Ok((response, _)) = self.receive() {
                    if response.kind != Kind::Notify as u64 {
                        break;
                    }
                    self.send(&rpc::notified(true))?;
                }
                return Err(error);
            }
        }
    }

    /// Lets CRIU end, which it does when nobody talks to it any more.
    pub(crate) fn finish(mut self) -> Result<Exit> {
        self.socket = None;
        let exit = wait_pidfd(self.pidfd.as_fd()).context("wait for criu to end")?;
        self.ended = true;
        Ok(exit)
    }

    /// The same where it must have succeeded.
    pub(crate) fn finish_well(self) -> Result<()> {
        match self.finish()? {
            Exit::Code(0) => Ok(()),
            other => bail!(Failed(other.to_string())),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.socket = None;
        // ESRCH: it has died by itself; it is reaped all the same.
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = wait_pidfd(self.pidfd.as_fd());
    }
}

/// Numbers of descriptors, which CRIU takes from this process while it works for it.
fn number(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

pub(crate) use self::directory::Directory;
