//! The one way in which the runtime touches /proc (P3, P4, P6). Called by the steps of init that write
//! labels, sysctls, setgroups, oom_score_adj, id maps. The handle is a private procfs that is attached nowhere, so no
//! mount of a hostile root can stand between a name and its file; it must be opened after the last namespace was
//! joined (it shows the pid namespace of its maker) and dropped before the program runs. Closing it costs the kernel
//! a grace period, so open it only when there is something to write, and only once.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Pid;

use crate::sys::mount::{Depth, FsContext, clone_tree};

/// Inode number of the root directory of every procfs.
const PROC_ROOT_INO: libc::ino_t = 1;

/// What the handle shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only the directories of processes: what a leak of the handle would show is harmless.
    Processes,
    /// Also `sys/` and the other global files: open it for them, then drop it.
    Everything,
}

#[derive(Debug)]
pub(crate) struct ProcHandle {
    root: OwnedFd,
}

impl ProcHandle {
    /// A fresh procfs; where the kernel refuses one (a masked /proc outside of a user namespace, P6) a detached copy
    /// of /proc without, then with the mounts below it, at last /proc as it is. Whatever it is: lookups never cross a
    /// mount and never follow a link, so a file with something mounted on it is an error, not another file.
    pub(crate) fn open(scope: Scope) -> Result<Self> {
        let root = match fresh(scope) {
            Ok(root) => root,
            Err(_) => host_proc().context("open `/proc`")?,
        };
        if !is_proc_root(root.as_fd()).context("look at `/proc`")? {
            bail!("`/proc` is not the root of a proc file system");
        }
        Ok(Self { root })
    }

    /// Opens `path`, relative to the handle.
    pub(crate) fn open_file(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        lookup(self.root.as_fd(), path.as_os_str(), flags)
            .with_context(|| format!("open `/proc/{}`", path.display()))
    }

    /// Writes `data` to `path` in one write(2), which is what procfs files expect.
    pub(crate) fn write(&self, path: &Path, data: &[u8]) -> Result<()> {
        let file = self.open_file(path, OFlag::O_WRONLY | OFlag::O_NOFOLLOW)?;
        let written = nix::unistd::write(&file, data)
            .with_context(|| format!("write `/proc/{}`", path.display()))?;
        if written != data.len() {
            bail!(
                "write `/proc/{}`: only {written} of {} bytes were taken",
                path.display(),
                data.len()
            );
        }
        Ok(())
    }

    /// Takes the mount whose root `fd` is out of its mount namespace, and what is mounted below it. By the kernel's own link to the
    /// descriptor, as umount(2) takes names only; leaves the working directory in the handle.
    pub(crate) fn unmount(&self, fd: BorrowedFd<'_>) -> Result<()> {
        nix::unistd::fchdir(&self.root).context("enter the private `/proc`")?;
        let link = format!("self/fd/{}", fd.as_raw_fd());
        umount2(link.as_str(), MntFlags::MNT_DETACH).context("unmount")
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Writes a file of the calling process, such as `attr/exec`.
    pub(crate) fn write_self(&self, name: &str, data: &[u8]) -> Result<()> {
        self.write(&self.own_dir()?.join(name), data)
    }

    /// Writes `sys/KEY`; the key is with slashes and its components were checked by the plan (Y1). Only of a handle
    /// of [`Scope::Everything`].
    pub(crate) fn write_sysctl(&self, key: &str, value: &str) -> Result<()> {
        // Checked once more here: `..` would lead to other files of the same procfs.
        let mut components = Path::new(key).components();
        if !components.all(|component| matches!(component, Component::Normal(_))) {
            bail!("sysctl `{key}`: not a name below `/proc/sys`");
        }
        self.write(&Path::new("sys").join(key), value.as_bytes())
    }

    /// Opens a namespace of the calling process, such as `time_for_children`. The last step follows a link of the kernel's
    /// own, in a directory that is known to be procfs.
    pub(crate) fn own_namespace(&self, name: &str) -> Result<OwnedFd> {
        let dir = self.own_dir()?.join("ns");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let opened = self.open_file(&dir, flags)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&opened, name, flags, Mode::empty())
            .with_context(|| format!("open `/proc/{}/{name}`", dir.display()))
    }

    /// The directory of the calling process. Not getpid(2): a procfs of an outer pid namespace numbers us differently,
    /// and the kernel writes the text of this link for whoever reads it.
    pub(crate) fn own_dir(&self) -> Result<PathBuf> {
        let link = lookup(
            self.root.as_fd(),
            OsStr::new("self"),
            OFlag::O_PATH | OFlag::O_NOFOLLOW,
        )
        .and_then(|link| readlinkat(&link, ""))
        .context("read link `/proc/self`")?;
        let digits = link.as_encoded_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            bail!("`/proc/self` points to `{}`", link.display());
        }
        Ok(PathBuf::from(link))
    }
}

/// Writes a file of another process, on the host's /proc, where a container has nothing to say: the parent's way.
pub(crate) fn write_of_process(pid: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("write `{path}`"))
}

