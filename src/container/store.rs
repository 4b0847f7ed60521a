//! The state root: which ids exist, and one directory each. Every verb enters here; nothing else knows its layout.
//!
//! `ROOT/ID/state.json` the record, `ROOT/ID/cgroup.json` the cgroup alone, `ROOT/ID/exec.fifo` the gate of a created container,
//! `ROOT/ID/seccomp` the compiled filter, `ROOT/ID/notify/` the sd_notify socket.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, lstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::options::Context;
use super::record::{Brief, Record};
use crate::cgroup;
use crate::cgroup::procs::seconds;
use crate::error::{self, NotExist};
use crate::fs::atomic;
use crate::fs::culprit::lock_holder;
use crate::sys::fd::duplicate;

/// Name of the fifo that a created container's init waits on.
pub(crate) const GATE: &str = "exec.fifo";
/// Name of the compiled seccomp filter.
pub(crate) const FILTER: &str = "seccomp";

/// Longer than a delete may take with an init that does not die and a cgroup that stays busy.
pub(super) const LOCK_DEADLINE: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Name of the record of the cgroup alone.
const CGROUP: &str = "cgroup.json";

const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);

/// The rule of S1, which is runc's.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    ensure!(!id.is_empty(), "container id cannot be empty");
    ensure!(
        id.len() <= 255 && id != "." && id != ".." && id.bytes().all(allowed),
        "invalid container id format: {id:?} (1 to 255 letters, digits, `_`, `+`, `-`, `.`; not `.` or `..`)"
    );
    Ok(())
}

/// What a user who may not use the default root has to do.
fn user_hint() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        ""
    } else {
        " (hint: without --root a user needs $XDG_RUNTIME_DIR)"
    }
}

/// The state root of `--root`.
pub(crate) struct Store {
    path: PathBuf,
    mode: u32,
}

/// One container's directory.
pub(crate) struct Slot {
    pub(crate) id: String,
    pub(crate) dir: OwnedFd,
    path: PathBuf,
    held: RefCell<Held>,
}

/// Held by who reads the record to write it again, and by who removes the container, until the last of them is dropped.
pub(crate) type Lock = Rc<Flock<OwnedFd>>;

/// The lock of a slot while somebody has it.
#[derive(Default)]
struct Held {
    lock: Weak<Flock<OwnedFd>>,
    /// The directory has been seen at its name under it.
    current: bool,
}

impl Store {
    pub(crate) fn new(context: &Context) -> Store {
        // Sticky below $XDG_RUNTIME_DIR: the host's cleaner spares it then (XDG base directory specification).
        let mode = if context.root_is_private_default {
            0o1700
        } else {
            0o700
        };
        Store {
            path: context.root.clone(),
            mode,
        }
    }

    /// Takes `id`: of several at once exactly one succeeds, and the others have touched nothing.
    pub(crate) fn reserve(&self, id: &str) -> Result<Slot> {
        check_id(id)?;
        let path = self.path.join(id);
        let private = Mode::S_IRWXU;
        loop {
            match openat(
                AT_FDCWD,
                &self.path,
                DIRECTORY.difference(OFlag::O_NOFOLLOW),
                Mode::empty(),
            ) {
                Ok(root) => {
                    match mkdirat(&root, id, private) {
                        Err(Errno::EEXIST) => bail!("container with id `{id}` already exists"),
                        other => other.with_context(|| format!("make `{}`", path.display()))?,
                    }
                    let dir = openat(&root, id, DIRECTORY, Mode::empty())
                        .with_context(|| format!("open `{}`", path.display()))?;
                    return Ok(Slot {
                        id: id.to_owned(),
                        dir,
                        path,
                        held: RefCell::default(),
                    });
                }
                Err(Errno::ENOENT) => self.make_root()?,
                Err(errno) => {
                    return Err(errno).with_context(|| {
                        format!("--root: open `{}`{}", self.path.display(), user_hint())
                    });
                }
            }
        }
    }

    /// Made with mode 0700 whatever the umask (S3).
    fn make_root(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let parent = self.path.parent().unwrap_or(&self.path);
        std::fs::create_dir_all(parent)
            .with_context(|| format!("--root: make `{}`{}", parent.display(), user_hint()))?;
        match std::fs::DirBuilder::new()
            .mode(self.mode)
            .create(&self.path)
        {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other
                .with_context(|| format!("--root: make `{}`{}", self.path.display(), user_hint())),
        }
    }

    /// The directory of an existing container; [`NotExist`] where there is none.
    pub(crate) fn slot(&self, id: &str) -> Result<Slot> {
        check_id(id)?;
        let path = self.path.join(id);
        match openat(AT_FDCWD, &path, DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(Slot {
                id: id.to_owned(),
                dir,
                path,
                held: RefCell::default(),
            }),
            Err(Errno::ENOENT) => Err(NotExist(id.to_owned()).into()),
            Err(errno) => Err(errno).with_context(|| format!("open `{}`", path.display())),
        }
    }

    /// Ids of everything in the state root, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("--root: read `{}`", self.path.display()))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("--root: read `{}`", self.path.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && check_id(&name).is_ok() {
                ids.push(name);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

impl Slot {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn try_clone(&self) -> Result<Slot> {
        let dir =
            duplicate(self.dir.as_fd()).context("duplicate the state directory's descriptor")?;
        Ok(Slot {
            id: self.id.clone(),
            dir,
            path: self.path.clone(),
            held: RefCell::default(),
        })
    }

