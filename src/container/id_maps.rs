//! The id maps of a new user namespace (U4): written by the runtime where the kernel lets it, otherwise by newuidmap(1) and
//! newgidmap(1), which look up what /etc/subuid and /etc/subgid grant to the user. Called by `creating.rs` while the cloned
//! process waits.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use crate::fs::{culprit, procfs};
use crate::plan::host::Host;
use crate::plan::namespaces::{IdMap, Namespaces, is_own_alone, map_text};
use crate::sys::pidfd;

/// Where the helpers are looked for, never in the caller's PATH (X6). The last is where `NixOS` has its set-user-id programs.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// How long a helper may take.
const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// One of the two maps.
struct Side<'a> {
    file: &'static str,
    field: &'static str,
    helper: &'static str,
    /// What grants the host's ids.
    granted_by: &'static str,
    map: &'a [IdMap],
    /// The runtime's own id.
    own: u32,
}

/// Writes gid_map and uid_map, each in one write (user_namespaces(7)).
pub(super) fn write(pid: Pid, namespaces: &Namespaces, host: &Host) -> Result<()> {
    let gids = Side {
        file: "gid_map",
        field: "linux.gidMappings",
        helper: "newgidmap",
        granted_by: "/etc/subgid",
        map: &namespaces.gid_map,
        own: host.egid,
    };
    let uids = Side {
        file: "uid_map",
        field: "linux.uidMappings",
        helper: "newuidmap",
        granted_by: "/etc/subuid",
        map: &namespaces.uid_map,
        own: host.euid,
    };
    if host.is_unprivileged() && is_own_alone(gids.map, gids.own) {
        // Otherwise the user could drop a group by which files are denied to its members; the kernel demands it.
        procfs::write_of_process(pid, "setgroups", "deny")
            .context("linux.gidMappings: deny setgroups")?;
    }
    for side in [gids, uids] {
        if !host.is_unprivileged() || is_own_alone(side.map, side.own) {
            side.write(pid)?;
        } else {
            side.run_helper(pid)?;
        }
    }
    Ok(())
}

impl Side<'_> {
    fn shown(&self) -> String {
        map_text(self.map).trim_end().replace('\n', ", ")
    }

    fn write(&self, pid: Pid) -> Result<()> {
        procfs::write_of_process(pid, self.file, &map_text(self.map))
            .with_context(|| format!("{}: map `{}`", self.field, self.shown()))
    }

    fn run_helper(&self, pid: Pid) -> Result<()> {
        let Self {
            helper,
            field,
            granted_by,
            own,
            ..
        } = self;
        let program = find(helper).with_context(|| {
            format!(
                "{field}: more than the runtime's own id {own} is mapped, which takes `{helper}` \
                 (package uidmap or shadow-utils), and none of {} has it",
                DIRECTORIES.join(", ")
            )
        })?;
        let numbers = self
            .map
            .iter()
            .flat_map(|line| [line.container, line.host, line.size])
            .map(|number| number.to_string());
        let mut output = Command::new(&program)
            .arg(pid.to_string())
            .args(numbers)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{field}: execute `{}`", program.display()))?;
        // It asks whatever the host's nsswitch.conf names, and that may not answer.
        let child = output.id().cast_signed();
        let ended = pidfd::open(Pid::from_raw(child))
            .and_then(|pidfd| pidfd::await_end(pidfd.as_fd(), HELPER_LIMIT));
        if ended == Ok(false) {
            let who = culprit::process_in_cgroup(child);
            let _ = output.kill();
            bail!(
                "{field}: `{}` does not come to an end within {} s: {who}",
                program.display(),
                HELPER_LIMIT.as_secs()
            );
        }
        let output = output
            .wait_with_output()
            .with_context(|| format!("{field}: wait for `{}`", program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{field}: map `{}`: `{}` failed ({}): {}; {granted_by} must grant these ids to the user",
            self.shown(),
            program.display(),
            output.status,
            said.trim().replace('\n', "; ")
        )
    }
}

fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}