/// Whether `fd` is the root directory of a procfs.
pub(crate) fn is_proc_root(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(is_proc(fd)? && fstat(fd)?.st_ino == PROC_ROOT_INO)
}

/// Whether `fd` lies on a procfs.
pub(crate) fn is_proc(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC)
}

fn lookup(root: BorrowedFd<'_>, path: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_SYMLINKS,
    );
    openat2(root, path, how)
}

fn fresh(scope: Scope) -> nix::Result<OwnedFd> {
    let proc = FsContext::open("proc")?;
    proc.set_string("hidepid", OsStr::new("ptraceable"))?;
    if scope == Scope::Processes {
        proc.set_string("subset", OsStr::new("pid"))?;
    }
    proc.create()?;
    proc.mount(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)
}

fn host_proc() -> nix::Result<OwnedFd> {
    let proc = Path::new("/proc");
    clone_tree(AT_FDCWD, proc, Depth::Top)
        .or_else(|_| clone_tree(AT_FDCWD, proc, Depth::Recursive))
        .or_else(|_: Errno| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            nix::fcntl::open(proc, flags, Mode::empty())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{in_child, is_root};
    use nix::sched::CloneFlags;

    fn plain() -> ProcHandle {
        let root = nix::fcntl::open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        ProcHandle {
            root: root.unwrap(),
        }
    }

    #[test]
    fn own_directory_is_ours() {
        let expected = std::process::id().to_string();
        assert_eq!(plain().own_dir().unwrap(), Path::new(&expected));
        // Without privileges this is the last fallback, with them a fresh procfs: the same answer.
        let handle = ProcHandle::open(Scope::Processes).unwrap();
        assert_eq!(handle.own_dir().unwrap(), Path::new(&expected));
    }

    #[test]
    fn links_and_ways_out_are_refused() {
        let proc = plain();
        for path in ["self/status", "mounts", "../etc/passwd", "/etc/passwd"] {
            let error = proc
                .open_file(Path::new(path), OFlag::O_RDONLY)
                .unwrap_err();
            let errno = error.downcast_ref::<Errno>().copied();
            assert!(
                matches!(errno, Some(Errno::ELOOP | Errno::EXDEV)),
                "{path}: {error:#}"
            );
        }
    }

    #[test]
    fn writes_once_and_reports_the_file() {
        let proc = plain();
        proc.write_self("comm", b"rootfs-test").unwrap();
        let error = proc.write_self("no-such-file", b"x").unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.starts_with("open `/proc/") && text.ends_with("(os error 2)")
                || text.contains("ENOENT"),
            "{text}"
        );
    }

    #[test]
    fn a_private_handle_writes_labels_and_sysctls() {
        if !is_root("a_private_handle_writes_labels_and_sysctls") {
            return;
        }
        in_child(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID, || {
            nix::sys::prctl::set_dumpable(false)?;
            let proc = ProcHandle::open(Scope::Processes)?;
            assert_eq!(proc.own_dir()?, Path::new("1"));
            proc.write_self("oom_score_adj", b"500")?;
            assert!(
                proc.write_sysctl("net/ipv4/ip_forward", "1").is_err(),
                "subset=pid"
            );
            let all = ProcHandle::open(Scope::Everything)?;
            all.write_sysctl("net/ipv4/ip_forward", "1")?;
            assert!(all.write_sysctl("../1/comm", "x").is_err());
            let file = all.open_file(Path::new("sys/net/ipv4/ip_forward"), OFlag::O_RDONLY)?;
            let mut byte = [0];
            nix::unistd::read(&file, &mut byte)?;
            assert_eq!(byte, *b"1");
            Ok(String::new())
        })
        .unwrap();
    }

    /// P6: with something mounted in the host's /proc a user namespace gets no procfs of its own.
    #[test]
    fn a_covered_proc_is_still_of_use() {
        if !is_root("a_covered_proc_is_still_of_use") {
            return;
        }
        let user = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        let got = in_child(CloneFlags::CLONE_NEWNS, || {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let target = nix::fcntl::open("/proc/sys", flags, Mode::empty())?;
            let cover = clone_tree(AT_FDCWD, Path::new("/sys/kernel"), Depth::Top)?;
            crate::sys::mount::attach(cover.as_fd(), target.as_fd())?;
            in_child(user, || {
                assert_eq!(fresh(Scope::Everything).err(), Some(Errno::EPERM));
                let proc = ProcHandle::open(Scope::Processes)?;
                // E2: else the file belongs to the root of the host.
                nix::sys::prctl::set_dumpable(true)?;
                proc.write_self("oom_score_adj", b"500")?;
                let proc = ProcHandle::open(Scope::Everything)?;
                let error = proc.write_sysctl("kernel/domainname", "x").unwrap_err();
                assert_eq!(
                    error.downcast_ref::<Errno>(),
                    Some(&Errno::EXDEV),
                    "{error:#}"
                );
                Ok(String::new())
            })
            .map_err(anyhow::Error::msg)
        });
        assert_eq!(got.as_deref(), Ok(""));
    }
}