    /// Taken twice by the same `Slot` it is still one lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        self.lock_within(LOCK_DEADLINE)
    }

    /// The same with another time for the wait.
    pub(super) fn lock_within(&self, limit: Duration) -> Result<Lock> {
        if let Some(lock) = self.held.borrow().lock.upgrade() {
            return Ok(lock);
        }
        let lock = Rc::new(self.take_lock(limit)?);
        *self.held.borrow_mut() = Held {
            lock: Rc::downgrade(&lock),
            current: false,
        };
        Ok(lock)
    }

    fn take_lock(&self, limit: Duration) -> Result<Flock<OwnedFd>> {
        let mut dir =
            duplicate(self.dir.as_fd()).context("duplicate the state directory's descriptor")?;
        let end = Instant::now() + limit;
        loop {
            dir = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((dir, Errno::EAGAIN)) if Instant::now() < end => dir,
                Err((_, errno)) => {
                    let hint = match errno {
                        Errno::EAGAIN => self.locked_by(limit),
                        _ => String::new(),
                    };
                    return Err(errno)
                        .with_context(|| format!("lock `{}`{hint}", self.path.display()));
                }
            };
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    fn locked_by(&self, limit: Duration) -> String {
        let holder = fstat(&self.dir).ok().as_ref().and_then(lock_holder);
        format!(
            " (hint: another runtime has been changing the container for {} s: {})",
            seconds(limit),
            holder.as_deref().unwrap_or("not to be seen from here")
        )
    }

    /// Whether the directory still stands at its name. Under the lock this stays so; without it the container may be gone,
    /// and even another one may have its id.
    pub(crate) fn is_current(&self) -> Result<bool> {
        let mut held = self.held.borrow_mut();
        let locked = held.lock.strong_count() > 0;
        if locked && held.current {
            return Ok(true);
        }
        let look = || {
            let own = fstat(&self.dir)?;
            match lstat(&self.path) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
                named => {
                    named.map(|named| (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino))
                }
            }
        };
        let current = look().with_context(|| format!("look at `{}`", self.path.display()))?;
        held.current = locked && current;
        Ok(current)
    }

    pub(crate) fn read(&self) -> Result<Record> {
        let read = || {
            let mut record = Record::read(self.dir.as_fd(), &self.id)?;
            if record.init.is_none() {
                record.cgroup = self.read_cgroup()?.unwrap_or(record.cgroup);
            }
            Ok(record)
        };
        read().map_err(|error| self.unread(error))
    }

    /// Only what `state` and `list` show.
    pub(crate) fn read_brief(&self) -> Result<Brief> {
        Brief::read(self.dir.as_fd(), &self.id).map_err(|error| self.unread(error))
    }

    fn unread(&self, error: anyhow::Error) -> anyhow::Error {
        // Not yet made, or being deleted by another runtime: the record comes first and goes first.
        if error.chain().find_map(error::errno_of) == Some(Errno::ENOENT) {
            return NotExist(self.id.clone()).into();
        }
        error.context(format!("state of container `{}`", self.id))
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        record
            .write(self.dir.as_fd())
            .with_context(|| format!("state of container `{}`", self.id))
    }

    /// Beside the record, from the moment that the cgroup exists: what delete needs when the record is not yet complete or can
    /// not be read any more (Z2, Z4).
    pub(crate) fn write_cgroup(&self, cgroup: &cgroup::record::Record) -> Result<()> {
        let bytes = serde_json::to_vec(cgroup).context("write `cgroup.json`")?;
        atomic::replace(
            self.dir.as_fd(),
            OsStr::new(CGROUP),
            Mode::S_IRUSR | Mode::S_IWUSR,
            &bytes,
        )
    }

    /// None before the cgroup was made.
    pub(crate) fn read_cgroup(&self) -> Result<Option<cgroup::record::Record>> {
        match std::fs::read(self.path.join(CGROUP)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("parse `{CGROUP}`"))
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read `{CGROUP}`")),
        }
    }

    /// Removes the directory and all in it; links in it are not followed (S2). Last of every removal, so that what failed
    /// before can be repeated. One that is gone already is no error, and what others made under its name stays.
    pub(crate) fn remove(&self) -> Result<()> {
        let _lock = self.lock()?;
        if !self.is_current()? {
            return Ok(());
        }
        // These are all that most have; the record goes first.
        for name in [super::record::FILE, CGROUP] {
            match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT | Errno::EISDIR) => {}
                other => other.with_context(|| format!("remove `{name}`"))?,
            }
        }
        if unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("remove `{}`", self.path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        for id in ["a", "A-b_c+d.e", "..a", &"x".repeat(255)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn an_id_is_taken_once_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store {
            path: root.path().join("deep/root"),
            mode: 0o700,
        };
        let slot = store.reserve("one").unwrap();
        assert!(
            store
                .reserve("one")
                .err()
                .unwrap()
                .to_string()
                .contains("already exists")
        );
        assert_eq!(store.ids().unwrap(), ["one"]);
        slot.remove().unwrap();
        slot.remove().unwrap();
        let again = store.reserve("one").unwrap();
        slot.remove().unwrap();
        assert_eq!(store.ids().unwrap(), ["one"]);
        again.remove().unwrap();
        assert!(store.slot("one").err().unwrap().is::<NotExist>());
    }
}
