//! Steps that turn root into the process's user: owner of stdio, working directory, groups, ids, capabilities,
//! no_new_privs. The order inside `take_identity` is C1 of the security requirements.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result, bail, ensure};
use caps::CapSet;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::prctl;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev, umask};
use nix::unistd::{Gid, Uid, chdir, fchown};

use super::{Child, Groups};
use crate::plan::process::{Process, capability_set, names};
use crate::sys;
use crate::sys::identity::{setgroups, setresgid, setresuid};

/// Puts the container's own null device in the place of the host's on stdio: a descriptor of another mount could not be
/// reopened by its name, and stays open for writing where the caller gave it for reading only. Only what is the null device
/// is replaced, and only by what is (T3). Everything else: see [`own_stdio`].
pub(super) fn reopen_null(child: &mut Child<'_>) -> Result<()> {
    let mut null = None;
    for_stdio(|number, given, stat| {
        if !is_null(stat) {
            return own(child, given, stat);
        }
        if null.is_none() {
            let how = OpenHow::new()
                .flags(OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
                .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
            // A container without one keeps what it was given.
            let found = openat2(AT_FDCWD, "/dev/null", how).ok();
            null = Some(found.filter(|own| fstat(own).is_ok_and(|stat| is_null(&stat))));
        }
        match &null {
            Some(Some(own)) => sys::fd::replace_stdio(own.as_fd(), number)
                .context("put the container's null device on stdio"),
            _ => Ok(()),
        }
    })
}

/// Gives terminals, pipes and sockets on stdio to the user, who could otherwise not reopen `/dev/stdout`. Never a regular file
/// and never a device that others share, such as /dev/null (T3).
pub(super) fn own_stdio(child: &mut Child<'_>) -> Result<()> {
    for_stdio(|_, given, stat| own(child, given, stat))
}

/// What is on 0, 1 and 2.
fn for_stdio(mut with: impl FnMut(i32, BorrowedFd<'_>, &FileStat) -> Result<()>) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (number, given) in (0..).zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        if let Ok(stat) = fstat(given) {
            with(number, given, &stat)?;
        }
    }
    Ok(())
}

fn is_null(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
        && stat.st_rdev == makedev(1, 3)
}

fn own(child: &Child<'_>, fd: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
    let user = &child.process.user;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if stat.st_uid == user.uid && stat.st_gid == user.gid {
        return Ok(());
    }
    let ours = matches!(kind, SFlag::S_IFIFO | SFlag::S_IFSOCK)
        || (kind == SFlag::S_IFCHR && is_terminal(fd));
    if !ours {
        return Ok(());
    }
    // A terminal keeps its group, which is the tty group by convention.
    let gid = (kind != SFlag::S_IFCHR).then(|| Gid::from_raw(user.gid));
    match fchown(fd, Some(Uid::from_raw(user.uid)), gid) {
        // An owner outside of the user namespace or a read-only file system: the program then works with what it inherited.
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => Ok(()),
        Err(errno) => Err(errno).context("change the owner of stdio"),
    }
}

fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    std::io::IsTerminal::is_terminal(&fd)
}

/// First try at the working directory, as root, so that one which only root may enter works as it does with runc. A missing
/// one is made for a container's init, mode 0755 (W3); exec finds what there is.
///
/// Checked at once, because a filter loaded before the identity is taken may refuse getcwd(2).
pub(super) fn enter_cwd(child: &mut Child<'_>) -> Result<()> {
    let cwd = child.process.cwd.as_str();
    match chdir(cwd) {
        Err(Errno::ENOENT) if child.container.is_some() => {
            umask(Mode::from_bits_truncate(0o022));
            let made =
                std::fs::create_dir_all(cwd).with_context(|| format!("process.cwd: make `{cwd}`"));
            umask(Mode::empty());
            made?;
            chdir(cwd).with_context(|| format!("process.cwd: chdir to `{cwd}`"))?;
        }
        // For instance a directory of the user's on a file system where root has no rights: tried again as the user.
        Err(Errno::EACCES | Errno::EPERM) => {
            child.cwd_pending = true;
            return Ok(());
        }
        other => other.with_context(|| format!("process.cwd: chdir to `{cwd}`"))?,
    }
    ensure_inside(cwd)
}

/// Second try, where the first was left to the user.
pub(super) fn enter_cwd_as_user(child: &mut Child<'_>) -> Result<()> {
    if !child.cwd_pending {
        return Ok(());
    }
    let cwd = child.process.cwd.as_str();
    chdir(cwd).with_context(|| format!("process.cwd: chdir to `{cwd}`"))?;
    ensure_inside(cwd)
}

