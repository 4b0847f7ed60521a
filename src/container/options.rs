//! What each verb was asked to do, as plain data. Filled by `cli` from the command line, consumed by the verb's
//! file beside this one. Nothing here is checked against the host; numbers and signals are already numbers.

use std::path::PathBuf;
use std::time::Duration;

use crate::criu::dump::DumpFlags;
use crate::criu::options::Common;
use crate::criu::restore::RestoreFlags;
use crate::plan::host::in_initial_user_namespace;
use crate::spec::{MountsFrom, ResourcesFrom};

/// From the global flags; every verb gets it.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state root: absolute, cleaned of `.` and `..`, never `/`.
    pub(crate) root: PathBuf,
    /// The root is a fresh directory below `$XDG_RUNTIME_DIR`: it needs the sticky bit, else the host's cleaner
    /// may take it away while a container runs.
    pub(crate) root_is_private_default: bool,
    pub(crate) systemd_cgroup: bool,
    pub(crate) rootless: Rootless,
}

/// `--rootless`: whether permission errors of the cgroup file system may be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// When rundlet does not run as the host's root.
    Auto,
    Yes,
    No,
}

impl Context {
    /// Whether a cgroup that can not be made or changed for want of rights is no error.
    pub(crate) fn ignores_cgroup_permissions(&self) -> bool {
        match self.rootless {
            Rootless::Yes => true,
            Rootless::No => false,
            Rootless::Auto => !nix::unistd::geteuid().is_root() || !in_initial_user_namespace(),
        }
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(crate) struct CreateOptions {
    pub(crate) id: String,
    /// Absolute, not resolved.
    pub(crate) bundle: PathBuf,
    /// Below the bundle unless absolute; `config.json` if not given.
    pub(crate) config: PathBuf,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Absolute, so that it holds after a change of directory.
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// Descriptors 3 + LISTEN_FDS to 3 + LISTEN_FDS + this - 1 stay open.
    pub(crate) preserve_fds: u32,
    pub(crate) overlay: Option<Overlay>,
}

/// The container's root is an overlay over `root.path`, which stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// What the container writes goes away with it.
    Temporary,
    /// What the container writes stays in this directory (absolute).
    Upper(PathBuf),
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(crate) struct RunOptions {
    pub(crate) create: CreateOptions,
    pub(crate) detach: bool,
    pub(crate) keep: bool,
    pub(crate) no_subreaper: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ExecOptions {
    pub(crate) id: String,
    pub(crate) process: ExecProcess,
    pub(crate) detach: bool,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Absolute.
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) preserve_fds: u32,
    /// `[CONTROLLER[,...]:]PATH` each, as given: `cgroup` reads and checks them.
    pub(crate) cgroups: Vec<String>,
    pub(crate) ignore_paused: bool,
}

/// Where the process of `exec` comes from.
#[derive(Clone, Debug)]
pub(crate) enum ExecProcess {
    /// `--process FILE`: a whole process object. Nothing else describes it.
    File(PathBuf),
    /// The container's own process object, changed by flags.
    Flags(ExecFlags),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ExecFlags {
    /// Not empty.
    pub(crate) args: Vec<String>,
    pub(crate) cwd: Option<String>,
    /// Appended to the container's.
    pub(crate) env: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) uid: Option<u32>,
    /// Given only together with a uid.
    pub(crate) gid: Option<u32>,
    /// Empty: as the container's process.
    pub(crate) additional_gids: Vec<u32>,
    /// Added to bounding, effective and permitted, and to ambient where inheritable has it.
    pub(crate) caps: Vec<String>,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
    /// Not given: as the container's process.
    pub(crate) no_new_privs: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct KillOptions {
    pub(crate) id: String,
    pub(crate) signal: i32,
    /// Obsolete `--all`: a container that is not running is no error.
    pub(crate) all: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct UpdateOptions {
    pub(crate) id: String,
    pub(crate) resources: ResourcesFrom,
    /// Lines of the schemata file of resctrl; often none.
    pub(crate) schemata: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct MountsOptions {
    pub(crate) id: String,
    pub(crate) from: MountsFrom,
}

#[derive(Clone, Debug)]
pub(crate) struct DeleteOptions {
    pub(crate) id: String,
    pub(crate) force: bool,
    /// For all waits together; not given, each has its own.
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct CheckpointOptions {
    pub(crate) id: String,
    /// Absolute, as all of these.
    pub(crate) images: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) common: Common,
    pub(crate) flags: DumpFlags,
    /// A descriptor of the caller's that gets a null byte when the pages can be asked for.
    pub(crate) status_fd: Option<i32>,
}

#[derive(Clone, Debug)]
pub(crate) struct RestoreOptions {
    pub(crate) run: RunOptions,
    pub(crate) images: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) common: Common,
    pub(crate) flags: RestoreFlags,
}
