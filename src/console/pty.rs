//! Makes the container's terminal, inside of the container. Never by a name that the container could have redirected
//! (CVE-2025-52565, T1): the only names looked up are /dev/pts, /dev and `console`, none through a symbolic link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setsid};

use super::send_master;
use crate::sys::ioctl::{self, WindowSize};
use crate::sys::mount::{self, Depth};

/// Where the terminal shows up, other than as stdio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Mounted on /dev/console too: a container's init. Needs a mount namespace of the container's own (M5).
    DevConsole,
    /// Only as stdio: exec, and containers in the host's mount namespace.
    Plain,
}

/// The console step: makes a pty on the container's devpts, gives it `size` (rows, columns) and the owner `uid`, sends its
/// master over `socket`, and makes it stdio of this process; [`take_over`] comes later.
///
/// The root must already be the container's; the process still has the rights of the container's root.
pub(crate) fn set_up(
    target: Target,
    size: Option<(u16, u16)>,
    uid: u32,
    socket: &OwnedFd,
) -> Result<()> {
    let (master, slave) = open_pty(Path::new("/dev/pts"))?;
    if let Some((rows, columns)) = size {
        let size = WindowSize { rows, columns };
        ioctl::set_window_size(master.as_fd(), size)
            .context("process.consoleSize: resize the terminal")?;
    }
    if target == Target::DevConsole {
        mount_on_console(slave.as_fd(), Path::new("/dev"))
            .context("process.terminal: mount it on `/dev/console`")?;
    }
    let owner = Some(Uid::from_raw(uid));
    fchown(&slave, owner, None)
        .with_context(|| format!("process.user.uid: give the terminal to {uid}"))?;
    // First sent, then taken over: the last master's closing hangs up on the processes that have it as controlling terminal.
    send_master(socket.as_fd(), &master)?;
    for dup in [dup2_stdin, dup2_stdout, dup2_stderr] {
        dup(&slave).context("process.terminal: make it stdio")?;
    }
    Ok(())
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

fn kind_of(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

/// A pty of the devpts mounted on `pts`: master and slave.
fn open_pty(pts: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let shown = pts.display();
    let dir = open_directory(pts).with_context(|| format!("process.terminal: open `{shown}`"))?;
    let kind = fstatfs(&dir)
        .with_context(|| format!("process.terminal: look at `{shown}`"))?
        .filesystem_type();
    if kind != DEVPTS_SUPER_MAGIC {
        bail!("process.terminal: `{shown}` is not a devpts: a terminal needs a devpts mount there");
    }
    // Not crossing a mount, so this is the devpts's own ptmx and opening it does nothing but make a pty.
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    let master = openat2(&dir, "ptmx", how)
        .with_context(|| format!("process.terminal: open `{shown}/ptmx`"))?;
    let stat =
        fstat(&master).with_context(|| format!("process.terminal: look at `{shown}/ptmx`"))?;
    let is_ptmx = kind_of(stat.st_mode) == SFlag::S_IFCHR && stat.st_rdev == makedev(5, 2);
    ensure!(
        is_ptmx,
        "process.terminal: `{shown}/ptmx` is not the device 5:2"
    );
    ioctl::unlock_pty(master.as_fd()).context("process.terminal: unlock the terminal")?;
    let slave = ioctl::pty_peer(master.as_fd()).context("process.terminal: open the terminal")?;
    Ok((master, slave))
}

/// Binds the slave, by descriptor, on `console` in the directory `dev`.
fn mount_on_console(slave: BorrowedFd<'_>, dev: &Path) -> Result<()> {
    let dir = open_directory(dev).with_context(|| format!("open `{}`", dev.display()))?;
    let create = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = match openat(&dir, "console", create, Mode::from_bits_truncate(0o600)) {
        Err(Errno::EEXIST) => {
            // O_PATH: what is there may be a device or a fifo and is not opened.
            let found = openat(
                &dir,
                "console",
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
            .context("open it")?;
            let kind = kind_of(fstat(&found).context("look at it")?.st_mode);
            ensure!(
                kind == SFlag::S_IFREG || kind == SFlag::S_IFCHR,
                "it is neither a file nor a device"
            );
            found
        }
        other => other.context("create it")?,
    };
    let tree = mount::clone_tree(slave, Path::new(""), Depth::Top)
        .context("clone the terminal's mount")?;
    mount::attach(tree.as_fd(), place.as_fd()).context("attach the terminal's mount")
}

/// Makes the terminal, which is stdio by now, the controlling one of this process's session. By the process that becomes the
/// program: the end of another leader of the session would hang up on it.
pub(crate) fn take_over() -> Result<()> {
    match setsid() {
        // EPERM: already the leader of a session, or at least of a group, which the next call tells apart.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno).context("process.terminal: make a session"),
    }
    ioctl::set_controlling_terminal(std::io::stdin().as_fd())
        .context("process.terminal: make it the controlling terminal")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::testing;

    #[test]
    fn only_a_devpts_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_pty(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not a devpts"), "{error}");
        std::os::unix::fs::symlink("/dev/pts", dir.path().join("pts")).unwrap();
        let error = format!("{:#}", open_pty(&dir.path().join("pts")).unwrap_err());
        assert!(error.contains("ELOOP"), "{error}");
    }

    #[test]
    fn the_pair_is_connected() {
        let (master, slave) = open_pty(Path::new("/dev/pts")).unwrap();
        std::fs::File::from(slave).write_all(b"hello\n").unwrap();
        let mut buffer = [0; 16];
        let len = std::fs::File::from(master).read(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"hello\r\n");
    }

    #[test]
    fn the_step_as_a_whole() {
        if nix::unistd::geteuid().is_root() {
            testing::in_own_process("console::pty::tests::the_step_as_a_whole_alone");
        } else {
            eprintln!("skipped: a mount namespace and chown need root");
        }
    }

    #[test]
    #[ignore = "run by the_step_as_a_whole in a process of its own"]
    fn the_step_as_a_whole_alone() {
        testing::single_threaded(the_step_as_a_whole_body);
    }

    fn the_step_as_a_whole_body() {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        use nix::sys::stat::stat;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        std::fs::create_dir("/dev/pts").unwrap();
        let options = Some("newinstance,ptmxmode=0666");
        mount(
            Some("devpts"),
            "/dev/pts",
            Some("devpts"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
        let (here, there) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();

        std::os::unix::fs::symlink("/dev/null", "/dev/console").unwrap();
        let error = format!(
            "{:#}",
            set_up(Target::DevConsole, None, 1234, &there).unwrap_err()
        );
        assert!(error.contains("neither a file nor a device"), "{error}");
        std::fs::remove_file("/dev/console").unwrap();

        // The harness reports there afterwards.
        let (out, err) = (
            nix::unistd::dup(std::io::stdout()).unwrap(),
            nix::unistd::dup(std::io::stderr()).unwrap(),
        );
        let outcome = set_up(Target::DevConsole, Some((33, 44)), 1234, &there);
        let outcome = outcome.and_then(|()| take_over());
        let stdio = [0, 1, 2].map(|fd| stat(format!("/proc/self/fd/{fd}").as_str()).unwrap());
        dup2_stdout(&out).unwrap();
        dup2_stderr(&err).unwrap();
        outcome.unwrap();

        let mut name = [0; 32];
        let (len, master) = crate::sys::unix::receive(here.as_fd(), &mut name).unwrap();
        let master = master.unwrap();
        assert_eq!(&name[..len], b"/dev/ptmx");
        let console = stat("/dev/console").unwrap();
        for stat in stdio {
            assert_eq!(
                (stat.st_dev, stat.st_ino, stat.st_uid),
                (console.st_dev, console.st_ino, 1234)
            );
        }
        let size = WindowSize {
            rows: 33,
            columns: 44,
        };
        assert_eq!(ioctl::window_size(std::io::stdin().as_fd()), Ok(size));
        // The session of this process is the terminal's: /dev/tty leads there.
        std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/pts/0")
            .unwrap()
            .write_all(b"name")
            .unwrap();
        let tty_nr = std::fs::read_to_string("/proc/self/stat").unwrap();
        let tty_nr: u64 = tty_nr
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(4)
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(tty_nr, console.st_rdev, "136:0");
        let mut text = [0; 4];
        let mut master = std::fs::File::from(master);
        master.read_exact(&mut text).unwrap();
        // Its closing would hang up on this process.
        std::mem::forget(master);
        assert_eq!(&text, b"name");
    }
}