/// The directory must be inside the container: a descriptor of a host directory as cwd shows as "(unreachable)" (W1,
/// CVE-2024-21626).
fn ensure_inside(cwd: &str) -> Result<()> {
    match sys::process::raw_cwd() {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Ok(path) => bail!(
            "process.cwd: `{cwd}` is outside of the container's root ({}): refused",
            String::from_utf8_lossy(&path)
        ),
        Err(errno) => Err(errno)
            .with_context(|| format!("process.cwd: `{cwd}` is outside of the container's root")),
    }
}

/// What the program may never have. It takes nothing from this process itself, which may have reason to wait and do it early.
pub(super) fn drop_unwanted(held: u64, process: &Process) -> Result<()> {
    drop_bounding(held & !process.capabilities.bounding)
}

pub(super) fn take_identity(child: &mut Child<'_>) -> Result<()> {
    let process = child.process;
    let user = &process.user;
    if let Some(held) = child.bounding.take() {
        // One that was entered has given all of them (user_namespaces(7)).
        let held = if child.in_user_namespace {
            u64::MAX
        } else {
            held
        };
        drop_unwanted(held, process)?;
    }
    // Root keeps them by itself.
    let keep = user.uid != 0;
    if keep {
        prctl::set_keepcaps(true).context("keep capabilities over the change of user")?;
    }
    set_groups(child.groups, &user.additional_gids)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid)
        .map_err(|errno| unmapped(errno, "gid", user.gid, child.in_user_namespace))?;
    setresuid(uid, uid, uid)
        .map_err(|errno| unmapped(errno, "uid", user.uid, child.in_user_namespace))?;
    if keep {
        prctl::set_keepcaps(false).context("stop keeping capabilities")?;
    }
    set_capabilities(process)?;
    umask(Mode::from_bits_truncate(user.umask));
    Ok(())
}

/// With an empty list as well: the runtime's own groups must go (U3), unless the user namespace keeps them.
fn set_groups(state: Groups, gids: &[u32]) -> Result<()> {
    if state == Groups::Denied {
        ensure!(
            gids.is_empty(),
            "process.user.additionalGids: cannot set any additional groups in a rootless container: \
             setgroups(2) is denied in its user namespace"
        );
        return Ok(());
    }
    let groups: Vec<Gid> = gids.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).with_context(|| format!("process.user.additionalGids: set groups {gids:?}"))
}

/// EINVAL of setuid(2) means "not mapped", which nobody could guess.
fn unmapped(errno: Errno, field: &str, id: u32, in_user_namespace: bool) -> anyhow::Error {
    let error =
        anyhow::Error::from(errno).context(format!("process.user.{field}: become {field} {id}"));
    if errno == Errno::EINVAL && in_user_namespace {
        return error.context(format!(
            "process.user.{field}: {id} is not mapped into the container's user namespace"
        ));
    }
    error
}

/// Also what a kernel newer than this program has: until it says that there is no more.
fn drop_bounding(unwanted: u64) -> Result<()> {
    for number in (0..u64::BITS).filter(|number| unwanted & (1 << number) != 0) {
        match sys::identity::drop_bounding(number) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            // It is gone already, and without CAP_SETPCAP that is not said.
            Err(_) if sys::identity::is_bounding(number) == Ok(false) => {}
            Err(errno) => {
                let name = names(1 << number);
                return Err(errno)
                    .with_context(|| format!("process.capabilities.bounding: drop {name}"));
            }
        }
    }
    Ok(())
}

/// Effective must always lie within permitted.
fn set_capabilities(process: &Process) -> Result<()> {
    let wanted = process.capabilities;
    let effective = wanted.effective & wanted.permitted;
    sys::identity::capset(effective, wanted.permitted, wanted.inheritable).with_context(|| {
        format!(
            "process.capabilities: set permitted {:#x}, inheritable {:#x}",
            wanted.permitted, wanted.inheritable
        )
    })?;
    // Cleared even when none is named (C3), then raised one by one. Without inheritable ones the kernel has just cleared them.
    if wanted.inheritable != 0 {
        caps::clear(None, CapSet::Ambient).context("process.capabilities.ambient: clear")?;
    }
    let ambient = wanted.ambient & wanted.permitted & wanted.inheritable;
    if ambient == 0 {
        return Ok(());
    }
    for capability in capability_set(ambient) {
        caps::raise(None, CapSet::Ambient, capability)
            .with_context(|| format!("process.capabilities.ambient: raise {capability}"))?;
    }
    Ok(())
}

/// Before the filter that rests on it, and before the program (N1).
pub(super) fn no_new_privileges(child: &mut Child<'_>) -> Result<()> {
    if child.process.no_new_privileges {
        prctl::set_no_new_privs().context("process.noNewPrivileges: set")?;
    }
    Ok(())
}
