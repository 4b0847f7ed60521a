//! `rundlet exec`: which process, by file or by flags. What the flags change is `container`'s part, because the
//! process they change is in the container's record (V2).

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::absolute;
use crate::container;
use crate::container::options::{Context, ExecFlags, ExecOptions, ExecProcess};

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct ExecArgs {
    #[arg(hide = true)]
    id: String,
    #[arg(hide = true)]
    args: Vec<String>,
    /// file with the whole process object (process.json)
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// return when the process has started
    #[arg(long, short)]
    detach: bool,
    /// path of the AF_UNIX socket that receives the master end of the console's terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// path of the AF_UNIX socket that receives a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<PathBuf>,
    /// file to write the process id to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// set an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// give the process a terminal
    #[arg(long, short)]
    tty: bool,
    /// user and group, as numbers
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// one more group, as a number
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<String>,
    /// add a capability
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// the process can not gain privileges
    #[arg(long)]
    no_new_privs: bool,
    /// pass N more descriptors to the process (standard streams + $LISTEN_FDS + N in all)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// run the process in an existing cgroup below the container's
    #[arg(long, value_name = "[CTRL:]PATH")]
    cgroup: Vec<String>,
    /// run the process even if the container is paused (it waits for resume)
    #[arg(long)]
    ignore_paused: bool,
}

pub(super) fn run(context: &Context, args: &ExecArgs) -> Result<i32> {
    container::exec::exec(context, &args.options()?)
}

impl ExecArgs {
    fn options(&self) -> Result<ExecOptions> {
        Ok(ExecOptions {
            process: self.process()?,
            id: self.id.clone(),
            detach: self.detach,
            console_socket: self.console_socket.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
            preserve_fds: self.preserve_fds,
            cgroups: self.cgroup.clone(),
            ignore_paused: self.ignore_paused,
        })
    }

    fn process(&self) -> Result<ExecProcess> {
        if let Some(file) = &self.process {
            self.nothing_beside_file()?;
            return Ok(ExecProcess::File(file.clone()));
        }
        ensure!(!self.args.is_empty(), "process args cannot be empty");
        let (uid, gid) = match &self.user {
            Some(user) => parse_user(user)?,
            None => (None, None),
        };
        let additional_gids = self
            .additional_gids
            .iter()
            .map(|gid| number(gid).with_context(|| format!("--additional-gids `{gid}`")));
        Ok(ExecProcess::Flags(ExecFlags {
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            tty: self.tty,
            uid,
            gid,
            additional_gids: additional_gids.collect::<Result<_>>()?,
            caps: self.cap.clone(),
            apparmor: self.apparmor.clone(),
            process_label: self.process_label.clone(),
            no_new_privs: self.no_new_privs.then_some(true),
        }))
    }

    /// The file is the whole truth about the process. `--tty` may stand beside it, as callers of runc write it:
    /// `terminal` in the file decides.
    fn nothing_beside_file(&self) -> Result<()> {
        for (flag, given) in [
            ("--cwd", self.cwd.is_some()),
            ("--env", !self.env.is_empty()),
            ("--user", self.user.is_some()),
            ("--additional-gids", !self.additional_gids.is_empty()),
            ("--cap", !self.cap.is_empty()),
            ("--apparmor", self.apparmor.is_some()),
            ("--process-label", self.process_label.is_some()),
            ("--no-new-privs", self.no_new_privs),
        ] {
            ensure!(
                !given,
                "{flag} can not be combined with --process: the file describes the whole process"
            );
        }
        ensure!(
            self.args.is_empty(),
            "a command can not be combined with --process"
        );
        Ok(())
    }
}

/// U1: digits only, whole string. A name is never looked up, and half a number is never taken.
pub(crate) fn parse_user(text: &str) -> Result<(Option<u32>, Option<u32>)> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let at = || format!("--user `{text}` (format: UID[:GID], as numbers)");
    let gid = gid.map(number).transpose().with_context(at)?;
    Ok((Some(number(uid).with_context(at)?), gid))
}

fn number(text: &str) -> Result<u32> {
    ensure!(
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        "`{text}` is not a number"
    );
    match text.parse::<u32>() {
        // U2: the kernel's "no id".
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bail!("`{text}` is not an id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_whole_numbers() {
        assert_eq!(parse_user("1000").unwrap(), (Some(1000), None));
        assert_eq!(parse_user("0:0").unwrap(), (Some(0), Some(0)));
        assert_eq!(
            parse_user("1:4294967294").unwrap(),
            (Some(1), Some(4_294_967_294))
        );
        for bad in [
            "",
            ":",
            "1:",
            ":1",
            "root",
            "1a",
            "+1",
            "-1",
            " 1",
            "1:2:3",
            "0x1",
            "4294967295",
            "4294967296",
            "1:x",
        ] {
            assert!(parse_user(bad).is_err(), "{bad}");
        }
    }
}
